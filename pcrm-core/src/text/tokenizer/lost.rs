//! Conversations with a turn that the chat template leaves out.

use super::{Chat, Tokenizer};
use crate::data::conversation::Message;
use crate::error::{Error, Result, in_short};
use crate::text::chat::LostTurns;

impl Tokenizer {
    /// Returns the turns whose text leaves no trace in the chat template's text; without a template there are
    /// none.
    pub fn lost_turns(&self, messages: &[&Message]) -> LostTurns {
        match &*self.chat {
            Chat::Ready(template) if !messages.is_empty() => template.lost_turns(messages, &self.inner.named),
            _ => LostTurns::default(),
        }
    }

    /// Refuses a conversation with a turn, other than a system's, whose text leaves no trace in the chat
    /// template's text: it would have the tokens and the score of another conversation.
    ///
    /// # Errors
    /// Fails with the role of the turn.
    pub fn refuse_lost_turns(&self, messages: &[&Message]) -> Result<()> {
        match self.lost_turns(messages).turn.and_then(|at| Some((at, messages.get(at)?))) {
            None => Ok(()),
            Some((at, turn)) => {
                let place = format!(" (turn {} of {})", at + 1, messages.len());
                Err(Error::Tokenizer(lost_turn(&turn.role, &place)))
            }
        }
    }
}

/// Returns the message about a lost turn of this role, with a remark on its place.
pub(crate) fn lost_turn(role: &str, place: &str) -> String {
    let expected = match role {
        "user" | "assistant" => "a chat template that renders this role",
        _ => "roles that the chat template renders, such as user and assistant",
    };
    let role = in_short(format!("{role:?}"));
    format!(
        "the role {role}{place} leaves no trace in the chat template's text, so that different conversations \
         have the same tokens; expected {expected}"
    )
}
