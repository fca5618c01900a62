//! The learned constraint as data: parsing, validation, writing.

use std::collections::BTreeMap;
use std::fmt::Write;

use pcrm_core::constraint::Direction;
use pcrm_core::{Error, Result};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};
use xxhash_rust::xxh3::xxh3_64;

use super::evidence::Evidence;
use super::features::{Feature, USUAL};
use super::model::ModelForm;
use super::{Fit, Learned};
use crate::number::Number;

/// The allowed numbers of folds; with fewer there is no fold to choose a penalty by.
const FOLDS: std::ops::RangeInclusive<u64> = 3..=20;
const USUAL_FOLDS: u64 = 5;

impl Serialize for Learned {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_fields().map_err(serde::ser::Error::custom)?.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Learned {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut object = Map::deserialize(deserializer)?;
        let stated = object.shift_remove("digest");
        let digests = Digests { stated, actual: digest(&object) };
        let fields = LearnedFields::deserialize(Value::Object(object)).map_err(D::Error::custom)?;
        Self::from_fields(fields, digests).map_err(D::Error::custom)
    }
}

impl Learned {
    fn to_fields(&self) -> Result<Map<String, Value>> {
        let as_json = |error: serde_json::Error| super::refused(error.to_string());
        let mut fields = Map::new();
        let mut put = |name: &str, value| drop(fields.insert(name.to_owned(), value));
        if let Some(features) = &self.features {
            put("features", features.iter().map(Feature::to_value).collect::<Result<Value>>()?);
        }
        put("monotone", serde_json::to_value(&self.monotone).map_err(as_json)?);
        put("folds", json!(self.folds));
        put("form", serde_json::to_value(self.form).map_err(as_json)?);
        if let Some(fit) = &self.fit {
            put("models", serde_json::to_value(&fit.models).map_err(as_json)?);
            put("evidence", serde_json::to_value(&fit.evidence).map_err(as_json)?);
            let digest = digest(&fields);
            fields.insert("digest".to_owned(), json!(digest));
        }
        Ok(fields)
    }

    fn from_fields(fields: LearnedFields, digests: Digests) -> Result<Self> {
        let features = fields.features.map(features).transpose()?;
        let names: Vec<&str> = match &features {
            Some(features) => features.iter().map(Feature::name).collect(),
            None => USUAL.into(),
        };
        let monotone = monotone(fields.monotone, &names)?;
        let folds = fields.folds.whole("folds", USUAL_FOLDS)?;
        if !FOLDS.contains(&folds) {
            let message =
                format!("found {folds}, expected a whole number from {} to {}", FOLDS.start(), FOLDS.end());
            return Err(Error::invalid("folds", message));
        }
        let folds = folds as usize;
        let mut learned = Self { features, monotone, folds, form: fields.form, fit: None };
        learned.fit = match (&learned.features, fields.models, fields.evidence) {
            (_, None, None) => None,
            (Some(features), Some(models), Some(evidence)) => {
                Some(learned.read_fit(features, models, evidence)?)
            }
            (features, models, _) => {
                let missing = match (features, models) {
                    (None, _) => "features",
                    (_, None) => "models",
                    _ => "evidence",
                };
                return Err(Error::invalid(
                    missing,
                    "missing; a fitted constraint has features, models and evidence",
                ));
            }
        };
        // Last, because it is the least specific error.
        digests.check(learned.fit.is_some())?;
        Ok(learned)
    }

    fn read_fit(&self, features: &[Feature], models: Value, evidence: Value) -> Result<Fit> {
        let shape = self.shape(features);
        let list = match models {
            Value::Array(list) if list.len() == self.folds => list,
            Value::Array(list) => {
                let message = format!("found {}, expected {}, one per fold", list.len(), self.folds);
                return Err(Error::invalid("models", message));
            }
            other => return Err(Error::invalid("models", format!("found {other}, expected a list"))),
        };
        let model = |(at, value): (usize, &Value)| {
            shape.model(value).map_err(|error| Error::invalid("models", format!("model {at}: {error}")))
        };
        let models = list.iter().enumerate().map(model).collect::<Result<_>>()?;
        let evidence = Evidence::deserialize(evidence).map_err(|error| Error::invalid("evidence", error))?;
        Ok(Fit { models, evidence: evidence.checked(&shape.names)? })
    }
}

