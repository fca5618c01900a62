//! The card of a shared model: the run's own card, or a short one, with the figures of its evaluation as a
//! model index.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use pcrm_core::model::ModelConfig;
use pcrm_core::model::config::CLASS_FILE;
use pcrm_core::model::lora::peft::AdapterFolder;
use serde_json::{Value, json};

use super::origins::Origins;
use super::paths::Paths;
use super::{CARD, figures, is_reward};
use crate::card;
use crate::hub::is_repository;
use crate::training::folder::name_of;

/// Returns the card of a run for sharing.
///
/// # Errors
/// Fails if the run's card, config or metrics cannot be read.
pub fn shared(
    run: &Path,
    origins: &Origins,
    paths: &Paths,
    step: Option<u64>,
    adapter: bool,
) -> Result<String> {
    let path = run.join(CARD);
    let text = match path.exists() {
        true => fs::read_to_string(&path).with_context(|| path.display().to_string())?,
        false => short(run, is_reward(run, adapter)?, adapter)?,
    };
    let (front, body) = split(&text);
    let figures = figures::of(run, step)?;
    let front = with_origins(&front, origins, paths, adapter);
    let has_index = front.iter().any(|line| line.starts_with("model-index:"));
    let index = match figures.is_empty() || has_index {
        true => Vec::new(),
        false => index(&name_of(run), origins, is_reward(run, adapter)?, &figures),
    };
    let front: String = front.into_iter().chain(index).map(|line| line + "\n").collect();
    let body = paths.replaced(&without_page(card::without_mark(&body)));
    Ok(format!("---\n{front}---\n\n{}\n", body.trim()))
}

/// Returns a short card: a title and one sentence. It names a library only if that loads the model.
fn short(run: &Path, reward: bool, adapter: bool) -> Result<String> {
    let library = match reward && !scored_by_transformers(run, adapter) {
        true => "",
        false => "library_name: transformers\n",
    };
    let (pipeline, tag, sort) = match reward {
        true => ("text-classification", "reward-model", "reward model"),
        false => ("text-generation", "pcrm-policy", "language model"),
    };
    let name = serde_json::to_string(&name_of(run))?;
    Ok(format!(
        "---\n{library}pipeline_tag: {pipeline}\ntags:\n- {tag}\n- pcrm\n---\n\n\
         # {}\n\nA {sort}, trained with pcrm {}.\n",
        name.trim_matches('"'),
        env!("CARGO_PKG_VERSION")
    ))
}

/// Returns true if transformers loads the run's reward model, by a class for its family or by the run's own class.
/// The family is named by the config, for an adapter by its base's. Returns false if it is unknown.
fn scored_by_transformers(run: &Path, adapter: bool) -> bool {
    if !adapter && run.join(CLASS_FILE).is_file() {
        return true;
    }
    let dir = match adapter {
        true => AdapterFolder::open(run).and_then(|folder| folder.base()),
        false => Ok(run.to_path_buf()),
    };
    let config = dir.and_then(|dir| ModelConfig::from_dir(&dir));
    config.is_ok_and(|config| config.family.scored_by_transformers)
}

/// Splits a card into the lines of its front matter and its body.
fn split(text: &str) -> (Vec<String>, String) {
    let parts = text.strip_prefix("---\n").and_then(|rest| rest.split_once("\n---"));
    match parts {
        Some((front, body)) => (front.lines().map(str::to_owned).collect(), body.to_owned()),
        None => (Vec::new(), text.to_owned()),
    }
}

/// Returns the front matter with the Hub names of the base model and the data, or without them.
fn with_origins(front: &[String], origins: &Origins, paths: &Paths, adapter: bool) -> Vec<String> {
    let keys = ["base_model", "base_model_relation", "datasets"];
    let key = |line: &str| line.split(':').next().unwrap_or_default().to_owned();
    let is_key = |line: &str| line.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let (mut kept, mut own, mut inside) = (Vec::new(), Vec::new(), String::new());
    for line in front {
        if is_key(line) {
            inside = key(line);
        }
        match keys.contains(&inside.as_str()) {
            true => own.push((inside.clone(), line.clone())),
            false => kept.push(paths.replaced(line)),
        }
    }
    // Keep repository names that the author wrote, unless they are paths.
    let values = |wanted: &str| -> Vec<String> {
        let lines = own.iter().filter(|(key, _)| key == wanted).map(|(_, line)| line);
        let value = |line: &String| line.trim_start_matches(&format!("{wanted}:")).trim().to_owned();
        let values =
            lines.map(value).map(|text| text.trim_start_matches("- ").trim_matches(['"', '\'']).to_owned());
        values.filter(|name| is_repository(name) && !Path::new(name).exists()).collect()
    };
    let base = origins.base.clone().or_else(|| values("base_model").into_iter().next());
    if let Some(base) = base {
        kept.push(format!("base_model: {}", quoted(&base)));
        if adapter {
            kept.push("base_model_relation: adapter".to_owned());
        }
    }
    let mut datasets = origins.datasets.clone();
    let written = values("datasets").into_iter().filter(|name| !origins.datasets.contains(name));
    datasets.extend(written);
    if !datasets.is_empty() {
        kept.push("datasets:".to_owned());
        kept.extend(datasets.iter().map(|name| format!("- {}", quoted(name))));
    }
    if adapter {
        for line in kept.iter_mut().filter(|line| *line == "library_name: transformers") {
            *line = "library_name: peft".to_owned();
        }
    }
    kept
}

