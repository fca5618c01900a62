//! Studies on the user's own preference files in place of generated worlds.

use serde::{Deserialize, Serialize};

use super::measures::NAMES;
use super::plan::slug;
use super::recipe::{Arm, Recipe};

/// Preference files in place of generated worlds. Their true reward is unknown, so a study measures models and policies
/// on held-out pairs and compares no answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct OwnData {
    /// Preference files.
    pub files: Vec<String>,
    /// Folder or Hub repository of the model that reward models and policies start from.
    pub model: String,
    /// True to start from random weights in the shape of the model.
    #[serde(default)]
    pub random_init: bool,
    /// Share of a file's prompts whose pairs are held out for measuring models. Every seed holds out different ones.
    #[serde(default = "fifth")]
    pub held_out: f64,
    /// Share of the remaining prompts whose pairs are used to fit temperatures.
    #[serde(default = "tenth")]
    pub calibration: f64,
}

fn fifth() -> f64 {
    0.2
}

fn tenth() -> f64 {
    0.1
}

impl OwnData {
    /// Returns the files with the usual shares held out.
    pub fn new(files: Vec<String>, model: String, random_init: bool) -> Self {
        Self { files, model, random_init, held_out: fifth(), calibration: tenth() }
    }

    /// Returns the file that has this name in the study.
    pub fn file_of(&self, name: &str) -> Option<&String> {
        self.files.iter().find(|file| name_of(file) == name)
    }

    /// Returns the names of the files in the study.
    ///
    /// # Errors
    /// Fails if there is no file, two have the same name, or a share is not between 0 and 1.
    fn names(&self) -> Result<Vec<String>, String> {
        if self.files.is_empty() {
            return Err("data: expected at least one file".to_owned());
        }
        for (key, share) in [("held-out", self.held_out), ("calibration", self.calibration)] {
            if !(share > 0.0 && share < 1.0) {
                return Err(format!("data.{key} = {share}: expected a share between 0 and 1"));
            }
        }
        let names: Vec<String> = self.files.iter().map(|file| name_of(file).to_owned()).collect();
        for (at, (name, file)) in names.iter().zip(&self.files).enumerate() {
            if slug(name).is_empty() {
                return Err(format!("data: {file}: expected a letter or a digit in the file's name"));
            }
            if names[..at].iter().any(|other| slug(other) == slug(name)) {
                return Err(format!("data: {file}: another file is called {name} too"));
            }
        }
        Ok(names)
    }
}

/// Returns the name of a file up to its first dot, without a slice such as `[:500]`.
fn name_of(file: &str) -> &str {
    let file = file.strip_suffix(']').and_then(|rest| rest.rsplit_once('[')).map_or(file, |(file, _)| file);
    let name = file.trim_end_matches('/').rsplit('/').next().unwrap_or(file);
    name.split('.').next().unwrap_or(name)
}

