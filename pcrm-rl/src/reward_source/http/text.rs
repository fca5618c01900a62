//! The texts sent to reward servers.

use std::path::Path;

use pcrm_core::data::conversation::{Content, Message};
use pcrm_core::data::prompts::Prompt;
use pcrm_core::data::render::render;
use pcrm_core::text::Tokenizer;
use serde_json::Value;

use super::protocol::Protocol;
use crate::reward_source::Answer;

/// Builds the texts of answers.
pub struct Texts {
    /// Tokenizer of the reward model, if its folder is given.
    tokenizer: Option<Tokenizer>,
    label: Option<String>,
}

impl Texts {
    /// Loads the tokenizer from this folder.
    ///
    /// # Errors
    /// Fails if the folder has no tokenizer.
    pub fn new(tokenizer: Option<&Path>, label: Option<String>) -> Result<Self, String> {
        let tokenizer = tokenizer.map(Tokenizer::from_dir).transpose().map_err(|error| error.to_string())?;
        Ok(Self { tokenizer, label })
    }

    pub fn has_tokenizer(&self) -> bool {
        self.tokenizer.is_some()
    }

    /// Refuses a prompt that a protocol cannot express.
    ///
    /// # Errors
    /// Fails with the reason and a fix.
    pub fn accept(&self, protocol: Protocol, prompt: &Prompt) -> Result<(), String> {
        let is_bare = prompt.prompt.is_conversation() && !self.has_tokenizer();
        if let Some(label) = self.label.as_ref().filter(|label| !prompt.columns.contains_key(*label)) {
            return Err(format!("no column {label:?} for the label"));
        }
        match protocol {
            Protocol::OpenRlhf => Ok(()),
            protocol if protocol.has_pairs() => Self::question(prompt).map(drop),
            protocol if is_bare && !protocol.has_messages() => Err(
                "the prompt is a conversation, and this protocol takes texts; name the folder of the reward \
                 model's tokenizer, whose template renders it: {\"kind\": \"http\", .., \"tokenizer\": DIR}"
                    .to_owned(),
            ),
            _ => Ok(()),
        }
    }

    /// Returns a prompt with its answer as one text.
    pub fn sequence(&self, protocol: Protocol, answer: &Answer<'_>) -> Result<String, String> {
        let prompt = &answer.prompt.prompt;
        match (&self.tokenizer, prompt) {
            (Some(tokenizer), prompt) => {
                let rendered = render(Some(prompt), &answer.content(), tokenizer);
                let text = rendered.map_err(|error| error.to_string())?.text;
                let bos = tokenizer.bos().map_or("", |bos| &bos.text);
                Ok(text.strip_prefix(bos).map(str::to_owned).unwrap_or(text))
            }
            (None, _) if protocol == Protocol::OpenRlhf => Ok(answer.texts.sequence.clone()),
            (None, Content::Text(text)) => Ok(format!("{text}{}", answer.completion())),
            (None, Content::Messages(_)) => self.accept(protocol, answer.prompt).map(|()| String::new()),
        }
    }

    /// Returns the conversation with its answer.
    pub fn messages(answer: &Answer<'_>) -> Vec<Message> {
        let turns = [&answer.prompt.prompt, &answer.content()].map(|content| match content {
            Content::Messages(turns) => turns.clone(),
            Content::Text(text) => vec![Message::new("user", text)],
        });
        turns.concat()
    }

    /// Returns a prompt as one question: a text, or a single user turn.
    ///
    /// # Errors
    /// Fails if the conversation has more turns.
    pub fn question(prompt: &Prompt) -> Result<String, String> {
        match &prompt.prompt {
            Content::Text(text) => Ok(text.clone()),
            Content::Messages(turns) => match turns.as_slice() {
                [turn] if turn.role == "user" => Ok(turn.content.clone()),
                turns => Err(format!(
                    "the prompt has {} turns, and this protocol takes one question; use /classify",
                    turns.len()
                )),
            },
        }
    }

    /// Returns the label of an answer's prompt: the configured column, else `label`, else `labels`, else
    /// null.
    pub fn label<'a>(&self, answer: &Answer<'a>) -> &'a Value {
        let named = match &self.label {
            Some(label) => answer.prompt.columns.get(label),
            None => answer.prompt.columns.get("label").or_else(|| answer.prompt.columns.get("labels")),
        };
        named.unwrap_or(&Value::Null)
    }
}
