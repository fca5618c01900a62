//! On-policy training: ratios of 1, trees against separate sequences, runs that resume, rewards that rise.

use std::fs;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, ensure};
use pcrm_core::constraint::{self, Priors};
use pcrm_core::data::encode::encode_prompts;
use pcrm_core::data::preference::Strictness;
use pcrm_core::data::prompts::load_prompts;
use pcrm_core::model::{LanguageModel, LoraConfig, RewardModel};
use pcrm_core::text::Tokenizer;
use pcrm_core::{Backend, DType};
use pcrm_rl::advantage::{KlControl, ScoreShaping};
use pcrm_rl::fingerprint::{self, Fingerprint};
use pcrm_rl::loss::policy::{EntropyControl, GrpoConfig, GrpoLoss, PpoConfig, RlooConfig};
use pcrm_rl::metrics::StepMetrics;
use pcrm_rl::objective::{Batch, gradient};
use pcrm_rl::offline::{Observer, Outcome};
use pcrm_rl::online::{
    Algorithm, Bounding, CRITIC, OnlineConfig, OnlineDpoConfig, OnlineRun, PolicyStep, Prompts,
    SampledAnswer, Step, Tree, train,
};
use pcrm_rl::options::TrainerConfig;
use pcrm_rl::order::BatchSize;
use pcrm_rl::reward_source::{self, Weighted};
use pcrm_rl::rollout::source::RolloutSource;
use pcrm_rl::rollout::{Budget, Sampling, Stop};

use crate::subject::{Subject, across, every_backend};
use crate::support::beside;

