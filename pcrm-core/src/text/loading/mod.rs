//! Builds a tokenizer from a folder's files, step by step like transformers 5.

mod arguments;
mod file;
mod limits;
mod mistral;
mod settings;
mod special;
mod token;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use tokenizers::{PostProcessorWrapper, Tokenizer as HfTokenizer, TruncationDirection};

pub(super) use self::arguments::{Arguments, Named};
pub(super) use self::file::{Bpe, File};
pub(super) use self::limits::Growth;
use self::settings::{Settings, Sources};
use self::special::put;
pub(super) use self::token::Token;
use super::classes::{self, Again, Build, Built, Class, Dressing, Ending};

/// The files of a folder that determine token ids.
pub(super) struct Files<'a> {
    /// tokenizer.json
    pub tokenizer: &'a [u8],
    /// tokenizer_config.json
    pub config: &'a Map<String, Value>,
    /// special_tokens_map.json
    pub special_map: Option<&'a Map<String, Value>>,
    /// added_tokens.json
    pub added: Option<&'a Map<String, Value>>,
    /// config.json
    pub model_config: Option<&'a Map<String, Value>>,
}

/// A tokenizer as loaded by transformers.
pub(super) struct Loaded {
    pub hf: HfTokenizer,
    /// The named special tokens, as chat templates see them.
    pub named: Vec<(String, String)>,
    /// The side that texts are truncated on.
    pub truncates: TruncationDirection,
    /// The class that loaded it.
    pub class: &'static str,
    /// A text that the class treats in an unsupported way.
    pub refused: Option<String>,
    /// True if the class splits text into bytes or words differently than tokenizer.json.
    pub overrules: bool,
    /// An upper bound on how much the normalizer lengthens a text.
    pub growth: Growth,
}

