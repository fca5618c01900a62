//! `config.json` of an encoder.

use std::path::Path;

use serde_json::{Map, Value};

use super::families::{BertFamily, FAMILIES};
use crate::error::{Error, Result};
use crate::model::disguise;
use crate::model::fields::Fields;
use crate::model::keys::FamilyKeys;
use crate::tensor::Unary;

/// The configuration of an encoder of the BERT family.
#[derive(Debug, Clone)]
pub struct BertConfig {
    pub(super) family: &'static BertFamily,
    /// The size of the vocabulary.
    pub vocabulary: usize,
    /// The width of the hidden states.
    pub width: usize,
    /// The number of layers.
    pub layers: usize,
    /// The number of heads.
    pub heads: usize,
    /// The width of the feed-forward network.
    pub ffn: usize,
    /// The largest number of tokens in a text.
    pub max_positions: usize,
    /// The row of the position embedding for a text's first token.
    pub first_position: u32,
    /// ε of the norms.
    pub norm_eps: f64,
    /// The activation of the feed-forward network.
    pub activation: Unary,
    /// The number of token types.
    pub token_types: usize,
    /// Keys of the file that are unknown: neither read nor known to leave scores unchanged.
    pub unknown_keys: Vec<String>,
}

impl BertConfig {
    /// Reads `config.json` from a folder.
    ///
    /// # Errors
    /// Fails if the file is missing or not JSON, if the model is not supported (the error lists the supported
    /// ones), and if a field is missing or wrong.
    pub fn from_dir(dir: &Path) -> Result<Self> {
        let path = dir.join("config.json");
        let text = disguise::read_text(&path)?;
        let raw: Map<String, Value> =
            serde_json::from_str(&text).map_err(|error| Error::file(&path, error))?;
        Self::from_json(&raw, &path)
    }

    /// Reads a config; errors name `path`.
    pub(in crate::model) fn from_json(raw: &Map<String, Value>, path: &Path) -> Result<Self> {
        let name = raw.get("model_type").and_then(Value::as_str);
        let family = name.and_then(|name| FAMILIES.iter().find(|family| family.model_type == name));
        let family = family.ok_or_else(|| {
            let known: Vec<&str> = FAMILIES.iter().map(|family| family.model_type).collect();
            let fields = Fields::new(raw, raw, path, |_| &Value::Null);
            fields.wrong("model_type", &format!("an encoder, one of {}", known.join(", ")))
        })?;
        let (keys, unknown_keys) = FamilyKeys::of_encoder(family.model_type, raw, path)?;
        let full = keys.complete(raw, path)?;
        let fields = Fields::new(raw, &full, path, |key| keys.default(key));
        let [width, layers, heads, ffn, activation] = family.keys;
        let config = Self {
            family,
            vocabulary: fields.positive("vocab_size")?,
            width: fields.positive(width)?,
            layers: fields.layers(layers)?,
            heads: fields.positive(heads)?,
            ffn: fields.positive(ffn)?,
            max_positions: fields.positive("max_position_embeddings")?,
            first_position: 0,
            norm_eps: family.norm_eps.map_or(Ok(1e-12), |key| fields.number(key))?,
            activation: fields.activation(activation)?,
            token_types: family.token_types.map_or(Ok(1), |_| fields.positive("type_vocab_size"))?,
            unknown_keys,
        };
        if !config.width.is_multiple_of(config.heads) {
            let message = format!("{} heads do not divide a width of {}", config.heads, config.width);
            return Err(Error::file(path, message));
        }
        if !family.after_padding {
            return Ok(config);
        }
        let first = fields.token_id("pad_token_id")?.unwrap_or(1) as usize + 1;
        match config.max_positions.checked_sub(first).filter(|left| *left > 0) {
            Some(left) => Ok(Self { max_positions: left, first_position: first as u32, ..config }),
            None => Err(fields.wrong("pad_token_id", "an id below max_position_embeddings")),
        }
    }

    /// Returns the number of token types in use. Tokenizers of the RoBERTa family have only one.
    pub fn types(&self) -> usize {
        match self.family.token_types {
            Some(_) if !self.family.after_padding => self.token_types,
            _ => 1,
        }
    }

    /// Returns true if `model_type` is one of the supported families.
    pub(in crate::model) fn is_family(model_type: &str) -> bool {
        FAMILIES.iter().any(|family| family.model_type == model_type)
    }

    /// Returns the `model_type` of the config.
    pub fn model_type(&self) -> &'static str {
        self.family.model_type
    }

    /// Returns the number of rows of the position embedding.
    pub(super) fn position_rows(&self) -> usize {
        self.max_positions + self.first_position as usize
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(config: Value) -> Result<BertConfig> {
        let Value::Object(raw) = config else { panic!("an object") };
        BertConfig::from_json(&raw, Path::new("config.json"))
    }

    fn small(change: Value) -> Value {
        let mut config = json!({
            "model_type": "bert", "vocab_size": 9, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
            "intermediate_size": 16, "max_position_embeddings": 12, "pad_token_id": 1,
        });
        let (Value::Object(config_fields), Value::Object(change)) = (&mut config, change) else {
            panic!("objects")
        };
        config_fields.extend(change);
        config
    }

    /// Protects: RoBERTa's positions begin after the padding id and BERT's at 0.
    #[test]
    fn positions_begin_where_the_family_has_them_begin() -> Result<()> {
        let (bert, roberta) = (read(small(json!({})))?, read(small(json!({"model_type": "roberta"})))?);
        assert_eq!((bert.first_position, bert.max_positions), (0, 12));
        assert_eq!((roberta.first_position, roberta.max_positions), (2, 10));
        assert_eq!((bert.position_rows(), roberta.position_rows()), (12, 12));
        Ok(())
    }

    /// Protects: unsupported values are refused with the field and the supported values.
    #[test]
    fn what_is_not_served_is_refused() {
        for (change, expected) in [
            (
                json!({"model_type": "mpnet"}),
                "model_type is \"mpnet\"; expected an encoder, one of bert, camembert, distilbert, roberta, \
                 xlm-roberta",
            ),
            (
                json!({"position_embedding_type": "relative_key"}),
                "position_embedding_type is \"relative_key\"",
            ),
            (json!({"is_decoder": true}), "is_decoder is true"),
            (json!({"num_attention_heads": 3}), "3 heads do not divide a width of 8"),
            (json!({"hidden_act": "mish"}), "hidden_act is \"mish\""),
            (json!({"vocab_size": null}), "vocab_size is null"),
        ] {
            let error = read(small(change)).map(drop).map_err(|error| error.to_string()).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
