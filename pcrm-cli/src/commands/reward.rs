//! `pcrm reward`: trains a reward model.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use pcrm_core::constraint::{self, Constraint, Priors};
use pcrm_core::model::{RewardModel, weights};
use pcrm_core::optim::AdamWConfig;
use pcrm_core::schedule::Shape;
use pcrm_core::text::Tokenizer;
use pcrm_rl::batch::ScoreAt;
use pcrm_rl::checkpoint;
use pcrm_rl::loss::LossConfig;
use pcrm_rl::order::{BatchSize, Order};
use pcrm_rl::reward::{Compute, Pairs};
use pcrm_rl::trainer::{self, Final, Outcome, Run, TrainerConfig, Warmup};
use serde_json::{Value, json};

use crate::dataset::{Reading, bounds, padding};
use crate::hashes::{digest_file, digest_text};
use crate::interrupt;
use crate::machine::Machine;
use crate::progress::{Watch, say};

/// Options of `pcrm reward`.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct RewardArgs {
    /// Hugging Face folder to begin from: a language model (it gets a score head) or a reward model
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Preference files: JSONL, plain, gzip or zstd
    #[arg(long, value_name = "FILE", required = true, num_args = 1.., action = clap::ArgAction::Append)]
    data: Vec<PathBuf>,
    /// Preference files to evaluate on
    #[arg(long, value_name = "FILE", num_args = 1.., action = clap::ArgAction::Append)]
    eval_data: Vec<PathBuf>,
    /// Share of the prompts of --data held out to evaluate on
    #[arg(long, value_name = "SHARE", conflicts_with = "eval_data")]
    eval_split: Option<f64>,
    /// Folder for the trained model, its checkpoints and metrics
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Go on from the newest checkpoint in --output
    #[arg(long)]
    resume: bool,
    /// Prior constraint: a name, or JSON such as '{"kind": "fixed", "bound": 3}'; none is Bradley-Terry
    #[arg(long, value_name = "NAME|JSON", default_value = "none")]
    constraint: String,
    #[command(flatten)]
    reading: Reading,
    #[command(flatten)]
    loss: LossArgs,
    #[command(flatten)]
    steps: StepArgs,
    #[command(flatten)]
    keeping: KeepArgs,
    #[command(flatten)]
    machine: Machine,
    /// TOML file with any of these options by the same name; what is typed overrides it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  pcrm reward --model qwen2 --data train.jsonl --constraint length_ratio --output runs/rm
  pcrm reward --model qwen2 --data hh.jsonl.gz --eval-split 0.1 --eval-every 100 --patience 3 --output runs/rm \\
      --constraint '{\"kind\": \"length_ratio\", \"beta1\": 10, \"beta2\": 0.001, \"beta3\": -5}'
  pcrm reward --config runs/rm/config.toml --seed 1 --output runs/rm-1
  pcrm reward --config runs/rm/config.toml --resume";

/// What is minimised.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Loss")]
pub struct LossArgs {
    /// Where scores are compared: at the last token, or at every token from the first differing one (mean)
    #[arg(long, value_name = "WHERE", default_value = "last")]
    score: ScoreChoice,
    /// Leave the data's margin column out of the loss
    #[arg(long)]
    ignore_margin: bool,
    /// Share of labels taken to be wrong: −(1−ε)·ln σ(Δ) − ε·ln σ(−Δ)
    #[arg(long, value_name = "E", default_value_t = 0.0)]
    label_smoothing: f64,
    /// Adds C·(r_w + r_l)² to keep scores around 0
    #[arg(long, value_name = "C", default_value_t = 0.0)]
    center_rewards: f64,
}

