//! The facts about a model that readers of texts and users of scores need, whatever the model is made of.

use serde_json::{Map, Value};

use super::ModelConfig;

/// A model as those see it who encode texts for it or use its scores.
#[derive(Debug, Clone, Copy)]
pub struct Outline<'a> {
    /// `model_type` of `config.json`.
    pub model_type: &'static str,
    /// The size of the vocabulary.
    pub vocabulary: usize,
    /// The number of different tokens of a sequence: the vocabulary, of an encoder once for each type of token
    /// ([`PairForm`](crate::text::PairForm)).
    pub inputs: usize,
    /// The longest sequence that the config names.
    pub max_positions: usize,
    /// True if positions are learned, so that there are none beyond `max_positions`.
    pub has_learned_positions: bool,
    /// The padding id, which a decoder never scores.
    pub pad: Option<u32>,
    /// The longest sequences that may share a prompt with others; `None`: any may.
    pub shares_up_to: Option<usize>,
    /// True if every token sees all others: a score follows from the whole sequence, and its end is not special.
    pub is_encoder: bool,
    /// `config.json`.
    pub raw: &'a Map<String, Value>,
}

impl<'a> From<&'a ModelConfig> for Outline<'a> {
    fn from(config: &'a ModelConfig) -> Self {
        Self {
            model_type: config.family.model_type,
            vocabulary: config.vocabulary,
            inputs: config.vocabulary,
            max_positions: config.max_positions,
            has_learned_positions: config.has_learned_positions(),
            pad: config.pad,
            shares_up_to: config.shares_up_to(),
            is_encoder: false,
            raw: &config.raw,
        }
    }
}
