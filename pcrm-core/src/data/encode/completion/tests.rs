//! Completions compared with TRL's SFT trainer.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value as Json, json};

use super::*;
use crate::data::survey::testing::{changed, tokenizer};

fn completion(row: &Json) -> Completion {
    let content = |key: &str| row.get(key).map(|value| Content::from_value(value).unwrap());
    Completion {
        origin: Origin { file: Arc::from(Path::new("rows.jsonl")), line: 1, record: 1 },
        prompt: content("prompt"),
        completion: content("completion")
            .or_else(|| content("text"))
            .or_else(|| content("messages"))
            .unwrap(),
    }
}

fn encoded(
    rows: &[Json],
    tokenizer: &Tokenizer,
    options: &CompletionOptions,
) -> Result<(Vec<EncodedCompletion>, CompletionReport)> {
    encode_completions(&rows.iter().map(completion).collect::<Vec<_>>(), tokenizer, options)
}

/// Protects: kept rows, token ids and trained tokens equal those of TRL's SFT trainer for texts, prompts with
/// completions, conversations, assistant's turns by marks and by TRL's own templates, limits and three
/// tokenizers.
#[test]
fn learned_tokens_are_those_of_trl() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/text/sft.json");
    let golden: Json = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let cases = golden["cases"].as_array().unwrap();
    assert!(cases.len() > 30, "{} cases", cases.len());
    for case in cases {
        let name = format!("{} {} {} {}", case["name"], case["tokenizer"], case["template"], case["config"]);
        let template = case["template"].as_str().map(|name| golden["templates"][name].as_str().unwrap());
        let tokenizer = changed(case["tokenizer"].as_str().unwrap(), &[], template);
        let config = &case["config"];
        let train_on = match (&config["assistant_only_loss"], &config["completion_only_loss"]) {
            (Json::Bool(true), _) => TrainOn::Assistant,
            (_, Json::Bool(false)) => TrainOn::Everything,
            _ => TrainOn::Completion,
        };
        let max_length = config["max_length"].as_u64().map(|limit| limit as usize);
        let options = CompletionOptions { max_length, train_on, ..CompletionOptions::default() };
        let rows = case["rows"].as_array().unwrap();
        let kept = case["kept"].as_array().unwrap();
        if kept.is_empty() {
            assert!(encoded(rows, &tokenizer, &options).is_err(), "{name}");
            continue;
        }
        let (encoded, report) = encoded(rows, &tokenizer, &options).unwrap_or_else(|e| panic!("{name}: {e}"));
        let numbers: Vec<u64> = encoded.iter().map(|row| row.row as u64).collect();
        let expected: Vec<u64> = kept.iter().map(|row| row["row"].as_u64().unwrap()).collect();
        assert_eq!(numbers, expected, "{name}: other rows are kept");
        for (row, expected) in encoded.iter().zip(kept) {
            let ids: Vec<u32> = serde_json::from_value(expected["ids"].clone()).unwrap();
            assert_eq!(row.ids, ids, "{name}: {expected}");
            let learned = |at: usize| row.trained.iter().any(|range| range.contains(&at));
            let mask: String = (0..ids.len()).map(|at| if learned(at) { '1' } else { '0' }).collect();
            // TRL shifts labels by one, so its first label is never used.
            assert_eq!(mask[1..], expected["learned"].as_str().unwrap()[1..], "{name}: {expected}");
            assert!(mask.starts_with('0'));
        }
        assert_eq!((report.rows, report.kept), (rows.len(), kept.len()), "{name}");
        assert_eq!(report.nothing_to_learn, rows.len() - kept.len(), "{name}");
        let stops = case["template"].as_str().is_none_or(|template| golden["stops"][template] == true);
        assert_eq!(report.ends_not_learned, !stops, "{name}");
    }
    assert_eq!((&golden["stops"]["marked"], &golden["stops"]["split"]), (&json!(true), &json!(false)));
}

/// Protects: the counts of the report equal sums computed by hand, and each treatment of long rows is
/// counted.
#[test]
fn reports_count_what_was_cut_and_left_out() {
    let rows = [
        json!({"text": "dog and dog and dog and dog and dog and dog"}),
        json!({"prompt": "x ".repeat(20), "completion": "y"}),
        json!({"text": "dog"}),
    ];
    let plain = tokenizer("plain");
    let options = CompletionOptions { max_length: Some(8), ..CompletionOptions::default() };
    let (kept, report) = encoded(&rows, &plain, &options).unwrap();
    assert_eq!((report.kept, report.cut, report.nothing_to_learn, report.dropped_too_long), (2, 1, 1, 0));
    assert_eq!(report.tokens, kept.iter().map(|row| row.ids.len()).sum::<usize>());
    assert_eq!(report.trained_tokens, report.tokens - 2, "all but the first token of a text");
    assert_eq!((kept[0].ids.len(), report.longest), (8, 8));
    let dropping = CompletionOptions { too_long: Overlong::Drop, ..options };
    let (_, report) = encoded(&rows, &plain, &dropping).unwrap();
    assert_eq!((report.kept, report.cut, report.dropped_too_long), (1, 0, 2));
    assert!(report.to_string().starts_with("1 of 3 rows; 2 too long, left out; "), "{report}");
    let said = encoded(&rows[1..2], &plain, &options).unwrap_err().to_string();
    assert!(said.contains("no row is left: of 1, 1 have no token to train on"), "{said}");
}

/// Protects: training on the assistant's turns never falls back to whole conversations: a template without
/// marks is refused with advice, and so is plain text.
#[test]
fn assistant_turns_need_marks() {
    let options = CompletionOptions { train_on: TrainOn::Assistant, ..CompletionOptions::default() };
    let chat =
        [json!({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]})];
    let said = encoded(&chat, &tokenizer("plain"), &options).unwrap_err().to_string();
    assert!(said.contains("put {% generation %} before and {% endgeneration %} after"), "{said}");
    let said = encoded(&[json!({"text": "a"})], &tokenizer("plain"), &options).unwrap_err().to_string();
    assert!(said.starts_with("rows.jsonl:1: a plain text has no assistant's turns"), "{said}");
    let marked = "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}";
    let marked = changed("plain", &[], Some(marked));
    let asked = [json!({"messages": [{"role": "user", "content": ""}]}), chat[0].clone()];
    let (kept, report) = encoded(&asked, &marked, &options).unwrap();
    assert_eq!((kept[0].row, report.nothing_to_learn), (1, 1), "a row without a marked token is left out");
}

/// Protects: splits keep the rows of one prompt together, regardless of their layout.
#[test]
fn rows_of_one_prompt_have_one_identity() {
    let turn = |role: &str, said: &str| json!({"role": role, "content": said});
    let rows = [
        json!({"prompt": "q", "completion": "a"}),
        json!({"prompt": [turn("user", "q")], "completion": [turn("assistant", "b")]}),
        json!({"messages": [turn("user", "q"), turn("assistant", "c")]}),
        json!({"text": "q"}),
        json!({"text": "a"}),
    ];
    let ids: Vec<PromptId> = rows
        .iter()
        .map(completion)
        .map(|row| PromptId::of_answer(row.prompt.as_ref(), &row.completion))
        .collect();
    assert!(ids[..4].iter().all(|id| *id == PromptId::of_text("q")), "{ids:?}");
    assert_ne!(ids[4], ids[0]);
}
