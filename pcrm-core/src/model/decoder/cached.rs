//! Passes that cache keys and values: of a prompt, and of one token per sequence after it.
//!
//! Both run the layers of training. In f32 on a CPU the hidden states of a step have the same bits as in a
//! pass over the whole sequence.

use std::sync::Arc;

use super::layer::Stream;
use super::{Decoder, Pass};
use crate::error::{Error, Result};
use crate::kernels::{CacheShape, CachedRows, Draw, Drawn, Filters, LayerCache, PlannedTree};
use crate::model::lora::Noise;
use crate::model::{ModelConfig, Rows};
use crate::tensor::Tensor;
use crate::tree::Packed;

/// The keys and values of all layers.
#[derive(Debug)]
pub struct KeyValueCache {
    layers: Vec<Box<dyn LayerCache>>,
    shape: CacheShape,
}

impl KeyValueCache {
    /// Returns the size of every layer's cache.
    pub fn shape(&self) -> CacheShape {
        self.shape
    }
}

/// Rows of a batch and the cache slots of their keys and values. A row may fill several slots.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filled {
    /// The rows of the batch, ascending.
    pub rows: Vec<usize>,
    /// A slot per row.
    pub slots: Vec<u32>,
}

/// A layer's use of its cache.
pub(super) enum Memory<'a> {
    /// No cache.
    None,
    /// Writes the keys and values of some rows.
    Fill { cache: &'a mut dyn LayerCache, rows: &'a [usize], slots: &'a [u32] },
    /// Every row continues a sequence in the cache.
    Step { cache: &'a mut dyn LayerCache, rows: &'a CachedRows },
}

impl Decoder {
    /// Allocates this many blocks of keys and values in every layer, see
    /// [`kernels::cache`](crate::kernels::BLOCK).
    ///
    /// # Errors
    /// Fails if there is not enough memory.
    pub fn cache(&self, blocks: usize) -> Result<KeyValueCache> {
        let shape = CacheShape { blocks, kv_heads: self.config.kv_heads, dim: self.config.head_dim };
        let like = self.embed.table().detach().narrow(0, 0, 1)?.cast(self.compute)?;
        let layers = self.layers.iter().map(|_| like.kernels().cache(&like, shape)).collect::<Result<_>>()?;
        Ok(KeyValueCache { layers, shape })
    }

    /// Returns the bytes of a block in the caches of all layers, for elements of this size.
    pub fn block_bytes(&self, element: usize) -> usize {
        let ModelConfig { kv_heads, head_dim, .. } = self.config();
        2 * self.layers.len() * kv_heads * head_dim * crate::kernels::BLOCK * element
    }

    /// Returns the maximum number of tokens of a sequence in a cache; `None`: unlimited.
    pub fn keeps_up_to(&self) -> Option<usize> {
        let learned = self.config.has_learned_positions().then_some(self.config.max_positions);
        [learned, self.config.shares_up_to()].into_iter().flatten().min()
    }

    /// Computes the hidden states of `rows` after the last norm, like [`Decoder::forward`] without history,
    /// and caches keys and values.
    ///
    /// # Errors
    /// Fails as [`Decoder::forward`] does, on a sequence longer than [`Decoder::keeps_up_to`], and on a slot
    /// that does not exist.
    pub fn prefill(
        &self,
        batch: &Packed,
        rows: Rows<'_>,
        cache: &mut KeyValueCache,
        filled: &Filled,
    ) -> Result<Tensor> {
        let positions = batch.tree.positions();
        let longest = positions.iter().max().map_or(0, |last| *last as usize + 1);
        if let Some(most) = self.keeps_up_to().filter(|most| longest > *most) {
            let message = format!("a sequence has {longest} tokens; the model can cache at most {most}");
            return Err(Error::invalid("positions", message));
        }
        let (x, pass) = self.begun(batch, positions)?;
        let mut stream = Stream::from(x);
        for (at, (layer, cache)) in self.layers.iter().zip(&mut cache.layers).enumerate() {
            let wanted = if at + 1 == self.layers.len() { rows } else { Rows::All };
            let memory = Memory::Fill { cache: cache.as_mut(), rows: &filled.rows, slots: &filled.slots };
            stream = layer.forward(&stream, &pass, wanted, memory)?;
        }
        self.ended(&stream, pass.noise(rows))
    }

    /// Computes the hidden states of one token per sequence after the last norm, `[rows, width]`, and caches
    /// its keys and values.
    ///
    /// # Errors
    /// Fails if token ids are outside the vocabulary, positions are past the model's last one, or a block
    /// does not exist.
    pub fn step(&self, ids: &[u32], rows: &CachedRows, cache: &mut KeyValueCache) -> Result<Tensor> {
        let positions: Vec<u32> = rows.iter().map(|row| row.position as u32).collect();
        let x = self.embed.forward(&self.config, self.compute, ids, positions.clone(), Noise::NONE)?;
        let angles = self.angles.iter().map(|angles| {
            let [cos, sin] = angles.at(&positions)?;
            Ok([x.constant(&cos)?.cast(x.dtype())?, x.constant(&sin)?.cast(x.dtype())?])
        });
        let angles = angles.collect::<Result<_>>()?;
        let pass = Pass { tree: Arc::new(PlannedTree::default()), angles, dropout: None, routed: None };
        let mut stream = Stream::from(x);
        for (layer, cache) in self.layers.iter().zip(&mut cache.layers) {
            let memory = Memory::Step { cache: cache.as_mut(), rows };
            stream = layer.forward(&stream, &pass, Rows::All, memory)?;
        }
        self.ended(&stream, Noise::NONE)
    }

    /// Samples a token for every row of hidden states `[rows, width]`; logits are capped if the config has a
    /// cap.
    ///
    /// # Errors
    /// Fails as [`Decoder::language_head`] does, if the numbers of rows differ, and if filters are out of
    /// range.
    pub fn sample(
        &self,
        hidden: &Tensor,
        filters: Filters,
        uniforms: &[f64],
        tokens: &[&[u32]],
    ) -> Result<Vec<Drawn>> {
        let how = Draw { filters, soft_cap: self.config.logit_cap, uniforms, tokens };
        let hidden = self.scaled(hidden)?;
        hidden.kernels().sample(&hidden, &self.effective_head()?, &how)
    }
}
