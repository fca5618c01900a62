//! Prompt columns, unread columns, and the messages about them.

use serde_json::{Value, json};

use super::*;
use crate::data::columns::Columns;

fn lines(records: &[Value]) -> String {
    records.iter().map(|record| format!("{record}\n")).collect()
}

fn said(records: &[Value]) -> String {
    load_text(&lines(records), Strictness::Skip).unwrap_err().to_string()
}

fn findings(records: &[Value]) -> Vec<&'static str> {
    let (_, report) = load_text(&lines(records), Strictness::Skip).unwrap();
    report.findings.iter().map(|finding| finding.code).collect()
}

fn prompt(record: Value) -> Value {
    let (pairs, _) = load_text(&record.to_string(), Strictness::Refuse).unwrap();
    json!(pairs[0].prompt)
}

/// Protects: a prompt is read from any of its columns, with the system message and the history.
#[test]
fn prompts_are_read_from_their_columns() {
    let turn = |role: &str, said: &str| json!({"role": role, "content": said});
    let (system, user) = (turn("system", "s"), turn("user", "q"));
    let with = |columns: Value| {
        let mut record = json!({"chosen": "a", "rejected": "b"});
        record.as_object_mut().unwrap().extend(columns.as_object().unwrap().clone());
        prompt(record)
    };
    for name in ["prompt", "question", "input", "query"] {
        assert_eq!(with(json!({name: "q"})), json!("q"), "{name}");
        assert_eq!(with(json!({name: "q", "system": "s"})), json!([system, user]), "{name}");
        assert_eq!(with(json!({name: "q", "system_prompt": "s"})), json!([system, user]), "{name}");
        assert_eq!(with(json!({name: "q", "system": ""})), json!([user]), "{name}");
        assert_eq!(with(json!({name: "q", "system": null})), json!([user]), "{name}");
    }
    for name in ["prompt", "messages", "context", "conversations", "trajectory", "input"] {
        assert_eq!(with(json!({name: [user]})), json!([user]), "{name}");
        assert_eq!(with(json!({name: [system, user], "system": "s"})), json!([system, user]), "{name}");
    }
    let history = [turn("user", "h"), turn("assistant", "g")];
    for before in [json!([["h", "g"]]), json!(history)] {
        let whole = with(json!({"prompt": "q", "history": before, "system": "s"}));
        assert_eq!(whole, json!([system, history[0], history[1], user]));
    }
    assert_eq!(with(json!({"history": "q"})), json!("q"));
    assert_eq!(
        with(json!({"instruction": "i", "input": "n", "system": "s"})),
        json!([system, turn("user", "i\nn")])
    );
}

/// Protects: a system message also precedes conversations, once; two that differ are refused.
#[test]
fn conversations_get_their_system_message() {
    let turn = |role: &str, said: &str| json!({"role": role, "content": said});
    let (system, user) = (turn("system", "s"), turn("user", "q"));
    let (good, bad) = (turn("assistant", "a"), turn("assistant", "b"));
    let explicit = json!({"system": "s", "prompt": [user], "chosen": [good], "rejected": [bad]});
    assert_eq!(prompt(explicit), json!([system, user]));
    let implicit = json!({"system": "s", "chosen": [user, good], "rejected": [user, bad]});
    assert_eq!(prompt(implicit), json!([system]));
    let repeated = json!({"system": "s", "chosen": [system, user, good], "rejected": [system, user, bad]});
    let (pairs, _) = load_text(&repeated.to_string(), Strictness::Refuse).unwrap();
    assert_eq!(messages(&pairs[0].answers[0]), [("user", "q"), ("assistant", "a")]);
    let other = turn("system", "other");
    let two = json!({"system": "s", "chosen": [other, user, good], "rejected": [other, user, bad]});
    assert!(said(&[two]).contains("a system message in its own column and another in the conversation"));
    let apart = json!({"messages": [user], "chosen": [good], "rejected": [bad]});
    assert_eq!(prompt(apart), json!([user]));
}

