//! Reads tokenizer.json but keeps the vocabulary as text: a class that rebuilds the tokenizer takes it
//! unparsed.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// The parts of tokenizer.json that classes use.
#[derive(Deserialize)]
pub(in crate::text) struct File<'a> {
    #[serde(borrow)]
    model: RawModel<'a>,
    #[serde(default)]
    pub added_tokens: Vec<Value>,
    #[serde(default)]
    pub normalizer: Value,
    #[serde(default)]
    pub pre_tokenizer: Value,
    #[serde(default)]
    pub post_processor: Value,
    #[serde(default)]
    pub decoder: Value,
    #[serde(default)]
    pub padding: Value,
    #[serde(default)]
    pub truncation: Value,
}

#[derive(Deserialize)]
struct RawModel<'a> {
    #[serde(borrow, default)]
    vocab: Option<&'a RawValue>,
    #[serde(borrow, default)]
    merges: Option<&'a RawValue>,
}

/// A byte-pair encoding as a class configures it; options that are not set are off.
#[derive(Default)]
pub(in crate::text) struct Bpe {
    pub unk: Option<String>,
    /// The setting `continuing_subword_prefix`.
    pub prefix: Option<&'static str>,
    /// The setting `end_of_word_suffix`.
    pub suffix: Option<&'static str>,
    pub fuse_unk: bool,
    pub byte_fallback: bool,
}

/// The vocabulary of a unigram model: pieces with their scores.
pub(in crate::text) struct Pieces<'a> {
    raw: &'a str,
    pub scores: Vec<(String, f64)>,
}

impl Pieces<'_> {
    /// Returns the index of a piece whose score is 0, like Python's `vocab.index((piece, 0.0), start)`.
    pub fn neutral(&self, piece: &str, start: usize) -> Option<usize> {
        self.scores
            .iter()
            .skip(start)
            .position(|(text, score)| text == piece && *score == 0.0)
            .map(|at| at + start)
    }

    /// Returns a unigram model of these pieces.
    pub fn unigram(&self, unk_id: usize) -> String {
        format!(r#"{{"type":"Unigram","unk_id":{unk_id},"vocab":{},"byte_fallback":false}}"#, self.raw)
    }
}

impl File<'_> {
    /// Returns a byte-pair encoding over the file's vocabulary, as a model of tokenizer.json.
    ///
    /// # Errors
    /// Fails with a message if the file has no vocabulary.
    pub fn bpe(&self, options: &Bpe) -> Result<String, String> {
        let unk = json!(options.unk);
        let (prefix, suffix) = (json!(options.prefix), json!(options.suffix));
        let merges = self.model.merges.map_or("[]", RawValue::get);
        let merges = if merges == "null" { "[]" } else { merges };
        let (fuse_unk, byte_fallback, vocab) = (options.fuse_unk, options.byte_fallback, self.ids()?);
        Ok(format!(
            concat!(
                r#"{{"type":"BPE","dropout":null,"unk_token":{},"continuing_subword_prefix":{},"#,
                r#""end_of_word_suffix":{},"fuse_unk":{},"byte_fallback":{},"ignore_merges":false,"#,
                r#""vocab":{},"merges":{}}}"#
            ),
            unk, prefix, suffix, fuse_unk, byte_fallback, vocab, merges
        ))
    }

    /// Returns a WordPiece model over the file's vocabulary.
    ///
    /// # Errors
    /// Fails with a message if the file has no vocabulary.
    pub fn word_piece(&self, unk: &str) -> Result<String, String> {
        Ok(format!(
            concat!(
                r###"{{"type":"WordPiece","unk_token":{},"continuing_subword_prefix":"##","###,
                r#""max_input_chars_per_word":100,"vocab":{}}}"#
            ),
            json!(unk),
            self.ids()?
        ))
    }

    /// Returns the vocabulary of a unigram model.
    ///
    /// # Errors
    /// Fails with a message if the file has another type of model.
    pub fn pieces(&self) -> Result<Pieces<'_>, String> {
        let raw = self.vocab()?;
        let scores = serde_json::from_str(raw).map_err(|_| {
            "tokenizer.json: the class needs a unigram model, pieces with scores; the file has another"
                .to_owned()
        })?;
        Ok(Pieces { raw, scores })
    }

    /// Returns true if the file normalizes and splits text like these parts. Offsets do not affect tokens.
    pub fn splits_as(&self, normalizer: &Value, pre_tokenizer: &Value) -> bool {
        fn plain(part: &Value) -> Value {
            let mut part = part.clone();
            if part["type"] == "ByteLevel" {
                part["trim_offsets"] = Value::Null;
                if part["use_regex"].is_null() {
                    part["use_regex"] = Value::from(true);
                }
            }
            for inner in part.get_mut("pretokenizers").and_then(Value::as_array_mut).into_iter().flatten() {
                *inner = plain(inner);
            }
            part
        }
        self.normalizer == *normalizer && plain(&self.pre_tokenizer) == plain(pre_tokenizer)
    }

    /// Returns the compiled character map of the normalizer, if it has one.
    pub fn charsmap(&self) -> Option<Value> {
        let parts = match &self.normalizer["normalizers"] {
            Value::Array(parts) if self.normalizer["type"] == "Sequence" => parts.as_slice(),
            _ => std::slice::from_ref(&self.normalizer),
        };
        let part = parts.iter().find(|part| part["type"] == "Precompiled")?;
        part.get("precompiled_charsmap").cloned()
    }

    /// Returns the vocabulary as ids by token: unchanged, or numbered in order if it has scores.
    fn ids(&self) -> Result<String, String> {
        let raw = self.vocab()?;
        if !raw.starts_with('[') {
            return Ok(raw.to_owned());
        }
        let pieces: Vec<Value> =
            serde_json::from_str(raw).map_err(|error| format!("tokenizer.json: vocab: {error}"))?;
        let ids = pieces.iter().enumerate().filter_map(|(at, piece)| {
            let text = piece.as_str().or_else(|| piece[0].as_str())?;
            Some((text.to_owned(), Value::from(at)))
        });
        Ok(Value::Object(ids.collect()).to_string())
    }

    fn vocab(&self) -> Result<&str, String> {
        self.model
            .vocab
            .map(RawValue::get)
            .ok_or_else(|| "tokenizer.json: the model has no \"vocab\"".to_owned())
    }
}
