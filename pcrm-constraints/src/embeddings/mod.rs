//! Embeddings of many texts: each distinct text is encoded once, sorted by length, or read from the disk
//! cache.

mod store;

use std::collections::HashMap;

use pcrm_core::constraint::Priors;
use pcrm_core::encoder::{Encoder, longest_first};
use pcrm_core::{Error, Result};

use self::store::Store;

/// Vectors of texts, keyed by text.
#[derive(Debug)]
pub struct Embeddings<'a> {
    vectors: HashMap<&'a str, Vec<f32>>,
}

impl<'a> Embeddings<'a> {
    /// Encodes every distinct text once, longest first, in batches of similar length. With a cache folder in
    /// `priors`, cached vectors are not recomputed and new ones are added to the cache.
    ///
    /// # Errors
    /// Fails with the encoder's errors, and on unusable vectors: too few or too many, of different lengths,
    /// not finite.
    pub fn compute(
        encoder: &dyn Encoder,
        texts: impl IntoIterator<Item = &'a str>,
        priors: &Priors,
    ) -> Result<Self> {
        let texts = longest_first(texts);
        let mut embedder = encoder.open(&texts, priors)?;
        let mut store = match (&priors.cache, embedder.digest()) {
            (Some(folder), Some(digest)) => Store::open(folder, encoder.kind(), &digest),
            _ => Store::default(),
        };
        let mut vectors = HashMap::with_capacity(texts.len());
        let mut unknown = Vec::new();
        for &text in &texts {
            match store.get(text) {
                Some(vector) => drop(vectors.insert(text, vector.to_vec())),
                None => unknown.push(text),
            }
        }
        let mut width = vectors.values().next().map(Vec::len);
        let mut done = 0;
        for batch in unknown.chunks(embedder.at_once().max(1)) {
            let computed = embedder.embed(batch)?;
            check(encoder.kind(), batch, &computed, &mut width)?;
            for (&text, vector) in batch.iter().zip(computed) {
                store.insert(text, &vector);
                vectors.insert(text, vector);
            }
            done += batch.len();
            if let Some(progress) = &priors.progress {
                progress.at("texts encoded", done as u64, unknown.len() as u64);
            }
        }
        store.save();
        Ok(Self { vectors })
    }

    /// Returns the cosine of the angle between the vectors of two encoded texts, in \[−1, 1\].
    ///
    /// A zero vector (a text without words) has no angle: the result is then 1 for equal vectors and 0 for
    /// others.
    ///
    /// # Panics
    /// Panics if a text was not encoded.
    pub fn cosine(&self, left: &str, right: &str) -> f64 {
        let (left, right) = (&self.vectors[left], &self.vectors[right]);
        if left == right {
            return 1.0;
        }
        let dot = |a: &[f32], b: &[f32]| -> f64 {
            a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
        };
        let norms = (dot(left, left) * dot(right, right)).sqrt();
        if norms == 0.0 { 0.0 } else { (dot(left, right) / norms).clamp(-1.0, 1.0) }
    }
}

fn check(kind: &str, batch: &[&str], vectors: &[Vec<f32>], width: &mut Option<usize>) -> Result<()> {
    let refuse = |message: String| Err(Error::Plugin { what: "encoder", name: kind.to_owned(), message });
    if vectors.len() != batch.len() {
        return refuse(format!("gave {} vectors for {} texts", vectors.len(), batch.len()));
    }
    for (text, vector) in batch.iter().zip(vectors) {
        let begins: String = text.chars().take(60).collect();
        let width = *width.get_or_insert(vector.len());
        if vector.len() != width {
            return refuse(format!("gave {} numbers for {begins:?}, expected {width}", vector.len()));
        }
        if let Some(at) = vector.iter().position(|x| !x.is_finite()) {
            return refuse(format!(
                "gave {} at place {at} of the vector for {begins:?}, expected finite numbers",
                vector[at]
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
