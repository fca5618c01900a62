//! Detection of quantised checkpoints from configs and tensor names. Decoders are read if bitsandbytes quantised
//! them to nf4 or int8 (`bitsandbytes.rs`); other methods are refused by name.

use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::model::config::ModelConfig;
use crate::quant::Quantisation;

impl ModelConfig {
    /// Checks that the weights of this config's folder can be trained in full.
    ///
    /// # Errors
    /// Fails if they are quantised.
    pub fn check_trained_in_full(&self, dir: &Path) -> Result<()> {
        self.quantised.map_or(Ok(()), |method| Err(Error::file(dir, untrained(method))))
    }
}

/// Methods by the suffixes of tensors that only they store.
const TENSORS: [(&str, &str); 16] = [
    (".weight.absmax", "bitsandbytes, 4 bit"),
    (".weight.quant_map", "bitsandbytes, 4 bit"),
    (".weight.nested_absmax", "bitsandbytes, 4 bit"),
    (".weight.quant_state.bitsandbytes__nf4", "bitsandbytes, nf4"),
    (".weight.quant_state.bitsandbytes__fp4", "bitsandbytes, fp4"),
    (".SCB", "bitsandbytes, 8 bit"),
    (".weight_format", "bitsandbytes, 8 bit"),
    (".qweight", "GPTQ or AWQ"),
    (".qzeros", "GPTQ or AWQ"),
    (".g_idx", "GPTQ"),
    (".weight_scale_inv", "fp8"),
    (".weight_packed", "compressed-tensors"),
    (".weight_scale", "compressed-tensors or fp8"),
    (".weight_zero_point", "compressed-tensors"),
    (".weight._data", "quanto"),
    (".weight_blocks", "mxfp4"),
];

/// Returns the method in `quantization_config`; `None` if the weights are plain.
pub(super) fn by_config(raw: &Map<String, Value>) -> Option<String> {
    let config = raw.get("quantization_config").or_else(|| raw.get("compression_config"))?;
    let fields = match config {
        Value::Null => return None,
        Value::Object(fields) if fields.is_empty() => return None,
        Value::Object(fields) => fields,
        other => return Some(format!("quantization_config {other}")),
    };
    let flag = |key: &str| fields.get(key).and_then(Value::as_bool).unwrap_or(false);
    let method = fields.get("quant_method").and_then(Value::as_str);
    let method = method.unwrap_or(if flag("load_in_4bit") || flag("load_in_8bit") {
        "bitsandbytes"
    } else {
        "unnamed"
    });
    let bits = match (flag("load_in_4bit"), flag("load_in_8bit"), fields.get("bits").and_then(Value::as_u64))
    {
        (true, ..) => ", 4 bit".to_owned(),
        (_, true, _) => ", 8 bit".to_owned(),
        (_, _, Some(bits)) => format!(", {bits} bit"),
        _ => String::new(),
    };
    Some(format!("{method}{bits}; quantization_config of config.json"))
}

/// Returns the method in `quantization_config` if it is one that decoders cannot be read from; `None` if the
/// weights are plain, or quantised by bitsandbytes to nf4 or int8.
pub(super) fn unread_by_config(raw: &Map<String, Value>) -> Option<String> {
    let method = by_config(raw)?;
    if !method.starts_with("bitsandbytes") {
        return Some(method);
    }
    let config = raw.get("quantization_config");
    let field = |key: &str| config.and_then(|config| config.get(key));
    let is_nf4 = field("bnb_4bit_quant_type").and_then(Value::as_str) == Some("nf4");
    let is_4bit = field("load_in_4bit").and_then(Value::as_bool).unwrap_or(false);
    match is_4bit && !is_nf4 {
        true => Some(method.replace(", 4 bit", ", fp4")),
        false => None,
    }
}

/// Returns the quantisation of a decoder's weights by `quantization_config`; `None` if they are plain, or
/// quantised by a method that decoders cannot be read from.
pub(super) fn read_by_config(raw: &Map<String, Value>) -> Option<Quantisation> {
    let is_read = by_config(raw)?.starts_with("bitsandbytes") && unread_by_config(raw).is_none();
    let config = raw.get("quantization_config").filter(|_| is_read)?;
    let flag = |key: &str| config.get(key).and_then(Value::as_bool).unwrap_or(false);
    match (flag("load_in_4bit"), flag("load_in_8bit")) {
        (true, _) if flag("bnb_4bit_use_double_quant") => Some(Quantisation::Nf4Double),
        (true, _) => Some(Quantisation::Nf4),
        (false, true) => Some(Quantisation::Int8),
        (false, false) => None,
    }
}

