//! Training reward models from options and files: the folder, the data, the run, and its reports.

mod args;
mod closing;
mod fitted;
mod identity;
mod record;

use anyhow::{Context, Result};
use pcrm_core::model::{ModelConfig, RewardModel};
use pcrm_core::text::Tokenizer;
use pcrm_rl::crossfit::MarginCache;
use pcrm_rl::fingerprint::Fingerprint;
use pcrm_rl::offline::Outcome;
use pcrm_rl::pairs::Pairs;
use pcrm_rl::score::score_pairs;
use pcrm_rl::train::reward::RewardData;
use pcrm_rl::train::{RewardRun, Setting};
use serde_json::Value;

use super::folder::RunFolder;
use super::{Encoded, folder, moment};
use crate::dataset::{bound_warnings, padding};
use crate::interrupt;
use crate::priors::priors;
use crate::processes::resumes;
use crate::progress::{Watch, say};
use crate::report::run::FittedTo;
use crate::usage::{named, usage};
use crate::{config, constraint};
pub use args::{KeepArgs, RewardArgs};
use closing::closing;
pub use fitted::{beginning, fitted_lines, wrong_labels_line};
use identity::{identity, manifest};
use record::Record;

/// A finished run and its held-out pairs.
pub struct TrainedReward {
    /// The constraint with all its numbers.
    pub constraint: Value,
    /// The held-out pairs, with their bounds.
    pub eval: Option<Pairs>,
    /// The trained model.
    pub model: RewardModel,
}

impl TrainedReward {
    /// Returns the held-out pairs and the scores of their preferred and dispreferred answers.
    ///
    /// # Errors
    /// Fails if nothing was held out.
    pub fn scored(&self, micro_tokens: usize) -> Result<(&Pairs, Vec<(f32, f32)>)> {
        let eval = self.eval.as_ref();
        let eval = eval.context("nothing was held out: expected --eval-split or --eval-data")?;
        let sets: Vec<_> = eval.sets.iter().collect();
        Ok((eval, score_pairs(&self.model, &sets, micro_tokens)?))
    }
}

/// Returns the identity of a run before it starts: its options and the content of its files.
///
/// # Errors
/// Fails if an option or a file cannot be used.
pub fn question(args: &RewardArgs) -> Result<Fingerprint> {
    let args = args.fetched()?;
    let max_length = args.training.reading.training_length(&ModelConfig::from_dir(&args.training.model)?)?;
    let constraint = constraint::read(&args.constraint)?.to_tagged()?;
    let mut question = args.options()?.fingerprint();
    question.extend(identity(&args, &constraint, max_length)?);
    Ok(question)
}

