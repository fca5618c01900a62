//! Rewards of a policy's answers: rules, saved reward models, programs, Python functions and servers.
//!
//! A [`RewardSource`] scores a batch of [`Answers`]. [`Spec`] reads what a user writes (`length:0.5`,
//! `model:runs/rm`, `python:reward.py:score`), [`open`] makes sources of specs, and [`Weighted`] adds their
//! rewards up as TRL does. Rules and everything else that needs no loaded model are plugins: tagged data find
//! them by `kind`, and another crate adds one with `inventory::submit!` and a [`RewardPlugin`].
//!
//! A reward is a finite number, or `None` where a source does not score an answer. A wrong number of rewards,
//! NaN, an infinity, a time-out and a crash are errors: no answer gets a reward that its source did not give
//! it.
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

pub use answers::{Answer, AnswerTexts, Answers};
pub use model::{ModelOptions, ModelReward, has_same_tokens};
pub use parse::{Place, Spec};
pub use plugin::RewardPlugin;
pub use weighted::{Rewards, SourceRewards, Weighted, open};

/// Gives answers their rewards.
pub trait RewardSource: Send {
    /// The name in messages and metrics: `length`, `python:reward.py:score`.
    fn name(&self) -> &str;

    /// Prepares for a run: starts what has to be started and checks the columns that it reads, so that a
    /// fault is found before the first rollout.
    ///
    /// # Errors
    /// A column that a prompt lacks; a program that does not start.
    fn prepare(&mut self, _run: &Preparation<'_>) -> Result<()> {
        Ok(())
    }

    /// Returns what users should know of the source, for the log of a run; after [`RewardSource::prepare`].
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }

    /// Scores a batch of answers.
    ///
    /// # Errors
    /// Answers that cannot be scored, naming the row; a failure of what computes.
    fn score(&mut self, batch: &Answers<'_>) -> Result<Scored>;
}

/// The run that a source prepares for.
#[derive(Debug, Clone, Copy)]
pub struct Preparation<'a> {
    /// All prompts of the run.
    pub prompts: &'a [Prompt],
    /// A folder that exists, for the logs of programs; `None`: nothing is written.
    pub logs: Option<&'a Path>,
}

/// The rewards of a batch, and what else a source says of it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Scored {
    /// The reward of every answer; `None`: not scored.
    pub rewards: Vec<Option<f32>>,
    /// Further numbers by name: one per answer, or any number of values of which metrics show the mean.
    pub logs: BTreeMap<String, Vec<f32>>,
    /// Further columns of a table of samples, one value per answer.
    pub columns: BTreeMap<String, Vec<Value>>,
}

impl Scored {
    /// Returns these rewards and nothing else.
    pub fn of(rewards: Vec<Option<f32>>) -> Self {
        Self { rewards, ..Self::default() }
    }
}

impl dyn RewardSource + '_ {
    /// Returns what [`RewardSource::score`] gives, checked: one finite reward or `None` per answer, finite
    /// logs, columns of one value per answer.
    ///
    /// # Errors
    /// Those of the source; a wrong count; NaN or an infinity, naming the row.
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
