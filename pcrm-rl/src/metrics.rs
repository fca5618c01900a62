//! Measures of steps and evaluations, under TRL's names, and the file that keeps them.
//!
//! `loss` is what training minimises, as TRL's `loss` is: under a constraint it is `ranking_loss` + `constraint_loss` (and
//! the centring term), so it cannot be compared with that of another constraint. `ranking_loss` can: it is what
//! Bradley–Terry calls the loss. Evaluations also have `coin_loss` and `coin_ranking_loss`, both losses of a model that
//! guesses (equal scores) on the same pairs under the same bounds.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use pcrm_core::Error;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Result;
use crate::tensorboard::{self, EventFile};

/// The measures of a model on a batch of pairs.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Measures {
    /// The whole loss.
    pub loss: f64,
    /// Its part −ln σ(Δ), which alone can be compared across constraints.
    pub ranking_loss: f64,
    /// Its part −ln σ(Δ* − Δ).
    pub constraint_loss: f64,
    /// The whole loss of equal scores under the same bounds; of evaluations only.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub coin_loss: Option<f64>,
    /// The ranking loss of equal scores: ln 2 of plain pairs, more of whole rankings and under margins; of evaluations
    /// only.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub coin_ranking_loss: Option<f64>,
    /// Share of pairs with Δ > 0; a tie counts one half.
    pub accuracy: f64,
    /// Mean Δ.
    pub margin: f64,
    /// Standard deviation of Δ over the pairs, dividing by their number.
    #[serde(default)]
    pub margin_std: f64,
    /// The lowest score.
    pub min_reward: f64,
    /// The mean score.
    pub mean_reward: f64,
    /// The highest score.
    pub max_reward: f64,
    /// Mean Δ* of the pairs that have one, as it was in force.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub bound: Option<f64>,
    /// Share of pairs with Δ > Δ*, among those that have a bound.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub beyond_bound: Option<f64>,
}

/// Sums of measures, pair by pair.
#[derive(Debug, Clone, Default)]
pub struct Gathered {
    sums: Measures,
    coin: Option<(f64, f64)>,
    margins: Spread,
    pairs: usize,
    range: Option<(f64, f64)>,
    bounded: usize,
    beyond: usize,
    bound: f64,
}

impl Gathered {
    /// Adds one pair's last scores.
    pub fn pair(&mut self, chosen: f32, rejected: f32, bound: f32) {
        let (chosen, rejected, bound) = (f64::from(chosen), f64::from(rejected), f64::from(bound));
        let margin = chosen - rejected;
        self.pairs += 1;
        self.sums.margin += margin;
        self.margins.add(margin);
        self.sums.mean_reward += (chosen + rejected) / 2.0;
        self.sums.accuracy += match margin {
            margin if margin > 0.0 => 1.0,
            0.0 => 0.5,
            _ => 0.0,
        };
        let (low, high) = self.range.unwrap_or((f64::INFINITY, f64::NEG_INFINITY));
        self.range = Some((low.min(chosen.min(rejected)), high.max(chosen.max(rejected))));
        if bound.is_finite() {
            self.bounded += 1;
            self.bound += bound;
            self.beyond += usize::from(margin > bound);
        }
    }

    /// Adds parts of the loss; the parts of one batch add up to the batch's loss.
    pub fn loss(&mut self, total: f64, ranking: f64, constraint: f64) {
        self.sums.loss += total;
        self.sums.ranking_loss += ranking;
        self.sums.constraint_loss += constraint;
    }

    /// Adds the same parts of the loss of equal scores.
    pub fn coin_loss(&mut self, total: f64, ranking: f64) {
        let (before, ranking_before) = self.coin.unwrap_or_default();
        self.coin = Some((before + total, ranking_before + ranking));
    }

    /// The measures of all that was added; `batches` is the number of whole losses.
    pub fn measures(&self, batches: usize) -> Measures {
        let (pairs, batches) = (self.pairs.max(1) as f64, batches.max(1) as f64);
        let (low, high) = self.range.unwrap_or_default();
        let bounded = |sum: f64| (self.bounded > 0).then(|| sum / self.bounded as f64);
        Measures {
            loss: self.sums.loss / batches,
            ranking_loss: self.sums.ranking_loss / batches,
            constraint_loss: self.sums.constraint_loss / batches,
            coin_loss: self.coin.map(|(total, _)| total / batches),
            coin_ranking_loss: self.coin.map(|(_, ranking)| ranking / batches),
            accuracy: self.sums.accuracy / pairs,
            margin: self.sums.margin / pairs,
            margin_std: self.margins.std(),
            min_reward: low,
            mean_reward: self.sums.mean_reward / pairs,
            max_reward: high,
            bound: bounded(self.bound),
            beyond_bound: bounded(self.beyond as f64),
        }
    }
}

