//! Reading pairs: every layout, every reason to leave one out, and published files.

mod cases;
mod columns;
mod published;
mod scores;
mod sets;

use std::io::Write;

use super::*;
use crate::error::Error;

fn load_text(text: &str, strictness: Strictness) -> Result<(Vec<AnswerSet>, Report)> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    load_preferences(&[file.path().to_path_buf()], strictness)
}

fn messages(content: &Content) -> Vec<(&str, &str)> {
    let Content::Messages(turns) = content else { panic!("text: {content:?}") };
    turns.iter().map(|turn| (turn.role.as_str(), turn.content.as_str())).collect()
}

/// Records on one line have different numbers. Broken records count too.
#[test]
fn records_on_one_line_have_numbers() {
    let pair = |answer: &str| format!(r#"{{"prompt": "q", "chosen": "{answer}", "rejected": "z"}}"#);
    let text = format!(r#"[{}, {{"prompt": "q"}}, {}, {}]"#, pair("a"), pair("b"), pair("c"));
    let (kept, report) = load_text(&text, Strictness::Skip).unwrap();
    let places: Vec<_> = kept.iter().map(|set| (set.origin.line, set.origin.record)).collect();
    assert_eq!(places, [(1, 1), (1, 3), (1, 4)]);
    let left_out = &report.left_out()[0].first;
    assert_eq!((left_out.line, left_out.record), (1, 2));
}

/// One file with every fault: valid records are kept, the others are counted by reason with their line.
#[test]
fn flaws_are_counted_by_reason() {
    let text = r#"{"prompt": "q", "chosen": "a", "rejected": "b", "margin": 1.5, "metadata": {"x": 1}}
{"prompt": "q", "chosen": "a", "rejec
{"prompt": "q", "chosen": "a"}
{"prompt": "q", "chosen": "a", "rejected": 3}
{"chosen": "a", "rejected": "b"}
{"prompt": "q", "chosen": "a", "rejected": "a"}

{"prompt": "q", "chosen": "a", "rejected": "b", "margin": 0.5, "score_chosen": 1, "score_rejected": 1}
{"prompt": "q", "chosen": "a", "rejected": "b", "score_chosen": 4, "score_rejected": 4.0}
{"prompt": "q", "chosen": " \n", "rejected": "b"}
{"prompt": "q", "chosen": "a", "rejected": "b", "margin": "wide"}
[1]
"#;
    let (kept, report) = load_text(text, Strictness::Skip).unwrap();
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].comparisons[0].margin, Some(1.5));
    assert_eq!(report.schema, Some(Schema::StandardExplicit));
    let counts: Vec<_> = report.counts().into_iter().collect();
    assert_eq!(
        counts,
        vec![
            (ProblemKind::Malformed, 6),
            (ProblemKind::Tie, 2),
            (ProblemKind::Identical, 1),
            (ProblemKind::EmptyAnswer, 1)
        ]
    );
    assert_eq!(report.rows, 11);
    let malformed: Vec<_> =
        report.problems.iter().filter(|problem| problem.kind == ProblemKind::Malformed).collect();
    assert_eq!(malformed.len(), 5, "only the first few are kept in full");
    assert_eq!(malformed[0].origin.line, 2);
    assert!(malformed[0].message.starts_with("broken JSON: EOF while parsing a string"), "{malformed:?}");
    assert!(malformed[3].message.contains("mixed schemas"), "{malformed:?}");
    let said = report.to_string();
    assert!(
        said.contains("11 pairs from")
            && said.contains("(TRL standard, explicit prompt): 1 kept; 6 malformed")
    );
    assert!(said.contains(":2: broken JSON: EOF while parsing a string (column 37))"), "{said}");
    assert!(said.contains("1 identical (/") && said.contains(":6: "), "{said}");
}

/// Strict reading fails with the file and the line of the first fault.
#[test]
fn refusing_names_the_line() {
    let text = "{\"chosen\": \"a\", \"rejected\": \"b\"}\n{\"chosen\": \"a\", \"rejected\": \"a\"}\n";
    match load_text(text, Strictness::Refuse).unwrap_err() {
        Error::Line { line, message, .. } => {
            assert_eq!(line, 2);
            assert!(message.contains("the same"), "{message}");
        }
        other => panic!("{other}"),
    }
}

/// No usable record is an error, never an empty data set.
#[test]
fn nothing_usable_is_an_error() {
    let empty = load_text("\n \n", Strictness::Skip).unwrap_err().to_string();
    assert!(empty.contains("no records"), "{empty}");
    let useless = load_text("{\"a\": 1}\n{\"a\": 2}\n", Strictness::Skip).unwrap_err().to_string();
    assert!(
        useless.contains(":1: no \"chosen\" (keys: a)") && useless.contains("2 malformed of 2"),
        "{useless}"
    );
    assert!(load_preferences(&[], Strictness::Skip).is_err());
    assert!(matches!(
        load_preferences(&[PathBuf::from("/no/such/file")], Strictness::Skip).unwrap_err(),
        Error::Io { .. }
    ));
}

/// Layouts that are not TRL's are read as by their own trainers.
#[test]
fn other_trainers_shapes_become_conversations() {
    let alpaca = r#"{"system": "s", "history": [["h", "g"]], "instruction": "i", "input": "n", "chosen": "a", "rejected": "b"}"#;
    let (pairs, _) = load_text(alpaca, Strictness::Refuse).unwrap();
    let prompt = pairs[0].prompt.as_ref().unwrap();
    assert_eq!(messages(prompt), [("system", "s"), ("user", "h"), ("assistant", "g"), ("user", "i\nn")]);
    assert_eq!(messages(&pairs[0].answers[0]), [("assistant", "a")]);

    let sharegpt = r#"[{"conversations": [{"from": "human", "value": "q"}],
        "chosen": {"from": "gpt", "value": "a"}, "rejected": {"from": "gpt", "value": "b"}}]"#;
    let (pairs, _) = load_text(sharegpt, Strictness::Refuse).unwrap();
    assert_eq!(messages(pairs[0].prompt.as_ref().unwrap()), [("user", "q")]);
    assert_eq!(messages(&pairs[0].answers[1]), [("assistant", "b")]);
}