/// The fields as any values, which are then checked by name, for better messages.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LearnedFields {
    features: Option<Value>,
    #[serde(default)]
    monotone: Map<String, Value>,
    #[serde(default)]
    folds: Number,
    #[serde(default)]
    form: ModelForm,
    models: Option<Value>,
    evidence: Option<Value>,
}

fn features(value: Value) -> Result<Vec<Feature>> {
    let Value::Array(list) = value else {
        return Err(Error::invalid(
            "features",
            format!("found {value}, expected a list of names and objects"),
        ));
    };
    let features = list.into_iter().map(Feature::from_value).collect::<Result<Vec<_>>>()?;
    if features.is_empty() {
        return Err(Error::invalid("features", "found none, expected at least one"));
    }
    for (at, feature) in features.iter().enumerate() {
        if features[..at].iter().any(|other| other.name() == feature.name()) {
            let message = format!("two are called {:?}; give one a \"name\"", feature.name());
            return Err(Error::invalid("features", message));
        }
    }
    Ok(features)
}

fn monotone(fields: Map<String, Value>, names: &[&str]) -> Result<BTreeMap<String, Direction>> {
    let direction = |(name, value): (String, Value)| {
        if !names.contains(&name.as_str()) {
            let message = format!("{name:?} is not a feature; features: {}", names.join(", "));
            return Err(Error::invalid("monotone", message));
        }
        let direction = Direction::deserialize(&value).map_err(|_| {
            let expected = "expected \"increasing\", \"decreasing\" or \"free\"";
            Error::invalid("monotone", format!("{name}: found {value}, {expected}"))
        })?;
        Ok((name, direction))
    };
    fields.into_iter().map(direction).collect()
}

/// The digest in the data and the computed one.
struct Digests {
    stated: Option<Value>,
    actual: String,
}

impl Digests {
    fn check(self, is_fitted: bool) -> Result<()> {
        let refuse = |message: String| Err(Error::invalid("digest", message));
        match self.stated {
            None if !is_fitted => Ok(()),
            Some(_) if !is_fitted => refuse("found one, but no models".to_owned()),
            Some(Value::String(stated)) if stated == self.actual => Ok(()),
            other => refuse(format!(
                "found {}, expected \"{}\": features or numbers were changed after fitting, come from \
                 different files, or were fitted by a version that identified prompts by their rendered \
                 text; fit the constraint again",
                other.unwrap_or_default(),
                self.actual
            )),
        }
    }
}

/// Hashes fields, independent of their order and number formatting. The rule that assigns prompts to folds is
/// hashed too: under another rule a model may bound a pair that it was fitted to.
fn digest(fields: &Map<String, Value>) -> String {
    let mut text = "folds by PromptId;".to_owned();
    canonical(&Value::Object(fields.clone()), &mut text);
    format!("{:016x}", xxh3_64(text.as_bytes()))
}

fn canonical(value: &Value, text: &mut String) {
    match value {
        Value::Object(fields) => {
            let sorted: BTreeMap<&String, &Value> = fields.iter().collect();
            for (name, value) in sorted {
                let _ = write!(text, "{name:?}:");
                canonical(value, text);
            }
            text.push('}');
        }
        Value::Array(list) => {
            list.iter().for_each(|value| canonical(value, text));
            text.push(']');
        }
        Value::Number(number) => {
            let _ = write!(text, "{:?},", number.as_f64());
        }
        other => {
            let _ = write!(text, "{other},");
        }
    }
}
