//! `pcrm eval reward`: evaluates a reward model from its weights or from scores in a file.

mod args;
mod cache;
mod columns;
mod comparisons;
mod constraint;
mod dpo;
mod fields;
mod given;
mod items;
mod scoring;
mod sets;
mod shown;

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use clap::Subcommand;
use pcrm_eval::{Bootstrap, Evaluation, LengthUnit, RatingsReport, RewardReport};
use serde_json::Value;

pub use self::args::EvalRewardArgs;
use self::cache::{ScoreCache, users_folder};
pub use self::comparisons::{EvalComparisonsArgs, comparisons};
use self::constraint::constraint_of;
pub use self::dpo::{EvalDpoArgs, dpo};
use self::fields::GivenFields;
use self::items::{Item, evaluation, in_common_of_all};
use self::scoring::{LoadedScorer, Scoring, ScoringData};
use self::shown::Shown;
use crate::dataset::spare_inputs;
use crate::hub::Weights;
use crate::left_out;
use crate::priors::priors;
use crate::progress::say;
use crate::report::data::Source;
use crate::report::evaluation as page;
use crate::usage::usage;
use crate::warnings::Warnings;

/// Subcommands of `pcrm eval`.
#[derive(Debug, Subcommand)]
pub enum EvalVerb {
    /// Evaluate reward models: accuracy, calibration, bias, agreement with people, benchmarks, comparisons
    Reward(Box<EvalRewardArgs>),
    /// Evaluate a policy by its implicit reward: accuracy, calibration, length, KL to its reference
    Dpo(Box<EvalDpoArgs>),
    /// Merge comparisons made by `pcrm compare`: more seeds, other data
    Comparisons(EvalComparisonsArgs),
}

/// Evaluates a reward model.
///
/// # Errors
/// Fails if an option or a file is invalid; nothing is written then.
pub fn reward(args: &EvalRewardArgs) -> Result<()> {
    usage(args.check())?;
    args.warn_of_few_draws();
    let mut warnings = Warnings::default();
    let (first, others) = match (&args.scores, &args.model) {
        (Some(scores), _) => {
            let first = Scored::given(scores, &args.fields, &mut warnings)?;
            let others = args.compare.iter().map(|other| {
                ensure!(
                    !other.is_dir(),
                    "--compare {}: is a folder; expected a file of scores, as with --scores",
                    other.display()
                );
                Scored::given(other, &args.others_fields(), &mut warnings)
            });
            (first, others.collect::<Result<Vec<_>>>()?)
        }
        (None, Some(model)) => {
            let data = args.hub.data("--data", &args.data)?;
            args.output.iter().try_for_each(|output| spare_inputs("--output", output, &data))?;
            let scoring = args.scoring(&data)?;
            // Refuse a misspelt folder before the first model scores for hours.
            let others = args.compare.iter().filter(|other| !other.is_file()).map(|dir| ("--compare", dir));
            for (option, dir) in std::iter::once(("--model", model)).chain(others) {
                args.hub.model_or_adapter(option, dir, Weights::Read)?;
            }
            let rows = scoring.read(&mut warnings)?;
            let first = args.by_model("--model", model, &scoring, &rows, &mut warnings)?;
            let others = args.compare.iter().map(|other| match other.is_dir() {
                false if other.is_file() => Scored::given(other, &args.others_fields(), &mut warnings),
                _ => args.by_model("--compare", other, &scoring, &rows, &mut warnings),
            });
            (first, others.collect::<Result<Vec<_>>>()?)
        }
        // clap requires one of them.
        (None, None) => anyhow::bail!("expected --model DIR and --data FILE, or --scores FILE"),
    };
    let (constraint, sources) = (first.constraint.clone(), first.sources.clone());
    let bootstrap = Bootstrap { resamples: args.bootstrap, seed: args.machine.seed, ..Bootstrap::default() };
    let (before, unit) = (first.items.len(), first.unit);
    let units: Vec<LengthUnit> = others.iter().map(|other| other.unit).collect();
    let (ours, theirs) =
        in_common_of_all(first.items, others.into_iter().map(|other| other.items).collect())?;
    if ours.len() < before {
        say(&format!("compared on the {} of {before} rows in common", ours.len()));
    }
    let ours = evaluation(&ours, unit)?;
    let theirs = theirs.iter().zip(units).map(|(items, unit)| evaluation(items, unit));
    let theirs: Vec<Evaluation> = theirs.collect::<Result<_>>()?;
    let (name, other_names) = args.names();
    let names: Vec<&str> = std::iter::once(&name).chain(&other_names).map(String::as_str).collect();
    let shown = Shown { args, constraint: None, warnings: &warnings };
    if let Some(report) = RatingsReport::beside(&ours, &theirs, &bootstrap)? {
        let page = page::Ratings { models: &names, report: &report, warnings: warnings.all() };
        return shown.show(&report, || Ok(page::ratings(&page)), || report.table(&names));
    }
    let report = RewardReport::beside(&ours, &theirs, &bootstrap)?;
    let page = page::EvaluationPage {
        model: &name,
        others: &other_names,
        scores: args.scores.as_deref(),
        constraint: constraint.as_ref(),
        report: &report,
        pairs: ours.pairs(),
        warnings: warnings.all(),
        sources: &sources,
    };
    let shown = Shown { constraint: constraint.clone(), ..shown };
    shown.show(&report, || page::document(&page), || report.table(&names))
}

