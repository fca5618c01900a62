//! Sentence encoders: texts to vectors, by which constraints tell how alike two answers are.
//!
//! An [`Encoder`] is configuration, tagged data like a constraint. Opening it for the texts at hand gives an
//! [`Embedder`], which may hold weights, or what was counted over those texts.

use std::fmt::Debug;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde_json::Value;

use crate::constraint::Priors;
use crate::error::Result;
use crate::registry::EncoderPlugin;
use crate::tagged;

/// A sentence encoder's configuration.
///
/// Implementations are plain serde structs with `deny_unknown_fields`, registered as an [`EncoderPlugin`] under
/// the same name as [`Encoder::kind`].
pub trait Encoder: erased_serde::Serialize + Debug + Send + Sync {
    /// The tag that selects this encoder: `bag-of-words`.
    fn kind(&self) -> &'static str;

    /// Writes into the configuration what it takes from `priors` and what else may not be found later or elsewhere (the
    /// model to be trained, folders): the settled form is what a trained model keeps.
    ///
    /// # Errors
    /// What of `priors` is missing.
    fn settle(&mut self, _priors: &Priors) -> Result<()> {
        Ok(())
    }

    /// Makes it ready for these texts: all that are to be encoded, none twice.
    ///
    /// # Errors
    /// Weights that cannot be loaded, and what of `priors` is missing.
    fn open(&self, texts: &[&str], priors: &Priors) -> Result<Box<dyn Embedder>>;
}

/// An encoder that is ready.
pub trait Embedder {
    /// What its vectors depend on besides the text: weights, pooling, the library, in any form that changes when
    /// a vector might. Vectors are kept on disk under it. `None`: computing them is as quick as reading them.
    fn digest(&self) -> Option<String>;

    /// How many texts [`Embedder::embed`] wants at a time: some hundreds where it divides them by what it finds in
    /// them. Between calls it is told how far the work has come.
    fn at_once(&self) -> usize {
        64
    }

    /// Vectors of these texts, in order, all of one length. A batch holds texts of similar length; a text's vector
    /// depends on nothing else in it but by rounding. All cores are this method's to use.
    ///
    /// # Errors
    /// What fails in computing.
    fn embed(&mut self, texts: &[&str]) -> Result<Vec<Vec<f32>>>;

    /// How many tokens have been computed so far, where there are tokens.
    fn tokens(&self) -> Option<u64> {
        None
    }
}

/// Every different text once, in the order in which texts are encoded: longest first, so that batches hold texts of
/// similar length; by content where lengths are equal, so that batches do not depend on the order of the data.
pub fn longest_first<'a>(texts: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let mut texts: Vec<&str> = texts.into_iter().collect();
    texts.sort_unstable_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    texts.dedup();
    texts
}

erased_serde::serialize_trait_object!(Encoder);

impl dyn Encoder + '_ {
    /// The tagged form: the configuration with its `kind` first.
    ///
    /// # Errors
    /// A configuration that does not serialise to an object.
    pub fn to_tagged(&self) -> Result<Value> {
        tagged::to_value::<EncoderPlugin>(self.kind(), self)
    }
}

/// Builds an encoder from a name (`bag-of-words`) or a tagged object (`{"kind": "bag-of-words", "width": 512}`).
///
/// # Errors
/// Text that is neither, an unknown kind (the known ones are listed), and a refused configuration.
pub fn parse(text: &str) -> Result<Box<dyn Encoder>> {
    tagged::parse::<EncoderPlugin>(text)
}

/// Builds an encoder from its name or tagged object as a JSON value.
///
/// # Errors
/// As [`parse`].
pub fn from_tagged(value: Value) -> Result<Box<dyn Encoder>> {
    match value {
        Value::String(name) => parse(&name),
        value => tagged::from_value::<EncoderPlugin>(value),
    }
}

impl<'de> Deserialize<'de> for Box<dyn Encoder> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_tagged(Value::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}
