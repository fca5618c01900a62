//! `pcrm reward`: trains a reward model.

mod args;
mod fitting;
mod record;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
pub use args::{KeepArgs, RewardArgs};
use pcrm_core::constraint::{Constraint, Priors};
use pcrm_core::data::encode::EncodedPair;
use pcrm_core::data::files::data_files;
use pcrm_core::model::{RewardModel, weights};
use pcrm_core::text::Tokenizer;
use pcrm_rl::checkpoint;
use pcrm_rl::reward::Pairs;
use pcrm_rl::score::score_pairs;
use pcrm_rl::trainer::{self, Outcome, Run, TrainerConfig};
use serde_json::{Value, json};

use crate::crossfit::{Base, model_digest};
use crate::dataset::{bounds, padding, warn_of_bounds};
use crate::hashes::digest_file;
use crate::interrupt;
use crate::priors::priors;
use crate::progress::{Watch, say};
use crate::report::run::{FittedTo, constraint as shown};
use crate::training::{Encoded, encoded};
use crate::{config, constraint};
use fitting::Fitting;
use record::Record;

/// What must be the same for a run to go on: every option that changes a number, and what is read.
fn fingerprint(
    args: &RewardArgs,
    config: &TrainerConfig,
    constraint: &Value,
) -> Result<BTreeMap<String, String>> {
    let mut print = BTreeMap::new();
    let mut put = |name: &str, value: String| print.insert(name.to_owned(), value);
    put("constraint", constraint.to_string());
    put("seed", config.seed.to_string());
    put("epochs, max-steps", format!("{}, {:?}", config.epochs, config.max_steps));
    put("batch, order", format!("{:?}, {:?}", config.batch, config.order));
    put("loss", format!("{:?}", config.compute));
    put(
        "learning rate",
        format!(
            "{} {:?} {:?} {:?}",
            config.learning_rate, config.schedule, config.warmup, config.max_grad_norm
        ),
    );
    put("adamw", format!("{:?}", config.adamw));
    put(
        "max-length, too-long",
        format!("{}, {}", args.training.reading.max_length, args.training.reading.too_long),
    );
    put(
        "columns",
        format!(
            "{:?}, {}",
            args.training.reading.columns.columns()?,
            args.training.reading.columns.score_margins
        ),
    );
    put("eval-split, eval-every", format!("{:?}, {:?}", args.training.eval_split, config.eval_every));
    put("patience", format!("{:?}", config.patience));
    put("backend, device, dtype", {
        format!(
            "{}, {}, {}",
            args.training.machine.backend, args.training.machine.device, args.training.machine.dtype
        )
    });
    let hashes = |paths: &[PathBuf]| -> Result<String> {
        let files = data_files(paths)?;
        Ok(files.iter().map(|path| digest_file(path)).collect::<Result<Vec<_>>>()?.join(" "))
    };
    put("data", hashes(&args.training.data)?);
    put("eval-data", hashes(&args.training.eval_data)?);
    put(
        "model, random-init",
        format!("{}, {}", model_digest(&args.training.model)?, args.training.random_init),
    );
    Ok(print)
}

/// Trains; `resolved` is the config file of this run.
///
/// # Errors
/// Everything that the user's files and options can cause.
pub fn run(args: &RewardArgs, resolved: &str) -> Result<()> {
    train(args, resolved).map(drop)
}

/// A run that is through, with what was held out.
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
    let model = RewardModel::load(
        backend.as_ref(),
        &args.output,
        args.training.machine.dtype,
        args.training.machine.seed,
    )?;
    let scores =
        score_pairs(&model, &eval.pairs.iter().collect::<Vec<_>>(), args.trainer()?.compute.micro_tokens)?;
    Ok(Trained { constraint, eval, scores })
}

/// What decides a run, as far as it can be told before: options, and the content of the files.
///
/// # Errors
/// Options and files that cannot be used.
pub fn question(args: &RewardArgs) -> Result<BTreeMap<String, String>> {
    let args = args.fetched()?;
    fingerprint(&args, &args.trainer()?, &constraint::read(&args.constraint)?.to_tagged()?)
}

