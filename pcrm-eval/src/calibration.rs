//! Calibration: agreement of P(chosen ≻ rejected) = σ(Δ) with the observed accuracy.
//!
//! The answer called "chosen" is the label itself, so every pair has the outcome 1, and a model with σ(Δ) = 1
//! everywhere would seem calibrated against a base rate of 1. The measures are therefore those of the
//! symmetrised pairs: each counts as (p, 1) and as its mirror image (1 − p, 0), p = σ(Δ). Both images have
//! the same squared error, log loss, confidence max(p, 1 − p) and correctness, so one pass over the pairs
//! suffices.

use serde::{Deserialize, Serialize};

use crate::accuracy::correctness;
use crate::error::{Error, Result, check_finite, check_lengths};
use crate::quantiles::mean;

/// The number of bins that Guo et al. use for the expected calibration error.
pub const BINS: usize = 15;

/// One bin of a reliability table: pairs whose confidence is in (low, high\].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    /// Lower end of the confidences, excluded.
    pub low: f64,
    /// Upper end of the confidences, included.
    pub high: f64,
    /// Number of pairs in the bin; at least one.
    pub count: usize,
    /// Mean confidence max(p, 1 − p) of these pairs.
    pub confidence: f64,
    /// Share of these pairs that the model orders as the labels do; ties count one half.
    pub accuracy: f64,
}

/// Returns the Brier score, mean (1 − σ(Δ))² (G. W. Brier, 1950): 0 is perfect, a constant σ(Δ) = ½ gives
/// 0.25.
///
/// # Errors
/// Fails if there are no margins or a margin is not finite (the error has the pair's position).
pub fn brier(margins: &[f64]) -> Result<f64> {
    check_finite("margin of pair", margins)?;
    Ok(mean(&margins.iter().map(|&margin| sigmoid(-margin).powi(2)).collect::<Vec<_>>()))
}

/// Returns the log loss, mean −ln σ(Δ), in nats. This is the Bradley–Terry loss; a constant σ(Δ) = ½ gives ln
/// 2.
///
/// # Errors
/// Same as [`brier`].
pub fn log_loss(margins: &[f64]) -> Result<f64> {
    check_finite("margin of pair", margins)?;
    Ok(mean(&margins.iter().map(|&margin| softplus(-margin)).collect::<Vec<_>>()))
}

/// Returns the log loss against known probabilities p that the preferred answer is preferred, mean −(p ln
/// σ(Δ) + (1 − p) ln σ(−Δ)), in nats. Its minimum is the entropy of p, reached at σ(Δ) = p.
///
/// # Errors
/// Same as [`brier`]; also fails if the numbers of probabilities and margins differ or a probability is not
/// finite.
pub fn cross_entropy(margins: &[f64], probabilities: &[f64]) -> Result<f64> {
    check_finite("margin of pair", margins)?;
    check_finite("probability of pair", probabilities)?;
    check_lengths("margins and probabilities", margins.len(), probabilities.len())?;
    let nats = |(margin, p): (&f64, &f64)| p * softplus(-margin) + (1.0 - p) * softplus(*margin);
    Ok(mean(&margins.iter().zip(probabilities).map(nats).collect::<Vec<_>>()))
}

/// Returns ln(1 + eˣ) = −ln σ(−x) without overflow.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// Returns the non-empty bins of the reliability table with `bins` equal bins of the confidences in \[0, 1\]
/// (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, §2). Confidences are at least ½, so
/// the lower half is empty.
///
/// # Errors
/// Same as [`brier`]; also fails if `bins` is 0.
pub fn reliability(margins: &[f64], bins: usize) -> Result<Vec<Bin>> {
    check_finite("margin of pair", margins)?;
    if bins == 0 {
        return Err(Error::Range {
            what: "bins of the reliability table".to_owned(),
            value: 0.0,
            expected: "at least 1",
        });
    }
    let mut sums = vec![(0_usize, 0.0, 0.0); bins];
    for &margin in margins {
        let confidence = sigmoid(margin.abs());
        let at = ((confidence * bins as f64).ceil() as usize).clamp(1, bins) - 1;
        let (count, confidences, correct) = &mut sums[at];
        *count += 1;
        *confidences += confidence;
        *correct += correctness(margin);
    }
    let bin = |(at, (count, confidences, correct)): (usize, (usize, f64, f64))| Bin {
        low: at as f64 / bins as f64,
        high: (at + 1) as f64 / bins as f64,
        count,
        confidence: confidences / count as f64,
        accuracy: correct / count as f64,
    };
    Ok(sums.into_iter().enumerate().filter(|(_, (count, ..))| *count > 0).map(bin).collect())
}

