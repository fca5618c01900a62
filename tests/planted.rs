//! A planted preference (the better answer contains a certain token), and tiny runs that learn it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use pcrm_core::constraint::{self, Constraint, PairView, Priors};
use pcrm_core::data::encode::EncodedSet;
use pcrm_core::data::preference::{Comparison, Origin, Verdict};
use pcrm_core::data::prompt_id::PairId;
use pcrm_core::model::{LanguageModel, ModelConfig, RewardModel};
use pcrm_core::optim::{AdamWConfig, BUCKET_BYTES, Rule, StatePlace, WeightType};
use pcrm_core::schedule::Shape;
use pcrm_core::text::Tokenizer;
use pcrm_core::{Backend, DType};
use pcrm_rl::fingerprint::{self, Fingerprint};
use pcrm_rl::metrics::{StepMetrics, Summary};
use pcrm_rl::objective::reward::{Reward, RewardConfig};
use pcrm_rl::objective::{self, Batch, Gradient};
use pcrm_rl::offline::{Final, Observer, Outcome, Run, TrainerConfig, Warmup, train};
use pcrm_rl::order::{BatchSize, Order};
use pcrm_rl::pairs::Pairs;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use crate::support::{beside, tokens};

/// The token that makes an answer better; smaller ids are ordinary tokens.
const BETTER: u32 = 30;
const VOCABULARY: u32 = 32;

/// A random prompt with its answers and comparisons. The answers may begin alike by chance, which does not
/// lengthen the prompt.
pub struct Drawn {
    pub prompt: Vec<u32>,
    pub answers: Vec<Vec<u32>>,
    pub comparisons: Vec<Comparison>,
}

impl Drawn {
    /// Makes a pair of these tokens.
    pub fn pair(prompt: Vec<u32>, chosen: Vec<u32>, rejected: Vec<u32>) -> Self {
        Self { prompt, answers: vec![chosen, rejected], comparisons: vec![Comparison::preferring(0, 1)] }
    }

    /// Returns the set as it is trained on, with the origin `planted.jsonl:ROW+1`.
    pub fn set(&self, row: usize) -> Result<EncodedSet> {
        let line = row as u64 + 1;
        let origin = Origin { file: Arc::from(Path::new("planted.jsonl")), line, record: line };
        EncodedSet::of_tokens(origin, &self.prompt, &self.answers, &self.comparisons)
            .context("the answers have the same tokens")
    }
}

/// Adds the bounds of a constraint to sets. In the text that constraints see, a token is a word.
fn bounded(drawn: &[Drawn], constraint: &str, seed: u64) -> Result<Pairs> {
    let text = |ids: &[u32]| ids.iter().map(|id| format!("t{id} ")).collect::<String>();
    let pairs = || drawn.iter().flat_map(|set| set.comparisons.iter().map(move |pair| (set, pair)));
    let texts: Vec<[String; 3]> = pairs()
        .map(|(set, pair)| {
            let [chosen, rejected] = [pair.chosen, pair.rejected].map(|at| &set.answers[at as usize]);
            [&set.prompt, chosen, rejected].map(|ids| text(ids))
        })
        .collect();
    let mut views = Vec::new();
    for (row, ((set, pair), [prompt, chosen, rejected])) in pairs().zip(&texts).enumerate() {
        views.push(PairView {
            identity: row as u64,
            prompt_id: PairId::of_texts(prompt, chosen, rejected).prompt,
            prompt,
            chosen,
            rejected,
            chosen_ids: &set.answers[pair.chosen as usize],
            rejected_ids: &set.answers[pair.rejected as usize],
            margin: pair.margin,
        });
    }
    let firsts = drawn.iter().scan(0, |next, set| {
        let first = *next;
        *next += set.comparisons.len();
        Some(first)
    });
    let sets = firsts.zip(drawn).map(|(row, set)| set.set(row)).collect::<Result<_>>()?;
    Ok(Pairs::new(sets, bounds(constraint, &views, seed)?))
}

/// Returns pairs of random ragged sequences with the planted preference and a constraint's bounds. The margin
/// is the share of planted tokens in the chosen answer.
pub fn pairs(count: usize, seed: u64, constraint: &str) -> Result<Pairs> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut draw = |_| {
        let mut some = |most: usize| {
            let length = rng.random_range(1..=most);
            tokens(length, BETTER, &mut rng)
        };
        let (prompt, mut chosen, rejected) = (some(6), some(5), some(5));
        let at = rng.random_range(0..chosen.len());
        chosen[at] = BETTER;
        let better = chosen.iter().filter(|id| **id == BETTER).count();
        let margin = Some(better as f32 / chosen.len() as f32);
        let mut drawn = Drawn::pair(prompt, chosen, rejected);
        drawn.comparisons[0].margin = margin;
        drawn
    };
    let drawn: Vec<Drawn> = (0..count).map(&mut draw).collect();
    bounded(&drawn, constraint, seed)
}

