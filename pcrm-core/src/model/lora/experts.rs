//! New adapters of experts, which PEFT reads as adapters of one tensor per layer.
//!
//! transformers holds the gates and inputs of a layer's experts as one tensor, and their outputs as another. PEFT
//! joins the adapters of single experts to adapters of these.

use std::collections::{BTreeMap, BTreeSet};

use super::config::LoraConfig;
use super::naming::AdapterLayout;
use super::targets::Targets;
use crate::error::{Error, Result};

/// Checks that PEFT reads new adapters of experts as they are trained here.
///
/// # Errors
/// Fails if PEFT would ignore them or read them as others.
pub(super) fn check_new(config: &LoraConfig, layout: &AdapterLayout<'_>, targets: &Targets) -> Result<()> {
    let Some(experts) = &layout.shape.family.experts else { return Ok(()) };
    let refuse = |key: &str, message: String| Err(Error::invalid(key, message));
    // transformers calls the mixture of every family `mlp`.
    let is_renamed = |module: &str| experts.is_router(module) && !experts.router.starts_with("mlp.");
    let mut modules = targets.saved.iter().map(|name| name.trim_end_matches(".weight"));
    if let Some(module) = modules.find(|module| experts.has_expert(module) || is_renamed(module)) {
        let message = format!(
            "names {module}, which transformers holds under another name, so that PEFT cannot load it: leave it out"
        );
        return refuse("modules_to_save", message);
    }
    if !experts.adapted {
        return Ok(());
    }
    let matrices = [experts.expert.gate, experts.expert.up, experts.expert.down];
    let (joined, down) = (matrices.join(", "), experts.expert.down);
    // By layer, the experts with adapters on each matrix.
    let mut layers: BTreeMap<&str, BTreeMap<&str, BTreeSet<&str>>> = BTreeMap::new();
    for (module, target) in &targets.adapted {
        let (path, matrix) = module.rsplit_once('.').unwrap_or(("", module));
        let Some((layer, expert)) = path.split_once(experts.prefix) else {
            if matrices.contains(&matrix) {
                let message = format!(
                    "names {module}, which is no expert's; by the names of experts' matrices ({joined}) PEFT reads \
                     adapters of experts only: leave it out (exclude_modules)"
                );
                return refuse("target_modules", message);
            }
            continue;
        };
        if target.rank != config.r {
            let message = format!(
                "gives {module} rank {}; adapters of experts have the rank r, {}",
                target.rank, config.r
            );
            return refuse("rank_pattern", message);
        }
        let common =
            config.lora_alpha / if config.use_rslora { (config.r as f64).sqrt() } else { config.r as f64 };
        if target.scale != common {
            let message =
                format!("names {module}; adapters of experts have the α lora_alpha, {}", config.lora_alpha);
            return refuse("alpha_pattern", message);
        }
        layers.entry(layer).or_default().entry(matrix).or_default().insert(expert);
    }
    if layers.is_empty() {
        return Ok(());
    }
    let count = layout.shape.mixture.as_ref().map_or(0, |mixture| mixture.experts);
    for (layer, adapted) in &layers {
        let names: Vec<&str> = adapted.keys().copied().collect();
        let whole = adapted.values().all(|experts| experts.len() == count);
        if !whole || (names != [down] && names.len() != matrices.len()) {
            let message = format!(
                "names {} of experts in {}; PEFT reads adapters of {joined} together, or of {down} alone, in all \
                 experts of a layer: name these, or none",
                names.join(", "),
                layer.trim_end_matches('.')
            );
            return refuse("target_modules", message);
        }
    }
    if config.lora_dropout > 0.0 {
        let message = format!(
            "is {}; PEFT's adapters of experts have no dropout: set it to 0 (--lora-dropout), or leave {joined} out of \
             target_modules (--lora-target-modules)",
            config.lora_dropout
        );
        return refuse("lora_dropout", message);
    }
    if config.use_rslora && layers.values().any(|adapted| adapted.len() > 1) {
        let message = format!(
            "is true (--use-rslora); PEFT scales adapters of experts in another way then: leave it out, and set \
             lora_alpha (--lora-alpha) to {} for the same scale",
            (config.lora_alpha * (config.r as f64).sqrt() * 1e6).round() / 1e6
        );
        return refuse("use_rslora", message);
    }
    Ok(())
}
