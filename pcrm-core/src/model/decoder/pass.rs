//! Forward passes over whole batches.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use super::Decoder;
use super::cached::Memory;
use super::layer::Stream;
use crate::dtype::DType;
use crate::error::Result;
use crate::kernels::PlannedTree;
use crate::model::lora::{Dropout, Noise};
use crate::model::recompute::recomputed;
use crate::model::rope::Angles;
use crate::model::routing::Routes;
use crate::model::{Rows, select};
use crate::tensor::Tensor;
use crate::tree::Packed;

/// The logits of routers with the resulting routes, by layer.
pub(super) type Routed = Arc<Mutex<Vec<(Tensor, Routes)>>>;

/// State that all layers of one forward pass share.
#[derive(Clone)]
pub(super) struct Pass {
    pub(super) tree: Arc<PlannedTree>,
    /// cos and sin of every row, `[rows, half of the rotated dimensions]`, for each of the decoder's rotary
    /// positions.
    pub(super) angles: Vec<[Tensor; 2]>,
    pub(super) dropout: Option<Arc<Dropout>>,
    /// The routers' logits of every layer with experts, if wanted.
    pub(super) routed: Option<Routed>,
}

impl Pass {
    /// Returns the dropout of a layer that computes these rows.
    pub(super) fn noise<'a>(&'a self, rows: Rows<'a>) -> Noise<'a> {
        Noise::new(self.dropout.as_deref(), rows)
    }

    /// Records a router's logits, if wanted.
    pub(super) fn note(&self, logits: &Tensor, routes: &Routes) {
        if let Some(routed) = &self.routed {
            routed.lock().unwrap_or_else(PoisonError::into_inner).push((logits.clone(), routes.clone()));
        }
    }
}

impl Decoder {
    /// Computes the hidden states that heads read, `[wanted rows, outer width]`: after the last norm, if there is
    /// one, and the projection, if there is one.
    ///
    /// # Errors
    /// Fails if token ids are outside the vocabulary or positions are past the model's last one.
    pub fn forward(&self, batch: &Packed, rows: Rows<'_>) -> Result<Tensor> {
        let (x, pass) = self.begun(batch, batch.tree.positions())?;
        self.ended(&self.through_layers(x, &pass, rows)?, pass.noise(rows))
    }

    /// Computes the hidden states like [`Decoder::forward`], and the routers' loss over all rows and layers
    /// (Fedus et al., arXiv 2101.03961): a scalar, `None` if no layer has experts.
    ///
    /// # Errors
    /// Fails as [`Decoder::forward`] does.
    pub fn forward_balanced(&self, batch: &Packed, rows: Rows<'_>) -> Result<(Tensor, Option<Tensor>)> {
        let (x, pass) = self.begun(batch, batch.tree.positions())?;
        let routed = Routed::default();
        let pass = Pass { routed: Some(Arc::clone(&routed)), ..pass };
        let x = select(&self.through_layers(x, &pass, Rows::All)?.sum()?, rows)?;
        let routed = routed.lock().unwrap_or_else(PoisonError::into_inner);
        Ok((self.ended(&Stream::from(x), pass.noise(rows))?, Routes::balance(&routed)?))
    }

    /// Computes the stream after the last layer, which computes the wanted rows only.
    fn through_layers(&self, mut x: Tensor, pass: &Pass, rows: Rows<'_>) -> Result<Stream> {
        // The backward pass needs the last segment's activations first, so they are kept.
        let kept = match self.checkpointing.segment(self.layers.len()) {
            Some(segment) if self.params.iter_trained().any(|(_, param)| param.has_history()) => {
                let last = (self.layers.len() - 1) / segment * segment;
                for start in (0..last).step_by(segment) {
                    x = self.recomputed(start..start + segment, &x, pass)?;
                }
                last
            }
            _ => 0,
        };
        let mut stream = Stream::from(x);
        for (at, layer) in self.layers.iter().enumerate().skip(kept) {
            let last = at + 1 == self.layers.len();
            stream = layer.forward(&stream, pass, if last { rows } else { Rows::All }, Memory::None)?;
        }
        Ok(stream)
    }