/// Protects: answers without a prompt are refused if a column may hold it, and the message names the option
/// for it; no message is issued if the column is metadata, is part of the answers, or the user chose the
/// schema.
#[test]
fn prompts_that_are_not_read_are_refused() {
    let row = |name: &str, text: &str, at: usize| {
        let (chosen, rejected, id) = (format!("{at}7"), format!("{at}8"), format!("id-{at}"));
        json!({name: text, "chosen": chosen, "rejected": rejected, "id": id})
    };
    let rows = |name: &str, texts: [&str; 3]| {
        [row(name, texts[0], 1), row(name, texts[1], 2), row(name, texts[2], 3)]
    };
    let texts = ["Name a prime.", "Name an odd number.", "And a larger one?"];
    for name in ["topic", "text_prompt", "user_query", "src", "body"] {
        let error = said(&rows(name, texts));
        assert!(error.contains(&format!("the column {name:?} is not read")), "{error}");
        assert!(error.contains(&format!("--prompt-field {name}")), "{error}");
        let columns = Columns::of(Some(Schema::StandardImplicit));
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(lines(&rows(name, texts)).as_bytes()).unwrap();
        let options = ReadOptions { columns, ..ReadOptions::default() };
        let (pairs, report) = load_preferences(&[file.path().to_path_buf()], options).unwrap();
        assert_eq!(
            (pairs.len(), report.files[0].unread.clone()),
            (3, vec![name.to_owned(), "id".to_owned()])
        );
    }
    assert!(said(&[row("user_input", "prime?", 1)]).contains("--prompt-field user_input"));
    let turns = |text: &str| json!([{"role": "user", "content": text}]);
    let turned = ["p", "q"].map(|text| json!({"dialog": turns(text), "chosen": "97", "rejected": "98"}));
    assert!(said(&turned).contains("--prompt-field dialog"));
    let listed = ["p", "q"].map(|text| json!({"dialogue": [text, "and?"], "chosen": "97", "rejected": "98"}));
    assert!(said(&listed).contains("--prompt-field dialogue"));
    let inside =
        ["p", "q"].map(|text| json!({"user_input": {"text": text}, "chosen": "97", "rejected": "98"}));
    assert!(said(&inside).contains("--prompt-field user_input"));
    let hh = |said: &str| format!("\n\nHuman: q\n\nAssistant: {said}");
    let system = json!({"system": "Be brief.", "chosen": hh("a"), "rejected": hh("b")});
    assert!(said(&[system]).contains("a system message or a history without a prompt"));
    // Labels do not excuse answers without a prompt.
    let labelled =
        json!({"task_description": "Name a prime.", "response_a": "97", "response_b": "98", "label": "A"});
    assert!(said(&[labelled]).contains("--prompt-field task_description"));

    assert_eq!(findings(&rows("source", ["a b", "a c", "a d"])), [""; 0]);
    assert_eq!(findings(&rows("model_name", ["a b", "a c", "a d"])), [""; 0]);
    assert_eq!(findings(&rows("topic", ["a b", "a b", "a b"])), [""; 0], "a text that does not vary");
    let implicit = |at: usize| {
        let answer = |said: &str| format!("What is {at} and {at}? {said}");
        json!({"chosen": answer("a"), "rejected": answer("b"), "why": format!("since {at}")})
    };
    assert_eq!(findings(&[implicit(1), implicit(2)]), [""; 0]);
}

