//! Correlations of two lists of numbers: Pearson's r, Spearman's ρ and Kendall's τ-b.
//!
//! All return `None` if they are undefined: a single value, or a list whose values are all equal.

use std::cmp::Ordering;

use crate::error::{Result, check_finite, check_lengths};
use crate::quantiles::mean;

/// Returns Pearson's r: the covariance divided by the product of the standard deviations.
///
/// # Errors
/// Fails if there are no values, if the lists differ in length, or if a value is not finite (the error has
/// its position).
pub fn pearson(x: &[f64], y: &[f64]) -> Result<Option<f64>> {
    check(x, y)?;
    let (Some(x), Some(y)) = (direction(x), direction(y)) else { return Ok(None) };
    let r: f64 = x.iter().zip(&y).map(|(x, y)| x * y).sum();
    Ok(Some(r.clamp(-1.0, 1.0)))
}

/// Returns Spearman's ρ: Pearson's r of the [`ranks`]; ties share their mean rank.
///
/// # Errors
/// Same as [`pearson`].
pub fn spearman(x: &[f64], y: &[f64]) -> Result<Option<f64>> {
    check(x, y)?;
    pearson(&ranks(x), &ranks(y))
}

/// Returns Kendall's τ-b: (concordant − discordant) / √((pairs − ties in x)(pairs − ties in y)), in O(n log
/// n) by merge sort (W. R. Knight, JASA 1966).
///
/// # Errors
/// Same as [`pearson`].
pub fn kendall(x: &[f64], y: &[f64]) -> Result<Option<f64>> {
    check(x, y)?;
    let mut points: Vec<(f64, f64)> = x.iter().copied().zip(y.iter().copied()).collect();
    points.sort_unstable_by(|a, b| compare(a.0, b.0).then(compare(a.1, b.1)));
    let tied_x = tied_pairs(&points, |a, b| a.0 == b.0);
    let tied_both = tied_pairs(&points, |a, b| a == b);
    let mut y: Vec<f64> = points.into_iter().map(|(_, y)| y).collect();
    // Points with equal x are sorted by y, so only pairs with different x count as inversions.
    let discordant = sort_counting_inversions(&mut y);
    let tied_y = tied_pairs(&y, |a, b| a == b);
    let pairs = pairs_of(x.len());
    let (untied_x, untied_y) = (pairs - tied_x, pairs - tied_y);
    if untied_x == 0 || untied_y == 0 {
        return Ok(None);
    }
    let concordant = pairs + tied_both - tied_x - tied_y - discordant;
    let difference = concordant as f64 - discordant as f64;
    Ok(Some((difference / (untied_x as f64).sqrt() / (untied_y as f64).sqrt()).clamp(-1.0, 1.0)))
}

/// Returns the rank of every value, from 1; equal values share the mean of their ranks. Values must not be
/// NaN.
pub fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_unstable_by(|&a, &b| compare(values[a], values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut before = 0;
    for ties in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let rank = before as f64 + (ties.len() + 1) as f64 / 2.0;
        for &at in ties {
            ranks[at] = rank;
        }
        before += ties.len();
    }
    ranks
}

fn check(x: &[f64], y: &[f64]) -> Result<()> {
    check_lengths("sides of a correlation", x.len(), y.len())?;
    check_finite("left value of the correlation at", x)?;
    check_finite("right value of the correlation at", y)
}

/// Returns the unit vector of deviations from the mean; `None` if all values are equal.
fn direction(values: &[f64]) -> Option<Vec<f64>> {
    // Exact comparison: the mean of equal values can be off by a rounding error, which would look like a
    // deviation.
    if values.iter().all(|value| *value == values[0]) {
        return None;
    }
    let mean = mean(values);
    let mut deviations: Vec<f64> = values.iter().map(|value| value - mean).collect();
    let largest = deviations.iter().fold(0.0_f64, |largest, deviation| largest.max(deviation.abs()));
    if largest == 0.0 || !largest.is_finite() {
        return None;
    }
    // Scale first, so that squares of very large and very small numbers stay in range.
    deviations.iter_mut().for_each(|deviation| *deviation /= largest);
    let norm = deviations.iter().map(|deviation| deviation * deviation).sum::<f64>().sqrt();
    deviations.iter_mut().for_each(|deviation| *deviation /= norm);
    Some(deviations)
}