/// Loads a tokenizer.
///
/// # Errors
/// Fails with a message that names the file, the setting or the class at fault.
pub(super) fn load(files: &Files<'_>) -> Result<Loaded, String> {
    let not_one = |error: &dyn std::fmt::Display| format!("tokenizer.json: not a tokenizer: {error}");
    let file: File<'_> = serde_json::from_slice(files.tokenizer).map_err(|error| not_one(&error))?;
    let growth = limits::check(&file)?;
    let mentions = |text: &[u8]| files.tokenizer.windows(text.len()).any(|window| window == text);
    let name = classes::choose(files.config, files.model_config, || mentions(br#""ByteLevel""#))?;
    let class = classes::find(&name)?;
    let sources = Sources {
        config: files.config,
        special_map: files.special_map,
        added: files.added,
        in_file: &file.added_tokens,
    };
    let Settings { arguments, added } = Settings::read(&sources)?;
    let mut arguments = arguments.with_defaults(class.defaults);
    (class.prepare)(&mut arguments)?;
    let mut overrules = false;
    let hf = match class.build {
        Build::File => HfTokenizer::from_bytes(files.tokenizer).map_err(|error| not_one(&error))?,
        Build::Vocabulary(recipe) => {
            let recipe = recipe(&arguments, &file)?;
            overrules =
                classes::is_byte_level(class) && !file.splits_as(&recipe.normalizer, &recipe.pre_tokenizer);
            let text = format!(
                concat!(
                    r#"{{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":{},"#,
                    r#""pre_tokenizer":{},"post_processor":{},"decoder":{},"model":{}}}"#
                ),
                recipe.normalizer, recipe.pre_tokenizer, file.post_processor, recipe.decoder, recipe.model
            );
            HfTokenizer::from_bytes(text).map_err(|error| not_one(&error))?
        }
    };
    let loading = Loading { class, arguments, added, file, hf, named: Vec::new(), extra: Vec::new() };
    Ok(Loaded { overrules, growth, ..loading.finish(files.model_config)? })
}

/// The steps of `TokenizersBackend.__init__`.
struct Loading<'a> {
    class: &'static Class,
    arguments: Arguments,
    added: BTreeMap<u64, Token>,
    file: File<'a>,
    hf: HfTokenizer,
    named: Vec<(String, Named)>,
    extra: Vec<Named>,
}

impl Loading<'_> {
    fn finish(mut self, model_config: Option<&Map<String, Value>>) -> Result<Loaded, String> {
        let truncates = self.truncation()?;
        // Nothing is padded, and texts are truncated elsewhere, so the file's own settings are switched off.
        self.hf.with_truncation(None).map_err(failed)?;
        self.hf.with_padding(None);
        let flags = ["add_bos_token", "add_eos_token"];
        let updates =
            flags.iter().any(|flag| self.arguments.has(flag)) || self.hf.get_post_processor().is_none();
        self.name_tokens()?;
        self.hf.set_encode_special_tokens(self.arguments.flag("split_special_tokens", false)?);
        self.add_tokens()?;
        mistral::mend(&mut self.hf, &self.arguments, model_config)?;
        if updates {
            self.dress_with_flags()?;
        }
        let ending = self.ending()?;
        let refused = ending.refused.clone();
        self.end(ending, updates)?;
        let named = self.named.into_iter().map(|(key, token)| (key, token.text().to_owned())).collect();
        Ok(Loaded {
            hf: self.hf,
            named,
            truncates,
            class: self.class.name,
            refused,
            overrules: false,
            growth: Growth::NONE,
        })
    }

    /// Returns the side that texts are truncated on; also takes a `pad_token` that only the file's padding
    /// names.
    fn truncation(&mut self) -> Result<TruncationDirection, String> {
        if let (Some(pad), false) = (self.file.padding.get("pad_token"), self.arguments.has("pad_token")) {
            self.arguments.set("pad_token", pad.clone());
        }
        let side = self.arguments.get("truncation_side");
        let side =
            side.or_else(|| self.file.truncation.get("direction")).map(|side| side.as_str().unwrap_or(""));
        match side {
            None | Some("right" | "Right") => Ok(TruncationDirection::Right),
            Some("left" | "Left") => Ok(TruncationDirection::Left),
            Some(other) => Err(format!("truncation_side is {other:?}; expected left or right")),
        }
    }

    /// Sets a post-processor from `add_bos_token` and `add_eos_token`.
    fn dress_with_flags(&mut self) -> Result<(), String> {
        let mut dressing = Dressing::default();
        for (flag, key, texts) in [
            ("add_bos_token", "bos_token", &mut dressing.before),
            ("add_eos_token", "eos_token", &mut dressing.after),
        ] {
            let token = self.named.iter().find(|(name, _)| name == key).map(|(_, token)| token.text());
            if let (true, Some(token)) = (self.arguments.is_true(flag, false), token)
                && let Some(id) = self.id(token)
            {
                texts.push(token.to_owned());
                dressing.ids.push((token.to_owned(), id));
            }
        }
        self.dress(&dressing)
    }

    fn dress(&mut self, dressing: &Dressing) -> Result<(), String> {
        let is_odd = |text: &&String| {
            text.is_empty() || text.starts_with('$') || text.contains(|c: char| c.is_whitespace() || c == ':')
        };
        if let Some(odd) = dressing.before.iter().chain(&dressing.after).find(is_odd) {
            return Err(format!(
                "the class adds the token {odd:?} to every text; expected one without blanks, colons and a \
                 leading $"
            ));
        }
        let token = |text: &str, kind: u32| json!({"SpecialToken": {"id": text, "type_id": kind}});
        let sequence = |name: &str, kind: u32| json!({"Sequence": {"id": name, "type_id": kind}});
        let mut single: Vec<Value> = dressing.before.iter().map(|text| token(text, 0)).collect();
        single.push(sequence("A", 0));
        single.extend(dressing.after.iter().map(|text| token(text, 0)));
        let mut tokens = Map::new();
        for (text, id) in &dressing.ids {
            tokens.insert(text.clone(), json!({"id": text, "ids": [id], "tokens": [text]}));
        }
        let pair = match &dressing.pair {
            None => vec![sequence("A", 0), sequence("B", 0)],
            Some((between, kind)) => {
                let mut pair: Vec<Value> = dressing.before.iter().map(|text| token(text, 0)).collect();
                pair.push(sequence("A", 0));
                pair.extend(between.iter().map(|text| token(text, 0)));
                pair.push(sequence("B", *kind));
                pair.extend(dressing.after.iter().map(|text| token(text, *kind)));
                pair
            }
        };
        let template = json!({"type": "TemplateProcessing", "single": single, "pair": pair,
            "special_tokens": tokens});
        let template: PostProcessorWrapper =
            serde_json::from_value(template).map_err(|error| error.to_string())?;
        self.hf.with_post_processor(Some(template));
        Ok(())
    }

    fn ending(&self) -> Result<Ending, String> {
        let id = |text: &str| self.id(text);
        let is_bare = self.file.post_processor.is_null();
        let built = Built { arguments: &self.arguments, named: &self.named, is_bare, id: &id };
        (self.class.finish)(&built).map_err(|message| format!("{}: {message}", self.class.name))
    }

    fn end(&mut self, ending: Ending, updates: bool) -> Result<(), String> {
        if let Some(dressing) = &ending.dressing {
            self.dress(dressing)?;
        }
        if ending.updates {
            self.dress_with_flags()?;
        }
        if let Some(normalizer) = ending.normalizer {
            let normalizer: tokenizers::NormalizerWrapper =
                serde_json::from_value(normalizer).map_err(|error| error.to_string())?;
            self.hf.with_normalizer(Some(normalizer)).map_err(failed)?;
        }
        if let Some((key, text)) = ending.renamed {
            put(&mut self.named, key, Named::Text(text));
        }
        self.add_again(&ending.again)?;
        if ending.again == Again::AsTheyAre && updates {
            self.dress_with_flags()?;
        }
        Ok(())
    }

    /// Returns the id of a token, or of the unknown token.
    fn id(&self, text: &str) -> Option<u32> {
        let unk = || {
            let (_, unk) = self.named.iter().find(|(key, _)| key == "unk_token")?;
            self.hf.token_to_id(unk.text())
        };
        self.hf.token_to_id(text).or_else(unk)
    }
}

fn failed(error: tokenizers::Error) -> String {
    error.to_string()
}
