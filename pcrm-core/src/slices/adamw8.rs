//! AdamW with 8-bit moments, block by block.

use rayon::prelude::*;

use crate::cuda::Argument;
use crate::kernels::AdamWStep;
use crate::optim::dynamic::{BLOCK, Moment, SIGNED, UNSIGNED};

/// The numbers of a step in f32, as the update uses them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Factors {
    scale: f32,
    beta1: f32,
    fresh1: f32,
    beta2: f32,
    fresh2: f32,
    keep: f32,
    rate: f32,
    root: f32,
    eps: f32,
}

impl Factors {
    /// Returns the numbers of a step.
    pub fn new(step: &AdamWStep) -> Self {
        Self {
            scale: step.grad_scale as f32,
            beta1: step.beta1 as f32,
            fresh1: (1.0 - step.beta1) as f32,
            beta2: step.beta2 as f32,
            fresh2: (1.0 - step.beta2) as f32,
            keep: (1.0 - step.lr * step.weight_decay) as f32,
            rate: (step.lr / (1.0 - step.beta1.powf(step.step as f64))) as f32,
            root: (1.0 - step.beta2.powf(step.step as f64)).sqrt() as f32,
            eps: step.eps as f32,
        }
    }

    /// Returns the numbers as the last arguments of the kernel `adamw_8bit`.
    pub fn arguments(&self) -> [Argument; 9] {
        let Self { scale, beta1, fresh1, beta2, fresh2, keep, rate, root, eps } = *self;
        [scale, beta1, fresh1, beta2, fresh2, keep, rate, root, eps].map(Argument::F32)
    }
}

/// Updates a parameter and its moments; blocks are independent of each other.
pub fn step(how: &AdamWStep, weights: &mut [f32], gradient: &[f32], [mean, variance]: [&mut Moment; 2]) {
    let how = Factors::new(how);
    let block = |weights: &mut [f32],
                 gradient: &[f32],
                 first: (&mut [u8], &mut f32),
                 second: (&mut [u8], &mut f32)| {
        let size = weights.len();
        let (mut means, mut variances) = ([0.0; BLOCK], [0.0; BLOCK]);
        let (means, variances) = (&mut means[..size], &mut variances[..size]);
        SIGNED.unpack(first.0, *first.1, means);
        UNSIGNED.unpack(second.0, *second.1, variances);
        for at in 0..size {
            let grad = gradient[at] * how.scale;
            means[at] = means[at] * how.beta1 + grad * how.fresh1;
            variances[at] = variances[at] * how.beta2 + grad * grad * how.fresh2;
            weights[at] =
                weights[at] * how.keep - how.rate * means[at] / (variances[at].sqrt() / how.root + how.eps);
        }
        *first.1 = SIGNED.pack(means, first.0);
        *second.1 = UNSIGNED.pack(variances, second.0);
    };
    let firsts = mean.codes.par_chunks_mut(BLOCK).zip(mean.largest.par_iter_mut());
    let seconds = variance.codes.par_chunks_mut(BLOCK).zip(variance.largest.par_iter_mut());
    let values = weights.par_chunks_mut(BLOCK).zip(gradient.par_chunks(BLOCK));
    values.zip(firsts.zip(seconds)).for_each(|((weights, gradient), (first, second))| {
        block(weights, gradient, first, second);
    });
}
