//! Disentangled attention: content-to-content, content-to-position and position-to-content scores.
//!
//! For tokens i and j at distance δ(i, j), with q and k projected from contents and q' and k' from the
//! embedding of distances: a(i, j) = (q_i·k_j + q_i·k'_δ(i,j) + k_j·q'_δ(j,i)) / √(terms · dim) (arXiv
//! 2006.03654, equation 4). Distances beyond half the buckets share logarithmic buckets.

use std::collections::BTreeMap;

use serde_json::Value;

use super::weights::EncoderWeights;
use crate::dtype::DType;
use crate::error::Result;
use crate::host::{HostData, HostTensor};
use crate::model::fields::Fields;
use crate::model::layers::{Linear, Norm};
use crate::model::lora::Noise;
use crate::tensor::Tensor;
use crate::tree::SequenceTree;

/// The settings of relative attention in a config.
#[derive(Debug, Clone)]
pub(super) struct Relative {
    /// False if only contents attend to each other.
    on: bool,
    /// The largest distance.
    most: usize,
    /// The number of distance buckets on either side; `None` if every distance has its own.
    buckets: Option<usize>,
    /// True if the distance embeddings are normalised.
    normed: bool,
    /// True if distances use the projections of contents.
    shared: bool,
    /// True if content-to-position scores are added.
    to_distances: bool,
    /// True if position-to-content scores are added.
    to_contents: bool,
}

impl Relative {
    /// Reads the keys of a config.
    ///
    /// # Errors
    /// Fails if a key has the wrong type.
    pub fn read(fields: &Fields<'_>, max_positions: usize) -> Result<Self> {
        let count = |key: &str| match fields.value(key) {
            Value::Null => Ok(None),
            value => match value.as_i64() {
                Some(count) if count < 1 => Ok(None),
                Some(count) if count < 1 << 20 => Ok(Some(count as usize)),
                _ => Err(fields.wrong(key, "a number of positions, or -1")),
            },
        };
        let kinds: Vec<&str> = match fields.value("pos_att_type") {
            Value::Null => Vec::new(),
            Value::String(kinds) => kinds.split('|').map(str::trim).collect(),
            Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
            _ => return Err(fields.wrong("pos_att_type", "a list of c2p and p2c")),
        };
        if let Some(other) = kinds.iter().find(|kind| !["c2p", "p2c", ""].contains(kind)) {
            return Err(fields.wrong("pos_att_type", &format!("c2p and p2c; {other} is not served")));
        }
        let normed = match fields.value("norm_rel_ebd") {
            Value::Null => false,
            Value::String(norms) => norms.to_lowercase().split('|').any(|norm| norm.trim() == "layer_norm"),
            _ => return Err(fields.wrong("norm_rel_ebd", "none or layer_norm")),
        };
        Ok(Self {
            on: fields.flag("relative_attention")?,
            most: count("max_relative_positions")?.unwrap_or(max_positions),
            buckets: count("position_buckets")?,
            normed,
            shared: fields.flag("share_att_key")?,
            to_distances: kinds.contains(&"c2p"),
            to_contents: kinds.contains(&"p2c"),
        })
    }

    /// Returns the number of distance embeddings on either side.
    fn span(&self) -> usize {
        self.buckets.unwrap_or(self.most)
    }

    /// Reads the distance embeddings, `[2 · span, width]`, which all layers share; `None` if the model has
    /// none.
    ///
    /// # Errors
    /// Fails if a weight is missing or has another shape.
    pub fn table(&self, width: usize, weights: &EncoderWeights<'_>) -> Result<Option<Tensor>> {
        if !self.on {
            return Ok(None);
        }
        let table = weights.embedding("encoder.rel_embeddings", [2 * self.span(), width])?;
        let norm: Option<Norm> =
            self.normed.then(|| weights.norm("encoder.LayerNorm", width, true)).transpose()?;
        match norm {
            Some(norm) => norm.forward(table.table()).map(Some),
            None => Ok(Some(table.table().clone())),
        }
    }

    /// Returns the bucket of a distance, computed in f32 as in transformers.
    fn bucket(&self, distance: i64) -> i64 {
        let Some(buckets) = self.buckets else { return distance };
        let mid = (buckets / 2) as i64;
        let far = distance.abs();
        if far <= mid {
            return distance;
        }
        let farthest = ((self.most as f64 - 1.0) / mid as f64) as f32;
        let share = (far as f32 / mid as f32).ln() / farthest.ln();
        let log = (share * (mid - 1) as f32).ceil() + mid as f32;
        log as i64 * distance.signum()
    }

    /// Returns the row of a bucket in the table of embeddings.
    fn row(&self, bucket: i64) -> u32 {
        let span = self.span() as i64;
        (bucket + span).clamp(0, 2 * span - 1) as u32
    }
}

/// The rows of distance embeddings for the token pairs of a sequence, cached by the sequence's length.
pub(super) struct Distances<'a> {
    relative: &'a Relative,
    /// Rows `[1, length, length]` for δ(i, j), and for δ(j, i) indexed by j.
    known: BTreeMap<usize, [Tensor; 2]>,
}

impl<'a> Distances<'a> {
    pub fn new(relative: &'a Relative) -> Self {
        Self { relative, known: BTreeMap::new() }
    }

