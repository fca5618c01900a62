//! Scored rows from any source, and their conversion into an evaluation.

use std::collections::HashMap;

use anyhow::{Result, ensure};
use pcrm_core::data::prompt_id::PromptId;
use pcrm_core::folds::fold;
use pcrm_eval::temperature::FOLDS;
use pcrm_eval::{AnswerSet, Evaluation, Labels, LengthUnit, PairScore};

/// A row of the data with its scores.
#[derive(Debug, Clone)]
pub struct Item {
    /// The key, equal for all models: the id of the record or its number in the data, and the number of the pair if
    /// the record has several.
    pub key: String,
    /// The subset of the benchmark that the item belongs to.
    pub subset: Option<String>,
    /// The text of the prompt, if the record has one.
    pub prompt: Option<String>,
    /// The identity of the prompt, if known: a rendered prompt identifies it less reliably.
    pub prompt_id: Option<PromptId>,
    /// The scores of its answers.
    pub body: Body,
}

/// The scores of a row.
#[derive(Debug, Clone)]
pub enum Body {
    /// Two answers.
    Pair(PairScore),
    /// Several answers to one prompt.
    Set {
        /// The model's scores.
        scores: Vec<f64>,
        /// The lengths of the answers; empty if unknown.
        lengths: Vec<usize>,
        /// The labels of the answers.
        labels: Labels,
    },
    /// One answer, which forms a set with the others to its prompt.
    Answer {
        /// The model's score.
        score: f64,
        /// The length; 0 if unknown.
        length: usize,
        /// The human score.
        human: f64,
    },
}

/// Generates unique row keys.
#[derive(Debug, Default)]
pub struct Keys {
    seen: HashMap<String, usize>,
}

impl Keys {
    /// Returns the key of a record: its subset and id, numbered further if they repeat, or its number among all
    /// records of the data, from 1. Ids of rows that are left out count as well.
    pub fn key(&mut self, number: u64, subset: Option<&str>, id: Option<&str>) -> String {
        let name = match id {
            Some(id) => format!("{}:{id}", subset.unwrap_or_default()),
            None => format!("row {number}"),
        };
        let before = self.seen.entry(name.clone()).or_insert(0);
        *before += 1;
        if *before == 1 { name } else { format!("{name} ({before})") }
    }
}

/// Converts rows into an evaluation, gathering single answers by prompt.
///
/// # Errors
/// Fails if a set cannot be measured.
pub fn evaluation(items: &[Item], unit: LengthUnit) -> Result<Evaluation> {
    let mut evaluation = Evaluation::new(unit);
    let mut places: HashMap<&str, usize> = HashMap::new();
    let mut gathered: Vec<AnswerSet> = Vec::new();
    for item in items {
        match &item.body {
            Body::Pair(pair) => evaluation.add_pair(*pair, item.subset.as_deref(), item.prompt.as_deref()),
            Body::Set { scores, lengths, labels } => evaluation.add_set(AnswerSet {
                id: own_id(item),
                subset: item.subset.clone(),
                prompt: item.prompt.clone(),
                scores: scores.clone(),
                lengths: lengths.clone(),
                labels: labels.clone(),
            })?,
            Body::Answer { score, length, human } => {
                let prompt = item.prompt.as_deref().unwrap_or_default();
                let place = *places.entry(prompt).or_insert(gathered.len());
                if place == gathered.len() {
                    gathered.push(AnswerSet {
                        id: item.key.clone(),
                        subset: item.subset.clone(),
                        prompt: item.prompt.clone(),
                        scores: Vec::new(),
                        lengths: Vec::new(),
                        labels: Labels::Human(Vec::new()),
                    });
                }
                gathered[place].scores.push(*score);
                gathered[place].lengths.push(*length);
                if let Labels::Human(scores) = &mut gathered[place].labels {
                    scores.push(*human);
                }
            }
        }
    }
    gathered.into_iter().try_for_each(|set| evaluation.add_set(set))?;
    let known = items.iter().filter_map(|item| Some((item.prompt.as_deref()?, item.prompt_id?)));
    let known: HashMap<&str, PromptId> = known.collect();
    evaluation.fold_prompts(|prompt| {
        fold(known.get(prompt).copied().unwrap_or_else(|| PromptId::of_text(prompt)), FOLDS)
    });
    Ok(evaluation)
}

/// Returns the rows that all have, in the first's order, and the same rows of each other.
///
/// # Errors
/// Fails if no row is in common.
pub fn in_common_of_all(first: Vec<Item>, others: Vec<Vec<Item>>) -> Result<(Vec<Item>, Vec<Vec<Item>>)> {
    let mut shared = first;
    for other in &others {
        (shared, _) = in_common(shared, other.clone())?;
    }
    let own = |other: Vec<Item>| Ok(in_common(shared.clone(), other)?.1);
    let others = others.into_iter().map(own).collect::<Result<_>>()?;
    Ok((shared, others))
}

/// Returns the rows that both have, in the first's order.
///
/// # Errors
/// Fails if no row is in common, or if rows of one key have different prompts.
fn in_common(first: Vec<Item>, second: Vec<Item>) -> Result<(Vec<Item>, Vec<Item>)> {
    let mut others: HashMap<String, Item> = second.into_iter().map(|item| (item.key.clone(), item)).collect();
    let pairs = first.into_iter().filter_map(|item| {
        let other = others.remove(&item.key)?;
        // Labels and human scores come from the data, so they must agree.
        same_shape(&item.body, &other.body).then_some((item, other))
    });
    let (first, second): (Vec<Item>, Vec<Item>) = pairs.unzip();
    ensure!(!first.is_empty(), "--compare: no rows in common, by id or by row number");
    for (item, other) in first.iter().zip(&second) {
        // A prompt that a template rendered is another text than its column.
        let are_columns = item.prompt_id.is_none() && other.prompt_id.is_none();
        if let (true, Some(prompt), Some(theirs)) = (are_columns, &item.prompt, &other.prompt) {
            ensure!(
                prompt == theirs,
                "--compare: {} has the prompt {prompt:?} in one and {theirs:?} in the other; expected the same \
                 rows in the same order, or ids",
                item.key
            );
        }
    }
    Ok((first, second))
}

