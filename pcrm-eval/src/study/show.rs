//! Numbers and names of a study as text.

use super::outcome::Found;
use super::recipe::{Recipe, Verb};
use crate::replicates::Mean;

/// Formats a number with three decimals and a minus sign.
pub fn fixed(value: f64) -> String {
    let text = format!("{:.3}", value.abs());
    let is_zero = text.chars().all(|letter| letter == '0' || letter == '.');
    if value < 0.0 && !is_zero { format!("−{text}") } else { text }
}

/// Formats a number with three decimals and its sign.
pub fn signed(value: f64) -> String {
    let text = fixed(value);
    if text.starts_with('−') { text } else { format!("+{text}") }
}

/// Formats a difference with its interval, if any, and a star if the interval excludes 0.
pub fn difference(mean: &Mean) -> String {
    let star = if mean.excludes_zero() { " *" } else { "" };
    let ends =
        |interval: crate::Interval| format!(" [{}, {}]", signed(interval.low()), signed(interval.high()));
    format!("{}{}{star}", signed(mean.value), mean.interval.map_or(String::new(), ends))
}

/// Formats a mean and the number of seeds without the figure.
pub fn mean(found: &Found) -> String {
    let without = match found.without {
        0 => String::new(),
        without => format!(" ({without} without)"),
    };
    fixed(found.mean.value) + &without
}

/// Returns the heading of a figure.
pub fn heading(recipe: &Recipe, figure: &str) -> String {
    let Some((follow, rest)) = figure.split_once('/') else {
        let known = super::measures::NAMES.iter().find(|(name, _)| *name == figure);
        return known
            .map_or_else(
                || match figure {
                    "truth" => "true reward",
                    "win_rate" => "win rate by truth over the baseline",
                    other => other,
                },
                |(_, words)| words,
            )
            .to_owned();
    };
    format!("{}, {follow}", short(recipe, follow, rest))
}

/// Returns a figure of a follow-up in words, without the follow-up's name.
pub fn short(recipe: &Recipe, follow: &str, rest: &str) -> String {
    let of = recipe.follow.iter().find(|known| known.name == follow);
    let is_best = of.is_some_and(|follow| follow.verb == Verb::BestOfN);
    match (rest.split_once('@'), rest) {
        (Some((_, n)), _) if is_best => format!("true reward of the best of {n}"),
        (Some((_, kl)), _) => format!("true reward at {kl} nats"),
        (_, "truth") if is_best => "true reward of the best of all".to_owned(),
        (_, "truth") => "true reward at the end".to_owned(),
        (_, "proxy") => "score at the end".to_owned(),
        (_, "kl") => "KL at the end, nats".to_owned(),
        (_, "length") => "tokens at the end".to_owned(),
        (_, "win_rate") => "win rate by truth over where it began".to_owned(),
        _ => rest.to_owned(),
    }
}

/// Returns true if lower values of a figure are better, false if higher ones are; `None` if neither.
pub fn lower_is_better(figure: &str) -> Option<bool> {
    let name = figure.rsplit('/').next().unwrap_or(figure);
    match name.split('@').next().unwrap_or(name) {
        "accuracy" | "accuracy_truth" | "truth" | "win_rate" => Some(false),
        "log_loss" | "log_loss_scaled" | "cross_entropy" | "ece" | "ece_scaled" => Some(true),
        _ => None,
    }
}

/// Joins names into a list in words.
pub fn listed(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: a number that rounds to 0 has no minus sign.
    #[test]
    fn numbers_have_three_decimals_and_a_sign() {
        assert_eq!([0.25, -0.25, -0.0001, 12.0].map(fixed), ["0.250", "−0.250", "0.000", "12.000"]);
        assert_eq!([0.25, -0.25, -0.0001].map(signed), ["+0.250", "−0.250", "+0.000"]);
        let names = |names: &[&str]| listed(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!([names(&[]), names(&["a"]), names(&["a", "b", "c"])], ["", "a", "a, b and c"]);
    }
}