/// Removes the sentence about the page, which is not shared.
fn without_page(body: &str) -> String {
    let (begin, end) = ("`report.html` in", "training curves.");
    let Some(start) = body.find(begin) else { return body.to_owned() };
    let Some(length) = body[start..].find(end) else { return body.to_owned() };
    let rest = body[start + length + end.len()..].trim_start_matches(' ');
    format!("{}{rest}", &body[..start])
}

/// Returns the model index as lines of YAML.
fn index(name: &str, origins: &Origins, reward: bool, figures: &[(&str, &str, f64)]) -> Vec<String> {
    let (task, title) = match reward {
        true => ("text-classification", "Reward modelling"),
        false => ("text-generation", "Text generation"),
    };
    let (kind, data) = match &origins.evaluated_on {
        Some(name) => (name.clone(), format!("held-out part of {name}")),
        None => ("held-out".to_owned(), "held-out data".to_owned()),
    };
    let mut lines: Vec<String> = [
        "model-index:".to_owned(),
        format!("- name: {}", quoted(name)),
        "  results:".to_owned(),
        "  - task:".to_owned(),
        format!("      type: {task}"),
        format!("      name: {title}"),
        "    dataset:".to_owned(),
        format!("      type: {}", quoted(&kind)),
        format!("      name: {}", quoted(&data)),
        "    metrics:".to_owned(),
    ]
    .to_vec();
    for (kind, name, value) in figures {
        lines.push(format!("    - type: {kind}"));
        lines.push(format!("      name: {}", quoted(name)));
        lines.push(format!("      value: {}", json!(value)));
    }
    lines
}

/// Quotes text as a YAML string; a JSON string is valid YAML.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origins(base: Option<&str>, datasets: &[&str]) -> Origins {
        let datasets = datasets.iter().map(|name| (*name).to_owned()).collect();
        Origins { base: base.map(str::to_owned), datasets, evaluated_on: None, paths: Vec::new() }
    }

    /// Protects: a base model and data that are not on the Hub get no link to it; names that the author wrote
    /// remain.
    #[test]
    fn origins_are_names_of_the_hub_or_absent() {
        let text = "---\nlicense: mit\nbase_model: /usr/share/qwen\ndatasets:\n- /usr/share/a.jsonl\n\
                    - acme/mine\ntags:\n- x\n---\nbody";
        let (front, body) = split(text);
        let with = |origins: &Origins| {
            with_origins(&front, origins, &Paths::of(Path::new("rm"), origins), true).join("\n")
        };
        let alone = "license: mit\ntags:\n- x\ndatasets:\n- \"acme/mine\"";
        assert_eq!((with(&origins(None, &[])).as_str(), body.as_str()), (alone, "\nbody"));
        let named = with(&origins(Some("acme/nano"), &["acme/pairs"]));
        assert!(named.contains("base_model: \"acme/nano\"\nbase_model_relation: adapter"), "{named}");
        assert!(named.ends_with("datasets:\n- \"acme/pairs\"\n- \"acme/mine\""), "{named}");
    }

    /// Protects: the short card of a reward model, and of an adapter, names a library only for families that
    /// transformers has a class of reward models for, and for a folder with its own; that of a language model always
    /// does.
    #[test]
    fn a_short_card_names_the_library_that_loads_the_model() {
        let golden = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/models"));
        let own = std::cell::Cell::new(false);
        let of = |family: &str, class: &str, adapter: bool| {
            let run = tempfile::tempdir().unwrap();
            if own.get() {
                fs::write(run.path().join(CLASS_FILE), "class Own").unwrap();
            }
            let text = fs::read_to_string(golden.join(family).join("config.json")).unwrap();
            let mut config: Value = serde_json::from_str(&text).unwrap();
            config["architectures"] = json!([class]);
            let base = if adapter { run.path().join("base") } else { run.path().to_path_buf() };
            fs::create_dir_all(&base).unwrap();
            fs::write(base.join("config.json"), config.to_string()).unwrap();
            if adapter {
                let config = json!({"peft_type": "LORA", "task_type": "SEQ_CLS", "r": 2, "lora_alpha": 4,
                    "target_modules": "all-linear", "base_model_name_or_path": base});
                fs::write(run.path().join("adapter_config.json"), config.to_string()).unwrap();
            }
            let origins = origins(None, &[]);
            let paths = Paths::of(run.path(), &origins);
            let card = shared(run.path(), &origins, &paths, None, adapter).unwrap();
            card.lines().find_map(|line| line.strip_prefix("library_name: ").map(str::to_owned))
        };
        let (transformers, peft) = (Some("transformers".to_owned()), Some("peft".to_owned()));
        assert_eq!(of("llama", "LlamaForSequenceClassification", false), transformers);
        assert_eq!(of("llama", "LlamaForSequenceClassification", true), peft);
        for (family, name) in [("granite", "Granite"), ("cohere2", "Cohere2"), ("olmoe", "Olmoe")] {
            let class = format!("{name}ForSequenceClassification");
            assert_eq!(of(family, &class, false), None, "{family}");
            assert_eq!(of(family, &class, true), None, "{family}");
            assert_eq!(of(family, &format!("{name}ForCausalLM"), false), transformers, "{family}");
            own.set(true);
            assert_eq!(of(family, &class, false), transformers, "{family}");
            assert_eq!(of(family, &class, true), None, "{family}");
            own.set(false);
        }
    }

    /// Protects: only the sentence about the page, which is not shared, is removed.
    #[test]
    fn the_page_is_not_mentioned() {
        let body = "Loss. `report.html` in this folder\nshows the training curves. Scores have no unit.";
        assert_eq!(without_page(body), "Loss. Scores have no unit.");
        assert_eq!(without_page("plain"), "plain");
    }
}