/// Returns the expected calibration error Σ_b (n_b / n) |accuracy_b − confidence_b| of a reliability table
/// (Guo et al. 2017, eq. 3); 0 is perfectly calibrated. It depends on the number of bins; the paper uses 15.
///
/// # Errors
/// Fails if the table has no bins.
pub fn expected_calibration_error(table: &[Bin]) -> Result<f64> {
    let pairs: usize = table.iter().map(|bin| bin.count).sum();
    if pairs == 0 {
        return Err(Error::Empty { what: "reliability table" });
    }
    let gaps: f64 = table.iter().map(|bin| bin.count as f64 * (bin.accuracy - bin.confidence).abs()).sum();
    Ok(gaps / pairs as f64)
}

fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 {
        1.0 / (1.0 + (-x).exp())
    } else {
        let e = x.exp();
        e / (1.0 + e)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::{close, golden, numbers};

    /// Protects: the log loss is symmetric against p = ½ and equals the plain one against p = 1; by hand at a
    /// margin of ln 3.
    #[test]
    fn known_probabilities_weigh_both_outcomes() {
        let margin = [3f64.ln()];
        let loss = |p: f64| cross_entropy(&margin, &[p]).unwrap();
        assert!((loss(1.0) - log_loss(&margin).unwrap()).abs() < 1e-12);
        assert!((loss(0.75) - (-0.75 * 0.75f64.ln() - 0.25 * 0.25f64.ln())).abs() < 1e-12);
        assert!(loss(0.75) < loss(0.7) + 3f64.ln() * 0.05 && cross_entropy(&margin, &[]).is_err());
    }

    /// Protects: one pass over the pairs equals numpy on explicit symmetrised samples.
    #[test]
    fn measures_equal_numpy_on_symmetrised_samples() {
        for case in golden()["margins"].as_array().unwrap() {
            let margins = numbers(&case["margins"]);
            let expected = |name: &str| case[name].as_f64().unwrap();
            close(brier(&margins).unwrap(), expected("brier"), "brier");
            close(log_loss(&margins).unwrap(), expected("log_loss"), "log loss");
            for bins in [10, 15] {
                let table = reliability(&margins, bins).unwrap();
                let golden = case[format!("reliability_{bins}")].as_array().unwrap();
                assert_eq!(table.len(), golden.len());
                for (bin, row) in table.iter().zip(golden) {
                    // The samples are twice the pairs.
                    assert_eq!(2 * bin.count as u64, row["samples"].as_u64().unwrap());
                    close(bin.confidence, row["confidence"].as_f64().unwrap(), "confidence");
                    close(bin.accuracy, row["accuracy"].as_f64().unwrap(), "accuracy");
                }
                let ece = expected_calibration_error(&table).unwrap();
                close(ece, expected(&format!("ece_{bins}")), "ece");
            }
        }
    }

    /// Protects: margins far beyond the range of exp give the limits and not NaN.
    #[test]
    fn huge_margins_do_not_overflow() {
        assert_eq!(log_loss(&[-1000.0, 1000.0]).unwrap(), 500.0);
        assert_eq!(brier(&[-1000.0, 1000.0]).unwrap(), 0.5);
        let table = reliability(&[-1000.0, 1000.0], BINS).unwrap();
        assert_eq!((table.len(), table[0].count, table[0].high), (1, 2, 1.0));
        assert_eq!(expected_calibration_error(&table).unwrap(), 0.5);
    }

    /// Protects: a model with zero margins has the losses of a fair coin and is calibrated.
    #[test]
    fn zero_margins_are_a_fair_coin() {
        assert_eq!(brier(&[0.0; 4]).unwrap(), 0.25);
        assert!((log_loss(&[0.0; 4]).unwrap() - std::f64::consts::LN_2).abs() < 1e-15);
        assert_eq!(expected_calibration_error(&reliability(&[0.0; 4], 10).unwrap()).unwrap(), 0.0);
    }

    /// Protects: invalid inputs are refused.
    #[test]
    fn impossible_inputs_are_refused() {
        assert!(brier(&[]).is_err() && log_loss(&[f64::NAN]).is_err());
        let error = reliability(&[1.0], 0).unwrap_err().to_string();
        assert_eq!(error, "bins of the reliability table: found 0, expected at least 1");
        assert!(expected_calibration_error(&[]).is_err());
    }
}
