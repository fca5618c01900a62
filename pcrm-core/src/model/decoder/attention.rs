//! The attention of one layer.

use super::cached::Memory;
use super::{Names, Pass};
use crate::error::Result;
use crate::kernels::{self, Mask};
use crate::model::family::{Pairs, QkNorms, Qkv};
use crate::model::layers::{Linear, Norm};
use crate::model::{Rows, select};
use crate::params::Params;
use crate::tensor::Tensor;

/// The projections of queries, keys and values, in the arrangement of [`Qkv`].
#[derive(Debug, Clone)]
enum Projections {
    Separate(Box<[Linear; 3]>),
    Fused(Linear),
    FusedByGroup(Linear),
}

/// The attention of a layer, from its normalised input to its addition to the residual stream.
#[derive(Debug, Clone)]
pub(super) struct Attention {
    qkv: Projections,
    /// The norms of queries and keys; true if each head is normalised separately.
    qk_norms: Option<([Norm; 2], bool)>,
    output: Linear,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    scale: f64,
    cap: Option<f64>,
    mask: Mask,
    pairs: Pairs,
    /// The index of the rotary positions in the pass.
    rope: Option<usize>,
}

impl Attention {
    /// Looks up the parameters of a layer; `rope` is the index of its rotary positions in the pass.
    pub fn of(params: &Params, at: &Names<'_>, rope: Option<usize>) -> Result<Self> {
        let config = at.config;
        let family = config.family;
        let linear = |name: &str| Linear::of(params, &at.name(name), at.adapters);
        let norm = |name: &str| Norm::of(params, &at.name(name), family.norm, config.norm_eps);
        let sight = &config.sights[at.layer];
        Ok(Self {
            qkv: match &family.qkv {
                Qkv::Separate([q, k, v]) => {
                    Projections::Separate(Box::new([linear(q)?, linear(k)?, linear(v)?]))
                }
                Qkv::Fused(name) => Projections::Fused(linear(name)?),
                Qkv::FusedByGroup(name) => Projections::FusedByGroup(linear(name)?),
            },
            qk_norms: match family.qk_norms {
                Some(QkNorms::ByHead([q, k])) => Some(([norm(q)?, norm(k)?], true)),
                Some(QkNorms::Whole([q, k])) => Some(([norm(q)?, norm(k)?], false)),
                None => None,
            },
            output: linear(family.output)?,
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            scale: sight.scale,
            cap: sight.cap,
            pairs: family.pairs,
            mask: Mask::Causal { window: sight.window },
            rope,
        })
    }

    pub fn over(&self, params: &Params) -> Self {
        let qkv = match &self.qkv {
            Projections::Separate(qkv) => {
                Projections::Separate(Box::new(qkv.each_ref().map(|one| one.over(params))))
            }
            Projections::Fused(all) => Projections::Fused(all.over(params)),
            Projections::FusedByGroup(all) => Projections::FusedByGroup(all.over(params)),
        };
        let over = |norms: &[Norm; 2]| norms.each_ref().map(|norm| norm.over(params));
        let qk_norms = self.qk_norms.as_ref().map(|(norms, by_head)| (over(norms), *by_head));
        Self { qkv, qk_norms, output: self.output.over(params), ..*self }
    }