/// Returns a reward that differs between the answers of a small random model.
fn rewards() -> Result<Weighted> {
    let specs = [r#"{"kind": "repetition", "ngram": 1, "unit": "characters"}"#.parse()?];
    let mut none =
        |_: &std::path::Path| Err(pcrm_rl::Error::from(pcrm_core::Error::invalid("model", "none")));
    Ok(reward_source::open(&specs, &mut none)?)
}

/// Loads the golden model `llama`, which knows the first 67 tokens of the tokenizer: capitals and digits.
pub fn policy(backend: &dyn Backend) -> Result<LanguageModel> {
    Ok(LanguageModel::load(backend, &beside("golden/models/llama"), DType::F32)?)
}

/// Returns a critic with the same body, whose score of every prefix is 0.
fn critic(backend: &dyn Backend) -> Result<RewardModel> {
    let model = RewardModel::load_to_train(backend, &beside("golden/models/llama"), DType::F32, 1)?;
    Ok(model.with_head_of_zeros()?)
}

pub fn tokenizer() -> Result<Tokenizer> {
    Ok(Tokenizer::from_dir(&beside("golden/text/plain"))?)
}

pub fn prompts(tokenizer: &Tokenizer) -> Result<Prompts> {
    let file = tempfile::Builder::new().suffix(".jsonl").tempfile()?;
    let lines: Vec<String> =
        (0..10).map(|at| format!("{{\"prompt\": \"{}\"}}", ["AB", "BCA", "C", "7A9BC"][at % 4])).collect();
    fs::write(file.path(), lines.join("\n"))?;
    let (rows, _) = load_prompts(&[file.path().to_path_buf()], Strictness::Refuse)?;
    let (encoded, _) = encode_prompts(&rows, tokenizer, None)?;
    Ok(Prompts::new(rows, encoded))
}

pub fn trainer() -> TrainerConfig {
    TrainerConfig {
        epochs: 2.0,
        batch: BatchSize::Pairs(4),
        learning_rate: 5e-3,
        micro_tokens: 64,
        save_every: Some(2),
        ..TrainerConfig::default()
    }
}

pub fn config(algorithm: Algorithm) -> OnlineConfig {
    OnlineConfig {
        algorithm,
        num_generations: 4,
        sampling: Sampling { max_tokens: 12, ..Sampling::default() },
        ..OnlineConfig::default()
    }
}

/// An observer that stops a run after some steps and keeps the metrics of all.
#[derive(Default)]
struct Seen<'a> {
    steps: Vec<StepMetrics>,
    stop_after: Option<(u64, &'a AtomicBool)>,
}

impl Observer for Seen<'_> {
    fn step(&mut self, metrics: &StepMetrics) {
        self.steps.push(metrics.clone());
        if let Some((after, stop)) = self.stop_after.filter(|(after, _)| *after == metrics.step) {
            let _ = after;
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    }
}

/// Runs in a folder and returns the outcome, the metrics and the weights.
fn run(
    backend: &dyn Backend,
    dir: &std::path::Path,
    options: (&OnlineConfig, &TrainerConfig),
    lora: bool,
    stop_after: Option<u64>,
) -> Result<(Outcome, Vec<StepMetrics>, LanguageModel)> {
    let (config, trainer) = options;
    run_with(backend, dir, config, trainer, lora, stop_after, None)
}

/// Runs with answers of this source; `None` for the trainer's own engine.
pub fn run_with(
    backend: &dyn Backend,
    dir: &std::path::Path,
    config: &OnlineConfig,
    trainer: &TrainerConfig,
    lora: bool,
    stop_after: Option<u64>,
    rollouts: Option<Box<dyn RolloutSource>>,
) -> Result<(Outcome, Vec<StepMetrics>, LanguageModel)> {
    run_rewarded(backend, dir, (config, trainer), lora, stop_after, rollouts, &mut rewards()?)
}

/// Runs with these rewards.
pub fn run_rewarded(
    backend: &dyn Backend,
    dir: &std::path::Path,
    (config, trainer): (&OnlineConfig, &TrainerConfig),
    lora: bool,
    stop_after: Option<u64>,
    rollouts: Option<Box<dyn RolloutSource>>,
    rewards: &mut Weighted,
) -> Result<(Outcome, Vec<StepMetrics>, LanguageModel)> {
    let tokenizer = tokenizer()?;
    let stop = AtomicBool::new(false);
    let mut seen = Seen { stop_after: stop_after.map(|after| (after, &stop)), ..Seen::default() };
    let base = beside("golden/models/llama");
    let model = match lora {
        true => policy(backend)?.with_adapters(LoraConfig { r: 4, ..LoraConfig::default() }, &base, 3)?,
        false => policy(backend)?,
    };
    let reference = config.needs_reference().then(|| policy(backend)).transpose()?;
    let critic = config.algorithm.needs_critic().then(|| critic(backend)).transpose()?;
    let (constraint, priors) = (constraint::parse("length_ratio")?, Priors::seeded(1));
    let pairs = matches!(config.algorithm, Algorithm::OnlineDpo(_));
    let fingerprint: Fingerprint = fingerprint::of(trainer, config);
    let ends = Stop::at([2]);
    let run = OnlineRun {
        backend,
        model,
        reference,
        critic,
        mix: None,
        bounding: pairs.then_some(Bounding { constraint: constraint.as_ref(), priors: &priors }),
        tokenizer: &tokenizer,
        train: prompts(&tokenizer)?,
        eval: Some(prompts(&tokenizer)?),
        ends: &ends,
        rollouts,
        rewards,
        budget: Budget::default(),
        dir,
        fingerprint,
        stop: &stop,
    };
    let trained = train(run, config, trainer, &mut seen)?;
    Ok((trained.outcome, seen.steps, trained.model))
}

/// Returns the samples of a run, without the names of their files.
pub fn samples(dir: &std::path::Path) -> Result<Vec<serde_json::Value>> {
    let text = fs::read_to_string(dir.join("samples.jsonl"))?;
    let mut lines = text.lines().map(serde_json::from_str).collect::<Result<Vec<serde_json::Value>, _>>()?;
    lines.iter_mut().filter_map(|line| line.as_object_mut()).for_each(|line| drop(line.remove("origin")));
    Ok(lines)
}

fn algorithms() -> [Algorithm; 5] {
    [
        Algorithm::Grpo(GrpoConfig { beta: 0.04, ..GrpoConfig::default() }),
        Algorithm::Grpo(GrpoConfig { loss_type: GrpoLoss::Grpo, ..GrpoConfig::default() }),
        Algorithm::Rloo(RlooConfig::default()),
        Algorithm::Ppo(PpoConfig {
            kl: KlControl { kl_target: Some(1.0), kl_horizon: 64.0, ..KlControl::default() },
            shaping: ScoreShaping { reward_clip_range: Some([-5.0, 5.0]), missing_eos_penalty: Some(0.1) },
            ..PpoConfig::default()
        }),
        Algorithm::OnlineDpo(OnlineDpoConfig::default()),
    ]
}

/// Protects: at the first update after a rollout, the importance ratio of every token is exactly 1, with
/// adapters too, and an unchanged policy has no divergence.
#[test]
fn ratios_are_one_at_the_first_update() -> Result<()> {
    every_backend(|backend| {
        for (algorithm, lora) in algorithms().into_iter().zip([false, true, false, true, false]) {
            let dir = tempfile::tempdir()?;
            let (_, steps, _) = run(backend, dir.path(), (&config(algorithm), &trainer()), lora, None)?;
            ensure!(steps.len() == 6, "{} steps", steps.len());
            for step in &steps {
                let of = |name: &str| step.metrics.get(name);
                if backend.exact() {
                    let difference = of("sampling/sampling_logp_difference/max");
                    ensure!(difference == Some(0.0), "step {}: {difference:?}", step.step);
                }
                for name in ["clip_ratio/region_mean", "policy/clipfrac_avg", "val/clipfrac_avg"] {
                    ensure!(of(name).is_none_or(|share| share == 0.0), "step {}: {name}", step.step);
                }
                if let Some(ratio) = of("val/ratio").filter(|_| backend.exact()) {
                    ensure!(ratio == 1.0, "step {}: a ratio of {ratio}", step.step);
                }
            }
            for name in ["kl", "objective/kl", "rewards/margins"] {
                if let Some(kl) = steps[0].metrics.get(name) {
                    ensure!(kl.abs() < 1e-5, "{name} is {kl} before the first update");
                }
            }
        }
        Ok(())
    })
}

/// Protects: a run that is stopped anywhere and resumed ends with the same bits, with several updates per
/// rollout.
#[test]
fn a_resumed_run_is_the_same_run() -> Result<()> {
    every_backend(|backend| {
        for (algorithm, dynamic_sampling) in [
            (algorithms()[3].clone(), None),
            (algorithms()[4].clone(), None),
            (
                Algorithm::Grpo(GrpoConfig {
                    beta: 0.04,
                    top_entropy_quantile: 0.5,
                    entropy: EntropyControl {
                        use_adaptive_entropy: true,
                        entropy_coef: 0.01,
                        entropy_target: 3.5,
                        ..EntropyControl::default()
                    },
                    ..GrpoConfig::default()
                }),
                Some(2),
            ),
        ] {
            let mut config = config(algorithm);
            config.dynamic_sampling = dynamic_sampling;
            (config.num_iterations, config.num_mini_batches) = (2, 2);
            let trainer = TrainerConfig { epochs: 1.0, save_every: Some(4), ..trainer() };
            let whole = tempfile::tempdir()?;
            let (_, steps, want) = run(backend, whole.path(), (&config, &trainer), false, None)?;
            for after in [1, 5, 8] {
                let dir = tempfile::tempdir()?;
                let (outcome, _, _) = run(backend, dir.path(), (&config, &trainer), false, Some(after))?;
                ensure!(matches!(outcome, Outcome::Interrupted { .. }), "{outcome:?}");
                let (outcome, rest, got) = run(backend, dir.path(), (&config, &trainer), false, None)?;
                ensure!(matches!(outcome, Outcome::Finished { .. }), "{outcome:?}");
                ensure!(got.tensors()? == want.tensors()?, "the weights differ after a stop at step {after}");
                ensure!(rest.len() < steps.len() && !rest.is_empty());
                ensure!(
                    samples(dir.path())? == samples(whole.path())?,
                    "the samples differ after a stop at step {after}"
                );
                if config.algorithm.needs_critic() {
                    let of = |dir: &std::path::Path| fs::read(dir.join(CRITIC).join("model.safetensors"));
                    ensure!(
                        of(dir.path())? == of(whole.path())?,
                        "the critic differs after a stop at step {after}"
                    );
                    RewardModel::load(backend, &dir.path().join(CRITIC), DType::F32)?;
                }
            }
        }
        Ok(())
    })
}

/// Protects: a policy learns, so the reward of its samples rises.
#[test]
fn the_reward_rises() -> Result<()> {
    every_backend(|backend| {
        let trainer = TrainerConfig { epochs: 8.0, learning_rate: 2e-2, ..trainer() };
        for algorithm in [
            algorithms()[1].clone(),
            Algorithm::Rloo(RlooConfig { beta: 0.0, ..RlooConfig::default() }),
            algorithms()[3].clone(),
            algorithms()[4].clone(),
        ] {
            let dir = tempfile::tempdir()?;
            let (_, steps, _) = run(backend, dir.path(), (&config(algorithm), &trainer), false, None)?;
            let reward = |steps: &[StepMetrics]| {
                steps.iter().filter_map(|step| step.metrics.get("reward")).sum::<f64>() / steps.len() as f64
            };
            let (first, last) = (reward(&steps[..4]), reward(&steps[steps.len() - 4..]));
            ensure!(last > first + 0.02, "the reward went from {first} to {last}");
        }
        Ok(())
    })
}

/// Protects: samples in one tree have the loss and gradients of separate sequences, and micro-batches those
/// of the whole batch.
#[test]
fn a_tree_has_the_gradient_of_separate_sequences() -> Result<()> {
    every_backend(|backend| {
        let model = policy(backend)?.trainable();
        let answer = |at: usize| SampledAnswer {
            ids: (0..3 + at % 4).map(|token| ((token * 7 + at * 11) % 60) as u32 + 5).collect(),
            sampled: vec![-3.0; 3 + at % 4],
            old_log_probs: Some(vec![-3.9; 3 + at % 4]),
            reference: Some(vec![-4.2; 3 + at % 4]),
            advantage: [1.0, -0.5, 0.3, -1.2][at % 4],
            ended: !at.is_multiple_of(3),
            ..SampledAnswer::default()
        };
        let prompt =
            |at: usize| (0..9 + at).map(|token| ((token * 5 + at) % 60) as u32 + 5).collect::<Vec<u32>>();
        let tree =
            |at: usize, answers: Vec<SampledAnswer>| Tree { prompt: prompt(at), answers, ..Tree::default() };
        let shared = vec![tree(0, (0..4).map(answer).collect()), tree(1, (4..8).map(answer).collect())];
        let apart = (0..8).map(|at| tree(at / 4, vec![answer(at)])).collect::<Vec<_>>();
        for loss_type in [GrpoLoss::Dapo, GrpoLoss::Grpo, GrpoLoss::Cispo] {
            let loss = GrpoConfig { loss_type, beta: 0.1, ..GrpoConfig::default() }.loss(8);
            let objective = PolicyStep { loss, temperature: 0.9 };
            let of = |trees: &[Tree], micro_tokens: usize| -> Result<Vec<(String, Vec<f32>)>> {
                let mut step = Step::new(trees.to_vec());
                let items: Vec<usize> = (0..trees.len()).collect();
                step.counted(&objective.loss, &items, 1, None)?;
                let batch = Batch { data: &step, items: &items, micro_tokens };
                let made = gradient(backend, &objective, &model, &batch, 0.0)?;
                let of = |(name, gradient): (&str, &pcrm_core::Tensor)| {
                    Ok((name.to_owned(), gradient.read()?.into_f32()))
                };
                made.gradients.iter().map(of).collect()
            };
            let want = of(&apart, usize::MAX)?;
            for (what, got) in [("a tree", of(&shared, usize::MAX)?), ("micro-batches", of(&shared, 1)?)] {
                for ((name, got), (_, want)) in got.iter().zip(&want) {
                    backend.check_norm(&format!("{what}, {loss_type}: {name}"), got, want, 1e-5)?;
                }
            }
        }
        Ok(())
    })
    .context("gradients of trees")
}

/// Protects: all backends sample the same first answers and take the same first update.
#[test]
fn backends_begin_the_same_run() -> Result<()> {
    let first = |backend: &Subject| -> Result<Vec<StepMetrics>> {
        let trainer = TrainerConfig { max_steps: Some(1), ..trainer() };
        let step = |algorithm| {
            let dir = tempfile::tempdir()?;
            let (_, mut steps, _) = run(backend, dir.path(), (&config(algorithm), &trainer), false, None)?;
            Ok(steps.remove(0))
        };
        algorithms().into_iter().map(step).collect()
    };
    across(first, |subjects, made| {
        // On a GPU, a draw at the edge between two tokens may pick the other one.
        if !subjects.iter().all(|subject| subject.exact()) {
            return Ok(());
        }
        for (at, (left, right)) in made[0].iter().zip(made[1]).enumerate() {
            for ((name, want), (other, got)) in left.metrics.iter().zip(right.metrics.iter()) {
                let near = (want - got).abs() <= 1e-3 * (1.0 + want.abs()) || name.contains("time");
                ensure!(name == other && near, "algorithm {at}: {name} is {want}, {other} is {got}");
            }
        }
        Ok(())
    })
}
