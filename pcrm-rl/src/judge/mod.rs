//! Judges: which of two answers to a prompt is better?
//!
//! A [`Judge`] sees a [`Question`], a prompt with two answers in an order, and gives a [`Preference`]: language models
//! behind OpenAI's protocol (`openai`), reward sources (`reward`), the truth of a generated world (`gold`), recorded
//! verdicts (`replay`) and programs (`command`). Judges are plugins: tagged data find them by `kind`, another crate adds
//! one with `inventory::submit!` and a [`JudgePlugin`].
//!
//! [`ask()`] puts questions to a judge. Replies are kept by content ([`Kept`]) as they come, so that a call that was
//! answered is never paid for twice, and a [`Budget`] ends the calls before it is passed. A reply that holds no verdict
//! is no verdict: it is counted and shown, and never taken for a tie.
//!
//! Reading order: this file, `ask.rs`, `kept.rs`, `budget.rs`, `purse.rs`; `verdict.rs` and `template.rs`; then the kinds.

mod ask;
mod budget;
mod command;
mod kept;
#[cfg(feature = "http")]
mod openai;
mod plugin;
#[cfg(feature = "http")]
mod purse;
mod replay;
mod reward;
mod template;
mod verdict;

use std::sync::atomic::AtomicBool;

use pcrm_core::data::prompts::Prompt;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Result;

pub use ask::{Asked, ask};
pub use budget::{Budget, Prices, Usage};
pub use kept::Kept;
pub use plugin::{JudgePlugin, OpenJudge, OpenRewards, Opening, parse};
pub use template::{Template, built_in as built_in_templates};
pub use verdict::{FIRST, Preference, SECOND, TIE};

/// A prompt with two answers, in the order in which a judge sees them.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The prompt, with the other columns of its record.
    pub prompt: &'a Prompt,
    /// The answer that is shown first.
    pub first: &'a str,
    /// The answer that is shown second.
    pub second: &'a str,
}

/// The reply to a question.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// The verdict, or the reason why there is none.
    pub verdict: Result<Preference, String>,
    /// The judge's words, where it has any.
    pub text: Option<String>,
    /// The cost of the reply.
    pub usage: Usage,
}

/// The words of a judge as they are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Words {
    /// The reply.
    pub text: String,
    /// Its cost.
    #[serde(default)]
    pub usage: Usage,
}

/// Takes the reply to the question of this number, as soon as it is there.
pub type Take<'a> = dyn FnMut(usize, Reply) -> Result<()> + 'a;

/// Says which of two answers is better.
pub trait Judge: Send {
    /// The name in tables: the kind with its model and template.
    fn name(&self) -> &str;

    /// Returns what users should know of the judge.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }

    /// Returns true if the order of answers makes no difference, so that one order is enough.
    fn is_symmetric(&self) -> bool {
        false
    }

    /// Returns everything that the reply to a question follows from, under which it is kept; `None` where replies cost
    /// nothing and are not kept.
    ///
    /// # Errors
    /// A question that cannot be put into words.
    fn content(&self, _question: &Question<'_>) -> Result<Option<Value>> {
        Ok(None)
    }

    /// Reads the verdict of words that were kept.
    ///
    /// # Errors
    /// Words without a verdict.
    fn read(&self, text: &str) -> Result<Preference, String> {
        Err(format!("{text:?} is no verdict"))
    }

    /// Judges questions in any order, each once, and hands over every reply when it is there.
    ///
    /// # Errors
    /// A judge that cannot go on; those of `take`; [`crate::Error::Interrupted`] if `stop` is set.
    fn judge(&mut self, questions: &[Question<'_>], stop: &AtomicBool, take: &mut Take<'_>) -> Result<()>;
}

impl Reply {
    /// Returns a verdict that cost nothing.
    pub fn free(verdict: Preference) -> Self {
        Self { verdict: Ok(verdict), text: None, usage: Usage::default() }
    }
}