/// Protects: a text is refused as a second answer to a conversation that the assistant has already answered.
#[test]
fn answered_prompts_are_refused() {
    let turns = r#"[{"role": "user", "content": "q"}, {"role": "assistant", "content": "Blue."}]"#;
    for answers in [
        r#""chosen": "Blue.", "rejected": "Seven.""#,
        r#""response_A": "Blue.", "response_B": "Seven.", "label": "A>B""#,
        r#""responses": ["Blue.", "Seven."], "scores": [2, 1]"#,
    ] {
        let row = format!("{{\"messages\": {turns}, {answers}}}");
        let said = load_text(&row, Strictness::Refuse).unwrap_err().to_string();
        assert!(said.contains(":1: the prompt ends with the assistant's turn; expected a turn"), "{said}");
    }
}

/// A text prompt that conversations contain is not repeated.
#[test]
fn a_repeated_text_prompt_is_dropped() {
    let turns = |answer: &str| {
        format!(r#"[{{"role":"user","content":"q"}},{{"role":"assistant","content":"{answer}"}}]"#)
    };
    let repeated = format!(r#"{{"prompt": "q", "chosen": {}, "rejected": {}}}"#, turns("a"), turns("b"));
    assert_eq!(load_text(&repeated, Strictness::Refuse).unwrap().0[0].prompt, None);
    let apart = r#"{"prompt": "q", "chosen": [{"role":"assistant","content":"a"}], "rejected": [{"role":"assistant","content":"b"}]}"#;
    let (pairs, _) = load_text(apart, Strictness::Refuse).unwrap();
    assert_eq!(messages(pairs[0].prompt.as_ref().unwrap()), [("user", "q")]);
}

/// Tools change the rendered text: such records are reported, not trained on without them.
#[test]
fn tools_are_unsupported_and_said_so() {
    let row = |tools: &str| {
        format!(
            r#"{{"chosen": [{{"role":"user","content":"a"}}], "rejected": [{{"role":"user","content":"b"}}], "tools": {tools}}}"#
        )
    };
    let (kept, report) =
        load_text(&format!("{}\n{}", row("null"), row("[{\"name\": \"f\"}]")), Strictness::Skip).unwrap();
    assert_eq!(kept.len(), 1);
    assert_eq!(report.counts()[&ProblemKind::Unsupported], 1);
}
