//! Lengths in tokens, pairs left out by a limit, and labels that correlate with length.

use serde::Serialize;

use super::finding::{Finding, Severity, Tally, many, percent};
use crate::data::encode::{EncodedPair, EncodedSet, TooLong, pairs};
use crate::data::report::MANY_LEFT_OUT;
use crate::model::Outline;

/// Token counts of pairs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lengths {
    /// The length of the common prefix of a pair's sequences.
    pub prompt: Vec<usize>,
    /// The length of the preferred answer from the first token that differs.
    pub chosen: Vec<usize>,
    /// The length of the other answer from the first token that differs.
    pub rejected: Vec<usize>,
    /// The length of each whole sequence, two per pair.
    pub sequence: Vec<usize>,
}

impl Lengths {
    /// Measures the pairs of these sets.
    pub fn of(sets: &[EncodedSet]) -> Self {
        let column = |of: fn(EncodedPair<'_>) -> usize| pairs(sets).map(of).collect::<Vec<_>>();
        Self {
            prompt: column(|pair| pair.prompt.len()),
            chosen: column(|pair| pair.chosen.len()),
            rejected: column(|pair| pair.rejected.len()),
            sequence: pairs(sets)
                .flat_map(|pair| [pair.chosen, pair.rejected].map(|own| pair.prompt.len() + own.len()))
                .collect(),
        }
    }

    /// Returns the number of pairs whose longer answer is preferred, and the number of pairs whose answers
    /// differ in length.
    pub fn longer_preferred(&self) -> (usize, usize) {
        let differ =
            || self.chosen.iter().zip(&self.rejected).filter(|(chosen, rejected)| chosen != rejected);
        (differ().filter(|(chosen, rejected)| chosen > rejected).count(), differ().count())
    }
}

/// A limit on the length of sequences, and the treatment of longer ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Limit {
    /// The maximum number of tokens.
    pub max_length: usize,
    /// The treatment of longer sequences.
    pub too_long: TooLong,
}

/// Pairs that exceed a limit or the model's positions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Beyond {
    /// The number of pairs.
    pub pairs: usize,
    /// Pairs with a sequence longer than the limit.
    pub limit: Tally,
    /// Pairs within the limit that exceed the positions in the model's config.
    pub positions: Tally,
    /// The length of the longest sequence.
    pub longest: usize,
}

