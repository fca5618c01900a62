//! The page of `pcrm generate --report`: figures of the answers, and some answers token by token.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Map, Value};

use crate::generation::Policy;
use crate::report::document::{Block, Document, Section, Token, Tokens};
use crate::report::plot::{Axis, Ink, Layer, Mark, Plot};
use crate::report::{Fact, count, number, percent};
use crate::training::folder::name_of;

/// Answers shown at either end.
const SHOWN: usize = 6;
/// Tokens shown of an answer.
const TOKENS: usize = 256;
/// Bars of a histogram.
const BARS: usize = 24;

/// An answer's record with its mean log-probability per token.
type Answer = (f64, Map<String, Value>);

/// Returns the path of the page: the answers' file with `.html` as its extension.
pub(super) fn path(answers: &Path) -> PathBuf {
    answers.with_extension("html")
}

/// Reads the answers of a finished run and returns its page.
///
/// # Errors
/// Fails if the file cannot be read or a line has no log-probabilities.
pub(super) fn document(answers: &Path, policy: &Policy) -> Result<Document> {
    let found = Found::read(answers).with_context(|| answers.display().to_string())?;
    let mut sections = vec![Section::open("", vec![Block::Figures(found.figures())])];
    let plots = vec![
        histogram("Length", "tokens of an answer", &found.lengths),
        histogram("Likelihood", "mean ln p per token", &found.means),
        histogram("Score", "score", &found.scores),
    ];
    let plots = plots.into_iter().flatten().collect();
    sections.push(Section::open("Distribution", vec![Block::Plots(plots)]));
    let legend = "Shades: no shade for a probability of 0.9 or more, then down to 0.5, 0.1, 0.01 and below. A token \
                  shows its log-probability on hover.";
    let texts = |answers: &[Answer]| -> Vec<Block> {
        answers.iter().map(|answer| Block::Tokens(tokens(answer, policy))).collect()
    };
    let mut least = vec![Block::Text(legend.to_owned())];
    least.extend(texts(&found.least));
    sections.push(Section::open("Least likely answers", least));
    sections.push(Section::open("Most likely answers", texts(&found.most)));
    Ok(Document {
        title: format!("Answers {}", name_of(answers)),
        about: format!("{} answers of one language model.", count(found.lengths.len() as u64)),
        sections,
    })
}

/// Figures of all answers, and the extreme ones by likelihood.
#[derive(Default)]
struct Found {
    lengths: Vec<f64>,
    means: Vec<f64>,
    scores: Vec<f64>,
    cut: usize,
    log_prob: f64,
    least: Vec<Answer>,
    most: Vec<Answer>,
}

impl Found {
    fn read(path: &Path) -> Result<Self> {
        let mut found = Self::default();
        for (at, line) in BufReader::new(File::open(path)?).lines().enumerate() {
            let record: Map<String, Value> =
                serde_json::from_str(&line?).with_context(|| format!("line {}", at + 1))?;
            let log_probs = record["log_probs"].as_array().with_context(|| format!("line {}", at + 1))?;
            let sum: f64 = log_probs.iter().filter_map(Value::as_f64).sum();
            let mean = sum / log_probs.len().max(1) as f64;
            found.lengths.push(log_probs.len() as f64);
            found.means.push(mean);
            found.scores.extend(record.get("score").and_then(Value::as_f64));
            found.cut += usize::from(record["finish"] == "length");
            found.log_prob += sum;
            keep(&mut found.least, (mean, record.clone()), |new, old| new < old);
            keep(&mut found.most, (mean, record), |new, old| new > old);
        }
        Ok(found)
    }

    fn figures(&self) -> Vec<Fact> {
        let answers = self.lengths.len().max(1) as f64;
        let tokens: f64 = self.lengths.iter().sum();
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
        let mut figures = vec![
            Fact::new("Answers", count(self.lengths.len() as u64)),
            Fact::new("Mean length", number(mean(&self.lengths))).with_note("tokens"),
            Fact::new("Cut off", percent(self.cut as f64 / answers)).with_note("at --max-tokens"),
            Fact::new("Log-probability per token", number(self.log_prob / tokens.max(1.0)))
                .with_note(format!("perplexity {}", number((-self.log_prob / tokens.max(1.0)).exp()))),
        ];
        if !self.scores.is_empty() {
            figures.push(Fact::new("Mean score", number(mean(&self.scores))));
        }
        figures
    }
}

/// Keeps the best answers by `is_before`, in order.
fn keep(answers: &mut Vec<Answer>, answer: Answer, is_before: fn(f64, f64) -> bool) {
    let at = answers.iter().position(|kept| is_before(answer.0, kept.0)).unwrap_or(answers.len());
    if at < SHOWN {
        answers.insert(at, answer);
        answers.truncate(SHOWN);
    }
}

fn histogram(title: &str, label: &str, values: &[f64]) -> Option<Plot> {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if low >= high || !(high - low).is_finite() {
        return None;
    }
    let width = (high - low) / BARS as f64;
    let mut counts = [0u32; BARS];
    for value in values {
        counts[(((value - low) / width) as usize).min(BARS - 1)] += 1;
    }
    let bars = counts.iter().enumerate().map(|(at, bar)| {
        let from = low + at as f64 * width;
        (from, from + width, f64::from(*bar))
    });
    Some(Plot {
        title: title.to_owned(),
        x: Axis::new(label),
        y: Axis::new("answers"),
        layers: vec![Layer::unnamed(Ink::Blue, Mark::Bars(bars.collect()))],
        ..Plot::default()
    })
}

/// Splits an answer's text by its tokens; a character of several tokens belongs to its last one.
fn tokens((mean, record): &Answer, policy: &Policy) -> Tokens {
    let ids: Vec<u32> =
        record["ids"].as_array().into_iter().flatten().filter_map(|id| Some(id.as_u64()? as u32)).collect();
    let log_probs = record["log_probs"].as_array().into_iter().flatten();
    let mut shown = String::new();
    let tokens = log_probs.take(TOKENS).enumerate().map(|(at, log_prob)| {
        let whole = policy.text(&ids[..(at + 1).min(ids.len())]);
        let whole = whole.trim_end_matches('\u{fffd}');
        let mut text = whole.strip_prefix(shown.as_str()).unwrap_or_default().to_owned();
        shown.push_str(&text);
        if text.is_empty() && at + 1 == ids.len() {
            // The token that ended the answer.
            text = policy.tokenizer.decode(&ids[at..]).unwrap_or_default();
        }
        Token { text, log_prob: log_prob.as_f64().unwrap_or(f64::NEG_INFINITY) }
    });
    let tokens: Vec<Token> = tokens.collect();
    let mut caption = format!("{} per token, {} tokens", number(*mean), ids.len());
    if let Some(score) = record.get("score").and_then(Value::as_f64) {
        caption.push_str(&format!(", score {}", number(score)));
    }
    if record["finish"] == "length" {
        caption.push_str(", cut off");
    }
    Tokens { caption, before: prompt(&record["prompt"]), tokens }
}

/// Returns a prompt as text; messages are joined by line breaks.
fn prompt(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(turns) => {
            let texts = turns.iter().filter_map(|turn| turn["content"].as_str());
            texts.map(|text| format!("{text}\n")).collect()
        }
        other => other.to_string(),
    }
}
