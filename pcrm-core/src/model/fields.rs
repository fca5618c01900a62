//! Typed fields of a `config.json`; errors name the key, its value and the expected type.

use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::model::family::{Every, Windows};
use crate::model::types::shown;
use crate::tensor::Unary;

/// The fields of one file.
pub(super) struct Fields<'a> {
    /// The original file, for messages.
    raw: &'a Map<String, Value>,
    /// The file completed with defaults.
    full: &'a Map<String, Value>,
    path: &'a Path,
    default: Box<dyn Fn(&str) -> &'static Value + 'a>,
}

/// The largest number of layers that a config may have.
const MOST_LAYERS: usize = 10_000;

static NULL: Value = Value::Null;

impl<'a> Fields<'a> {
    /// Wraps a file; `full` is `raw` completed with the defaults of absent keys, which `default` returns.
    pub(super) fn new(
        raw: &'a Map<String, Value>,
        full: &'a Map<String, Value>,
        path: &'a Path,
        default: impl Fn(&str) -> &'static Value + 'a,
    ) -> Self {
        Self { raw, full, path, default: Box::new(default) }
    }

    /// Creates an error about a key.
    pub(super) fn wrong(&self, key: &str, expected: &str) -> Error {
        let found =
            self.raw.get(key).map_or_else(|| "is missing".to_owned(), |value| format!("is {}", shown(value)));
        Error::file(self.path, format!("{key} {found}; expected {expected}"))
    }

    /// Creates an error about the file.
    pub(super) fn error(&self, message: &str) -> Error {
        Error::file(self.path, message)
    }

