//! `pcrm reward`: trains a reward model.

mod args;
mod closing;
mod fitting;
mod identity;
mod record;

use anyhow::{Context, Result, bail, ensure};
pub use args::{KeepArgs, RewardArgs};
use pcrm_core::constraint::{Constraint, Priors};
use pcrm_core::data::encode::EncodedPair;
use pcrm_core::model::{ModelConfig, RewardModel, weights};
use pcrm_core::text::Tokenizer;
use pcrm_rl::checkpoint;
use pcrm_rl::fingerprint::Fingerprint;
use pcrm_rl::reward::Pairs;
use pcrm_rl::score::score_pairs;
use pcrm_rl::trainer::{self, Outcome, Run};
use serde_json::{Value, json};

use crate::crossfit::Base;
use crate::dataset::{bound_warnings, bounds, padding};
use crate::interrupt;
use crate::priors::priors;
use crate::progress::{Watch, say};
use crate::report::run::{FittedTo, constraint as shown};
use crate::training::{Encoded, encoded};
use crate::usage::{named, usage};
use crate::{config, constraint};
use closing::closing;
use fitting::Fitting;
use identity::{fingerprint, manifest};
use record::Record;

/// Trains; `resolved` is the config file of this run.
///
/// # Errors
/// Options that cannot be used, a folder that holds another run, files that cannot be read, training errors, Ctrl-C.
pub fn run(args: &RewardArgs, resolved: &str) -> Result<()> {
    train(args, resolved).map(drop)
}

/// A finished run and its held-out pairs.
pub struct Trained {
    /// The constraint with all its numbers.
    pub constraint: Value,
    /// The pairs that were held out, with their bounds.
    pub eval: Pairs,
    /// The scores of their answers, preferred and dispreferred.
    pub scores: Vec<(f32, f32)>,
}

/// Trains and scores the held-out pairs.
///
/// # Errors
/// As [`run`], and nothing held out.
pub fn trained(args: &RewardArgs, resolved: &str) -> Result<Trained> {
    let (constraint, eval) = train(args, resolved)?;
    let eval = eval.context("nothing was held out: expected --eval-split or --eval-data")?;
    let backend = args.training.machine.open()?;
    let model = RewardModel::load(backend.as_ref(), &args.output, args.training.machine.dtype)?;
    let scores =
        score_pairs(&model, &eval.pairs.iter().collect::<Vec<_>>(), args.trainer()?.compute.micro_tokens)?;
    Ok(Trained { constraint, eval, scores })
}

/// The identity of a run before it is made: its options and the content of its files.
///
/// # Errors
/// Options and files that cannot be used.
pub fn question(args: &RewardArgs) -> Result<Fingerprint> {
    let args = args.fetched()?;
    let max_length = args.training.reading.training_length(&ModelConfig::from_dir(&args.training.model)?)?;
    let constraint = constraint::read(&args.constraint)?.to_tagged()?;
    fingerprint(&args, &args.trainer()?, &constraint, max_length)
}

