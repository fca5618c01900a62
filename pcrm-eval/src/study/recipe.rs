//! A study as data: its question, hypotheses and arms.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use toml::{Spanned, Table};

use super::fill;
use super::plan::slug;
use crate::worlds::World;

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
    /// Names of the generated worlds.
    #[serde(default)]
    pub worlds: Vec<String>,
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
    /// Number of training pairs.
    pub pairs: usize,
    /// Number of answers per held-out prompt when a policy is measured.
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

/// An arm: one way to make a reward model or a policy. Exactly one of `reward`, `dpo`, `temperature-of`,
/// `untrained` is set.
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

impl Arm {
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
    /// KL divergences, in nats, at which the true reward is read off a policy's curve.
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

/// The commands that may have options.
const VERBS: [&str; 8] = ["sft", "reward", "dpo", "best-of-n", "ppo", "grpo", "rloo", "score"];

impl Recipe {
    /// Reads a recipe; `place` names it in messages.
    ///
    /// # Errors
    /// Fails with line and column if the text is not TOML or has an unknown key or a value of the wrong type;
    /// also if a name is unknown or not unique, a size is zero, or an arm is of no kind or of two kinds.
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

    fn check(&self, line: &dyn Fn(usize) -> String, place: &str) -> Result<(), String> {
        let mut slugs = BTreeMap::new();
        for arm in &self.arms {
            let (at, name) = (line(arm.name.span().start), arm.name.get_ref());
            let kinds =
                [arm.reward.is_some(), arm.dpo.is_some(), arm.temperature_of.is_some(), arm.untrained];
            if kinds.iter().filter(|kind| **kind).count() != 1 {
                return Err(format!(
                    "{at}: arm {name:?}: expected one of reward, dpo, temperature-of and untrained"
                ));
            }
            if arm.mean_of.is_some_and(|members| members < 2 || arm.reward.is_none()) {
                return Err(format!("{at}: arm {name:?}: mean-of expects reward and at least 2"));
            }
            if slug(name).is_empty() {
                return Err(format!("{at}: arm {name:?}: expected a letter or a digit in its name"));
            }
            if let Some(other) = slugs.insert(slug(name), name) {
                return Err(format!("{at}: arm {name:?}: the arm {other:?} has that name already"));
            }
            if let Some(of) = &arm.temperature_of {
                let found = self.arms.iter().find(|other| other.name.get_ref() == of);
                if found.is_none_or(|other| other.reward.is_none() || other.mean_of.is_some()) {
                    return Err(format!(
                        "{at}: arm {name:?}: temperature-of = {of:?}: expected an arm with reward"
                    ));
                }
            }
        }
        let fail = |message: String| Err(format!("{place}: {message}"));
        let names: Vec<&str> = self.arms.iter().map(|arm| arm.name.get_ref().as_str()).collect();
        if !names.contains(&self.baseline.as_str()) {
            return fail(format!(
                "baseline = {:?}: no arm has this name; arms: {}",
                self.baseline,
                names.join(", ")
            ));
        }
        if let Some(automatic) = self.automatic.as_ref().filter(|name| !names.contains(&name.as_str())) {
            return fail(format!("automatic = {automatic:?}: no arm has this name"));
        }
        let mut follows = std::collections::BTreeSet::new();
        for follow in &self.follow {
            if !follows.insert(slug(&follow.name)) || slug(&follow.name).is_empty() {
                return fail(format!("follow {:?}: expected a unique name", follow.name));
            }
            if follow.kl.iter().any(|kl| !(*kl > 0.0 && kl.is_finite())) {
                return fail(format!(
                    "follow {:?}: kl = {:?}: expected positive numbers",
                    follow.name, follow.kl
                ));
            }
            if let Some(unknown) = follow.arms.iter().find(|arm| !names.contains(&arm.as_str())) {
                return fail(format!("follow {:?}: no arm is called {unknown:?}", follow.name));
            }
        }
        for size in [&self.full, &self.quick] {
            if size.seeds == 0 || size.answers == 0 || size.pairs < 30 {
                return fail("full, quick: expected at least 1 seed, 1 answer and 30 pairs".to_owned());
            }
            let known: Vec<&str> = World::all().into_iter().map(|(name, _)| name).collect();
            let worlds = self.worlds_of(size);
            if worlds.is_empty() {
                return fail("worlds: expected at least one".to_owned());
            }
            if let Some(unknown) = worlds.iter().find(|world| !known.contains(&world.as_str())) {
                return fail(format!("unknown world {unknown:?}; expected some of {}", known.join(", ")));
            }
            let of_size = size.arms.iter().flatten();
            if let Some(unknown) = of_size.clone().find(|arm| !names.contains(&arm.as_str())) {
                return fail(format!("arms of a size: no arm is called {unknown:?}"));
            }
            if size.arms.is_some() && !of_size.clone().any(|arm| *arm == self.baseline) {
                return fail("arms of a size: expected the baseline among them".to_owned());
            }
            for (verb, table) in self.options.iter().chain(&size.options) {
                if !VERBS.contains(&verb.as_str()) {
                    return fail(format!(
                        "options.{verb}: unknown command; expected one of {}",
                        VERBS.join(", ")
                    ));
                }
                if let Some(own) = table.keys().find(|key| fill::is_wired(key)) {
                    return fail(format!("options.{verb}.{own}: is set by the study itself"));
                }
            }
        }
        let figure = &self.primary.figure;
        let known = match figure.split_once('/') {
            None => {
                super::measures::NAMES.iter().any(|(name, _)| name == figure)
                    || ["truth", "win_rate"].contains(&figure.as_str())
            }
            Some((follow, _)) => self.follow.iter().any(|known| known.name == follow),
        };
        match known {
            true => Ok(()),
            false => fail(format!(
                "primary.figure = {figure:?}: expected a measure of models ({}) or FOLLOW/FIGURE",
                super::measures::NAMES.map(|(name, _)| name).join(", ")
            )),
        }
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
            untrained: false,
            mean_of: None,
            at,
            optional: false,
        };
        Ok(all.into_iter().map(arm).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TINY: &str = r#"
title = "Tiny"
question = "?"
hypotheses = ["nothing differs"]
primary = { figure = "accuracy", words = "accuracy" }
baseline = "bt"
worlds = ["questions"]
full = { seeds = 3, pairs = 60, answers = 2 }
quick = { seeds = 1, pairs = 60, answers = 2, arms = ["bt"] }
[options.reward]
epochs = 1
[[arm]]
name = "bt"
reward = { constraint = "none" }
[[arm]]
name = "bt / T"
temperature-of = "bt"
[[grid]]
name = "fixed {bound}"
values = { bound = [0.5, 2] }
reward = { constraint = { kind = "fixed", bound = "{bound}" } }
[[follow]]
name = "best"
verb = "best-of-n"
options = { n = 4 }
"#;

    /// Protects: a grid expands to one arm per value, substituted in its options and its name.
    #[test]
    fn grids_become_arms() {
        let recipe = Recipe::parse(TINY, "tiny.toml").unwrap();
        let names: Vec<&str> = recipe.arms.iter().map(|arm| arm.name.get_ref().as_str()).collect();
        assert_eq!(names, ["bt", "bt / T", "fixed 0.5", "fixed 2"]);
        let options = recipe.arms[3].reward.as_ref().unwrap();
        assert_eq!(options["constraint"]["bound"].as_float(), Some(2.0));
        assert_eq!(recipe.arms[3].at["bound"], 2.0);
        assert_eq!(recipe.arms_of(&recipe.quick).len(), 1);
    }

    /// Protects: errors in a recipe name the file, the line or the key, the value found and the one expected.
    #[test]
    fn mistakes_are_named() {
        for (from, to, expected) in [
            ("title = \"Tiny\"", "titel = \"Tiny\"", &["tiny.toml", "unknown field `titel`", "line 2"][..]),
            ("seeds = 3", "seeds = \"3\"", &["tiny.toml", "invalid type", "line 8"]),
            ("baseline = \"bt\"", "baseline = \"b\"", &["baseline = \"b\"", "arms: bt, bt / T"]),
            (
                "worlds = [\"questions\"]",
                "worlds = [\"moon\"]",
                &["\"moon\"", "expected some of questions, dialogue"],
            ),
            (
                "temperature-of = \"bt\"",
                "temperature-of = \"c\"",
                &["tiny.toml:16", "\"bt / T\"", "expected an arm with reward"],
            ),
            (
                "temperature-of = \"bt\"",
                "temperature-of = \"bt\"\ndpo = {}",
                &["tiny.toml:16", "expected one of reward, dpo"],
            ),
            ("name = \"bt / T\"", "name = \"BT\"", &["tiny.toml:16", "the arm \"bt\" has that name already"]),
            ("name = \"bt / T\"", "name = \"/\"", &["tiny.toml:16", "expected a letter or a digit"]),
            (
                "figure = \"accuracy\"",
                "figure = \"speed\"",
                &["primary.figure = \"speed\"", "accuracy_truth"],
            ),
            ("figure = \"accuracy\"", "figure = \"ppo/truth\"", &["primary.figure = \"ppo/truth\""]),
            ("[options.reward]", "[options.rewards]", &["options.rewards", "expected one of sft, reward"]),
            ("epochs = 1", "seed = 1", &["options.reward.seed", "is set by the study itself"]),
            ("verb = \"best-of-n\"", "verb = \"best\"", &["unknown variant `best`", "best-of-n"]),
            ("arms = [\"bt\"]", "arms = [\"bt / T\"]", &["expected the baseline among them"]),
            ("values = { bound = [0.5, 2] }", "values = {}", &["grid \"fixed {bound}\"", "expected values"]),
            ("options = { n = 4 }", "kl = [-1]", &["follow \"best\"", "expected positive numbers"]),
        ] {
            assert!(TINY.contains(from), "{from}");
            let message = Recipe::parse(&TINY.replace(from, to), "tiny.toml").unwrap_err();
            for part in expected {
                assert!(message.contains(part), "{to}: {message:?} does not say {part:?}");
            }
        }
    }
}
