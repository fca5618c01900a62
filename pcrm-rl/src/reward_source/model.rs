//! A saved reward model as a reward source; it reads texts with its own tokenizer and template.

use std::collections::BTreeMap;
use std::ops::Range;

use pcrm_core::data::encode::encode_text;
use pcrm_core::model::{Scores, ScoringModel};
use pcrm_core::text::Tokenizer;

use super::{Answer, Answers, Preparation, RewardSource, Scored};
use crate::error::{Error, Result};
use crate::score::score_answers;
use crate::score_range::ScoreRange;

/// A reward source that scores the text of a prompt with its answer by a reward model.
///
/// A conversation and its answer are rendered by the reward model's template; a text is followed by the
/// answer and the reward model's EOS, as in its training. The answers to a prompt form one tree, whose common
/// tokens are computed once. A score has the same bits in any batch.
///
/// An answer is not scored, with a warning, if it is longer than the model can read, or if its bytes are not
/// valid text, so that the model would read something other than what the policy wrote. The logs `too_long`
/// and `broken` are 1 for these answers.
pub struct ModelReward {
    name: String,
    model: ScoringModel,
    tokenizer: Tokenizer,
    options: ModelOptions,
    /// True if the policy has other tokens or another template.
    reads_text: bool,
    /// Scores on the model's own data, if its folder records them.
    range: Option<ScoreRange>,
    /// Reasons already reported, so that a long run does not repeat them at every step.
    said: [bool; 2],
}

/// Options of a reward model as a reward source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelOptions {
    /// Maximum number of tokens computed at once. Scores do not depend on it.
    pub micro_tokens: usize,
    /// Maximum number of tokens of prompt and answer; `None` for all positions of the model.
    pub max_length: Option<usize>,
}

impl Default for ModelOptions {
    fn default() -> Self {
        Self { micro_tokens: 8192, max_length: None }
    }
}

impl ModelReward {
    /// Creates a source from a loaded model. Its notes report a tokenizer or template that differs from the
    /// policy's.
    ///
    /// # Errors
    /// Fails if `max_length` is 0 or exceeds the model's positions.
    pub fn new(
        name: impl Into<String>,
        model: impl Into<ScoringModel>,
        tokenizer: Tokenizer,
        policy: &Tokenizer,
        options: ModelOptions,
    ) -> Result<Self> {
        let (name, model) = (name.into(), model.into());
        let positions = model.outline().max_positions;
        if let Some(most) = options.max_length.filter(|most| !(1..=positions).contains(most)) {
            let message =
                format!("a limit of {most} tokens; expected 1 to {positions}, the model's positions");
            return Err(Error::reward(name, message));
        }
        let reads_text = !has_same_tokens(&tokenizer, policy);
        let range = ScoreRange::noted(model.outline());
        Ok(Self { name, model, tokenizer, options, reads_text, range, said: [false; 2] })
    }

    /// Returns the token ids to score for an answer.
    ///
    /// # Errors
    /// Fails if the tokenizer or the template refuses the text, or if the model does not have a token.
    pub fn token_ids(&self, answer: &Answer<'_>) -> Result<Vec<u32>> {
        let outline = self.model.outline();
        let prompt = &answer.prompt.prompt;
        let ids = encode_text(Some(prompt), &answer.content(), &self.tokenizer, outline.pad)?;
        let size = outline.inputs;
        match ids.iter().find(|id| **id as usize >= size) {
            Some(id) => {
                let message = format!("token id {id} is outside the model's vocabulary of {size}");
                Err(Error::reward(&self.name, message))
            }
            None if ids.is_empty() => Err(Error::reward(&self.name, "the text has no tokens")),
            None => Ok(ids),
        }
    }

    fn located(&self, place: &str, error: &Error) -> Error {
        let message = match error {
            Error::Reward { message, .. } => message.clone(),
            other => other.to_string(),
        };
        Error::reward(&self.name, format!("{place}: {message}"))
    }

    /// Warns once that answers are not scored.
    fn say(&mut self, reason: usize, count: usize, place: &str) {
        if count == 0 || std::mem::replace(&mut self.said[reason], true) {
            return;
        }
        let most = self.most();
        let why = match reason {
            0 => format!("longer than {most} tokens with their prompts"),
            _ => "not valid UTF-8, so no text represents what the policy wrote".to_owned(),
        };
        tracing::warn!(
            "reward {:?}: {count} answers of this batch are not scored (the first is {place}): {why}; later \
             ones are counted in the metrics",
            self.name
        );
    }

    fn most(&self) -> usize {
        self.options.max_length.unwrap_or(self.model.outline().max_positions)
    }
}