/// Compares two numbers that are not NaN; 0 and −0 are equal (unlike `total_cmp`).
fn compare(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).unwrap_or(Ordering::Equal)
}

fn pairs_of(n: usize) -> u64 {
    let n = n as u64;
    n * n.saturating_sub(1) / 2
}

fn tied_pairs<T>(sorted: &[T], same: impl Fn(&T, &T) -> bool) -> u64 {
    sorted.chunk_by(same).map(|ties| pairs_of(ties.len())).sum()
}

/// Sorts and counts the inversions (bottom-up merge sort).
fn sort_counting_inversions(values: &mut Vec<f64>) -> u64 {
    let mut inversions = 0;
    let mut merged = Vec::with_capacity(values.len());
    let mut width = 1;
    while width < values.len() {
        merged.clear();
        for block in values.chunks(2 * width) {
            let (mut left, mut right) = block.split_at(width.min(block.len()));
            while let (Some(&a), Some(&b)) = (left.first(), right.first()) {
                if a <= b {
                    merged.push(a);
                    left = &left[1..];
                } else {
                    inversions += left.len() as u64;
                    merged.push(b);
                    right = &right[1..];
                }
            }
            merged.extend_from_slice(left);
            merged.extend_from_slice(right);
        }
        std::mem::swap(values, &mut merged);
        width *= 2;
    }
    inversions
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::{close, golden, numbers};

    /// Protects: all three equal scipy to 1e-12: ties, offsets, scales, two points, constant lists.
    #[test]
    fn correlations_equal_scipy() {
        let golden = golden();
        let cases = golden["correlations"].as_array().unwrap();
        assert!(cases.len() >= 10);
        for case in cases {
            let (x, y) = (numbers(&case["x"]), numbers(&case["y"]));
            for (name, ours) in [
                ("pearson", pearson(&x, &y).unwrap()),
                ("spearman", spearman(&x, &y).unwrap()),
                ("kendall", kendall(&x, &y).unwrap()),
            ] {
                let context = format!("{name} of {}", case["name"]);
                match (ours, case[name].as_f64()) {
                    (Some(ours), Some(expected)) => close(ours, expected, &context),
                    (ours, expected) => assert_eq!(ours, expected, "{context}"),
                }
            }
        }
    }

    /// Protects: the merge sort agrees with counting every pair, at lengths around its block sizes.
    #[test]
    fn kendall_equals_counting_every_pair() {
        let mut state = 1_u64;
        let mut next = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 33) % below) as f64
        };
        for n in 2..40 {
            let x: Vec<f64> = (0..n).map(|_| next(7)).collect();
            let y: Vec<f64> = (0..n).map(|_| next(5)).collect();
            let sign = |a: f64, b: f64| if a == b { 0.0 } else { (a - b).signum() };
            let (mut product, mut untied_x, mut untied_y) = (0.0, 0.0, 0.0);
            for i in 0..n {
                for j in 0..i {
                    let (dx, dy) = (sign(x[i], x[j]), sign(y[i], y[j]));
                    product += dx * dy;
                    untied_x += dx * dx;
                    untied_y += dy * dy;
                }
            }
            let expected =
                (untied_x * untied_y > 0.0).then(|| product / f64::sqrt(untied_x) / f64::sqrt(untied_y));
            assert_eq!(kendall(&x, &y).unwrap(), expected, "n = {n}");
        }
    }

    /// Protects: 0 and -0 are ties, and ties share the mean rank.
    #[test]
    fn ties_share_the_mean_rank() {
        assert_eq!(ranks(&[10.0, 20.0, 10.0, 5.0]), [2.5, 4.0, 2.5, 1.0]);
        assert_eq!(ranks(&[0.0, -0.0]), [1.5, 1.5]);
        assert_eq!(kendall(&[0.0, -0.0], &[1.0, 2.0]).unwrap(), None);
        assert!(ranks(&[]).is_empty());
    }

    /// Protects: invalid inputs are refused with their position.
    #[test]
    fn impossible_inputs_are_refused() {
        assert!(pearson(&[], &[]).is_err());
        assert!(spearman(&[1.0], &[1.0, 2.0]).unwrap_err().to_string().contains("1 values against 2"));
        let error = kendall(&[1.0, 2.0], &[1.0, f64::NAN]).unwrap_err().to_string();
        assert_eq!(error, "right value of the correlation at 1: found NaN, expected a finite number");
    }
}
