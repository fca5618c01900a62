//! Rules: rewards that are functions of one answer, its tokens and the columns of its record.

mod exact;
mod format;
mod json;
mod length;
mod overlong;
mod regex;
mod repetition;
mod world;

use pcrm_core::data::prompts::Prompt;
use pcrm_core::erased_serde;
use serde::Deserialize;
use serde::de::{DeserializeOwned, Error as _};

use super::{Answer, Answers, Preparation, RewardSource, Scored};
use crate::error::{Error, Result};

/// A rule, deserialised from its tagged data.
trait Rule: DeserializeOwned + Send + 'static {
    /// The `kind` that selects it.
    const NAME: &'static str;
    /// Its parameters, as an example for messages; empty if it needs none.
    const EXAMPLE: &'static str = "";

    /// Refuses invalid parameters.
    fn check(&mut self) -> Result<(), String> {
        Ok(())
    }

    /// Refuses a prompt whose answers could not be scored.
    fn accept(&self, _prompt: &Prompt) -> Result<(), String> {
        Ok(())
    }

    /// Returns the reward of an answer; `None` if not scored.
    fn reward(&self, answer: &Answer<'_>) -> Result<Option<f64>, String>;
}

struct Ruled<R>(R);

impl<R: Rule> RewardSource for Ruled<R> {
    fn name(&self) -> &str {
        R::NAME
    }

    fn prepare(&mut self, run: &Preparation<'_>) -> Result<()> {
        run.prompts.iter().try_for_each(|prompt| {
            self.0
                .accept(prompt)
                .map_err(|message| Error::reward(R::NAME, format!("{}: {message}", prompt.origin)))
        })
    }

    fn score(&mut self, batch: &Answers<'_>) -> Result<Scored> {
        let reward = |(row, answer): (usize, &Answer<'_>)| {
            let reward = self.0.reward(answer);
            let reward = reward
                .map_err(|message| Error::reward(R::NAME, format!("{}: {message}", batch.place(row))))?;
            Ok(reward.map(|reward| reward as f32))
        };
        Ok(Scored::of(batch.rows.iter().enumerate().map(reward).collect::<Result<_>>()?))
    }
}

/// Builds a rule from its configuration.
fn build<R: Rule>(
    data: &mut dyn erased_serde::Deserializer<'_>,
) -> erased_serde::Result<Box<dyn RewardSource>> {
    let mut rule: R = erased_serde::deserialize(data).map_err(|error| match R::EXAMPLE {
        "" => error,
        example => erased_serde::Error::custom(format!("{error}; write for example {example}")),
    })?;
    rule.check().map_err(erased_serde::Error::custom)?;
    Ok(Box::new(Ruled(rule)))
}

/// Submits a rule as a plugin.
macro_rules! plugin {
    ($rule:ty, $about:literal) => {
        pcrm_core::inventory::submit! {
            $crate::reward_source::RewardPlugin {
                name: <$rule as $crate::reward_source::rules::Rule>::NAME,
                about: $about,
                build: $crate::reward_source::rules::build::<$rule>,
            }
        }
    };
}
use plugin;

/// The unit of an answer's length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Unit {
    /// Tokens of the policy.
    #[default]
    Tokens,
    /// Words, separated by white space.
    Words,
    /// Characters.
    Characters,
}

impl Unit {
    fn count(self, answer: &Answer<'_>) -> usize {
        match self {
            Self::Tokens => answer.completion_ids.len(),
            Self::Words => answer.completion().split_whitespace().count(),
            Self::Characters => answer.completion().chars().count(),
        }
    }
}

/// Refuses a number that is not finite.
fn finite(name: &str, value: f64) -> Result<(), String> {
    match value.is_finite() {
        true => Ok(()),
        false => Err(format!("{name} is {value}; expected a finite number")),
    }
}

#[cfg(test)]
mod tests;
