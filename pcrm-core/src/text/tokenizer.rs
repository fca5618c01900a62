//! The tokenizer of a checkpoint: Hugging Face's `tokenizer.json` and the files beside it.

mod facts;
mod truncated;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};
use tokenizers::{AddedToken, Tokenizer as HfTokenizer, TruncationDirection};

pub use self::truncated::TruncatedTokenizer;

use super::chat::Chat;
use super::qwen2;
use super::special::{SpecialToken, SpecialTokens, configured_id, named_tokens};
use crate::data::conversation::Message;
use crate::error::{Error, Result};
use crate::guard::guarded;

/// The files of a tokenizer, all but the first optional.
pub const FILES: [&str; 10] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "tokenizer.model",
];

/// A tokenizer with its special tokens and chat template. Clones share it.
#[derive(Clone)]
pub struct Tokenizer {
    inner: Arc<Inner>,
}

struct Inner {
    hf: HfTokenizer,
    files: Vec<(String, Vec<u8>)>,
    named: Vec<(String, String)>,
    bos: Option<SpecialToken>,
    eos: Option<SpecialToken>,
    pad: Option<SpecialToken>,
    /// Whether the post-processor begins every text with the BOS.
    prepends_bos: bool,
    /// The side on which texts are cut, where they are.
    truncates: TruncationDirection,
    vocab_size: usize,
    chat: Chat,
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer")
            .field("vocab_size", &self.inner.vocab_size)
            .field("bos", &self.inner.bos)
            .field("eos", &self.inner.eos)
            .field("pad", &self.inner.pad)
            .field("has_chat_template", &self.has_chat_template())
            .finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// Reads the tokenizer of a checkpoint's folder.
    ///
    /// Special tokens come from `tokenizer_config.json`, then `special_tokens_map.json`, then the ids in
    /// `config.json` and `generation_config.json`.
    ///
    /// # Errors
    /// No `tokenizer.json`, and files that cannot be read.
    pub fn from_dir(dir: &Path) -> Result<Self> {
        let mut files = Vec::new();
        for name in FILES {
            let path = dir.join(name);
            match std::fs::read(&path) {
                Ok(bytes) => files.push((name.to_owned(), bytes)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound && name != FILES[0] => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    let message = "not found; expected Hugging Face's tokenizer.json (a tokenizer without one is \
                                   converted by AutoTokenizer.from_pretrained(..).save_pretrained(..))";
                    return Err(Error::file(path, message));
                }
                Err(cause) => return Err(Error::Io { path, cause }),
            }
        }
        let mut configs = Vec::new();
        for name in ["config.json", "generation_config.json"] {
            if let Ok(bytes) = std::fs::read(dir.join(name)) {
                configs.push(object(dir, name, &bytes)?);
            }
        }
        Self::assemble(dir, files, &configs)
    }

