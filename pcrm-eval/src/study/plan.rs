//! The runs of a study, in an order that completes whole seeds early.

mod start;

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use self::start::Start;
use super::fill::layered;
use super::recipe::{Arm, Follow, Recipe, Size, Verb};

/// Placeholder for the study's folder in options of jobs.
pub const ROOT: &str = "{study}";

/// One run of a command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Name of the job, which is its path in the study's folder: `questions/seed-0/ppo-bt`.
    pub name: String,
    /// Name of the world.
    pub world: String,
    /// Seed.
    pub seed: u64,
    /// Arm; `None` for jobs that arms share.
    pub arm: Option<String>,
    /// Words of the command.
    pub verb: Vec<String>,
    /// Options of the command, with [`ROOT`] for the study's folder.
    pub options: Table,
    /// Indices in the plan of the jobs that must finish first.
    pub needs: Vec<usize>,
    /// True if `--resume` continues a stopped run of the command.
    pub resumes: bool,
    /// True if the arm may be left out if the program lacks one of its options.
    pub optional: bool,
}

/// All runs of a study.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StudyPlan {
    /// Jobs, each after those it needs.
    pub jobs: Vec<Job>,
}

/// Converts a name to a folder name.
pub fn slug(name: &str) -> String {
    let letters =
        name.chars().map(|letter| if letter.is_alphanumeric() || letter == '.' { letter } else { '-' });
    let text: String = letters.collect();
    let parts: Vec<&str> = text.split('-').filter(|part| !part.is_empty()).collect();
    parts.join("-").trim_matches('.').to_lowercase()
}

/// Returns the folder of an arm's reward model, relative to the folder of its world and seed.
pub fn model_of(arm: &str) -> String {
    format!("rm-{}", slug(arm))
}

/// Returns the folder of a follow-up of an arm, relative to the folder of its world and seed.
pub fn follow_of(follow: &str, arm: &str) -> String {
    format!("{}-of-{}", slug(follow), slug(arm))
}

impl StudyPlan {
    /// Plans a study of `seeds` seeds without the arms named in `skipped`.
    pub fn of(recipe: &Recipe, size: &Size, seeds: u64, skipped: &[String]) -> Self {
        let mut jobs = Vec::new();
        for seed in 0..seeds {
            for world in recipe.worlds_of(size) {
                let start = Start::of(recipe);
                Seed { recipe, size, world: &world, seed, start, jobs: &mut jobs, places: HashMap::new() }
                    .plan(skipped);
            }
        }
        Self { jobs }
    }
}

/// Builder of the jobs of one world and seed.
struct Seed<'a> {
    recipe: &'a Recipe,
    size: &'a Size,
    world: &'a str,
    seed: u64,
    start: Start<'a>,
    jobs: &'a mut Vec<Job>,
    /// Indices of jobs by their folder.
    places: HashMap<String, usize>,
}

