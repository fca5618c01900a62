//! Renders content to the texts that are tokenised, by TRL's rules.
//!
//! Plain text ends with the EOS, which is added if missing; a conversation ends as the chat template writes
//! it. An encoder without a template reads a question and its answer as a pair of texts, which its tokenizer
//! ends.

use super::conversation::{Content, Message};
use crate::error::{Error, Result};
use crate::text::Tokenizer;

/// One sequence, ready for the tokenizer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The whole text: the prompt, the answer and its end.
    pub text: String,
    /// True if a chat template wrote the text, including special tokens.
    pub by_template: bool,
    /// The byte offset of the second text of a pair; `None` for a single text.
    pub answer_at: Option<usize>,
}

impl Rendered {
    /// Returns the token ids.
    ///
    /// # Errors
    /// Fails if the tokenizer refuses the text.
    pub fn tokens(&self, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
        match self.answer_at {
            Some(at) => tokenizer.encode_pair(&self.text[..at], &self.text[at..]),
            None if self.by_template => tokenizer.encode_rendered(&self.text),
            None => tokenizer.encode(&self.text),
        }
    }

    /// Returns a text that no chat template wrote.
    pub fn plain(text: String) -> Self {
        Self { text, by_template: false, answer_at: None }
    }

    /// Returns a text that a chat template wrote.
    pub fn templated(text: String) -> Self {
        Self { text, by_template: true, answer_at: None }
    }
}

/// Renders one sequence: an optional prompt and the text that follows it.
///
/// # Errors
/// Fails if the tokenizer has no EOS for text or no chat template for conversations, if text and conversation
/// are mixed, if the template refuses the conversation, or as [`check_turns`] does.
pub fn render(prompt: Option<&Content>, text: &Content, tokenizer: &Tokenizer) -> Result<Rendered> {
    let conversation = text.is_conversation() && tokenizer.has_chat_template();
    if tokenizer.pairs().is_some() && !conversation {
        return pair(prompt, text);
    }
    match (prompt, text) {
        (None | Some(Content::Text(_)), Content::Text(answer)) => {
            let Some(eos) = tokenizer.eos() else {
                return Err(Error::Tokenizer(
                    "no EOS token is known, so no token of a plain text can carry its score; expected \
                     \"eos_token\" in tokenizer_config.json or \"eos_token_id\" in config.json (or \
                     conversations and a chat template)"
                        .to_owned(),
                ));
            };
            let prompt = match prompt {
                Some(Content::Text(prompt)) => prompt.as_str(),
                _ => "",
            };
            let end = if answer.ends_with(&eos.text) { "" } else { eos.text.as_str() };
            Ok(Rendered::plain(format!("{prompt}{answer}{end}")))
        }
        (None, Content::Messages(turns)) => {
            check_turns(prompt, text, tokenizer)?;
            Ok(Rendered::templated(tokenizer.render_chat(turns, false)?))
        }
        (Some(Content::Messages(before)), Content::Messages(turns)) => {
            check_turns(prompt, text, tokenizer)?;
            let turns: Vec<Message> = before.iter().chain(turns).cloned().collect();
            Ok(Rendered::templated(tokenizer.render_chat(&turns, false)?))
        }
        _ => Err(mixed()),
    }
}

/// Refuses a conversation with a turn, other than a system's, that leaves no trace in the chat template's text.
///
/// # Errors
/// Fails with the role and the place of the turn.
pub fn check_turns(prompt: Option<&Content>, text: &Content, tokenizer: &Tokenizer) -> Result<()> {
    tokenizer.refuse_lost_turns(&all_turns(prompt, text))
}

/// Returns the turns of a conversation with its prompt; none for a plain text.
pub(super) fn all_turns<'a>(prompt: Option<&'a Content>, text: &'a Content) -> Vec<&'a Message> {
    match (prompt, text) {
        (Some(Content::Messages(before)), Content::Messages(turns)) => before.iter().chain(turns).collect(),
        (_, Content::Messages(turns)) => turns.iter().collect(),
        (_, Content::Text(_)) => Vec::new(),
    }
}

/// Renders a question and its answer as a pair, or a single text.
///
/// # Errors
/// Fails if a conversation has other turns than a question and its answer.
fn pair(prompt: Option<&Content>, text: &Content) -> Result<Rendered> {
    let (question, answer) = match (prompt, text) {
        (None, Content::Text(text)) => return Ok(Rendered::plain(text.clone())),
        (Some(Content::Text(prompt)), Content::Text(answer)) => (prompt, answer),
        (None | Some(Content::Messages(_)), Content::Messages(turns)) => {
            let before = match prompt {
                Some(Content::Messages(before)) => before.as_slice(),
                _ => &[],
            };
            let turns: Vec<&Message> = before.iter().chain(turns).collect();
            match turns.as_slice() {
                [alone] => return Ok(Rendered::plain(alone.content.clone())),
                [question, answer] if answer.role == "assistant" => (&question.content, &answer.content),
                turns => {
                    let roles: Vec<&str> = turns.iter().map(|turn| turn.role.as_str()).collect();
                    let message = format!(
                        "the turns are {}; expected a question and the assistant's answer, which is all that \
                         an encoder without a chat template reads",
                        roles.join(", ")
                    );
                    return Err(Error::invalid("messages", message));
                }
            }
        }
        _ => return Err(mixed()),
    };
    Ok(Rendered { text: format!("{question}{answer}"), by_template: false, answer_at: Some(question.len()) })
}

fn mixed() -> Error {
    let message = "a conversation beside a plain text; expected both to be text or both to be messages";
    Error::invalid("prompt", message)
}