fn same_shape(first: &Body, second: &Body) -> bool {
    match (first, second) {
        (Body::Pair(_), Body::Pair(_)) => true,
        (Body::Set { labels, .. }, Body::Set { labels: others, .. }) => labels == others,
        (Body::Answer { human, .. }, Body::Answer { human: others, .. }) => human == others,
        _ => false,
    }
}

/// Returns the id without the subset prefix of the key.
fn own_id(item: &Item) -> String {
    let prefix = format!("{}:", item.subset.as_deref().unwrap_or_default());
    item.key.strip_prefix(&prefix).unwrap_or(&item.key).to_owned()
}

/// Returns the lengths of two sequences from their first difference, which is how constraints see answers,
/// and their similarity, shorter / longer.
pub fn own_lengths<T: PartialEq>(first: &[T], second: &[T]) -> (usize, usize, f64) {
    let shared = first.iter().zip(second).take_while(|(a, b)| a == b).count();
    let (a, b) = (first.len() - shared, second.len() - shared);
    (a, b, if a.max(b) == 0 { 1.0 } else { a.min(b) as f64 / a.max(b) as f64 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(prompt: &str, number: usize, score: f64) -> Item {
        let body = Body::Answer { score, length: 3, human: number as f64 };
        Item {
            key: format!("row {number}"),
            subset: None,
            prompt: Some(prompt.to_owned()),
            prompt_id: None,
            body,
        }
    }

    /// Protects: answers to one prompt form one set wherever they are in the file, and sets keep their ids.
    #[test]
    fn answers_are_gathered_by_prompt() {
        let mut items = vec![answer("p", 0, 0.1), answer("q", 1, 0.2), answer("p", 2, 0.3)];
        let labels = Labels::Correct(vec![true, false]);
        let body = Body::Set { scores: vec![1.0, 0.0], lengths: Vec::new(), labels };
        let subset = Some("Ties".to_owned());
        let key = Keys::default().key(1, subset.as_deref(), Some("ref:4"));
        items.push(Item { key, subset, prompt: None, prompt_id: None, body });
        let evaluation = evaluation(&items, LengthUnit::Tokens).unwrap();
        let ids: Vec<&str> = evaluation.sets().iter().map(|set| set.id.as_str()).collect();
        assert_eq!(ids, ["ref:4", "row 0", "row 1"]);
        assert_eq!(evaluation.sets()[1].scores, [0.1, 0.3]);
    }

    /// Protects: a row's number is its place in the data, also after rows with ids or rows that cannot be read; rows
    /// with the same id get different keys.
    #[test]
    fn rows_are_numbered_by_their_place() {
        let mut keys = Keys::default();
        let all = [(1, None), (2, Some("a")), (3, Some("a")), (5, None)];
        let all = all.map(|(number, id)| keys.key(number, None, id));
        assert_eq!(all, ["row 1", ":a", ":a (2)", "row 5"]);
    }

    /// Protects: rows are compared by key, whatever other rows exist, and never with other labels.
    #[test]
    fn rows_in_common_are_found_by_key() {
        let first = vec![answer("p", 0, 0.1), answer("p", 1, 0.2), answer("p", 2, 0.3)];
        let mut second = vec![answer("p", 2, 0.9), answer("p", 7, 0.5), answer("p", 0, 0.8)];
        let (kept, others) = in_common(first.clone(), second.clone()).unwrap();
        let keys = |items: &[Item]| items.iter().map(|item| item.key.clone()).collect::<Vec<_>>();
        assert_eq!(keys(&kept), ["row 0", "row 2"]);
        assert_eq!(keys(&kept), keys(&others));
        second[0].body = Body::Pair(PairScore::default());
        assert_eq!(in_common(first.clone(), second).unwrap().0.len(), 1);
        assert!(in_common(first.clone(), Vec::new()).is_err());
        let said = in_common(first.clone(), vec![answer("z", 0, 0.8)]).unwrap_err().to_string();
        assert!(said.contains("row 0 has the prompt \"p\" in one and \"z\" in the other"), "{said}");
        let third = vec![answer("p", 1, 0.4), answer("p", 2, 0.6)];
        let second = vec![answer("p", 2, 0.9), answer("p", 0, 0.8)];
        let (kept, others) = in_common_of_all(first.clone(), vec![second, third]).unwrap();
        assert_eq!((keys(&kept), keys(&others[0]), keys(&others[1])), {
            let only = vec!["row 2".to_owned()];
            (only.clone(), only.clone(), only)
        });
        assert_eq!(in_common_of_all(first, Vec::new()).unwrap().0.len(), 3);
    }

    /// Protects: lengths are counted from the point where answers differ.
    #[test]
    fn lengths_begin_where_answers_part() {
        assert_eq!(own_lengths(&[1, 2, 3, 4], &[1, 2, 9]), (2, 1, 0.5));
        assert_eq!(own_lengths(&[1], &[1]), (0, 0, 1.0));
    }
}