/// How steps are made.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Steps")]
pub struct StepArgs {
    /// How often the data are gone through
    #[arg(long, value_name = "N", default_value_t = 1.0)]
    epochs: f64,
    /// End after so many steps
    #[arg(long, value_name = "N")]
    max_steps: Option<u64>,
    /// Pairs per step
    #[arg(long, value_name = "PAIRS", default_value_t = 16)]
    batch: usize,
    /// Tokens per step (every prompt once) instead of pairs
    #[arg(long, value_name = "N")]
    batch_tokens: Option<usize>,
    /// The most tokens computed at once; larger batches are accumulated, with the same result
    #[arg(long, value_name = "N", default_value_t = 8192)]
    micro_tokens: usize,
    /// Order of the pairs: shuffled, bucketed by length, or as in the file
    #[arg(long, value_name = "ORDER", default_value = "shuffled")]
    order: OrderChoice,
    /// Largest learning rate
    #[arg(long, value_name = "RATE", default_value_t = 1e-4)]
    learning_rate: f64,
    /// Shape of the learning rate after warm-up
    #[arg(long, value_name = "SHAPE", default_value = "linear")]
    schedule: ScheduleChoice,
    /// Steps over which the learning rate rises
    #[arg(long, value_name = "N", conflicts_with = "warmup_ratio")]
    warmup_steps: Option<u64>,
    /// Share of all steps over which the learning rate rises
    #[arg(long, value_name = "SHARE")]
    warmup_ratio: Option<f64>,
    /// Decoupled weight decay of matrices
    #[arg(long, value_name = "X", default_value_t = 0.0)]
    weight_decay: f64,
    /// Decay of AdamW's first moment
    #[arg(long, value_name = "X", default_value_t = 0.9)]
    adam_beta1: f64,
    /// Decay of AdamW's second moment
    #[arg(long, value_name = "X", default_value_t = 0.999)]
    adam_beta2: f64,
    /// AdamW's epsilon
    #[arg(long, value_name = "X", default_value_t = 1e-8)]
    adam_epsilon: f64,
    /// Gradients of a larger global norm are scaled down to it; 0 for never
    #[arg(long, value_name = "X", default_value_t = 1.0)]
    max_grad_norm: f64,
}