/// Returns true if both tokenizers give every text the same tokens and every conversation the same text.
pub fn has_same_tokens(left: &Tokenizer, right: &Tokenizer) -> bool {
    let files = |tokenizer: &Tokenizer| -> BTreeMap<String, Vec<u8>> {
        tokenizer.files().map(|(name, bytes)| (name.to_owned(), bytes.to_vec())).collect()
    };
    files(left) == files(right)
}

/// Compares scores with those on the model's own data. `beyond_range` is 1 for a score below or above all of
/// them; `drift` is the number of standard deviations from their mean; if training bounded margins,
/// `beyond_bound` is 1 for a prompt whose best and worst answers differ by more than the largest bound.
fn drift(range: &ScoreRange, rewards: &[Option<f32>], groups: &[Vec<usize>]) -> BTreeMap<String, Vec<f32>> {
    let scores = || rewards.iter().flatten().map(|score| f64::from(*score));
    let flag = |is: bool| f32::from(u8::from(is));
    let mut logs = BTreeMap::from([
        ("beyond_range".to_owned(), scores().map(|score| flag(range.is_beyond(score))).collect()),
        ("drift".to_owned(), scores().map(|score| range.standard(score) as f32).collect()),
    ]);
    if let Some(bound) = range.largest_bound {
        let beyond = |rows: &Vec<usize>| {
            let scores = || rows.iter().filter_map(|row| rewards[*row]).map(f64::from);
            let (best, worst) = (scores().reduce(f64::max)?, scores().reduce(f64::min)?);
            (rows.len() > 1).then(|| flag(best - worst > bound))
        };
        logs.insert("beyond_bound".to_owned(), groups.iter().filter_map(beyond).collect());
    }
    logs
}

impl RewardSource for ModelReward {
    fn name(&self) -> &str {
        &self.name
    }

    fn prepare(&mut self, run: &Preparation<'_>) -> Result<()> {
        if run.prompts.iter().any(|prompt| prompt.prompt.is_conversation())
            && !self.tokenizer.has_chat_template()
            && self.tokenizer.pairs().is_none()
        {
            let message =
                "the prompts are conversations, and the reward model has no chat template to read them by";
            return Err(Error::reward(&self.name, message));
        }
        Ok(())
    }

    fn range(&self) -> Option<ScoreRange> {
        self.range
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.tokenizer.pairs().is_some() {
            notes.push("an encoder: it reads prompt and answer as a pair of texts".into());
        }
        if self.reads_text {
            notes
                .push("its tokenizer or template differs from the policy's; it reads answers as text".into());
        }
        notes.push(match &self.range {
            Some(range) => format!(
                "scores of its own data range from {:.3} to {:.3}; scores beyond are counted",
                range.low, range.high
            ),
            None => "its folder does not record the scores of its own data, so scores beyond are not counted"
                .into(),
        });
        notes
    }

    fn score(&mut self, batch: &Answers<'_>) -> Result<Scored> {
        let (count, most) = (batch.rows.len(), self.most());
        let broken: Vec<bool> = batch.rows.iter().map(Answer::is_broken).collect();
        let mut ids: Vec<Vec<u32>> = Vec::with_capacity(count);
        for (row, answer) in batch.rows.iter().enumerate() {
            let ids_of = self.token_ids(answer).map_err(|error| self.located(&batch.place(row), &error))?;
            ids.push(ids_of);
        }
        let too_long: Vec<bool> = ids.iter().map(|ids| ids.len() > most).collect();
        for (reason, rows) in [&too_long, &broken].into_iter().enumerate() {
            let first = rows.iter().position(|bad| *bad).map(|row| batch.place(row)).unwrap_or_default();
            self.say(reason, rows.iter().filter(|bad| **bad).count(), &first);
        }
        let is_read = |row: &usize| !too_long[*row] && !broken[*row];
        let groups: Vec<Vec<usize>> =
            batch.by_prompt().into_iter().map(|run: Range<usize>| run.filter(is_read).collect()).collect();
        let sequences: Vec<Vec<&[u32]>> =
            groups.iter().map(|rows| rows.iter().map(|row| ids[*row].as_slice()).collect()).collect();
        let scores = score_answers(&self.model, &sequences, self.options.micro_tokens)?;
        let mut rewards = vec![None; count];
        for (row, score) in groups.iter().flatten().zip(scores.into_iter().flatten()) {
            rewards[*row] = Some(score);
        }
        let share = |rows: &[bool]| rows.iter().map(|bad| f32::from(u8::from(*bad))).collect();
        let logs = [("too_long", share(&too_long)), ("broken", share(&broken))];
        let mut logs: BTreeMap<String, Vec<f32>> =
            logs.into_iter().map(|(name, values)| (name.to_owned(), values)).collect();
        if let Some(range) = &self.range {
            logs.extend(drift(range, &rewards, &groups));
        }
        Ok(Scored { rewards, logs, ..Scored::default() })
    }
}
