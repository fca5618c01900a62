//! Files that a run leaves for readers besides its model: `report.html` and a model card.

use anyhow::Error;
use pcrm_rl::metrics;
use pcrm_rl::offline::Outcome;
use pcrm_rl::pairs::Pairs;
use pcrm_rl::train::DpoOptions;
use serde_json::Value;

use super::DpoArgs;
use crate::card::TrainingMethod;
use crate::progress::say;
use crate::report::curves::Curves;
use crate::report::data::Source;
use crate::report::run::{FittedTo, HeldOut, preference};
use crate::report::{self, Fact, count};
use crate::training::folder::{base_name, name_of};
use crate::training::policy::card::{self, FinishedRun};
use crate::warnings::Warnings;

/// A run with the contents of its report.
pub(super) struct Record<'a> {
    pub args: &'a DpoArgs,
    /// The options as given, with Hub repositories by name.
    pub given: &'a DpoArgs,
    pub options: &'a DpoOptions,
    pub constraint: &'a Value,
    /// True if the policy is compared with a reference.
    pub has_reference: bool,
    /// The requested constraint and the evidence, if the run fitted it.
    pub fitted: Option<FittedTo<'a>>,
    pub resolved: &'a str,
    pub max_length: usize,
    pub sources: &'a [Source],
    pub parameters: usize,
    pub train: &'a Pairs,
    pub eval: Option<&'a Pairs>,
}

impl Record<'_> {
    /// Writes both over all steps in `metrics.jsonl`, including those before a resume, and adds a warning if
    /// preferred answers became less likely. A file that cannot be written only gives a warning.
    pub fn leave(&self, outcome: Result<&Outcome, &pcrm_rl::Error>, warnings: &mut Warnings) {
        // A run refused before its first step must not overwrite an earlier report.
        if outcome.is_err_and(|error| !error.is_divergence()) {
            return;
        }
        let path = self.args.output.join(report::FILE);
        let lines = metrics::read(&self.args.output.join("metrics.jsonl")).map_err(Error::from);
        let curves = lines.map(Curves::new);
        if let Ok(curves) = &curves {
            let beta = self.has_reference.then_some(self.options.preference.beta);
            preference::falling(curves, beta).into_iter().for_each(|text| warnings.keep(text));
        }
        let run = curves.map(|curves| preference::PreferencePage {
            name: name_of(&self.args.output),
            base: base_name(&self.given.model, self.args.random_init),
            losses: self.losses(),
            reference: match (&self.args.reference, self.has_reference) {
                (Some(named), _) => named.clone(),
                (None, true) => "start: the model before training".to_owned(),
                (None, false) => "none".to_owned(),
            },
            constraint: self.constraint,
            fitted: self.fitted,
            curves,
            ending: outcome,
            warnings: warnings.all(),
            sources: self.sources,
            pairs: self.train,
            held_out: self.eval.map(HeldOut::of),
            parameters: self.parameters,
            max_grad_norm: self.options.trainer.max_grad_norm,
            options: self.resolved,
        });
        if let (Ok(run), Ok(Outcome::Finished { .. })) = (&run, outcome) {
            let trained = FinishedRun {
                method: TrainingMethod::Dpo,
                source: self.args.source(),
                given: (&self.given.model, &self.given.data),
                output: &self.args.output,
                files: card::files(self.sources.iter().map(|source| &source.read)),
                constraint: Some(self.constraint),
                training: self.training(run),
                measures: preference::measures(run),
                held_out: "pairs",
            };
            trained.write();
        }
        if report::write(&path, run.map(|run| preference::document(&run))) {
            say(&format!("report: {}", path.display()));
        }
    }

    fn losses(&self) -> String {
        let loss = &self.options.preference.loss;
        let shown = loss.iter().map(|of| match (loss.len(), of.weight) {
            (1, _) => of.loss.to_string(),
            (_, weight) => format!("{weight}·{}", of.loss),
        });
        shown.collect::<Vec<_>>().join(" + ")
    }

    fn training(&self, run: &preference::PreferencePage<'_>) -> Vec<Fact> {
        let mut facts = vec![
            Fact::new("Loss", run.losses.clone()),
            Fact::new("beta", self.options.preference.beta.to_string()),
            Fact::new("Reference", run.reference.clone()),
            Fact::new("Training pairs", count(self.train.count() as u64)),
            Fact::new("Parameters", count(self.parameters as u64)),
        ];
        facts.extend(card::settings(&self.options.trainer, run.curves.last(), "pairs"));
        facts.push(Fact::new("Max. sequence length, tokens", count(self.max_length as u64)));
        facts.push(Fact::new("dtype", self.args.lora.types(self.args.machine.dtype, &self.args.model)));
        facts
    }
}
