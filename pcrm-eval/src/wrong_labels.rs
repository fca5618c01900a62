//! Estimates the share of wrong labels from the margins of models that were not trained on them.
//!
//! A label that is drawn from σ(Δ/T) and flipped with probability ε agrees with the margin Δ with probability
//! ε + (1 − 2ε)·σ(Δ/T). However large the margin, agreement does not exceed 1 − ε. This ceiling separates
//! flipped labels from a scale that is too large, which T absorbs. Psychometrics calls ε the lapse rate
//! (Wichmann and Hill, *The psychometric function I*, 2001).

use serde::{Deserialize, Serialize};

use crate::error::{Result, check_finite};

/// The largest ε of the search; at ½ labels carry no information.
const MOST: f64 = 0.49;

/// The share of wrong labels that best explains margins, with its temperature.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct WrongLabels {
    /// ε, the share of wrong labels, from 0 to below ½.
    pub share: f64,
    /// T, the temperature fitted together with ε.
    pub temperature: f64,
    /// Mean −ln p of the labels at ε and T, in nats.
    pub log_loss: f64,
    /// Twice the gain in log-likelihood over ε = 0 at its own best T. A value above 2.71 rejects a share of 0
    /// at the 5 % level (half a χ² of one degree of freedom, since ε = 0 is the end of its range).
    pub likelihood_ratio: f64,
    /// Number of pairs.
    pub pairs: usize,
}

impl WrongLabels {
    /// Returns the maximum-likelihood ε and T; `None` if margins do not favour the chosen answers, because no
    /// temperature makes sense then.
    ///
    /// # Errors
    /// Fails if there are no margins or a margin is not finite.
    pub fn of(margins: &[f64]) -> Result<Option<Self>> {
        check_finite("margin of pair", margins)?;
        let mean_size = margins.iter().map(|margin| margin.abs()).sum::<f64>() / margins.len() as f64;
        if margins.iter().sum::<f64>() <= 0.0 || mean_size == 0.0 {
            return Ok(None);
        }
        let loss = |share: f64, log_temperature: f64| log_loss(margins, share, log_temperature.exp());
        let around = mean_size.ln();
        // The loss has several valleys if few labels disagree, so a grid finds the deepest one first.
        let temperatures: Vec<f64> = (-12..=12).map(|at| around + 0.5 * f64::from(at)).collect();
        let shares: Vec<f64> = (0..10).map(|at| 0.05 * f64::from(at)).collect();
        let best = |shares: &[f64]| {
            let points =
                shares.iter().flat_map(|share| temperatures.iter().map(|temperature| (*share, *temperature)));
            let start = points.min_by(|a, b| loss(a.0, a.1).total_cmp(&loss(b.0, b.1)));
            descended(start.unwrap_or((0.0, around)), shares.len() > 1, &loss)
        };
        let ((_, _, without), (share, log_temperature, with)) = (best(&[0.0]), best(&shares));
        Ok(Some(Self {
            share,
            temperature: log_temperature.exp(),
            log_loss: with,
            likelihood_ratio: (2.0 * margins.len() as f64 * (without - with)).max(0.0),
            pairs: margins.len(),
        }))
    }
}

/// Returns the mean −ln(ε + (1 − 2ε)·σ(Δ/T)).
fn log_loss(margins: &[f64], share: f64, temperature: f64) -> f64 {
    let sum: f64 = margins
        .iter()
        .map(|margin| {
            let scaled = margin / temperature;
            match share {
                // −ln σ without the rounding of σ at 0.
                0.0 => (-scaled).max(0.0) + (-scaled.abs()).exp().ln_1p(),
                share => -(share + (1.0 - 2.0 * share) / (1.0 + (-scaled).exp())).ln(),
            }
        })
        .sum();
    sum / margins.len() as f64
}

/// Descends in steps of ε and ln T that are halved if none improves; returns ε, ln T and the loss.
fn descended(
    (mut share, mut log_temperature): (f64, f64),
    moves_share: bool,
    loss: &dyn Fn(f64, f64) -> f64,
) -> (f64, f64, f64) {
    let mut lowest = loss(share, log_temperature);
    let (mut by_share, mut by_temperature) = (if moves_share { 0.025 } else { 0.0 }, 0.25);
    while by_temperature > 1e-8 {
        let moves = [
            (by_share, 0.0),
            (-by_share, 0.0),
            (0.0, by_temperature),
            (0.0, -by_temperature),
            (by_share, by_temperature),
            (-by_share, -by_temperature),
            (by_share, -by_temperature),
            (-by_share, by_temperature),
        ];
        let tried = moves.map(|(share_step, temperature_step)| {
            let (share, log_temperature) =
                ((share + share_step).clamp(0.0, MOST), log_temperature + temperature_step);
            (share, log_temperature, loss(share, log_temperature))
        });
        match tried.into_iter().min_by(|a, b| a.2.total_cmp(&b.2)).filter(|best| best.2 < lowest) {
            Some(best) => (share, log_temperature, lowest) = best,
            None => (by_share, by_temperature) = (by_share / 2.0, by_temperature / 2.0),
        }
    }
    (share, log_temperature, lowest)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::golden::numbers;

    /// Protects: ε, T and the likelihood ratio equal those of scipy's bounded minimiser
    /// (golden/wrong_labels.py), with and without flipped labels.
    #[test]
    fn shares_are_those_of_scipy() {
        let golden: Value = serde_json::from_str(include_str!("../golden/wrong_labels.json")).expect("JSON");
        let cases = golden.as_array().expect("cases");
        assert_eq!(cases.len(), 4);
        for case in cases {
            let found = WrongLabels::of(&numbers(&case["margins"])).expect("finite").expect("a share");
            for (name, value, within) in [
                ("share", found.share, 1e-4),
                ("temperature", found.temperature, 1e-3 * found.temperature),
                ("log_loss", found.log_loss, 1e-8),
                ("likelihood_ratio", found.likelihood_ratio, 1e-4),
            ] {
                let expected = case[name].as_f64().expect("a number");
                assert!(
                    (value - expected).abs() < within,
                    "{}: {name} {value}, not {expected}",
                    case["name"]
                );
            }
        }
    }

    /// Protects: margins that favour the wrong answers have no share, and margins without a wrong sign have a
    /// share of 0.
    #[test]
    fn margins_without_an_answer() {
        assert_eq!(WrongLabels::of(&[-1.0, 0.5]).expect("finite"), None);
        assert!(WrongLabels::of(&[f64::NAN]).is_err());
        assert!(WrongLabels::of(&[]).is_err());
        assert_eq!(WrongLabels::of(&[1.0, 2.0, 3.0]).expect("finite").expect("a share").share, 0.0);
    }
}
