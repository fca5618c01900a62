//! `--scores FILE`: rows scored by another program.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use pcrm_core::data::lines::Lines;
use pcrm_core::data::scored;
use pcrm_eval::{Labels, LengthUnit, PairScore};
use serde_json::Value;

use super::fields::{ANSWERS, GivenFields, id, numbers};
use super::items::{Body, Item, Keys, own_lengths};
use crate::left_out;
use crate::record::{self, Record, find, keys, named};

/// The scored rows of a file, and the unit of their lengths.
#[derive(Debug)]
pub struct Given {
    /// The rows.
    pub items: Vec<Item>,
    /// The unit of lengths.
    pub unit: LengthUnit,
    /// The number of rows without a score, which `pcrm score` writes for rows it leaves out.
    pub left_out: usize,
}

/// Reads JSON lines, plain or compressed with gzip or zstd.
///
/// # Errors
/// Fails if the file cannot be read or has no rows, or, with its number, if a line is not a record with
/// scores.
pub fn read(path: &Path, fields: &GivenFields) -> Result<Given> {
    let mut given = Given { items: Vec::new(), unit: LengthUnit::Tokens, left_out: 0 };
    let mut keys = Keys::default();
    for (number, line) in (1..).zip(Lines::open(path)?) {
        let line = line?;
        let at = || format!("{}:{}", path.display(), line.number);
        let record: Record = serde_json::from_str(&line.text)
            .map_err(|error| anyhow::anyhow!("{}: expected one JSON object per line: {error}", at()))?;
        let subset = fields.subset(&record).with_context(at);
        let mut key = |subset: Option<&str>| keys.key(number, subset, id(&record).as_deref());
        if is_left_out(&record, fields) {
            // `pcrm score` writes no columns for a record that it could not read, so a missing subset is no error here.
            subset.iter().for_each(|subset| drop(key(subset.as_deref())));
            given.left_out += 1;
            continue;
        }
        let subset = subset?;
        let key = key(subset.as_deref());
        let (body, unit) = body(&record, fields).with_context(at)?;
        if unit == LengthUnit::Words {
            given.unit = unit;
        }
        let prompt = fields.prompt(&record).with_context(at)?;
        ensure!(
            !matches!(body, Body::Answer { .. }) || prompt.is_some(),
            "{}: an answer without a prompt (keys: {}); name the column that groups answers with \
             --group-field",
            at(),
            record::keys(&record)
        );
        given.items.push(Item { key, subset, prompt, prompt_id: None, body });
    }
    let found = match given.left_out {
        0 => "has no rows".to_owned(),
        count => format!("all {count} rows have no score ({:?} says why)", left_out::COLUMN),
    };
    ensure!(!given.items.is_empty(), "{}: {found}; expected JSON objects with scores", path.display());
    Ok(given)
}

const PAIRED: [[&str; 2]; 2] = [["score_chosen", "score_rejected"], scored::PAIR];

/// The columns with the scores of a record.
enum Columns<'a> {
    /// The scores of the preferred answers and of the others.
    Paired([(&'a str, &'a Value); 2]),
    /// The scores of all answers.
    One(&'a str, &'a Value),
}

