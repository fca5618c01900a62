//! What `pcrm reward` may be told.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use pcrm_core::data::preference::Ties;
use pcrm_core::optim::AdamWConfig;
use pcrm_core::schedule::Shape;
use pcrm_rl::batch::ScoreAt;
use pcrm_rl::loss::{LossConfig, Ranking};
use pcrm_rl::order::{BatchSize, Order};
use pcrm_rl::reward::Compute;
use pcrm_rl::ties::TieModel;
use pcrm_rl::trainer::{Final, TrainerConfig, Warmup};

use crate::dataset::Reading;
use crate::hub::{Hub, Weights};
use crate::machine::Machine;

/// Options of `pcrm reward`.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct RewardArgs {
    /// Hugging Face folder, or repository of the Hub (org/name), to begin from: a language model (it gets a score head) or a reward model
    #[arg(long, value_name = "DIR")]
    pub(super) model: PathBuf,
    /// Draw all weights from the seed: --model needs config.json and a tokenizer alone
    #[arg(long)]
    pub(super) random_init: bool,
    /// Files and folders of preferences (JSONL or JSON, plain, gzip or zstd, or Parquet), or data sets of the Hub
    /// (org/name, org/name:split)
    #[arg(long, value_name = "FILE", required = true, num_args = 1.., action = clap::ArgAction::Append)]
    pub(super) data: Vec<PathBuf>,
    /// Files, folders or data sets to evaluate on
    #[arg(long, value_name = "FILE", num_args = 1.., action = clap::ArgAction::Append)]
    pub(super) eval_data: Vec<PathBuf>,
    /// Share of the prompts of --data held out to evaluate on
    #[arg(long, value_name = "SHARE", conflicts_with = "eval_data")]
    pub(super) eval_split: Option<f64>,
    /// Folder for the trained model, its checkpoints and metrics
    #[arg(long, value_name = "DIR")]
    pub(super) output: PathBuf,
    /// Go on from the newest checkpoint in --output
    #[arg(long)]
    pub(super) resume: bool,
    /// Prior constraint: a name, JSON such as '{"kind": "fixed", "bound": 3}', or a JSON file that holds such; none is
    /// Bradley-Terry
    #[arg(long, value_name = "NAME|JSON|FILE", default_value = "none")]
    pub(super) constraint: String,
    #[command(flatten)]
    pub(super) reading: Reading,
    #[command(flatten)]
    pub(super) loss: LossArgs,
    #[command(flatten)]
    pub(super) steps: StepArgs,
    #[command(flatten)]
    pub(super) keeping: KeepArgs,
    #[command(flatten)]
    pub(super) hub: Hub,
    #[command(flatten)]
    pub(super) machine: Machine,
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
    /// What is learned of several ranked answers: all their pairs (mean), or the whole order (plackett-luce)
    #[arg(long, value_name = "HOW", default_value = "pairs")]
    ranking: RankingChoice,
    /// Answers that tie: drop their pairs, or learn from them by the model of davidson or rao-kupper
    #[arg(long, value_name = "HOW", default_value = "drop")]
    ties: TiesChoice,
    /// How common ties are: Davidson's ν > 0 [default: 1] or Rao and Kupper's θ > 1 [default: 2]; with either default
    /// equal answers tie in a third of all cases
    #[arg(long, value_name = "X")]
    tie_strength: Option<f64>,
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
    /// Pairs per step; of ranked answers, prompts
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
enum RankingChoice {
    Pairs,
    PlackettLuce,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TiesChoice {
    Drop,
    Davidson,
    RaoKupper,
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

impl LossArgs {
    fn tie_model(&self) -> Result<TieModel> {
        ensure!(
            self.ties != TiesChoice::Drop || self.tie_strength.is_none(),
            "--tie-strength needs --ties davidson or rao-kupper"
        );
        Ok(match self.ties {
            TiesChoice::Drop => TieModel::None,
            TiesChoice::Davidson => TieModel::Davidson { nu: self.tie_strength.unwrap_or(1.0) },
            TiesChoice::RaoKupper => TieModel::RaoKupper { theta: self.tie_strength.unwrap_or(2.0) },
        })
    }
}

impl RewardArgs {
    /// What becomes of ties in the data.
    pub(super) fn kept_ties(&self) -> Ties {
        match self.loss.ties {
            TiesChoice::Drop => Ties::Drop,
            TiesChoice::Davidson | TiesChoice::RaoKupper => Ties::Keep,
        }
    }

    /// The same with local paths for what the Hub has.
    ///
    /// # Errors
    /// The Hub's.
    pub(super) fn fetched(&self) -> Result<Self> {
        let mut args = self.clone();
        args.model = self.hub.model(&self.model, Weights::drawn_if(self.random_init))?;
        args.data = self.hub.data("--data", &self.data)?;
        args.eval_data = self.hub.data("--eval-data", &self.eval_data)?;
        Ok(args)
    }

    /// The options as the trainer takes them.
    ///
    /// # Errors
    /// Numbers out of range, options that do not go together.
    pub(super) fn trainer(&self) -> Result<TrainerConfig> {
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
                    ranking: match self.loss.ranking {
                        RankingChoice::Pairs => Ranking::Pairs,
                        RankingChoice::PlackettLuce => Ranking::PlackettLuce,
                    },
                    ties: self.loss.tie_model()?,
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
}