    fn of(&mut self, length: usize, like: &Tensor) -> Result<[Tensor; 2]> {
        if let Some(known) = self.known.get(&length) {
            return Ok(known.clone());
        }
        let (relative, most) = (self.relative, length as i64);
        let buckets: Vec<i64> = (-most..most).map(|distance| relative.bucket(distance)).collect();
        let index = |sign: i64| {
            let pairs = (0..most).flat_map(|i| (0..most).map(move |j| i - j + most));
            let rows = pairs.map(|at| relative.row(sign * buckets[at as usize])).collect();
            like.constant(&HostTensor::new([1, length, length], HostData::U32(rows))?)
        };
        let both = [index(1)?, index(-1)?];
        self.known.insert(length, both.clone());
        Ok(both)
    }
}

/// The attention of one layer, without the output projection.
#[derive(Debug, Clone)]
pub(super) struct Disentangled {
    /// The joint projection to queries, keys and values.
    qkv: Linear,
    /// Keys of distances, `[heads, dim, 2 · span]`.
    distance_keys: Option<Tensor>,
    /// Queries of distances, of the same shape as the keys.
    distance_queries: Option<Tensor>,
    heads: usize,
    dim: usize,
    scale: f64,
}

impl Disentangled {
    /// Reads a layer's projections and projects the distance embeddings.
    ///
    /// # Errors
    /// Fails if a weight is missing or has another shape.
    pub fn read(
        relative: &Relative,
        [heads, dim, width]: [usize; 3],
        name: &str,
        distances: Option<&Tensor>,
        weights: &EncoderWeights<'_>,
    ) -> Result<Self> {
        let (all, at) = (heads * dim, |part: &str| format!("{name}.{part}"));
        let names = [at("query_proj"), at("key_proj"), at("value_proj")];
        let project = |wanted: bool, shared: &str, own: &str| -> Result<Option<Tensor>> {
            let Some(distances) = distances.filter(|_| wanted) else { return Ok(None) };
            let part = if relative.shared { shared } else { own };
            let projection = weights.linear(&[at(part)], [all, width], true)?;
            let rows = projection.forward(distances, Noise::NONE)?;
            let count = rows.shape()[0];
            // Copied, because a view would keep the memory order of the table.
            let turned = rows.reshape([count, heads, dim])?.permute([1, 2, 0])?;
            turned.copied(turned.dtype()).map(Some)
        };
        let terms = 1 + usize::from(relative.to_distances) + usize::from(relative.to_contents);
        Ok(Self {
            distance_keys: project(relative.to_distances, "key_proj", "pos_key_proj")?,
            distance_queries: project(relative.to_contents, "query_proj", "pos_query_proj")?,
            qkv: weights.linear(&names, [all, width], true)?,
            heads,
            dim,
            scale: 1.0 / ((terms * dim) as f64).sqrt(),
        })
    }

    /// Computes the attention: x `[rows, width]` → `[rows, heads · dim]`.
    pub fn forward(&self, x: &Tensor, tree: &SequenceTree, distances: &mut Distances<'_>) -> Result<Tensor> {
        let (heads, dim) = (self.heads, self.dim);
        let all = self.qkv.forward(x, Noise::NONE)?.reshape([tree.rows(), 3 * heads, dim])?;
        let mut outputs = Vec::with_capacity(tree.segments().len());
        for segment in tree.segments() {
            let (start, length) = (segment.rows.start, segment.rows.len());
            let own = all.narrow(0, start, length)?.permute([1, 0, 2])?; // [3 · heads, length, dim]
            let [q, k, v] = [0, 1, 2].map(|part| own.narrow(0, part * heads, heads));
            let (q, k, v) = (q?, k?, v?);
            let mut scores = q.matmul(&k.transpose()?)?; // [heads, length, length]
            let wide = |index: &Tensor| index.expand([heads, length, length]);
            if self.distance_keys.is_some() || self.distance_queries.is_some() {
                let [forth, back] = distances.of(length, x)?;
                if let Some(keys) = &self.distance_keys {
                    scores = scores.add(&q.matmul(keys)?.gather(2, &wide(&forth)?)?)?;
                }
                if let Some(queries) = &self.distance_queries {
                    scores = scores.add(&k.matmul(queries)?.gather(2, &wide(&back)?)?.transpose()?)?;
                }
            }
            let shares = scores.affine(self.scale, 0.0)?.cast(DType::F32)?.softmax(2)?.cast(v.dtype())?;
            outputs.push(shares.matmul(&v)?.permute([1, 0, 2])?.reshape([length, heads * dim])?);
        }
        Tensor::concat(&outputs.iter().collect::<Vec<_>>(), 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: every distance falls into the same bucket as in transformers, even where rounding decides.
    #[test]
    fn buckets_are_those_of_transformers() -> Result<()> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/scorers/buckets.json");
        let text =
            std::fs::read_to_string(path).map_err(crate::error::Error::io(std::path::Path::new(path)))?;
        let golden: Value = serde_json::from_str(&text).unwrap_or_default();
        let cases = golden.as_array().map_or(&[][..], Vec::as_slice);
        assert_eq!(cases.len(), 4);
        for case in cases {
            let count = |key: &str| case[key].as_u64().unwrap_or(0) as usize;
            let relative = Relative {
                on: true,
                most: count("most"),
                buckets: Some(count("buckets")),
                normed: false,
                shared: true,
                to_distances: true,
                to_contents: true,
            };
            let rows = case["rows"].as_array().map_or(&[][..], Vec::as_slice);
            assert_eq!(rows.len(), count("most"));
            for (distance, want) in rows.iter().enumerate() {
                let distance = distance as i64;
                assert_eq!(Some(relative.bucket(distance)), want.as_i64(), "{case}, {distance}");
                assert_eq!(relative.bucket(-distance), -relative.bucket(distance));
            }
        }
        Ok(())
    }
}
