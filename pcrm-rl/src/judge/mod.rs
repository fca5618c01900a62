//! Judges: they decide which of two answers to a prompt is better.
//!
//! A [`Judge`] sees a [`Question`], a prompt with two answers in an order, and gives a [`Preference`]. The
//! kinds are language models behind OpenAI's protocol (`openai`), reward sources (`reward`), the truth of a
//! generated world (`gold`), recorded verdicts (`replay`) and programs (`command`). Judges are plugins:
//! tagged data select one by `kind`, and another crate adds one with `inventory::submit!` and a
//! [`JudgePlugin`].
//!
//! [`ask()`] puts questions to a judge. Replies are kept by content ([`Kept`]) as they arrive, so that an
//! answered call is never paid twice, and a [`Budget`] stops the calls before it is exceeded. A reply without
//! a verdict is counted and shown, and never treated as a tie.
//!
//! Reading order: this file, `ask.rs`, `kept.rs`, `budget.rs`, `purse.rs`; `verdict.rs` and `template.rs`;
//! then the kinds.

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

/// A prompt with two answers, in the order shown to the judge.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// Prompt, with the other columns of its record.
    pub prompt: &'a Prompt,
    /// Answer shown first.
    pub first: &'a str,
    /// Answer shown second.
    pub second: &'a str,
}

/// The reply to a question.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// Verdict, or the reason why there is none.
    pub verdict: Result<Preference, String>,
    /// Words of the judge, if it has any.
    pub text: Option<String>,
    /// Cost of the reply.
    pub usage: Usage,
}

/// The words of a judge as they are stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Words {
    /// Text of the reply.
    pub text: String,
    /// Cost of the reply.
    #[serde(default)]
    pub usage: Usage,
}

/// A callback that takes the reply to the question with this number as soon as it arrives.
pub type Take<'a> = dyn FnMut(usize, Reply) -> Result<()> + 'a;

/// A judge that compares two answers.
pub trait Judge: Send {
    /// Returns the name in tables: the kind with its model and template.
    fn name(&self) -> &str;

    /// Returns notes about the judge for users.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }

    /// Returns true if the order of the answers makes no difference, so that one order is enough.
    fn is_symmetric(&self) -> bool {
        false
    }

    /// Returns everything that determines the reply to a question, the key for keeping it; `None` if replies
    /// are free and not kept.
    ///
    /// # Errors
    /// Fails if the question cannot be rendered.
    fn content(&self, _question: &Question<'_>) -> Result<Option<Value>> {
        Ok(None)
    }

    /// Reads the verdict from stored words.
    ///
    /// # Errors
    /// Fails if the words contain no verdict.
    fn read(&self, text: &str) -> Result<Preference, String> {
        Err(format!("{text:?} is not a verdict"))
    }

    /// Judges questions in any order, each once, and passes every reply to `take` as it arrives.
    ///
    /// # Errors
    /// Fails if the judge cannot continue or if `take` fails; [`crate::Error::Interrupted`] if `stop` is set.
    fn judge(&mut self, questions: &[Question<'_>], stop: &AtomicBool, take: &mut Take<'_>) -> Result<()>;
}

impl Reply {
    /// Returns a reply without cost.
    pub fn free(verdict: Preference) -> Self {
        Self { verdict: Ok(verdict), text: None, usage: Usage::default() }
    }
}
