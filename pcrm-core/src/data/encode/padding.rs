//! The padding token, which is removed from the end of every scored sequence.

use serde::Serialize;

use crate::model::Outline;
use crate::text::Tokenizer;

/// The id that a reward model treats as padding and never scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Padding {
    /// The id, if the model has one.
    pub id: Option<u32>,
    /// True if a file names it; otherwise it is the EOS.
    pub named: bool,
}

impl Padding {
    /// Returns the padding of the tokenizer, else that of the config, else the EOS, as in TRL. An encoder has
    /// none, because its score depends on the whole sequence.
    pub fn of<'a>(model: impl Into<Outline<'a>>, tokenizer: &Tokenizer) -> Self {
        let model = model.into();
        if model.is_encoder {
            return Self { id: None, named: true };
        }
        match tokenizer.pad().map(|token| token.id).or(model.pad) {
            Some(id) => Self { id: Some(id), named: true },
            None => Self { id: tokenizer.eos().map(|token| token.id), named: false },
        }
    }
}

/// Removes padding ids from the end of a sequence but always keeps one token.
///
/// `transformers` scores a sequence at its last token that is not padding. If a tokenizer pads with its EOS,
/// that is the token before the EOS. Encoding removes padding when
/// [`EncodeOptions::padding`](super::EncodeOptions::padding) is set; call this for ids from elsewhere.
pub fn strip_padding(ids: &mut Vec<u32>, pad: u32) {
    while ids.len() > 1 && ids.last() == Some(&pad) {
        ids.pop();
    }
}