    /// Computes attention of normalised x `[rows, width]` → `[wanted rows, width]`.
    pub fn forward(&self, x: &Tensor, pass: &Pass, rows: Rows<'_>, memory: Memory<'_>) -> Result<Tensor> {
        let [mut q, mut k, v] = self.project(x, pass, rows)?;
        if let Some(([q_norm, k_norm], by_head)) = &self.qk_norms {
            q = normed(&q, q_norm, *by_head)?;
            k = normed(&k, k_norm, *by_head)?;
        }
        if let Some([cos, sin]) = self.rope.map(|rope| &pass.angles[rope]) {
            q = rotate(&q, &select(cos, rows)?, &select(sin, rows)?, self.pairs)?;
            k = rotate(&k, cos, sin, self.pairs)?;
        }
        let queries = match rows {
            Rows::All => None,
            Rows::Only(rows) => Some(rows),
        };
        let how = kernels::Attention { scale: self.scale, cap: self.cap, mask: self.mask, queries };
        let attended = match memory {
            Memory::None => q.kernels().attention([&q, &k, &v], &pass.tree, &how)?,
            Memory::Fill { cache, rows, slots } => {
                cache.write(slots, &select(&k, Rows::Only(rows))?, &select(&v, Rows::Only(rows))?)?;
                q.kernels().attention([&q, &k, &v], &pass.tree, &how)?
            }
            Memory::Step { cache, rows } => cache.step([&q, &k, &v], rows, &how)?,
        };
        let joined = attended.reshape([attended.shape()[0], self.heads * self.head_dim])?;
        self.output.forward(&joined, pass.noise(rows))
    }

    /// Computes queries of the wanted rows and keys and values of all, each `[rows, heads, head_dim]`.
    fn project(&self, x: &Tensor, pass: &Pass, rows: Rows<'_>) -> Result<[Tensor; 3]> {
        let Self { heads, kv_heads, head_dim, .. } = *self;
        let all_rows = pass.noise(Rows::All);
        let split = |x: &Tensor, heads: usize| x.reshape([x.shape()[0], heads, head_dim]);
        match &self.qkv {
            Projections::Separate(separate) => {
                let [q, k, v] = separate.as_ref();
                Ok([
                    split(&q.forward(&select(x, rows)?, pass.noise(rows))?, heads)?,
                    split(&k.forward(x, all_rows)?, kv_heads)?,
                    split(&v.forward(x, all_rows)?, kv_heads)?,
                ])
            }
            Projections::Fused(all) => {
                let all = all.forward(x, all_rows)?;
                let all = all.reshape([x.shape()[0], heads + 2 * kv_heads, head_dim])?;
                let q = select(&all.narrow(1, 0, heads)?, rows)?;
                Ok([q, all.narrow(1, heads, kv_heads)?, all.narrow(1, heads + kv_heads, kv_heads)?])
            }
            Projections::FusedByGroup(all) => {
                let group = heads / kv_heads;
                let all = all.forward(x, all_rows)?;
                let all = all.reshape([x.shape()[0], kv_heads, (group + 2) * head_dim])?;
                let part = |at: usize, count: usize| all.narrow(2, at * head_dim, count * head_dim);
                Ok([split(&select(&part(0, group)?, rows)?, heads)?, part(group, 1)?, part(group + 1, 1)?])
            }
        }
    }
}

/// Normalises every head separately, or all together; x `[rows, heads, head_dim]`.
fn normed(x: &Tensor, norm: &Norm, by_head: bool) -> Result<Tensor> {
    let shape = x.shape();
    let width = if by_head { shape[2] } else { shape[1] * shape[2] };
    norm.forward(&x.reshape([x.size() / width, width])?)?.reshape(shape)
}

/// Rotates the first dimensions of every head, as many as there are angles; x `[rows, heads, head_dim]`.
///
/// Neighbouring pairs are reordered into halves, in queries and keys alike, which leaves q·k unchanged.
fn rotate(x: &Tensor, cos: &Tensor, sin: &Tensor, pairs: Pairs) -> Result<Tensor> {
    let shape = x.shape();
    let (dim, half) = (shape[2], cos.shape()[1]);
    let turning = if 2 * half == dim { x.clone() } else { x.narrow(2, 0, 2 * half)? };
    let turning = match pairs {
        Pairs::Halves => turning,
        Pairs::Neighbours => {
            let apart = turning.reshape([shape[0], shape[1], half, 2])?.permute([0, 1, 3, 2])?;
            apart.reshape([shape[0], shape[1], 2 * half])?
        }
    };
    let turned = x.kernels().rotary(&turning, cos, sin)?;
    match 2 * half == dim {
        true => Ok(turned),
        false => Tensor::concat(&[&turned, &x.narrow(2, 2 * half, dim - 2 * half)?], 2),
    }
}
