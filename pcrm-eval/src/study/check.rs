//! Checks of a recipe and of chosen worlds: unknown names, empty sizes, options that a study sets itself.

use std::collections::BTreeMap;

use super::fill;
use super::plan::slug;
use super::recipe::{Recipe, Verb, world_and_pairs};
use crate::worlds::World;

/// The commands that may have options.
const VERBS: [&str; 8] = ["sft", "reward", "dpo", "best-of-n", "ppo", "grpo", "rloo", "score"];

/// The fewest training pairs with which a world's measures are meaningful.
const FEWEST_PAIRS: usize = 30;

impl Recipe {
    /// Restricts the study to these worlds, in every size; an empty list changes nothing.
    ///
    /// # Errors
    /// Fails if a name is not that of a generated world, or the recipe reads files.
    pub fn choose_worlds(&mut self, names: &[String]) -> Result<(), String> {
        if names.is_empty() {
            return Ok(());
        }
        worlds(names)?;
        if self.data.is_some() {
            return Err("the recipe reads files; expected one without data".to_owned());
        }
        self.set_worlds(names.to_vec());
        Ok(())
    }

    /// Sets the worlds of every size.
    pub(super) fn set_worlds(&mut self, names: Vec<String>) {
        self.worlds = names;
        self.full.worlds = None;
        self.quick.worlds = None;
    }

