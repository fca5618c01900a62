//! The rules of a configuration that select modules, ranks and scales, by PEFT's semantics.

use serde_json::{Map, Value};

use super::config::{LoraConfig, Modules};
use super::patterns::Pattern;
use crate::error::{Error, Result};
use crate::model::config::ModelConfig;

/// The rules of a configuration, compiled.
pub(super) struct Wanted<'a> {
    config: &'a LoraConfig,
    targets: Names,
    excluded: Names,
    /// The layers that may have adapters; empty: all.
    layers: Vec<usize>,
    layer_patterns: Vec<Pattern>,
    ranks: Vec<Special>,
    alphas: Vec<Special>,
}

/// A rule that selects modules.
enum Names {
    None,
    /// Every linear layer but the language-model head, which has this name.
    AllLinear(&'static str),
    List(Vec<String>),
    Pattern(Pattern),
}

/// A value for the modules that a pattern matches.
struct Special {
    key: String,
    pattern: Pattern,
    value: f64,
}

impl Names {
    fn new(field: &str, modules: Option<&Modules>) -> Result<Self> {
        Ok(match modules {
            None => Self::None,
            Some(Modules::Pattern(text)) => Self::Pattern(Pattern::whole(field, text)?),
            Some(Modules::List(names)) => Self::List(names.clone()),
        })
    }

    fn matches(&self, module: &str) -> Result<bool> {
        match self {
            Self::None => Ok(false),
            Self::AllLinear(head) => Ok(module != *head),
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
    /// Compiles the rules of a configuration for a model whose language-model head has this name.
    ///
    /// # Errors
    /// Fails if a pattern is not a regular expression or its value not a positive number.
    pub fn new(config: &'a LoraConfig, shape: &ModelConfig, head: &'static str) -> Result<Self> {
        let default =
            Modules::List(shape.family.lora_targets.iter().map(|name| (*name).to_owned()).collect());
        let targets = match config.target_modules.as_ref().unwrap_or(&default) {
            Modules::Pattern(text) if text.to_lowercase() == "all-linear" => Names::AllLinear(head),
            modules => Names::new("target_modules", Some(modules))?,
        };
        let patterns = config.layers_pattern.as_ref().map_or_else(Vec::new, |patterns| patterns.list());
        let mut layer_patterns = Vec::new();
        for pattern in patterns.iter().filter(|pattern| !pattern.is_empty()) {
            layer_patterns.push(Pattern::layers(Some(pattern))?);
        }
        if layer_patterns.is_empty() {
            layer_patterns.push(Pattern::layers(None)?);
        }
        Ok(Self {
            targets,
            excluded: Names::new("exclude_modules", config.exclude_modules.as_ref())?,
            layers: config.layers_to_transform.as_ref().map_or_else(Vec::new, |layers| layers.list()),
            layer_patterns,
            ranks: specials("rank_pattern", &config.rank_pattern)?,
            alphas: specials("alpha_pattern", &config.alpha_pattern)?,
            config,
        })
    }

    /// Returns whether a module gets an adapter.
    ///
    /// # Errors
    /// Fails if a pattern backtracks too long.
    pub fn matches(&self, module: &str) -> Result<bool> {
        if self.excluded.matches(module)? || !self.targets.matches(module)? {
            return Ok(false);
        }
        match &self.targets {
            // `layers_to_transform` does not restrict whole names.
            Names::List(names) if !self.layers.is_empty() && !names.iter().any(|name| name == module) => {
                Ok(self.layer(module)?.is_some_and(|layer| self.layers.contains(&layer)))
            }
            _ => Ok(true),
        }
    }

    /// Returns whether the targets are all linear layers.
    pub fn all_linear(&self) -> bool {
        matches!(self.targets, Names::AllLinear(_))
    }

    /// Returns an expert matched by a listed name, or by the pattern, that matches no linear module.
    ///
    /// # Errors
    /// Fails if a pattern backtracks too long.
    pub fn experts_alone<'m>(
        &self,
        linear: &'m [(String, String)],
        experts: &'m [String],
    ) -> Result<Option<&'m String>> {
        let single = |name: &String| Names::List(vec![name.clone()]);
        let rules: Vec<Names> = match &self.targets {
            Names::List(names) => names.iter().map(single).collect(),
            Names::Pattern(pattern) => vec![Names::Pattern(pattern.clone())],
            Names::None | Names::AllLinear(_) => Vec::new(),
        };
        for rule in rules {
            let Some(expert) = rule.first_of(experts)? else { continue };
            if rule.first_of(linear.iter().map(|(peft, _)| peft))?.is_none() {
                return Ok(Some(expert));
            }
        }
        Ok(None)
    }

    /// Returns the number of the layer in a module's name, by the first pattern that matches.
    fn layer(&self, module: &str) -> Result<Option<usize>> {
        for pattern in &self.layer_patterns {
            if let Some(layer) = pattern.layer(module)? {
                return Ok(layer);
            }
        }
        Ok(None)
    }

    /// Returns the rank of a module's adapter, by the first pattern that matches.
    ///
    /// # Errors
    /// Fails if a pattern backtracks too long.
    pub fn rank(&self, module: &str) -> Result<usize> {
        for special in &self.ranks {
            if special.pattern.matches(module)? {
                return Ok(special.value as usize);
            }
        }
        Ok(self.config.r)
    }

    /// Returns α/r, or α/√r with rank-stabilised scales (arXiv 2312.03732).
    ///
    /// # Errors
    /// Fails if patterns give a module several α, and if one backtracks too long.
    pub fn scale(&self, module: &str) -> Result<f64> {
        let rank = self.rank(module)? as f64;
        Ok(self.alpha(module)? / if self.config.use_rslora { rank.sqrt() } else { rank })
    }

    fn alpha(&self, module: &str) -> Result<f64> {
        let mut first: Option<&Special> = None;
        for special in &self.alphas {
            if !special.pattern.matches(module)? {
                continue;
            }
            match first {
                None => first = Some(special),
                // PEFT trains with the first, but sorts them when it saves.
                Some(first) if first.value != special.value => {
                    let message = format!(
                        "{:?} ({}) and {:?} ({}) both match {module}, and the order of a file need not be that of \
                         the training: let only one match",
                        first.key, first.value, special.key, special.value
                    );
                    return Err(Error::invalid("alpha_pattern", message));
                }
                Some(_) => {}
            }
        }
        Ok(first.map_or(self.config.lora_alpha, |special| special.value))
    }

    /// Describes the targets for a message.
    pub fn described(&self) -> String {
        match &self.config.target_modules {
            Some(Modules::Pattern(pattern)) => format!("{pattern:?}"),
            Some(Modules::List(names)) => format!("{names:?}"),
            None => "the default of the family".to_owned(),
        }
    }
}

/// Compiles the patterns of a table.
fn specials(field: &str, table: &Map<String, Value>) -> Result<Vec<Special>> {
    let special = |(key, value): (&String, &Value)| {
        let wrong =
            || Error::invalid(format!("{field}.{key}"), format!("is {value}; expected a positive number"));
        let positive = value.as_f64().filter(|value| *value > 0.0);
        let value = positive.filter(|x| x.fract() == 0.0 || field != "rank_pattern").ok_or_else(wrong)?;
        Ok(Special { key: key.clone(), pattern: Pattern::ending(field, key)?, value })
    };
    table.iter().map(special).collect()
}
