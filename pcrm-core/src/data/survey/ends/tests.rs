//! Pairs that raise each finding, and pairs that do not.

use std::path::Path;

use serde_json::{Value, json};

use super::super::testing::{changed, encoded, find, tokenizer};
use super::*;
use crate::model::ModelConfig;

fn model(vocabulary: usize) -> ModelConfig {
    let json = json!({"model_type": "llama", "vocab_size": vocabulary, "hidden_size": 8, "intermediate_size": 8,
        "num_hidden_layers": 1, "num_attention_heads": 2});
    ModelConfig::from_json(json.as_object().unwrap().clone(), Path::new("config.json")).unwrap()
}

fn surveyed(records: &[Value], tokenizer: &Tokenizer, model: &ModelConfig) -> (Ends, Vec<Finding>) {
    let (rows, pairs) = encoded(records, tokenizer);
    let ends = Ends::of(&pairs, &rows, tokenizer, model);
    let findings = ends.findings(tokenizer, model);
    (ends, findings)
}

fn plain(chosen: &str, rejected: &str) -> Value {
    json!({"prompt": "q ", "chosen": chosen, "rejected": rejected})
}

fn chat(answer: &str) -> Value {
    json!({"prompt": [{"role": "user", "content": "q"}],
        "chosen": [{"role": "assistant", "content": answer}],
        "rejected": [{"role": "assistant", "content": "no"}]})
}

/// Protects: valid pairs raise no finding, and their score is read at the EOS.
#[test]
fn good_texts_are_found_nothing_of() {
    let tokenizer = tokenizer("plain");
    let (ends, findings) = surveyed(&[plain("a", "b")], &tokenizer, &model(384));
    assert_eq!(findings, []);
    let eos = tokenizer.eos().unwrap();
    assert_eq!(ends.scored, [ScoredToken { id: eos.id, text: eos.text.clone(), sequences: 2 }]);
    assert_eq!((ends.sequences, ends.by_template), (2, 0));
}

/// Protects: doubled BOS and EOS, and an EOS within a text, are found with count and line.
#[test]
fn special_tokens_out_of_place_are_found() {
    let records = [
        plain("a", "b"),
        plain("a</s></s>", "b"),
        plain("a</s> and more", "b"),
        json!({"prompt": "<s><s>q ", "chosen": "a", "rejected": "b"}),
    ];
    let (_, findings) = surveyed(&records, &tokenizer("plain"), &model(384));
    for (code, count, line) in [("double_eos", 1, 2), ("eos_inside", 1, 3), ("double_bos", 2, 4)] {
        let finding = find(&findings, code).unwrap_or_else(|| panic!("no {code}: {findings:?}"));
        let first = finding.first.as_ref().unwrap().line;
        assert_eq!(
            (finding.severity, finding.count, first),
            (Severity::Warning, Some(count), line),
            "{code}"
        );
    }
    assert_eq!(findings.len(), 3);
}

/// Protects: a template that ends all answers with one token is a note, one that leaves answers open is a
/// warning, and one that writes the EOS is neither.
#[test]
fn ends_without_eos_are_graded() {
    let severity = |template: Option<&str>| {
        let tokenizer = changed("plain", &[], template);
        let (_, findings) = surveyed(&[chat("yes"), chat("maybe")], &tokenizer, &model(384));
        find(&findings, "without_eos").map(|finding| finding.severity)
    };
    assert_eq!(severity(None), Some(Severity::Note));
    let open = "{% for m in messages %}{{ m['content'] }}{% endfor %}";
    assert_eq!(severity(Some(open)), Some(Severity::Warning));
    let closed = "{% for m in messages %}{{ m['content'] }}{% endfor %}{{ eos_token }}";
    assert_eq!(severity(Some(closed)), None);
}

/// Protects: padding with the EOS moves the score to the token before, whether the padding is named or a
/// fallback.
#[test]
fn padding_that_is_the_eos_moves_the_score() {
    for pad in [json!("</s>"), Value::Null] {
        let tokenizer = changed("plain", &[("pad_token", pad.clone())], None);
        let record = json!({"prompt": "Q", "chosen": "X", "rejected": "Y"});
        let (ends, findings) = surveyed(&[record], &tokenizer, &model(384));
        let finding = find(&findings, "pad_is_eos").unwrap();
        assert_eq!(finding.found.contains("no padding token"), pad.is_null(), "{finding:?}");
        let scored: Vec<&str> = ends.scored.iter().map(|scored| scored.text.as_str()).collect();
        assert_eq!(scored, ["X", "Y"]);
    }
}

/// Protects: ids beyond the embedding are an error if the data have them and a warning if they only could.
#[test]
fn ids_beyond_the_embedding_are_found() {
    let tokenizer = tokenizer("plain");
    let (ends, findings) = surveyed(&[plain("a", "b")], &tokenizer, &model(2));
    assert_eq!(find(&findings, "beyond_vocabulary").unwrap().severity, Severity::Error);
    assert!(find(&findings, "large_vocabulary").is_none());
    let records = [plain("a", "b")];
    let (_, findings) = surveyed(&records, &tokenizer, &model(ends.vocabulary - 1));
    let largest = encoded(&records, &tokenizer).1[0].answers[0].ids.iter().max().copied().unwrap() as usize;
    assert!(largest < ends.vocabulary - 1, "the case needs a tokenizer that can do more");
    assert_eq!(find(&findings, "large_vocabulary").unwrap().severity, Severity::Warning);
}