/// Returns ranked sets of four answers, which rank by their planted tokens: three, two, and twice none, which
/// is a tie.
pub fn sets(count: usize, seed: u64, constraint: &str, with_ties: bool) -> Result<Pairs> {
    const PLANTED: [usize; 4] = [3, 2, 0, 0];
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut draw = |_| {
        let prompt = tokens(4, BETTER, &mut rng);
        let mut answer = |planted: &usize| {
            let length = rng.random_range(3..=6);
            let mut ids = tokens(length, BETTER, &mut rng);
            ids[..*planted].fill(BETTER);
            ids
        };
        let answers: Vec<Vec<u32>> = PLANTED.iter().map(&mut answer).collect();
        let compared = |(chosen, rejected): (u32, u32)| {
            let tied = PLANTED[chosen as usize] == PLANTED[rejected as usize];
            let verdict = if tied { Verdict::Tied } else { Verdict::Preferred };
            (with_ties || !tied).then_some(Comparison { verdict, ..Comparison::preferring(chosen, rejected) })
        };
        let all = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)];
        Drawn { prompt, answers, comparisons: all.into_iter().filter_map(compared).collect() }
    };
    let drawn: Vec<Drawn> = (0..count).map(&mut draw).collect();
    bounded(&drawn, constraint, seed)
}

/// Returns a constraint's bounds. An unfitted constraint is fitted to judges whose win rates grow with the
/// share of planted tokens in the chosen answer.
fn bounds(constraint: &str, pairs: &[PairView<'_>], seed: u64) -> Result<Vec<f32>> {
    let priors = Priors::seeded(seed);
    let mut constraint = constraint::parse(constraint)?;
    if constraint.is_unfitted() {
        let win = |pair: &PairView<'_>| {
            let better = pair.chosen_ids.iter().filter(|id| **id == BETTER).count();
            (1.0 + better as f32 / pair.chosen_ids.len() as f32) / 2.0
        };
        let wins: Vec<f32> = pairs.iter().map(win).collect();
        constraint = constraint.fitted(pairs, &wins, &priors)?;
    }
    Ok(constraint.checked_bounds(pairs, &priors)?)
}

/// Returns the same pairs with the worse answer preferred.
pub fn reversed(mut data: Pairs) -> Pairs {
    for pair in data.sets.iter_mut().flat_map(|set| &mut set.comparisons) {
        std::mem::swap(&mut pair.chosen, &mut pair.rejected);
    }
    data
}

/// Returns the config of a small model with this number of layers.
fn shape(layers: usize) -> Result<ModelConfig> {
    let config = json!({
        "model_type": "llama", "vocab_size": VOCABULARY, "hidden_size": 16, "intermediate_size": 24,
        "num_hidden_layers": layers, "num_attention_heads": 2, "num_key_value_heads": 1, "pad_token_id": 31,
        "max_position_embeddings": 64, "initializer_range": 0.2, "architectures": ["LlamaForCausalLM"]
    });
    Ok(ModelConfig::from_json(config.as_object().cloned().context("an object")?, Path::new("planted"))?)
}

/// Returns a reward model with random weights and this number of layers.
pub fn model(backend: &dyn Backend, layers: usize) -> Result<RewardModel> {
    Ok(RewardModel::random(backend, shape(layers)?, DType::F32, 4)?)
}

/// Returns a language model with random weights and this number of layers.
pub fn language_model(backend: &dyn Backend, layers: usize) -> Result<LanguageModel> {
    Ok(LanguageModel::random(backend, shape(layers)?, DType::F32, 4)?)
}

/// Returns the loss of planted runs; their margins are only for fitting constraints.
pub fn reward() -> RewardConfig {
    RewardConfig { ignore_margin: true, ..RewardConfig::default() }
}

/// Returns the objective of this loss under constant bounds.
pub fn objective(config: RewardConfig) -> Reward<'static> {
    Reward { config, schedule: None }
}

/// Returns the gradient of the loss of some sets, computed in parts of this many tokens.
pub fn gradient(
    backend: &dyn Backend,
    model: &RewardModel,
    data: &Pairs,
    config: RewardConfig,
    items: &[usize],
    micro_tokens: usize,
) -> pcrm_rl::Result<Gradient> {
    objective::gradient(backend, &objective(config), model, &Batch { data, items, micro_tokens }, 0.0)
}

/// Returns options for about fourteen steps with evaluations, checkpoints, warm-up, decay and clipping.
pub fn config() -> TrainerConfig {
    TrainerConfig {
        seed: 5,
        epochs: 2.0,
        max_steps: Some(14),
        batch: BatchSize::Pairs(8),
        order: Order::Shuffled,
        micro_tokens: 64, // so that every run accumulates gradients
        lanes: 1,
        bucket_bytes: BUCKET_BYTES,
        learning_rate: 1e-2,
        schedule: Shape::Cosine,
        warmup: Warmup::Steps(3),
        optimizer: Rule::AdamW,
        optimizer_states: StatePlace::Device,
        weights: WeightType::F32,
        adamw: AdamWConfig { weight_decay: 0.1, ..AdamWConfig::default() },
        max_grad_norm: Some(1.0),
        log_every: 1,
        eval_every: Some(4),
        save_every: Some(5),
        keep: 2,
        patience: None,
        final_weights: Final::Last,
    }
}

