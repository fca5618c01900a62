//! The section of a config about rotary positions: `rope_parameters`, or `rope_scaling` of transformers 4.

use std::f64::consts::PI;

use serde_json::{Map, Value};

use super::{Rope, Scaling};
use crate::error::{Error, Result};
use crate::model::family::Theta;
use crate::model::fields::Fields;
use crate::model::notes;
use crate::model::types::shown;

const ORIGINAL: &str = "original_max_position_embeddings";

/// One description of rotary positions.
pub(super) struct Section<'a> {
    key: String,
    entries: Map<String, Value>,
    /// `original_max_position_embeddings` beside the section, which overrides the one in it.
    original: Option<f64>,
    fields: &'a Fields<'a>,
}

impl<'a> Section<'a> {
    /// Reads the section of a model whose layers all rotate alike.
    ///
    /// # Errors
    /// Fails if two sections differ, and if a section is divided by layers.
    pub fn of_model(fields: &'a Fields<'a>) -> Result<Self> {
        let original = match fields.value(ORIGINAL).is_null() {
            true => None,
            false => Some(fields.positive(ORIGINAL)? as f64),
        };
        let (scaling, parameters) = (fields.object("rope_scaling")?, fields.object("rope_parameters")?);
        let (key, entries) = match (scaling, parameters) {
            (Some(scaling), Some(parameters)) if scaling != parameters => {
                return Err(
                    fields.wrong("rope_scaling", "the values of rope_parameters, or only one of both")
                );
            }
            (Some(scaling), _) => ("rope_scaling", scaling.clone()),
            (None, parameters) => ("rope_parameters", parameters.cloned().unwrap_or_default()),
        };
        if let Some((layers, _)) = entries.iter().find(|(_, value)| value.is_object()) {
            let message = format!(
                "{key}.{layers} is an object; expected numbers: this family rotates all layers alike"
            );
            return Err(fields.error(&message));
        }
        Ok(Self { key: key.to_owned(), entries, original, fields })
    }

    /// Reads the sections of layers with full attention and of layers with a window.
    ///
    /// # Errors
    /// Fails if entries belong to neither, and if both formats are present.
    pub fn by_layer(fields: &'a Fields<'a>) -> Result<[Self; 2]> {
        const LAYERS: [&str; 2] = ["full_attention", "sliding_attention"];
        let (scaling, parameters) = (fields.object("rope_scaling")?, fields.object("rope_parameters")?);
        if scaling.is_some() && parameters.is_some() {
            return Err(fields.wrong("rope_scaling", "null beside rope_parameters"));
        }
        if let Some(scaling) = scaling.filter(|scaling| !scaling.contains_key("rope_type")) {
            let message = "rope_scaling has no rope_type; expected one: for this model transformers reads no \
                           other name";
            let named =
                format!("{message} (its keys: {})", scaling.keys().cloned().collect::<Vec<_>>().join(", "));
            return Err(fields.error(&named));
        }
        let nested = |key: &&String| !LAYERS.contains(&key.as_str());
        if let Some(other) = parameters.and_then(|parameters| parameters.keys().find(nested)) {
            let message =
                format!("rope_parameters.{other} is not supported; expected {}", LAYERS.join(" and "));
            return Err(fields.error(&message));
        }
        let of = |layers: &str, scaling: Option<&Map<String, Value>>| {
            let own = match parameters.and_then(|parameters| parameters.get(layers)) {
                None | Some(Value::Null) => Map::new(),
                Some(Value::Object(own)) => own.clone(),
                Some(other) => {
                    let message = format!("rope_parameters.{layers} is {other}; expected an object or null");
                    return Err(fields.error(&message));
                }
            };
            let key = if scaling.is_some() {
                "rope_scaling".to_owned()
            } else {
                format!("rope_parameters.{layers}")
            };
            let section = Self { key, entries: scaling.cloned().unwrap_or(own), original: None, fields };
            match section.entries.get("truncate") {
                // transformers looks for it beside the layers' sections, where it never is.
                Some(truncate) if truncate != &Value::Bool(true) => Err(section.wrong("truncate", "true")),
                _ => Ok(section),
            }
        };
        Ok([of(LAYERS[0], scaling)?, of(LAYERS[1], None)?])
    }

