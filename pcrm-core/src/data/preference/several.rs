//! Records with several answers to one prompt, each compared with every other.

use serde_json::Value;

use super::pair::{INSTRUCTIONS, refuse_template_columns};
use super::{AnswerSet, Comparison, Content, Message, Origin, Ties, Verdict};
use crate::data::asked::{PromptColumns, to_answer};
use crate::data::conversation::{keys_of, kind_of};
use crate::data::load::{Record, Refusal};
use crate::data::report::ProblemKind;
use crate::data::schema::{Schema, answers_key};

/// The rank of an answer among those of its prompt.
#[derive(Debug, Clone, Copy)]
pub(super) enum Standing {
    /// Higher is better.
    Score(f64),
    /// Lower is better.
    Rank(f64),
    /// Lower is better, and answers of one class were not compared.
    Class(u8),
}

impl Standing {
    fn worth(self) -> f64 {
        // 0 and -0 are the same score.
        let worth = match self {
            Self::Score(score) => score,
            Self::Rank(rank) => -rank,
            Self::Class(class) => -f64::from(class),
        };
        worth + 0.0
    }
}

/// Builder of ranked sets that numbers the sets of a file.
pub(super) struct Sets {
    pub ties: Ties,
    next: u32,
}

impl Sets {
    pub(super) fn new(ties: Ties) -> Self {
        Self { ties, next: 0 }
    }

    /// Restarts the numbering.
    pub(super) fn end_file(&mut self) {
        self.next = 0;
    }

    /// Returns the set of these answers with a comparison of every two, including ties, except for two of one
    /// class, which were not compared.
    pub(super) fn ranked(
        &mut self,
        prompt: Content,
        answers: Vec<(Content, Standing)>,
        origin: &Origin,
    ) -> AnswerSet {
        let number = self.next;
        self.next += 1;
        let (answers, standings): (Vec<Content>, Vec<Standing>) = answers.into_iter().unzip();
        let mut comparisons = Vec::new();
        for (at, first) in (0..).zip(&standings) {
            for (other, second) in (0..).zip(&standings).skip(at as usize + 1) {
                comparisons.extend(comparison((at, *first), (other, *second)));
            }
        }
        AnswerSet { origin: origin.clone(), prompt: Some(prompt), answers, comparisons, ranked: Some(number) }
    }
}

/// Compares two numbered answers; returns `None` if both are of one class.
fn comparison(first: (u32, Standing), second: (u32, Standing)) -> Option<Comparison> {
    let ordering = first.1.worth().total_cmp(&second.1.worth());
    if ordering.is_eq() && matches!(first.1, Standing::Class(_)) {
        return None;
    }
    let ((chosen, best), (rejected, worst)) =
        if ordering.is_lt() { (second, first) } else { (first, second) };
    let scores = match (best, worst) {
        (Standing::Score(best), Standing::Score(worst)) => Some((best, worst)),
        _ => None,
    };
    let verdict = if ordering.is_eq() { Verdict::Tied } else { Verdict::Preferred };
    Some(Comparison { chosen, rejected, verdict, margin: None, scores })
}

fn malformed(message: String) -> Refusal {
    (ProblemKind::Malformed, message)
}

/// Reads a record with several answers.
pub(super) fn read_several(
    schema: Schema,
    record: &Record,
    origin: &Origin,
    sets: &mut Sets,
) -> Result<AnswerSet, Refusal> {
    let (prompt, answers) = match schema {
        Schema::RewardBench2 => reward_bench_2(record)?,
        _ => ranked(record)?,
    };
    if answers.iter().any(|(answer, _)| answer.is_blank()) {
        return Err((ProblemKind::EmptyAnswer, "one of the answers is empty".to_owned()));
    }
    if answers.len() < 2 {
        return Err((ProblemKind::Unranked, "fewer than two answers; expected two or more".to_owned()));
    }
    let set = sets.ranked(prompt, answers, origin);
    let all_tied = set.comparisons.iter().all(|comparison| comparison.verdict == Verdict::Tied);
    if all_tied && (sets.ties == Ties::Drop || set.comparisons.is_empty()) {
        return Err((ProblemKind::Tie, "all answers rank equally: a tie".to_owned()));
    }
    Ok(set)
}

type Ranked = (Content, Vec<(Content, Standing)>);

/// Reads a RewardBench 2 record: each chosen answer beats each rejected one. Its texts are for a chat
/// template.
fn reward_bench_2(record: &Record) -> Result<Ranked, Refusal> {
    let texts = |key: &str| record.get(key).and_then(Value::as_array).into_iter().flatten();
    let answers = |key: &str, class: u8| -> Result<Vec<_>, Refusal> {
        let answer = |value: &Value| match value {
            Value::String(text) => Ok((
                Content::Messages(vec![Message::new("assistant", text.as_str())]),
                Standing::Class(class),
            )),
            other => Err(malformed(format!("{key:?} has {}; expected texts", kind_of(other)))),
        };
        texts(key).map(answer).collect()
    };
    let prompt = record.get("prompt").and_then(Value::as_str).unwrap_or_default();
    let all = [answers("chosen", 0)?, answers("rejected", 1)?].concat();
    Ok((Content::Messages(vec![Message::new("user", prompt)]), all))
}

