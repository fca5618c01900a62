//! A reward model that scores sampled answers, by text: it has a tokenizer and a template of its own.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use pcrm_core::data::conversation::{Content, Message};
use pcrm_core::data::encode::encode_text;
use pcrm_core::model::RewardModel;
use pcrm_core::text::Tokenizer;
use pcrm_core::{Backend, digest};
use pcrm_rl::score::score_sequences;
use serde_json::{Value, json};

use crate::hub::{Hub, Weights};
use crate::machine::Machine;
use crate::progress::say;

/// Tokens that are computed at once.
const AT_ONCE: usize = 8192;

/// A reward model.
pub struct Judge {
    model: RewardModel,
    tokenizer: Tokenizer,
    digest: String,
}

impl Judge {
    /// Loads a reward model.
    ///
    /// # Errors
    /// A folder that is no reward model's.
    pub fn open(
        machine: &Machine,
        hub: &Hub,
        backend: &dyn Backend,
        option: &str,
        dir: &Path,
        policy: &Tokenizer,
    ) -> Result<Self> {
        let dir = hub.model(option, dir, Weights::Read)?;
        let model = RewardModel::open_trained(backend, &dir, machine.dtype);
        let (model, tokenizer) = model.with_context(|| format!("{option} {}", dir.display()))?;
        if tokenizer.vocab_size() != policy.vocab_size() {
            say("the reward model has another tokenizer: answers reach it as text");
        }
        Ok(Self { model, tokenizer, digest: digest::model(&dir)? })
    }

    /// Returns the digest of the reward model's files.
    pub fn origin(&self) -> Value {
        json!(self.digest)
    }

    /// Scores answers to prompts.
    ///
    /// # Errors
    /// A text that the reward model's template refuses or that is longer than its positions; a score that is no number.
    pub fn scores(&self, answers: &[(&Content, &str)]) -> Result<Vec<f32>> {
        let config = self.model.config();
        let encode = |(prompt, answer): &(&Content, &str)| -> Result<Vec<u32>> {
            let text = match prompt {
                Content::Text(_) => Content::Text((*answer).to_owned()),
                Content::Messages(_) => Content::Messages(vec![Message::new("assistant", *answer)]),
            };
            let ids = encode_text(Some(prompt), &text, &self.tokenizer, config.pad)?;
            ensure!(
                ids.len() <= config.max_positions,
                "an answer has {} tokens with its prompt; the reward model has {} positions",
                ids.len(),
                config.max_positions
            );
            Ok(ids)
        };
        let sequences = answers.iter().map(encode).collect::<Result<Vec<_>>>()?;
        let views: Vec<&[u32]> = sequences.iter().map(Vec::as_slice).collect();
        let scores = score_sequences(&self.model, &views, AT_ONCE)?;
        let broken = scores.iter().find(|score| !score.is_finite());
        ensure!(
            broken.is_none(),
            "the score of an answer is {broken:?}: the reward model's weights are broken"
        );
        Ok(scores)
    }
}
