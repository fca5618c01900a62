//! Special tokens: collecting them with and without names, and adding them to the vocabulary.

use serde_json::Value;
use tokenizers::AddedToken;

use super::arguments::STANDARD;
use super::{Again, Loading, Named, Token, failed};

impl Loading<'_> {
    /// Collects the special tokens with and without names.
    pub(super) fn name_tokens(&mut self) -> Result<(), String> {
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
    pub(super) fn add_tokens(&mut self) -> Result<(), String> {
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
    pub(super) fn add_again(&mut self, again: &Again) -> Result<(), String> {
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
}

/// Returns a special token to add; text without flags makes a plain one.
fn plain(token: &Named) -> Token {
    match token {
        Named::Text(text) => Token::special(text),
        Named::Token(token) => token.clone(),
    }
}

/// Sets a token by name: replaces the token of that name, or adds one after the others.
pub(super) fn put(named: &mut Vec<(String, Named)>, key: &str, token: Named) {
    match named.iter_mut().find(|(name, _)| name == key) {
        Some((_, old)) => *old = token,
        None => named.push((key.to_owned(), token)),
    }
}
