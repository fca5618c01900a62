//! The `config.json` of a scoring encoder.

use std::path::Path;

use serde_json::{Map, Value};

use super::deberta::DebertaConfig;
use super::head::{HeadShape, Pooling};
use super::modernbert::ModernBertConfig;
use crate::error::{Error, Result};
use crate::model::bert::BertConfig;
use crate::model::keys::FamilyKeys;
use crate::model::{Outline, disguise, quantised};
use crate::tensor::Unary;
use crate::text::PairForm;

/// The shape of an encoder with a head that gives one score.
#[derive(Debug, Clone)]
pub struct EncoderConfig {
    pub(super) kind: Kind,
    pub(super) head: HeadShape,
    /// Keys of the file that are unknown: neither read nor known to leave scores unchanged.
    pub(super) unknown_keys: Vec<String>,
    raw: Map<String, Value>,
}

#[derive(Debug, Clone)]
pub(super) enum Kind {
    Bert(BertConfig),
    Deberta(DebertaConfig),
    ModernBert(ModernBertConfig),
}

impl EncoderConfig {
    /// Reads `config.json` from a folder; `None` if the file is missing or does not describe an encoder.
    ///
    /// # Errors
    /// Fails if the encoder is not supported: a field is missing or wrong, the weights are quantised, or the
    /// number of labels is not 1.
    pub fn find(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join("config.json");
        if !path.exists() {
            return Ok(None);
        }
        let text = disguise::read_text(&path)?;
        let raw: Map<String, Value> =
            serde_json::from_str(&text).map_err(|error| Error::file(&path, error))?;
        let name = raw.get("model_type").and_then(Value::as_str);
        let (kind, head, unknown_keys) = match name {
            Some("deberta-v2") => {
                let (keys, unknown) = FamilyKeys::of_encoder("deberta-v2", &raw, &path)?;
                let config = DebertaConfig::from_json(&raw, keys, &path)?;
                let head = config.head.clone();
                (Kind::Deberta(config), head, unknown)
            }
            Some("modernbert") => {
                let (keys, unknown) = FamilyKeys::of_encoder("modernbert", &raw, &path)?;
                let config = ModernBertConfig::from_json(&raw, keys, &path)?;
                let head = config.head.clone();
                (Kind::ModernBert(config), head, unknown)
            }
            Some(name) if BertConfig::is_family(name) => {
                let config = BertConfig::from_json(&raw, &path)?;
                let (head, unknown) = (bert_head(name), config.unknown_keys.clone());
                (Kind::Bert(config), head, unknown)
            }
            _ => return Ok(None),
        };
        if let Some(method) = quantised::by_config(&raw) {
            return Err(Error::file(&path, quantised::refusal(&method)));
        }
        let labels = labels(&raw);
        if labels != 1 {
            let message = format!("names {labels} labels; a reward model has one");
            return Err(Error::file(&path, message));
        }
        Ok(Some(Self { kind, head, unknown_keys, raw }))
    }

    /// Returns the numbering of tokens with their types.
    pub fn pair_form(&self) -> PairForm {
        let (vocabulary, types) = match &self.kind {
            Kind::Bert(config) => (config.vocabulary, config.types()),
            Kind::Deberta(config) => (config.vocabulary, config.token_types.max(1)),
            Kind::ModernBert(config) => (config.vocabulary, 1),
        };
        PairForm { vocabulary: vocabulary as u32, types: types as u32 }
    }

    /// Returns the pooling that gives the head its input vector.
    pub fn pooling(&self) -> Pooling {
        self.head.pooling
    }

    /// Returns the properties needed to encode texts and interpret scores.
    pub fn outline(&self) -> Outline<'_> {
        let (model_type, max_positions, has_learned_positions) = match &self.kind {
            Kind::Bert(config) => (config.model_type(), config.max_positions, true),
            Kind::Deberta(config) => ("deberta-v2", config.max_positions, config.has_positions),
            Kind::ModernBert(config) => ("modernbert", config.max_positions, false),
        };
        let PairForm { vocabulary, types } = self.pair_form();
        Outline {
            model_type,
            vocabulary: vocabulary as usize,
            inputs: vocabulary as usize * types as usize,
            max_positions,
            has_learned_positions,
            pad: None,
            shares_up_to: Some(0),
            is_encoder: true,
            raw: &self.raw,
        }
    }

    pub(super) fn width(&self) -> usize {
        match &self.kind {
            Kind::Bert(config) => config.width,
            Kind::Deberta(config) => config.width,
            Kind::ModernBert(config) => config.width,
        }
    }
}

/// Returns the head's shape for a model of the BERT family.
fn bert_head(model_type: &str) -> HeadShape {
    let (dense, activation, output) = match model_type {
        "bert" => ("pooler.dense", Unary::Tanh, "classifier"),
        "distilbert" => ("pre_classifier", Unary::Relu, "classifier"),
        _ => ("classifier.dense", Unary::Tanh, "classifier.out_proj"),
    };
    HeadShape { pooling: Pooling::First, dense, has_bias: true, activation, norm: None, output }
}

/// Returns the number of labels as transformers does: 2 if the config does not name any.
fn labels(raw: &Map<String, Value>) -> u64 {
    let named = raw.get("id2label").and_then(Value::as_object).map(|names| names.len() as u64);
    raw.get("num_labels").and_then(Value::as_u64).or(named).unwrap_or(2)
}
