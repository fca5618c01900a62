//! Schema detection by columns, and the messages for records that fit none.

use serde_json::{Value, json};

use super::*;

fn said(value: Value) -> String {
    let Value::Object(record) = value else { panic!("not an object") };
    Schema::of_row(&record).map_or_else(|message| message, |schema| schema.to_string())
}

/// Each documented layout is recognised, with or without extra columns.
#[test]
fn shapes_are_recognised() {
    let turns = json!([{"role": "user", "content": "q"}]);
    let answered = json!([{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]);
    let turn = json!({"from": "gpt", "value": "a"});
    let dialogue = "\n\nHuman: q\n\nAssistant: a";
    for (record, expected) in [
        (
            json!({"prompt": "q", "chosen": "a", "rejected": "b", "source_index": 3}),
            "TRL standard, explicit prompt",
        ),
        (json!({"chosen": "a", "rejected": "b"}), "TRL standard, implicit prompt"),
        (json!({"chosen": dialogue, "rejected": dialogue}), "HH dialogues"),
        (json!({"prompt": turns, "chosen": turns, "rejected": turns}), "TRL conversational, explicit prompt"),
        (json!({"chosen": turns, "rejected": turns}), "TRL conversational, implicit prompt"),
        (json!({"prompt": "q", "chosen": turns, "rejected": turns}), "TRL conversational, prompt as text"),
        (
            json!({"conversations": [turn], "chosen": turn, "rejected": turn}),
            "LLaMA-Factory sharegpt preferences",
        ),
        (json!({"instruction": "q", "chosen": "a", "rejected": "b"}), "LLaMA-Factory alpaca preferences"),
        (
            json!({"question": "q", "chosen": "a", "rejected": "b"}),
            "standard, prompt in \"question\", \"input\" or \"query\"",
        ),
        (
            json!({"query": "q", "chosen": "a", "rejected": "b"}),
            "standard, prompt in \"question\", \"input\" or \"query\"",
        ),
        (json!({"prompt": turns, "chosen": "a", "rejected": "b"}), "texts as turns of a chat"),
        (json!({"messages": turns, "chosen": "a", "rejected": "b"}), "texts as turns of a chat"),
        (json!({"context": turns, "chosen": "a", "rejected": "b"}), "texts as turns of a chat"),
        (json!({"trajectory": [turn], "chosen": "a", "rejected": "b"}), "texts as turns of a chat"),
        (json!({"system": "", "input": "q", "chosen": "a", "rejected": "b"}), "texts as turns of a chat"),
        (json!({"prompt": "q", "history": [], "chosen": "a", "rejected": "b"}), "texts as turns of a chat"),
        (
            json!({"system": "s", "prompt": turns, "chosen": turns, "rejected": turns}),
            "TRL conversational, explicit prompt",
        ),
        (json!({"text": "a"}), "texts"),
        (json!({"prompt": "q", "response": "a"}), "prompts and completions"),
        (json!({"question": "q", "answer": "a"}), "prompts and completions"),
        (json!({"messages": turns}), "conversations"),
        (json!({"messages": turns, "answer": "a"}), "conversational prompts and completions"),
        (json!({"messages": answered, "problem": "q", "answer": "a"}), "conversations"),
        (json!({"conversations": [{"from": "human", "value": "q"}, turn], "response": "a"}), "conversations"),
        (
            json!({"prompt": turns, "messages": answered, "completion": turns}),
            "conversational prompts and completions",
        ),
        (json!({"prompt": turns, "completion": turns}), "conversational prompts and completions"),
        (json!({"instruction": "q", "input": "", "output": "a"}), "instructions and outputs"),
    ] {
        assert_eq!(said(record), expected);
    }
}

/// Protects: records that fit no schema are refused with the keys found and those expected.
#[test]
fn misfits_are_explained() {
    let turns = json!([{"role": "user", "content": "q"}]);
    for (record, expected) in [
        (json!({"chosen": "a", "id": 1}), "no \"rejected\" (keys: chosen, id)"),
        (json!({"chosen": "a", "rejected": null}), "\"rejected\" is null; expected text, as \"chosen\" is"),
        (
            json!({"chosen": 3, "rejected": "b"}),
            "\"chosen\" is a number; expected text or a list of messages",
        ),
        (json!({"chosen": "a", "rejected": turns}), "\"rejected\" is a list of messages; expected text"),
        (json!({"prompt": null, "chosen": "a", "rejected": "b"}), "\"prompt\" is null; expected text"),
        (
            json!({"prompt": ["q"], "chosen": "a", "rejected": "b"}),
            "\"prompt\": turn 1 is text; expected text or a list of messages",
        ),
        (
            json!({"question": "q", "input": "i", "chosen": "a", "rejected": "b"}),
            "two prompts, \"question\" and \"input\"; expected one: name it with --prompt-field",
        ),
        (
            json!({"system": "s", "chosen": "a", "rejected": "b"}),
            "a system message or a history without a prompt",
        ),
        (
            json!({"instruction": "i", "chosen": ["a"], "rejected": ["b"]}),
            "\"chosen\" is a list of texts beside \"instruction\"; expected one text in each",
        ),
        (
            json!({"prompt": ["q"], "chosen": ["a"], "rejected": ["b"]}),
            "whole columns, as Dataset.to_dict() gives",
        ),
        (json!({"prompt": {"0": "q"}, "chosen": {"0": "a"}, "rejected": {"0": "b"}}), "under row numbers"),
        (
            json!({"prompt": "q", "response": "a", "helpfulness": 4, "chosen": "a"}),
            "one rated answer a record",
        ),
        (json!({"chosen": [], "rejected": []}), "\"chosen\" is an empty list"),
        (json!({"prompt": "q", "completion": turns}), "expected two texts or two lists of messages"),
        (json!({"a": 1, "b": 2}), "no text and no answer (keys: a, b)"),
    ] {
        let said = said(record);
        assert!(said.contains(expected), "{said}");
    }
}
