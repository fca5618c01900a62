//! The reference of a policy: log-probabilities of the same answers under a fixed model.
//!
//! They are computed once, before training, and cached by content, so that later epochs and runs need not
//! compute them.

mod cache;
mod divergence;

use std::path::PathBuf;

use pcrm_core::Backend;
use pcrm_core::data::encode::EncodedSet;
use pcrm_core::model::lora::peft::AdapterFolder;
use pcrm_core::model::{Checkpointing, LanguageModel};
use pcrm_core::tree::within_budget;

use crate::answers::AnswerBatch;
use crate::error::Result;
use crate::lanes::Lanes;
use crate::offline::Observer;
use crate::options::refuse;
use crate::score::within_vocabulary;
use crate::train::Base;

pub use cache::LogProbCache;
pub use divergence::next_token_kl;

/// The model that a policy is compared with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Reference {
    /// The policy before training; for new adapters, the model without them.
    #[default]
    Start,
    /// The model under the adapters in the policy's folder.
    Base,
    /// The model in another folder.
    Folder(PathBuf),
    /// No model: SimPO, CPO, ORPO, or a uniform reference.
    None,
}

/// Log-probabilities of answer tokens: by set, by answer, by token.
pub type AnswerLogProbs = Vec<Vec<Vec<f32>>>;

/// The counts of computing references.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Computed {
    /// Number of answers.
    pub answers: usize,
    /// Number of answers that a model was run on.
    pub computed: usize,
}

impl Reference {
    /// Returns the folder of the reference's weights, for a policy that starts from `base`; `None` for no
    /// reference.
    ///
    /// # Errors
    /// Fails if [`Reference::Base`] is set and the folder has no adapters.
    pub fn base(&self, base: &Base) -> Result<Option<Base>> {
        let plain = Base { lora: None, checkpointing: Checkpointing::Off, ..base.clone() };
        let read = |dir| Base { dir, random_init: false, seed: 0, ..plain.clone() };
        Ok(match self {
            Self::None => None,
            Self::Start if base.random_init => Some(plain),
            Self::Start => Some(read(base.dir.clone())),
            Self::Folder(dir) => Some(read(dir.clone())),
            Self::Base if AdapterFolder::is_alone(&base.dir) => {
                Some(read(AdapterFolder::open(&base.dir)?.base()?))
            }
            Self::Base => {
                let message = "base: the model's folder holds no adapters, so there is no other base; \
                               expected start, none, or a folder";
                refuse("reference", message.into())?;
                None
            }
        })
    }
}

/// Returns the log-probabilities of every answer's tokens under a model, computing those that are not cached.
///
/// The numbers of an answer depend only on its tokens and the model (to the bit in f32 on a CPU), so cached
/// ones are equivalent.
///
/// # Errors
/// Fails if the model cannot be opened or lacks a token of the data.
pub fn log_probs(
    backend: &dyn Backend,
    base: &Base,
    sets: &[&EncodedSet],
    micro_tokens: usize,
    cache: &LogProbCache,
    observer: &mut dyn Observer,
) -> Result<(AnswerLogProbs, Computed)> {
    let mut kept = cache.open(&setting(backend, base)?);
    let found: Vec<Option<Vec<Vec<f32>>>> = sets.iter().map(|set| kept.of_set(set)).collect();
    let missing: Vec<usize> = (0..sets.len()).filter(|at| found[*at].is_none()).collect();
    let answers_of = |places: &[usize]| places.iter().map(|at| sets[*at].answers.len()).sum::<usize>();
    let mut counts = Computed { answers: sets.iter().map(|set| set.answers.len()).sum(), computed: 0 };
    counts.computed = answers_of(&missing);
    let mut all: AnswerLogProbs = found.into_iter().map(Option::unwrap_or_default).collect();
    // Each process computes the missing values of its own range and receives the rest from the others,
    // because their caches may differ.
    let all = Lanes::of_processes(backend).dealt(sets.len(), |own| {
        let missing: Vec<usize> = missing.into_iter().filter(|at| own.contains(at)).collect();
        if missing.is_empty() {
            return Ok(all.drain(own).collect());
        }
        let model = base.open_reference(backend)?;
        within_vocabulary(missing.iter().map(|at| sets[*at]), model.config().vocabulary)?;
        let (mut done, total) = (0, answers_of(&missing) as u64);
        for part in within_budget(&missing, micro_tokens, |at| sets[*at].unique_tokens()) {
            let of_part: Vec<&EncodedSet> = part.iter().map(|at| sets[*at]).collect();
            let mut answers = token_log_probs(&model, &of_part)?.into_iter();
            for (at, set) in part.iter().zip(of_part) {
                let of_set: Vec<Vec<f32>> = answers.by_ref().take(set.answers.len()).collect();
                kept.put_set(set, &of_set);
                all[*at] = of_set;
            }
            done += answers_of(part) as u64;
            observer.precomputed(done, total);
        }
        kept.flush();
        Ok(all.drain(own).collect())
    })?;
    Ok((all, counts))
}

/// Computes the log-probabilities of the tokens of every answer of these sets, in one pass without history.
///
/// # Errors
/// Fails if the model fails.
pub fn token_log_probs(model: &LanguageModel, sets: &[&EncodedSet]) -> Result<Vec<Vec<f32>>> {
    let batch = AnswerBatch::new(sets, false, model.config().shares_up_to())?;
    let log_probs = model.log_probs(&batch.packed, &batch.rows, &batch.targets)?.read()?.into_f32();
    Ok(batch.answers.iter().map(|range| log_probs[range.clone()].to_vec()).collect())
}

/// Returns a text that identifies the reference and the way it is computed.
fn setting(backend: &dyn Backend, base: &Base) -> Result<String> {
    Ok(format!("language {}", base.digest(backend)?))
}
