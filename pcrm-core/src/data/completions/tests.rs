//! Tests of reading completions.

use serde_json::{Value, json};

use super::*;
use crate::data::conversation::Message;
use crate::data::report::Strictness;
use crate::data::survey::testing::file_of;

fn read(rows: &[Value]) -> Result<(Vec<Completion>, Report)> {
    let file = file_of(rows);
    load_completions(&[file.path().to_path_buf()], Strictness::Refuse)
}

fn text(text: &str) -> Content {
    Content::Text(text.to_owned())
}

fn turns(turns: &[(&str, &str)]) -> Content {
    Content::Messages(turns.iter().map(|(role, said)| Message::new(*role, *said)).collect())
}

fn turn(role: &str, said: &str) -> Value {
    json!({"role": role, "content": said})
}

/// Protects: each documented form of a record gives its prompt and its completion, and no column is unread.
#[test]
fn completions_are_read_in_every_form() {
    let (asked, said) = (turns(&[("user", "q")]), turns(&[("assistant", "a")]));
    let whole = turns(&[("system", "s"), ("user", "q"), ("assistant", "a")]);
    for (row, prompt, completion) in [
        (json!({"text": "a"}), None, text("a")),
        (json!({"prompt": "q", "completion": "a"}), Some(text("q")), text("a")),
        (json!({"question": "q", "answer": "a"}), Some(text("q")), text("a")),
        (json!({"prompt": "q", "response": "a"}), Some(text("q")), text("a")),
        (
            json!({"prompt": [turn("user", "q")], "completion": [turn("assistant", "a")]}),
            Some(asked.clone()),
            said.clone(),
        ),
        (json!({"instruction": "q", "input": "", "output": "a"}), Some(asked.clone()), said.clone()),
        (
            json!({"instruction": "q", "input": "x", "system": "s", "output": "a"}),
            Some(turns(&[("system", "s"), ("user", "q\nx")])),
            said.clone(),
        ),
        (
            json!({"messages": [turn("system", "s"), turn("user", "q"), turn("assistant", "a")]}),
            None,
            whole.clone(),
        ),
        (
            json!({"system": "s", "conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}),
            None,
            whole,
        ),
    ] {
        let (rows, report) = read(std::slice::from_ref(&row)).unwrap();
        assert_eq!((&rows[0].prompt, &rows[0].completion), (&prompt, &completion), "{row}");
        assert!(report.findings.is_empty() && report.files[0].unread.is_empty(), "{report}");
    }
}

/// Protects: a conversation that the assistant has answered is the whole text, as in TRL, and a column named
/// like an answer beside it is reported as unread.
#[test]
fn an_answered_conversation_needs_no_other_answer() {
    let whole = [turn("user", "What is 40+2?"), turn("assistant", "It is 42.")];
    let row = json!({"problem": "What is 40+2?", "answer": "42", "messages": whole});
    let (rows, report) = read(&[row]).unwrap();
    let read_as = turns(&[("user", "What is 40+2?"), ("assistant", "It is 42.")]);
    assert_eq!((&rows[0].prompt, &rows[0].completion), (&None, &read_as));
    assert!(report.files[0].unread.contains(&"answer".to_owned()), "{report}");
    let answered = json!({"prompt": whole, "completion": "42"});
    let said = read(&[answered]).unwrap_err().to_string();
    assert!(said.contains(":1: the prompt ends with the assistant's turn"), "{said}");
}

/// Protects: the chosen answer of a preference is trained on, without its prompt, and the report notes it.
#[test]
fn the_chosen_answer_is_the_completion() {
    for (row, prompt, completion) in [
        (json!({"prompt": "q", "chosen": "a", "rejected": "b"}), text("q"), text("a")),
        (
            json!({"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"}),
            text("\n\nHuman: q\n\nAssistant:"),
            text(" a"),
        ),
        (
            json!({"chosen": [turn("user", "q"), turn("assistant", "a")],
                   "rejected": [turn("user", "q"), turn("assistant", "b")]}),
            turns(&[("user", "q")]),
            turns(&[("assistant", "a")]),
        ),
    ] {
        let (rows, report) = read(std::slice::from_ref(&row)).unwrap();
        assert_eq!((rows[0].prompt.as_ref(), &rows[0].completion), (Some(&prompt), &completion), "{row}");
        assert_eq!((report.findings[0].code, report.findings[0].count), ("chosen_as_completion", Some(1)));
    }
}

/// Protects: the best of ranked answers is trained on, the first of several that are best, with its prompt; the
/// report notes it.
#[test]
fn the_best_ranked_answer_is_the_completion() {
    let (asked, said) = (turns(&[("user", "q")]), |said: &str| turns(&[("assistant", said)]));
    for (row, prompt, completion) in [
        (json!({"prompt": "q", "responses": ["a", "b", "c"], "scores": [1, 3, 2]}), text("q"), text("b")),
        (json!({"prompt": "q", "responses": ["a", "b", "c"], "scores": [1, 3, 3]}), text("q"), text("b")),
        (json!({"prompt": "q", "responses": ["a", "b", "c"], "ranks": [3, 2, 1]}), text("q"), text("c")),
        (json!({"prompt": "q", "responses": ["a", "b"], "scores": [2, 2]}), text("q"), text("a")),
        (
            json!({"prompt": "q", "completions": [{"text": "a", "score": 0.5}, {"text": "b", "score": 0.7}]}),
            text("q"),
            text("b"),
        ),
        (
            json!({"prompt": [turn("user", "q")], "responses": ["a", "b"], "ranks": [2, 1]}),
            asked.clone(),
            said("b"),
        ),
        (json!({"prompt": "q", "chosen": ["a", "b"], "rejected": ["c", "d"]}), asked.clone(), said("a")),
    ] {
        let (rows, report) = read(std::slice::from_ref(&row)).unwrap();
        assert_eq!(rows.len(), 1, "{row}");
        assert_eq!((rows[0].prompt.as_ref(), &rows[0].completion), (Some(&prompt), &completion), "{row}");
        let notes: Vec<_> = report.findings.iter().map(|finding| (finding.code, finding.count)).collect();
        assert!(notes.contains(&("best_as_completion", Some(1))), "{row}: {notes:?}");
        assert_eq!((report.kept, report.rows), (1, 1), "{row}");
    }
    let said = read(&[json!({"prompt": "q", "responses": ["a"], "scores": [1]})]).unwrap_err().to_string();
    assert!(said.contains("fewer than two answers"), "{said}");
}

/// Protects: the best answers of OpenAssistant's trees and messages are trained on, after the path from the root.
#[test]
fn the_best_replies_of_open_assistant_are_completions() {
    fn post(id: &str, parent: &str, text: &str, role: &str, rank: u64) -> Value {
        json!({"message_id": id, "parent_id": parent, "text": text, "role": role, "rank": rank})
    }
    let messages = [
        json!({"message_id": "1", "parent_id": null, "text": "q", "role": "prompter"}),
        post("2", "1", "a", "assistant", 1),
        post("3", "1", "b", "assistant", 0),
        post("4", "3", "and?", "prompter", 0),
        post("5", "4", "x", "assistant", 0),
        post("6", "4", "y", "assistant", 1),
    ];
    let with = |post: &Value, replies: Vec<Value>| {
        let mut post = post.clone();
        post["replies"] = Value::from(replies);
        post
    };
    let leaf = |at: usize| with(&messages[at], Vec::new());
    let asked_on = with(&messages[3], vec![leaf(4), leaf(5)]);
    let root = with(&messages[0], vec![leaf(1), with(&messages[2], vec![asked_on])]);
    let expected = [
        (turns(&[("user", "q")]), turns(&[("assistant", "b")])),
        (turns(&[("user", "q"), ("assistant", "b"), ("user", "and?")]), turns(&[("assistant", "x")])),
    ];
    for file in [messages.to_vec(), vec![json!({"message_tree_id": "1", "prompt": root})]] {
        let (rows, report) = read(&file).unwrap();
        let found: Vec<_> = rows.into_iter().map(|row| (row.prompt.unwrap(), row.completion)).collect();
        assert_eq!(found, expected, "{file:?}");
        assert_eq!((report.findings[0].code, report.findings[0].count), ("best_as_completion", Some(2)));
    }
}

/// Protects: empty completions, columns for templates and unknown layouts are refused with a message, and
/// mixed files are refused.
#[test]
fn unusable_records_are_refused() {
    let refused = |rows: &[Value]| read(rows).unwrap_err().to_string();
    let said = refused(&[json!({"prompt": "q", "completion": " "})]);
    assert!(said.contains("the text to train on is empty"), "{said}");
    let said = refused(&[json!({"messages": [turn("user", "q")], "tools": [{"name": "f"}]})]);
    assert!(said.contains("\"tools\" for the chat template is not supported"), "{said}");
    let said = refused(&[json!({"story": "x"})]);
    assert!(said.contains("no text and no answer (keys: story)"), "{said}");
    let said = refused(&[json!({"text": "a"}), json!({"prompt": "q", "completion": "a"})]);
    assert!(said.contains(":2: mixed schemas"), "{said}");
}

/// Protects: rows that were cut off at a limit are counted in a warning, and records with turns that say not to be
/// trained on in a note; whole answers and trained turns are not.
#[test]
fn cut_answers_and_untrained_turns_are_reported() {
    let of = |finish: &str| json!({"prompt": "q", "completion": "a", "finish": finish});
    let (_, report) = read(&[of("stop"), of("length"), of("length")]).unwrap();
    let [finding] = &report.findings[..] else { panic!("{report}") };
    assert_eq!((finding.code, finding.count), ("cut_off", Some(2)), "{report}");
    assert_eq!(finding.first.as_ref().map(|origin| origin.line), Some(2));
    let chat = |key: &str, value: Value| {
        let mut answer = turn("assistant", "a");
        answer[key] = value;
        json!({"messages": [turn("user", "q"), answer, turn("user", "r"), turn("assistant", "b")]})
    };
    let (_, report) =
        read(&[chat("weight", json!(0)), chat("weight", json!(1)), chat("train", json!(true))]).unwrap();
    let [finding] = &report.findings[..] else { panic!("{report}") };
    assert_eq!((finding.code, finding.count), ("untrained_turns", Some(1)), "{report}");
    let (_, report) = read(&[chat("train", json!(false))]).unwrap();
    assert_eq!(report.findings[0].code, "untrained_turns", "{report}");
}
