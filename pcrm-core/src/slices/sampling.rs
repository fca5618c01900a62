//! Sampling of a token from a row of logits.

use multiversion::multiversion;

use super::lanes::{exp, fold};
use crate::kernels::{Drawn, Filters};

/// The number of tokens whose probabilities are summed together.
const SPAN: usize = 256;

/// A row of logits, capped and divided by the temperature.
#[derive(Debug, Clone, Copy)]
pub struct LogitRow<'a> {
    /// The logits z.
    pub logits: &'a [f32],
    /// ln Σ eᶻ
    pub total: f32,
    /// The largest logit.
    pub top: f32,
    /// The tokens to which the repetition penalty applies.
    pub penalised: &'a [u32],
}

/// Samples a token by inverting the cumulative distribution, in the order of token ids; `uniform` is in [0,
/// 1). Greedy sampling takes the first of equally likely tokens.
pub fn draw(row: &LogitRow<'_>, filters: &Filters, uniform: f64) -> Drawn {
    if !filters.is_filtered() {
        let id = match filters.is_greedy() {
            true => first_of(row.logits, row.top),
            false => drawn(row.logits, row.top, uniform),
        };
        let log_prob = row.logits[id] - row.total;
        return Drawn { id: id as u32, log_prob, filtered: log_prob };
    }
    let mut logits = row.logits.to_vec();
    penalise(&mut logits, row.penalised, filters.repetition_penalty as f32);
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if filters.is_greedy() {
        let id = first_of(&logits, top);
        return Drawn { id: id as u32, log_prob: row.logits[id] - row.total, filtered: 0.0 };
    }
    keep_most_likely(&mut logits, filters.top_k);
    keep_until(&mut logits, top, filters.top_p);
    keep_at_least(&mut logits, top, filters.min_p);
    let id = drawn(&logits, top, uniform);
    let sum: f64 = logits.chunks(SPAN).map(|part| f64::from(exponentials(part, top))).sum();
    let filtered = f64::from(logits[id] - top) - sum.ln();
    Drawn { id: id as u32, log_prob: row.logits[id] - row.total, filtered: filtered as f32 }
}

/// Divides the logits of tokens that are already in the sequence, or multiplies negative ones.
fn penalise(logits: &mut [f32], tokens: &[u32], penalty: f32) {
    if penalty == 1.0 {
        return;
    }
    let mut tokens = tokens.to_vec();
    tokens.sort_unstable();
    tokens.dedup();
    for token in tokens {
        if let Some(logit) = logits.get_mut(token as usize) {
            *logit = if *logit < 0.0 { *logit * penalty } else { *logit / penalty };
        }
    }
}

/// Drops tokens less likely than the `count` most likely ones; ties are kept.
fn keep_most_likely(logits: &mut [f32], count: usize) {
    if count == 0 || count >= logits.len() {
        return;
    }
    let mut order = logits.to_vec();
    let (_, least, _) = order.select_nth_unstable_by(count - 1, |a, b| b.total_cmp(a));
    let least = *least;
    drop_where(logits, |logit| logit < least);
}

/// Drops the least likely tokens while their probabilities sum to at most 1 − `share`.
fn keep_until(logits: &mut [f32], top: f32, share: f64) {
    if share >= 1.0 {
        return;
    }
    let mut order: Vec<usize> = (0..logits.len()).filter(|id| logits[*id] > f32::NEG_INFINITY).collect();
    order.sort_by(|a, b| logits[*a].total_cmp(&logits[*b]));
    let weight = |logit: f32| f64::from(logit - top).exp();
    let total: f64 = order.iter().map(|id| weight(logits[*id])).sum();
    let mut sum = 0.0;
    // The most likely token is always kept.
    for id in order.iter().take(order.len().saturating_sub(1)) {
        sum += weight(logits[*id]);
        if sum > (1.0 - share) * total {
            break;
        }
        logits[*id] = f32::NEG_INFINITY;
    }
}

/// Drops tokens less likely than `share` of the most likely one.
fn keep_at_least(logits: &mut [f32], top: f32, share: f64) {
    if share > 0.0 {
        let least = f64::from(top) + share.ln();
        drop_where(logits, |logit| f64::from(logit) < least);
    }
}

fn drop_where(logits: &mut [f32], dropped: impl Fn(f32) -> bool) {
    logits.iter_mut().filter(|logit| dropped(**logit)).for_each(|logit| *logit = f32::NEG_INFINITY);
}

fn first_of(logits: &[f32], top: f32) -> usize {
    logits.iter().position(|logit| *logit == top).unwrap_or(0)
}

