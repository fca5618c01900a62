//! Conversations as token ids with a mask of the assistant's text.

use std::ops::Range;
use std::sync::Arc;

use super::{Chat, Tokenizer, failed, panicked};
use crate::data::conversation::Message;
use crate::error::{Error, Result};
use crate::guard::guarded;

impl Tokenizer {
    /// Returns the tokenizer with a chat template that marks the assistant's text: its own, or the variant
    /// that TRL trains with if the template is a published one. A variant may render conversations
    /// differently.
    ///
    /// # Errors
    /// Fails if there is no chat template, or if it has no `{% generation %}` marks and no known variant.
    pub fn with_assistant_marks(&self) -> Result<Self> {
        match &*self.chat {
            Chat::None => Err(Error::Tokenizer(
                "no chat template; only conversations have assistant's turns".to_owned(),
            )),
            Chat::Broken(message) => Err(Error::Tokenizer(message.clone())),
            Chat::Ready(template) => Ok(match template.marked_variant()? {
                None => self.clone(),
                Some(variant) => Self { chat: Arc::new(Chat::Ready(Box::new(variant))), ..self.clone() },
            }),
        }
    }

    /// Renders and tokenises a conversation: token ids, and for each token true if the assistant wrote it.
    ///
    /// This is transformers' `apply_chat_template(return_assistant_tokens_mask=True)`: a token is marked if
    /// it overlaps a part between `{% generation %}` and `{% endgeneration %}`. Without marks, no token is.
    ///
    /// # Errors
    /// Fails in the same cases as [`Tokenizer::render_chat`], or if the tokenizer cannot encode the text.
    pub fn encode_chat_marked(&self, messages: &[Message]) -> Result<(Vec<u32>, Vec<bool>)> {
        let chat = self.render_marked(messages, false)?;
        self.check(&chat.text)?;
        let encoding = guarded(|| self.inner.hf.encode_char_offsets(chat.text.as_str(), false));
        let encoding = encoding.map_err(panicked)?.map_err(failed)?;
        let mask = overlapping(encoding.get_offsets(), &chat.spans);
        Ok((encoding.get_ids().to_vec(), mask))
    }

    /// Returns true if the marks of the chat template include the token that ends an assistant's turn.
    /// Otherwise a model trained on the marked tokens does not learn to stop.
    ///
    /// This is TRL's `is_chat_template_stop_token_trained`: in an answer between two questions, the last
    /// marked token that is not blank must be an added one.
    pub fn marks_the_end_of_turns(&self) -> bool {
        let turns = ["user", "assistant", "user"].map(|role| Message::new(role, "dummy"));
        let Ok((ids, mask)) = self.encode_chat_marked(&turns) else { return false };
        let added = self.inner.hf.get_added_tokens_decoder();
        let blank = |id: u32| self.decode(&[id]).is_ok_and(|text| text.trim().is_empty());
        let marked = ids.into_iter().zip(mask).filter(|(_, marked)| *marked).map(|(id, _)| id);
        marked.rev().find(|id| !blank(*id)).is_some_and(|id| added.contains_key(&id))
    }
}

/// Returns a mask of the tokens that overlap a span; both are in the order of the text.
fn overlapping(offsets: &[(usize, usize)], spans: &[Range<usize>]) -> Vec<bool> {
    let mut spans = spans.iter().peekable();
    let overlaps = |&(start, end): &(usize, usize)| {
        while spans.next_if(|span| start >= span.end).is_some() {}
        spans.peek().is_some_and(|span| end > span.start)
    };
    offsets.iter().map(overlaps).collect()
}
