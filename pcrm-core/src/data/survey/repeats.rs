//! Finds repeated pairs and prompts, contradictory pairs, and held-out data that are also training data.

use std::collections::{HashMap, HashSet};

use serde::Serialize;

use super::finding::{Finding, Severity, Tally, many, percent};
use crate::data::encode::{EncodedSet, pairs};
use crate::data::preference::Verdict;
use crate::data::prompt_id::{PairId, PromptId};
use crate::data::report::Origin;

/// The share of repeated pairs above which a warning is issued.
const MANY_REPEATED: f64 = 0.01;

/// Repetitions within data.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Repeats {
    /// The number of pairs.
    pub pairs: usize,
    /// The number of different prompts.
    pub prompts: usize,
    /// Pairs that repeat an earlier pair, with the same preference.
    pub repeated: Tally,
    /// Pairs that reverse an earlier pair, so that each answer is preferred to the other.
    pub contradicted: Tally,
    /// Sets whose prompt is the prompt of an earlier set.
    pub prompts_again: Tally,
    /// Pairs whose rejected answer has the higher score in the data.
    pub against_scores: Tally,
}

/// Held-out data that are also in the training data.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Overlap {
    /// The number of held-out pairs.
    pub pairs: usize,
    /// Held-out pairs that are in the training data, with either preference.
    pub same_pairs: Tally,
    /// Held-out pairs whose prompt is in the training data.
    pub same_prompts: Tally,
}

impl Repeats {
    /// Counts the repetitions in the pairs of these sets.
    pub fn of(sets: &[EncodedSet]) -> Self {
        let mut repeats = Self::default();
        let mut seen: HashSet<PairId> = HashSet::new();
        let mut prompts: HashMap<PromptId, (&Origin, Option<u32>)> = HashMap::new();
        let mut places = HashSet::new();
        for pair in pairs(sets) {
            repeats.pairs += 1;
            let content = pair.id;
            let preferred = pair.verdict == Verdict::Preferred;
            if preferred && seen.contains(&content) {
                repeats.repeated.add(pair.origin);
            } else if preferred && seen.contains(&content.reversed()) {
                repeats.contradicted.add(pair.origin);
            }
            if preferred {
                seen.insert(content);
            }
            let place = (pair.origin, pair.in_set.map(|place| place.set));
            let first = *prompts.entry(content.prompt).or_insert(place);
            if first != place && places.insert(place) {
                repeats.prompts_again.add(pair.origin);
            }
            let negative = pair.margin.is_some_and(|margin| margin < 0.0);
            let lower = pair.scores.is_some_and(|(chosen, rejected)| chosen < rejected);
            if preferred && (negative || lower) {
                repeats.against_scores.add(pair.origin);
            }
        }
        repeats.prompts = prompts.len();
        repeats
    }

    /// Returns the findings.
    pub fn findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let pairs =
            |tally: &Tally| format!("{} ({})", many(tally.count, "pair"), percent(tally.share(self.pairs)));
        if !self.contradicted.is_empty() {
            findings.push(
                Finding::new(
                    "contradicted",
                    Severity::Warning,
                    format!(
                        "{} contradict another pair: each answer is preferred to the \
                             other",
                        pairs(&self.contradicted)
                    ),
                    "Bradley-Terry learns that the two are equal; that is right if labellers disagree and \
                     wrong if labels were mixed up",
                )
                .tallied(&self.contradicted),
            );
        }
        if !self.against_scores.is_empty() {
            findings.push(
                Finding::new(
                    "against_scores",
                    Severity::Warning,
                    format!(
                        "{} whose rejected answer has the higher score, or a negative margin",
                        pairs(&self.against_scores)
                    ),
                    "Either the columns are mixed up or the scores mean something other than the labels",
                )
                .tallied(&self.against_scores),
            );
        }
        if !self.repeated.is_empty() {
            let severity = match self.repeated.share(self.pairs) > MANY_REPEATED {
                true => Severity::Warning,
                false => Severity::Note,
            };
            findings.push(
                Finding::new(
                    "repeated",
                    severity,
                    format!("{} repeat an earlier pair, including its answers", pairs(&self.repeated)),
                    "They count double; remove them unless that is intended",
                )
                .tallied(&self.repeated),
            );
        }
        if !self.prompts_again.is_empty() {
            findings.push(
                Finding::new(
                    "prompts_again",
                    Severity::Note,
                    format!(
                        "{} with the prompt of an earlier record",
                        many(self.prompts_again.count, "record")
                    ),
                    "Split by prompt, as --eval-split and pcrm data split do, or the same prompts are \
                     trained on and evaluated",
                )
                .tallied(&self.prompts_again),
            );
        }
        findings
    }
}

impl Overlap {
    /// Counts the held-out pairs and prompts that are also in `train`.
    pub fn of(train: &[EncodedSet], held_out: &[EncodedSet]) -> Self {
        let contents: HashSet<PairId> = pairs(train).map(|pair| pair.id).collect();
        let prompts: HashSet<PromptId> = contents.iter().map(|content| content.prompt).collect();
        let mut overlap = Self::default();
        for pair in pairs(held_out) {
            overlap.pairs += 1;
            let content = pair.id;
            if contents.contains(&content) || contents.contains(&content.reversed()) {
                overlap.same_pairs.add(pair.origin);
            }
            if prompts.contains(&content.prompt) {
                overlap.same_prompts.add(pair.origin);
            }
        }
        overlap
    }