/// Returns the error message for full training of weights quantised by this method.
pub(super) fn untrained(method: Quantisation) -> String {
    format!(
        "the weights are quantised ({method}), and quantised weights cannot be trained: train adapters \
         (--lora-r), or take the checkpoint that was quantised"
    )
}

/// Returns the method that the names of tensors imply, and the first of those names.
pub(super) fn by_tensors<'a>(names: impl Iterator<Item = &'a str>) -> Option<(&'static str, &'a str)> {
    let method =
        |name: &str| TENSORS.iter().find(|(ending, _)| name.ends_with(ending)).map(|(_, method)| *method);
    names.into_iter().find_map(|name| Some((method(name)?, name)))
}

/// Returns the error message for a checkpoint quantised with this method.
pub(super) fn refusal(method: &str) -> String {
    format!(
        "the weights are quantised ({method}), which is not supported; expected floats: take the checkpoint \
         that was quantised, or load this one in transformers and save model.dequantize()"
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Protects: each method is named, and a config without quantisation passes.
    #[test]
    fn methods_are_named() {
        for (config, said) in [
            (json!({"quant_method": "bitsandbytes", "load_in_4bit": true}), Some("bitsandbytes, 4 bit")),
            (json!({"load_in_8bit": true}), Some("bitsandbytes, 8 bit")),
            (json!({"quant_method": "gptq", "bits": 4}), Some("gptq, 4 bit")),
            (json!({"quant_method": "awq", "bits": 4}), Some("awq, 4 bit")),
            (json!({"quant_method": "fp8"}), Some("fp8")),
            (json!({"quant_method": "compressed-tensors"}), Some("compressed-tensors")),
            (json!("int8"), Some("int8")),
            (json!({}), None),
            (json!(null), None),
        ] {
            let raw = [("quantization_config".to_owned(), config)].into_iter().collect();
            let found = by_config(&raw);
            assert_eq!(found.is_some(), said.is_some(), "{found:?}");
            assert!(said.is_none_or(|said| found.is_some_and(|found| found.contains(said))), "{said:?}");
        }
        let with = |config: Value| [("quantization_config".to_owned(), config)].into_iter().collect();
        for (config, refused) in [
            (
                json!({"quant_method": "bitsandbytes", "load_in_4bit": true, "bnb_4bit_quant_type": "nf4"}),
                None,
            ),
            (json!({"quant_method": "bitsandbytes", "load_in_8bit": true}), None),
            (json!({"quant_method": "bitsandbytes", "load_in_4bit": true}), Some("bitsandbytes, fp4")),
            (json!({"quant_method": "gptq", "bits": 4}), Some("gptq, 4 bit")),
        ] {
            let found = unread_by_config(&with(config.clone()));
            assert_eq!(found.is_some(), refused.is_some(), "{config}");
            assert!(refused.is_none_or(|part| found.is_some_and(|found| found.contains(part))), "{config}");
        }
        for (config, method) in [
            (json!({"load_in_4bit": true, "bnb_4bit_quant_type": "nf4"}), Some(Quantisation::Nf4)),
            (
                json!({
                    "load_in_4bit": true, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": true
                }),
                Some(Quantisation::Nf4Double),
            ),
            (json!({"quant_method": "bitsandbytes", "load_in_8bit": true}), Some(Quantisation::Int8)),
            (json!({"load_in_4bit": true, "bnb_4bit_quant_type": "fp4"}), None),
            (json!({"quant_method": "gptq", "load_in_4bit": true}), None),
            (json!(null), None),
        ] {
            assert_eq!(read_by_config(&with(config.clone())), method, "{config}");
        }
        let names = ["model.norm.weight", "model.layers.0.mlp.up_proj.SCB"];
        assert_eq!(by_tensors(names.into_iter()), Some(("bitsandbytes, 8 bit", names[1])));
        assert_eq!(by_tensors(names[..1].iter().copied()), None);
    }
}
