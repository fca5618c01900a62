//! `ensure_weight_tying`: one matrix is the embedding and the language-model head.

use std::collections::BTreeMap;

use super::config::LoraConfig;
use super::modules::covers;
use super::naming::AdapterLayout;
use crate::error::{Error, Result};
use crate::host::HostTensor;
use crate::model::parameters::Head;

/// Returns whether `modules_to_save` names the embedding or the language-model head.
fn trains_table(config: &LoraConfig, layout: &AdapterLayout<'_>) -> bool {
    let embedding = layout.embedding();
    let named =
        |module: &String| layout.head().ends_with(module.as_str()) || covers(module, &embedding, layout);
    config.modules_to_save.iter().flatten().any(named)
}

/// Returns whether a configuration trains the embedding or the language-model head separately, although the
/// model has one matrix for both.
pub(super) fn parts(config: &LoraConfig, layout: &AdapterLayout<'_>) -> bool {
    layout.is_tied() && !config.ensure_weight_tying && trains_table(config, layout)
}

/// Returns whether PEFT trained one of the two separately in spite of `ensure_weight_tying`. The stored tensors
/// show it: PEFT stores both if it ties them, which it does only under the few names that it knows.
pub(super) fn parted(
    config: &LoraConfig,
    layout: &AdapterLayout<'_>,
    stored: &BTreeMap<String, HostTensor>,
) -> bool {
    layout.is_tied()
        && config.ensure_weight_tying
        && trains_table(config, layout)
        && !stored.contains_key(layout.shape.family.language_head)
}

/// Checks an adapter on the language-model head, which PEFT would put on the embedding too.
///
/// # Errors
/// Fails if the two are one matrix and `ensure_weight_tying` is set.
pub(super) fn check_head(config: &LoraConfig, layout: &AdapterLayout<'_>) -> Result<()> {
    if !layout.is_tied() || !config.ensure_weight_tying {
        return Ok(());
    }
    let head = layout.head();
    let message = format!(
        "names {head} together with ensure_weight_tying (--lora-ensure-weight-tying), by which PEFT puts the adapter \
         on the embedding too, and embeddings cannot have adapters: leave {head} out, or ensure_weight_tying"
    );
    Err(Error::invalid("target_modules", message))
}

/// Checks that `ensure_weight_tying` has an effect on a new adapter.
///
/// # Errors
/// Fails if it has none.
pub(super) fn check_new(config: &LoraConfig, layout: &AdapterLayout<'_>) -> Result<()> {
    let why = match config.ensure_weight_tying {
        false => return Ok(()),
        true if !layout.heads.contains(&Head::Language) => "the model has no language-model head",
        true if !layout.shape.tied => {
            "the model's embedding and language-model head are two matrices (tie_word_embeddings is false)"
        }
        true if !trains_table(config, layout) => {
            "modules_to_save (--lora-modules-to-save) names neither the embedding nor the language-model head"
        }
        true => return Ok(()),
    };
    let message =
        format!("is true (--lora-ensure-weight-tying) and has no effect, since {why}: leave it out");
    Err(Error::invalid("ensure_weight_tying", message))
}

/// Drops the language-model head that PEFT stores in addition to the embedding it is tied to.
///
/// # Errors
/// Fails if the two differ.
pub(super) fn as_one(stored: &mut BTreeMap<String, HostTensor>, layout: &AdapterLayout<'_>) -> Result<()> {
    let name = layout.shape.family.language_head;
    let head = if layout.shape.tied { stored.remove(name) } else { None };
    let Some(head) = head else { return Ok(()) };
    let embedding = layout.embedding();
    if stored.get(&embedding).is_some_and(|table| *table != head) {
        let message = format!("differs from {embedding}; expected equal values: the base model ties the two");
        return Err(Error::invalid(name, message));
    }
    stored.insert(embedding, head);
    Ok(())
}
