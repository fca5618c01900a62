//! The properties of a model needed to encode texts and interpret scores, for decoders and encoders alike.

use serde_json::{Map, Value};

use super::ModelConfig;

/// The properties of a model needed to encode texts for it and to interpret its scores.
#[derive(Debug, Clone, Copy)]
pub struct Outline<'a> {
    /// `model_type` of `config.json`.
    pub model_type: &'static str,
    /// The size of the vocabulary.
    pub vocabulary: usize,
    /// The number of distinct token numbers: the size of the vocabulary, for an encoder times the number of
    /// token types ([`PairForm`](crate::text::PairForm)).
    pub inputs: usize,
    /// The longest sequence that the config names.
    pub max_positions: usize,
    /// True if positions are learned, so that none exist beyond `max_positions`.
    pub has_learned_positions: bool,
    /// The padding id, which a decoder never scores.
    pub pad: Option<u32>,
    /// The largest length of a sequence that may share its prompt with others; `None` if there is no limit.
    pub shares_up_to: Option<usize>,
    /// True if every token sees all others. The score then depends on the whole sequence, and its last token
    /// is not special.
    pub is_encoder: bool,
    /// The content of `config.json`.
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