impl Seed<'_> {
    fn plan(&mut self, skipped: &[String]) {
        self.begin();
        let arms: Vec<Arm> = self.recipe.arms_of(self.size).into_iter().cloned().collect();
        let is_left_out = |name: &String| skipped.contains(name);
        let arms = || {
            let kept = arms.iter().filter(|arm| !is_left_out(arm.name.get_ref()));
            kept.filter(|arm| !arm.source().is_some_and(is_left_out))
        };
        // Temperatures and minima come after the models whose scores they use.
        let derived = |arm: &&Arm| arm.source().is_some();
        for arm in arms().filter(|arm| !derived(arm)).chain(arms().filter(derived)) {
            if let Some(own) = &arm.dpo {
                self.dpo(arm, own);
                continue;
            }
            if arm.untrained {
                self.answers(arm, "sft");
                continue;
            }
            let models = match &arm.minimum_of {
                Some(of) => self.members(of),
                None => self.models(arm),
            };
            for model in models.iter().filter(|_| arm.minimum_of.is_none()) {
                self.score(arm, model);
            }
            for follow in &self.recipe.follow {
                if follow.arms.is_empty() || follow.arms.contains(arm.name.get_ref()) {
                    self.follow(arm, follow, &models);
                }
            }
        }
    }

    /// Adds the jobs of an arm's reward models and returns their folders.
    fn models(&mut self, arm: &Arm) -> Vec<String> {
        let name = model_of(arm.name.get_ref());
        if let Some(of) = &arm.temperature_of {
            let mut options = Table::new();
            options.insert("temperature".into(), true.into());
            options.insert("model".into(), self.path(&model_of(of)));
            options.insert("data".into(), self.path(self.start.calibration));
            self.add(&name, "calibrate", Some(arm), options, &[self.start.job, &model_of(of)]);
            return vec![name];
        }
        let members = arm.mean_of.unwrap_or(1);
        let mut names = Vec::new();
        for member in 0..members {
            let name = if members == 1 { name.clone() } else { format!("{name}-{member}") };
            let mut options = self.options("reward", arm.reward.as_ref().unwrap_or(&Table::new()));
            options.extend(self.base());
            options.insert("data".into(), self.path(self.start.train));
            self.add(&name, "reward", Some(arm), options, &[self.start.job]);
            if member > 0 {
                // Members differ in their data order and in the weights of their heads.
                let seed = self.seed as i64 + 1_000_003 * member as i64;
                if let Some(job) = self.jobs.last_mut() {
                    job.options.insert("seed".into(), seed.into());
                }
            }
            names.push(name);
        }
        names
    }

    /// Returns the folders of the models of an arm with several.
    fn members(&self, of: &str) -> Vec<String> {
        let all = self.recipe.arms_of(self.size).into_iter();
        let count = all.filter(|arm| arm.name.get_ref() == of).find_map(|arm| arm.mean_of);
        (0..count.unwrap_or_default()).map(|member| format!("{}-{member}", model_of(of))).collect()
    }

    fn follow(&mut self, arm: &Arm, follow: &Follow, models: &[String]) {
        let mut options = self.options(follow.verb.name(), &follow.options);
        options.insert("model".into(), self.path("sft"));
        let weight = if arm.minimum_of.is_some() { 1.0 } else { 1.0 / models.len() as f64 };
        let mut rewards: Vec<Value> = models
            .iter()
            .map(|model| format!("model:{ROOT}/{}/{model}:{weight}", self.folder()).into())
            .collect();
        let mut needs: Vec<&str> = vec!["world", "sft"];
        needs.extend(models.iter().map(String::as_str));
        match follow.verb {
            Verb::BestOfN => {
                options.insert("data".into(), self.path("world/asked.jsonl"));
                options.insert("truth".into(), "world".into());
            }
            Verb::Ppo | Verb::Grpo | Verb::Rloo => {
                options.insert("data".into(), self.path("world/learn.jsonl"));
                options.insert("eval-data".into(), self.path("world/prompts.jsonl"));
                rewards.push("world:0".into());
            }
        }
        options.insert("reward".into(), Value::Array(rewards));
        if arm.minimum_of.is_some() {
            options.insert("combine".into(), "min".into());
        }
        self.add(
            &follow_of(&follow.name, arm.name.get_ref()),
            follow.verb.name(),
            Some(arm),
            options,
            &needs,
        );
    }

    fn dpo(&mut self, arm: &Arm, own: &Table) {
        let policy = format!("dpo-{}", slug(arm.name.get_ref()));
        let mut options = self.options("dpo", own);
        options.insert("model".into(), self.path("sft"));
        options.insert("data".into(), self.path(self.start.train));
        self.add(&policy, "dpo", Some(arm), options, &[self.start.job, "sft"]);
        let mut options = self.measuring("dpo", own);
        options.insert("model".into(), self.path(&policy));
        options.insert("reference".into(), self.path("sft"));
        self.add(&format!("{policy}.measured.json"), "eval dpo", Some(arm), options, &[&policy]);
        if self.start.has_truth() {
            self.answers(arm, &policy);
        }
    }

    /// Samples a policy's answers; their score is the true reward.
    fn answers(&mut self, arm: &Arm, policy: &str) {
        let mut options = self.options("best-of-n", &Table::new());
        options.insert("n".into(), (self.size.answers.max(2) as i64).into());
        options.insert("model".into(), self.path(policy));
        options.insert("reward".into(), "world".into());
        options.insert("data".into(), self.path("world/asked.jsonl"));
        self.add(
            &format!("answers-of-{}", slug(arm.name.get_ref())),
            "best-of-n",
            Some(arm),
            options,
            &["world", policy],
        );
    }

    /// Merges the options of a command: the recipe's, the size's, its own.
    fn options(&self, verb: &str, own: &Table) -> Table {
        let empty = Table::new();
        let of = |all: &'_ std::collections::BTreeMap<String, Table>| all.get(verb).cloned();
        let (recipe, size) = (of(&self.recipe.options), of(&self.size.options));
        layered([recipe.as_ref().unwrap_or(&empty), size.as_ref().unwrap_or(&empty), own])
    }

    fn folder(&self) -> String {
        format!("{}/seed-{}", slug(self.world), self.seed)
    }

    fn path(&self, inside: &str) -> Value {
        format!("{ROOT}/{}/{inside}", self.folder()).into()
    }

    fn add(&mut self, place: &str, verb: &str, arm: Option<&Arm>, mut options: Table, needs: &[&str]) {
        if !options.contains_key("seed") {
            options.insert("seed".into(), (self.seed as i64).into());
        }
        if verb == "data split" {
            options.insert("output-dir".into(), self.path(place));
        } else {
            options.insert("threads".into(), 1.into());
            options.insert("output".into(), self.path(place));
        }
        let needs = needs.iter().filter_map(|need| self.places.get(*need).copied()).collect();
        self.places.insert(place.to_owned(), self.jobs.len());
        self.jobs.push(Job {
            name: format!("{}/{place}", self.folder()),
            world: self.world.to_owned(),
            seed: self.seed,
            arm: arm.map(|arm| arm.name.get_ref().clone()),
            verb: verb.split(' ').map(str::to_owned).collect(),
            options,
            needs,
            resumes: matches!(verb, "sft" | "reward" | "dpo" | "ppo" | "grpo" | "rloo" | "best-of-n"),
            optional: arm.is_some_and(|arm| arm.optional),
        });
    }
}

#[cfg(test)]
mod tests;