/// Returns the token at which the cumulative probability exceeds `uniform`.
fn drawn(logits: &[f32], top: f32, uniform: f64) -> usize {
    let sums: Vec<f64> = logits.chunks(SPAN).map(|part| f64::from(exponentials(part, top))).collect();
    let mut left = uniform * sums.iter().sum::<f64>();
    let mut last = None;
    for (at, (part, sum)) in logits.chunks(SPAN).zip(&sums).enumerate() {
        if *sum == 0.0 {
            continue;
        }
        let passed = left < *sum;
        if passed || at + 1 == sums.len() || sums[at + 1..].iter().all(|sum| *sum == 0.0) {
            for (id, logit) in part.iter().enumerate() {
                let weight = f64::from(exp(*logit - top));
                if weight > 0.0 {
                    last = Some(at * SPAN + id);
                    left -= weight;
                    if left < 0.0 {
                        break;
                    }
                }
            }
            break;
        }
        left -= sum;
    }
    last.unwrap_or_else(|| first_of(logits, top))
}

#[multiversion(targets = "simd")]
fn exponentials(logits: &[f32], top: f32) -> f32 {
    fold(logits, |logit| exp(logit - top))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(logits: &[f32]) -> LogitRow<'_> {
        let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = logits.iter().map(|logit| f64::from(*logit - top).exp()).sum();
        LogitRow { logits, total: top + sum.ln() as f32, top, penalised: &[] }
    }

    /// Returns the share of uniforms that give each token.
    fn shares(row: &LogitRow<'_>, filters: &Filters) -> Vec<f64> {
        let (count, mut shares) = (20_000, vec![0.0; row.logits.len()]);
        for at in 0..count {
            let drawn = draw(row, filters, (f64::from(at) + 0.5) / f64::from(count));
            shares[drawn.id as usize] += 1.0 / f64::from(count);
        }
        shares
    }

    /// Protects: sampling frequencies equal probabilities, after each filter as computed by hand, and
    /// log-probabilities are those of both distributions.
    #[test]
    fn tokens_are_drawn_as_often_as_they_are_likely() {
        let logits: Vec<f32> = [0.1f32, 0.4, 0.2, 0.25, 0.05].iter().map(|p| p.ln()).collect();
        let of = |filters: Filters, want: &[f64]| {
            let row = LogitRow { penalised: &[1, 1, 4], ..row(&logits) };
            let found = shares(&row, &filters);
            for (found, want) in found.iter().zip(want) {
                assert!((found - want).abs() < 2e-4, "{filters:?}: {found} for {want}");
            }
            let drawn = draw(&row, &filters, 0.3);
            assert!((f64::from(drawn.filtered).exp() - want[drawn.id as usize]).abs() < 1e-5, "{filters:?}");
            assert!((drawn.log_prob - logits[drawn.id as usize]).abs() < 1e-6);
        };
        let all = Filters::default();
        of(all, &[0.1, 0.4, 0.2, 0.25, 0.05]);
        of(Filters { top_k: 2, ..all }, &[0.0, 0.4 / 0.65, 0.0, 0.25 / 0.65, 0.0]);
        of(Filters { top_p: 0.7, ..all }, &[0.0, 0.4 / 0.85, 0.2 / 0.85, 0.25 / 0.85, 0.0]);
        of(Filters { top_p: 0.01, ..all }, &[0.0, 1.0, 0.0, 0.0, 0.0]);
        of(Filters { min_p: 0.6, ..all }, &[0.0, 0.4 / 0.65, 0.0, 0.25 / 0.65, 0.0]);
        // Negative logits are multiplied: p² for the tokens in the sequence.
        let sum = 0.1 + 0.16 + 0.2 + 0.25 + 0.0025;
        of(
            Filters { repetition_penalty: 2.0, ..all },
            &[0.1 / sum, 0.16 / sum, 0.2 / sum, 0.25 / sum, 0.0025 / sum],
        );
        let greedy = draw(&row(&logits), &Filters::GREEDY, 0.99);
        assert_eq!(greedy.id, 1);
        let penalised = LogitRow { penalised: &[1], ..row(&logits) };
        assert_eq!(draw(&penalised, &Filters { repetition_penalty: 2.0, ..Filters::GREEDY }, 0.0).id, 3);
    }

    /// Protects: no random number gives a token of probability 0, at either end and over many spans; greedy
    /// sampling takes the first of equally likely tokens.
    #[test]
    fn impossible_tokens_are_never_drawn() {
        for possible in [vec![700], vec![0, 1023], vec![255, 256, 511], vec![3, 4, 900]] {
            let mut logits = vec![f32::NEG_INFINITY; 1024];
            possible.iter().for_each(|id| logits[*id] = 0.5);
            for uniform in [0.0, 1e-300, 0.25, 0.5, 0.999_999, 1.0 - f64::EPSILON / 2.0] {
                let id = draw(&row(&logits), &Filters::default(), uniform).id as usize;
                assert!(possible.contains(&id), "{id} at {uniform}");
            }
            assert_eq!(draw(&row(&logits), &Filters::GREEDY, 0.5).id as usize, possible[0]);
        }
        // Logits too small for f32's exponential.
        let mut logits = vec![-200.0f32; 600];
        logits[599] = 0.0;
        assert_eq!(draw(&row(&logits), &Filters::default(), 0.0).id, 599);
    }
}
