//! The training loop: rollouts with their updates, evaluations, checkpoints, and the final model.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use pcrm_core::kernels::BLOCK;
use pcrm_core::model::{LanguageModel, RewardModel};
use pcrm_core::text::Tokenizer;
use pcrm_core::{Backend, DType, Device};

use super::ahead::{AHEAD, Ahead};
use super::config::{Algorithm, OnlineConfig};
use super::critic::{CRITIC, Critic, ValueStep};
use super::iteration::Training;
use super::kept::{UNLOGGED, UNLOGGED_UPDATES};
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
use crate::metrics::{Metrics, MetricsFile};
use crate::objective::Objective;
use crate::objective::sft::Sft;
use crate::offline::{Observer, Outcome, Trained};
use crate::options::{TrainerConfig, refuse};
use crate::order::BatchSize;
use crate::plan::{BatchPlan, total_steps};
use crate::resume::{Candidate, prepare, same_beginning};
use crate::reward_source::{Preparation, Weighted};
use crate::rollout::source::{Own, RolloutSource};
use crate::rollout::{Budget, Engine, Stop};

/// The file in the run's folder with sampled answers: the best, worst and first of every rollout with a line in
/// `metrics.jsonl`.
pub const SAMPLES: &str = "samples.jsonl";

/// The inputs of a run.
pub struct OnlineRun<'a> {
    /// Backend.
    pub backend: &'a dyn Backend,
    /// Policy with its initial weights.
    pub model: LanguageModel,
    /// Model that the policy is compared with, if the algorithm has a KL term.
    pub reference: Option<LanguageModel>,
    /// Critic with its initial weights, if the algorithm has one ([`Algorithm::needs_critic`]).
    ///
    /// [`Algorithm::needs_critic`]: super::Algorithm::needs_critic
    pub critic: Option<RewardModel>,
    /// Texts to learn besides the policy's own answers.
    pub mix: Option<Mix<'a>>,
    /// Bounds on the margins of pairs, if the algorithm makes pairs.
    pub bounding: Option<Bounding<'a>>,
    /// Tokenizer of the policy, saved with it.
    pub tokenizer: &'a Tokenizer,
    /// Training prompts.
    pub train: Prompts,
    /// Evaluation prompts.
    pub eval: Option<Prompts>,
    /// Stop conditions of answers.
    pub ends: &'a Stop<'a>,
    /// Source of answers; `None` for an engine of the trainer's own.
    pub rollouts: Option<Box<dyn RolloutSource + 'a>>,
    /// Reward sources.
    pub rewards: &'a mut Weighted,
    /// Limits of the cache and of a decoding step.
    pub budget: Budget,
    /// Folder of the run.
    pub dir: &'a Path,
    /// Options and data that determine the run's results.
    pub fingerprint: Fingerprint,
    /// Set from outside to end the run, with a checkpoint after the current rollout.
    pub stop: &'a AtomicBool,
}