    /// Checks names, sizes, options and the primary figure; `line` turns a position into `place:line`.
    pub(super) fn check(&self, line: &dyn Fn(usize) -> String, place: &str) -> Result<(), String> {
        let mut slugs = BTreeMap::new();
        for arm in &self.arms {
            let (at, name) = (line(arm.name.span().start), arm.name.get_ref());
            let kinds = [
                arm.reward.is_some(),
                arm.dpo.is_some(),
                arm.temperature_of.is_some(),
                arm.minimum_of.is_some(),
                arm.untrained,
            ];
            if kinds.iter().filter(|kind| **kind).count() != 1 {
                return Err(format!(
                    "{at}: arm {name:?}: expected one of reward, dpo, temperature-of, minimum-of and untrained"
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
        for arm in &self.arms {
            let (at, name) = (line(arm.name.span().start), arm.name.get_ref());
            for (verb, table) in [("reward", &arm.reward), ("dpo", &arm.dpo)] {
                wired(verb, table.iter().flatten().map(|(key, _)| key))
                    .map_err(|message| format!("{at}: arm {name:?}: {message}"))?;
            }
        }
        for arm in &self.arms {
            let Some(of) = &arm.minimum_of else { continue };
            let found = self.arms.iter().find(|other| other.name.get_ref() == of);
            if found.is_none_or(|other| other.mean_of.is_none()) {
                let at = line(arm.name.span().start);
                let name = arm.name.get_ref();
                return Err(format!("{at}: arm {name:?}: minimum-of = {of:?}: expected an arm with mean-of"));
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
            if follow.verb == Verb::BestOfN && !follow.kl.is_empty() {
                return fail(format!(
                    "follow {:?}: kl has no effect: best-of-n has no training curve",
                    follow.name
                ));
            }
            wired(follow.verb.name(), follow.options.keys())
                .or_else(|message| fail(format!("follow {:?}: {message}", follow.name)))?;
        }
        for size in [&self.full, &self.quick] {
            if size.seeds == 0 || size.answers == 0 || size.pairs < FEWEST_PAIRS {
                return fail(format!(
                    "full, quick: expected at least 1 seed, 1 answer and {FEWEST_PAIRS} pairs"
                ));
            }
            if !self.worlds_of(size).is_empty() && self.data.is_none() {
                worlds(&self.worlds_of(size)).or_else(&fail)?;
            }
            let of_size = size.arms.iter().flatten();
            if let Some(unknown) = of_size.clone().find(|arm| !names.contains(&arm.as_str())) {
                return fail(format!("arms of a size: no arm is called {unknown:?}"));
            }
            if size.arms.is_some() && !of_size.clone().any(|arm| *arm == self.baseline) {
                return fail("arms of a size: expected the baseline among them".to_owned());
            }
            let in_size = self.arms_of(size);
            for arm in &in_size {
                let Some(of) = arm.source() else { continue };
                if !in_size.iter().any(|other| other.name.get_ref() == of) {
                    let name = arm.name.get_ref();
                    return fail(format!("arms of a size: {name:?} uses {of:?}; expected it among them too"));
                }
            }
            for (verb, table) in self.options.iter().chain(&size.options) {
                if !VERBS.contains(&verb.as_str()) {
                    return fail(format!(
                        "options.{verb}: unknown command; expected one of {}",
                        VERBS.join(", ")
                    ));
                }
                wired(verb, table.keys()).or_else(|message| fail(format!("options.{message}")))?;
            }
        }
        self.check_primary().or_else(fail)
    }
}

/// Checks that no option of a command is one that the study sets itself.
fn wired<'a>(verb: &str, mut options: impl Iterator<Item = &'a String>) -> Result<(), String> {
    match options.find(|option| fill::is_wired(verb, option)) {
        Some(own) => Err(format!("{verb}.{own}: is set by the study itself")),
        None => Ok(()),
    }
}

/// Checks that all names are those of generated worlds with enough pairs.
fn worlds(names: &[String]) -> Result<(), String> {
    let known: Vec<&str> = World::all().into_iter().map(|(name, _)| name).collect();
    for text in names {
        let (name, pairs) = world_and_pairs(text);
        if !known.contains(&name) {
            return Err(format!(
                "unknown world {text:?}; expected some of {}, each alone or as NAME:PAIRS",
                known.join(", ")
            ));
        }
        if pairs.is_some_and(|pairs| pairs < FEWEST_PAIRS) {
            return Err(format!("world {text:?}: expected at least {FEWEST_PAIRS} pairs"));
        }
    }
    Ok(())
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

    /// Protects: chosen worlds replace those of the recipe and of its sizes; an unknown one is refused.
    #[test]
    fn worlds_are_chosen() {
        let mut recipe = Recipe::parse(TINY, "tiny.toml").unwrap();
        recipe.quick.worlds = Some(vec!["dialogue".to_owned()]);
        recipe.choose_worlds(&[]).unwrap();
        assert_eq!(recipe.worlds_of(&recipe.quick), ["dialogue"]);
        recipe.choose_worlds(&["questions".to_owned()]).unwrap();
        assert_eq!(recipe.worlds_of(&recipe.quick), ["questions"]);
        assert_eq!(recipe.worlds_of(&recipe.full), ["questions"]);
        let refused = recipe.choose_worlds(&["moon".to_owned()]).unwrap_err();
        assert!(refused.contains("unknown world \"moon\"; expected some of questions"), "{refused}");
        recipe.choose_worlds(&["questions:400".to_owned(), "dialogue".to_owned()]).unwrap();
        for wrong in ["questions:", "questions:x", "questions:29", "moon:400"] {
            let refused = recipe.choose_worlds(&[wrong.to_owned()]).unwrap_err();
            assert!(refused.contains(&format!("world {wrong:?}")), "{refused}");
        }
    }

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

    /// Protects: options that a study sets itself are refused wherever a recipe can name them, as the report
    /// would state them as used.
    #[test]
    fn options_of_the_study_are_refused() {
        for (from, to, expected) in [
            ("constraint = \"none\"", "seed = 7", "tiny.toml:13: arm \"bt\": reward.seed: is set by"),
            ("constraint = \"none\"", "data = \"x.jsonl\"", "arm \"bt\": reward.data: is set by"),
            (
                "reward = { constraint = { kind = \"fixed\", bound = \"{bound}\" } }",
                "dpo = { output = \"x\" }",
                "arm \"fixed 0.5\": dpo.output: is set by",
            ),
            ("{ kind = \"fixed\", bound = \"{bound}\" }", "\"none\", model = \"x\"", "reward.model: is set"),
            ("n = 4", "seed = 3", "follow \"best\": best-of-n.seed: is set by the study itself"),
            ("n = 4", "reward = [\"length\"]", "follow \"best\": best-of-n.reward: is set by"),
            ("n = 4", "combine = \"min\"", "follow \"best\": best-of-n.combine: is set by"),
            (
                "[options.reward]",
                "[options.ppo]\nreward = \"length\"\n[options.reward]",
                "options.ppo.reward: is",
            ),
            ("options = { n = 4 }", "kl = [4]", "follow \"best\": kl has no effect"),
        ] {
            assert!(TINY.contains(from), "{from}");
            let message = Recipe::parse(&TINY.replace(from, to), "tiny.toml").unwrap_err();
            assert!(message.contains(expected), "{to}: {message:?} does not say {expected:?}");
        }
    }

    /// Protects: a size without the arm whose models one of its arms uses is refused, as that arm could not be
    /// measured.
    #[test]
    fn sizes_hold_the_sources_of_their_arms() {
        let mean = "[[arm]]\nname = \"mean\"\nmean-of = 2\nreward = {}\n";
        let derived = "[[arm]]\nname = \"least\"\nminimum-of = \"mean\"\n[[grid]]";
        let text = TINY.replace("[[grid]]", &format!("{mean}{derived}"));
        let of = |arms: &str| Recipe::parse(&text.replace("arms = [\"bt\"]", arms), "tiny.toml");
        let refused = of("arms = [\"bt\", \"least\"]").unwrap_err();
        assert!(refused.contains("arms of a size: \"least\" uses \"mean\"; expected it"), "{refused}");
        let based = text.replace("baseline = \"bt\"", "baseline = \"fixed 2\"");
        let based = based.replace("arms = [\"bt\"]", "arms = [\"fixed 2\", \"bt / T\"]");
        let refused = Recipe::parse(&based, "tiny.toml").unwrap_err();
        assert!(refused.contains("\"bt / T\" uses \"bt\""), "{refused}");
        of("arms = [\"bt\", \"bt / T\", \"mean\", \"least\"]").unwrap();
    }
}
