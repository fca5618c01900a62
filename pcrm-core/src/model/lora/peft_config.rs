//! `adapter_config.json` as PEFT writes it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::Adapters;
use super::config::Modules;
use super::naming::{AdapterLayout, Naming};
use super::targets::Targets;
use crate::error::{Error, Result};
use crate::model::parameters::{Head, SCORE, VALUE};

/// Returns the configuration as PEFT writes it, with sorted keys.
pub(super) fn json(adapters: &Adapters, layout: &AdapterLayout<'_>) -> Result<BTreeMap<String, Value>> {
    let reward = layout.heads.contains(&Head::Score);
    let mut config = adapters.config.clone();
    config.fan_in_fan_out = layout.shape.family.conv1d;
    config.target_modules = Some(Modules::List(module_names(adapters, layout)));
    config.exclude_modules = None;
    if layout.naming == Naming::Within {
        config.modules_to_save = config.modules_to_save.map(|_| saved_names(adapters, layout));
    }
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
    json.insert("base_model_name_or_path".into(), Value::from(adapters.base().display().to_string()));
    json.entry("revision".into()).or_insert(Value::Null);
    Ok(json)
}

/// Returns the modules with adapters by their shortest unambiguous names: last parts, else whole names. The other
/// parts of a multimodal model have modules of the same names, so that only whole names are unambiguous there.
fn module_names(adapters: &Adapters, layout: &AdapterLayout<'_>) -> Vec<String> {
    let whole: BTreeSet<String> = adapters.targets.adapted.keys().map(|own| layout.peft(own)).collect();
    let last: BTreeSet<String> =
        whole.iter().map(|name| name.rsplit('.').next().unwrap_or(name).to_owned()).collect();
    let mut short = adapters.config.clone();
    short.target_modules = Some(Modules::List(last.iter().cloned().collect()));
    short.exclude_modules = None;
    let same = layout.naming == Naming::Alone
        && Targets::find(&short, layout).is_ok_and(|found| found == adapters.targets);
    if same { last } else { whole }.into_iter().collect()
}

/// Returns the modules trained in full by their whole names, without heads of scores.
fn saved_names(adapters: &Adapters, layout: &AdapterLayout<'_>) -> Vec<String> {
    let saved = adapters.targets.saved.iter().filter(|name| ![SCORE, VALUE].contains(&name.as_str()));
    let modules = saved.filter_map(|own| Some(layout.peft(own).rsplit_once('.')?.0.to_owned()));
    modules.collect::<BTreeSet<_>>().into_iter().collect()
}