/// Protects: if there is a prompt, an unread column with a prompt-like name and varying values is a finding,
/// and every unread column is named, except those that the caller reads.
#[test]
fn columns_that_are_not_read_are_named() {
    let row = |at: usize| {
        let (question, context) = (format!("q{at}"), format!("passage {at}"));
        json!({"question": question, "context": context, "note": "n", "chosen": "a", "rejected": "b"})
    };
    let (_, report) = load_text(&lines(&[row(1), row(2)]), Strictness::Skip).unwrap();
    let found: Vec<_> = report.findings.iter().map(|finding| (finding.code, finding.count)).collect();
    assert_eq!(found, [("unread_column", Some(2))]);
    assert_eq!(report.files[0].unread, ["context", "note"]);
    let text = report.to_string();
    assert!(
        text.contains("2 kept; not read: context, note\nwarning: the column \"context\" is not read"),
        "{text}"
    );
    // A column that the caller reads itself is not reported.
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(lines(&[row(1), row(2)]).as_bytes()).unwrap();
    let mut columns = Columns::default();
    columns.elsewhere.push("note".to_owned());
    let options = ReadOptions { columns, ..ReadOptions::default() };
    let (_, report) = load_preferences(&[file.path().to_path_buf()], options).unwrap();
    assert_eq!(report.files[0].unread, ["context"]);
    // A column whose text is in the prompt loses nothing.
    let twice = |at: usize| {
        let (prompt, input) = (format!("Q: q{at}"), format!("q{at}"));
        json!({"prompt": prompt, "input": input, "chosen": "a", "rejected": "b"})
    };
    assert_eq!(findings(&[twice(1), twice(2)]), [""; 0]);
}

/// Protects: a name for a column that no schema reads or no record has is refused.
#[test]
fn names_that_do_nothing_are_refused() {
    let record = json!({"question": "q", "chosen": "a", "rejected": "b", "gap": 1, "s": "x"});
    let named = |known: &str, own: &str| {
        let mut columns = Columns::default();
        columns.name(known, own).unwrap();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(record.to_string().as_bytes()).unwrap();
        let options = ReadOptions { columns, ..ReadOptions::default() };
        load_preferences(&[file.path().to_path_buf()], options).map_err(|error| error.to_string())
    };
    assert_eq!(named("margin", "gap").unwrap().0[0].comparisons[0].margin, Some(1.0));
    assert!(named("margin", "gpa").unwrap_err().contains("margin=gpa: no record has a column \"gpa\""));
    let nothing = named("responses", "s").unwrap_err();
    assert!(nothing.contains("responses=s does nothing: records of standard, prompt in"), "{nothing}");
    assert!(named("subset", "s").unwrap_err().contains("subset=s does nothing"));
    // A system message turns the record into a chat, so the name has an effect.
    let (pairs, _) = named("system", "s").unwrap();
    assert_eq!(messages(pairs[0].prompt.as_ref().unwrap()), [("system", "x"), ("user", "q")]);
}

