//! The routing of rows to experts: softmax, selection of the largest shares, and gradients.
//!
//! Routing is computed on the host, so that a row uses the same experts on every backend and in any batch.

use std::ops::Range;
use std::sync::Arc;

use crate::error::Result;
use crate::host::HostTensor;
use crate::tensor::Tensor;

/// The experts of every row.
#[derive(Debug, Clone)]
pub(super) struct Routes {
    experts: usize,
    taken: usize,
    normalised: bool,
    /// softmax(logits), `[rows, experts]`.
    probabilities: Arc<[f64]>,
    /// The experts of every row, ascending, `[rows, taken]`.
    chosen: Arc<[usize]>,
    /// Rows by expert: a row appears `taken` times.
    rows: Vec<usize>,
    /// The range of each expert in `rows`.
    ranges: Vec<Range<usize>>,
    /// The index in `rows` of every row's choices, `[rows, taken]`.
    places: Vec<usize>,
}

impl Routes {
    /// Chooses the `taken` likeliest of `experts` experts for every row of logits `[rows, experts]`; the
    /// first of equals.
    pub fn new(logits: &[f32], experts: usize, taken: usize, normalised: bool) -> Self {
        let probabilities: Vec<f64> = logits.chunks_exact(experts).flat_map(softmax).collect();
        let mut chosen = Vec::with_capacity(logits.len() / experts * taken);
        for row in probabilities.chunks_exact(experts) {
            let mut order: Vec<usize> = (0..experts).collect();
            order.sort_by(|a, b| row[*b].total_cmp(&row[*a])); // stable: of equals the first
            order.truncate(taken);
            order.sort_unstable();
            chosen.extend(order);
        }
        let mut counts = vec![0; experts];
        chosen.iter().for_each(|expert| counts[*expert] += 1);
        let mut start = 0;
        let range = |count: &usize| {
            start += count;
            start - count..start
        };
        let ranges: Vec<Range<usize>> = counts.iter().map(range).collect();
        let mut next: Vec<usize> = ranges.iter().map(|range| range.start).collect();
        let (mut rows, mut places) = (vec![0; chosen.len()], Vec::with_capacity(chosen.len()));
        for (at, expert) in chosen.iter().enumerate() {
            rows[next[*expert]] = at / taken;
            places.push(next[*expert]);
            next[*expert] += 1;
        }
        let (probabilities, chosen) = (probabilities.into(), chosen.into());
        Self { experts, taken, normalised, probabilities, chosen, rows, ranges, places }
    }

    /// Returns the rows of every expert, concatenated by expert.
    pub fn rows(&self) -> &[usize] {
        &self.rows
    }

    /// Returns the range of each expert in [`Routes::rows`].
    pub fn ranges(&self) -> &[Range<usize>] {
        &self.ranges
    }

    /// Returns the index in [`Routes::rows`] of a row's choice.
    pub fn place(&self, row: usize, slot: usize) -> usize {
        self.places[row * self.taken + slot]
    }

    /// Computes the shares of every row's experts, f32 `[rows, taken]`, with the history of the logits.
    pub fn shares(&self, logits: &Tensor) -> Result<Tensor> {
        let rows = self.chosen.len() / self.taken;
        let values = self.values().into_iter().map(|share| share as f32).collect();
        let shares = logits.constant(&HostTensor::f32([rows, self.taken], values)?)?;
        if !logits.has_history() {
            return Ok(shares);
        }
        let (routes, like) = (self.clone(), logits.detach());
        shares.record(&[logits], move |gradient, _| {
            let slopes = routes.slopes(&gradient.read()?.into_f32());
            let slopes = slopes.into_iter().map(|slope| slope as f32).collect();
            Ok(vec![Some(like.constant(&HostTensor::f32(like.shape(), slopes)?)?)])
        })
    }

    /// Computes the routers' loss over several layers (Fedus et al., arXiv 2101.03961, equations 4–6, with
    /// layers combined as in `transformers`): experts · Σ_e f_e·p_e, where f is each expert's frequency per
    /// row and p its mean probability, over the rows of all layers. A scalar with the history of the logits,
    /// which come with their routes; `None` without any.
    ///
    /// # Errors
    /// Fails with the backend's error.
    pub fn balance(layers: &[(Tensor, Self)]) -> Result<Option<Tensor>> {
        let Some((like, first)) = layers.first() else { return Ok(None) };
        let experts = first.experts;
        let (mut taken, mut mass, mut rows) = (vec![0.0; experts], vec![0.0; experts], 0.0);
        for (_, routes) in layers {
            routes.chosen.iter().for_each(|expert| taken[*expert] += 1.0);
            for (row, _) in routes.each() {
                row.iter().zip(&mut mass).for_each(|(probability, mass)| *mass += probability);
                rows += 1.0;
            }
        }
        // The contribution of a row's probability of an expert to the loss.
        let slopes: Vec<f64> = taken.iter().map(|taken| experts as f64 * taken / (rows * rows)).collect();
        let loss: f64 = mass.iter().zip(&slopes).map(|(mass, slope)| mass * slope).sum();
        let loss = like.constant(&HostTensor::f32([1], vec![loss as f32])?)?;
        let routes: Vec<(Tensor, Self)> =
            layers.iter().map(|(logits, routes)| (logits.detach(), routes.clone())).collect();
        let operands: Vec<&Tensor> = layers.iter().map(|(logits, _)| logits).collect();
        let loss = loss.record(&operands, move |gradient, wanted| {
            let factor = f64::from(gradient.read_scalar()?);
            let of = |((logits, routes), wanted): (&(Tensor, Self), &bool)| {
                if !wanted {
                    return Ok(None);
                }
                let mut all = Vec::with_capacity(routes.probabilities.len());
                for (row, _) in routes.each() {
                    let mean: f64 = row.iter().zip(&slopes).map(|(p, slope)| p * slope).sum();
                    all.extend(
                        row.iter().zip(&slopes).map(|(p, slope)| (factor * p * (slope - mean)) as f32),
                    );
                }
                logits.constant(&HostTensor::f32(logits.shape(), all)?).map(Some)
            };
            routes.iter().zip(wanted).map(of).collect()
        })?;
        Ok(Some(loss))
    }

