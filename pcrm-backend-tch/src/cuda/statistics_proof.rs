//! The proof of the statistics of tokens on a GPU, in value and gradient.

use pcrm_core::kernels::{Ask, Asked};
use pcrm_core::{Result, Tensor, composed};
use tch::{Device, Kind, Tensor as Torch};

use super::fused::Fused;
use super::proof::{agree, every, random};
use crate::failed;
use crate::ops::Torched;
use crate::ops::token_stats;

/// Proves the kernels for vocabularies of whole packs and others, with and without entropies, caps and temperatures.
pub(super) fn of_statistics(fused: &Fused, device: Device) -> std::result::Result<(), String> {
    let rows: Vec<u32> = [0, 0, 0].into_iter().chain(2..40).collect();
    for kind in [Kind::BFloat16, Kind::Float] {
        for (vocabulary, entropy, soft_cap, temperature) in
            [(1003, false, None, 1.0), (1008, true, None, 0.7), (1008, true, Some(3.0), 1.0)]
        {
            // Two of the first row's three targets are equal.
            let targets: Vec<u32> =
                [5, 9, 5].into_iter().chain((2..40).map(|at| at * 25 % vocabulary)).collect();
            let ask = Ask { rows: &rows, targets: &targets, temperature, soft_cap, entropy };
            statistics(fused, &ask, i64::from(vocabulary), (kind, device))
                .map_err(|error| error.to_string())?;
        }
    }
    Ok(())
}

fn statistics(fused: &Fused, ask: &Ask<'_>, vocabulary: i64, options: (Kind, Device)) -> Result<()> {
    let inputs = every([random(&[40, 16], options), random(&[vocabulary, 16], options)])?;
    let [hidden, head] = inputs.each_ref();
    let asked = Asked::new(ask);
    let run = || -> Torched<(Vec<Torch>, Torch)> {
        let answers = token_stats::forward(hidden, head, &asked, Some(fused))?;
        let gradient = Torch::f_randn(answers.joint.size(), (Kind::Float, options.1))?;
        let of = [hidden, head, &gradient];
        let gradients = token_stats::backward(of, &asked, &answers.rows, [true; 2], Some(fused))?;
        Ok((std::iter::once(answers.joint).chain(gradients.into_iter().flatten()).collect(), gradient))
    };
    let (got, gradient) = run().map_err(failed("token_stats"))?;
    agree(options.0, &got, &inputs, &gradient, |inputs| {
        let stats = composed::token_stats(&inputs[0], &inputs[1], ask)?;
        let Some(entropy) = stats.entropy else { return Ok(stats.log_probs) };
        let row = |x: Tensor| x.reshape([1, ask.rows.len()]);
        Tensor::concat(&[&row(stats.log_probs)?, &row(entropy)?], 0)
    })
}