fn ranked(record: &Record) -> Result<Ranked, Refusal> {
    let asked = PromptColumns::of(record).map_err(malformed)?;
    let prompt = asked.content(INSTRUCTIONS)?;
    let prompt = prompt.ok_or_else(|| {
        malformed(format!(
            "no prompt (keys: {}); expected \"prompt\", \"question\" or \"instruction\"",
            keys_of(record)
        ))
    })?;
    let key = answers_key(record).unwrap_or("responses");
    let answers = record.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let standings = standings(record, key, answers)?;
    let contents =
        answers.iter().map(|answer| content(answer, key, &prompt)).collect::<Result<Vec<_>, _>>()?;
    if prompt.is_conversation() {
        refuse_template_columns(record)?;
    }
    Ok((prompt, contents.into_iter().zip(standings).collect()))
}

/// Reads an answer in the format of the prompt: text for a text prompt, messages for messages.
fn content(answer: &Value, key: &str, prompt: &Content) -> Result<Content, Refusal> {
    let fields = ["response", "answer", "text", "content", "output", "completion"];
    let said = match answer {
        Value::Object(answer) if !answer.contains_key("role") => {
            fields.iter().find_map(|field| answer.get(*field)).ok_or_else(|| {
                malformed(format!("an answer in {key:?} has no text; expected one of {}", fields.join(", ")))
            })?
        }
        answer => answer,
    };
    match (said, prompt) {
        (Value::String(text), Content::Text(_)) => Ok(Content::Text(text.clone())),
        (Value::String(text), Content::Messages(turns)) => {
            to_answer(turns)?;
            Ok(Content::Messages(vec![Message::new("assistant", text.as_str())]))
        }
        (Value::Object(_), Content::Messages(_)) => Message::from_value(said)
            .map(|turn| Content::Messages(vec![turn]))
            .map_err(|message| malformed(format!("{key:?}: {message}"))),
        (Value::Array(_), Content::Messages(_)) => {
            Content::from_value(said).map_err(|message| malformed(format!("{key:?}: {message}")))
        }
        (other, _) => Err(malformed(format!("{key:?} has {}; expected texts", kind_of(other)))),
    }
}

/// Returns the mean of UltraFeedback's ratings of one answer, `annotations.*.Rating`, ignoring "N/A".
fn mean_rating(answer: &Value) -> Option<Value> {
    let aspects = answer.get("annotations")?.as_object()?;
    let rating = |aspect: &Value| {
        let rating = aspect.get("Rating")?;
        rating
            .as_f64()
            .or_else(|| rating.as_str()?.trim().parse().ok())
            .filter(|rating: &f64| rating.is_finite())
    };
    let ratings: Vec<f64> = aspects.values().filter_map(rating).collect();
    (!ratings.is_empty()).then(|| Value::from(ratings.iter().sum::<f64>() / ratings.len() as f64))
}

/// Returns the standing of each answer: from a separate list, or from a number in each answer's object.
fn standings(record: &Record, key: &str, answers: &[Value]) -> Result<Vec<Standing>, Refusal> {
    let list = |name: &&str| record.get(*name).and_then(Value::as_array).map(|list| (name.to_string(), list));
    let scores = ["scores"].iter().find_map(list);
    let ranks = ["ranks", "rank", "ranking"].iter().find_map(list);
    let (name, numbers, by_rank) = match (scores, ranks) {
        (Some((scores, _)), Some((ranks, _))) => {
            return Err(malformed(format!(
                "both {scores:?} and {ranks:?} rank {key:?}; expected one of them: drop the other"
            )));
        }
        (Some((name, list)), None) => (name, list.clone(), false),
        (None, Some((name, list))) => (name, list.clone(), true),
        (None, None) => {
            let field = |name: &str| answers.iter().map(|answer| answer.get(name).cloned()).collect();
            let fields = [
                ("score", false),
                ("overall_score", false),
                ("rating", false),
                ("pm_score", false),
                ("rank", true),
            ];
            let found = fields.into_iter().find_map(|(name, by_rank)| {
                let numbers: Option<Vec<Value>> = field(name);
                let numbers = numbers.filter(|numbers| numbers.iter().all(Value::is_number))?;
                Some((format!("{key}[].{name}"), numbers, by_rank))
            });
            let annotated = || {
                let ratings: Option<Vec<Value>> = answers.iter().map(mean_rating).collect();
                Some((format!("{key}[].annotations"), ratings?, false))
            };
            let found = found.or_else(annotated);
            found.ok_or_else(|| {
                malformed(format!(
                    "no scores or ranks for {key:?}; expected \"scores\" or \"ranks\", or a score or rank in \
                     each answer"
                ))
            })?
        }
    };
    if numbers.len() != answers.len() {
        return Err(malformed(format!(
            "{name:?} has {} numbers for {} answers in {key:?}; expected equal numbers",
            numbers.len(),
            answers.len()
        )));
    }
    let standing = |value: &Value| match value.as_f64().filter(|number| number.is_finite()) {
        Some(number) if by_rank => Ok(Standing::Rank(number)),
        Some(number) => Ok(Standing::Score(number)),
        None => Err(malformed(format!("{name:?} has {value}; expected numbers"))),
    };
    numbers.iter().map(standing).collect()
}