/// Trains, evaluates and saves; continues from the newest checkpoint in the run's folder if there is one. An
/// interrupted rollout is repeated: its samples follow from the seed, the step and the weights.
///
/// # Errors
/// Fails if options are invalid, if rewards fail, if a loss, gradient or weight is not finite, if a
/// checkpoint belongs to another run, or if the disk or the backend fails.
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
        rollouts: source,
        rewards,
        budget,
        dir,
        stop,
        ..
    } = run;
    if config.algorithm.needs_critic() && critic.is_none() {
        refuse("critic", "PPO needs one".into())?;
    }
    if bounding.is_some() && !matches!(config.algorithm, Algorithm::OnlineDpo(_)) {
        refuse("constraint", "bounds the margins of pairs, which only online DPO makes".into())?;
    }
    if source.is_none() != config.rollouts.source.is_own() {
        let message = format!("{:?}: expected a source of this kind", config.rollouts.source);
        refuse("rollouts", message)?;
    }
    let (train, eval) = (&train, eval.as_ref());
    let updates = config.updates();
    let all = TrainerConfig { max_steps: None, ..trainer.clone() };
    let rollouts = total_steps(&train.sizes, &all);
    // Each rollout makes all of its updates.
    let most = trainer.max_steps.map_or(rollouts, |steps| steps.div_ceil(updates));
    let total = rollouts.min(most) * updates;
    let (longest, temperature) = (config.sampling.max_tokens, config.sampling.filters.temperature);
    let update = config.algorithm.update(longest, temperature, config.rollouts.correction);
    let mut learner = Learner::new(backend, &model, trainer, total)?;
    let mut critic = critic.map(|critic| critic_of(&critic, config, trainer, backend, total)).transpose()?;
    prepare(learner.lanes(), dir, &run.fingerprint, trainer)?;
    let mut state = State { fingerprint: run.fingerprint.clone(), ..State::default() };
    let candidate = Candidate {
        dir,
        fingerprint: &run.fingerprint,
        defaults: &fingerprint::of(&TrainerConfig::default(), &OnlineConfig::default()),
        depends_on_length: None,
        total,
    };
    let mut ahead = Ahead::new(config.rollouts.staleness);
    if let Some((path, saved)) = candidate.newest(trainer)? {
        let mut parts: Vec<(&str, &mut dyn checkpoint::CheckpointPart)> = vec![(MAIN, &mut learner)];
        parts.extend(
            critic
                .as_mut()
                .map(|critic| (CRITIC, &mut critic.learner as &mut dyn checkpoint::CheckpointPart)),
        );
        parts.extend(ahead.is_used().then_some((AHEAD, &mut ahead as &mut dyn checkpoint::CheckpointPart)));
        checkpoint::restore(&path, &saved, &mut parts)?;
        tracing::info!("resuming from {}", path.display());
        state = State { fingerprint: run.fingerprint.clone(), ..saved };
    }
    let all: Vec<_> =
        train.records.iter().chain(eval.into_iter().flat_map(|eval| &eval.records)).cloned().collect();
    let lanes = learner.lanes().clone();
    let is_first = lanes.is_first();
    rewards.prepare(&Preparation { prompts: &all, logs: is_first.then_some(dir) })?;
    for note in rewards.notes() {
        observer.note(&note);
    }
    if let Some(asked) = trainer.max_steps.filter(|asked| *asked < total) {
        observer.note(&format!(
            "--max-steps {asked}: the run makes {total} steps, since each rollout makes {updates}"
        ));
    }
    same_beginning(&lanes, &state)?;
    observer.accepted()?;
    let (path, table) = (dir.join("metrics.jsonl"), dir.join(SAMPLES));
    let (metrics, samples) = match is_first {
        true => (MetricsFile::open(&path, &state)?, MetricsFile::plain(&table, state.step)?),
        false => (MetricsFile::of_another(&path), MetricsFile::of_another(&table)),
    };
    let mut plan = BatchPlan::new(&train.sizes, trainer);
    let kept = state.states.get(DRAWN).and_then(serde_json::Value::as_u64);
    let drawn = kept.unwrap_or(state.step / updates) + ahead.len() as u64;
    (0..drawn).for_each(|_| {
        plan.next();
    });
    let texts = of_texts(trainer, config);
    let mixing = match mix {
        Some(mix) => {
            Sft.check(mix.data, &model)?;
            let mut plan = BatchPlan::new(Sft.sizes(mix.data), &texts);
            (0..state.step).for_each(|_| {
                plan.next();
            });
            Some(Mixing { mix, plan, micro_tokens: trainer.micro_tokens })
        }
        None => None,
    };
    let exact = backend.device() == Device::Cpu
        && model.decoder().compute() == DType::F32
        && config.rollouts.source.is_own();
    let budget = fitting(budget, config, train, eval);
    let source = match source {
        Some(source) => source,
        None => Box::new(Own::new(Engine::new(model.decoder(), budget)?, ends)),
    };
    let roller = Roller {
        config,
        tokenizer,
        rewards,
        reference: reference.as_ref(),
        micro_tokens: trainer.micro_tokens,
        bounding,
        lanes,
        interrupted: stop,
    };
    let unlogged = Metrics::kept(&state.states, UNLOGGED);
    let unlogged_updates = Metrics::kept(&state.states, UNLOGGED_UPDATES);
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
        unlogged,
        unlogged_updates,
        source,
        ahead,
        budget,
        ends,
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
    if ended.is_ok() && training.roller.lanes.is_first() {
        training.source.close();
    }
    match ended.map_err(|error| training.metrics.still_there().err().unwrap_or(error))? {
        Some(checkpoint) => {
            let outcome = Outcome::Interrupted { steps: training.state.step, checkpoint };
            Ok(Trained { outcome, model: training.learner.model.detached(), probe: Vec::new() })
        }
        None => training.finish(tokenizer),
    }
}

/// Returns the options for batches of additional texts: as many texts as prompts in an update.
fn of_texts(trainer: &TrainerConfig, config: &OnlineConfig) -> TrainerConfig {
    let batch = match trainer.batch {
        BatchSize::Pairs(prompts) => BatchSize::Pairs((prompts / config.num_mini_batches).max(1)),
        tokens => tokens,
    };
    TrainerConfig { batch, ..trainer.clone() }
}

/// Creates the critic with its optimiser, at its own learning rate.
fn critic_of(
    model: &RewardModel,
    config: &OnlineConfig,
    trainer: &TrainerConfig,
    backend: &dyn Backend,
    total: u64,
) -> Result<Critic> {
    let Algorithm::Ppo(ppo) = &config.algorithm else {
        return refuse("critic", "only PPO has one".into());
    };
    let learning_rate = config.critic_learning_rate.unwrap_or(trainer.learning_rate);
    let learner = Learner::new(backend, model, &TrainerConfig { learning_rate, ..trainer.clone() }, total)?;
    Ok(Critic { learner, objective: ValueStep { loss: ppo.value_loss() } })
}

/// Returns a budget with a cache no larger than the run can fill.
fn fitting(budget: Budget, config: &OnlineConfig, train: &Prompts, eval: Option<&Prompts>) -> Budget {
    let sizes = train.sizes.iter().chain(eval.into_iter().flat_map(|eval| &eval.sizes));
    let longest =
        (sizes.max().copied().unwrap_or(0) + config.sampling.max_tokens).next_multiple_of(BLOCK) + BLOCK;
    Budget { cache_tokens: budget.cache_tokens.min(longest * budget.rows.max(1)).max(longest), ..budget }
}
