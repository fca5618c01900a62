//! The chat template in a tokenizer's files.

use serde_json::{Map, Value};

use super::ChatTemplate;
use crate::error::Error;
use crate::model::types::shown;

/// The chat template that was found.
pub(in crate::text) enum Chat {
    None,
    Ready(Box<ChatTemplate>),
    /// An unusable template and the reason, reported only for conversations, since texts need no template.
    Broken(String),
}

impl Chat {
    /// Finds the template as transformers does: files override tokenizer_config.json, and of several
    /// templates the one named `default` is used. `chat_template.json`, which belongs to a processor, is used
    /// if there is no other.
    pub(in crate::text) fn find(config: &Map<String, Value>, files: &[(String, Vec<u8>)]) -> Self {
        let mut named: Vec<(String, String)> = Vec::new();
        for (name, bytes) in files {
            let of_folder =
                name.strip_prefix("additional_chat_templates/").and_then(|name| name.strip_suffix(".jinja"));
            let key = if name == "chat_template.jinja" { Some("default") } else { of_folder };
            if let Some(key) = key {
                let Ok(source) = String::from_utf8(bytes.clone()) else {
                    return Self::Broken(format!("{name}: is not UTF-8"));
                };
                named.retain(|(known, _)| known != key);
                named.push((key.to_owned(), source));
            }
        }
        if named.is_empty() {
            let of_processor = || {
                let (_, bytes) = files.iter().find(|(name, _)| name == "chat_template.json")?;
                serde_json::from_slice::<Map<String, Value>>(bytes).ok()?.shift_remove("chat_template")
            };
            let entry = config.get("chat_template").filter(|entry| !entry.is_null()).cloned();
            match entry.or_else(of_processor) {
                None | Some(Value::Null) => return Self::None,
                Some(Value::String(source)) => named.push(("default".to_owned(), source)),
                Some(Value::Array(templates)) => {
                    for template in &templates {
                        let (Some(name), Some(source)) =
                            (template["name"].as_str(), template["template"].as_str())
                        else {
                            let found = shown(template);
                            return Self::Broken(format!(
                                "chat_template has the entry {found}; expected an object with texts \"name\" \
                                 and \"template\""
                            ));
                        };
                        named.push((name.to_owned(), source.to_owned()));
                    }
                }
                Some(Value::Object(templates)) => {
                    for (name, template) in templates {
                        let Value::String(source) = template else {
                            let found = shown(&template);
                            return Self::Broken(format!("chat_template.{name} is {found}; expected text"));
                        };
                        named.push((name, source));
                    }
                }
                Some(other) => {
                    return Self::Broken(format!("chat_template is {}; expected text", shown(&other)));
                }
            }
        }
        let Some((_, source)) = named.iter().rfind(|(name, _)| name == "default") else {
            let names: Vec<&str> = named.iter().map(|(name, _)| name.as_str()).collect();
            let names = names.join(", ");
            return Self::Broken(format!("no chat template is named \"default\" (found: {names})"));
        };
        match ChatTemplate::new(source) {
            Ok(template) => Self::Ready(Box::new(template)),
            Err(Error::Tokenizer(message)) => Self::Broken(message),
            Err(error) => Self::Broken(error.to_string()),
        }
    }
}