/// Protects: margins in only some pairs, repeated prompts, and messages stored as text are findings; so are
/// scores as text, which are record errors if margins need them.
#[test]
fn faults_of_kept_pairs_are_found() {
    let pair = |prompt: &str, more: &str| {
        json!({
            "prompt": prompt, "chosen": format!("{more}a"), "rejected": format!("{more}b")
        })
    };
    let mut with_margin = pair("q", "");
    with_margin["margin"] = json!(1.5);
    assert_eq!(findings(&[with_margin.clone(), pair("q", "")]), ["margins_missing"]);
    assert_eq!(findings(&[with_margin.clone(), with_margin]), [""; 0]);
    let question = "What is the sum of one and one?";
    assert_eq!(findings(&[pair(question, &format!("{question} ")), pair("q", "")]), ["prompt_repeated"]);
    assert_eq!(findings(&[pair(question, "What is "), pair("q", "qu")]), [""; 0]);
    let one = json!({"instruction": question, "chosen": format!("{question} 2"), "rejected": "3"});
    assert_eq!(findings(&[one]), ["prompt_repeated"]);
    let turns =
        |text: &str| json!([{"role": "user", "content": "q"}, {"role": "assistant", "content": text}]);
    let whole =
        json!({"prompt": [{"role": "user", "content": "q"}], "chosen": turns("a"), "rejected": turns("b")});
    assert_eq!(findings(&[whole]), ["prompt_repeated"]);
    let packed = json!({"chosen": turns("a").to_string(), "rejected": turns("b").to_string()});
    let (pairs, report) = load_text(&packed.to_string(), Strictness::Skip).unwrap();
    assert_eq!(
        (report.findings[0].code, messages(&pairs[0].answers[0])[1]),
        ("packed_messages", ("assistant", "a"))
    );
    let python = json!({"chosen": "[{'role': 'user', 'content': 'q'}]", "rejected": "b"});
    assert!(said(&[python]).contains("a list of messages as Python prints it"));
    let broken =
        json!({"prompt": "q", "chosen": "[{\"role\": \"assistant\", \"content\": \"a", "rejected": "b"});
    assert!(said(&[broken]).contains("\"chosen\" is a list of messages as JSON inside a text, and broken"));
    let json_answers =
        json!({"prompt": "q", "chosen": "[{\"name\": \"f\"}]", "rejected": "{\"content\": 1}"});
    assert_eq!(findings(&[json_answers]), [""; 0]);
    let scored =
        json!({"prompt": "q", "chosen": "a", "rejected": "b", "score_chosen": "8.5", "score_rejected": 3});
    assert_eq!(findings(std::slice::from_ref(&scored)), ["score_as_text"]);
    let margins = |record: &Value| {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(record.to_string().as_bytes()).unwrap();
        let options = ReadOptions { score_margins: true, ..ReadOptions::default() };
        load_preferences(&[file.path().to_path_buf()], options).map_err(|error| error.to_string())
    };
    assert!(
        margins(&scored)
            .unwrap_err()
            .contains("\"score_chosen\" is \"8.5\"; expected a number, for --score-margins")
    );
    assert!(margins(&pair("q", "")).unwrap_err().contains("no pair has scores of both answers"));
}

/// Protects: labels outside the range of their answer columns refuse the file, even if some fit.
#[test]
fn labels_that_do_not_fit_refuse_the_file() {
    let row = |label: Value| json!({"prompt": "q", "output_1": "a", "output_2": "b", "label": label});
    let error = said(&[row(json!(1)), row(json!(0)), row(json!(1))]);
    assert!(
        error.contains(": line 2: \"label\" is 0, which is neither \"output_1\" nor \"output_2\""),
        "{error}"
    );
    assert!(said(&[row(json!("1")), row(json!("0"))]).contains("line 2"));
    let zero = |label: usize| json!({"prompt": "q", "response_0": "a", "response_1": "b", "label": label});
    assert!(said(&[zero(1), zero(2)]).contains("\"label\" is 2, which is neither \"response_0\" nor"));
    let (pairs, report) = load_text(&lines(&[row(json!(2)), row(json!(-1))]), Strictness::Skip).unwrap();
    assert_eq!((pairs.len(), report.counts()[&ProblemKind::Malformed]), (1, 1));
}

/// Protects: the share left out is reported in a sentence with its reasons if it exceeds a few per cent, and
/// not reported for a few records.
#[test]
fn many_left_out_are_a_sentence() {
    let report = |bad: usize| {
        let good = json!({"prompt": "q", "chosen": "a", "rejected": "b"});
        let rows: Vec<Value> =
            (0..100).map(|at| if at < bad { json!({"prompt": at}) } else { good.clone() }).collect();
        load_text(&lines(&rows), Strictness::Skip).unwrap().1
    };
    assert_eq!(report(2).shortfall(), None);
    let said = report(12).shortfall().unwrap();
    assert!(said.starts_with("12.0 % of the records are left out: 12 malformed (first: "), "{said}");
    assert!(said.contains(":1: no \"chosen\" (keys: prompt)"), "{said}");
    let reasons = report(12).left_out();
    assert_eq!((reasons.len(), reasons[0].count, reasons[0].first.line), (1, 12, 1));
}