/// The rows scored by one model.
struct Scored {
    items: Vec<Item>,
    unit: LengthUnit,
    constraint: Option<Value>,
    sources: Vec<Source>,
}

impl Scored {
    fn given(path: &Path, fields: &GivenFields, warnings: &mut Warnings) -> Result<Self> {
        let given = given::read(path, fields)?;
        say(&format!("{} rows with scores from {}", given.items.len(), path.display()));
        let rows = given.items.len() + given.left_out;
        match left_out::share(given.left_out, rows) {
            Some(share) => warnings.add(format!(
                "{} of {rows} rows ({share}) of {} have no score, since pcrm score left them out",
                given.left_out,
                path.display()
            )),
            None if given.left_out > 0 => say(&format!("{} rows have no score", given.left_out)),
            None => {}
        }
        Ok(Self { items: given.items, unit: given.unit, constraint: None, sources: Vec::new() })
    }
}

impl EvalRewardArgs {
    fn scoring<'a>(&'a self, data: &'a [PathBuf]) -> Result<Scoring<'a>> {
        Ok(Scoring {
            data,
            reading: &self.reading,
            fields: &self.fields,
            micro_tokens: self.micro_tokens,
            priors: priors(&self.machine, None)?,
        })
    }

    fn by_model(
        &self,
        option: &str,
        model: &Path,
        scoring: &Scoring<'_>,
        rows: &ScoringData,
        warnings: &mut Warnings,
    ) -> Result<Scored> {
        let backend = self.machine.open()?;
        let dir = &*self.hub.model_or_adapter(option, model, Weights::Read)?;
        let quantise = self.storage.for_model(dir);
        let (model, tokenizer) = self.machine.trained(backend.as_ref(), dir, quantise)?;
        let (constraint, whose) = constraint_of(&model, self.constraint.as_deref())?;
        let cache = match (&self.cache, self.no_cache) {
            (_, true) => ScoreCache::default(),
            (Some(folder), _) => ScoreCache::open(folder, dir, &self.machine, quantise)?,
            (None, _) => ScoreCache::open(&users_folder()?, dir, &self.machine, quantise)?,
        };
        let tagged = constraint.to_tagged()?;
        let mut scorer = LoadedScorer { model, tokenizer, constraint, whose, cache };
        let (items, sources) = scoring.score(rows, &mut scorer, warnings)?;
        Ok(Scored { items, unit: LengthUnit::Tokens, constraint: Some(tagged), sources })
    }
}
