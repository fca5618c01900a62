//! Opening a tokenizer from the files of a folder or from its parts in memory.

use std::path::Path;
use std::sync::{Arc, Once};

use serde_json::{Map, Value};
use tokenizers::Tokenizer as HfTokenizer;

use super::files::{self, CONFIG, TOKENIZER, object, object_at};
use super::{Chat, Inner, Tokenizer, failed};
use crate::error::{Error, Result};
use crate::guard::guarded;
use crate::model::types;
use crate::text::loading::{self, Files, Loaded};
use crate::text::special::{SpecialToken, SpecialTokens, configured_id};

/// Limits the warning to one per process, because commands read the same tokenizer several times.
static OVERRULED: Once = Once::new();

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
        // Detects a tokenizer that makes the library panic for any text.
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