    /// Returns the findings.
    pub fn findings(&self) -> Vec<Finding> {
        let pairs = |tally: &Tally| {
            format!("{} ({})", many(tally.count, "held-out pair"), percent(tally.share(self.pairs)))
        };
        let mut findings = Vec::new();
        if !self.same_pairs.is_empty() {
            let found = format!("{} are also in the training data", pairs(&self.same_pairs));
            let advice = "They measure memorisation; remove them from one side";
            findings
                .push(Finding::new("eval_pairs", Severity::Error, found, advice).tallied(&self.same_pairs));
        }
        if self.same_prompts.count > self.same_pairs.count {
            let found = format!(
                "{} have a prompt that is also in the training \
                                 data",
                pairs(&self.same_prompts)
            );
            let advice = "Accuracy on them says little about new prompts; split by prompt";
            findings.push(
                Finding::new("eval_prompts", Severity::Warning, found, advice).tallied(&self.same_prompts),
            );
        }
        findings
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{encoded, find, tokenizer};
    use super::*;
    use crate::data::encode::{EncodeOptions, encode_sets};
    use crate::data::preference::{Strictness, load_preferences};

    fn pair(prompt: &str, chosen: &str, rejected: &str) -> Value {
        json!({"prompt": prompt, "chosen": chosen, "rejected": rejected})
    }

    fn surveyed(records: &[Value]) -> (Repeats, Vec<Finding>) {
        let repeats = Repeats::of(&encoded(records, &tokenizer("plain")).1);
        let findings = repeats.findings();
        (repeats, findings)
    }

    /// Protects: different prompts with the same answers raise no finding.
    #[test]
    fn different_pairs_are_found_nothing_of() {
        let (repeats, findings) = surveyed(&[pair("q", "a", "b"), pair("r", "a", "b"), pair("s", "b", "a")]);
        assert_eq!((findings, repeats.prompts), (vec![], 3));
    }

    /// Protects: an equal pair, a reversed pair and an equal prompt are each counted at their repetition.
    #[test]
    fn repetition_and_contradiction_are_distinguished() {
        let records = [
            pair("q", "a", "b"),
            pair("q", "c", "d"),
            pair("q", "a", "b"),
            pair("q", "b", "a"),
            pair("r", "x", "y"),
        ];
        let (repeats, findings) = surveyed(&records);
        let line = |code: &str| {
            let finding = find(&findings, code).unwrap();
            (finding.severity, finding.count.unwrap(), finding.first.as_ref().unwrap().line)
        };
        assert_eq!(line("repeated"), (Severity::Warning, 1, 3));
        assert_eq!(line("contradicted"), (Severity::Warning, 1, 4));
        assert_eq!(line("prompts_again"), (Severity::Note, 3, 2));
        assert_eq!(repeats.prompts, 2);
    }

    /// Protects: records are identified by their number, because several may share a line.
    #[test]
    fn records_on_one_line_repeat_a_prompt() {
        let records: Vec<Value> = ["a", "b", "c"].map(|chosen| pair("q", chosen, "z")).into();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), Value::Array(records).to_string()).unwrap();
        let (sets, _) = load_preferences(&[file.path().to_path_buf()], Strictness::Skip).unwrap();
        let (sets, _) = encode_sets(&sets, &tokenizer("plain"), &EncodeOptions::new(None)).unwrap();
        assert_eq!(Repeats::of(&sets).prompts_again.count, 2);
    }

    /// Protects: the pairs of one ranked set share their prompt by design and are not repetitions; two sets
    /// with one prompt are.
    #[test]
    fn a_ranked_set_does_not_repeat_itself() {
        let set = json!({"prompt": "q", "responses": ["a", "b", "c"], "ranks": [1, 2, 3]});
        assert_eq!(surveyed(std::slice::from_ref(&set)).1, []);
        let other = json!({"prompt": "q", "responses": ["d", "e", "f"], "ranks": [1, 2, 3]});
        assert_eq!(surveyed(&[set, other]).0.prompts_again.count, 1);
    }

    /// Protects: labels that contradict the data's own scores or margins are counted.
    #[test]
    fn labels_against_scores_are_found() {
        let scored = |chosen: f64| {
            json!({
                "prompt": "q", "chosen": "a", "rejected": "b", "score_chosen": chosen, "score_rejected": 2.0
            })
        };
        assert!(find(&surveyed(&[scored(3.0)]).1, "against_scores").is_none());
        assert!(find(&surveyed(&[scored(1.0)]).1, "against_scores").is_some());
        let margin = json!({"prompt": "q", "chosen": "a", "rejected": "b", "margin": -1.0});
        assert_eq!(find(&surveyed(&[margin]).1, "against_scores").unwrap().count, Some(1));
    }

    /// Protects: held-out data are searched by prompt and by pair, with either preference.
    #[test]
    fn overlap_with_held_out_data_is_found() {
        let tokenizer = tokenizer("plain");
        let (_, train) = encoded(&[pair("q", "a", "b"), pair("r", "a", "b")], &tokenizer);
        let overlap = |records: &[Value]| Overlap::of(&train, &encoded(records, &tokenizer).1).findings();
        assert_eq!(overlap(&[pair("s", "a", "b")]), []);
        let prompts = overlap(&[pair("s", "a", "b"), pair("r", "c", "d")]);
        assert_eq!(
            (prompts.len(), prompts[0].code, prompts[0].severity),
            (1, "eval_prompts", Severity::Warning)
        );
        assert_eq!(prompts[0].first.as_ref().unwrap().line, 2);
        let same = overlap(&[pair("q", "b", "a")]);
        assert_eq!((same.len(), same[0].code, same[0].severity), (1, "eval_pairs", Severity::Error));
    }
}