    /// Computes what heads read from the stream after the last layer.
    pub(super) fn ended(&self, stream: &Stream, noise: Noise<'_>) -> Result<Tensor> {
        let [_, normed] = stream.normed(self.last_norm.as_ref())?;
        match &self.projection {
            Some(projection) => projection.forward(&normed, noise),
            None => Ok(normed),
        }
    }

    /// Runs some layers without history, and again in the backward pass.
    fn recomputed(&self, layers: Range<usize>, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let of = |name: &str| {
            let behind = name.strip_prefix(self.config.family.layers);
            let layer = behind.and_then(|name| name.split('.').next()).and_then(|at| at.parse().ok());
            layer.is_some_and(|layer| layers.contains(&layer))
        };
        let params = self.params.only(of);
        let (width, balanced) = (x.shape()[1], pass.routed.is_some());
        let (layers, of_segment) =
            (self.layers[layers.clone()].to_vec(), Pass { routed: None, ..pass.clone() });
        let joined = recomputed(x, params, move |x, params| {
            // Each run computes its own router logits and returns them as further columns of the stream.
            let routed = balanced.then(Routed::default);
            let pass = Pass { routed: routed.clone(), ..of_segment.clone() };
            let mut stream = Stream::from(x.clone());
            for layer in &layers {
                stream = layer.over(params).forward(&stream, &pass, Rows::All, Memory::None)?;
            }
            beside_logits(stream.sum()?, routed.as_ref())
        })?;
        match &self.config.mixture {
            Some(mixture) if balanced => {
                for start in (width..joined.shape()[1]).step_by(mixture.experts) {
                    let logits = joined.narrow(1, start, mixture.experts)?.cast(DType::F32)?;
                    let values = logits.read()?.into_f32();
                    let routes = Routes::new(&values, mixture.experts, mixture.taken, mixture.normalised);
                    pass.note(&logits, &routes);
                }
                joined.narrow(1, 0, width)
            }
            _ => Ok(joined),
        }
    }

    /// Embeds the tokens of a batch in the type of the computation, `[rows, width]`, and prepares the state that
    /// layers share.
    pub(super) fn begun(&self, batch: &Packed, positions: Vec<u32>) -> Result<(Tensor, Pass)> {
        let adapters = self.adapters.as_ref().filter(|adapters| adapters.has_dropout());
        let dropout = adapters
            .zip(self.step)
            .map(|(adapters, step)| Arc::new(Dropout::new(adapters.seed(), step, batch)));
        let noise = Noise::new(dropout.as_deref(), Rows::All);
        let x = self.embed.forward(&self.config, self.compute, &batch.ids, positions, noise)?;
        let tables = |angles: &Angles| {
            let [cos, sin] = angles.of(&batch.tree)?;
            Ok([x.constant(&cos)?.cast(x.dtype())?, x.constant(&sin)?.cast(x.dtype())?])
        };
        let angles = self.angles.iter().map(tables).collect::<Result<_>>()?;
        let tree = Arc::new(PlannedTree::new(batch.tree.clone()));
        Ok((x, Pass { tree, angles, dropout, routed: None }))
    }
}

/// Concatenates x `[rows, width]` with the logits of routers, which have the type of x.
fn beside_logits(x: Tensor, routed: Option<&Routed>) -> Result<Tensor> {
    let Some(routed) = routed else { return Ok(x) };
    let routed = routed.lock().unwrap_or_else(PoisonError::into_inner);
    let logits = routed.iter().map(|(logits, _)| logits.cast(x.dtype()));
    let logits = logits.collect::<Result<Vec<_>>>()?;
    Tensor::concat(&std::iter::once(&x).chain(&logits).collect::<Vec<_>>(), 1)
}
