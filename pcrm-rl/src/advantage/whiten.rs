//! Whitening: scaling of a batch's numbers to variance 1.

/// The constant added to a variance before dividing by its square root.
const EPSILON: f64 = 1e-8;

/// Scales the numbers of all rows to variance 1: (x − μ) / √(var + 1e-8), where var is unbiased; μ is added
/// again unless `shift_mean`. A single number has a variance of 0.
pub fn whiten(rows: &mut [Vec<f64>], shift_mean: bool) {
    let all = || rows.iter().flatten().copied();
    let count = all().count() as f64;
    let mean = all().sum::<f64>() / count.max(1.0);
    let squares: f64 = all().map(|value| (value - mean) * (value - mean)).sum();
    let scale = (squares / (count - 1.0).max(1.0) + EPSILON).sqrt();
    let back = if shift_mean { 0.0 } else { mean };
    rows.iter_mut().flatten().for_each(|value| *value = (*value - mean) / scale + back);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: the mean and unbiased variance of the result, and finite results for one number and for
    /// equal ones.
    #[test]
    fn whitened_numbers_have_variance_one() {
        let rows = || vec![vec![1.0, 4.0], vec![], vec![-3.0, 0.5, 2.5]];
        let moments = |rows: &[Vec<f64>]| {
            let all = rows.concat();
            let mean = all.iter().sum::<f64>() / 5.0;
            (mean, all.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / 4.0)
        };
        let (mut shifted, mut kept) = (rows(), rows());
        whiten(&mut shifted, true);
        whiten(&mut kept, false);
        let ((mean, variance), (kept_mean, kept_variance)) = (moments(&shifted), moments(&kept));
        assert!(mean.abs() < 1e-12 && (variance - 1.0).abs() < 1e-7);
        assert!((kept_mean - 1.0).abs() < 1e-12 && (kept_variance - 1.0).abs() < 1e-7);
        for same in [vec![vec![3.0]], vec![vec![3.0, 3.0]]] {
            let mut rows = same.clone();
            whiten(&mut rows, false);
            assert_eq!(rows, same);
            whiten(&mut rows, true);
            assert!(rows.iter().flatten().all(|value| *value == 0.0));
        }
        whiten(&mut [], true);
    }
}
