//! The settings that a tokenizer's files pass to its class, like transformers'
//! `PreTrainedTokenizerBase._from_pretrained`.
//!
//! If tokenizer_config.json has `added_tokens_decoder`, only it names added tokens, and
//! special_tokens_map.json and added_tokens.json are not read. Otherwise special_tokens_map.json overrides
//! tokenizer_config.json, and added_tokens.json and the tokens of tokenizer.json are combined.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::arguments::{Arguments, STANDARD, is_true};
use super::token::Token;

/// The files with settings, if the folder has them.
pub(in crate::text) struct Sources<'a> {
    pub config: &'a Map<String, Value>,
    pub special_map: Option<&'a Map<String, Value>>,
    pub added: Option<&'a Map<String, Value>>,
    /// The `added_tokens` of tokenizer.json.
    pub in_file: &'a [Value],
}

/// A class's arguments, and the tokens added to its vocabulary, by id.
pub(in crate::text) struct Settings {
    pub arguments: Arguments,
    pub added: BTreeMap<u64, Token>,
}

impl Settings {
    /// Reads the settings.
    ///
    /// # Errors
    /// Fails with a message that names the file and the field at fault.
    pub fn read(sources: &Sources<'_>) -> Result<Self, String> {
        let mut fields = sources.config.clone();
        for key in ["tokenizer_class", "init_inputs", "add_bos_token", "add_eos_token", "chat_template"] {
            fields.shift_remove(key);
        }
        let is_empty = |value: Option<&Value>| value.is_none_or(|value| !is_true(value));
        if is_empty(fields.get("extra_special_tokens"))
            && let Some(tokens) = fields.shift_remove("additional_special_tokens")
        {
            fields.insert("extra_special_tokens".to_owned(), tokens);
        }
        let mut specific: Map<String, Value> = fields
            .iter()
            .filter(|(key, value)| {
                key.ends_with("_token") && !STANDARD.contains(&key.as_str()) && value.is_string()
            })
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        fields.retain(|key, _| !specific.contains_key(key));
        if let Some(Value::Object(tokens)) = fields.get("extra_special_tokens") {
            specific.extend(tokens.clone());
            fields.shift_remove("extra_special_tokens");
        }
        if !specific.is_empty() {
            fields.insert("model_specific_special_tokens".to_owned(), Value::Object(specific));
        }

        let mut added = BTreeMap::new();
        if let Some(decoder) = fields.shift_remove("added_tokens_decoder") {
            let wrong = |message: String| format!("tokenizer_config.json: added_tokens_decoder: {message}");
            let Value::Object(decoder) = decoder else {
                return Err(wrong("expected an object of tokens by id".to_owned()));
            };
            for (id, token) in decoder {
                let number = id.trim().parse().map_err(|_| wrong(format!("{id:?} is not an id")))?;
                let Value::Object(token) = token else {
                    return Err(wrong(format!("{id}: is {token}; expected an object with \"content\"")));
                };
                let token = Token::of_object(&token).map_err(|message| wrong(format!("{id}: {message}")))?;
                added.insert(number, token);
            }
        } else {
            merge_special_map(&mut fields, sources.special_map)?;
            add_legacy(&mut added, &fields, sources)?;
        }
        let by_text: BTreeMap<&str, &Token> =
            added.values().map(|token| (token.content.as_str(), token)).collect();
        for key in STANDARD {
            let text = match fields.get(key) {
                Some(Value::String(text)) => text.clone(),
                Some(value) => match Token::of_marked(value) {
                    Some(token) => token.map_err(|message| format!("{key}: {message}"))?.content,
                    None => continue,
                },
                None => continue,
            };
            if let Some(token) = by_text.get(text.as_str()) {
                fields.insert(key.to_owned(), token.to_value());
            }
        }
        Ok(Self { arguments: Arguments::new(fields), added })
    }
}

/// Merges special_tokens_map.json, which takes precedence.
fn merge_special_map(
    fields: &mut Map<String, Value>,
    special_map: Option<&Map<String, Value>>,
) -> Result<(), String> {
    let wrong = |key: &str, message: String| format!("special_tokens_map.json: {key}: {message}");
    let token = |key: &str, token: &Map<String, Value>| {
        let token = Token::of_object(token).map_err(|message| wrong(key, message))?;
        Ok::<_, String>(Token { special: true, ..token }.to_value())
    };
    for (key, value) in special_map.into_iter().flatten() {
        let value = match value {
            Value::Object(fields) if key != "extra_special_tokens" => token(key, fields)?,
            Value::Array(items) if key == "extra_special_tokens" => {
                let mut all = match fields.get(key) {
                    Some(Value::Array(existing)) => existing.clone(),
                    Some(value) if is_true(value) => {
                        return Err(wrong(
                            key,
                            format!("tokenizer_config.json has {value}; expected a list"),
                        ));
                    }
                    _ => Vec::new(),
                };
                for item in items {
                    let item = match item {
                        Value::Object(fields) => token(key, fields)?,
                        other => other.clone(),
                    };
                    if !all.contains(&item) {
                        all.push(item);
                    }
                }
                Value::Array(all)
            }
            other => other.clone(),
        };
        fields.insert(key.clone(), value);
    }
    if let Some(Value::Object(tokens)) = fields.get("extra_special_tokens") {
        let tokens = tokens.clone();
        fields.shift_remove("extra_special_tokens");
        let specific =
            fields.entry("model_specific_special_tokens").or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(specific) = specific {
            specific.extend(tokens);
        }
    }
    Ok(())
}

/// Merges added_tokens.json and the tokens that tokenizer.json adds; the latter take precedence.
fn add_legacy(
    added: &mut BTreeMap<u64, Token>,
    fields: &Map<String, Value>,
    sources: &Sources<'_>,
) -> Result<(), String> {
    if let Some(tokens) = sources.added {
        // At this point, marked objects of tokenizer_config.json are not yet read as tokens.
        let text = |key: &str, value: &Value| match value {
            Value::String(text) => Some(text.clone()),
            Value::Object(_) if sources.special_map.is_some_and(|map| map.contains_key(key)) => {
                Token::of_marked(value).and_then(Result::ok).map(|token| token.content)
            }
            _ => None,
        };
        let mut special: Vec<String> =
            STANDARD.iter().filter_map(|key| text(key, fields.get(*key)?)).collect();
        let extra = "extra_special_tokens";
        if let Some(Value::Array(tokens)) = fields.get(extra) {
            special.extend(tokens.iter().filter_map(|token| text(extra, token)));
        }
        for (content, id) in tokens {
            let id = id
                .as_u64()
                .ok_or_else(|| format!("added_tokens.json: {content:?} is {id}; expected an id"))?;
            let special = special.contains(content);
            let token = Token {
                content: content.clone(),
                special,
                lstrip: Some(false),
                rstrip: Some(false),
                normalized: Some(!special),
                ..Token::default()
            };
            added.insert(id, token);
        }
    }
    for token in sources.in_file {
        let wrong = |message: &str| format!("tokenizer.json: added_tokens: {message}");
        let fields = token.as_object().ok_or_else(|| wrong("has an element that is not an object"))?;
        let id = fields.get("id").and_then(Value::as_u64).ok_or_else(|| wrong("a token has no id"))?;
        added.insert(id, Token::of_object(fields).map_err(|message| wrong(&message))?);
    }
    Ok(())
}
