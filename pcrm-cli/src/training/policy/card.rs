//! The model card of a trained language model.

use std::path::{Path, PathBuf};

use pcrm_core::data::report::Report;
use pcrm_rl::options::TrainerConfig;
use pcrm_rl::order::BatchSize;
use serde_json::Value;

use crate::card::{self, Card, CardOutcome, ModelKind, TrainingMethod};
use crate::chain::in_full;
use crate::progress::say;
use crate::report::run::constraint;
use crate::report::{Fact, count};
use crate::training::DataOptions;
use crate::training::folder::name_of;

/// A finished run with the contents of its card.
pub struct FinishedRun<'a> {
    pub method: TrainingMethod,
    /// The model and data as fetched.
    pub source: DataOptions<'a>,
    /// The model and data as the user named them, Hub repositories included.
    pub given: (&'a Path, &'a [PathBuf]),
    pub output: &'a Path,
    /// The files read, a line each.
    pub files: Vec<String>,
    /// The constraint in its tagged form, for methods that have one.
    pub constraint: Option<&'a Value>,
    pub training: Vec<Fact>,
    pub measures: Vec<Fact>,
    /// The kind of held-out items.
    pub held_out: &'static str,
}

impl FinishedRun<'_> {
    /// Writes the card into the model's folder. A card that cannot be written only gives a warning.
    pub fn write(self) {
        match card::write(self.output, &self.card()) {
            Ok(CardOutcome::Yes) => {}
            Ok(CardOutcome::LeftAlone) => {
                say("README.md was written or changed by hand and is kept; no model card is written")
            }
            Err(error) => tracing::warn!("no model card: {}", in_full(&error)),
        }
    }

    fn card(&self) -> Card {
        let (model, data) = self.given;
        let random = self.source.random_init;
        let base = card::repository(model);
        Card {
            kind: ModelKind::Policy(self.method),
            name: name_of(self.output),
            base: base.clone().filter(|_| !random),
            begun_from: match (base, random) {
                (Some(name), _) => name,
                (None, false) => name_of(self.source.model),
                (None, true) => String::new(),
            },
            license: if random { Vec::new() } else { card::license(self.source.model) },
            datasets: data.iter().filter_map(|path| card::repository(path)).collect(),
            files: self.files.clone(),
            constraint: self
                .constraint
                .and_then(|constraint| constraint["kind"].as_str())
                .unwrap_or_default()
                .to_owned(),
            settings: self.constraint.map(constraint).unwrap_or_default(),
            adapter: self.output.join("adapter_config.json").exists(),
            training: self.training.clone(),
            measures: self.measures.clone(),
            held_out: self.held_out,
            ..Card::default()
        }
    }
}

/// Returns a line for each file that was read: its name and the rows kept.
pub fn files<'r>(reports: impl IntoIterator<Item = &'r Report>) -> Vec<String> {
    let line = |file: &pcrm_core::data::report::FileReport| {
        format!("{}: {} of {} rows", name_of(&file.file), count(file.kept as u64), count(file.rows as u64))
    };
    reports.into_iter().flat_map(|report| &report.files).map(line).collect()
}

/// Returns the settings that every trainer has, after `last`, the final line of its metrics. `unit` names the
/// items of a step: pairs, completions, answers, prompts.
pub fn settings(trainer: &TrainerConfig, last: Option<&Value>, unit: &str) -> Vec<Fact> {
    let of = |name: &str| last.and_then(|line| line[name].as_f64()).unwrap_or(0.0);
    let batch = match trainer.batch {
        BatchSize::Pairs(items) => count(items as u64),
        BatchSize::Tokens(tokens) => format!("up to {} tokens", count(tokens as u64)),
    };
    let unit = format!("{}{} per step", unit[..1].to_uppercase(), &unit[1..]);
    vec![
        Fact::new("Steps", format!("{} ({:.2} epochs)", count(of("step") as u64), of("epoch"))),
        Fact::new(unit, batch),
        Fact::new("Learning rate", format!("{:e}", trainer.learning_rate)),
        Fact::new("Seed", trainer.seed.to_string()),
    ]
}
