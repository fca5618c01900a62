//! DAPO's soft punishment of overlong answers.

use serde::Deserialize;

use super::{Answer, Rule, Unit, plugin};

/// 0 up to max − cache, then linear down to −1 at max, and −1 beyond (DAPO, arXiv 2503.14476, eq. 13; TRL's
/// `get_soft_overlong_punishment`).
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Overlong {
    /// Minimum length with a reward of −1.
    max: usize,
    /// Length of the linear part before `max`.
    cache: usize,
    #[serde(default)]
    unit: Unit,
}

plugin!(Overlong, "0 for short answers, a line down to -1 over the last `cache` tokens before `max` (DAPO)");

impl Rule for Overlong {
    const NAME: &'static str = "overlong";
    const EXAMPLE: &'static str = r#"{"kind": "overlong", "max": 512, "cache": 128}"#;

    fn check(&mut self) -> Result<(), String> {
        match self.max > 0 && self.cache <= self.max {
            true => Ok(()),
            false => Err(format!("max is {} and cache {}; expected 0 ≤ cache ≤ max", self.max, self.cache)),
        }
    }

    fn reward(&self, answer: &Answer<'_>) -> Result<Option<f64>, String> {
        let (length, soft) = (self.unit.count(answer), self.max - self.cache);
        Ok(Some(match length {
            length if length <= soft => 0.0,
            length if length <= self.max => (soft as f64 - length as f64) / self.cache as f64,
            _ => -1.0,
        }))
    }
}