/// Trains, and gives the constraint as it was used and the pairs that were held out.
fn train(args: &RewardArgs, resolved: &str) -> Result<(Value, Option<Pairs>)> {
    let config = args.trainer()?;
    let file = constraint::file(&args.constraint);
    let mut constraint = constraint::read(&args.constraint)?;
    // A file may change or go: what the run keeps is what it held.
    let resolved = &match file {
        Some(_) => config::with_option(resolved, "constraint", &constraint.to_tagged()?.to_string())?,
        None => resolved.to_owned(),
    };
    let backend = args.training.machine.open()?;
    begin_folder(args)?;
    let given = args;
    let args = &args.fetched()?;
    let whole = (!args.training.random_init).then_some(&args.training.model);
    let priors = priors(&args.training.machine, whole)?;
    constraint.settle(&priors).context("--constraint")?;
    let tokenizer = Tokenizer::from_dir(&args.training.model)
        .with_context(|| format!("--model {}", args.training.model.display()))?;
    let base = Base {
        dir: args.training.model.clone(),
        random_init: args.training.random_init,
        dtype: args.training.machine.dtype,
        seed: config.seed,
    };
    let mut model = base.open(backend.as_ref())?;
    let pad = padding(&model, &tokenizer);
    let Encoded { train, eval, sources, form } = encoded(&args.training, &tokenizer, pad)?;
    let asked = constraint.to_tagged()?;
    let (constraint, evidence) = match constraint.is_unfitted() {
        false => (constraint, None),
        true => {
            // Judges need its memory.
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
    let mut notes = json!({"constraint": tagged, "score": format!("{:?}", config.compute.score_at)});
    if let Some(evidence) = &evidence {
        notes["evidence"] = evidence.summary();
    }
    let model = model.with_config(|config| {
        config.pad = pad;
        config.raw.insert("pcrm".into(), notes);
    });
    let train = bounded(train, constraint.as_ref(), &priors)?;
    warn_of_bounds(&train.pairs, &train.bounds);
    let eval = eval.map(|eval| bounded(eval, constraint.as_ref(), &priors)).transpose()?;
    let fingerprint = fingerprint(args, &config, &tagged)?;
    if !args.resume || !args.output.join("manifest.json").exists() {
        weights::write(&args.output.join("config.toml"), resolved.as_bytes())?;
        weights::write_json(
            &args.output.join("manifest.json"),
            &manifest(args, &fingerprint, &train, eval.as_ref()),
        )?;
    }
    say(&format!(
        "training {} parameters on {} pairs{}, constraint {}",
        model.params().elements(),
        train.pairs.len(),
        eval.as_ref().map_or(String::new(), |eval| format!(", evaluating on {}", eval.pairs.len())),
        shown(&tagged),
    ));
    let record = Record {
        args,
        given,
        config: &config,
        constraint: &tagged,
        fitted: evidence.as_ref().map(|evidence| FittedTo { asked: &asked, evidence }),
        resolved,
        sources: &sources,
        form,
        parameters: model.params().elements(),
        train: &train,
        eval: eval.as_ref(),
    };
    let stop = interrupt::flag()?;
    let run = Run {
        backend: backend.as_ref(),
        model,
        tokenizer: &tokenizer,
        train: &train,
        eval: eval.as_ref(),
        schedule: Some(constraint.as_ref()),
        dir: &args.output,
        fingerprint,
        stop,
    };
    let outcome = trainer::train(run, &config, &mut Watch::default());
    record.leave(&outcome);
    match outcome? {
        Outcome::Finished { steps, best, early } => {
            let why = if early { " (patience ran out)" } else { "" };
            say(&format!("{steps} steps made{why}; the model is in {}", args.output.display()));
            if let Some(best) = best {
                say(&format!("best evaluation: loss {:.4} after step {}", best.loss, best.step));
            }
            Ok((tagged, eval))
        }
        Outcome::Interrupted { steps, checkpoint } => Err(interrupt::Interrupted {
            message: format!(
                "interrupted after step {steps}; {} is saved, the same command with --resume goes on",
                checkpoint.display()
            ),
        }
        .into()),
    }
}

/// Refuses to mix runs: a folder with a model or checkpoints is only gone on in.
fn begin_folder(args: &RewardArgs) -> Result<()> {
    let dir = &args.output;
    if args.resume {
        return Ok(());
    }
    let used =
        ["model.safetensors", "config.json", "manifest.json"].iter().any(|name| dir.join(name).exists());
    if used || !checkpoint::steps(dir)?.is_empty() {
        bail!(
            "--output {}: holds a run or a model already; --resume goes on with it, or name another folder",
            dir.display()
        );
    }
    Ok(())
}

fn bounded(pairs: Vec<EncodedPair>, constraint: &dyn Constraint, priors: &Priors) -> Result<Pairs> {
    let bounds = bounds(constraint, &pairs, priors)?;
    Ok(Pairs::new(pairs, bounds))
}

fn manifest(
    args: &RewardArgs,
    fingerprint: &BTreeMap<String, String>,
    train: &Pairs,
    eval: Option<&Pairs>,
) -> Value {
    let files = |paths: &[PathBuf]| paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
    json!({
        "pcrm": env!("CARGO_PKG_VERSION"),
        "model": args.training.model,
        "data": files(&args.training.data),
        "eval_data": files(&args.training.eval_data),
        "train_pairs": train.pairs.len(),
        "eval_pairs": eval.map(|eval| eval.pairs.len()),
        "fingerprint": fingerprint,
    })
}
