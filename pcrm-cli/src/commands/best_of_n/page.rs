//! The page of `pcrm best-of-n`.

use std::path::Path;

use pcrm_eval::best_of_n::BestOfNPoint;
use serde_json::{Map, Value};

use crate::generation::is_cut_off;
use crate::report::document::{Block, Document, Section, Table};
use crate::report::number;
use crate::report::plot::{Axis, Ink, Layer, Mark, Plot, Whisker};

/// Returns the page of a run: the curve, its numbers, and answers by score.
pub fn document(
    dir: &Path,
    points: &[BestOfNPoint],
    prompts: usize,
    records: &[Map<String, Value>],
) -> Document {
    let at = |point: &BestOfNPoint, estimate: &pcrm_eval::bootstrap::Estimate| {
        Whisker::new((point.kl, estimate.value), estimate.interval)
    };
    let line = |of: fn(&BestOfNPoint) -> Option<&pcrm_eval::bootstrap::Estimate>| -> Vec<(f64, f64)> {
        points.iter().filter_map(|point| Some((point.kl, of(point)?.value))).collect()
    };
    let plot = |title: &str,
                label: &str,
                ink,
                of: fn(&BestOfNPoint) -> Option<&pcrm_eval::bootstrap::Estimate>| Plot {
        title: title.to_owned(),
        about: "Mean over all subsets of the samples, with 95 % intervals over prompts.".to_owned(),
        x: Axis::new("KL = ln n − (n − 1) / n, nats"),
        y: Axis::new(label),
        layers: vec![
            Layer::unnamed(ink, Mark::Line(line(of))),
            Layer::unnamed(
                ink,
                Mark::Intervals(points.iter().filter_map(|point| Some(at(point, of(point)?))).collect()),
            ),
        ],
    };
    let mut plots = vec![plot("Score of the best", "score", Ink::Blue, |point| Some(&point.score))];
    if points.iter().any(|point| point.truth.is_some()) {
        plots.push(plot("True reward of the best", "true reward", Ink::Orange, |point| point.truth.as_ref()));
    }
    let known = points.iter().any(|point| point.truth.is_some());
    let columns = ["n", "KL", "score", "true reward"];
    let mut table = Table::of_numbers("The best of n", &columns[..if known { 4 } else { 3 }]);
    for point in points {
        let mut row = vec![point.n.to_string(), number(point.kl), number(point.score.value)];
        row.extend(point.truth.filter(|_| known).map(|truth| number(truth.value)));
        table.rows.push(row);
    }
    let mut samples = Table::of_text("Answers by score, highest first", &["score", "prompt", "answer"]);
    let mut order: Vec<&Map<String, Value>> =
        records.iter().filter(|record| record["score"].as_f64().is_some()).collect();
    order.sort_by(|a, b| {
        b["score"].as_f64().unwrap_or_default().total_cmp(&a["score"].as_f64().unwrap_or_default())
    });
    let edge = 8.min(order.len() / 2);
    let shown = order[..edge].iter().chain(&order[order.len() - edge..]);
    for record in shown {
        samples.rows.push(vec![
            number(record["score"].as_f64().unwrap_or_default()),
            text(&record["prompt"]),
            text(&record["completion"]),
        ]);
    }
    let cut = match records.iter().filter(|record| is_cut_off(record)).count() {
        0 => String::new(),
        count => format!(" {count} of {} answers were cut off at --max-tokens.", records.len()),
    };
    Document {
        title: format!("Best of n: {}", crate::training::folder::name_of(dir)),
        about: format!("Answers of one policy to {prompts} prompts, chosen by a reward.{cut}"),
        sections: vec![
            Section::open("", vec![Block::Plots(plots)]),
            Section::open("Numbers", vec![Block::Table(table)]),
            Section::open("Answers", vec![Block::Table(samples)]),
        ],
    }
}

/// Formats a prompt or an answer as shortened text.
fn text(value: &Value) -> String {
    let whole = match value {
        Value::String(text) => text.clone(),
        Value::Array(turns) => {
            turns.iter().filter_map(|turn| turn["content"].as_str()).collect::<Vec<_>>().join("\n")
        }
        other => other.to_string(),
    };
    let short: String = whole.chars().take(400).collect();
    if short.len() < whole.len() { format!("{short} …") } else { short }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Protects: answers with whole-number scores are on the page as well.
    #[test]
    fn whole_scores_are_shown() {
        let record = |score: Value, answer: &str| {
            let Value::Object(record) = json!({"score": score, "prompt": "q", "completion": answer}) else {
                panic!("not an object")
            };
            record
        };
        let records = [record(json!(2), "first"), record(json!(-0.5), "second"), record(Value::Null, "none")];
        let page = document(Path::new("x"), &[], 1, &records);
        let Block::Table(table) = &page.sections[2].blocks[0] else { panic!("not a table") };
        let answers: Vec<&str> = table.rows.iter().map(|row| row[2].as_str()).collect();
        assert_eq!(answers, ["first", "second"]);
    }
}
