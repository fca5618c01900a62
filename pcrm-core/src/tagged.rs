//! Tagged data: `{"kind": "fixed", "bound": 3}` selects a plugin by its `kind` and passes it the other
//! fields.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::error::{Error, Result, in_short};
use crate::model::types::shown;
use crate::registry::{self, Plugin};

/// A function that builds an object from its configuration: the tagged object without its `kind`.
pub type Build<T> = fn(&mut dyn erased_serde::Deserializer<'_>) -> erased_serde::Result<Box<T>>;

/// A kind of plugin whose objects are built from tagged data.
pub trait Tagged: Plugin {
    /// The type of the objects.
    type Made: ?Sized;
    /// Returns the plugin's builder.
    fn build(&self) -> Build<Self::Made>;
}

/// Builds an object from a name (`length_ratio`) or a tagged object as JSON
/// (`{"kind": "fixed", "bound": 3}`).
///
/// # Errors
/// Fails if the text is neither, if the kind is unknown (the error lists the known ones), and if the plugin
/// refuses its configuration.
pub fn parse<P: Tagged>(text: &str) -> Result<Box<P::Made>> {
    let text = text.trim();
    if !text.starts_with('{') {
        return build::<P>(text, Map::new());
    }
    let value: Value = serde_json::from_str(text)
        .map_err(|error| Error::invalid(P::WHAT, in_short(format!("{text} is not valid JSON: {error}"))))?;
    from_value::<P>(value)
}

/// Builds an object from its tagged form.
///
/// # Errors
/// Fails as [`parse`] does.
pub fn from_value<P: Tagged>(value: Value) -> Result<Box<P::Made>> {
    let Value::Object(mut fields) = value else {
        let message = format!("expected an object with \"kind\", found {}", shown(&value));
        return Err(Error::invalid(P::WHAT, message));
    };
    match fields.shift_remove("kind") {
        Some(Value::String(kind)) => build::<P>(&kind, fields),
        Some(other) => {
            Err(Error::invalid(P::WHAT, format!("\"kind\" must be a string, found {}", shown(&other))))
        }
        None => {
            let known: Vec<_> = registry::all::<P>().iter().map(|plugin| plugin.name()).collect();
            Err(Error::invalid(
                P::WHAT,
                format!(
                    "no \"kind\" in {}; known kinds: {}",
                    shown(&Value::Object(fields)),
                    known.join(", ")
                ),
            ))
        }
    }
}

/// Returns the tagged form of a configuration: its `kind` first, then its fields.
///
/// # Errors
/// Fails if the configuration does not serialise to an object.
pub fn to_value<P: Tagged>(kind: &str, configuration: &(impl Serialize + ?Sized)) -> Result<Value> {
    let mut tagged = Map::new();
    tagged.insert("kind".to_owned(), Value::from(kind));
    match serde_json::to_value(configuration).map_err(|error| refused::<P>(kind, error.to_string()))? {
        Value::Object(fields) => tagged.extend(fields),
        Value::Null => {}
        other => return Err(refused::<P>(kind, format!("serialises to {other}, expected an object"))),
    }
    Ok(Value::Object(tagged))
}

fn build<P: Tagged>(kind: &str, fields: Map<String, Value>) -> Result<Box<P::Made>> {
    let plugin = registry::find::<P>(kind)?;
    (plugin.build())(&mut <dyn erased_serde::Deserializer<'_>>::erase(Value::Object(fields)))
        .map_err(|error| refused::<P>(kind, error.to_string()))
}

fn refused<P: Plugin>(kind: &str, message: String) -> Error {
    Error::Plugin { what: P::WHAT, name: in_short(kind.to_owned()), message: in_short(message) }
}
