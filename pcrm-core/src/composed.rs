//! The reference implementation of every fused operation, in terms of the primitives: slow, plain, and the
//! specification.

mod cache;
mod sampling;
mod update;

pub use self::cache::TensorCache;
pub use self::sampling::sample;
pub use self::update::{adamw, adamw_8bit, offload, round_at_random};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::host::HostTensor;
use crate::kernels::{Ask, Attention, CacheShape, Coded, LayerCache, Mask, TokenStats};
use crate::tensor::{Compare, Reduce, Tensor, Unary};
use crate::tree::SequenceTree;

/// The additive mask of unseen keys. Finite, so that a fully masked row does not give NaN.
const MASKED: f32 = -1e30;

/// See [`crate::kernels::Kernels::linear`].
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let product = x.matmul(&weight.transpose()?)?;
    match bias {
        Some(bias) => product.add(bias),
        None => Ok(product),
    }
}

/// See [`crate::kernels::Kernels::linear_input`].
pub fn linear_input(gradient: &Tensor, weight: &Tensor) -> Result<Tensor> {
    gradient.detach().matmul(&weight.detach())
}

/// See [`crate::kernels::Kernels::dequantise`].
pub fn dequantise(coded: &Coded<'_>) -> Result<Tensor> {
    let Coded { codes, table, scales, block, len } = *coded;
    let each = coded.check()?;
    let values = table.detach().index_select(0, &codes.detach().cast(DType::U32)?)?;
    let values = values.reshape([codes.size() * each])?;
    let (blocks, rest) = (len / block, len % block);
    let scales = scales.detach();
    let whole = values.narrow(0, 0, blocks * block)?.reshape([blocks, block])?;
    let whole = whole.mul(&scales.narrow(0, 0, blocks)?.reshape([blocks, 1])?)?.reshape([blocks * block])?;
    if rest == 0 {
        return Ok(whole);
    }
    let last = values.narrow(0, blocks * block, rest)?.mul(&scales.narrow(0, blocks, 1)?)?;
    match blocks {
        0 => Ok(last),
        _ => Tensor::concat(&[&whole, &last], 0),
    }
}

/// See [`crate::kernels::Kernels::attention`]: one block of scores per segment, `[heads, queries, chain]`.
pub fn attention(qkv: [&Tensor; 3], tree: &SequenceTree, how: &Attention<'_>) -> Result<Tensor> {
    let [q, k, v] = qkv;
    let (heads, kv_heads) = attention_heads(qkv, tree, how)?;
    let mut outputs = Vec::with_capacity(tree.segments().len());
    for asking in tree.asking(how.queries) {
        let chain = tree.chain(asking.segment);
        let rows_of = |x: &Tensor| -> Result<Tensor> {
            let parts =
                chain.iter().map(|rows| x.narrow(0, rows.start, rows.len())).collect::<Result<Vec<_>>>()?;
            Tensor::concat(&parts.iter().collect::<Vec<_>>(), 0)
        };
        let queries = q.narrow(0, asking.rows.start, asking.rows.len())?.permute([1, 0, 2])?; // [heads, n, dim]
        let keys = repeat_heads(&rows_of(k)?.permute([1, 0, 2])?, heads / kv_heads)?; // [heads, m, dim]
        let values = repeat_heads(&rows_of(v)?.permute([1, 0, 2])?, heads / kv_heads)?;
        let mask = q.constant(&visibility(&asking.positions, keys.shape()[1], how.mask)?)?; // [1, n, m]
        let scores = queries.matmul(&keys.transpose()?)?.cast(DType::F32)?.affine(how.scale, 0.0)?;
        let scores = match how.cap {
            Some(cap) => scores.affine(1.0 / cap, 0.0)?.unary(Unary::Tanh)?.affine(cap, 0.0)?,
            None => scores,
        };
        let weights = scores.add(&mask)?.softmax(2)?.cast(v.dtype())?;
        outputs.push(weights.matmul(&values)?.permute([1, 0, 2])?); // [n, heads, dim]
    }
    Tensor::concat(&outputs.iter().collect::<Vec<_>>(), 0)
}

/// See [`crate::kernels::Kernels::cache`].
pub fn cache(like: &Tensor, shape: CacheShape) -> Result<Box<dyn LayerCache>> {
    Ok(Box::new(TensorCache::new(like, shape, |qkv, tree, how| attention(qkv, tree, how))?))
}

