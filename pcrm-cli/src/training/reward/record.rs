//! Files that a run leaves for readers besides its model: `report.html` and a model card.

use std::path::Path;

use anyhow::Error;
use pcrm_core::model::config::CLASS_FILE;
use pcrm_core::model::family::Family;
use pcrm_core::registry::{self, ConstraintPlugin};
use pcrm_eval::table::percents;
use pcrm_rl::metrics;
use pcrm_rl::offline::{Outcome, TrainerConfig};
use pcrm_rl::order::BatchSize;
use pcrm_rl::pairs::Pairs;
use serde_json::Value;

use super::super::folder::{base_name, name_of};
use super::RewardArgs;
use crate::card::{self, Card, CardOutcome, DataForm};
use crate::chain::in_full;
use crate::progress::say;
use crate::report::curves::Curves;
use crate::report::data::Source;
use crate::report::run::{self, Ending, FittedTo, HeldOut, RewardPage};
use crate::report::{self, Fact, count, number, percent};

/// A run with the contents of its records.
pub(super) struct Record<'a> {
    pub args: &'a RewardArgs,
    /// The options as given, with Hub repositories by name.
    pub given: &'a RewardArgs,
    pub config: &'a TrainerConfig,
    pub constraint: &'a Value,
    /// The requested constraint and the evidence, if the run fitted it.
    pub fitted: Option<FittedTo<'a>>,
    pub resolved: &'a str,
    pub max_length: usize,
    pub sources: &'a [Source],
    pub form: DataForm,
    /// The family of the model.
    pub family: &'static Family,
    pub parameters: usize,
    pub train: &'a Pairs,
    pub eval: Option<&'a Pairs>,
}

impl Record<'_> {
    /// Writes both over all steps in `metrics.jsonl`, including those before a resume, with the run's
    /// `warnings` on the page. A file that cannot be written only gives a warning.
    pub fn leave(&self, outcome: Result<&Outcome, &pcrm_rl::Error>, warnings: &[String]) {
        let path = self.args.output.join(report::FILE);
        // A run refused before its first step must not overwrite an earlier report.
        if outcome.is_err_and(|error| !error.is_divergence()) {
            return;
        }
        let lines = metrics::read(&self.args.output.join("metrics.jsonl")).map_err(Error::from);
        let run = lines.map(|lines| self.run(outcome, lines, warnings));
        let card = run.as_ref().ok().filter(|_| matches!(outcome, Ok(Outcome::Finished { .. })));
        if let Some(written) = card.map(|run| card::write(&self.args.output, &self.card(run))) {
            match written {
                Ok(CardOutcome::Yes) => {}
                Ok(CardOutcome::LeftAlone) => {
                    say("README.md was written or changed by hand and is kept; no model card is written")
                }
                Err(error) => tracing::warn!("no model card: {}", in_full(&error)),
            }
        }
        if report::write(&path, run.map(|run| run::document(&run))) {
            say(&format!("report: {}", path.display()));
        }
    }

    fn run<'a>(
        &'a self,
        outcome: Result<&Outcome, &pcrm_rl::Error>,
        lines: Vec<Value>,
        warnings: &'a [String],
    ) -> RewardPage<'a> {
        let (ending, kept) = match outcome {
            Ok(Outcome::Finished { early, saved, .. }) => {
                let ending = if *early { Ending::Early } else { Ending::Finished };
                (ending, Some(*saved))
            }
            Ok(Outcome::Interrupted { .. }) => (Ending::Interrupted, None),
            Err(error) => (Ending::Failed(error.to_string()), None),
        };
        RewardPage {
            name: name_of(&self.args.output),
            base: base_name(&self.given.training.model, self.args.training.random_init),
            constraint: self.constraint,
            fitted: self.fitted,
            curves: Curves::new(lines),
            kept,
            ending,
            warnings,
            sources: self.sources,
            pairs: self.train.count(),
            held_out: self.eval.map(HeldOut::of),
            bounds: &self.train.bounds,
            parameters: self.parameters,
            max_grad_norm: self.config.max_grad_norm,
            options: self.resolved,
        }
    }

    fn card(&self, run: &RewardPage<'_>) -> Card {
        let args = self.args;
        let base = card::repository(&self.given.training.model);
        let kind = self.constraint["kind"].as_str().unwrap_or_default();
        let file = |file: &pcrm_core::data::report::FileReport| {
            format!(
                "{}: {} of {} rows",
                name_of(&file.file),
                count(file.kept as u64),
                count(file.rows as u64)
            )
        };
        Card {
            kind: card::ModelKind::RewardModel,
            name: run.name.clone(),
            base: base.clone().filter(|_| !args.training.random_init),
            begun_from: match (base, args.training.random_init) {
                (Some(name), _) => name,
                (None, false) => name_of(&args.training.model),
                (None, true) => String::new(),
            },
            license: if args.training.random_init { Vec::new() } else { card::license(&args.training.model) },
            datasets: self.given.training.data.iter().filter_map(|path| card::repository(path)).collect(),
            files: self.sources.iter().flat_map(|source| &source.read.files).map(file).collect(),
            constraint: kind.to_owned(),
            constraint_about: registry::find::<ConstraintPlugin>(kind)
                .map_or_else(|_| String::new(), |plugin| plugin.about.to_owned()),
            settings: constraint_text(self.constraint),
            asked: self.fitted.map(|fitted| constraint_text(fitted.asked)),
            training: self.training(run),
            measures: measures(run),
            form: self.form.clone(),
            scored_by_transformers: self.family.scored_by_transformers,
            own_class: self.args.output.join(CLASS_FILE).is_file(),
            ..Card::default()
        }
    }

    fn training(&self, run: &RewardPage<'_>) -> Vec<Fact> {
        let (config, last) = (self.config, run.curves.last());
        let of = |name: &str| last.and_then(|line| line[name].as_f64()).unwrap_or(0.0);
        let batch = match config.batch {
            BatchSize::Pairs(pairs) => count(pairs as u64),
            BatchSize::Tokens(tokens) => format!("up to {} tokens", count(tokens as u64)),
        };
        vec![
            Fact::new("Training pairs", count(run.pairs as u64)),
            Fact::new("Parameters", count(self.parameters as u64)),
            Fact::new("Steps", format!("{} ({:.2} epochs)", count(of("step") as u64), of("epoch"))),
            Fact::new("Tokens seen", count(of("num_tokens") as u64)),
            Fact::new("Pairs per step", batch),
            Fact::new("Learning rate", format!("{:e}", config.learning_rate)),
            Fact::new("Max. sequence length, tokens", count(self.max_length as u64)),
            Fact::new(
                "dtype",
                self.args.training.lora.types(self.args.training.machine.dtype, &self.args.training.model),
            ),
            Fact::new("Seed", config.seed.to_string()),
        ]
        .into_iter()
        .chain(saved_weights(run).map(|step| Fact::new("Saved weights", step)))
        .collect()
    }
}