/// An observer that keeps a run's events and can stop it.
#[derive(Default)]
pub struct Watch {
    pub lines: Vec<StepMetrics>,
    pub evaluations: Vec<(u64, Summary, bool)>,
    pub begun: (u64, u64),
    pub ended: bool,
    stop_after: Option<u64>,
    stop: Arc<AtomicBool>,
}

impl Watch {
    /// Returns an observer that sets the run's stop flag after this many steps.
    pub fn stopping(step: u64) -> Self {
        Self { stop_after: Some(step), ..Self::default() }
    }
}

impl Observer for Watch {
    fn begin(&mut self, done: u64, total: u64) {
        self.begun = (done, total);
    }

    fn step(&mut self, metrics: &StepMetrics) {
        self.lines.push(metrics.clone());
        if self.stop_after.is_some_and(|step| metrics.step >= step) {
            self.stop.store(true, Ordering::Relaxed);
        }
    }

    fn evaluated(&mut self, step: u64, metrics: &Summary, is_best: bool) {
        self.evaluations.push((step, metrics.clone(), is_best));
    }

    fn end(&mut self) {
        self.ended = true;
    }
}

/// Data and options of a run that can be repeated.
pub struct Bench {
    pub train: Pairs,
    pub eval: Option<Pairs>,
    /// The constraint, if its bounds change over the run.
    pub schedule: Option<Box<dyn Constraint>>,
    pub config: TrainerConfig,
    pub reward: RewardConfig,
    /// Layers of the model.
    pub layers: usize,
    /// The data's name in the fingerprint.
    pub data: &'static str,
}

impl Bench {
    /// Makes a run; without held-out data, nothing is evaluated.
    pub fn new(config: TrainerConfig, train: Pairs, eval: Option<Pairs>) -> Self {
        let eval_every = config.eval_every.filter(|_| eval.is_some());
        let config = TrainerConfig { eval_every, ..config };
        Self { train, eval, schedule: None, config, reward: reward(), layers: 1, data: "planted" }
    }

    /// Makes a run with the usual data and options.
    pub fn usual() -> Result<Self> {
        let bound = r#"{"kind": "fixed", "bound": 3}"#;
        Ok(Self::new(config(), pairs(60, 1, bound)?, Some(pairs(20, 2, bound)?)))
    }

    /// Starts or resumes a run in `dir` with a newly made model.
    pub fn run(
        &self,
        backend: &dyn Backend,
        dir: &Path,
        watch: &mut Watch,
    ) -> Result<pcrm_rl::Result<Outcome>> {
        let tokenizer = Tokenizer::from_dir(&beside("golden/text/plain"))?;
        let stop = Arc::clone(&watch.stop);
        let objective = Reward { config: self.reward, schedule: self.schedule.as_deref() };
        let run = Run {
            backend,
            objective: &objective,
            model: model(backend, self.layers)?,
            tokenizer: &tokenizer,
            train: &self.train,
            eval: self.eval.as_ref(),
            dir,
            fingerprint: self.fingerprint(),
            stop: &stop,
        };
        Ok(train(run, &self.config, watch).map(|trained| trained.outcome))
    }

    fn fingerprint(&self) -> Fingerprint {
        let mut fingerprint = fingerprint::of(&self.config, &self.reward);
        fingerprint.insert("data".to_owned(), json!(self.data));
        fingerprint
    }

    /// Makes the usual run under this constraint, whose bounds may change over it.
    pub fn under(constraint: &str) -> Result<Self> {
        let schedule = Some(constraint::parse(constraint)?);
        let (train, eval) = (pairs(60, 1, constraint)?, pairs(20, 2, constraint)?);
        Ok(Self { schedule, ..Self::new(config(), train, Some(eval)) })
    }

    /// Calls [`Bench::run`] and fails unless the run finishes.
    pub fn finish(&self, backend: &dyn Backend, dir: &Path) -> Result<(Outcome, Watch)> {
        let mut watch = Watch::default();
        let outcome = self.run(backend, dir, &mut watch)??;
        anyhow::ensure!(matches!(outcome, Outcome::Finished { .. }) && watch.ended, "{outcome:?}");
        Ok((outcome, watch))
    }

    /// Calls [`Bench::run`] and stops it after `steps` steps.
    pub fn stopped_after(&self, steps: u64, backend: &dyn Backend, dir: &Path) -> Result<()> {
        let outcome = self.run(backend, dir, &mut Watch::stopping(steps))??;
        let wanted = matches!(&outcome, Outcome::Interrupted { steps: made, checkpoint }
            if *made == steps && checkpoint.ends_with(format!("checkpoint-{steps}")));
        anyhow::ensure!(wanted, "stopped after {steps} steps: {outcome:?}");
        Ok(())
    }
}
