//! The common prefix of a checkpoint's names.

use std::collections::BTreeSet;

use super::some;
use crate::error::{Error, Result};
use crate::model::checkpoint::Checkpoint;
use crate::model::config::ModelConfig;
use crate::model::parameters::SCORE;

/// Prefixes that wrappers add to each name: DataParallel, torch.compile, PEFT, FSDP, DeepSpeed, a model
/// within a model.
const WRAPPERS: [&str; 6] =
    ["module.", "_orig_mod.", "base_model.model.", "_fsdp_wrapped_module.", "_forward_module.", "model."];

/// Determines the wrapper prefix, and whether names lack the family's own, from the name of the embedding.
pub(super) fn naming(config: &ModelConfig, checkpoint: &Checkpoint) -> Result<(String, bool)> {
    let family = config.family;
    let full = format!("{}.weight", family.embedding);
    let bare = full.strip_prefix(family.prefix).unwrap_or(&full);
    let split = |name: &str| {
        let lead = |end: &str| {
            name.strip_suffix(end).filter(|lead| lead.is_empty() || lead.ends_with('.')).map(str::to_owned)
        };
        lead(&full).map(|lead| (lead, false)).or_else(|| lead(bare).map(|lead| (lead, true)))
    };
    let found: BTreeSet<(String, bool)> = checkpoint.names().filter_map(split).collect();
    // Sorted, so that an empty prefix comes first, and the full name before the bare one.
    let Some((lead, is_bare)) = found.first().cloned() else { return Ok((String::new(), false)) };
    if lead.is_empty() {
        return Ok((lead, is_bare));
    }
    let refuse = |why: String| Err(Error::file(checkpoint.dir(), why));
    if found.len() > 1 {
        let leads: Vec<String> = found.iter().map(|(lead, _)| format!("{lead:?}")).collect();
        return refuse(format!(
            "the weights hold several models, whose names begin with {}; expected one",
            leads.join(" and ")
        ));
    }
    let mut rest = lead.as_str();
    let inner = config.text_of.map(|_| "language_model.");
    while let Some(shorter) =
        WRAPPERS.iter().chain([&family.prefix]).chain(&inner).find_map(|wrapper| rest.strip_prefix(wrapper))
    {
        rest = shorter;
    }
    if !rest.is_empty() {
        let known = WRAPPERS.join(", ");
        return refuse(format!(
            "the embedding is {lead}{full}, expected {full}; the prefix {lead:?} is not known (known: \
             {known}): rename the tensors",
            full = if is_bare { bare } else { &full }
        ));
    }
    // The other parts of a multimodal model have their own names.
    let own = |name: &&str| !name.starts_with(&lead) && *name != SCORE && config.text_of.is_none();
    let outside: Vec<&str> = checkpoint.names().filter(own).collect();
    if outside.is_empty() { Ok((lead, is_bare)) } else { refuse(mixed(&lead, &outside)) }
}

fn mixed(lead: &str, outside: &[&str]) -> String {
    format!("some names begin with {lead:?} and others do not ({}); expected all or none", some(outside))
}
