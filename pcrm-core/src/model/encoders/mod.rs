//! Encoders that score a question with its answer: `...ForSequenceClassification` with one label.
//!
//! A batch is flat: every sequence is a segment of its own, and each token sees the whole segment. Encoders
//! score only; they are not trained.

mod config;
mod deberta;
mod disentangled;
mod head;
mod modernbert;
mod weights;

use std::path::Path;

pub use self::config::EncoderConfig;
pub use self::head::Pooling;
pub(super) use self::weights::EncoderWeights;

use self::config::Kind;
use self::deberta::Deberta;
use self::head::Head;
use self::modernbert::ModernBert;
use super::{Bert, Outline, Rows, notes};
use crate::backend::Backend;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::tensor::Tensor;
use crate::tree::Packed;

/// A frozen encoder with a head that gives one score.
#[derive(Debug, Clone)]
pub struct EncoderReward {
    config: EncoderConfig,
    body: Body,
    head: Head,
}

#[derive(Debug, Clone)]
enum Body {
    Bert(Bert),
    Deberta(Deberta),
    ModernBert(ModernBert),
}

impl EncoderReward {
    /// Loads the weights of a folder with this config; the body computes in `compute`, the head in f32.
    ///
    /// # Errors
    /// Fails if a file is missing or malformed, or if a weight is missing or has another shape.
    pub fn load(backend: &dyn Backend, config: EncoderConfig, dir: &Path, compute: DType) -> Result<Self> {
        let (body, mut weights) = match &config.kind {
            Kind::Bert(shape) => {
                let weights = Bert::open(backend, shape, dir, compute)?;
                (Body::Bert(Bert::body(shape.clone(), &weights)?), weights)
            }
            Kind::Deberta(shape) => {
                let weights = EncoderWeights::open(backend, dir, "deberta.", compute, shape.norm_eps)?;
                (Body::Deberta(Deberta::read(shape.clone(), &weights)?), weights)
            }
            Kind::ModernBert(shape) => {
                let weights = EncoderWeights::open(backend, dir, "model.", compute, shape.norm_eps)?;
                (Body::ModernBert(ModernBert::read(shape.clone(), &weights)?), weights)
            }
        };
        weights.compute = DType::F32;
        let head = Head::read(&config.head, config.width(), &weights)?;
        weights.finish();
        notes::unknown_keys(&config.unknown_keys, config.outline().model_type);
        Ok(Self { config, body, head })
    }

    /// Returns the config.
    pub fn config(&self) -> &EncoderConfig {
        &self.config
    }

    /// Returns the properties needed to encode texts and interpret scores.
    pub fn outline(&self) -> Outline<'_> {
        self.config.outline()
    }

    /// Computes the scores of the sequences that end at these rows (ascending), f32 `[rows]`.
    ///
    /// # Errors
    /// Fails if a row is not the end of a sequence, if the model lacks a token or position, or if the backend
    /// fails.
    pub fn scores(&self, batch: &Packed, rows: &[usize]) -> Result<Tensor> {
        let segments = batch.tree.segments();
        if segments.iter().any(|segment| segment.parent.is_some()) {
            let message =
                "sequences share tokens; an encoder computes every sequence apart, as each token sees all";
            return Err(Error::invalid("batch", message));
        }
        let whole = |row: &usize| {
            let at = segments.partition_point(|segment| segment.rows.end <= *row);
            let ends = segments.get(at).is_some_and(|segment| segment.rows.end == row + 1);
            ends.then_some(at).ok_or_else(|| {
                Error::invalid("row", format!("{row} ends no sequence; an encoder scores whole sequences"))
            })
        };
        let sequences: Vec<usize> = rows.iter().map(whole).collect::<Result<_>>()?;
        self.head.scores(batch, &sequences, |rows| match &self.body {
            Body::Bert(body) => body.forward(batch, rows),
            Body::Deberta(body) => body.forward(batch, rows),
            Body::ModernBert(body) => body.forward(batch, rows),
        })
    }
}

/// Refuses tokens that an encoder has no embedding for.
fn check_tokens(batch: &Packed, inputs: usize) -> Result<()> {
    match batch.ids.iter().find(|id| **id as usize >= inputs) {
        None => Ok(()),
        Some(id) => {
            Err(Error::invalid("token id", format!("{id} is outside the encoder's vocabulary of {inputs}")))
        }
    }
}

/// Returns the requested query rows; `None` for all.
fn queries<'a>(rows: Rows<'a>) -> Option<&'a [usize]> {
    match rows {
        Rows::All => None,
        Rows::Only(rows) => Some(rows),
    }
}
