//! The tokenizer of a checkpoint: Hugging Face's `tokenizer.json` and related files.

mod assistant;
mod facts;
mod files;
mod pairs;
mod spans;
mod truncated;

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Once};

use serde_json::{Map, Value};
use tokenizers::{Tokenizer as HfTokenizer, TruncationDirection};

pub use self::files::{TOKENIZER, is_tokenizer_file};
pub use self::pairs::PairForm;
pub use self::spans::Span;
pub use self::truncated::TruncatedTokenizer;

use self::files::{CONFIG, object, object_at};
use super::chat::{Chat, MarkedChat};
use super::loading::{self, Files, Growth, Loaded};
use super::special::{SpecialToken, SpecialTokens, configured_id};
use crate::data::conversation::Message;
use crate::error::{Error, Result};
use crate::guard::guarded;
use crate::model::types;

/// A tokenizer with its special tokens and chat template. Clones share it.
#[derive(Clone)]
pub struct Tokenizer {
    inner: Arc<Inner>,
    /// The chat template, or a variant of it that marks the assistant's text for training.
    chat: Arc<Chat>,
    /// The numbering of tokens of an encoder, whose tokenizer encodes pairs; `None` for a decoder.
    pairs: Option<PairForm>,
}

/// Limits the warning to one per process, because commands read the same tokenizer several times.
static OVERRULED: Once = Once::new();

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
    /// The side on which texts are truncated.
    truncates: TruncationDirection,
    /// The class of transformers whose rules apply.
    class: &'static str,
    /// A text that the class treats in an unsupported way.
    refused: Option<String>,
    vocab_size: usize,
    /// The factor by which the normalizer lengthens texts.
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
    /// Reads the tokenizer of a checkpoint's folder, as transformers 5 loads it with `AutoTokenizer`.
    ///
    /// The tokenizer's own files and `config.json` determine the class. The ids in `config.json` and
    /// `generation_config.json` name BOS, EOS and padding if the tokenizer names none; chat templates do not
    /// see them.
    ///
    /// # Errors
    /// Fails if `tokenizer.json` is missing, a file cannot be read, or the class is not supported.
    pub fn from_dir(dir: &Path) -> Result<Self> {
        let files = files::read(dir)?;
        let [model_config, generation] = ["config.json", "generation_config.json"].map(|name| {
            let path = dir.join(name);
            let object = object_at(&path)?;
            let read =
                |key: &str| key.ends_with("_token_id") || key == "tokenizer_class" || key == "model_type";
            object.iter().try_for_each(|object| types::check(object, &path, read))?;
            Ok::<_, Error>(object)
        });
        let (model_config, generation) = (model_config?, generation?);
        Self::assemble(dir, files, model_config.as_ref(), generation.as_ref())
    }

    /// Creates a tokenizer in memory; [`Tokenizer::save_to`] writes files that transformers' `AutoTokenizer`
    /// loads.
    ///
    /// # Errors
    /// Fails if the tokenizer cannot be serialised.
    pub fn from_parts(
        hf: &HfTokenizer,
        special: &SpecialTokens,
        chat_template: Option<&str>,
    ) -> Result<Self> {
        let text = hf.to_string(true).map_err(failed)?;
        let mut config = Map::new();
        config.insert("tokenizer_class".to_owned(), Value::from("PreTrainedTokenizerFast"));
        config.insert("clean_up_tokenization_spaces".to_owned(), Value::from(false));
        if let Ok(Value::Object(special)) = serde_json::to_value(special) {
            config.extend(special);
        }
        if let Some(template) = chat_template {
            config.insert("chat_template".to_owned(), Value::from(template));
        }
        let config =
            serde_json::to_vec_pretty(&config).map_err(|error| Error::Tokenizer(error.to_string()))?;
        let files = vec![(TOKENIZER.to_owned(), text.into_bytes()), (CONFIG.to_owned(), config)];
        Self::assemble(Path::new(""), files, None, None)
    }

    fn assemble(
        dir: &Path,
        files: Vec<(String, Vec<u8>)>,
        model_config: Option<&Map<String, Value>>,
        generation: Option<&Map<String, Value>>,
    ) -> Result<Self> {
        let bytes = |name: &str| files.iter().find(|file| file.0 == name).map(|file| file.1.as_slice());
        let json = |name: &str| bytes(name).map(|bytes| object(&dir.join(name), bytes)).transpose();
        let config = json(CONFIG)?.unwrap_or_default();
        let (special_map, added) = (json("special_tokens_map.json")?, json("added_tokens.json")?);
        let read = Files {
            tokenizer: bytes(TOKENIZER).unwrap_or_default(),
            config: &config,
            special_map: special_map.as_ref(),
            added: added.as_ref(),
            model_config,
        };
        let wrong = |message: String| located(dir, &files, &message);
        let Loaded { hf, named, truncates, class, refused, overrules, growth } =
            guarded(|| loading::load(&read)).map_err(wrong)?.map_err(wrong)?;

        // A folder written by pcrm needs no warning: it was issued when the source was read.
        if overrules && !dir.join("manifest.json").exists() {
            OVERRULED.call_once(|| {
                tracing::warn!(
                    "{}: tokenizer.json splits text differently than transformers' class {class}, which \
                     AutoTokenizer uses; token ids follow the class",
                    dir.display()
                );
            });
        }
        let configs: Vec<&Map<String, Value>> = model_config.into_iter().chain(generation).collect();
        let special = |key: &str| {
            let own = named.iter().find(|(known, _)| known == key).map(|(_, text)| text.clone());
            let text = own.or_else(|| hf.id_to_token(configured_id(&configs, &format!("{key}_id"))?))?;
            Some(SpecialToken { id: hf.token_to_id(&text)?, text })
        };
        let (bos, eos, pad) = (special("bos_token"), special("eos_token"), special("pad_token"));
        // Detects a tokenizer on which the library panics for any text.
        let ids = |special: bool| guarded(|| hf.encode("a", special)).map(std::result::Result::ok);
        let broken = |message: String| wrong(format!("{TOKENIZER}: cannot encode a text: {message}"));
        let (bare, dressed) = (ids(false).map_err(broken)?, ids(true).map_err(broken)?);
        let prepends_bos = bos.as_ref().is_some_and(|bos| match (bare, dressed) {
            (Some(bare), Some(dressed)) => {
                dressed.get_ids().first() == Some(&bos.id) && bare.get_ids().first() != Some(&bos.id)
            }
            _ => false,
        });
        let vocab_size = hf.get_vocab(true).values().max().map_or(0, |last| *last as usize + 1);
        let chat = Chat::find(&config, &files);
        let inner = Inner {
            hf,
            files,
            named,
            bos,
            eos,
            pad,
            prepends_bos,
            truncates,
            class,
            refused,
            vocab_size,
            growth,
            #[cfg(test)]
            calls: Default::default(),
        };
        Ok(Self { inner: Arc::new(inner), chat: Arc::new(chat), pairs: None })
    }

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

/// Creates an error about the file named at the start of the message, or otherwise about the settings or the
/// tokenizer.
fn located(dir: &Path, files: &[(String, Vec<u8>)], message: &str) -> Error {
    let named = message.split_once(": ").filter(|(name, _)| files.iter().any(|(file, _)| file == name));
    match named {
        Some((name, rest)) => Error::file(dir.join(name), rest),
        None => {
            let has_settings = files.iter().any(|(file, _)| file == CONFIG);
            Error::file(dir.join(if has_settings { CONFIG } else { TOKENIZER }), message)
        }
    }
}

/// Returns the error for a text on which the library panicked.
fn panicked(message: String) -> Error {
    let message = message.replace("retry-limit-in-match over", "its regular expression takes too many steps");
    Error::Text(format!("the tokenizer cannot encode this text: {message}"))
}

fn failed(error: tokenizers::Error) -> Error {
    Error::Tokenizer(error.to_string())
}

#[cfg(test)]
mod tests;
