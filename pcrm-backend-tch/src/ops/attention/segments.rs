//! Attention segment by segment with `scaled_dot_product_attention`, which picks the fastest kernel for a
//! device and type; the backward is libtorch's own.
//!
//! A whole sequence needs no mask (flash attention), nor does one whose rows see everything. An answer
//! attends to its prompt and itself under a mask of `[answer, prompt + answer]`, never of all rows.

use std::ops::Range;

use pcrm_core::{Attention, Mask, SequenceTree};
use tch::{Kind, TchError, Tensor as Torch};

use super::super::Torched;
use super::super::history::{self, Graph};

/// Computes attention, with its history if it `keeps`.
pub(super) fn forward(
    qkv: [&Torch; 3],
    tree: &SequenceTree,
    how: &Attention<'_>,
    keeps: bool,
) -> Torched<(Torch, Option<Graph>)> {
    history::forward(&qkv, keeps, |leaves| match leaves {
        [q, k, v] => attend([q, k, v], tree, how),
        _ => Err(TchError::Shape("q, k and v are needed".to_owned())),
    })
}

fn attend([q, k, v]: [&Torch; 3], tree: &SequenceTree, how: &Attention<'_>) -> Torched {
    let times = q.size()[1] / k.size()[1];
    let mut outputs = Vec::with_capacity(tree.segments().len());
    for asking in tree.asking(how.queries) {
        let segment = &tree.segments()[asking.segment];
        let positions: Vec<i64> = asking.positions.iter().map(|position| *position as i64).collect();
        // [1, heads, n, dim]
        let queries = heads_first(&q.f_narrow(0, asking.rows.start as i64, positions.len() as i64)?)?;
        let chain = tree.chain(asking.segment);
        let (mut keys, mut values) = (heads_first(&along(k, &chain)?)?, heads_first(&along(v, &chain)?)?);
        let whole = segment.parent.is_none() && positions.len() == segment.rows.len();
        let (causal, mask) = match how.mask {
            Mask::Full => (false, None),
            Mask::Causal { window: None } if whole => (true, None),
            Mask::Causal { window } => {
                let farthest = window.map(|window| window as i64 - 1);
                (false, Some(mask(&positions, keys.size()[2], 0, farthest, q)?))
            }
            Mask::Around { reach } => {
                let reach = reach as i64;
                (false, Some(mask(&positions, keys.size()[2], -reach, Some(reach), q)?))
            }
        };
        // Kernels that take a mask need as many heads of keys as of queries.
        let repeated = times > 1 && mask.is_some();
        if repeated {
            keys = keys.f_repeat_interleave_self_int(times, 1, None)?;
            values = values.f_repeat_interleave_self_int(times, 1, None)?;
        }
        let out = Torch::f_scaled_dot_product_attention(
            &queries,
            &keys,
            &values,
            mask,
            0.0,
            causal,
            how.scale,
            times > 1 && !repeated,
        )?;
        outputs.push(out.f_squeeze_dim(0)?.f_transpose(0, 1)?); // [n, heads, dim]
    }
    Torch::f_cat(&outputs, 0)
}

fn heads_first(x: &Torch) -> Torched {
    x.f_transpose(0, 1)?.f_unsqueeze(0)
}

fn along(x: &Torch, chain: &[Range<usize>]) -> Torched {
    let mut parts = Vec::with_capacity(chain.len());
    for range in chain {
        parts.push(x.f_narrow(0, range.start as i64, range.len() as i64)?);
    }
    match parts.as_slice() {
        [only] => Ok(only.shallow_clone()),
        _ => Torch::f_cat(&parts, 0),
    }
}

/// Returns a mask `[1, 1, n, keys]` with −∞ for keys fewer than `nearest` or more than `farthest` positions
/// back.
fn mask(positions: &[i64], keys: i64, nearest: i64, farthest: Option<i64>, like: &Torch) -> Torched {
    let device = like.device();
    let consecutive = positions.windows(2).all(|pair| pair[0] + 1 == pair[1]);
    let rows = match consecutive {
        true => {
            Torch::f_arange_start(positions[0], positions[0] + positions.len() as i64, (Kind::Int64, device))?
        }
        false => Torch::f_from_slice(positions)?.f_to_device(device)?,
    };
    let behind = rows.f_unsqueeze(1)?.f_sub(&Torch::f_arange(keys, (Kind::Int64, device))?)?;
    let mut hidden = behind.f_lt(nearest)?;
    if let Some(farthest) = farthest {
        hidden = hidden.f_logical_or(&behind.f_gt(farthest)?)?;
    }
    let mask = Torch::f_zeros([positions.len() as i64, keys], (like.kind(), device))?;
    mask.f_masked_fill(&hidden, f64::NEG_INFINITY)?.f_unsqueeze(0)?.f_unsqueeze(0)
}

#[cfg(test)]
mod tests {
    use super::super::{self as attention, Sizes};
    use super::*;
    use pcrm_core::PlannedTree;
    use pcrm_core::tree::Packed;

    fn difference(a: &Torch, b: &Torch) -> f64 {
        (a - b).abs().max().double_value(&[])
    }

    /// Protects: both implementations of attention agree; normally only a GPU uses the second one.
    #[test]
    fn segments_agree_with_tiles_in_value_and_gradient() -> Result<(), Box<dyn std::error::Error>> {
        let _seed = crate::library::seeded(1);
        let mut batch = Packed::default();
        let prompt = batch.push(&[0; 70], None)?;
        let answer = batch.push(&[0; 9], Some(prompt))?;
        batch.push(&[0; 1], Some(prompt))?;
        batch.push(&[0; 30], Some(answer))?;
        batch.push(&[0; 5], None)?;
        let rows = batch.tree.rows();
        let some: Vec<usize> = (0..rows).filter(|row| row % 4 == 1).collect();
        for (heads, kv_heads) in [(2, 2), (6, 2)] {
            for mask in [
                Mask::Causal { window: None },
                Mask::Causal { window: Some(20) },
                Mask::Full,
                Mask::Around { reach: 9 },
            ] {
                for queries in [None, Some(&some[..])] {
                    let how = Attention { scale: 0.3, cap: None, mask, queries };
                    let asked = queries.map_or(rows, <[usize]>::len) as i64;
                    let normal =
                        |rows: i64, heads: i64| Torch::randn([rows, heads, 16], tch::kind::FLOAT_CPU);
                    let (rows, gradient) = (rows as i64, normal(asked, heads));
                    let qkv = [normal(asked, heads), normal(rows, kv_heads), normal(rows, kv_heads)];
                    let (value, graph) = forward(qkv.each_ref(), &batch.tree, &how, true)?;
                    let tree = PlannedTree::new(batch.tree.clone());
                    let sizes = Sizes { heads: heads as usize, kv_heads: kv_heads as usize, dim: 16 };
                    let (want, saved) = attention::forward(qkv.each_ref(), &tree, &how, sizes, true)?;
                    assert!(difference(&value, &want) < 1e-5, "{how:?}");
                    let gradients = graph.ok_or("a graph")?.backward::<3>(&gradient)?;
                    let want = attention::backward(saved.ok_or("kept")?, qkv.each_ref(), &gradient)?;
                    for (got, want) in gradients.iter().zip(&want) {
                        assert!(difference(got, want) < 1e-5, "{how:?}");
                    }
                    assert!(forward(qkv.each_ref(), &batch.tree, &how, false)?.1.is_none());
                }
            }
        }
        Ok(())
    }
}