/// Trains; returns the constraint as it was used and the pairs that were held out.
fn train(args: &RewardArgs, resolved: &str) -> Result<(Value, Option<Pairs>)> {
    let config = args.trainer()?;
    let file = constraint::file(&args.constraint);
    let mut constraint = usage(constraint::read(&args.constraint))?;
    begin_folder(args)?;
    let backend = args.training.machine.open()?;
    let given = args;
    let args = &args.fetched()?;
    let at = || format!("--model {}", args.training.model.display());
    let shape = ModelConfig::from_dir(&args.training.model).with_context(at)?;
    let max_length = usage(args.training.reading.training_length(&shape))?;
    let mut resolved = config::with_option(resolved, "max-length", max_length as i64)?;
    if file.is_some() {
        // The file may change or go: the run's config keeps its content.
        resolved = config::with_option(&resolved, "constraint", constraint.to_tagged()?.to_string())?;
    }
    let whole = (!args.training.random_init).then_some(&args.training.model);
    let priors = priors(&args.training.machine, whole)?;
    constraint.settle(&priors).context("--constraint")?;
    let tokenizer = Tokenizer::from_dir(&args.training.model).with_context(at)?;
    let base = Base {
        dir: args.training.model.clone(),
        random_init: args.training.random_init,
        dtype: args.training.machine.dtype,
        seed: config.seed,
    };
    let mut model = base.open(backend.as_ref())?;
    let pad = padding(&model, &tokenizer);
    let Encoded { train, eval, sources, form, mut warnings } =
        encoded(&args.training, &tokenizer, pad, max_length)?;
    let asked = constraint.to_tagged()?;
    let (constraint, evidence) = match constraint.is_unfitted() {
        false => (constraint, None),
        true => {
            // Free the model before cross-fitting trains its own.
            drop(model);
            let fitting = Fitting {
                dir: &args.output,
                resume: args.resume,
                backend: backend.as_ref(),
                base: &base,
                tokenizer: &tokenizer,
                config: &config,
            };
            let fitted = fitting.fitted(constraint.as_ref(), &train, &priors)?;
            model = base.open(backend.as_ref())?;
            (fitted.constraint, Some(fitted.evidence))
        }
    };
    let tagged = constraint.to_tagged()?;
    let mut notes = json!({
        "constraint": tagged,
        "score": format!("{:?}", config.compute.score_at),
        "max_length": max_length,
    });
    if let Some(evidence) = &evidence {
        notes["evidence"] = evidence.summary();
    }
    let model = model.with_config(|config| {
        config.pad = pad;
        config.raw.insert("pcrm".into(), notes);
    });
    let train = bounded(train, constraint.as_ref(), &priors)?;
    bound_warnings(&train.pairs, &train.bounds).into_iter().for_each(|text| warnings.add(text));
    let eval = eval.map(|eval| bounded(eval, constraint.as_ref(), &priors)).transpose()?;
    config.check_data(&train).map_err(named)?;
    let fingerprint = fingerprint(args, &config, &tagged, max_length)?;
    let describe = || -> Result<()> {
        weights::write(&args.output.join("config.toml"), resolved.as_bytes())?;
        let manifest = manifest(args, &fingerprint, &train, eval.as_ref());
        Ok(weights::write_json(&args.output.join("manifest.json"), &manifest)?)
    };
    // A run that is resumed may be refused: then the files keep describing the run that is there.
    let resumes = args.resume && args.output.join("manifest.json").exists();
    if !resumes {
        describe()?;
    }
    say(&format!(
        "training {} parameters on {} pair{}{}, constraint {}",
        model.params().elements(),
        train.pairs.len(),
        if train.pairs.len() == 1 { "" } else { "s" },
        eval.as_ref().map_or(String::new(), |eval| format!(", evaluating on {}", eval.pairs.len())),
        shown(&tagged),
    ));
    let record = Record {
        args,
        given,
        config: &config,
        constraint: &tagged,
        fitted: evidence.as_ref().map(|evidence| FittedTo { asked: &asked, evidence }),
        resolved: &resolved,
        max_length,
        sources: &sources,
        form,
        parameters: model.params().elements(),
        train: &train,
        eval: eval.as_ref(),
    };
    let run = Run {
        backend: backend.as_ref(),
        model,
        tokenizer: &tokenizer,
        train: &train,
        eval: eval.as_ref(),
        schedule: Some(constraint.as_ref()),
        dir: &args.output,
        fingerprint: fingerprint.clone(),
        stop: interrupt::flag()?,
    };
    let outcome = trainer::train(run, &config, &mut Watch::default());
    let lines = outcome.as_ref().map_or_else(|_| Vec::new(), |end| closing(end, &args.output, &mut warnings));
    record.leave(&outcome, warnings.all());
    let outcome = outcome.map_err(named)?;
    if resumes {
        describe()?;
    }
    lines.iter().for_each(|line| say(line));
    warnings.repeat();
    match outcome {
        Outcome::Finished { .. } => Ok((tagged, eval)),
        Outcome::Interrupted { steps, checkpoint } => Err(interrupt::Interrupted {
            message: format!(
                "interrupted after step {steps}; {} is saved: rerun the same command with --resume to continue",
                checkpoint.display()
            ),
        }
        .into()),
    }
}

/// Files that a folder with a model or a tokenizer has.
const TAKEN: [&str; 6] = [
    "config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "tokenizer.json",
    "tokenizer_config.json",
];

/// Refuses to overwrite a model or the checkpoints of a run; only `--resume` may reuse their folder. A folder
/// with neither, as a run leaves that was refused before its first checkpoint, counts as empty.
fn begin_folder(args: &RewardArgs) -> Result<()> {
    let dir = &args.output;
    ensure!(!dir.is_file(), "--output {}: is a file, expected a folder", dir.display());
    let steps = checkpoint::steps(dir)?;
    if args.resume {
        if steps.is_empty() {
            say(&format!("--resume: {} has no checkpoint yet; the run begins at step 1", dir.display()));
        }
        return Ok(());
    }
    let taken = TAKEN.iter().find(|name| dir.join(name).exists());
    let holds = match (steps.last(), taken) {
        (Some(step), _) => format!("checkpoint-{step} of a run"),
        (None, Some(file)) => (*file).to_owned(),
        (None, None) => return Ok(()),
    };
    bail!(
        "--output {}: holds {holds} already; continue the run with --resume, or name another folder",
        dir.display()
    )
}

fn bounded(pairs: Vec<EncodedPair>, constraint: &dyn Constraint, priors: &Priors) -> Result<Pairs> {
    let bounds = bounds(constraint, &pairs, priors)?;
    Ok(Pairs::new(pairs, bounds))
}
