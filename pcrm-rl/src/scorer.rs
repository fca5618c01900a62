//! A trained reward model that scores texts.

use std::path::Path;

use pcrm_core::data::conversation::{Content, Message};
use pcrm_core::data::encode::encode_text;
use pcrm_core::model::{Scores, ScoringModel};
use pcrm_core::registry::{self, BackendPlugin};
use pcrm_core::text::Tokenizer;
use pcrm_core::{Backend, DType, Device};

use crate::error::{Error, Result};
use crate::manifest;
use crate::score::score_sequences;

/// The number of tokens computed at once.
const MICRO_TOKENS: usize = 8192;

/// A trained reward model with its tokenizer and its backend.
///
/// The scores equal those of `pcrm score`: the same tokens, and on a CPU in f32 the same bits.
///
/// ```
/// # use std::error::Error;
/// use pcrm_backend_candle as _; // links the backend
/// use pcrm_rl::prelude::*;
///
/// # fn main() -> Result<(), Box<dyn Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let dir = folder.path().join("rm");
/// # RewardTrainer::new("examples/tiny", "examples/tiny/pairs.jsonl").random_init().output(&dir).train()?;
/// let scorer = Scorer::open(&dir)?;
/// let salty = scorer.score("Is the sea salty?", " Yes, about 3.5 % of it is salt.")?;
/// let sweet = scorer.score("Is the sea salty?", " No.")?;
/// println!("margin {}", salty - sweet);
/// # assert_eq!(scorer.score_all(&[("Is the sea salty?", " No.")])?, [sweet]);
/// # assert!(salty != sweet);
/// # Ok(())
/// # }
/// ```
pub struct Scorer {
    model: ScoringModel,
    tokenizer: Tokenizer,
    /// Declared after the model so that it is dropped later: it computes the model's tensors.
    _backend: Box<dyn Backend>,
}

impl Scorer {
    /// Opens a trained reward model in f32 on the CPU, on the first backend that is linked.
    ///
    /// # Errors
    /// Fails if no backend is linked, or the folder holds no trained reward model.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        Self::open_on(first_backend()?, dir, DType::F32)
    }

    /// Opens a trained reward model on this backend, computing in this type.
    ///
    /// # Errors
    /// Fails if the folder holds no trained reward model.
    pub fn open_on(backend: Box<dyn Backend>, dir: impl AsRef<Path>, dtype: DType) -> Result<Self> {
        let how = manifest::applied(backend.as_ref(), dir.as_ref(), dtype);
        let (model, tokenizer) = ScoringModel::open_as(dir.as_ref(), how)?;
        Ok(Self { model, tokenizer, _backend: backend })
    }

    /// Returns the score of an answer that directly follows its prompt and ends with the end-of-sequence
    /// token. Higher is better; only differences between answers to the same prompt are meaningful.
    ///
    /// # Errors
    /// Fails if the text has no tokens or the score is not finite.
    pub fn score(&self, prompt: &str, answer: &str) -> Result<f32> {
        Ok(self.score_all(&[(prompt, answer)])?[0])
    }

    /// Returns the scores of prompts with answers, in order.
    ///
    /// # Errors
    /// Fails as [`Scorer::score`] does.
    pub fn score_all(&self, texts: &[(&str, &str)]) -> Result<Vec<f32>> {
        let content = |text: &str| Content::Text(text.to_owned());
        let ids = texts.iter().map(|(prompt, answer)| self.ids(Some(&content(prompt)), &content(answer)));
        self.scores(&ids.collect::<Result<Vec<_>>>()?)
    }

    /// Returns the score of a conversation, rendered by the tokenizer's chat template.
    ///
    /// # Errors
    /// Fails if the tokenizer has no chat template or the template refuses the messages, and as
    /// [`Scorer::score`] does.
    pub fn score_chat(&self, messages: &[Message]) -> Result<f32> {
        let ids = self.ids(None, &Content::Messages(messages.to_vec()))?;
        Ok(self.scores(&[ids])?[0])
    }

    fn ids(&self, prompt: Option<&Content>, text: &Content) -> Result<Vec<u32>> {
        let ids = encode_text(prompt, text, &self.tokenizer, self.model.outline().pad)?;
        let vocabulary = self.model.outline().inputs;
        match ids.iter().find(|id| **id as usize >= vocabulary) {
            Some(id) => {
                let message = format!("token id {id} is outside the model's vocabulary of {vocabulary}");
                Err(Error::Invalid { field: "text", message })
            }
            None => Ok(ids),
        }
    }

    fn scores(&self, sequences: &[Vec<u32>]) -> Result<Vec<f32>> {
        let views: Vec<&[u32]> = sequences.iter().map(Vec::as_slice).collect();
        let scores = score_sequences(&self.model, &views, MICRO_TOKENS)?;
        match scores.iter().find(|score| !score.is_finite()) {
            Some(score) => {
                let message = format!("is {score}: the model's weights are broken");
                Err(Error::Invalid { field: "score", message })
            }
            None => Ok(scores),
        }
    }
}

/// Opens the first linked backend on the CPU.
///
/// # Errors
/// Fails if no backend is linked or it does not open.
pub(crate) fn first_backend() -> Result<Box<dyn Backend>> {
    let Some(plugin) = registry::all::<BackendPlugin>().into_iter().next() else {
        let message = "none is linked; name its crate: `use pcrm_backend_candle as _;`".to_owned();
        return Err(Error::Invalid { field: "backend", message });
    };
    Ok((plugin.open)(Device::Cpu.into())?)
}