    /// Returns the shares, `[rows, taken]`: the probabilities p of the chosen experts, divided by their sum
    /// if normalised.
    fn values(&self) -> Vec<f64> {
        let mut values = Vec::with_capacity(self.chosen.len());
        for (row, chosen) in self.each() {
            let sum: f64 = if self.normalised { chosen.iter().map(|expert| row[*expert]).sum() } else { 1.0 };
            values.extend(chosen.iter().map(|expert| row[*expert] / sum));
        }
        values
    }

    /// Computes d / d logits from d / d shares g: p_i·(g_i − Σ p·g) over all experts, with g = 0 for those
    /// not chosen; or, if normalised, the same over the chosen experts alone, with their shares instead of p.
    fn slopes(&self, gradient: &[f32]) -> Vec<f64> {
        let shares = self.values();
        let mut slopes = Vec::with_capacity(self.probabilities.len());
        for (at, (row, chosen)) in self.each().enumerate() {
            let part = at * self.taken..(at + 1) * self.taken;
            let (shares, gradient) = (&shares[part.clone()], &gradient[part]);
            let mean: f64 = shares.iter().zip(gradient).map(|(share, g)| share * f64::from(*g)).sum();
            let of = |expert: usize| match chosen.iter().position(|chosen| *chosen == expert) {
                Some(slot) => shares[slot] * (f64::from(gradient[slot]) - mean),
                None if self.normalised => 0.0,
                None => -row[expert] * mean,
            };
            slopes.extend((0..self.experts).map(of));
        }
        slopes
    }

    /// Iterates over the probabilities and the choices of every row.
    fn each(&self) -> impl Iterator<Item = (&[f64], &[usize])> {
        self.probabilities.chunks_exact(self.experts).zip(self.chosen.chunks_exact(self.taken))
    }
}

fn softmax(logits: &[f32]) -> Vec<f64> {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> = logits.iter().map(|logit| f64::from(logit - top).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 12] = [0.3, -0.7, 1.1, 0.2, 2.0, 0.1, -0.4, 0.5, -1.0, 0.9, 0.8, 0.0];

    /// Protects: every row is assigned once to each of its experts, ties go to the first, and indices map
    /// back.
    #[test]
    fn rows_meet_their_experts() {
        let routes = Routes::new(&[1.0, 1.0, 1.0, 0.0, 5.0, 1.0], 3, 2, false);
        assert_eq!(*routes.chosen, [0, 1, 1, 2]);
        assert_eq!((routes.rows(), routes.ranges()), (&[0, 0, 1, 1][..], &[0..1, 1..3, 3..4][..]));
        assert_eq!([[0, 0], [0, 1], [1, 0], [1, 1]].map(|[row, slot]| routes.place(row, slot)), [0, 1, 2, 3]);
    }

    /// Protects: the gradient of the shares is their derivative, normalised or not.
    #[test]
    fn shares_have_the_slopes_of_their_values() {
        let gradient = [0.4f32, -1.2, 0.7, 0.3, -0.5, 1.5];
        for normalised in [false, true] {
            let total = |logits: &[f32]| -> f64 {
                let values = Routes::new(logits, 4, 2, normalised).values();
                values.iter().zip(gradient).map(|(value, g)| value * f64::from(g)).sum()
            };
            let slopes = Routes::new(&LOGITS, 4, 2, normalised).slopes(&gradient);
            for (at, slope) in slopes.iter().enumerate() {
                let moved = |by: f32| {
                    let mut logits = LOGITS;
                    logits[at] += by;
                    (total(&logits), f64::from(logits[at]))
                };
                let ((up, above), (down, below)) = (moved(1e-2), moved(-1e-2));
                let want = (up - down) / (above - below);
                assert!((slope - want).abs() < 1e-5, "{normalised} at {at}: {slope}, not {want}");
            }
        }
    }
}
