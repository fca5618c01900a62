//! `pcrm reward`: trains a reward model.

mod args;
mod record;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
pub use args::RewardArgs;
use pcrm_core::constraint::Constraint;
use pcrm_core::data::files::data_files;
use pcrm_core::data::overlap::overlap;
use pcrm_core::model::{ModelConfig, RewardModel, weights};
use pcrm_core::text::Tokenizer;
use pcrm_rl::checkpoint;
use pcrm_rl::reward::Pairs;
use pcrm_rl::trainer::{self, Outcome, Run, TrainerConfig};
use serde_json::{Value, json};

use crate::dataset::{bounds, padding};
use crate::hashes::{digest_file, digest_text};
use crate::interrupt;
use crate::priors::priors;
use crate::progress::{Watch, say};
use crate::report::data::Source;
use crate::{config, constraint};
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
    put("max-length, too-long", format!("{}, {}", args.reading.max_length, args.reading.too_long));
    put("columns", format!("{:?}, {}", args.reading.columns.columns()?, args.reading.columns.score_margins));
    put("eval-split, eval-every", format!("{:?}, {:?}", args.eval_split, config.eval_every));
    put("patience", format!("{:?}", config.patience));
    put("backend, device, dtype", {
        format!("{}, {}, {}", args.machine.backend, args.machine.device, args.machine.dtype)
    });
    let hashes = |paths: &[PathBuf]| -> Result<String> {
        let files = data_files(paths)?;
        Ok(files.iter().map(|path| digest_file(path)).collect::<Result<Vec<_>>>()?.join(" "))
    };
    put("data", hashes(&args.data)?);
    put("eval-data", hashes(&args.eval_data)?);
    put("model, random-init", format!("{}, {}", model_digest(&args.model)?, args.random_init));
    Ok(print)
}

/// The hash of a model folder's config, weights and tokenizer.
fn model_digest(dir: &Path) -> Result<String> {
    let mut names: Vec<PathBuf> = fs::read_dir(dir)
        .with_context(|| format!("--model {}", dir.display()))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| {
            path.is_file()
                && path
                    .extension()
                    .is_some_and(|ext| ["json", "safetensors", "jinja"].iter().any(|known| ext == *known))
        })
        .collect();
    names.sort();
    let parts = names.iter().map(|path| digest_file(path)).collect::<Result<Vec<_>>>()?;
    Ok(digest_text(&parts.join(" ")))
}

/// Trains; `resolved` is the config file of this run.
///
/// # Errors
/// Everything that the user's files and options can cause.
pub fn run(args: &RewardArgs, resolved: &str) -> Result<()> {
    let config = args.trainer()?;
    let file = constraint::file(&args.constraint);
    let constraint = constraint::read(&args.constraint)?;
    let tagged = constraint.to_tagged()?;
    // A file may change or go: what the run keeps is what it held.
    let resolved = &match file {
        Some(_) => config::with_option(resolved, "constraint", &tagged.to_string())?,
        None => resolved.to_owned(),
    };
    let backend = args.machine.open()?;
    begin_folder(args)?;
    let args = &args.fetched()?;
    let tokenizer =
        Tokenizer::from_dir(&args.model).with_context(|| format!("--model {}", args.model.display()))?;
    let model = match args.random_init {
        true => {
            let shape = ModelConfig::from_dir(&args.model)?;
            RewardModel::random(backend.as_ref(), shape, args.machine.dtype, config.seed)?
        }
        false => RewardModel::load(backend.as_ref(), &args.model, args.machine.dtype, config.seed)?,
    };
    let pad = padding(&model, &tokenizer);
    let notes = json!({"constraint": tagged, "score": format!("{:?}", config.compute.score_at)});
    let model = model.with_config(|config| {
        config.pad = pad;
        config.raw.insert("pcrm".into(), notes);
    });
    let Data { train, eval, sources, conversational } = datasets(args, &tokenizer, pad, constraint.as_ref())?;
    let fingerprint = fingerprint(args, &config, &tagged)?;
    if !args.resume {
        weights::write(&args.output.join("config.toml"), resolved.as_bytes())?;
        weights::write_json(
            &args.output.join("manifest.json"),
            &manifest(args, &fingerprint, &train, eval.as_ref()),
        )?;
    }
    say(&format!(
        "training {} parameters on {} pairs{}, constraint {tagged}",
        model.params().elements(),
        train.pairs.len(),
        eval.as_ref().map_or(String::new(), |eval| format!(", evaluating on {}", eval.pairs.len())),
    ));
    let record = Record {
        args,
        config: &config,
        constraint: &tagged,
        resolved,
        sources: &sources,
        conversational,
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
            Ok(())
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

/// What a run reads.
struct Data {
    train: Pairs,
    eval: Option<Pairs>,
    sources: Vec<Source>,
    /// Whether texts go through a chat template.
    conversational: bool,
}

fn datasets(
    args: &RewardArgs,
    tokenizer: &Tokenizer,
    pad: Option<u32>,
    constraint: &dyn Constraint,
) -> Result<Data> {
    let priors = priors(&args.machine, Some(&args.model))?;
    let (rows, read) = args.reading.preferences(&args.data, args.kept_ties())?;
    let conversational = rows.first().is_some_and(|pair| pair.chosen.is_conversation());
    let (encoded, report) = args.reading.encode(&rows, tokenizer, pad)?;
    let mut sources = vec![Source { role: "training".to_owned(), read, encoded: report }];
    let bounded = |pairs: Vec<_>| -> Result<Pairs> {
        let bounds = bounds(constraint, &pairs, &priors)?;
        Ok(Pairs::new(pairs, bounds))
    };
    let (train, eval) = match args.eval_split {
        Some(share) => {
            ensure!(share > 0.0 && share < 1.0, "--eval-split {share}: expected a share between 0 and 1");
            sources[0].role = "training and held out".to_owned();
            // By the prompt's hash: no prompt on both sides, whatever the order of the file.
            let (eval, train): (Vec<_>, Vec<_>) = encoded.into_iter().partition(|pair| {
                digest_fraction(&format!("{}\0{}", args.machine.seed, pair.prompt_text)) < share
            });
            ensure!(
                !eval.is_empty() && !train.is_empty(),
                "--eval-split {share}: leaves one side without pairs"
            );
            (train, Some(eval))
        }
        None if args.eval_data.is_empty() => (encoded, None),
        None => {
            let (eval_rows, read) = args.reading.preferences(&args.eval_data, args.kept_ties())?;
            let shared = overlap(&rows, &eval_rows);
            if !shared.is_empty() {
                say(&format!(
                    "warning: {shared} of --eval-data stand in --data too: what they measure is memory as well"
                ));
            }
            let (eval, report) = args.reading.encode(&eval_rows, tokenizer, pad)?;
            sources.push(Source { role: "evaluation".to_owned(), read, encoded: report });
            (encoded, Some(eval))
        }
    };
    let (train, eval) = (bounded(train)?, eval.map(bounded).transpose()?);
    Ok(Data { train, eval, sources, conversational })
}

/// A number from 0 to 1 from a text's hash.
fn digest_fraction(text: &str) -> f64 {
    let digits = digest_text(text);
    u32::from_str_radix(&digits[..8], 16).map_or(0.0, |number| f64::from(number) / f64::from(u32::MAX))
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
        "model": args.model,
        "data": files(&args.data),
        "eval_data": files(&args.eval_data),
        "train_pairs": train.pairs.len(),
        "eval_pairs": eval.map(|eval| eval.pairs.len()),
        "fingerprint": fingerprint,
    })
}
