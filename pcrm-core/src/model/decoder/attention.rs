//! The attention of one layer.

use super::cached::Memory;
use super::{Names, Pass};
use crate::error::Result;
use crate::kernels::{self, Mask};
use crate::model::family::Qkv;
use crate::model::layers::{Linear, Norm};
use crate::model::{Rows, select};
use crate::params::Params;
use crate::tensor::Tensor;

/// The projections of queries, keys and values, which families name and arrange as [`Qkv`] says.
#[derive(Debug, Clone)]
enum Projections {
    Separate(Box<[Linear; 3]>),
    Fused(Linear),
    FusedByHead(Linear),
}

/// Attention from the normalised input of a layer to what its residual stream gets.
#[derive(Debug, Clone)]
pub(super) struct Attention {
    qkv: Projections,
    /// The norms of every head's queries and keys.
    head_norms: Option<[Norm; 2]>,
    output: Linear,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    scale: f64,
    mask: Mask,
    /// The rotary positions among those of the pass.
    rope: Option<usize>,
}

impl Attention {
    /// Looks up the parameters of a layer; `rope` is its rotary positions' place in the pass.
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
                Qkv::FusedByHead(name) => Projections::FusedByHead(linear(name)?),
            },
            head_norms: match family.head_norms {
                Some([q, k]) => Some([norm(q)?, norm(k)?]),
                None => None,
            },
            output: linear(family.output)?,
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            scale: sight.scale,
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
            Projections::FusedByHead(all) => Projections::FusedByHead(all.over(params)),
        };
        let head_norms = self.head_norms.as_ref().map(|norms| norms.each_ref().map(|norm| norm.over(params)));
        Self { qkv, head_norms, output: self.output.over(params), ..*self }
    }

    /// x `[rows, width]`, normalised → `[wanted rows, width]`.
    pub fn forward(&self, x: &Tensor, pass: &Pass, rows: Rows<'_>, memory: Memory<'_>) -> Result<Tensor> {
        let [mut q, mut k, v] = self.project(x, pass, rows)?;
        if let Some([q_norm, k_norm]) = &self.head_norms {
            q = self.norm_heads(&q, q_norm)?;
            k = self.norm_heads(&k, k_norm)?;
        }
        if let Some([cos, sin]) = self.rope.map(|rope| &pass.angles[rope]) {
            q = rotate(&q, &select(cos, rows)?, &select(sin, rows)?)?;
            k = rotate(&k, cos, sin)?;
        }
        let queries = match rows {
            Rows::All => None,
            Rows::Only(rows) => Some(rows),
        };
        let how = kernels::Attention { scale: self.scale, mask: self.mask, queries };
        let attended = match memory {
            Memory::None => q.kernels().attention([&q, &k, &v], &pass.tree, &how)?,
            Memory::Fill { cache, rows, slots } => {
                cache.write(slots, &select(&k, Rows::Only(rows))?, &select(&v, Rows::Only(rows))?)?;
                q.kernels().attention([&q, &k, &v], &pass.tree, &how)?
            }
            Memory::Step { cache, rows, slots } => {
                cache.write(slots, &k, &v)?;
                cache.attend(&q, rows, self.scale, self.mask)?
            }
        };
        let joined = attended.reshape([attended.shape()[0], self.heads * self.head_dim])?;
        self.output.forward(&joined, pass.noise(rows))
    }

    /// Queries of the wanted rows, keys and values of all, each `[rows, heads, head_dim]`.
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
                let all = all.forward(x, all_rows)?.reshape([x.shape()[0], 3 * heads, head_dim])?;
                let part = |at: usize| all.narrow(1, at * heads, heads);
                Ok([select(&part(0)?, rows)?, part(1)?, part(2)?])
            }
            Projections::FusedByHead(all) => {
                let all = all.forward(x, all_rows)?.reshape([x.shape()[0], heads, 3 * head_dim])?;
                let part = |at: usize| all.narrow(2, at * head_dim, head_dim);
                Ok([select(&part(0)?, rows)?, part(1)?, part(2)?])
            }
        }
    }

    /// The norm of every head on its own, x `[rows, heads, head_dim]`.
    fn norm_heads(&self, x: &Tensor, norm: &Norm) -> Result<Tensor> {
        let (shape, dim) = (x.shape(), self.head_dim);
        norm.forward(&x.reshape([x.size() / dim, dim])?)?.reshape(shape)
    }
}

/// Turns as many of every head's first dimensions as there are angles for; x `[rows, heads, head_dim]`.
fn rotate(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let (dim, turning) = (x.shape()[2], 2 * cos.shape()[1]);
    if turning == dim {
        return x.kernels().rotary(x, cos, sin);
    }
    let turned = x.kernels().rotary(&x.narrow(2, 0, turning)?, cos, sin)?;
    Tensor::concat(&[&turned, &x.narrow(2, turning, dim - turning)?], 2)
}