    /// Returns the value of a key, null if neither the file nor the defaults have one.
    pub(super) fn value(&self, key: &str) -> &'a Value {
        self.full.get(key).unwrap_or(&NULL)
    }

    /// Returns whether the file itself has the key with a value other than null.
    pub(super) fn states(&self, key: &str) -> bool {
        self.raw.get(key).is_some_and(|value| !value.is_null())
    }

    pub(super) fn positive(&self, key: &str) -> Result<usize> {
        let value = self.value(key).as_u64().filter(|value| *value > 0 && *value < 1 << 32);
        value.map(|value| value as usize).ok_or_else(|| self.wrong(key, "a positive integer"))
    }

    /// Reads a number of layers, which is limited because per-layer state is allocated before the weights are
    /// checked.
    pub(super) fn layers(&self, key: &str) -> Result<usize> {
        let layers = self.positive(key)?;
        match layers <= MOST_LAYERS {
            true => Ok(layers),
            false => Err(self.wrong(key, &format!("at most {MOST_LAYERS}"))),
        }
    }

    /// Reads a positive integer, or `otherwise` for null if null is the default.
    pub(super) fn positive_or(&self, key: &str, otherwise: usize) -> Result<usize> {
        match self.value(key).is_null() && (self.default)(key).is_null() {
            true => Ok(otherwise),
            false => self.positive(key),
        }
    }

    pub(super) fn number(&self, key: &str) -> Result<f64> {
        let value = self.value(key).as_f64().filter(|value| value.is_finite());
        value.ok_or_else(|| self.wrong(key, "a number"))
    }

    /// Reads a number above 0.
    pub(super) fn above_zero(&self, key: &str) -> Result<f64> {
        let value = self.number(key)?;
        if value > 0.0 { Ok(value) } else { Err(self.wrong(key, "a positive number")) }
    }

    /// Reads the soft cap of c·tanh(x/c); `None` for null.
    pub(super) fn cap(&self, key: &str) -> Result<Option<f64>> {
        if self.value(key).is_null() { Ok(None) } else { self.above_zero(key).map(Some) }
    }

    /// Returns which layers have rotary positions: those with a nonzero entry in the list, or, without a
    /// list, all but every n-th.
    pub(super) fn turning(&self, list: &str, every: &str, layers: usize) -> Result<Vec<bool>> {
        if self.value(list).is_null() {
            let every = self.positive(every)?;
            return Ok((0..layers).map(|layer| !(layer + 1).is_multiple_of(every)).collect());
        }
        let entries = self.value(list).as_array().filter(|entries| entries.len() == layers);
        let entry = |entry: &Value| entry.as_u64().filter(|entry| *entry < 2).map(|entry| entry == 1);
        let turns = entries.and_then(|entries| entries.iter().map(entry).collect());
        turns.ok_or_else(|| self.wrong(list, &format!("{layers} times 0 or 1")))
    }

    pub(super) fn flag(&self, key: &str) -> Result<bool> {
        self.value(key).as_bool().ok_or_else(|| self.wrong(key, "true or false"))
    }

    /// Reads a token id; `None` for null and for −1, which both mean none.
    pub(super) fn token_id(&self, key: &str) -> Result<Option<u32>> {
        match self.value(key) {
            Value::Null => Ok(None),
            value => match value.as_i64() {
                Some(id) if id < 0 => Ok(None),
                Some(id) if id <= i64::from(u32::MAX) => Ok(Some(id as u32)),
                _ => Err(self.wrong(key, "a token id or null")),
            },
        }
    }

    /// Fails if a field turns on an unsupported feature.
    pub(super) fn refuse(&self, key: &str, off: bool) -> Result<()> {
        match off {
            true => Ok(()),
            false => Err(self.wrong(key, "none: it is not supported")),
        }
    }

    /// Returns the window of each layer; `turns` says which layers have rotary positions.
    pub(super) fn windows(&self, windows: Windows, turns: &[bool]) -> Result<Vec<Option<usize>>> {
        let layers = turns.len();
        let on = match windows {
            Windows::Never => false,
            Windows::Switched | Windows::Late | Windows::EveryOther | Windows::Unrotated => {
                self.flag("use_sliding_window")?
            }
            Windows::Everywhere | Windows::AllUnlessListed | Windows::AllButEvery(_) => true,
        };
        let window = match on && !self.value("sliding_window").is_null() {
            true => Some(self.positive("sliding_window")?),
            false => None,
        };
        if windows == Windows::EveryOther && on && window.is_none() {
            return Err(self.wrong("sliding_window", "a window, because use_sliding_window is true"));
        }
        let listed = self.layer_types(layers)?;
        let slides: Vec<bool> = match windows {
            Windows::Never => vec![false; layers],
            Windows::Everywhere | Windows::Switched => vec![window.is_some(); layers],
            Windows::AllUnlessListed
            | Windows::Late
            | Windows::EveryOther
            | Windows::Unrotated
            | Windows::AllButEvery(_)
                if listed.is_some() =>
            {
                listed.clone().unwrap_or_default()
            }
            Windows::AllUnlessListed => vec![window.is_some(); layers],
            Windows::Unrotated => turns.iter().map(|turns| window.is_some() && !turns).collect(),
            Windows::Late | Windows::EveryOther => {
                let bound = self.value("max_window_layers").as_u64();
                let bound = bound.ok_or_else(|| self.wrong("max_window_layers", "a number of layers"))?;
                let slides = |layer: usize| match windows {
                    Windows::Late => layer as u64 >= bound,
                    _ => layer.is_multiple_of(2) && (layer as u64) < bound,
                };
                (0..layers).map(|layer| window.is_some() && slides(layer)).collect()
            }
            Windows::AllButEvery(every) => {
                let every = match every {
                    Every::Number(every) => every,
                    Every::Key(key) => self.positive(key)?,
                };
                (0..layers).map(|layer| !(layer + 1).is_multiple_of(every)).collect()
            }
        };
        if listed.is_some_and(|listed| listed != slides) {
            let sort = if slides.contains(&true) { "sliding_attention" } else { "full_attention" };
            let expected = format!("only {sort}: transformers accepts no other type for this model");
            return Err(self.wrong("layer_types", &expected));
        }
        if slides.contains(&true) && window.is_none() {
            let key = if on { "sliding_window" } else { "use_sliding_window" };
            return Err(self.wrong(key, "a window, because layer_types lists one"));
        }
        Ok(slides.into_iter().map(|slides| window.filter(|_| slides)).collect())
    }

    /// Returns the layers with a window by `layer_types`; `None` if the file does not list them.
    fn layer_types(&self, layers: usize) -> Result<Option<Vec<bool>>> {
        if self.value("layer_types").is_null() {
            return Ok(None);
        }
        let kinds = self.value("layer_types").as_array().filter(|kinds| kinds.len() == layers);
        let kind = |kind: &Value| match kind.as_str() {
            Some("sliding_attention") => Some(true),
            Some("full_attention" | "attention") => Some(false),
            _ => None,
        };
        let read = kinds.and_then(|kinds| kinds.iter().map(kind).collect());
        let expected = || format!("{layers} times full_attention or sliding_attention");
        read.map(Some).ok_or_else(|| self.wrong("layer_types", &expected()))
    }

    pub(super) fn activation(&self, key: &str) -> Result<Unary> {
        match self.value(key).as_str() {
            Some("silu" | "swish") => Ok(Unary::Silu),
            Some("gelu" | "gelu_python") => Ok(Unary::Gelu),
            Some("gelu_new" | "gelu_fast" | "gelu_accurate" | "gelu_pytorch_tanh" | "gelu_python_tanh") => {
                Ok(Unary::GeluTanh)
            }
            Some("relu") => Ok(Unary::Relu),
            Some("sigmoid") => Ok(Unary::Sigmoid),
            Some("tanh") => Ok(Unary::Tanh),
            _ => {
                let served = "one of gelu, gelu_accurate, gelu_fast, gelu_new, gelu_python, \
                              gelu_python_tanh, gelu_pytorch_tanh, relu, sigmoid, silu, swish, tanh";
                Err(self.wrong(key, served))
            }
        }
    }

    /// Reads the object of a key; `None` for null and for an empty one.
    pub(super) fn object(&self, key: &str) -> Result<Option<&'a Map<String, Value>>> {
        match self.value(key) {
            Value::Null => Ok(None),
            Value::Object(fields) => Ok(Some(fields).filter(|fields| !fields.is_empty())),
            _ => Err(self.wrong(key, "an object or null")),
        }
    }
}
