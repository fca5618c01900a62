//! Pairs of texts for encoders: a question and its answer, joined by the tokenizer's own post-processor.
//!
//! An encoder adds the embedding of a token's type (0 for the first text, 1 for the second) to that of its
//! id. One number encodes both here: type · vocabulary + id. A sequence is then a list of numbers, as for a
//! decoder, and no code has to carry the types separately.

use super::{Tokenizer, failed, panicked};
use crate::error::{Error, Result};
use crate::guard::guarded;

/// The numbering of an encoder's tokens: type · vocabulary + id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PairForm {
    /// The size of the encoder's vocabulary.
    pub vocabulary: u32,
    /// The number of token types of the encoder; 1 if it does not use types.
    pub types: u32,
}

impl PairForm {
    /// Returns the id of a token without its type.
    pub fn id(&self, typed: u32) -> u32 {
        typed % self.vocabulary
    }

    fn typed(&self, id: u32, kind: u32) -> Result<u32> {
        if id >= self.vocabulary {
            let message = format!("{id} is outside the model's vocabulary of {}", self.vocabulary);
            return Err(Error::invalid("token id", message));
        }
        if self.types == 1 {
            return Ok(id);
        }
        match kind < self.types {
            true => Ok(kind * self.vocabulary + id),
            false => {
                let message = format!("the tokenizer gives type {kind}, the model has {} types", self.types);
                Err(Error::invalid("token type", message))
            }
        }
    }
}

impl Tokenizer {
    /// Returns this tokenizer for an encoder with this numbering: a plain prompt and answer become a pair.
    ///
    /// # Errors
    /// Fails if the post-processor puts nothing between the two texts of a pair.
    pub fn reading_pairs(&self, form: PairForm) -> Result<Self> {
        let length = |pair: bool| {
            let encoded = guarded(|| match pair {
                true => self.inner.hf.encode_fast(("", ""), true),
                false => self.inner.hf.encode_fast("", true),
            });
            Ok::<_, Error>(encoded.map_err(panicked)?.map_err(failed)?.len())
        };
        let (one, two) = (length(false)?, length(true)?);
        if one == 0 || two <= one {
            let message = format!(
                "the post-processor puts {one} special tokens around a text and {two} around a pair of \
                 texts; an encoder needs one that parts a question from its answer"
            );
            return Err(Error::Tokenizer(message));
        }
        Ok(Self { pairs: Some(form), ..self.clone() })
    }

    /// Returns the numbering of an encoder's tokens; `None` for a decoder's tokenizer.
    pub fn pairs(&self) -> Option<PairForm> {
        self.pairs
    }

    /// Returns the token ids with types of a question and its answer, as transformers' `tokenizer(question,
    /// answer)` does.
    ///
    /// # Errors
    /// Fails if the tokenizer fails or does not encode pairs.
    pub fn encode_pair(&self, question: &str, answer: &str) -> Result<Vec<u32>> {
        let Some(form) = self.pairs else {
            return Err(Error::Tokenizer("the tokenizer of a decoder joins no pairs".to_owned()));
        };
        self.check(question)?;
        self.check(answer)?;
        let encoded = guarded(|| self.inner.hf.encode_fast((question, answer), true)).map_err(panicked)?;
        let encoded = encoded.map_err(failed)?;
        encoded
            .get_ids()
            .iter()
            .zip(encoded.get_type_ids())
            .map(|(id, kind)| form.typed(*id, *kind))
            .collect()
    }

    /// Returns the form of a pair, with its special tokens around `question` and `answer`; `None` for a
    /// decoder's tokenizer.
    pub fn pair_shape(&self) -> Option<String> {
        self.pairs?;
        let sides = self.encode_pair("a", "a").ok()?;
        let texts = ["question", "answer"];
        let (mut shape, mut next) = (Vec::new(), 0);
        for (at, typed) in sides.iter().enumerate() {
            let id = self.untyped(&[*typed])[0];
            if self.is_special(id) && self.unk().is_none_or(|unk| unk.id != id) {
                shape.push(self.inner.hf.id_to_token(id)?);
            } else if at == 0 || shape.last().is_none_or(|last| !texts.contains(&last.as_str())) {
                shape.push((*texts.get(next)?).to_owned());
                next += 1;
            }
        }
        Some(shape.join(" "))
    }

    /// Returns the ids of these tokens without their types.
    pub fn untyped(&self, ids: &[u32]) -> Vec<u32> {
        ids.iter().map(|id| self.pairs.map_or(*id, |form| form.id(*id))).collect()
    }

    /// Returns the token that begins every sequence and is never cut off: the BOS, or the first token of an
    /// encoder's sequences, which its score may be computed from.
    pub fn first(&self) -> Option<u32> {
        match self.pairs {
            Some(_) => self.encode_pair("", "").ok()?.first().copied(),
            None => self.inner.bos.as_ref().map(|bos| bos.id),
        }
    }
}