    /// Returns the angles of `dim` dimensions; `theta` is θ if the section has none.
    pub fn rope(&self, theta: Theta, dim: usize, max_positions: usize) -> Result<Rope> {
        if dim == 0 || !dim.is_multiple_of(2) {
            let message = format!("{dim} rotated dimensions per head; expected an even number, at least 2");
            return Err(self.fields.error(&message));
        }
        let theta = match theta {
            _ if self.entries.contains_key("rope_theta") => self.number("rope_theta")?,
            Theta::Key(key) => self.fields.number(key)?,
            Theta::Number(theta) => self.fixed(f64::from(theta))?,
        };
        if theta <= 0.0 {
            return Err(self.fields.error(&format!("rope_theta is {theta}; expected a positive number")));
        }
        Ok(Rope { theta, dim, scaling: self.scaling(theta, dim, max_positions)? })
    }

    /// Returns the given θ for layers to which `rope_theta` does not apply; warns if that key has another
    /// value.
    fn fixed(&self, theta: f64) -> Result<f64> {
        if self.fields.states("rope_theta") && self.fields.number("rope_theta")? != theta {
            let message = format!(
                "rope_theta is {}; as in transformers 5, layers with a window rotate by {theta} instead \
                 ({}.rope_theta overrides it)",
                self.fields.value("rope_theta"),
                self.key
            );
            notes::say(&self.fields.error(&message).to_string());
        }
        Ok(theta)
    }

    /// Returns the share of a head's dimensions that rotate; `None` if the section has none.
    pub fn share(&self) -> Result<Option<f64>> {
        match self.entries.get("partial_rotary_factor") {
            None => Ok(None),
            Some(value) => match value.as_f64().filter(|share| *share > 0.0 && *share <= 1.0) {
                Some(share) => Ok(Some(share)),
                None => Err(self.wrong("partial_rotary_factor", "more than 0, at most 1")),
            },
        }
    }

    /// Returns the entries that this kind of scaling does not read.
    pub fn unread(&self) -> Vec<String> {
        let own: &[&str] = match self.kind() {
            Ok("linear" | "dynamic") => &["factor"],
            Ok("llama3") => &["factor", "low_freq_factor", "high_freq_factor", ORIGINAL],
            Ok("longrope") => &["factor", "attention_factor", "short_factor", "long_factor", ORIGINAL],
            Ok("yarn") => &[
                "factor",
                "attention_factor",
                "beta_fast",
                "beta_slow",
                "mscale",
                "mscale_all_dim",
                "truncate",
                ORIGINAL,
            ],
            _ => &[],
        };
        let every = ["rope_type", "type", "rope_theta", "partial_rotary_factor"];
        let read = |key: &str| own.contains(&key) || every.contains(&key);
        self.entries.keys().filter(|key| !read(key)).map(|key| format!("{}.{key}", self.key)).collect()
    }

    fn kind(&self) -> Result<&str> {
        let key = if self.entries.contains_key("rope_type") { "rope_type" } else { "type" };
        match self.entries.get(key) {
            None => Ok("default"),
            // Its names in Phi-3's first checkpoints.
            Some(kind) if self.entries.contains_key("short_factor") && (kind == "su" || kind == "yarn") => {
                Ok("longrope")
            }
            Some(kind) => kind.as_str().ok_or_else(|| self.wrong(key, KINDS)),
        }
    }

    fn scaling(&self, theta: f64, dim: usize, max_positions: usize) -> Result<Scaling> {
        match self.kind()? {
            "default" => Ok(Scaling::None),
            "linear" => Ok(Scaling::Linear { factor: self.number("factor")? }),
            "dynamic" if dim == 2 => {
                Err(self.fields.error("dynamic rotary positions need more than 2 dimensions of a head"))
            }
            "dynamic" => Ok(Scaling::Dynamic { factor: self.number("factor")?, trained: max_positions }),
            "llama3" => {
                let (low, high) = (self.number("low_freq_factor")?, self.number("high_freq_factor")?);
                if high <= low {
                    return Err(self.wrong("high_freq_factor", &format!("more than low_freq_factor, {low}")));
                }
                let original = self.original(max_positions)?;
                Ok(Scaling::Llama3 { factor: self.number("factor")?, low, high, original })
            }
            "yarn" => self.yarn(theta, dim, max_positions),
            "longrope" => self.long(dim, max_positions),
            _ => {
                let key = if self.entries.contains_key("rope_type") { "rope_type" } else { "type" };
                Err(self.wrong(key, KINDS))
            }
        }
    }