fn measures(run: &RewardPage<'_>) -> Vec<Fact> {
    let Some(line) = run.evaluation() else { return Vec::new() };
    let of = |name: &str| line[name].as_f64();
    let mut measures = Vec::new();
    if let (Some(accuracy), Some(held_out)) = (run.accuracy(), run.held_out) {
        let name = format!("Accuracy, {}", held_out.text());
        measures.push(Fact::new(name, percent(accuracy.value)).with_note(percents(&accuracy.interval)));
    }
    let beside = |name: &str, coin: &str| match of(coin) {
        Some(coin) => format!("{name} (guessing: {})", number(coin)),
        None => name.to_owned(),
    };
    if let Some(loss) = of("eval_ranking_loss") {
        measures
            .push(Fact::new(beside("Ranking loss, nats per pair", "eval_coin_ranking_loss"), number(loss)));
    }
    if let (Some(loss), Some(_)) = (of("eval_loss"), of("eval_bound")) {
        measures.push(Fact::new(beside("Total loss, with bounds", "eval_coin_loss"), number(loss)));
    }
    for (name, shown) in
        [("eval_margin", "Mean margin"), ("eval_margin_std", "Standard deviation of margins")]
    {
        measures.extend(of(name).map(|value| Fact::new(shown, number(value))));
    }
    measures
        .extend(of("eval_beyond_bound").map(|share| Fact::new("Margins beyond their bound", percent(share))));
    measures
}

/// Returns the step of the saved weights, and the step of the best evaluation if it differs.
fn saved_weights(run: &RewardPage<'_>) -> Option<String> {
    let kept = run.kept?;
    let best = run.best().filter(|(best, _)| *best != kept);
    let best = best.map(|(best, _)| format!("; the held-out loss was lowest after step {}", count(best)));
    Some(format!("step {}{}", count(kept), best.unwrap_or_default()))
}

/// Returns a constraint as JSON, with the names of local files instead of their paths, which are meaningless
/// elsewhere.
fn constraint_text(tagged: &Value) -> String {
    fn shortened(value: &Value) -> Value {
        match value {
            Value::String(text)
                if Path::new(text).is_absolute() || text.contains('/') && Path::new(text).exists() =>
            {
                name_of(Path::new(text)).into()
            }
            Value::Array(values) => values.iter().map(shortened).collect(),
            Value::Object(fields) => {
                fields.iter().map(|(name, value)| (name.clone(), shortened(value))).collect()
            }
            value => value.clone(),
        }
    }
    shortened(tagged).to_string()
}