    /// Makes a tokenizer that no checkpoint has yet; [`Tokenizer::save_to`] then writes files that transformers'
    /// `AutoTokenizer` loads.
    ///
    /// # Errors
    /// A tokenizer that does not serialise.
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
        let files = vec![(FILES[0].to_owned(), text.into_bytes()), (FILES[1].to_owned(), config)];
        Self::assemble(Path::new(""), files, &[])
    }

    fn assemble(dir: &Path, files: Vec<(String, Vec<u8>)>, configs: &[Map<String, Value>]) -> Result<Self> {
        let bytes = |name: &str| files.iter().find(|file| file.0 == name).map(|file| file.1.as_slice());
        let json = |name: &str| bytes(name).map_or_else(|| Ok(Map::new()), |bytes| object(dir, name, bytes));
        let config = json("tokenizer_config.json")?;
        let wrong =
            |error: &dyn fmt::Display| Error::file(dir.join(FILES[0]), format!("not a tokenizer: {error}"));
        let mut hf = guarded(|| HfTokenizer::from_bytes(bytes(FILES[0]).unwrap_or_default()))
            .map_err(|message| wrong(&message))?
            .map_err(|error| wrong(&error))?;
        let truncates = match config.get("truncation_side").and_then(Value::as_str) {
            Some("left") => TruncationDirection::Left,
            Some(_) => TruncationDirection::Right,
            None => hf.get_truncation().map(|cut| cut.direction).unwrap_or_default(),
        };
        // Sequences are packed here and cut here: neither is the tokenizer's business.
        hf.with_truncation(None).map_err(failed)?;
        hf.with_padding(None);

        let mut named = named_tokens(&[&config, &json("special_tokens_map.json")?]);
        if qwen2::is_imposed(&config, configs.first().filter(|config| config.contains_key("model_type"))) {
            qwen2::impose(&mut hf, &config, dir)?;
        }
        add_tokens(&mut hf, &config, &named)?;
        for (key, id_key) in
            [("bos_token", "bos_token_id"), ("eos_token", "eos_token_id"), ("pad_token", "pad_token_id")]
        {
            let unnamed = named.iter().all(|(known, _)| known != key);
            if unnamed && let Some(text) = configured_id(configs, id_key).and_then(|id| hf.id_to_token(id)) {
                named.push((key.to_owned(), text));
            }
        }
        let special = |key: &str| {
            let (_, text) = named.iter().find(|(known, _)| known == key)?;
            Some(SpecialToken { text: text.clone(), id: hf.token_to_id(text)? })
        };
        let (bos, eos, pad) = (special("bos_token"), special("eos_token"), special("pad_token"));
        let bare = hf.encode("a", false).map_err(failed)?;
        let dressed = hf.encode("a", true).map_err(failed)?;
        let prepends_bos = bos.as_ref().is_some_and(|bos| {
            dressed.get_ids().first() == Some(&bos.id) && bare.get_ids().first() != Some(&bos.id)
        });
        let vocab_size = hf.get_vocab(true).values().max().map_or(0, |last| *last as usize + 1);
        let chat = Chat::find(&config, bytes("chat_template.jinja"), bytes("chat_template.json"));
        let inner = Inner { hf, files, named, bos, eos, pad, prepends_bos, truncates, vocab_size, chat };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Token ids of a text, as transformers' `tokenizer(text)` gives them: with the special tokens that the
    /// post-processor adds, except a BOS that the text already begins with.
    ///
    /// # Errors
    /// Those of the tokenizer.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = self.inner.hf.encode_fast(text, true).map_err(failed)?.get_ids().to_vec();
        if let Some(bos) = self.inner.bos.as_ref().filter(|_| self.inner.prepends_bos)
            && text.starts_with(&bos.text)
            && ids.starts_with(&[bos.id, bos.id])
        {
            ids.remove(0);
        }
        Ok(ids)
    }

    /// Token ids of a text and nothing more: what `apply_chat_template` does with what a template wrote, special
    /// tokens being the template's business.
    ///
    /// # Errors
    /// Those of the tokenizer.
    pub fn encode_rendered(&self, text: &str) -> Result<Vec<u32>> {
        Ok(self.inner.hf.encode_fast(text, false).map_err(failed)?.get_ids().to_vec())
    }

    /// The text of token ids, special tokens included.
    ///
    /// # Errors
    /// Those of the tokenizer.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.inner.hf.decode(ids, false).map_err(failed)
    }

    /// The text of token ids without special tokens.
    ///
    /// # Errors
    /// Those of the tokenizer.
    pub fn decode_plain(&self, ids: &[u32]) -> Result<String> {
        self.inner.hf.decode(ids, true).map_err(failed)
    }

    /// The token that ends a text.
    pub fn eos(&self) -> Option<&SpecialToken> {
        self.inner.eos.as_ref()
    }

    /// The token that begins a text.
    pub fn bos(&self) -> Option<&SpecialToken> {
        self.inner.bos.as_ref()
    }

    /// The token that fills up.
    pub fn pad(&self) -> Option<&SpecialToken> {
        self.inner.pad.as_ref()
    }

    /// One more than the largest id, added tokens included.
    pub fn vocab_size(&self) -> usize {
        self.inner.vocab_size
    }

    /// Whether conversations can be rendered.
    pub fn has_chat_template(&self) -> bool {
        matches!(self.inner.chat, Chat::Ready(_))
    }

    /// Renders a conversation with the chat template.
    ///
    /// # Errors
    /// No template, no messages, and what the template refuses.
    pub fn render_chat(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        match &self.inner.chat {
            Chat::None => Err(Error::Tokenizer(
                "the rows are conversations but the tokenizer has no chat template; expected one in \
                 tokenizer_config.json or chat_template.jinja"
                    .to_owned(),
            )),
            Chat::Broken(message) => Err(Error::Tokenizer(message.clone())),
            Chat::Ready(_) if messages.is_empty() => {
                Err(Error::Tokenizer("a conversation without messages cannot be rendered".to_owned()))
            }
            Chat::Ready(template) => template.render(messages, add_generation_prompt, &self.inner.named),
        }
    }

    /// The tokenizer's files, by name, as they were read.
    pub fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.inner.files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
    }

    /// Writes the tokenizer's files into a folder, unchanged.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn save_to(&self, dir: &Path) -> Result<()> {
        std::fs::create_dir_all(dir).map_err(Error::io(dir))?;
        for (name, bytes) in self.files() {
            let path = dir.join(name);
            std::fs::write(&path, bytes).map_err(Error::io(&path))?;
        }
        Ok(())
    }
}

fn failed(error: tokenizers::Error) -> Error {
    Error::Tokenizer(error.to_string())
}

fn object(dir: &Path, name: &str, bytes: &[u8]) -> Result<Map<String, Value>> {
    serde_json::from_slice(bytes)
        .map_err(|error| Error::file(dir.join(name), format!("{error}; expected a JSON object")))
}

/// Adds the tokens that only the configuration knows, as transformers does on loading.
fn add_tokens(hf: &mut HfTokenizer, config: &Map<String, Value>, named: &[(String, String)]) -> Result<()> {
    let decoder = config.get("added_tokens_decoder").and_then(Value::as_object);
    let mut added: Vec<(u64, AddedToken)> = Vec::new();
    for (id, token) in decoder.into_iter().flatten() {
        let (Ok(id), Some(text)) = (id.parse(), token["content"].as_str()) else { continue };
        let flag = |key: &str, default| token[key].as_bool().unwrap_or(default);
        let special = flag("special", false);
        let token = AddedToken::from(text, special)
            .lstrip(flag("lstrip", false))
            .rstrip(flag("rstrip", false))
            .single_word(flag("single_word", false))
            .normalized(flag("normalized", !special));
        added.push((id, token));
    }
    // New tokens get the next ids in the order they come.
    added.sort_by_key(|(id, _)| *id);
    let known: Vec<String> = hf.get_added_tokens_decoder().into_values().map(|token| token.content).collect();
    let mut new: Vec<AddedToken> = added.into_iter().map(|(_, token)| token).collect();
    for (_, text) in named {
        if new.iter().all(|token| token.content != *text) {
            new.push(AddedToken::from(text.as_str(), true));
        }
    }
    new.retain(|token| !known.contains(&token.content));
    for token in new {
        let outcome = if token.special { hf.add_special_tokens([token]) } else { hf.add_tokens([token]) };
        outcome.map_err(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
