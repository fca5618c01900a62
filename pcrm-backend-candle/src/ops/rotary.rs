//! Rotary positions: rotates every pair (x[i], x[i + dim/2]) by its row's angle.

use candle_core as ct;
use multiversion::multiversion;
use pcrm_core::{Error, Result};
use rayon::prelude::*;

use super::slices::{dense, floats, tensor};

const ROWS: usize = 64;

/// The direction of the rotation.
#[derive(Clone, Copy)]
pub(crate) enum Turn {
    /// Rotates by the angle: the forward operation.
    Forward,
    /// Rotates by minus the angle: the gradient.
    Back,
}

/// Rotates x `[rows, heads, dim]` by the angles whose cos and sin are `[rows, dim / 2]`.
pub(crate) fn rotate(x: &ct::Tensor, cos: &ct::Tensor, sin: &ct::Tensor, turn: Turn) -> Result<ct::Tensor> {
    const OP: &str = "rotary";
    let x = dense(OP, x)?;
    let [_, heads, dim] = x.dims() else {
        return Err(Error::shape(OP, "x must be [rows, heads, dim]", &[x.dims()]));
    };
    let (width, half) = (heads * dim, dim / 2);
    let mut values = vec![0.0; x.elem_count()];
    {
        let (x, cos, sin) = (floats(OP, &x)?, floats(OP, cos)?, floats(OP, sin)?);
        let angles = cos.par_chunks(ROWS * half).zip(sin.par_chunks(ROWS * half));
        let parts = values.par_chunks_mut(ROWS * width).zip(x.par_chunks(ROWS * width)).zip(angles);
        let sign = match turn {
            Turn::Forward => 1.0,
            Turn::Back => -1.0,
        };
        parts.for_each(|((values, x), (cos, sin))| rotate_rows(values, x, [cos, sin], [width, half], sign));
    }
    tensor(OP, values, x.dims())
}

#[multiversion(targets = "simd")]
fn rotate_rows(values: &mut [f32], x: &[f32], angles: [&[f32]; 2], [width, half]: [usize; 2], sign: f32) {
    let angles = angles[0].chunks_exact(half).zip(angles[1].chunks_exact(half));
    let rows = values.chunks_exact_mut(width).zip(x.chunks_exact(width));
    for ((values, x), (cos, sin)) in rows.zip(angles) {
        for (values, x) in values.chunks_exact_mut(2 * half).zip(x.chunks_exact(2 * half)) {
            let (a, b) = x.split_at(half);
            let (first, second) = values.split_at_mut(half);
            for at in 0..half {
                let sin = sign * sin[at];
                first[at] = a[at] * cos[at] - b[at] * sin;
                second[at] = b[at] * cos[at] + a[at] * sin;
            }
        }
    }
}