/// What is shown and kept.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Evaluation and checkpoints")]
pub struct KeepArgs {
    /// Steps between lines of metrics.jsonl
    #[arg(long, value_name = "N", default_value_t = 1)]
    log_every: u64,
    /// Steps between evaluations [default: at the end only]
    #[arg(long, value_name = "N")]
    eval_every: Option<u64>,
    /// Steps between checkpoints
    #[arg(long, value_name = "N", default_value_t = 100)]
    save_every: u64,
    /// Checkpoints kept besides the best
    #[arg(long, value_name = "N", default_value_t = 2)]
    keep: usize,
    /// End after so many evaluations without a lower loss
    #[arg(long, value_name = "N")]
    patience: Option<u64>,
    /// Weights that end up in --output: last, or best by evaluation [default: best with --patience, else last]
    #[arg(long, value_name = "WHICH")]
    r#final: Option<FinalChoice>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ScoreChoice {
    Last,
    DivergentMean,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum OrderChoice {
    Shuffled,
    Bucketed,
    File,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ScheduleChoice {
    Constant,
    Linear,
    Cosine,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FinalChoice {
    Last,
    Best,
}

impl RewardArgs {
    fn trainer(&self) -> Result<TrainerConfig> {
        let (steps, keeping) = (&self.steps, &self.keeping);
        ensure!(steps.batch > 0, "--batch 0: expected a positive number of pairs");
        ensure!(steps.batch_tokens != Some(0), "--batch-tokens 0: expected a positive number of tokens");
        let share = self.loss.label_smoothing;
        ensure!(
            (0.0..0.5).contains(&share),
            "--label-smoothing {share}: expected a number from 0 to below 0.5"
        );
        let patient = keeping.patience.is_some();
        ensure!(!patient || keeping.eval_every.is_some(), "--patience needs --eval-every");
        Ok(TrainerConfig {
            seed: self.machine.seed,
            epochs: steps.epochs,
            max_steps: steps.max_steps,
            batch: steps.batch_tokens.map_or(BatchSize::Pairs(steps.batch), BatchSize::Tokens),
            order: match steps.order {
                OrderChoice::Shuffled => Order::Shuffled,
                OrderChoice::Bucketed => Order::Bucketed,
                OrderChoice::File => Order::File,
            },
            compute: Compute {
                score_at: match self.loss.score {
                    ScoreChoice::Last => ScoreAt::Last,
                    ScoreChoice::DivergentMean => ScoreAt::DivergentMean,
                },
                loss: LossConfig {
                    label_smoothing: self.loss.label_smoothing,
                    center_rewards: self.loss.center_rewards,
                },
                use_margin: !self.loss.ignore_margin,
                micro_tokens: steps.micro_tokens,
            },
            learning_rate: steps.learning_rate,
            schedule: match steps.schedule {
                ScheduleChoice::Constant => Shape::Constant,
                ScheduleChoice::Linear => Shape::Linear,
                ScheduleChoice::Cosine => Shape::Cosine,
            },
            warmup: match (steps.warmup_steps, steps.warmup_ratio) {
                (Some(steps), _) => Warmup::Steps(steps),
                (None, ratio) => Warmup::Ratio(ratio.unwrap_or(0.0)),
            },
            adamw: AdamWConfig {
                beta1: steps.adam_beta1,
                beta2: steps.adam_beta2,
                eps: steps.adam_epsilon,
                weight_decay: steps.weight_decay,
            },
            max_grad_norm: (steps.max_grad_norm > 0.0).then_some(steps.max_grad_norm),
            log_every: keeping.log_every,
            eval_every: keeping.eval_every,
            save_every: Some(keeping.save_every),
            keep: keeping.keep,
            patience: keeping.patience,
            final_weights: match keeping.r#final {
                Some(FinalChoice::Best) => Final::Best,
                Some(FinalChoice::Last) => Final::Last,
                None if patient => Final::Best,
                None => Final::Last,
            },
        })
    }

    /// What must be the same for a run to go on: every option that changes a number, and what is read.
    fn fingerprint(&self, config: &TrainerConfig, constraint: &Value) -> Result<BTreeMap<String, String>> {
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
        put("max-length, too-long", format!("{}, {}", self.reading.max_length, self.reading.too_long));
        put("eval-split, eval-every", format!("{:?}, {:?}", self.eval_split, config.eval_every));
        put("patience", format!("{:?}", config.patience));
        put("backend, device, dtype", {
            format!("{}, {}, {}", self.machine.backend, self.machine.device, self.machine.dtype)
        });
        let hashes = |paths: &[PathBuf]| -> Result<String> {
            Ok(paths.iter().map(|path| digest_file(path)).collect::<Result<Vec<_>>>()?.join(" "))
        };
        put("data", hashes(&self.data)?);
        put("eval-data", hashes(&self.eval_data)?);
        put("model", model_digest(&self.model)?);
        Ok(print)
    }
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
    let constraint = constraint::parse(&args.constraint).context("--constraint")?;
    let tagged = constraint.to_tagged()?;
    let backend = args.machine.open()?;
    begin_folder(args)?;
    let tokenizer =
        Tokenizer::from_dir(&args.model).with_context(|| format!("--model {}", args.model.display()))?;
    let model = RewardModel::load(backend.as_ref(), &args.model, args.machine.dtype, config.seed)?;
    let pad = padding(&model, &tokenizer);
    let notes = json!({"constraint": tagged, "score": format!("{:?}", config.compute.score_at)});
    let model = model.with_config(|config| {
        config.pad = pad;
        config.raw.insert("pcrm".into(), notes);
    });
    let (train, eval) = datasets(args, &tokenizer, pad, constraint.as_ref())?;
    let fingerprint = args.fingerprint(&config, &tagged)?;
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
    let stop = interrupt::flag()?;
    let run = Run {
        backend: backend.as_ref(),
        model,
        tokenizer: &tokenizer,
        train: &train,
        eval: eval.as_ref(),
        dir: &args.output,
        fingerprint,
        stop,
    };
    match trainer::train(run, &config, &mut Watch::default())? {
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

fn datasets(
    args: &RewardArgs,
    tokenizer: &Tokenizer,
    pad: Option<u32>,
    constraint: &dyn Constraint,
) -> Result<(Pairs, Option<Pairs>)> {
    let priors = Priors::seeded(args.machine.seed);
    let (rows, _) = args.reading.preferences(&args.data)?;
    let (encoded, _) = args.reading.encode(&rows, tokenizer, pad)?;
    let bounded = |pairs: Vec<_>| -> Result<Pairs> {
        let bounds = bounds(constraint, &pairs, &priors)?;
        Ok(Pairs { pairs, bounds })
    };
    if let Some(share) = args.eval_split {
        ensure!(share > 0.0 && share < 1.0, "--eval-split {share}: expected a share between 0 and 1");
        // By the prompt's hash: no prompt on both sides, whatever the order of the file.
        let (eval, train): (Vec<_>, Vec<_>) = encoded.into_iter().partition(|pair| {
            digest_fraction(&format!("{}\0{}", args.machine.seed, pair.prompt_text)) < share
        });
        ensure!(!eval.is_empty() && !train.is_empty(), "--eval-split {share}: leaves one side without pairs");
        return Ok((bounded(train)?, Some(bounded(eval)?)));
    }
    if args.eval_data.is_empty() {
        return Ok((bounded(encoded)?, None));
    }
    let (rows, _) = args.reading.preferences(&args.eval_data)?;
    let (eval, _) = args.reading.encode(&rows, tokenizer, pad)?;
    Ok((bounded(encoded)?, Some(bounded(eval)?)))
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
