//! A reward for answers that a regular expression matches.

use fancy_regex::Regex;
use serde::Deserialize;

use super::{Answer, Rule, finite, plugin};

/// `reward` if the pattern matches, else `otherwise`. The syntax is the crate regex's, with lookaround and
/// back references; flags go into the pattern: `(?s)`, `(?i)`. Without `(?m)`, `$` matches only at the very
/// end.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pattern {
    pattern: Compiled,
    /// Part of the answer that must match.
    #[serde(default, rename = "match")]
    part: Part,
    #[serde(default = "one")]
    reward: f64,
    #[serde(default)]
    otherwise: f64,
}

/// The part of an answer that must match, with the names of Python's functions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Part {
    /// Any part.
    #[default]
    Search,
    /// A part starting at the beginning.
    Match,
    /// The whole answer.
    FullMatch,
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct Compiled(Regex);

impl TryFrom<String> for Compiled {
    type Error = String;

    fn try_from(pattern: String) -> Result<Self, String> {
        Regex::new(&pattern).map(Self).map_err(|error| format!("pattern {pattern:?}: {error}"))
    }
}

fn one() -> f64 {
    1.0
}

plugin!(
    Pattern,
    "1 where `pattern` matches (match: search, match, fullmatch), 0 elsewhere (reward, otherwise)"
);

impl Rule for Pattern {
    const NAME: &'static str = "regex";
    const EXAMPLE: &'static str = r#"{"kind": "regex", "pattern": "[0-9]+"}"#;

    fn check(&mut self) -> Result<(), String> {
        finite("reward", self.reward)?;
        finite("otherwise", self.otherwise)?;
        let anchored = match self.part {
            Part::Search => return Ok(()),
            // Group the pattern, so that the anchors apply to all its alternatives.
            Part::Match => format!(r"\A(?:{})", self.pattern.0.as_str()),
            Part::FullMatch => format!(r"\A(?:{})\z", self.pattern.0.as_str()),
        };
        self.pattern = Compiled::try_from(anchored)?;
        Ok(())
    }

    fn reward(&self, answer: &Answer<'_>) -> Result<Option<f64>, String> {
        let found = self.pattern.0.is_match(answer.completion());
        let found = found.map_err(|error| format!("the pattern exceeds the step limit: {error}"))?;
        Ok(Some(if found { self.reward } else { self.otherwise }))
    }
}
