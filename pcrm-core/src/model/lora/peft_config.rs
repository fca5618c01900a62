//! `adapter_config.json` as PEFT writes it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::config::Modules;
use super::{Adapters, language_module};
use crate::error::{Error, Result};
use crate::model::config::ModelConfig;
use crate::model::parameters::Head;

/// Returns the configuration as PEFT writes it, with sorted keys.
pub(super) fn json(
    adapters: &Adapters,
    shape: &ModelConfig,
    heads: &[Head],
) -> Result<BTreeMap<String, Value>> {
    let reward = heads.contains(&Head::Score);
    let mut config = adapters.config.clone();
    config.fan_in_fan_out = shape.family.conv1d;
    config.target_modules = Some(Modules::List(module_names(adapters, shape)));
    config.exclude_modules = None;
    if reward {
        // PEFT lists both for every classifier.
        let mut saved = config.modules_to_save.unwrap_or_default();
        for name in ["classifier", "score"] {
            if !saved.iter().any(|saved| saved == name) {
                saved.push(name.to_owned());
            }
        }
        config.modules_to_save = Some(saved);
    }
    let value = serde_json::to_value(&config).map_err(|error| Error::invalid("adapter_config", error))?;
    let mut json: BTreeMap<String, Value> =
        value.as_object().cloned().unwrap_or_default().into_iter().collect();
    json.insert("peft_type".into(), Value::from("LORA"));
    json.insert("task_type".into(), Value::from(if reward { "SEQ_CLS" } else { "CAUSAL_LM" }));
    json.insert("inference_mode".into(), Value::from(true));
    let base = adapters.base.as_ref().map(|base| base.display().to_string());
    json.insert("base_model_name_or_path".into(), base.map_or(Value::Null, Value::from));
    json.entry("revision".into()).or_insert(Value::Null);
    Ok(json)
}

/// Returns the modules with adapters by their shortest unambiguous names: last parts, else whole names.
fn module_names(adapters: &Adapters, shape: &ModelConfig) -> Vec<String> {
    let peft = |own: &String| match own == language_module(shape) {
        true => "lm_head".to_owned(),
        false => own.clone(),
    };
    let whole: BTreeSet<String> = adapters.targets.adapted.keys().map(peft).collect();
    let last: BTreeSet<String> =
        whole.iter().map(|name| name.rsplit('.').next().unwrap_or(name).to_owned()).collect();
    let mut short = adapters.config.clone();
    short.target_modules = Some(Modules::List(last.iter().cloned().collect()));
    short.exclude_modules = None;
    let heads: &[Head] = match adapters.targets.saved.contains(crate::model::parameters::SCORE) {
        true => &[Head::Score],
        false => &[Head::Language],
    };
    let same = super::Targets::find(&short, shape, heads).is_ok_and(|found| found == adapters.targets);
    if same { last } else { whole }.into_iter().collect()
}