/// Trains as `pcrm reward` does; `resolved` is the config file of this run.
///
/// # Errors
/// Fails if an option is invalid, the folder holds another run, a file cannot be read, training fails or
/// Ctrl-C interrupts.
pub fn train(args: &RewardArgs, resolved: &str) -> Result<TrainedReward> {
    let options = args.options()?;
    let file = constraint::file(&args.constraint);
    let mut constraint = usage(constraint::read(&args.constraint))?;
    let resume = resumes(args.resume);
    folder::check(&args.output, resume, &args.training.model)?;
    let backend = args.training.steps.processes.open(&args.training.machine)?;
    moment::fix(backend.collective().as_ref(), &args.output, resume)?;
    let given = args;
    let args = &args.fetched()?;
    let at = || format!("--model {}", args.training.model.display());
    let shape = ModelConfig::from_dir(&args.training.model).with_context(at)?;
    let max_length = usage(args.training.reading.training_length(&shape))?;
    let unread = args.training.source().unread()?;
    let resolved = config::with_option(resolved, "max-length", max_length as i64)?;
    let resolved = config::with_option(&resolved, "learning-rate", options.trainer.learning_rate)?;
    let mut resolved = config::with_lanes(&resolved, options.trainer.lanes)?;
    if file.is_some() {
        // The file may change or disappear, so the run's config keeps its content.
        resolved = config::with_option(&resolved, "constraint", constraint.to_tagged()?.to_string())?;
    }
    let whole = (!args.training.random_init).then_some(&args.training.model);
    let priors = priors(&args.training.machine, whole)?;
    constraint.settle(&priors).context("--constraint")?;
    let tokenizer = Tokenizer::from_dir(&args.training.model).with_context(at)?;
    let base = args.training.source().base();
    let pad = padding(&shape, &tokenizer);
    let Encoded { train, eval, sources, form, mut warnings } =
        args.training.encoded(&tokenizer, pad, max_length)?;
    let asked = constraint.to_tagged()?;
    let mut identity = identity(args, &asked, max_length)?;
    identity.extend(moment::asked());
    let mut fingerprint = options.fingerprint();
    fingerprint.extend(identity.clone());
    let (model, trainer) = (&args.training.model, &options.trainer);
    let held = RunFolder::shared(backend.as_ref(), &args.output, resume, model, &fingerprint, trainer)?;
    let setting = Setting {
        backend: backend.as_ref(),
        base: &base,
        tokenizer: &tokenizer,
        dir: &args.output,
        resume: held.resumes(),
        stop: interrupt::flag()?,
    };
    let data = RewardData { constraint, train, eval, pad, max_length };
    // A resumed run keeps the constraint of its folder, which was already reported when it was fitted.
    let keeps_constraint = held.resumes() && args.output.join("constraint.json").exists();
    let mut watch = Watch::default();
    let run = RewardRun::new(setting, &options, data, &priors, margins(), &mut watch).map_err(named)?;
    let tagged = run.tagged()?;
    if let Some(evidence) = run.evidence.as_ref().filter(|_| !keeps_constraint) {
        fitted_lines(&tagged, evidence).iter().for_each(|line| say(line));
    }
    run.wrong_labels.iter().for_each(|found| say(&wrong_labels_line(found)));
    bound_warnings(&run.train.sets, &run.train.bounds).into_iter().for_each(|text| warnings.add(text));
    unread.unchanged()?;
    // A constraint that was fitted to the pairs is known only now.
    identity.insert("constraint".to_owned(), tagged.clone());
    fingerprint.extend(identity.clone());
    let manifest = manifest(args, &fingerprint, &run.train, run.eval.as_ref());
    watch.describing(held.description(&resolved, manifest));
    let counts = (run.train.count(), run.eval.as_ref().map(Pairs::count));
    say(&beginning((run.trained_parameters(), run.parameters()), counts, &tagged));
    let record = Record {
        args,
        given,
        config: &options.trainer,
        constraint: &tagged,
        fitted: run.evidence.as_ref().map(|evidence| FittedTo { asked: &asked, evidence }),
        resolved: &resolved,
        max_length,
        sources: &sources,
        form,
        family: shape.family,
        parameters: run.parameters(),
        train: &run.train,
        eval: run.eval.as_ref(),
    };
    let trained = run.train(identity, &mut watch);
    let lines = trained.as_ref().map_or_else(|_| Vec::new(), |end| closing(end, &args.output, &mut warnings));
    if held.writes() {
        record.leave(trained.as_ref().map(|trained| &trained.outcome), warnings.all());
    }
    let trained = trained.map_err(named)?;
    held.end()?;
    lines.iter().for_each(|line| say(line));
    warnings.repeat();
    match trained.outcome {
        Outcome::Finished { .. } => {
            Ok(TrainedReward { constraint: tagged, eval: run.eval, model: trained.model })
        }
        Outcome::Interrupted { steps, checkpoint } => Err(folder::interrupted(steps, &checkpoint)),
    }
}

/// Returns the user's cache of margins from judges.
pub fn margins() -> MarginCache {
    MarginCache::new(dirs::cache_dir().map(|folder| folder.join("pcrm").join("crossfit")))
}
