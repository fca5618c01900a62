//! The modules that adapters apply to, by PEFT's rules.

use std::collections::{BTreeMap, BTreeSet};

use super::config::{LoraConfig, Modules};
use super::modules::{LANGUAGE_HEAD, LinearModules, tables};
use super::patterns::Pattern;
use crate::error::{Error, Result};
use crate::model::config::ModelConfig;
use crate::model::parameters::{Head, parameters};

/// The most module names that a message lists.
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
    pub fn find(config: &LoraConfig, shape: &ModelConfig, heads: &[Head]) -> Result<Self> {
        config.check()?;
        let LinearModules { adaptable: linear, barred } = LinearModules::of(shape, heads);
        let saved = saved(config, shape, heads)?;
        let wanted = Wanted::new(config, shape)?;
        let mut adapted = BTreeMap::new();
        for (peft, own) in &linear {
            let module_saved = saved.iter().any(|name| name.starts_with(&format!("{own}.")));
            if module_saved || !wanted.matches(peft)? {
                continue;
            }
            if *peft == LANGUAGE_HEAD && config.lora_dropout > 0.0 {
                let message = "names lm_head together with lora_dropout, which the adapter of a \
                               language-model head does not support: set lora_dropout to 0 or leave lm_head \
                               out";
                return Err(Error::invalid("target_modules", message));
            }
            adapted.insert(own.clone(), Target { rank: wanted.rank(peft)?, scale: wanted.scale(peft)? });
        }
        for (table, kind) in tables(shape) {
            if wanted.matches(&table)? && !matches!(wanted.targets, Names::AllLinear) {
                let message = format!(
                    "names {table}, {kind}; only linear layers can have adapters (modules_to_save trains {kind} \
                     fully)"
                );
                return Err(Error::invalid("target_modules", message));
            }
        }
        if let Some(expert) = wanted.experts_alone(&linear, &barred)? {
            let family = shape.family.model_type;
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

/// Returns the parameters of `modules_to_save`; for a reward model always including its head, as in PEFT.
fn saved(config: &LoraConfig, shape: &ModelConfig, heads: &[Head]) -> Result<BTreeSet<String>> {
    let scalar = heads.iter().filter(|head| matches!(head, Head::Score | Head::Value));
    let mut saved: BTreeSet<String> =
        scalar.filter_map(|head| head.parameter(shape)).map(|parameter| parameter.name).collect();
    if parts_tied(config, shape, heads) {
        let message = "names the embedding or lm_head, which are one (tie_word_embeddings): set \
                       ensure_weight_tying (--lora-ensure-weight-tying) to train them as one, or leave them out";
        return Err(Error::invalid("modules_to_save", message));
    }
    for module in config.modules_to_save.iter().flatten().map(String::as_str) {
        let mut found = false;
        for parameter in parameters(shape, heads) {
            if covers(module, &parameter.name, shape) {
                saved.insert(parameter.name);
                found = true;
            }
        }
        if shape.tied && LANGUAGE_HEAD.ends_with(module) && heads.contains(&Head::Language) {
            saved.insert(format!("{}.weight", shape.family.embedding));
            found = true;
        }
        // PEFT lists both for every classifier.
        if !found && !["classifier", "score"].contains(&module) {
            let message = format!("{module:?} is not a module of the model");
            return Err(Error::invalid("modules_to_save", message));
        }
    }
    Ok(saved)
}

/// Returns whether a module of `modules_to_save` is or contains that of a parameter.
fn covers(module: &str, parameter: &str, shape: &ModelConfig) -> bool {
    let own = match parameter == shape.family.language_head {
        true => format!("{LANGUAGE_HEAD}.weight"),
        false => parameter.to_owned(),
    };
    own.rmatch_indices('.').any(|(dot, _)| own[..dot].ends_with(module))
}

/// Returns whether a configuration trains the embedding or the language-model head apart from the other, although
/// the model has one matrix for both.
pub(super) fn parts_tied(config: &LoraConfig, shape: &ModelConfig, heads: &[Head]) -> bool {
    let embedding = format!("{}.weight", shape.family.embedding);
    let named = |module: &String| LANGUAGE_HEAD.ends_with(module) || covers(module, &embedding, shape);
    let tied = shape.tied && heads.contains(&Head::Language);
    tied && !config.ensure_weight_tying && config.modules_to_save.iter().flatten().any(named)
}

/// The rules of a configuration, compiled.
struct Wanted<'a> {
    config: &'a LoraConfig,
    targets: Names,
    excluded: Names,
    layers: Option<Vec<usize>>,
    ranks: Vec<(Pattern, f64)>,
    alphas: Vec<(Pattern, f64)>,
    layer_patterns: Vec<String>,
}

/// A rule that selects modules.
enum Names {
    None,
    AllLinear,
    List(Vec<String>),
    Pattern(Pattern),
}

impl Names {
    fn new(field: &str, modules: Option<&Modules>) -> Result<Self> {
        Ok(match modules {
            None => Self::None,
            Some(Modules::Pattern(text)) if text.to_lowercase() == "all-linear" => Self::AllLinear,
            Some(Modules::Pattern(text)) => Self::Pattern(Pattern::whole(field, text)?),
            Some(Modules::List(names)) => Self::List(names.clone()),
        })
    }

    fn matches(&self, module: &str) -> Result<bool> {
        match self {
            Self::None => Ok(false),
            Self::AllLinear => Ok(module != LANGUAGE_HEAD),
            Self::List(names) => Ok(names.iter().any(|name| {
                module == name || module.strip_suffix(name.as_str()).is_some_and(|rest| rest.ends_with('.'))
            })),
            Self::Pattern(pattern) => pattern.matches(module),
        }
    }

    /// Returns the first module that the rule matches.
    fn first_of<'m>(&self, modules: impl IntoIterator<Item = &'m String>) -> Result<Option<&'m String>> {
        for module in modules {
            if self.matches(module)? {
                return Ok(Some(module));
            }
        }
        Ok(None)
    }
}

