//! The configs of saved models, as `transformers` writes them.

use serde_json::{Map, Value};

use super::ModelConfig;
use super::own_class::AUTO_CLASS;

impl ModelConfig {
    /// Returns the config of a language model with this body, as `transformers` writes it.
    pub fn language_json(&self) -> Map<String, Value> {
        let mut json = self.raw.clone();
        if self.claims_head() {
            // The body of a reward model: these keys belong to its head.
            let own = ["num_labels", "id2label", "label2id", "problem_type", "use_cache"];
            json.retain(|key, _| !own.contains(&key.as_str()));
            if let Some(Value::Object(classes)) = json.get_mut("auto_map") {
                classes.shift_remove(AUTO_CLASS);
            }
            json.retain(|key, value| {
                key != "auto_map" || value.as_object().is_none_or(|map| !map.is_empty())
            });
        }
        json.insert("architectures".into(), Value::from(vec![self.family.language_model]));
        json.insert("tie_word_embeddings".into(), Value::from(self.tied));
        json.insert("pad_token_id".into(), self.pad.map_or(Value::Null, Value::from));
        let dtype = if json.contains_key("torch_dtype") { "torch_dtype" } else { "dtype" };
        json.insert(dtype.into(), Value::from("float32"));
        json
    }

    /// Returns the config of a reward model with this body, as `transformers` writes it.
    pub fn reward_json(&self) -> Map<String, Value> {
        let mut json = self.raw.clone();
        json.insert("architectures".into(), Value::from(vec![self.family.classifier]));
        if let Some(class) = self.family.own_class() {
            // The folder has the code of no other class.
            json.insert("auto_map".into(), serde_json::json!({AUTO_CLASS: class}));
        }
        json.insert("num_labels".into(), Value::from(1));
        json.insert("id2label".into(), serde_json::json!({"0": "LABEL_0"}));
        json.insert("label2id".into(), serde_json::json!({"LABEL_0": 0}));
        json.insert("pad_token_id".into(), self.pad.map_or(Value::Null, Value::from));
        json.insert("use_cache".into(), Value::from(false));
        // transformers refuses a classification with one label.
        json.retain(|key, value| key != "problem_type" || value.as_str() == Some("regression"));
        let dtype = if json.contains_key("torch_dtype") { "torch_dtype" } else { "dtype" };
        json.insert(dtype.into(), Value::from("float32"));
        json
    }
}