impl Beyond {
    /// Counts the pairs of sets that were encoded without a limit.
    pub fn of<'a>(sets: &[EncodedSet], limit: Limit, model: impl Into<Outline<'a>>) -> Self {
        let model = model.into();
        let mut beyond = Self::default();
        for pair in pairs(sets) {
            beyond.pairs += 1;
            let longest = pair.longest();
            beyond.longest = beyond.longest.max(longest);
            if longest > limit.max_length {
                beyond.limit.add(pair.origin);
            }
            if longest.min(limit.max_length) > model.max_positions
                && (longest <= limit.max_length || limit.too_long == TooLong::CutPrompt)
            {
                beyond.positions.add(pair.origin);
            }
        }
        beyond
    }

    /// Returns the finding about pairs that are too long even with a cut prompt; `kept` is the number of
    /// pairs kept.
    pub fn unmended(&self, kept: usize, limit: Limit) -> Option<Finding> {
        let lost = self.pairs.saturating_sub(kept);
        if limit.too_long == TooLong::Drop || lost == 0 {
            return None;
        }
        let severity = if kept == 0 { Severity::Error } else { Severity::Warning };
        let found = format!(
            "{} ({}) left out because their answers alone exceed {} tokens",
            many(lost, "pair"),
            percent(lost as f64 / self.pairs as f64),
            limit.max_length
        );
        let mut finding = Finding::new(
            "answers_too_long",
            severity,
            found,
            "Answers are never cut; a larger --max-length keeps them",
        );
        finding.count = Some(lost);
        Some(finding)
    }

    /// Returns the findings.
    pub fn findings<'a>(&self, limit: Limit, model: impl Into<Outline<'a>>) -> Vec<Finding> {
        let model = model.into();
        let mut findings = Vec::new();
        if !self.limit.is_empty() {
            let share = self.limit.share(self.pairs);
            let most = limit.max_length;
            let (severity, what) = match limit.too_long {
                _ if self.limit.count == self.pairs && limit.too_long == TooLong::Drop => {
                    (Severity::Error, "left out")
                }
                TooLong::Drop if share > MANY_LEFT_OUT => (Severity::Warning, "left out"),
                TooLong::Drop => (Severity::Note, "left out"),
                TooLong::CutPrompt => (Severity::Note, "their prompts cut from the left"),
            };
            let found = format!(
                "{} ({}) with a sequence of more than {most} tokens, the longest {}: {what}",
                many(self.limit.count, "pair"),
                percent(share),
                self.longest
            );
            let advice = match limit.too_long {
                TooLong::Drop => {
                    "A larger --max-length keeps them, --too-long cut-prompt cuts them; the pairs left out \
                     are not a random sample but the long conversations"
                }
                TooLong::CutPrompt => "Answers are judged without the beginning of their conversation",
            };
            findings.push(Finding::new("too_long", severity, found, advice).tallied(&self.limit));
        }
        if !self.positions.is_empty() {
            let (severity, what) = match model.has_learned_positions {
                true => (Severity::Error, "has learned; it has no others, and training will fail"),
                false => (Severity::Warning, "was made for; later positions were never trained"),
            };
            let found = format!(
                "{} longer than the {} positions that the model {what}",
                many(self.positions.count, "pair"),
                model.max_positions
            );
            let advice = format!("--max-length {} keeps sequences within them", model.max_positions);
            findings.push(Finding::new("beyond_positions", severity, found, advice).tallied(&self.positions));
        }
        findings
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::super::testing::{encoded, find, tokenizer};
    use super::*;
    use crate::model::ModelConfig;

    fn model(family: &str, positions: usize) -> ModelConfig {
        let json = match family {
            "gpt2" => json!({"model_type": "gpt2", "vocab_size": 384, "n_embd": 8, "n_layer": 1, "n_head": 2,
                "n_positions": positions}),
            _ => json!({"model_type": "llama", "vocab_size": 384, "hidden_size": 8, "intermediate_size": 8,
                "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": positions}),
        };
        ModelConfig::from_json(json.as_object().unwrap().clone(), Path::new("config.json")).unwrap()
    }

    fn pairs(records: &[Value]) -> Vec<EncodedSet> {
        encoded(records, &tokenizer("plain")).1
    }

    fn records() -> Vec<Value> {
        (0..40).map(|row| json!({"prompt": "q", "chosen": "x".repeat(row + 1), "rejected": "yz"})).collect()
    }

    /// Protects: the counts in each column; each of these capitals is a token, and each answer gets its EOS.
    #[test]
    fn lengths_are_counted_by_hand() {
        let lengths = Lengths::of(&pairs(&[
            json!({"prompt": "QX", "chosen": "XQZ", "rejected": "J"}),
            json!({"prompt": "QX", "chosen": "Q", "rejected": "JX"}),
            json!({"prompt": "QX", "chosen": "J", "rejected": "K"}),
        ]));
        assert_eq!((lengths.prompt, lengths.chosen.clone()), (vec![2; 3], vec![4, 2, 2]));
        assert_eq!(lengths.sequence, [6, 4, 4, 5, 4, 4]);
        let lengths = Lengths { chosen: vec![4, 2, 2], rejected: vec![2, 3, 2], ..Lengths::default() };
        assert_eq!(lengths.longer_preferred(), (1, 2));
    }

    /// Protects: the limit's finding depends on its share, is an error if nothing is left, and is absent
    /// within the limit.
    #[test]
    fn limits_are_graded_by_what_they_take() {
        let (pairs, model) = (pairs(&records()), model("llama", 2048));
        let at = |max_length, too_long| {
            let limit = Limit { max_length, too_long };
            let found = Beyond::of(&pairs, limit, &model).findings(limit, &model);
            find(&found, "too_long").map(|finding| (finding.severity, finding.count.unwrap()))
        };
        assert_eq!(at(42, TooLong::Drop), None);
        assert_eq!(at(41, TooLong::Drop), Some((Severity::Warning, 1)));
        assert_eq!(at(20, TooLong::CutPrompt), Some((Severity::Note, 22)));
        assert_eq!(at(2, TooLong::Drop), Some((Severity::Error, 40)));
    }

    /// Protects: cutting prompts does not help long answers, and a finding says so.
    #[test]
    fn answers_beyond_the_limit_are_reported() {
        let beyond = Beyond { pairs: 10, ..Beyond::default() };
        let at = |kept, too_long| {
            beyond
                .unmended(kept, Limit { max_length: 8, too_long })
                .map(|finding| (finding.severity, finding.count))
        };
        assert_eq!(at(10, TooLong::CutPrompt), None);
        assert_eq!(at(7, TooLong::Drop), None);
        assert_eq!(at(7, TooLong::CutPrompt), Some((Severity::Warning, Some(3))));
        assert_eq!(at(0, TooLong::CutPrompt), Some((Severity::Error, Some(10))));
    }

    /// Protects: missing positions are an error for learned ones and a warning for rotary ones; pairs that
    /// are left out anyway are not counted.
    #[test]
    fn positions_beyond_the_model_are_found() {
        let pairs = pairs(&records());
        let at = |family: &str, positions, max_length| {
            let (model, limit) = (model(family, positions), Limit { max_length, too_long: TooLong::Drop });
            let found = Beyond::of(&pairs, limit, &model).findings(limit, &model);
            find(&found, "beyond_positions").map(|finding| (finding.severity, finding.count.unwrap()))
        };
        assert_eq!(at("gpt2", 30, 64), Some((Severity::Error, 12)));
        assert_eq!(at("llama", 30, 64), Some((Severity::Warning, 12)));
        assert_eq!(at("llama", 30, 30), None);
        assert_eq!(at("llama", 64, 64), None);
    }
}
