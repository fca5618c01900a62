//! The report of a training run: its metrics, data, model and options.

pub mod language;
mod plots;
pub mod preference;
mod settings;
mod summary;

use std::collections::HashSet;

use pcrm_core::data::preference::Verdict;
use pcrm_eval::accuracy::{LEVEL, Share};
use pcrm_eval::table::percents;
use pcrm_rl::crossfit::Evidence;
use pcrm_rl::pairs::Pairs;
use serde_json::Value;

use self::plots::plots;
use self::summary::{facts, figures, notes};
use super::calibration;
use super::curves::Curves;
use super::data::{self, Source};
use super::document::{Block, Document, Fact, Section, Severity, Table};
use super::number::{count, percent};

pub use self::settings::{constraint, evidence, is_setting, setting};

/// The way a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// All steps were completed.
    Finished,
    /// Evaluations stopped improving and patience ran out.
    Early,
    /// The run was stopped and can be resumed.
    Interrupted,
    /// The run failed with this message.
    Failed(String),
}

/// The held-out pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldOut {
    /// The number of pairs with a preferred answer, over which accuracy is averaged.
    pub pairs: usize,
    /// The number of their prompts.
    pub prompts: usize,
}

impl HeldOut {
    /// Counts the held-out pairs with a preferred answer, and their prompts.
    pub fn of(eval: &Pairs) -> Self {
        let preferred = || eval.pairs().filter(|pair| pair.verdict == Verdict::Preferred);
        // A pair without a prompt counts as a prompt of its own.
        let prompts: HashSet<&str> =
            preferred().map(|pair| pair.prompt_text).filter(|text| !text.is_empty()).collect();
        let alone = preferred().filter(|pair| pair.prompt_text.is_empty()).count();
        Self { pairs: preferred().count(), prompts: prompts.len() + alone }
    }

    /// Returns a share of the pairs with its interval. Pairs with the same prompt are not independent, so
    /// shared prompts give the interval for as many trials as prompts, the widest that such data can need.
    pub fn share(&self, share: f64) -> Option<Share> {
        let trials = self.prompts.min(self.pairs);
        let successes = share * trials as f64;
        // A mean of halves and wholes: rounding undoes the division.
        let successes = if trials == self.pairs { (2.0 * successes).round() / 2.0 } else { successes };
        let found = Share::wilson(successes.clamp(0.0, trials as f64), trials, LEVEL).ok()?;
        Some(Share { value: share, ..found })
    }

    /// Describes the number of pairs, and of prompts if there are fewer.
    pub fn text(&self) -> String {
        let pairs = format!("{} pair{}", count(self.pairs as u64), if self.pairs == 1 { "" } else { "s" });
        match self.prompts < self.pairs {
            true => format!("{pairs} of {} prompts", count(self.prompts as u64)),
            false => pairs,
        }
    }
}

/// A constraint that the run fitted to its own data.
#[derive(Debug, Clone, Copy)]
pub struct FittedTo<'a> {
    /// The requested constraint.
    pub asked: &'a Value,
    /// The evidence it was fitted to.
    pub evidence: &'a Evidence,
}

/// The content of the page of a reward model's training.
#[derive(Debug, Clone)]
pub struct RewardPage<'a> {
    /// The name of the run.
    pub name: String,
    /// The base model.
    pub base: String,
    /// The constraint with the settings used for the pairs.
    pub constraint: &'a Value,
    /// The unfitted constraint and its evidence, if the run fitted it.
    pub fitted: Option<FittedTo<'a>>,
    /// The metrics of all steps.
    pub curves: Curves,
    /// The step whose weights are the model.
    pub kept: Option<u64>,
    /// The way it ended.
    pub ending: Ending,
    /// The warnings it printed.
    pub warnings: &'a [String],
    /// The data it read.
    pub sources: &'a [Source],
    /// The number of training pairs.
    pub pairs: usize,
    /// The held-out pairs.
    pub held_out: Option<HeldOut>,
    /// Δ* of the training pairs; infinity for none.
    pub bounds: &'a [f32],
    /// The number of parameters.
    pub parameters: usize,
    /// The threshold for clipping the gradient norm.
    pub max_grad_norm: Option<f64>,
    /// All options, as TOML.
    pub options: &'a str,
}