/// Returns the columns with the scores of a record, if it has any. In a row that `pcrm score` wrote, these are its
/// own: other columns hold scores of people.
fn columns<'a>(record: &'a Record, fields: &'a GivenFields) -> Option<Columns<'a>> {
    if let Some(field) = &fields.score_field {
        return Some(Columns::One(field, find(record, field)?));
    }
    let pair = |[a, b]: [&'static str; 2]| Some(Columns::Paired([(a, record.get(a)?), (b, record.get(b)?)]));
    let one = |name: &'static str| Some(Columns::One(name, record.get(name)?));
    let own = scored::scored_by(record).and_then(|_| pair(scored::PAIR).or_else(|| one(scored::TEXT)));
    own.or_else(|| PAIRED.into_iter().find_map(pair))
        .or_else(|| ["scores", "score"].into_iter().find_map(one))
}

/// Returns true for a row that `pcrm score` left out: it has a reason and no score. A reason beside a score is of an
/// earlier scoring.
fn is_left_out(record: &Record, fields: &GivenFields) -> bool {
    let is_blank = match columns(record, fields) {
        None => true,
        Some(Columns::Paired(both)) => both.iter().all(|(_, value)| value.is_null()),
        Some(Columns::One(_, value)) => value.is_null(),
    };
    is_blank && record.get(left_out::COLUMN).is_some_and(Value::is_string)
}

fn body(record: &Record, fields: &GivenFields) -> Result<(Body, LengthUnit)> {
    let (name, value) = match columns(record, fields) {
        Some(Columns::Paired([(a, chosen), (b, rejected)])) => {
            let (chosen_list, rejected_list) = (numbers(a, chosen)?, numbers(b, rejected)?);
            return Ok(match (chosen.is_array(), rejected.is_array()) {
                (false, false) => pair(record, chosen_list[0], rejected_list[0]),
                _ => {
                    let correct = [vec![true; chosen_list.len()], vec![false; rejected_list.len()]].concat();
                    set([chosen_list, rejected_list].concat(), Labels::Correct(correct))
                }
            });
        }
        Some(Columns::One(name, value)) => (name, value),
        None => match &fields.score_field {
            Some(field) => (field.as_str(), named(record, field, "--score-field")?),
            None => bail!(
                "no scores (keys: {}); expected score_chosen and score_rejected, scores or score, or \
                 --score-field",
                keys(record)
            ),
        },
    };
    if let Some(models) = value.as_object() {
        let names: Vec<&str> = models.keys().map(String::as_str).collect();
        bail!(
            "{name:?} has several named scores; choose one with --score-field /{name}/NAME: {}",
            names.join(", ")
        );
    }
    let scores = numbers(name, value)?;
    if let (Some(label), [first, second]) = (record.get("label").and_then(Value::as_str), &scores[..]) {
        return match label {
            "A>B" => Ok(pair(record, *first, *second)),
            "B>A" => Ok(pair(record, *second, *first)),
            other => bail!("\"label\" is {other:?}; expected A>B or B>A"),
        };
    }
    if let Some(count) = record.get("num_correct") {
        let right = count.as_u64().filter(|right| (1..=scores.len() as u64).contains(right));
        let right =
            right.with_context(|| format!("\"num_correct\" is {count}; expected 1 to {}", scores.len()))?;
        let correct = (0..scores.len()).map(|at| at < right as usize).collect();
        return Ok(set(scores, Labels::Correct(correct)));
    }
    let Some(human) = fields.human(record)? else {
        bail!(
            "{name:?} alone does not show which answer is better (keys: {}); expected human scores \
             (--human-field names them), num_correct, or label A>B",
            keys(record)
        );
    };
    ensure!(
        human.len() == scores.len(),
        "{} scores and {} human scores; expected equal numbers",
        scores.len(),
        human.len()
    );
    if value.is_array() {
        return Ok(set(scores, Labels::Human(human)));
    }
    let (length, unit) = match record.get("tokens").and_then(Value::as_u64) {
        Some(tokens) => (tokens as usize, LengthUnit::Tokens),
        None => match ANSWERS.iter().find_map(|name| record.get(*name)?.as_str()) {
            Some(text) => (text.split_whitespace().count(), LengthUnit::Words),
            None => (0, LengthUnit::Tokens),
        },
    };
    Ok((Body::Answer { score: scores[0], length, human: human[0] }, unit))
}

fn set(scores: Vec<f64>, labels: Labels) -> (Body, LengthUnit) {
    (Body::Set { scores, lengths: Vec::new(), labels }, LengthUnit::Tokens)
}

fn pair(record: &Record, chosen: f64, rejected: f64) -> (Body, LengthUnit) {
    let pair = PairScore { chosen, rejected, ..PairScore::default() };
    let long = |(chosen_tokens, rejected_tokens, similarity): (usize, usize, f64)| {
        Body::Pair(PairScore { chosen_tokens, rejected_tokens, similarity: Some(similarity), ..pair })
    };
    let count = |name: &str| find(record, name).and_then(Value::as_u64).map(|count| count as usize);
    if let (Some(a), Some(b)) = (count("chosen_tokens"), count("rejected_tokens")) {
        let similarity = if a.max(b) == 0 { 1.0 } else { a.min(b) as f64 / a.max(b) as f64 };
        return (long((a, b, similarity)), LengthUnit::Tokens);
    }
    if let (Some(Value::Array(a)), Some(Value::Array(b))) =
        (record.get("chosen_ids"), record.get("rejected_ids"))
    {
        return (long(own_lengths(a, b)), LengthUnit::Tokens);
    }
    if let (Some(Value::String(a)), Some(Value::String(b))) = (record.get("chosen"), record.get("rejected")) {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        return (long(own_lengths(&words(a), &words(b))), LengthUnit::Words);
    }
    (Body::Pair(pair), LengthUnit::Tokens)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parsed(record: Value, fields: &GivenFields) -> Result<Body> {
        Ok(body(record.as_object().unwrap(), fields)?.0)
    }

    /// Protects: every documented form is recognised.
    #[test]
    fn forms_are_distinguished() {
        let plain = GivenFields::default();
        for record in [
            json!({"score_chosen": 2, "score_rejected": 1.5}),
            json!({"chosen_score": 2, "rejected_score": 1.5, "prompt": "p"}),
            json!({"label": "B>A", "scores": [1.5, 2]}),
        ] {
            let Body::Pair(pair) = parsed(record, &plain).unwrap() else { panic!("no pair") };
            assert_eq!((pair.chosen, pair.rejected), (2.0, 1.5));
        }
        for record in [
            json!({"score_chosen": [3], "score_rejected": [1, 2]}),
            json!({"scores": [[3], [1], [2]], "num_correct": 1}),
        ] {
            let Body::Set { scores, labels, .. } = parsed(record, &plain).unwrap() else { panic!("no set") };
            assert_eq!((scores, labels), (vec![3.0, 1.0, 2.0], Labels::Correct(vec![true, false, false])));
        }
        let fields = GivenFields {
            human_field: Some("/scores/overall".into()),
            score_field: Some("r".into()),
            ..plain
        };
        let record = json!({"r": 0.5, "scores": {"overall": 4}, "output": "a b c"});
        assert!(matches!(
            parsed(record, &fields).unwrap(),
            Body::Answer { score: 0.5, length: 3, human: 4.0 }
        ));
    }

    /// Protects: in a row that `pcrm score` wrote, the model's scores are its columns, not those of people beside
    /// them.
    #[test]
    fn a_marked_row_has_the_scores_of_its_model() {
        let by = "pcrm:rm@0123456789abcdef";
        let both = json!({"score_chosen": 8, "score_rejected": 5, "chosen_score": 0.5, "rejected_score": -1});
        let mut marked = both.clone();
        marked["scored_by"] = json!(by);
        for (row, expected) in [(both, (8.0, 5.0)), (marked, (0.5, -1.0))] {
            let Body::Pair(pair) = parsed(row, &GivenFields::default()).unwrap() else { panic!("no pair") };
            assert_eq!((pair.chosen, pair.rejected), expected);
        }
        let text = json!({"prompt": "q", "scores": [1, 2], "score": 0.5, "rating": 4, "scored_by": by});
        let read = parsed(text, &GivenFields::default()).unwrap();
        assert!(matches!(read, Body::Answer { score: 0.5, human: 4.0, .. }), "{read:?}");
    }

    /// Protects: a row is left out if its scores are null or absent, not if a reason of an earlier scoring is beside
    /// them.
    #[test]
    fn rows_with_scores_are_not_left_out() {
        for (scores, expected) in [
            (json!({}), true),
            (json!({"chosen_score": null, "rejected_score": null, "score": 3}), true),
            (json!({"score": null}), true),
            (json!({"chosen_score": 1, "rejected_score": 0}), false),
            (json!({"chosen_score": 1, "rejected_score": null}), false),
            (json!({"score": 0}), false),
        ] {
            let mut row = scores.as_object().unwrap().clone();
            assert!(!is_left_out(&row, &GivenFields::default()), "{scores} without a reason");
            row.insert(left_out::COLUMN.to_owned(), "600 tokens".into());
            assert_eq!(is_left_out(&row, &GivenFields::default()), expected, "{scores}");
        }
    }

    /// Protects: lengths are counted in token ids if present, else in words, from the point where the answers
    /// differ.
    #[test]
    fn lengths_come_from_what_is_there() {
        let ids = json!({"score_chosen": 1, "score_rejected": 0, "chosen_ids": [1, 2, 3], "rejected_ids": [1, 5],
            "chosen": "a", "rejected": "b"});
        let Body::Pair(pair) = parsed(ids, &GivenFields::default()).unwrap() else { panic!("no pair") };
        assert_eq!((pair.chosen_tokens, pair.rejected_tokens, pair.similarity), (2, 1, Some(0.5)));
        let words = json!({"score_chosen": 1, "score_rejected": 0, "chosen": "q a b", "rejected": "q c"});
        let (Body::Pair(pair), unit) = body(words.as_object().unwrap(), &GivenFields::default()).unwrap()
        else {
            panic!("no pair")
        };
        assert_eq!((pair.chosen_tokens, pair.rejected_tokens, unit), (2, 1, LengthUnit::Words));
    }

    /// Protects: errors name what was found and what was expected.
    #[test]
    fn misfits_are_explained() {
        for (record, expected) in [
            (json!({"a": 1}), "no scores (keys: a)"),
            (json!({"score": 1}), "does not show which answer is better"),
            (
                json!({"score_chosen": "x", "score_rejected": 1}),
                "\"score_chosen\" is \"x\"; expected a number",
            ),
            (json!({"scores": [1, 2], "label": "A=B"}), "expected A>B or B>A"),
            (json!({"scores": {"m": [1, 2]}}), "--score-field /scores/NAME: m"),
            (json!({"scores": [1, 2], "num_correct": 3}), "\"num_correct\" is 3; expected 1 to 2"),
            (json!({"scores": [1, 2], "ratings": [1]}), "2 scores and 1 human scores"),
        ] {
            let error = format!("{:#}", parsed(record, &GivenFields::default()).unwrap_err());
            assert!(error.contains(expected), "{error}");
        }
    }
}
