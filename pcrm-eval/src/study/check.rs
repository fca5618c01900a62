//! Checks of a recipe and of chosen worlds: unknown names, empty sizes, options that a study sets itself.

use std::collections::BTreeMap;

use super::fill;
use super::plan::slug;
use super::recipe::{Recipe, Verb, world_and_pairs};
use crate::worlds::World;

/// The commands that may have options.
const VERBS: [&str; 8] = ["sft", "reward", "dpo", "best-of-n", "ppo", "grpo", "rloo", "score"];

/// The minimum number of training pairs of a world with meaningful measures.
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

/// Checks that every name is a generated world with enough pairs.
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
mod tests;
