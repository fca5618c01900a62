//! Rewards of a policy's answers: rules, saved reward models, programs, Python functions and servers.
//!
//! A [`RewardSource`] scores a batch of [`Answers`]. [`Spec`] parses what a user writes (`length:0.5`,
//! `model:runs/rm`, `python:reward.py:score`), [`open`] opens the sources of specs, and [`Weighted`] sums
//! their rewards as TRL does. Rules and all other sources without a loaded model are plugins: tagged data
//! select them by `kind`, and another crate adds one with `inventory::submit!` and a [`RewardPlugin`].
//!
//! A reward is a finite number, or `None` if a source does not score an answer. A wrong number of rewards,
//! NaN, infinity, a time-out or a crash is an error: every reward comes from its source.
//!
//! ```
//! use pcrm_rl::reward_source::{self, Spec};
//!
//! let specs = ["repetition", r#"{"kind": "regex", "pattern": "[.!?]$"}:0.5"#];
//! let specs: Vec<Spec> = specs.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
//! let sources = reward_source::open(&specs, &mut |dir| panic!("no model is named: {}", dir.display()))?;
//! assert_eq!(sources.weights().collect::<Vec<_>>(), [("repetition", 1.0), ("regex", 0.5)]);
//! # Ok::<(), pcrm_rl::Error>(())
//! ```

mod answers;
mod combine;
#[cfg(feature = "http")]
mod http;
mod model;
mod parse;
mod plugin;
pub(crate) mod program;
mod rules;
mod weighted;

use std::collections::BTreeMap;
use std::path::Path;

use pcrm_core::data::prompts::Prompt;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::score_range::ScoreRange;

pub use answers::{Answer, AnswerTexts, Answers};
pub use combine::Combine;
pub use model::{ModelOptions, ModelReward, has_same_tokens};
pub use parse::{Place, Spec};
pub use plugin::RewardPlugin;
pub use program::child::STOPS_WITH_INPUT;
pub use program::group::{NoPrograms, kill_programs};
pub use weighted::{Rewards, SourceRewards, Weighted, open};

/// A source of rewards for answers.
pub trait RewardSource: Send {
    /// Returns the name in messages and metrics: `length`, `python:reward.py:score`.
    fn name(&self) -> &str;

    /// Prepares for a run: starts processes and checks the columns that the source reads, so that errors
    /// appear before the first rollout.
    ///
    /// # Errors
    /// Fails if a prompt lacks a column or a program does not start.
    fn prepare(&mut self, _run: &Preparation<'_>) -> Result<()> {
        Ok(())
    }

    /// Returns notes about the source for the log of a run. Call it after [`RewardSource::prepare`].
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }

    /// Returns the range of the source's rewards on data of its own, if it is known.
    fn range(&self) -> Option<ScoreRange> {
        None
    }

    /// Scores a batch of answers.
    ///
    /// # Errors
    /// Fails if an answer cannot be scored (the error names the row) or the computation fails.
    fn score(&mut self, batch: &Answers<'_>) -> Result<Scored>;

    /// Asks the processes that the source has started to exit, without waiting for them. [`Weighted`] closes all
    /// sources before it drops the first, so that their programs exit at the same time.
    fn close(&mut self) {}
}

/// The run that a source prepares for.
#[derive(Debug, Clone, Copy)]
pub struct Preparation<'a> {
    /// All prompts of the run.
    pub prompts: &'a [Prompt],
    /// Existing folder for the logs of programs; `None` to write none.
    pub logs: Option<&'a Path>,
}

/// The rewards of a batch with additional outputs of the source.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Scored {
    /// Reward of every answer; `None` if not scored.
    pub rewards: Vec<Option<f32>>,
    /// Additional numbers by name: one per answer, or any number of values whose mean the metrics show.
    pub logs: BTreeMap<String, Vec<f32>>,
    /// Additional columns of a table of samples, one value per answer.
    pub columns: BTreeMap<String, Vec<Value>>,
}

impl Scored {
    /// Creates a result with these rewards only.
    pub fn of(rewards: Vec<Option<f32>>) -> Self {
        Self { rewards, ..Self::default() }
    }
}

impl dyn RewardSource + '_ {
    /// Returns the checked result of [`RewardSource::score`]: one finite reward or `None` per answer, finite
    /// logs, and columns with one value per answer.
    ///
    /// # Errors
    /// Fails if the source fails, if the count is wrong, or if a value is NaN or infinite (the error names
    /// the row).
    pub fn checked_score(&mut self, batch: &Answers<'_>) -> Result<Scored> {
        let scored = self.score(batch)?;
        check(self.name(), &scored, batch)?;
        Ok(scored)
    }
}

fn check(name: &str, scored: &Scored, batch: &Answers<'_>) -> Result<()> {
    let refuse = |message: String| Err(Error::reward(name, message));
    let count = batch.rows.len();
    if scored.rewards.len() != count {
        let given = scored.rewards.len();
        return refuse(format!("gave {given} rewards for {count} answers; expected one per answer"));
    }
    let bad = scored.rewards.iter().position(|reward| reward.is_some_and(|reward| !reward.is_finite()));
    if let Some(at) = bad {
        let value = scored.rewards[at].unwrap_or_default();
        return refuse(format!(
            "{}: the reward is {value}; expected a finite number, or null for an answer that is not scored",
            batch.place(at)
        ));
    }
    for (log, values) in &scored.logs {
        if let Some(value) = values.iter().find(|value| !value.is_finite()) {
            return refuse(format!("the log {log:?} has the value {value}; expected finite numbers"));
        }
    }
    for (column, values) in &scored.columns {
        if values.len() != count {
            let given = values.len();
            return refuse(format!("the column {column:?} has {given} values for {count} answers"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