impl Recipe {
    /// Runs the study on these files instead of worlds. Parts that need a true reward are left out and noted:
    /// follow-ups, policies that are only compared by their answers, and ensembles. A primary figure that needs it is
    /// replaced by the log loss.
    ///
    /// # Errors
    /// Fails if the files have no names of their own, or if the baseline would be left out.
    pub fn use_data(&mut self, data: OwnData) -> Result<(), String> {
        self.set_worlds(data.names()?);
        let follow = std::mem::take(&mut self.follow);
        let needs_truth = |arm: &Arm| arm.untrained || arm.mean_of.is_some() || arm.minimum_of.is_some();
        let (out, kept): (Vec<Arm>, Vec<Arm>) =
            std::mem::take(&mut self.arms).into_iter().partition(needs_truth);
        self.arms = kept;
        let out = out.into_iter().map(|arm| arm.name.into_inner());
        let out: Vec<String> = follow.into_iter().map(|follow| follow.name).chain(out).collect();
        if out.contains(&self.baseline) {
            return Err(format!("baseline = {:?}: cannot be measured on files of pairs", self.baseline));
        }
        let is_of_pairs = NAMES.iter().any(|(name, _)| *name == self.primary.figure)
            && !["accuracy_truth", "cross_entropy"].contains(&self.primary.figure.as_str());
        if !is_of_pairs {
            self.primary.figure = "log_loss".to_owned();
            self.primary.words = format!(
                "log loss on held-out pairs, arm minus {}, paired by seed, with a 95 % t interval (the recipe's \
                 own primary figure needs a true reward)",
                self.baseline
            );
            self.primary.lower_is_better = true;
        }
        if !out.is_empty() {
            self.missing.push(format!("{}: only generated worlds have a true reward", out.join(", ")));
        }
        self.data = Some(data);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::StudyPlan;

    const RECIPE: &str = r#"
title = "Tiny"
question = "?"
hypotheses = ["nothing differs"]
primary = { figure = "ppo/truth@4", words = "true reward" }
baseline = "bt"
worlds = ["questions"]
full = { seeds = 2, pairs = 60, answers = 2 }
quick = { seeds = 1, pairs = 60, answers = 2, worlds = ["dialogue"] }
[options]
reward = { max-length = 512 }
[[arm]]
name = "bt"
reward = { constraint = "none" }
[[arm]]
name = "bt / T"
temperature-of = "bt"
[[arm]]
name = "mean"
mean-of = 2
reward = {}
[[arm]]
name = "dpo"
dpo = {}
[[arm]]
name = "sft"
untrained = true
[[follow]]
name = "ppo"
verb = "ppo"
kl = [4]
"#;

    fn data(files: &[&str]) -> OwnData {
        let files = files.iter().map(|file| (*file).to_owned()).collect();
        OwnData::new(files, "some/model".to_owned(), true)
    }

    /// Protects: every run of a study on files reads only its side of the split, nothing that needs a true
    /// reward is planned, and what is left out is listed.
    #[test]
    fn files_take_the_place_of_worlds() {
        let mut recipe = Recipe::parse(RECIPE, "tiny").unwrap();
        recipe.use_data(data(&["a/help.test.jsonl.gz", "b/harm.jsonl[:500]", "c/mine[1%:5%]"])).unwrap();
        assert_eq!(recipe.worlds_of(&recipe.quick), ["help", "harm", "mine"]);
        assert_eq!((recipe.primary.figure.as_str(), recipe.primary.lower_is_better), ("log_loss", true));
        assert_eq!(recipe.missing, ["ppo, mean, sft: only generated worlds have a true reward"]);
        let plan = StudyPlan::of(&recipe, &recipe.full, 2, &[]);
        let of = |name: &str| plan.jobs.iter().find(|job| job.name == name).unwrap();
        let text = |name: &str, key: &str| of(name).options[key].as_str().unwrap().to_owned();
        assert_eq!(text("help/seed-1/split", "data"), "a/help.test.jsonl.gz");
        assert_eq!(text("harm/seed-1/split", "data"), "b/harm.jsonl[:500]");
        assert_eq!(text("mine/seed-1/split", "data"), "c/mine[1%:5%]");
        assert_eq!(of("help/seed-1/split").options["seed"].as_integer(), Some(1));
        assert_eq!(text("harm/seed-0/parts", "data"), "{study}/harm/seed-0/split/train.jsonl");
        for job in ["rm-bt", "sft", "dpo-dpo"] {
            assert_eq!(text(&format!("harm/seed-0/{job}"), "data"), "{study}/harm/seed-0/parts/train.jsonl");
        }
        let calibrated = "{study}/harm/seed-0/parts/held_out.jsonl";
        assert_eq!(text("harm/seed-0/rm-bt-t", "data"), calibrated);
        for job in ["rm-bt.measured.json", "rm-bt-t.measured.json", "dpo-dpo.measured.json"] {
            let name = format!("harm/seed-0/{job}");
            assert_eq!(text(&name, "data"), "{study}/harm/seed-0/split/held_out.jsonl", "{job}");
        }
        assert_eq!(of("help/seed-0/rm-bt.measured.json").options["max-length"].as_integer(), Some(512));
        assert_eq!(text("help/seed-0/rm-bt", "model"), "some/model");
        let verbs: Vec<String> = plan.jobs.iter().map(|job| job.verb.join(" ")).collect();
        assert!(!verbs.iter().any(|verb| ["data world", "best-of-n", "ppo"].contains(&verb.as_str())));
        assert!(plan.jobs.iter().enumerate().all(|(at, job)| job.needs.iter().all(|need| *need < at)));
    }

    /// Protects: files without names of their own, shares outside 0 to 1 and a baseline without a measure are
    /// refused.
    #[test]
    fn wrong_data_is_refused() {
        let refused = |data: OwnData, from: &str, to: &str| {
            let text = RECIPE.replace(from, to);
            Recipe::parse(&text, "tiny").unwrap().use_data(data).unwrap_err()
        };
        assert!(refused(data(&[]), "", "").contains("expected at least one file"));
        assert!(
            refused(data(&["x/a.jsonl", "y/a.json"]), "", "").contains("y/a.json: another file is called a")
        );
        assert!(refused(data(&["x/..jsonl"]), "", "").contains("expected a letter or a digit"));
        let wide = OwnData { held_out: 1.0, ..data(&["a.jsonl"]) };
        assert!(refused(wide, "", "").contains("data.held-out = 1: expected a share"));
        let of_sft = refused(data(&["a.jsonl"]), "baseline = \"bt\"", "baseline = \"sft\"");
        assert!(of_sft.contains("baseline = \"sft\": cannot be measured"), "{of_sft}");
    }
}
