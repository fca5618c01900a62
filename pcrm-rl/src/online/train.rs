//! The loop: rollouts and the updates that are made of them, evaluations, checkpoints, and the model at the end.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use pcrm_core::kernels::BLOCK;
use pcrm_core::model::{LanguageModel, RewardModel};
use pcrm_core::text::Tokenizer;
use pcrm_core::{Backend, DType, Device};

use super::config::{Algorithm, OnlineConfig};
use super::critic::{CRITIC, Critic, ValueStep};
use super::iteration::Training;
use super::mix::{Mix, Mixing};
use super::pairs::Bounding;
use super::refill::DRAWN;
use super::rollout::{Prompts, Roller};
use super::steering::Steering;
use super::tree::Step;
use crate::checkpoint::{self, MAIN, State};
use crate::error::Result;
use crate::fingerprint::{self, Fingerprint};
use crate::learner::Learner;
use crate::metrics::MetricsFile;
use crate::objective::Objective;
use crate::objective::sft::Sft;
use crate::offline::{Observer, Outcome, Trained};
use crate::options::{TrainerConfig, refuse};
use crate::order::BatchSize;
use crate::plan::{Plan, total_steps};
use crate::resume::Candidate;
use crate::reward_source::{Preparation, Weighted};
use crate::rollout::{Budget, Engine, Stop};

/// Table of sampled answers in the run's folder: the best, the worst and the first of every rollout that is logged.
pub const SAMPLES: &str = "samples.jsonl";

/// A run before it is made.
pub struct OnlineRun<'a> {
    /// The backend.
    pub backend: &'a dyn Backend,
    /// The policy, with the weights to begin with.
    pub model: LanguageModel,
    /// The model that the policy is compared with, where the algorithm has a KL term.
    pub reference: Option<LanguageModel>,
    /// The critic, with the weights to begin with, where the algorithm has one ([`Algorithm::needs_critic`]).
    ///
    /// [`Algorithm::needs_critic`]: super::Algorithm::needs_critic
    pub critic: Option<RewardModel>,
    /// Texts to learn beside the policy's own answers.
    pub mix: Option<Mix<'a>>,
    /// Bounds the margins of pairs, where the algorithm makes pairs.
    pub bounding: Option<Bounding<'a>>,
    /// The policy's tokenizer, saved with it.
    pub tokenizer: &'a Tokenizer,
    /// The prompts to learn on.
    pub train: Prompts,
    /// The prompts to evaluate on.
    pub eval: Option<Prompts>,
    /// The ends of answers.
    pub ends: &'a Stop<'a>,
    /// The rewards.
    pub rewards: &'a mut Weighted,
    /// The limits of the cache and of a step of decoding.
    pub budget: Budget,
    /// The run's folder.
    pub dir: &'a Path,
    /// The options and data that decide the run's numbers.
    pub fingerprint: Fingerprint,
    /// Set from outside to end the run, with a checkpoint after the rollout at hand.
    pub stop: &'a AtomicBool,
}

