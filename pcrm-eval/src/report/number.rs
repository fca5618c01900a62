//! Numbers formatted for people, and tick labels of axes.

pub use crate::table::percent;

use super::plot::Ticks;

/// Formats a number with three significant digits: `0.0312`, `12.3`, `1,240`, `3.1e-7`.
pub fn number(value: f64) -> String {
    significant(value, 3)
}

/// Formats a number with `digits` significant digits; thousands are separated by commas, small numbers get an
/// exponent.
pub fn significant(value: f64, digits: i32) -> String {
    if !value.is_finite() {
        return if value.is_nan() {
            "–".to_owned()
        } else {
            format!("{}∞", if value < 0.0 { "−" } else { "" })
        };
    }
    let size = value.abs();
    let sign = if value < 0.0 { "−" } else { "" };
    if size == 0.0 {
        return "0".to_owned();
    }
    if size < 1e-4 {
        let text = format!("{size:.*e}", (digits - 1).max(0) as usize);
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        return format!("{sign}{}e{exponent}", trimmed(mantissa));
    }
    let decimals = (digits - 1 - size.log10().floor() as i32).max(0) as usize;
    let text = format!("{size:.decimals$}");
    let (whole, part) = text.split_once('.').map_or((text.as_str(), ""), |(whole, part)| (whole, part));
    let whole = whole.parse::<u64>().map_or_else(|_| whole.to_owned(), count);
    if part.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{part}") }
}

/// Formats a whole number with commas between thousands.
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Formats a time in its two largest units: `42 s`, `3 min 5 s`, `2 h 14 min`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match (whole / 3600, whole % 3600 / 60, whole % 60) {
        (0, 0, _) if seconds < 9.5 => format!("{seconds:.1} s"),
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

/// Returns the label of the tick at `value` on an axis with ticks about `step` apart; empty for a fraction on
/// an axis of counts.
pub fn tick(value: f64, step: f64, ticks: Ticks) -> String {
    let step = step.abs().max(1e-300);
    // Ticks are sums of steps, so a tick at 0 may come out as 1e-17.
    let value = if value.abs() < step * 1e-6 { 0.0 } else { value };
    match ticks {
        Ticks::Percent => format!("{} %", plain(100.0 * value, 100.0 * step)),
        Ticks::Count if (value - value.round()).abs() > 1e-6 => String::new(),
        Ticks::Count | Ticks::Number => plain(value, step),
    }
}

fn plain(value: f64, step: f64) -> String {
    let (size, sign) = (value.abs(), if value < 0.0 { "−" } else { "" });
    if size == 0.0 {
        return "0".to_owned();
    }
    if step < 1e-4 && size < 1e-2 {
        let digits = (size / step).log10().ceil().clamp(0.0, 6.0) as usize;
        let text = format!("{size:.digits$e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        return format!("{sign}{}e{exponent}", trimmed(mantissa));
    }
    let (scaled, unit) = match size {
        size if size >= 1e6 => (1e6, "M"),
        size if size >= 1e4 => (1e3, "k"),
        _ => (1.0, ""),
    };
    let decimals = (-(step / scaled).log10()).ceil().clamp(0.0, 9.0) as usize;
    format!("{sign}{}{unit}", trimmed(&format!("{:.decimals$}", size / scaled)))
}

fn trimmed(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let shown = [0.0, 0.031_234, -12.345, 1_239.7, 2_500_000.0, 3.14e-7, 0.45678, f64::NAN].map(number);
        assert_eq!(shown, ["0", "0.0312", "−12.3", "1,240", "2,500,000", "3.14e-7", "0.457", "–"]);
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([3.21, 42.0, 185.0, 8040.0].map(duration), ["3.2 s", "42 s", "3 min 5 s", "2 h 14 min"]);
    }

    #[test]
    fn ticks_have_the_digits_that_their_steps_need() {
        assert_eq!(tick(0.30000000000000004, 0.1, Ticks::Number), "0.3");
        assert_eq!(tick(1e-17, 0.1, Ticks::Number), "0");
        assert_eq!(tick(-1.5, 0.5, Ticks::Number), "−1.5");
        assert_eq!(tick(0.55, 0.05, Ticks::Percent), "55 %");
        assert_eq!(tick(2.5, 0.5, Ticks::Count), "");
        assert_eq!(tick(15_000.0, 5_000.0, Ticks::Count), "15k");
        assert_eq!(tick(2.5e6, 5e5, Ticks::Number), "2.5M");
        assert_eq!(tick(8e-5, 2e-5, Ticks::Number), "8e-5");
        assert_eq!(tick(1.2345e-3, 1e-7, Ticks::Number), "1.2345e-3");
        assert_eq!([6.91795, 6.918].map(|at| tick(at, 5e-5, Ticks::Number)), ["6.91795", "6.918"]);
    }
}
