//! Sentence encoders: maps from texts to vectors. Constraints measure the similarity of two answers with
//! them.
//!
//! An [`Encoder`] is configuration, tagged data like a constraint. Opened for a set of texts it gives an
//! [`Embedder`], which may hold weights or statistics of those texts.

use std::fmt::Debug;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde_json::Value;

use crate::constraint::Priors;
use crate::error::Result;
use crate::registry::EncoderPlugin;
use crate::tagged;

/// A sentence encoder's configuration.
///
/// Implementations are plain serde structs with `deny_unknown_fields`, registered as an [`EncoderPlugin`]
/// under the same name as [`Encoder::kind`].
pub trait Encoder: erased_serde::Serialize + Debug + Send + Sync {
    /// Returns the tag that selects this encoder: `bag-of-words`.
    fn kind(&self) -> &'static str;

    /// Copies from `priors` into the configuration everything that may be unavailable later or elsewhere (the
    /// model to be trained, folders). A trained model stores the settled form.
    ///
    /// # Errors
    /// Fails if `priors` lacks a needed item.
    fn settle(&mut self, _priors: &Priors) -> Result<()> {
        Ok(())
    }

    /// Opens the encoder for these texts: all that will be encoded, without duplicates.
    ///
    /// # Errors
    /// Fails if weights cannot be loaded, and if `priors` lacks a needed item.
    fn open(&self, texts: &[&str], priors: &Priors) -> Result<Box<dyn Embedder>>;
}

/// An opened encoder.
pub trait Embedder {
    /// Returns a string that identifies everything vectors depend on besides the text: weights, pooling,
    /// library. It is the key of the disk cache. `None`: computing vectors is as fast as reading them.
    fn digest(&self) -> Option<String>;

    /// Returns the preferred number of texts per call of [`Embedder::embed`]: some hundreds for an embedder
    /// that sorts them into batches itself. Progress is reported between calls.
    fn at_once(&self) -> usize {
        64
    }

    /// Computes the vectors of these texts, in order, all of the same length. A batch holds texts of similar
    /// length; a text's vector depends on the rest of the batch by rounding at most. The method may use all
    /// cores.
    ///
    /// # Errors
    /// Fails with the error of the computation.
    fn embed(&mut self, texts: &[&str]) -> Result<Vec<Vec<f32>>>;

    /// Returns the number of tokens computed so far, if the embedder has tokens.
    fn tokens(&self) -> Option<u64> {
        None
    }
}

/// Returns each distinct text once, in the order of encoding: longest first, so that batches hold texts of
/// similar length; by content if lengths are equal, so that batches do not depend on the order of the data.
pub fn longest_first<'a>(texts: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let mut texts: Vec<&str> = texts.into_iter().collect();
    texts.sort_unstable_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    texts.dedup();
    texts
}

erased_serde::serialize_trait_object!(Encoder);

impl dyn Encoder + '_ {
    /// Returns the tagged form: the configuration with its `kind` first.
    ///
    /// # Errors
    /// Fails if the configuration does not serialise to an object.
    pub fn to_tagged(&self) -> Result<Value> {
        tagged::to_value::<EncoderPlugin>(self.kind(), self)
    }
}

/// Builds an encoder from a name (`bag-of-words`) or a tagged object
/// (`{"kind": "bag-of-words", "width": 512}`).
///
/// # Errors
/// Fails if the text is neither, if the kind is unknown (the error lists the known ones), and if the encoder
/// refuses its configuration.
pub fn parse(text: &str) -> Result<Box<dyn Encoder>> {
    tagged::parse::<EncoderPlugin>(text)
}

/// Builds an encoder from its name or tagged object as a JSON value.
///
/// # Errors
/// Fails as [`parse`] does.
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