impl RewardPage<'_> {
    /// Returns the evaluation of the saved weights.
    pub fn evaluation(&self) -> Option<&Value> {
        match self.kept {
            Some(step) => self.curves.evaluation(step),
            None => self.curves.last_evaluation(),
        }
    }

    /// Returns the accuracy of that evaluation with its interval.
    pub fn accuracy(&self) -> Option<Share> {
        self.held_out?.share(self.evaluation()?["eval_accuracy"].as_f64()?)
    }

    /// Returns the requested constraint: `calibrated` if the run used a `length_ratio` that it fitted.
    pub fn asked(&self) -> &Value {
        self.fitted.map_or(self.constraint, |fitted| fitted.asked)
    }

    /// Returns the step and the loss of the evaluation with the lowest loss.
    pub fn best(&self) -> Option<(u64, f64)> {
        let best = self.curves.eval("loss").into_iter().min_by(|a, b| a.1.total_cmp(&b.1))?;
        Some((best.0 as u64, best.1))
    }
}

/// Returns the report of a run.
pub fn document(run: &RewardPage<'_>) -> Document {
    let mut summary = vec![Block::Figures(figures(run))];
    summary.extend(run.warnings.iter().map(|text| Block::Note(Severity::Warning, text.clone())));
    summary.extend(notes(run));
    let mut sections = vec![Section::open("", summary)];
    if run.curves.last().is_some() {
        let plots = plots(run).into_iter().filter(|plot| plot.layers.iter().any(|layer| !layer.is_empty()));
        sections.push(Section::open("Course of training", vec![Block::Plots(plots.collect())]));
    }
    sections.push(Section::open("Model", vec![Block::Facts(facts(run))]));
    sections.extend(run.fitted.map(|fitted| calibrated(run.constraint, fitted)));
    sections.push(Section::open("Data", data::blocks(run.sources)));
    sections.push(Section::closed("All options", vec![Block::Table(options(run.options))]));
    let kind = |tagged: &Value| tagged["kind"].as_str().unwrap_or("?").to_owned();
    let fitted = run.fitted.map(|_| format!(", fitted as {}", kind(run.constraint))).unwrap_or_default();
    Document {
        title: format!("Reward model {}", run.name),
        about: format!("Trained from {} with the constraint {}{fitted}.", run.base, kind(run.asked())),
        sections,
    }
}

/// Returns the evidence for a constraint that the run fitted.
fn calibrated(constraint: &Value, fitted: FittedTo<'_>) -> Section {
    let FittedTo { asked, evidence } = fitted;
    let accuracy = evidence.accuracy;
    let mut blocks = vec![Block::Text(format!(
        "Judges ({}) prefer the chosen answer in {} of {} pairs (95 %: {}).",
        evidence.judges,
        percent(accuracy.value),
        count(evidence.pairs as u64),
        percents(&accuracy.interval)
    ))];
    blocks.extend(
        self::evidence(constraint).map(|text| Block::Note(Severity::Info, format!("Fitted to {text}."))),
    );
    match evidence.calibration.as_ref().and_then(calibration::read) {
        Some(calibration) => blocks.extend(calibration::blocks(asked, constraint, &calibration)),
        None => blocks.push(Block::Facts(vec![
            Fact::new("As requested", self::constraint(asked)),
            Fact::new("Fitted", self::constraint(constraint)),
        ])),
    }
    Section::open("The constraint's evidence", blocks)
}

fn options(toml: &str) -> Table {
    let mut table =
        Table::of_text("config.toml in the run's folder, for use with --config", &["option", "value"]);
    let parsed: toml::Table = toml.parse().unwrap_or_default();
    table.rows = parsed.into_iter().map(|(name, value)| vec![name, shown(&value)]).collect();
    table
}

fn shown(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Array(values) => values.iter().map(shown).collect::<Vec<_>>().join(", "),
        value => value.to_string(),
    }
}
