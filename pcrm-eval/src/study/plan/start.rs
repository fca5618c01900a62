//! The jobs that the arms of a seed share: its data and the policy that training starts from.

use toml::Table;

use super::Seed;
use crate::study::own_data::OwnData;
use crate::study::recipe::{Arm, Recipe, world_and_pairs};

/// The data of a seed: a generated world, or the parts of a user's file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Start<'a> {
    own: Option<&'a OwnData>,
    /// The job that all arms need.
    pub(super) job: &'static str,
    /// Pairs for training.
    pub(super) train: &'static str,
    /// Pairs for fitting temperatures.
    pub(super) calibration: &'static str,
    /// Pairs for measuring.
    test: &'static str,
}

impl<'a> Start<'a> {
    pub(super) fn of(recipe: &'a Recipe) -> Self {
        let own = recipe.data.as_ref();
        match own {
            None => Self {
                own,
                job: "world",
                train: "world/train.jsonl",
                calibration: "world/calibration.jsonl",
                test: "world/test.jsonl",
            },
            Some(_) => Self {
                own,
                job: "parts",
                train: "parts/train.jsonl",
                calibration: "parts/held_out.jsonl",
                test: "split/held_out.jsonl",
            },
        }
    }

    /// Returns true if the true reward of every answer is known.
    pub(super) fn has_truth(&self) -> bool {
        self.own.is_none()
    }
}

impl Seed<'_> {
    /// Adds the jobs that make the data, and the policy that training starts from if an arm needs one.
    pub(super) fn begin(&mut self) {
        let is_needed = match self.start.own {
            Some(own) => {
                let file = own.file_of(self.world).cloned().unwrap_or_default();
                self.split("split", file.into(), own.held_out, &[]);
                self.split("parts", self.path("split/train.jsonl"), own.calibration, &["split"]);
                self.recipe.arms_of(self.size).into_iter().any(Arm::is_policy)
            }
            None => {
                let mut world = Table::new();
                let (name, pairs) = world_and_pairs(self.world);
                world.insert("name".into(), name.into());
                world.insert("pairs".into(), (pairs.unwrap_or(self.size.pairs) as i64).into());
                world.insert("answers".into(), (self.size.answers as i64).into());
                self.add("world", "data world", None, world, &[]);
                true
            }
        };
        if is_needed {
            let mut sft = self.options("sft", &Table::new());
            sft.extend(self.base());
            if self.start.has_truth() {
                sft.insert("random-init".into(), true.into());
            }
            sft.insert("data".into(), self.path(self.start.train));
            self.add("sft", "sft", None, sft, &[self.start.job]);
        }
    }

    /// Adds a split of a file by prompt.
    fn split(&mut self, place: &str, file: toml::Value, share: f64, needs: &[&str]) {
        let mut options = Table::new();
        options.insert("data".into(), file);
        options.insert("fraction".into(), share.into());
        self.add(place, "data split", None, options, needs);
    }

    /// Returns the options that name the model that training starts from.
    pub(super) fn base(&self) -> Table {
        let mut options = Table::new();
        let Some(own) = self.start.own else {
            options.insert("model".into(), self.path("world/base"));
            return options;
        };
        options.insert("model".into(), own.model.clone().into());
        if own.random_init {
            options.insert("random-init".into(), true.into());
        }
        options
    }

    /// Adds the job that measures a reward model: its scores in a world, or a report on a user's pairs.
    pub(super) fn score(&mut self, arm: &Arm, model: &str) {
        let needs = [self.start.job, model];
        if self.start.has_truth() {
            let mut options = self.options("score", &Table::new());
            options.insert("model".into(), self.path(model));
            options.insert("data".into(), self.path(self.start.test));
            self.add(&format!("{model}.scores.jsonl"), "score", Some(arm), options, &needs);
            return;
        }
        let mut options = self.measuring("reward", arm.reward.as_ref().unwrap_or(&Table::new()));
        options.insert("model".into(), self.path(model));
        options.insert("no-cache".into(), true.into());
        options.insert("no-report".into(), true.into());
        self.add(&format!("{model}.measured.json"), "eval reward", Some(arm), options, &needs);
    }

    /// Returns the options of a measurement on held-out pairs. On a user's pairs the limit of lengths is the
    /// same as in training; pairs of worlds are short.
    pub(super) fn measuring(&self, verb: &str, own: &Table) -> Table {
        let mut options = Table::new();
        options.insert("data".into(), self.path(self.start.test));
        options.insert("bootstrap".into(), 0.into());
        if !self.start.has_truth() {
            let limit = self.options(verb, own).remove("max-length");
            options.extend(limit.map(|limit| ("max-length".to_owned(), limit)));
        }
        options
    }
}
