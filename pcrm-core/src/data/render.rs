//! Renders content to the texts that are tokenised, by TRL's rules.
//!
//! Plain text ends with the EOS, which is added if missing; a conversation ends as the chat template writes
//! it.

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
}

impl Rendered {
    /// Returns the token ids.
    ///
    /// # Errors
    /// Fails if the tokenizer refuses the text.
    pub fn tokens(&self, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
        if self.by_template { tokenizer.encode_rendered(&self.text) } else { tokenizer.encode(&self.text) }
    }
}

/// Renders one sequence: an optional prompt and the text that follows it.
///
/// # Errors
/// Fails if the tokenizer has no EOS for text or no chat template for conversations, if text and conversation
/// are mixed, or if the template refuses the conversation.
pub fn render(prompt: Option<&Content>, text: &Content, tokenizer: &Tokenizer) -> Result<Rendered> {
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
            Ok(Rendered { text: format!("{prompt}{answer}{end}"), by_template: false })
        }
        (None, Content::Messages(turns)) => {
            Ok(Rendered { text: tokenizer.render_chat(turns, false)?, by_template: true })
        }
        (Some(Content::Messages(prompt)), Content::Messages(turns)) => {
            let turns: Vec<Message> = prompt.iter().chain(turns).cloned().collect();
            Ok(Rendered { text: tokenizer.render_chat(&turns, false)?, by_template: true })
        }
        _ => Err(Error::invalid(
            "prompt",
            "a conversation beside a plain text; expected both to be text or both to be messages",
        )),
    }
}