    /// Computes YaRN's scaling. The pair that rotates n times within the original context c is dim·ln(c /
    /// 2πn) / (2·ln θ).
    fn yarn(&self, theta: f64, dim: usize, max_positions: usize) -> Result<Scaling> {
        let original = self.original(max_positions)?;
        let factor = self.number_or("factor", max_positions as f64 / original)?;
        let (fast, slow) = (self.number_or("beta_fast", 32.0)?, self.number_or("beta_slow", 1.0)?);
        if theta == 1.0 {
            return Err(self
                .fields
                .error("rope_theta is 1; expected another number: yarn divides by its logarithm"));
        }
        let pair = |turns: f64| dim as f64 * (original / (2.0 * PI * turns)).ln() / (2.0 * theta.ln());
        let truncate = match self.entries.get("truncate") {
            None => true,
            Some(truncate) => truncate.as_bool().ok_or_else(|| self.wrong("truncate", "true or false"))?,
        };
        let (kept, divided) = match truncate {
            true => (pair(fast).floor(), pair(slow).ceil()),
            false => (pair(fast), pair(slow)),
        };
        let (kept, divided) = (kept.max(0.0), divided.min(dim as f64 - 1.0));
        let grown = |scale: f64| if factor <= 1.0 { 1.0 } else { 0.1 * scale * factor.ln() + 1.0 };
        let default = match (self.scale("mscale")?, self.scale("mscale_all_dim")?) {
            (Some(scale), Some(all)) => grown(scale) / grown(all),
            _ => grown(1.0),
        };
        Ok(Scaling::Yarn {
            factor,
            kept,
            divided: if divided == kept { kept + 0.001 } else { divided },
            magnitude: self.number_or("attention_factor", default)?,
        })
    }

    /// Computes LongRoPE's scaling. The factor is the ratio of the contexts unless the section has one.
    fn long(&self, dim: usize, max_positions: usize) -> Result<Scaling> {
        let original = self.original(max_positions)?;
        let divisors = |field: &str| {
            let list = self.entries.get(field).and_then(Value::as_array).filter(|list| list.len() == dim / 2);
            let divisor = |value: &Value| value.as_f64().filter(|value| *value > 0.0);
            let list: Option<Vec<f64>> = list.and_then(|list| list.iter().map(divisor).collect());
            list.ok_or_else(|| {
                self.wrong(field, &format!("{} positive numbers, one for every pair", dim / 2))
            })
        };
        let factor = self.number_or("factor", max_positions as f64 / original)?;
        let default = if factor <= 1.0 { 1.0 } else { (1.0 + factor.ln() / original.ln()).sqrt() };
        Ok(Scaling::Long {
            short: divisors("short_factor")?,
            long: divisors("long_factor")?,
            trained: original as usize,
            magnitude: self.number_or("attention_factor", default)?,
        })
    }

    /// Reads a number that 0 and null turn off.
    fn scale(&self, field: &str) -> Result<Option<f64>> {
        match self.entries.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_f64() {
                Some(scale) => Ok(Some(scale).filter(|scale| *scale != 0.0)),
                None => Err(self.wrong(field, "a number or null")),
            },
        }
    }

    /// Returns the trained context.
    fn original(&self, max_positions: usize) -> Result<f64> {
        match self.original {
            Some(original) => Ok(original),
            None if self.entries.contains_key(ORIGINAL) => self.number(ORIGINAL),
            None => Ok(max_positions as f64),
        }
    }

    fn number(&self, field: &str) -> Result<f64> {
        let found = self.entries.get(field).and_then(Value::as_f64);
        found.filter(|value| *value > 0.0).ok_or_else(|| self.wrong(field, "a positive number"))
    }

    fn number_or(&self, field: &str, default: f64) -> Result<f64> {
        match self.entries.get(field) {
            None | Some(Value::Null) => Ok(default),
            Some(_) => self.number(field),
        }
    }

    fn wrong(&self, field: &str, expected: &str) -> Error {
        let found =
            self.entries.get(field).map_or("is missing".to_owned(), |value| format!("is {}", shown(value)));
        self.fields.error(&format!("{}.{field} {found}; expected {expected}", self.key))
    }
}

const KINDS: &str = "one of default, dynamic, linear, llama3, longrope, yarn";
