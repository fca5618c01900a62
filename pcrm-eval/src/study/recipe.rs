//! A study as data: its question, hypotheses and arms.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use toml::{Spanned, Table};

use super::fill;
use super::own_data::OwnData;

/// A study, read from TOML.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Recipe {
    /// Title.
    pub title: String,
    /// Question of the study, in words.
    pub question: String,
    /// Expected results, written down before any run.
    pub hypotheses: Vec<String>,
    /// Figure that answers the question.
    pub primary: Primary,
    /// Arm that all others are compared with.
    pub baseline: String,
    /// Arm that finds its strength automatically, compared with the best of a sweep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub automatic: Option<String>,
    /// Names of the generated worlds; `questions:400` is the world of questions with 400 training pairs. None in a
    /// study of the user's own files.
    #[serde(default)]
    pub worlds: Vec<String>,
    /// Preference files of the user, in place of generated worlds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<OwnData>,
    /// Sizes of the full study.
    pub full: Size,
    /// Sizes with `--quick`.
    pub quick: Size,
    /// Options for all runs of a command, by command.
    #[serde(default)]
    pub options: BTreeMap<String, Table>,
    /// Arms.
    #[serde(default, rename = "arm")]
    pub arms: Vec<Arm>,
    /// Templates of arms for all combinations of values.
    #[serde(default, rename = "grid", skip_serializing)]
    pub grids: Vec<Grid>,
    /// Follow-up runs with every reward model.
    #[serde(default)]
    pub follow: Vec<Follow>,
    /// Known omissions of the study with their reasons, in words.
    #[serde(default)]
    pub missing: Vec<String>,
}

/// The primary figure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Primary {
    /// Name: `accuracy`, or `FOLLOW/FIGURE` such as `ppo/truth@4`.
    pub figure: String,
    /// Description of the figure.
    pub words: String,
    /// True if lower is better.
    #[serde(default)]
    pub lower_is_better: bool,
}

/// The size of a study.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Size {
    /// Number of seeds, from 0.
    pub seeds: u64,
    /// Number of training pairs of worlds that name none.
    #[serde(default = "pairs")]
    pub pairs: usize,
    /// Number of answers per held-out prompt when a policy is measured.
    #[serde(default = "answers")]
    pub answers: usize,
    /// Worlds, if fewer than the recipe's.
    #[serde(default)]
    pub worlds: Option<Vec<String>>,
    /// Arms, if fewer than the recipe's.
    #[serde(default)]
    pub arms: Option<Vec<String>>,
    /// Options for all runs of a command, over those of the recipe.
    #[serde(default)]
    pub options: BTreeMap<String, Table>,
}

fn pairs() -> usize {
    2400
}

fn answers() -> usize {
    8
}

/// An arm: one way to make a reward model or a policy. Exactly one of `reward`, `dpo`, `temperature-of`,
/// `minimum-of`, `untrained` is set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Arm {
    /// Name.
    pub name: Spanned<String>,
    /// Options of `pcrm reward`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reward: Option<Table>,
    /// Options of `pcrm dpo`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dpo: Option<Table>,
    /// Name of the arm whose scores are divided by a temperature fitted on held-out pairs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature_of: Option<String>,
    /// Name of the arm with several models whose lowest standardised score is the reward of policies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum_of: Option<String>,
    /// True for the policy that DPO starts from, measured as it is, as a row to compare with.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub untrained: bool,
    /// With `reward`: number of models, differing in their seed, whose scores are averaged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_of: Option<u64>,
    /// Position on the axes of a map, by axis.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub at: BTreeMap<String, f64>,
    /// True if the arm may be left out, with a note, if this program lacks one of its options.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
}

/// Splits `questions:400` into the name of a generated world and its number of training pairs; `None` as the
/// number if the text names none or no number.
pub fn world_and_pairs(text: &str) -> (&str, Option<usize>) {
    match text.split_once(':').map(|(name, pairs)| (name, pairs.parse().ok())) {
        Some((name, Some(pairs))) => (name, Some(pairs)),
        _ => (text, None),
    }
}

impl Arm {
    /// Returns the name of the arm whose models this arm uses.
    pub fn source(&self) -> Option<&String> {
        self.temperature_of.as_ref().or(self.minimum_of.as_ref())
    }

    /// Returns true if the arm is a policy without a reward model.
    pub fn is_policy(&self) -> bool {
        self.dpo.is_some() || self.untrained
    }
}

