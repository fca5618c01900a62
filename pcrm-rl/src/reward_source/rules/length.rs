//! A reward for the length of an answer: closeness to a target, or a constant per token.

use serde::Deserialize;

use super::{Answer, Rule, Unit, finite, plugin};

/// With a target t: −|n − t| / t, 0 at the target and −1 for an empty answer. With `per_unit` c: c·n. n
/// counts tokens of the policy (including the one that ends the answer), words or characters.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Length {
    /// Length with the highest reward.
    #[serde(default)]
    target: Option<f64>,
    /// Reward of every token, word or character; negative to favour short answers.
    #[serde(default, alias = "per_token")]
    per_unit: Option<f64>,
    #[serde(default)]
    unit: Unit,
}

plugin!(
    Length,
    "near a target length (target), or a reward per token (per_unit); unit tokens, words, characters"
);

impl Rule for Length {
    const NAME: &'static str = "length";

    fn check(&mut self) -> Result<(), String> {
        match (self.target, self.per_unit) {
            (Some(target), None) if target.is_finite() && target > 0.0 => Ok(()),
            (Some(target), None) => Err(format!("target is {target}; expected a positive number")),
            (None, Some(per_unit)) => finite("per_unit", per_unit),
            _ => {
                Err("expected one of target and per_unit: {\"kind\": \"length\", \"target\": 100}".to_owned())
            }
        }
    }

    fn reward(&self, answer: &Answer<'_>) -> Result<Option<f64>, String> {
        let length = self.unit.count(answer) as f64;
        let near = |target: f64| -(length - target).abs() / target;
        Ok(self.target.map(near).or(self.per_unit.map(|per_unit| per_unit * length)))
    }
}