/// Checks the operands of attention and returns the numbers of heads and of kv heads.
///
/// # Errors
/// Fails if shapes do not match each other or the tree, and if queries are not ascending rows of the tree.
pub fn attention_heads(
    qkv: [&Tensor; 3],
    tree: &SequenceTree,
    how: &Attention<'_>,
) -> Result<(usize, usize)> {
    let [q, k, v] = qkv.map(Tensor::shape);
    let asked = how.queries.map_or(tree.rows(), <[usize]>::len);
    let ascending = how.queries.is_none_or(|queries| {
        queries.windows(2).all(|pair| pair[0] < pair[1])
            && queries.last().is_some_and(|last| *last < tree.rows())
    });
    match (q.as_slice(), k.as_slice()) {
        ([q_rows, heads, dim], [rows, kv_heads, kv_dim])
            if ascending
                && *q_rows == asked
                && *rows == tree.rows()
                && dim == kv_dim
                && k == v
                && heads % kv_heads == 0 =>
        {
            Ok((*heads, *kv_heads))
        }
        _ => {
            let rows = tree.rows();
            let message = format!("q must be [{asked}, heads, dim], k and v [{rows}, kv_heads, dim]");
            Err(Error::shape("attention", message, &[&q, &k, &v]))
        }
    }
}

fn repeat_heads(x: &Tensor, times: usize) -> Result<Tensor> {
    let shape = x.shape();
    let (heads, rows, dim) = (shape[0], shape[1], shape[2]);
    x.reshape([heads, 1, rows, dim])?.expand([heads, times, rows, dim])?.reshape([heads * times, rows, dim])
}

fn visibility(positions: &[usize], keys: usize, mask: Mask) -> Result<HostTensor> {
    let seen = |query: usize, key: usize| match mask {
        Mask::Causal { window } => key <= query && window.is_none_or(|window| key + window > query),
        Mask::Full => true,
        Mask::Around { reach } => query.abs_diff(key) <= reach,
    };
    let mask = positions
        .iter()
        .flat_map(|query| (0..keys).map(move |key| if seen(*query, key) { 0.0 } else { MASKED }));
    HostTensor::f32([1, positions.len(), keys], mask.collect())
}

/// See [`crate::kernels::Kernels::rms_norm`].
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    let last = x.shape().len().saturating_sub(1);
    let scale = x.square()?.mean(last)?.affine(1.0, eps)?.unary(Unary::Sqrt)?;
    x.div(&scale)?.mul(weight)
}

/// See [`crate::kernels::Kernels::layer_norm`].
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let last = x.shape().len().saturating_sub(1);
    let centred = x.sub(&x.mean(last)?)?;
    let scale = centred.square()?.mean(last)?.affine(1.0, eps)?.unary(Unary::Sqrt)?;
    centred.div(&scale)?.mul(weight)?.add(bias)
}

/// See [`crate::kernels::Kernels::rotary`].
pub fn rotary(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let shape = x.shape();
    let [rows, _, dim] = shape.as_slice() else {
        return Err(Error::shape("rotary", "x must be [rows, heads, dim]", &[&shape]));
    };
    let half = dim / 2;
    let (a, b) = (x.narrow(2, 0, half)?, x.narrow(2, half, half)?);
    let (cos, sin) = (cos.reshape([*rows, 1, half])?, sin.reshape([*rows, 1, half])?);
    let first = a.mul(&cos)?.sub(&b.mul(&sin)?)?;
    let second = b.mul(&cos)?.add(&a.mul(&sin)?)?;
    Tensor::concat(&[&first, &second], 2)
}

/// See [`crate::kernels::Kernels::swiglu`].
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    gate.unary(Unary::Silu)?.mul(up)
}

/// See [`crate::kernels::Kernels::embedding`].
pub fn embedding(table: &Tensor, ids: &Tensor) -> Result<Tensor> {
    table.index_select(0, ids)
}

/// See [`crate::kernels::Kernels::token_stats`].
pub fn token_stats(hidden: &Tensor, head: &Tensor, ask: &Ask<'_>) -> Result<TokenStats> {
    ask.check(hidden, head)?;
    let asked = ask.rows.len();
    let rows = hidden.index_select(0, &hidden.constant(&HostTensor::indices(ask.rows.to_vec()))?)?;
    let mut logits = linear(&rows, head, None)?.cast(DType::F32)?; // [asked, vocabulary]
    if let Some(cap) = ask.soft_cap {
        logits = logits.affine(1.0 / cap, 0.0)?.unary(Unary::Tanh)?.affine(cap, 0.0)?;
    }
    let logits = logits.affine(1.0 / ask.temperature, 0.0)?;
    let targets = logits.constant(&HostTensor::indices(ask.targets.to_vec()))?;
    let picked = logits.gather(1, &targets.reshape([asked, 1])?)?;
    let total = logits.log_sum_exp(1)?;
    let entropy = || {
        let log_softmax = logits.sub(&total)?;
        log_softmax.exp()?.mul(&log_softmax)?.sum(1)?.neg()?.reshape([asked])
    };
    Ok(TokenStats {
        log_probs: picked.sub(&total)?.reshape([asked])?,
        entropy: ask.entropy.then(entropy).transpose()?,
        correct: picked.compare(Compare::Ge, &logits.reduce(Reduce::Max, 1)?)?.reshape([asked])?,
    })
}