/// The standard deviation of numbers that come one by one (B. P. Welford, Technometrics 1962).
#[derive(Debug, Clone, Copy, Default)]
struct Spread {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Spread {
    fn add(&mut self, value: f64) {
        self.count += 1.0;
        let before = value - self.mean;
        self.mean += before / self.count;
        self.squares += before * (value - self.mean);
    }

    fn std(&self) -> f64 {
        (self.squares / self.count.max(1.0)).sqrt()
    }
}

/// One line of `metrics.jsonl` about training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepMetrics {
    /// Steps made.
    pub step: u64,
    /// Epochs made, in parts.
    pub epoch: f64,
    /// The batch's measures before the step.
    #[serde(flatten)]
    pub measures: Measures,
    /// √Σ g², before clipping.
    pub grad_norm: f64,
    /// The learning rate of the step.
    pub learning_rate: f64,
    /// How many times as loose as at the end of training the step's bounds were, where that changes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub bound_factor: Option<f64>,
    /// Tokens seen since the beginning, every prompt counted twice and no padding, as TRL counts them.
    pub num_tokens: u64,
    /// Such tokens per second.
    pub tokens_per_second: f64,
    /// Share of the padded batch that was not computed: padding and repeated prompts.
    pub padding_avoided: f64,
}

/// `metrics.jsonl`: a line per logged step and per evaluation; and the same for TensorBoard, in the folder
/// `tensorboard` beside it.
#[derive(Debug)]
pub struct MetricsFile {
    path: PathBuf,
    file: File,
    events: Option<EventFile>,
}

impl MetricsFile {
    /// Opens the file of a run that has made `step` steps, and drops lines of later steps: they will come again.
    /// So will an evaluation of this step where it is owed.
    ///
    /// # Errors
    /// The disk's.
    pub fn open(path: &Path, step: u64, evaluation_owed: bool) -> Result<Self> {
        let mut kept = Vec::new();
        if let Ok(file) = File::open(path) {
            for line in BufReader::new(file).lines() {
                let line = line.map_err(Error::io(path))?;
                let Ok(value) = serde_json::from_str::<Value>(&line) else { continue };
                let again = evaluation_owed && value.get("eval_loss").is_some();
                let stays = |made: u64| made < step || (made == step && !again);
                if value["step"].as_u64().is_some_and(stays) {
                    kept.push(line);
                }
            }
        }
        let mut text = kept.join("\n");
        if !text.is_empty() {
            text.push('\n');
        }
        pcrm_core::model::weights::write(path, text.as_bytes())?;
        let file = OpenOptions::new().append(true).open(path).map_err(Error::io(path))?;
        let kept: Vec<Value> = kept.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let events = EventFile::open(&path.with_file_name(tensorboard::FOLDER), &kept);
        let events = events.map_err(|error| tracing::warn!("no events for TensorBoard: {error}")).ok();
        Ok(Self { path: path.to_path_buf(), file, events })
    }

    /// Appends a line; what cannot be told TensorBoard is a warning.
    ///
    /// # Errors
    /// The disk's.
    pub fn line(&mut self, value: &impl Serialize) -> Result<()> {
        let value = serde_json::to_value(value).map_err(|error| Error::file(&self.path, error))?;
        self.file.write_all(format!("{value}\n").as_bytes()).map_err(Error::io(&self.path))?;
        if let Some(events) = &mut self.events
            && let Err(error) = events.line(&value)
        {
            tracing::warn!("no more events for TensorBoard: {error}");
            self.events = None;
        }
        Ok(())
    }
}

/// All lines of a metrics file.
///
/// # Errors
/// A file that cannot be read or a line that is no JSON.
pub fn read(path: &Path) -> Result<Vec<Value>> {
    let text = fs::read_to_string(path).map_err(Error::io(path))?;
    let parse = |(at, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|error| {
            Error::Line { path: path.to_path_buf(), line: at as u64 + 1, message: error.to_string() }.into()
        })
    };
    text.lines().enumerate().map(parse).collect()
}