/// Trains, evaluates, saves; continues from the newest checkpoint in the run's folder if there is one. A rollout that was
/// interrupted is made again: its samples follow from the seed, the step and the weights.
///
/// # Errors
/// Options that cannot be used; rewards that fail; a loss, gradient or weight that is not finite; a checkpoint of another
/// run; the disk's and the backend's errors.
pub fn train(
    run: OnlineRun<'_>,
    config: &OnlineConfig,
    trainer: &TrainerConfig,
    observer: &mut dyn Observer,
) -> Result<Trained<LanguageModel>> {
    trainer.check(run.eval.is_some())?;
    config.check(trainer, &run.budget)?;
    let OnlineRun {
        backend,
        model,
        reference,
        critic,
        mix,
        bounding,
        tokenizer,
        train,
        eval,
        ends,
        rewards,
        budget,
        dir,
        stop,
        ..
    } = run;
    if config.algorithm.needs_critic() && critic.is_none() {
        refuse("critic", "none is given, and PPO needs one".into())?;
    }
    if bounding.is_some() && !matches!(config.algorithm, Algorithm::OnlineDpo(_)) {
        refuse("constraint", "bounds the margins of pairs, which only online DPO makes".into())?;
    }
    let (train, eval) = (&train, eval.as_ref());
    let updates = config.updates();
    let all = TrainerConfig { max_steps: None, ..trainer.clone() };
    let rollouts = total_steps(&train.sizes, &all);
    // A rollout makes all of its updates.
    let most = trainer.max_steps.map_or(rollouts, |steps| steps.div_ceil(updates));
    let total = rollouts.min(most) * updates;
    let update = config.algorithm.update(config.sampling.max_tokens, config.sampling.filters.temperature);
    let mut learner = Learner::new(&model, trainer, total)?;
    let mut critic = critic.map(|critic| critic_of(&critic, config, trainer, total)).transpose()?;
    let mut state = State { fingerprint: run.fingerprint.clone(), ..State::default() };
    let candidate = Candidate {
        dir,
        fingerprint: &run.fingerprint,
        defaults: &fingerprint::of(&TrainerConfig::default(), &OnlineConfig::default()),
        depends_on_length: None,
        total,
    };
    if let Some((path, saved)) = candidate.newest(trainer)? {
        let mut parts: Vec<(&str, &mut dyn checkpoint::Part)> = vec![(MAIN, &mut learner)];
        parts
            .extend(critic.as_mut().map(|critic| (CRITIC, &mut critic.learner as &mut dyn checkpoint::Part)));
        checkpoint::restore(&path, &saved, &mut parts)?;
        tracing::info!("resuming from {}", path.display());
        state = State { fingerprint: run.fingerprint.clone(), ..saved };
    }
    let all: Vec<_> =
        train.records.iter().chain(eval.into_iter().flat_map(|eval| &eval.records)).cloned().collect();
    rewards.prepare(&Preparation { prompts: &all, logs: Some(dir) })?;
    for note in rewards.notes() {
        observer.note(&note);
    }
    observer.accepted()?;
    let metrics = MetricsFile::open(&dir.join("metrics.jsonl"), &state)?;
    let samples = MetricsFile::plain(&dir.join(SAMPLES), state.step)?;
    let mut plan = Plan::new(&train.sizes, trainer);
    let kept = state.states.get(DRAWN).and_then(serde_json::Value::as_u64);
    let drawn = kept.unwrap_or(state.step / updates);
    (0..drawn).for_each(|_| {
        plan.next();
    });
    let texts = of_texts(trainer, config);
    let mixing = match mix {
        Some(mix) => {
            Sft.check(mix.data, &model)?;
            let mut plan = Plan::new(Sft.sizes(mix.data), &texts);
            (0..state.step).for_each(|_| {
                plan.next();
            });
            Some(Mixing { mix, plan, micro_tokens: trainer.micro_tokens })
        }
        None => None,
    };
    let exact = backend.device() == Device::Cpu && model.decoder().compute() == DType::F32;
    let engine = Engine::new(model.decoder(), fitting(budget, config, train, eval))?;
    let roller = Roller {
        config,
        tokenizer,
        stop: ends,
        rewards,
        reference: reference.as_ref(),
        micro_tokens: trainer.micro_tokens,
        bounding,
        interrupted: stop,
    };
    let mut training = Training {
        backend,
        config,
        trainer,
        steering: Steering::new(&config.algorithm, &state.states),
        update,
        learner,
        critic,
        mixing,
        state,
        total,
        plan,
        drawn,
        scoring: 0.0,
        halted: None,
        metrics,
        samples,
        engine,
        roller,
        train,
        eval,
        exact,
        dir,
        last: Step::default(),
    };
    observer.begin(training.state.step, total);
    let ended = training.make_steps(observer);
    observer.end();
    match ended.map_err(|error| training.metrics.still_there().err().unwrap_or(error))? {
        Some(checkpoint) => {
            let outcome = Outcome::Interrupted { steps: training.state.step, checkpoint };
            Ok(Trained { outcome, model: training.learner.model.detached(), probe: Vec::new() })
        }
        None => training.finish(tokenizer),
    }
}

/// The batches of texts that are learned beside answers: as many texts as prompts in an update.
fn of_texts(trainer: &TrainerConfig, config: &OnlineConfig) -> TrainerConfig {
    let batch = match trainer.batch {
        BatchSize::Pairs(prompts) => BatchSize::Pairs((prompts / config.num_mini_batches).max(1)),
        tokens => tokens,
    };
    TrainerConfig { batch, ..trainer.clone() }
}

/// The critic with its optimiser, at its own learning rate.
fn critic_of(
    model: &RewardModel,
    config: &OnlineConfig,
    trainer: &TrainerConfig,
    total: u64,
) -> Result<Critic> {
    let Algorithm::Ppo(ppo) = &config.algorithm else {
        return refuse("critic", "is given, and only PPO has one".into());
    };
    let learning_rate = config.critic_learning_rate.unwrap_or(trainer.learning_rate);
    let learner = Learner::new(model, &TrainerConfig { learning_rate, ..trainer.clone() }, total)?;
    Ok(Critic { learner, objective: ValueStep { loss: ppo.value_loss() } })
}

/// A cache that is no larger than the run can fill.
fn fitting(budget: Budget, config: &OnlineConfig, train: &Prompts, eval: Option<&Prompts>) -> Budget {
    let sizes = train.sizes.iter().chain(eval.into_iter().flat_map(|eval| &eval.sizes));
    let longest =
        (sizes.max().copied().unwrap_or(0) + config.sampling.max_tokens).next_multiple_of(BLOCK) + BLOCK;
    Budget { cache_tokens: budget.cache_tokens.min(longest * budget.rows.max(1)).max(longest), ..budget }
}
