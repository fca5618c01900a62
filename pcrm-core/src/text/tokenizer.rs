//! The tokenizer of a checkpoint: Hugging Face's `tokenizer.json` and related files.

mod assistant;
mod facts;
mod files;
mod lost;
mod opening;
mod pairs;
mod spans;
mod truncated;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use tokenizers::{Tokenizer as HfTokenizer, TruncationDirection};

pub use self::files::{TOKENIZER, copy_files, is_tokenizer_file};
pub(crate) use self::lost::lost_turn;
pub use self::pairs::PairForm;
pub use self::spans::Span;
pub use self::truncated::TruncatedTokenizer;

use super::chat::{Chat, MarkedChat};
use super::loading::Growth;
use super::special::SpecialToken;
use crate::data::conversation::Message;
use crate::error::{Error, Result};
use crate::guard::guarded;

/// A tokenizer with its special tokens and chat template. Clones share it.
#[derive(Clone)]
pub struct Tokenizer {
    inner: Arc<Inner>,
    /// The chat template, or a variant of it that marks the assistant's text for training.
    chat: Arc<Chat>,
    /// The numbering of tokens of an encoder, whose tokenizer encodes pairs; `None` for a decoder.
    pairs: Option<PairForm>,
}

struct Inner {
    hf: HfTokenizer,
    files: Vec<(String, Vec<u8>)>,
    /// Special tokens named in the tokenizer's own files, which chat templates see.
    named: Vec<(String, String)>,
    bos: Option<SpecialToken>,
    eos: Option<SpecialToken>,
    pad: Option<SpecialToken>,
    /// True if the post-processor begins every text with the BOS.
    prepends_bos: bool,
    /// The side that texts are truncated on.
    truncates: TruncationDirection,
    /// The class of transformers whose rules apply.
    class: &'static str,
    /// A text that the class treats in an unsupported way.
    refused: Option<String>,
    vocab_size: usize,
    /// An upper bound on how much the normalizer lengthens a text.
    growth: Growth,
    /// The number of texts tokenised so far.
    #[cfg(test)]
    calls: std::sync::atomic::AtomicUsize,
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer")
            .field("class", &self.inner.class)
            .field("vocab_size", &self.inner.vocab_size)
            .field("bos", &self.inner.bos)
            .field("eos", &self.inner.eos)
            .field("pad", &self.inner.pad)
            .field("has_chat_template", &self.has_chat_template())
            .finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// Returns the token ids of a text like transformers' `tokenizer(text)`, with the special tokens that the
    /// post-processor adds, regardless of how the text begins.
    ///
    /// # Errors
    /// Fails if the tokenizer cannot encode the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.ids(text, true)
    }

    /// Returns the token ids of a text without added special tokens, like `apply_chat_template`, since the
    /// template writes its own special tokens.
    ///
    /// # Errors
    /// Fails if the tokenizer cannot encode the text.
    pub fn encode_rendered(&self, text: &str) -> Result<Vec<u32>> {
        self.ids(text, false)
    }

    fn ids(&self, text: &str, special: bool) -> Result<Vec<u32>> {
        self.check(text)?;
        #[cfg(test)]
        self.inner.calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let encoded = guarded(|| self.inner.hf.encode_fast(text, special)).map_err(panicked)?;
        let ids = encoded.map_err(failed)?.get_ids().to_vec();
        match self.pairs.and_then(|form| ids.iter().find(|id| **id >= form.vocabulary).map(|id| (form, id))) {
            None => Ok(ids),
            Some((form, id)) => {
                let message = format!("{id} is outside the model's vocabulary of {}", form.vocabulary);
                Err(Error::invalid("token id", message))
            }
        }
    }

    /// Returns the tokens of a text with their places in it. `special` adds the special tokens that the
    /// post-processor adds.
    ///
    /// # Errors
    /// Fails if the tokenizer cannot encode the text.
    pub fn spans(&self, text: &str, special: bool) -> Result<Vec<Span>> {
        self.check(text)?;
        let encoded = guarded(|| self.inner.hf.encode(text, special)).map_err(panicked)?.map_err(failed)?;
        Ok(Span::of(text, &encoded))
    }

    /// Refuses a text that the class treats in an unsupported way, or that may grow without limit.
    fn check(&self, text: &str) -> Result<()> {
        self.inner.growth.check(text).map_err(Error::Text)?;
        match self.inner.refused.as_ref().filter(|refused| text.contains(refused.as_str())) {
            None => Ok(()),
            Some(refused) => Err(Error::Tokenizer(format!(
                "the text contains {refused:?}, which the class {} fills in; that is not served",
                self.inner.class
            ))),
        }
    }

    /// Returns the number of texts that this tokenizer has tokenised.
    #[cfg(test)]
    pub(crate) fn calls(&self) -> usize {
        self.inner.calls.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Returns the class of transformers whose rules the tokenizer follows: `LlamaTokenizer`, or
    /// `TokenizersBackend`, which uses `tokenizer.json` unchanged.
    pub fn class(&self) -> &'static str {
        self.inner.class
    }

    /// Returns the text of token ids, including special tokens.
    ///
    /// # Errors
    /// Fails if the tokenizer cannot decode the ids.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.decoded(ids, false)
    }

    /// Returns the text of token ids without special tokens.
    ///
    /// # Errors
    /// Fails if the tokenizer cannot decode the ids.
    pub fn decode_plain(&self, ids: &[u32]) -> Result<String> {
        self.decoded(ids, true)
    }

    fn decoded(&self, ids: &[u32], plain: bool) -> Result<String> {
        let ids = self.untyped(ids);
        guarded(|| self.inner.hf.decode(&ids, plain)).map_err(panicked)?.map_err(failed)
    }

    /// Returns the token that ends a text.
    pub fn eos(&self) -> Option<&SpecialToken> {
        self.inner.eos.as_ref()
    }

    /// Returns the token that begins a text.
    pub fn bos(&self) -> Option<&SpecialToken> {
        self.inner.bos.as_ref()
    }

    /// Returns the padding token.
    pub fn pad(&self) -> Option<&SpecialToken> {
        self.inner.pad.as_ref()
    }

    /// Returns the size of the vocabulary: one more than the largest id, including added tokens.
    pub fn vocab_size(&self) -> usize {
        self.inner.vocab_size
    }

    /// Returns true if conversations can be rendered.
    pub fn has_chat_template(&self) -> bool {
        matches!(*self.chat, Chat::Ready(_))
    }

    /// Renders a conversation with the chat template.
    ///
    /// # Errors
    /// Fails without a template or messages, or if the template refuses the messages.
    pub fn render_chat(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        self.render_marked(messages, add_generation_prompt).map(|chat| chat.text)
    }

    /// Renders a conversation and returns the parts that the assistant wrote.
    fn render_marked(&self, messages: &[Message], add_generation_prompt: bool) -> Result<MarkedChat> {
        match &*self.chat {
            Chat::None => Err(Error::Tokenizer(
                "the rows are conversations but the tokenizer has no chat template; expected one in \
                 tokenizer_config.json or chat_template.jinja"
                    .to_owned(),
            )),
            Chat::Broken(message) => Err(Error::Tokenizer(message.clone())),
            Chat::Ready(_) if messages.is_empty() => {
                Err(Error::Tokenizer("a conversation without messages cannot be rendered".to_owned()))
            }
            Chat::Ready(template) => {
                template.render_marked(messages, add_generation_prompt, &self.inner.named)
            }
        }
    }

    /// Returns the tokenizer's files, by name, as they were read.
    pub fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.inner.files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
    }

    /// Writes the tokenizer's files into a folder, unchanged.
    ///
    /// # Errors
    /// Fails if the folder cannot be written.
    pub fn save_to(&self, dir: &Path) -> Result<()> {
        files::write(dir, self.files())
    }
}

/// Returns the error for a text that made the library panic.
fn panicked(message: String) -> Error {
    let message = message.replace("retry-limit-in-match over", "its regular expression takes too many steps");
    Error::Text(format!("the tokenizer cannot encode this text: {message}"))
}

fn failed(error: tokenizers::Error) -> Error {
    Error::Tokenizer(error.to_string())
}

#[cfg(test)]
mod tests;
