//! The modules that adapters apply to, by PEFT's rules.

use std::collections::{BTreeMap, BTreeSet};

use super::config::LoraConfig;
use super::modules::{LinearModules, saved, tables};
use super::naming::AdapterLayout;
use super::rules::Wanted;
use super::tying;
use crate::error::{Error, Result};

/// The maximum number of module names that a message lists.
const LISTED: usize = 12;

/// The rank and scale of one module's adapter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Target {
    pub rank: usize,
    pub scale: f64,
}

/// Modules with adapters, and parameters that are fully trained.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Targets {
    /// The targets by module: a parameter's name without `.weight`.
    pub adapted: BTreeMap<String, Target>,
    /// The fully trained parameters.
    pub saved: BTreeSet<String>,
}

impl Targets {
    /// Finds the targets of a configuration in a model.
    ///
    /// # Errors
    /// Fails if modules cannot have adapters, if patterns are invalid, and if the configuration matches
    /// nothing.
    pub fn find(config: &LoraConfig, layout: &AdapterLayout<'_>) -> Result<Self> {
        config.check()?;
        if tying::parts(config, layout) {
            let message = "names the embedding or lm_head, which are one (tie_word_embeddings): set \
                           ensure_weight_tying (--lora-ensure-weight-tying) to train them as one, or leave them out";
            return Err(Error::invalid("modules_to_save", message));
        }
        let LinearModules { adaptable: linear, barred } = LinearModules::of(layout);
        let saved = saved(config, layout)?;
        let head = layout.head();
        let wanted = Wanted::new(config, layout.shape, head)?;
        let mut adapted = BTreeMap::new();
        for (peft, own) in &linear {
            let module_saved = saved.iter().any(|name| name.starts_with(&format!("{own}.")));
            if module_saved || !wanted.matches(peft)? {
                continue;
            }
            if *peft == head {
                tying::check_head(config, layout)?;
                if config.lora_dropout > 0.0 {
                    let message = format!(
                        "names {head} together with lora_dropout, which the adapter of a language-model head does \
                         not support: set lora_dropout to 0 or leave {head} out"
                    );
                    return Err(Error::invalid("target_modules", message));
                }
            }
            adapted.insert(own.clone(), Target { rank: wanted.rank(peft)?, scale: wanted.scale(peft)? });
        }
        let is_saved = |table: &str| saved.iter().any(|name| layout.peft(name) == format!("{table}.weight"));
        for (table, kind) in tables(layout) {
            if !wanted.all_linear() && !is_saved(&table) && wanted.matches(&table)? {
                let message = format!(
                    "names {table}, {kind}; only linear layers can have adapters (modules_to_save trains {kind} \
                     fully)"
                );
                return Err(Error::invalid("target_modules", message));
            }
        }
        if let Some(expert) = wanted.experts_alone(&linear, &barred)? {
            let family = layout.shape.family.model_type;
            let message = format!(
                "names {expert}, an expert, but no other linear layer by the same name; in {family} experts \
                 cannot have adapters, since PEFT ignores them there: name layers of attention or of the \
                 shared expert"
            );
            return Err(Error::invalid("target_modules", message));
        }
        if adapted.is_empty() {
            let names: Vec<&str> = linear.iter().map(|(peft, _)| peft.as_str()).take(LISTED).collect();
            let message = format!(
                "{} matches no linear layer of the model; it has {}, ..",
                wanted.described(),
                names.join(", ")
            );
            return Err(Error::invalid("target_modules", message));
        }
        Ok(Self { adapted, saved })
    }
}
