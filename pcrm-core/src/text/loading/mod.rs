//! Builds a tokenizer from a folder's files, step by step like transformers 5.

mod arguments;
mod file;
mod limits;
mod settings;
mod token;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use tokenizers::{AddedToken, PostProcessorWrapper, Tokenizer as HfTokenizer, TruncationDirection};

use self::arguments::STANDARD;
pub(super) use self::arguments::{Arguments, Named};
pub(super) use self::file::{Bpe, File};
pub(super) use self::limits::Growth;
use self::settings::{Settings, Sources};
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
    /// The side on which texts are truncated.
    pub truncates: TruncationDirection,
    /// The class that loaded it.
    pub class: &'static str,
    /// A text that the class treats in an unsupported way.
    pub refused: Option<String>,
    /// True if the class splits text into bytes or words differently than tokenizer.json.
    pub overrules: bool,
    /// The factor by which the normalizer lengthens texts.
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
        // Packing and truncation happen elsewhere, so the tokenizer's own are switched off.
        self.hf.with_truncation(None).map_err(failed)?;
        self.hf.with_padding(None);
        let flags = ["add_bos_token", "add_eos_token"];
        let updates =
            flags.iter().any(|flag| self.arguments.has(flag)) || self.hf.get_post_processor().is_none();
        self.name_tokens()?;
        self.hf.set_encode_special_tokens(self.arguments.flag("split_special_tokens", false)?);
        self.add_tokens()?;
        self.mend_mistral(model_config)?;
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

    /// Returns the side on which texts are truncated; also takes a `pad_token` that only the file's padding
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

    /// Collects the special tokens with and without names.
    fn name_tokens(&mut self) -> Result<(), String> {
        if !self.arguments.has("extra_special_tokens")
            && let Some(tokens) = self.arguments.take("additional_special_tokens")
        {
            self.arguments.set("extra_special_tokens", tokens);
        }
        for key in STANDARD {
            if let Some(token) = self.arguments.named(key)? {
                self.named.push((key.to_owned(), token));
            }
        }
        let mut specific: Vec<(String, Named)> = Vec::new();
        match self.arguments.get("extra_special_tokens") {
            None | Some(Value::Null) => {}
            Some(Value::Array(tokens)) => {
                let named = tokens.iter().map(|token| Named::expect("extra_special_tokens", token));
                self.extra = named.collect::<Result<_, _>>()?;
            }
            Some(Value::Object(tokens)) if Token::of_marked(&Value::Object(tokens.clone())).is_none() => {
                for (key, token) in tokens {
                    specific.push((key.clone(), Named::expect(key, token)?));
                }
            }
            Some(other) => return Err(format!("extra_special_tokens is {other}; expected a list of tokens")),
        }
        for (key, value) in self.arguments.iter() {
            let is_token = value.is_string() || Token::of_marked(value).is_some();
            if key.ends_with("_token") && !STANDARD.contains(&key.as_str()) && is_token {
                put(&mut specific, key, Named::expect(key, value)?);
            }
        }
        match self.arguments.get("model_specific_special_tokens") {
            None | Some(Value::Null) => {}
            Some(Value::Object(tokens)) => {
                for (key, value) in tokens {
                    put(&mut specific, key, Named::expect(key, value)?);
                }
            }
            Some(other) => {
                return Err(format!("model_specific_special_tokens is {other}; expected tokens by name"));
            }
        }
        for (key, token) in specific {
            put(&mut self.named, &key, token);
        }
        Ok(())
    }

    /// Adds the tokens of the files in the order of their ids, then special tokens missing from the
    /// vocabulary.
    fn add_tokens(&mut self) -> Result<(), String> {
        let mut tokens: Vec<Token> = self.added.values().cloned().collect();
        let mut known: Vec<String> =
            self.hf.get_added_tokens_decoder().into_values().map(|token| token.content).collect();
        known.extend(tokens.iter().map(|token| token.content.clone()));
        let special = self.named.iter().map(|(_, token)| token).chain(&self.extra);
        tokens.extend(special.filter(|token| !known.iter().any(|text| text == token.text())).map(plain));
        let added: Vec<AddedToken> = tokens
            .into_iter()
            .map(|token| {
                let named = self.named.iter().any(|(_, named)| named.text() == token.content);
                Token { special: token.special || named, ..token }.added()
            })
            .collect();
        self.hf.add_tokens(added).map_err(failed)?;
        Ok(())
    }

    /// Adds all special tokens a second time, like `_post_init` and Qwen2's class.
    fn add_again(&mut self, again: &Again) -> Result<(), String> {
        let special = self.named.iter().map(|(_, token)| token).chain(&self.extra);
        match again {
            Again::No => {}
            Again::AsTheyAre => {
                let tokens = special.map(|token| match token {
                    Named::Text(text) => Token { normalized: Some(false), ..Token::special(text) },
                    Named::Token(token) => Token { special: true, ..token.clone() },
                });
                let tokens: Vec<AddedToken> = tokens.map(|token| token.added()).collect();
                self.hf.add_special_tokens(tokens).map_err(failed)?;
            }
            Again::Plain => {
                let mut texts: Vec<&str> = Vec::new();
                for token in special {
                    if !texts.contains(&token.text()) {
                        texts.push(token.text());
                    }
                }
                let tokens: Vec<AddedToken> =
                    texts.into_iter().map(|text| Token::special(text).added()).collect();
                self.hf.add_tokens(tokens).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Applies `fix_mistral_regex` of tokenizer_config.json, which affects large Mistral vocabularies.
    fn mend_mistral(&mut self, model_config: Option<&Map<String, Value>>) -> Result<(), String> {
        const PATTERN: &str = concat!(
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
            r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}",
            r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        );
        const TYPES: [&str; 5] = ["mistral", "mistral3", "voxtral", "ministral", "pixtral"];
        let Some(model_config) = model_config else { return Ok(()) };
        let entry = |key: &str| model_config.get(key).and_then(Value::as_str);
        let is_old = entry("transformers_version").is_none_or(|version| {
            version
                .split('.')
                .next()
                .and_then(|major| major.parse::<u32>().ok())
                .is_some_and(|major| major < 5)
        });
        let wanted = self.arguments.get("fix_mistral_regex") == Some(&Value::Bool(true));
        let is_mistral = entry("model_type").is_none_or(|model_type| TYPES.contains(&model_type));
        if !(wanted && is_old && is_mistral && self.hf.get_vocab_size(true) > 100_000) {
            return Ok(());
        }
        let Some(current) = self.hf.get_pre_tokenizer() else { return Ok(()) };
        let current = serde_json::to_value(current).map_err(|error| error.to_string())?;
        let split =
            json!({"type": "Split", "pattern": {"Regex": PATTERN}, "behavior": "Isolated", "invert": false});
        let parts = match (current["type"].as_str(), current["pretokenizers"].as_array()) {
            (Some("Sequence"), Some(parts)) => {
                std::iter::once(split).chain(parts.iter().skip(1).cloned()).collect()
            }
            (Some("Metaspace"), _) => vec![
                split,
                json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
                    "use_regex": false}),
            ],
            _ => vec![split, current],
        };
        let mended = json!({"type": "Sequence", "pretokenizers": Value::Array(parts)});
        let mended: tokenizers::PreTokenizerWrapper =
            serde_json::from_value(mended).map_err(|error| error.to_string())?;
        self.hf.with_pre_tokenizer(Some(mended));
        Ok(())
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

/// Returns a special token to add; text without flags makes a plain one.
fn plain(token: &Named) -> Token {
    match token {
        Named::Text(text) => Token::special(text),
        Named::Token(token) => token.clone(),
    }
}

fn put(named: &mut Vec<(String, Named)>, key: &str, token: Named) {
    match named.iter_mut().find(|(name, _)| name == key) {
        Some((_, old)) => *old = token,
        None => named.push((key.to_owned(), token)),
    }
}

fn failed(error: tokenizers::Error) -> String {
    error.to_string()
}