impl<'a> Wanted<'a> {
    fn new(config: &'a LoraConfig, shape: &ModelConfig) -> Result<Self> {
        let default =
            Modules::List(shape.family.lora_targets.iter().map(|name| (*name).to_owned()).collect());
        let table = |field: &str, table: &serde_json::Map<String, serde_json::Value>| {
            let entry = |(key, value): (&String, &serde_json::Value)| {
                let wrong = || {
                    Error::invalid(
                        format!("{field}.{key}"),
                        format!("is {value}; expected a positive number"),
                    )
                };
                let positive = value.as_f64().filter(|value| *value > 0.0);
                let value =
                    positive.filter(|x| x.fract() == 0.0 || field != "rank_pattern").ok_or_else(wrong)?;
                Ok((Pattern::ending(field, key)?, value))
            };
            table.iter().map(entry).collect::<Result<Vec<_>>>()
        };
        Ok(Self {
            targets: Names::new("target_modules", Some(config.target_modules.as_ref().unwrap_or(&default)))?,
            excluded: Names::new("exclude_modules", config.exclude_modules.as_ref())?,
            layers: config.layers_to_transform.as_ref().map(|layers| layers.list()),
            ranks: table("rank_pattern", &config.rank_pattern)?,
            alphas: table("alpha_pattern", &config.alpha_pattern)?,
            layer_patterns: config.layers_pattern.as_ref().map_or_else(Vec::new, |patterns| patterns.list()),
            config,
        })
    }

    fn matches(&self, module: &str) -> Result<bool> {
        if self.excluded.matches(module)? || !self.targets.matches(module)? {
            return Ok(false);
        }
        // PEFT applies layers_to_transform only to lists of names.
        let (Some(layers), Names::List(_)) = (&self.layers, &self.targets) else { return Ok(true) };
        Ok(self.layer(module).is_some_and(|layer| layers.contains(&layer)))
    }

    /// Returns an expert that a name of the list, or the pattern, matches without matching a linear module.
    fn experts_alone<'m>(
        &self,
        linear: &'m [(String, String)],
        experts: &'m [String],
    ) -> Result<Option<&'m String>> {
        let single = |name: &String| Names::List(vec![name.clone()]);
        let rules: Vec<Names> = match &self.targets {
            Names::List(names) => names.iter().map(single).collect(),
            Names::Pattern(pattern) => vec![Names::Pattern(pattern.clone())],
            Names::None | Names::AllLinear => Vec::new(),
        };
        for rule in rules {
            let Some(expert) = rule.first_of(experts)? else { continue };
            if rule.first_of(linear.iter().map(|(peft, _)| peft))?.is_none() {
                return Ok(Some(expert));
            }
        }
        Ok(None)
    }

    /// Returns the number of the layer in a module's name.
    fn layer(&self, module: &str) -> Option<usize> {
        let parts: Vec<&str> = module.split('.').collect();
        let numbered = (1..parts.len() - 1).filter_map(|at| Some((at, parts[at].parse::<usize>().ok()?)));
        let mut fitting = numbered.filter(|(at, _)| match self.layer_patterns.as_slice() {
            [] => *at >= 2,
            names => names.iter().any(|name| parts[at - 1] == name),
        });
        fitting.next().map(|(_, layer)| layer)
    }

    fn rank(&self, module: &str) -> Result<usize> {
        Ok(first(&self.ranks, module)?.map_or(self.config.r, |rank| rank as usize))
    }

    /// Returns α/r, or α/√r with rank-stabilised scales (arXiv 2312.03732).
    fn scale(&self, module: &str) -> Result<f64> {
        let alpha = first(&self.alphas, module)?.unwrap_or(self.config.lora_alpha);
        let rank = self.rank(module)? as f64;
        Ok(alpha / if self.config.use_rslora { rank.sqrt() } else { rank })
    }

    fn described(&self) -> String {
        match &self.config.target_modules {
            Some(Modules::Pattern(pattern)) => format!("{pattern:?}"),
            Some(Modules::List(names)) => format!("{names:?}"),
            None => "the default of the family".to_owned(),
        }
    }
}

/// Returns the value of the first pattern that matches.
fn first(patterns: &[(Pattern, f64)], module: &str) -> Result<Option<f64>> {
    for (pattern, value) in patterns {
        if pattern.matches(module)? {
            return Ok(Some(*value));
        }
    }
    Ok(None)
}
