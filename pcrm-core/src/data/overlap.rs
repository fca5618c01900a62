//! Finds prompts and pairs that occur in two data sets, or twice in one, regardless of their schemas.

use std::collections::{HashMap, HashSet};
use std::fmt;

use super::answer_set::AnswerSet;
use super::prompt_id::{PairId, PromptId};

/// The prompts and pairs that evaluation data share with training data.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Overlap {
    /// Prompts of the evaluation data.
    pub prompts: usize,
    /// Prompts that are also in the training data.
    pub shared_prompts: usize,
    /// Pairs of the evaluation data.
    pub pairs: usize,
    /// Pairs that are also in the training data.
    pub shared_pairs: usize,
    /// Pairs that are in the training data with the preference reversed.
    pub contradictions: usize,
}

impl Overlap {
    /// Returns true if the data share nothing.
    pub fn is_empty(&self) -> bool {
        self.shared_prompts + self.shared_pairs + self.contradictions == 0
    }
}

impl fmt::Display for Overlap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { prompts, shared_prompts, pairs, shared_pairs, contradictions } = self;
        write!(f, "{shared_prompts} of {prompts} prompts and {shared_pairs} of {pairs} pairs")?;
        match contradictions {
            0 => Ok(()),
            count => write!(f, " (and {count} the other way round)"),
        }
    }
}

/// Finds the prompts and pairs of `eval` that are also in `train`.
pub fn overlap(train: &[AnswerSet], eval: &[AnswerSet]) -> Overlap {
    let trained: HashSet<PairId> = train.iter().flat_map(PairId::of_set).collect();
    let prompts: HashSet<PromptId> = trained.iter().map(|pair| pair.prompt).collect();
    let evaluated: Vec<PairId> = eval.iter().flat_map(PairId::of_set).collect();
    let asked: HashSet<PromptId> = evaluated.iter().map(|pair| pair.prompt).collect();
    Overlap {
        prompts: asked.len(),
        shared_prompts: asked.iter().filter(|prompt| prompts.contains(*prompt)).count(),
        pairs: evaluated.len(),
        shared_pairs: evaluated.iter().filter(|pair| trained.contains(*pair)).count(),
        contradictions: evaluated.iter().filter(|pair| trained.contains(&pair.reversed())).count(),
    }
}

/// Counts the repetitions of pairs, not counting their first occurrence, and the pairs that also occur with
/// the preference reversed.
pub fn repeated<'a>(sets: impl IntoIterator<Item = &'a AnswerSet>) -> (usize, usize) {
    let mut times: HashMap<PairId, usize> = HashMap::new();
    sets.into_iter().flat_map(PairId::of_set).for_each(|pair| *times.entry(pair).or_default() += 1);
    let again = times.values().map(|times| times - 1).sum();
    let turned = times.keys().filter(|pair| times.contains_key(&pair.reversed())).count() / 2;
    (again, turned)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::data::preference::load_preferences;
    use crate::data::report::Strictness;

    fn pairs(lines: &[&str]) -> Vec<AnswerSet> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(lines.join("\n").as_bytes()).unwrap();
        load_preferences(&[file.path().to_path_buf()], Strictness::Refuse).unwrap().0
    }

    /// An equal pair is found in another schema, as are a reversed pair and a shared prompt with other
    /// answers.
    #[test]
    fn pairs_are_found_in_other_schemas() {
        let train = pairs(&[
            r#"{"prompt": "q", "chosen": "a", "rejected": "b"}"#,
            r#"{"prompt": "p", "chosen": "c", "rejected": "d"}"#,
            r#"{"prompt": "o", "chosen": "e", "rejected": "f"}"#,
        ]);
        let eval = pairs(&[
            r#"{"instruction": "q", "chosen": "a ", "rejected": "b"}"#,
            r#"{"instruction": "p", "chosen": "d", "rejected": "c"}"#,
            r#"{"instruction": "o", "chosen": "e", "rejected": "x"}"#,
            r#"{"instruction": "n", "chosen": "e", "rejected": "f"}"#,
        ]);
        let found = overlap(&train, &eval);
        let expected =
            Overlap { prompts: 4, shared_prompts: 3, pairs: 4, shared_pairs: 1, contradictions: 1 };
        assert_eq!(found, expected);
        assert_eq!(found.to_string(), "3 of 4 prompts and 1 of 4 pairs (and 1 the other way round)");
        assert!(overlap(&train[..1], &eval[3..]).is_empty());
    }

    /// Protects: a dialogue equals its turns, with or without a separate prompt column.
    #[test]
    fn dialogues_are_their_turns() {
        let whole = pairs(&[
            r#"{"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"}"#,
        ]);
        let apart = pairs(&[r#"{"prompt": "\n\nHuman: q\n\nAssistant:", "chosen": " a", "rejected": " b"}"#]);
        assert_eq!(overlap(&whole, &apart).shared_pairs, 1);
    }

    /// Each repetition and each contradiction is counted once.
    #[test]
    fn repetitions_are_counted() {
        let line = r#"{"prompt": "q", "chosen": "a", "rejected": "b"}"#;
        let turned = r#"{"prompt": "q", "chosen": "b", "rejected": "a"}"#;
        assert_eq!(repeated(&pairs(&[line, line, turned, line])), (2, 1));
    }
}