/// A template of arms for all combinations of values; `{axis}` in the name or the options is replaced by the
/// value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Grid {
    /// Name of the arms.
    pub name: String,
    /// Values, by axis.
    pub values: BTreeMap<String, Vec<f64>>,
    /// Options of `pcrm reward`.
    #[serde(default)]
    pub reward: Option<Table>,
    /// Options of `pcrm dpo`.
    #[serde(default)]
    pub dpo: Option<Table>,
}

/// A follow-up run with every reward model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Follow {
    /// Name.
    pub name: String,
    /// Command.
    pub verb: Verb,
    /// Options of the command.
    #[serde(default)]
    pub options: Table,
    /// KL divergences, in nats, where the true reward is read off a policy's curve.
    #[serde(default)]
    pub kl: Vec<f64>,
    /// Arms to follow up; all if empty.
    #[serde(default)]
    pub arms: Vec<String>,
}

/// A command that produces answers with a reward model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verb {
    /// `pcrm best-of-n`.
    BestOfN,
    /// `pcrm ppo`.
    Ppo,
    /// `pcrm grpo`.
    Grpo,
    /// `pcrm rloo`.
    Rloo,
}

impl Verb {
    /// All such commands.
    pub const ALL: [Self; 4] = [Self::BestOfN, Self::Ppo, Self::Grpo, Self::Rloo];

    /// Returns the name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::BestOfN => "best-of-n",
            Self::Ppo => "ppo",
            Self::Grpo => "grpo",
            Self::Rloo => "rloo",
        }
    }
}

impl Recipe {
    /// Reads a recipe; `place` names it in messages.
    ///
    /// # Errors
    /// Fails with line and column if the text is not TOML or has an unknown key or a value of the wrong type;
    /// also if a name is unknown or not unique, a size is zero, an arm is of no kind or of two kinds, an option
    /// is one that the study sets itself, a size lacks the arm that another one uses, or the primary figure is
    /// one that no run gives.
    pub fn parse(text: &str, place: &str) -> Result<Self, String> {
        let mut recipe: Self =
            toml::from_str(text).map_err(|error| format!("{place}: {}", error.to_string().trim()))?;
        for grid in std::mem::take(&mut recipe.grids) {
            recipe.arms.extend(grid.arms().map_err(|message| format!("{place}: {message}"))?);
        }
        recipe.check(
            &|at| format!("{place}:{}", 1 + text[..at.min(text.len())].matches('\n').count()),
            place,
        )?;
        if let Some(data) = recipe.data.take() {
            recipe.use_data(data).map_err(|message| format!("{place}: {message}"))?;
        }
        Ok(recipe)
    }

    /// Returns the size with or without `--quick`.
    pub fn size(&self, quick: bool) -> &Size {
        if quick { &self.quick } else { &self.full }
    }

    /// Returns the worlds of a size.
    pub fn worlds_of(&self, size: &Size) -> Vec<String> {
        size.worlds.clone().unwrap_or_else(|| self.worlds.clone())
    }

    /// Returns the arms of a size.
    pub fn arms_of(&self, size: &Size) -> Vec<&Arm> {
        let wanted = |arm: &&Arm| size.arms.as_ref().is_none_or(|names| names.contains(arm.name.get_ref()));
        self.arms.iter().filter(wanted).collect()
    }
}

impl Grid {
    /// Expands the grid into arms for all combinations.
    fn arms(&self) -> Result<Vec<Arm>, String> {
        if self.values.is_empty() || self.values.values().any(Vec::is_empty) {
            return Err(format!("grid {:?}: expected values for its axes", self.name));
        }
        let mut all: Vec<BTreeMap<String, f64>> = vec![BTreeMap::new()];
        for (axis, values) in &self.values {
            let grown = |at: &BTreeMap<String, f64>| {
                let grow = |value: &f64| {
                    let mut at = at.clone();
                    at.insert(axis.clone(), *value);
                    at
                };
                values.iter().map(grow).collect::<Vec<_>>()
            };
            all = all.iter().flat_map(grown).collect();
        }
        let arm = |at: BTreeMap<String, f64>| Arm {
            name: Spanned::new(0..0, fill::text(&self.name, &at)),
            reward: self.reward.as_ref().map(|table| fill::table(table, &at)),
            dpo: self.dpo.as_ref().map(|table| fill::table(table, &at)),
            temperature_of: None,
            minimum_of: None,
            untrained: false,
            mean_of: None,
            at,
            optional: false,
        };
        Ok(all.into_iter().map(arm).collect())
    }
}
