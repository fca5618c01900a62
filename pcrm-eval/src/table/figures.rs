//! Numbers as text, with as many digits as they need; a difference has as many as its interval needs.

use crate::bootstrap::Estimate;
use crate::interval::Interval;

/// A difference with its interval, with enough decimals for half the interval to show two digits; without an
/// interval, as many as the difference needs. It is never "+0.000 (+0.000 to +0.000)".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// Difference: `+0.012`, `−0.000031`, or `0`.
    pub value: String,
    /// Ends of the interval: `+0.002 to +0.055`; absent if there is none.
    pub interval: Option<String>,
}

impl Signed {
    /// The maximum number of decimals.
    const MOST: i32 = 9;

    /// Formats a difference in `unit`s: 1 for the measure's own unit, 0.01 for percentage points. It has at
    /// least `least` decimals.
    pub fn of(estimate: &Estimate, unit: f64, least: usize) -> Self {
        let interval = estimate.interval;
        let half = interval.map(|interval| (interval.high() - interval.low()) / 2.0);
        let size = half.unwrap_or(estimate.value.abs()) / unit;
        // A difference of 0 may come out as 1e-17.
        let places = match size > 1e-12 {
            true => (1 - size.log10().floor() as i32).clamp(least as i32, Self::MOST.max(least as i32)),
            false => least as i32,
        } as usize;
        let shown = |value: f64| signed(value / unit, places);
        let ends = |interval: Interval| format!("{} to {}", shown(interval.low()), shown(interval.high()));
        Self { value: shown(estimate.value), interval: interval.map(ends) }
    }
}

/// Formats a number with its sign and `places` decimals; 0 has no sign.
fn signed(value: f64, places: usize) -> String {
    let text = format!("{value:+.places$}");
    match text.bytes().any(|byte| (b'1'..=b'9').contains(&byte)) {
        true => text.replace('-', "−"),
        false => "0".to_owned(),
    }
}

/// Formats a share in per cent with one decimal.
pub fn percent(share: f64) -> String {
    unsigned_zero(format!("{:.1} %", 100.0 * share))
}

/// Formats the ends of an interval of shares.
pub fn percents(interval: &Interval) -> String {
    let ends = [interval.low(), interval.high()].map(|end| unsigned_zero(format!("{:.1}", 100.0 * end)));
    format!("{} to {} %", ends[0], ends[1])
}

/// Formats a p-value.
pub fn p_value(p: f64) -> String {
    if p < 0.001 { "< 0.001".to_owned() } else { format!("{p:.3}") }
}

/// Formats a number with about four significant digits, with an exponent only if it is very large or small.
pub fn number(value: f64) -> String {
    let text = match value.abs() {
        0.0 => "0".to_owned(),
        size if !(5e-4..1e5).contains(&size) => format!("{value:.2e}"),
        size if size < 1.0 => format!("{value:.4}"),
        size if size < 100.0 => format!("{value:.3}"),
        _ => format!("{value:.1}"),
    };
    text.replace('-', "−").replace("e−", "e-")
}

/// Removes the sign of a number that rounds to 0.
fn unsigned_zero(text: String) -> String {
    let is_zero = !text.bytes().any(|byte| (b'1'..=b'9').contains(&byte));
    let text = text.replace('-', "−");
    if is_zero { text.replace('−', "") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interval::LEVEL;

    /// Returns an estimate whose interval is about value ± 2 spread.
    fn estimate(value: f64, spread: f64) -> Estimate {
        let draws: Vec<f64> = (0..1000).map(|at| value + spread * (f64::from(at) - 499.5) / 250.0).collect();
        Estimate { value, interval: Interval::of_draws(&draws, LEVEL).unwrap() }
    }

    /// Protects: numbers stay short and never become 0.0000 or a long row of digits.
    #[test]
    fn numbers_are_short() {
        let shown: Vec<String> =
            [0.0, 0.000_012, 0.51234, -1.0, 19.98765, 1234.56, 1e7, -3e-9].map(number).to_vec();
        assert_eq!(shown, ["0", "1.20e-5", "0.5123", "−1.000", "19.988", "1234.6", "1.00e7", "−3.00e-9"]);
        assert_eq!([0.0, -0.0, -0.0001, -0.4].map(percent), ["0.0 %", "0.0 %", "0.0 %", "−40.0 %"]);
    }

    /// Protects: a difference shows the digits it needs, however small, and a difference of 0 shows none.
    #[test]
    fn differences_have_the_digits_they_need() {
        let shown = |value, spread, unit, least| {
            let Signed { value, interval } = Signed::of(&estimate(value, spread), unit, least);
            format!("{value} ({})", interval.unwrap_or_default())
        };
        assert_eq!(shown(0.0301, 0.015, 1.0, 3), "+0.030 (+0.002 to +0.059)");
        assert_eq!(shown(0.000_031_2, 0.000_01, 1.0, 3), "+0.000031 (+0.000012 to +0.000050)");
        assert_eq!(shown(-0.031, 0.02, 0.01, 1), "−3.1 (−6.9 to +0.7)");
        assert_eq!(shown(0.0, 0.02, 1.0, 3), "0 (−0.038 to +0.038)");
        for exponent in 0..12 {
            let size = 3.0 * 0.1_f64.powi(exponent);
            let text = shown(size, size / 4.0, 1.0, 3);
            assert!(exponent > 8 || !text.contains("+0.000 ") && !text.starts_with('0'), "{size}: {text}");
        }
        let none = Estimate { value: 1e-17, interval: None };
        assert_eq!(Signed::of(&none, 1.0, 3), Signed { value: "0".to_owned(), interval: None });
    }
}
