//! The critic's loss: the squared error of values, clipped around those of the rollout.

use crate::error::Result;
use crate::metrics::Metrics;
use crate::options::refuse;

/// The values of an answer's tokens.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ValueRow<'a> {
    /// V of every token; the gradient is with respect to it.
    pub values: &'a [f64],
    /// V at the time of sampling.
    pub old_values: &'a [f64],
    /// Returns, the targets of V.
    pub returns: &'a [f64],
}

/// ½·mean of max((V − R)², (clip(V, V_old ± range) − R)²) over the tokens of a step, times the coefficient.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ValueLoss {
    /// Values are clipped to the rollout's value ± `cliprange_value`; `None` for no clip.
    pub cliprange_value: Option<f64>,
    /// The weight of the loss.
    pub vf_coef: f64,
}

/// The critic's loss of a part of a step, with its gradient. Parts sum to the step.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ValueEvaluation {
    /// Loss, multiplied by its weight.
    pub total: f64,
    /// d total / d V of every answer's tokens.
    pub d_values: Vec<Vec<f64>>,
}

impl ValueLoss {
    /// Computes the loss of some answers of a step of `tokens` tokens, with its gradient. Records
    /// `loss/value_avg` (without its weight) and `val/clipfrac_avg`.
    ///
    /// # Errors
    /// Fails if columns differ in length or a number is not finite; the error names answer and token.
    pub fn evaluate(
        &self,
        rows: &[ValueRow<'_>],
        tokens: f64,
        metrics: &mut Metrics,
    ) -> Result<ValueEvaluation> {
        let mut sum = ValueEvaluation::default();
        let share = self.vf_coef / tokens.max(1.0);
        let (mut error, mut clipped, mut count) = (0.0, 0.0, 0.0);
        for (at, row) in rows.iter().enumerate() {
            check(at, row)?;
            let mut slopes = Vec::with_capacity(row.values.len());
            for ((value, old), target) in row.values.iter().zip(row.old_values).zip(row.returns) {
                let held = match self.cliprange_value {
                    Some(range) => value.clamp(old - range, old + range),
                    None => *value,
                };
                let (free, bound) = (value - target, held - target);
                let beyond = bound * bound > free * free;
                let off = if beyond { bound } else { free };
                // A value held by the clip has no slope.
                let moves = !beyond || held == *value;
                slopes.push(if moves { share * off } else { 0.0 });
                error += 0.5 * off * off;
                clipped += f64::from(u8::from(beyond));
                count += 1.0;
            }
            sum.d_values.push(slopes);
        }
        sum.total = share * error;
        if count > 0.0 {
            metrics.mean("loss/value_avg", error / count, count);
            metrics.mean("val/clipfrac_avg", clipped / count, count);
        }
        Ok(sum)
    }
}

fn check(at: usize, row: &ValueRow<'_>) -> Result<()> {
    let expected = row.values.len();
    for (name, numbers) in [("values", row.values), ("old_values", row.old_values), ("returns", row.returns)]
    {
        if numbers.len() != expected {
            return refuse(name, format!("answer {at} has {}; expected {expected}", numbers.len()));
        }
        if let Some(token) = numbers.iter().position(|number| !number.is_finite()) {
            let message = format!("answer {at}, token {token}: {}; expected a finite number", numbers[token]);
            return refuse(name, message);
        }
    }
    Ok(())
}

/// Returns the share of the returns' variance that values explain: 1 − var(R − V) / var(R); `None` if all
/// returns are equal.
pub fn explained_variance<'a>(rows: impl Iterator<Item = (&'a [f64], &'a [f64])> + Clone) -> Option<f64> {
    let variance = |of: fn(f64, f64) -> f64| {
        let numbers =
            || rows.clone().flat_map(|(values, returns)| values.iter().zip(returns)).map(|(v, r)| of(*v, *r));
        let count = numbers().count() as f64;
        let mean = numbers().sum::<f64>() / count;
        numbers().map(|number| (number - mean) * (number - mean)).sum::<f64>() / count
    };
    let whole = variance(|_, target| target);
    (whole > 0.0).then(|| 1.0 - variance(|value, target| target - value) / whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::Slope;
    use crate::loss::testing::check_slope;

    /// Protects: the derivative by a value on both sides of the clip, and that parts of a step sum to it.
    #[test]
    fn slopes_are_differences() -> Result<()> {
        let loss = |cliprange_value| ValueLoss { cliprange_value, vf_coef: 0.3 };
        for range in [None, Some(0.2)] {
            check_slope("value", &[-3.0, -0.3, 0.1, 0.15, 0.25, 0.9, 4.0], |value| {
                let row = ValueRow { values: &[value], old_values: &[0.0], returns: &[0.6] };
                let found = loss(range).evaluate(&[row], 2.0, &mut Metrics::default()).unwrap();
                Slope { value: found.total, slope: found.d_values[0][0] }
            });
        }
        let rows = [
            ValueRow { values: &[1.0, -2.0], old_values: &[0.5, -2.1], returns: &[0.0, 1.0] },
            ValueRow { values: &[], old_values: &[], returns: &[] },
            ValueRow { values: &[1e4], old_values: &[-1e4], returns: &[0.5] },
        ];
        let (mut whole, mut parts) = (Metrics::default(), Metrics::default());
        let all = loss(Some(0.2)).evaluate(&rows, 3.0, &mut whole)?;
        let sums: Result<Vec<_>> =
            rows.iter().map(|row| loss(Some(0.2)).evaluate(&[*row], 3.0, &mut parts)).collect();
        let sums = sums?;
        let total: f64 = sums.iter().map(|of| of.total).sum();
        assert!((total / all.total - 1.0).abs() < 1e-12 && all.total.is_finite());
        assert_eq!(sums.into_iter().flat_map(|of| of.d_values).collect::<Vec<_>>(), all.d_values);
        for ((name, part), (_, of_whole)) in parts.summary().iter().zip(whole.summary().iter()) {
            assert!((part - of_whole).abs() <= 1e-12 * (1.0 + of_whole.abs()), "{name}");
        }
        let short = ValueRow { values: &[1.0], old_values: &[], returns: &[1.0] };
        let message = loss(None).evaluate(&[short], 1.0, &mut parts).err().map(|error| error.to_string());
        assert_eq!(message.as_deref(), Some("old_values: answer 0 has 0; expected 1"));
        Ok(())
    }

    /// Protects: explained variance of perfect, constant and opposite values.
    #[test]
    fn explained_variance_is_a_share() {
        let returns = [1.0, 2.0, 6.0];
        let of = |values: &[f64; 3]| explained_variance([(&values[..], &returns[..])].into_iter());
        assert_eq!((of(&returns), of(&[2.0; 3])), (Some(1.0), Some(0.0)));
        assert!(of(&[-1.0, -2.0, -6.0]).is_some_and(|share| (share + 3.0).abs() < 1e-12));
        assert_eq!(explained_variance([(&[1.0][..], &[2.0][..])].into_iter()), None);
    }
}
