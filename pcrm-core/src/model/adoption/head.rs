//! The score head of a checkpoint: under its own name, under another, or missing.

use std::fs;

use super::Adoption;
use crate::error::Result;
use crate::model::notes;
use crate::model::parameters::SCORE;

/// Substrings of the names of reward heads in other libraries.
const HEADS: [&str; 6] = ["head", "score", "reward", "value", "classifier", "regress"];

/// The reason why the folder of a reward model is refused as a language model.
pub(super) const REWARD: &str = "the folder holds a reward model, whose head gives scores: expected a language \
                                 model (--random-init draws all weights)";

impl Adoption<'_> {
    /// Checks that the folder is not a reward model's. In one whose config ties the language-model head to the
    /// embedding, no parameter of a language model is missing.
    ///
    /// # Errors
    /// Fails if there is a score head, in the weights or by the config, and no language-model head.
    pub(in crate::model) fn require_language(&self) -> Result<()> {
        let head = self.stored(self.config.family.language_head);
        match self.reward_sign().filter(|_| !self.checkpoint.contains(&head)) {
            Some(sign) => Err(self.error(format!("has {sign} and no {head}; {REWARD}"))),
            None => Ok(()),
        }
    }

    /// Returns what marks the folder as a reward model's: a score head, or the class in the config.
    pub(super) fn reward_sign(&self) -> Option<String> {
        let score = self.stored(SCORE);
        if self.checkpoint.contains(&score) {
            return Some(score);
        }
        let classes = self.config.raw.get("architectures").map(ToString::to_string).unwrap_or_default();
        self.config.claims_head().then(|| format!("architectures {classes} in config.json"))
    }

    /// Returns the name of the score head if it is stored under one of the other names that the config allows.
    /// A head with a bias does not count, because the bias would shift scores.
    pub(super) fn head_elsewhere(&self) -> Option<String> {
        let shape = [1, self.config.outer_width];
        let fits = |name: &String| {
            let bias = name.replace(".weight", ".bias");
            self.checkpoint.shape(name).is_some_and(|found| found == shape)
                && !self.checkpoint.contains(&bias)
        };
        let places =
            self.scores.iter().skip(1).flat_map(|name| [name.clone(), format!("{}{name}", self.lead)]);
        places.into_iter().find(fits)
    }

    /// Describes a missing score head: the expected name and the candidates.
    pub fn headless(&self) -> String {
        let width = self.config.outer_width;
        let mut message = format!("has no {} [1, {width}], the head of a reward model", self.stored(SCORE));
        if let Some(shard) = self.checkpoint.astray(&self.stored(SCORE)) {
            message += &format!("; the index places it in {shard}, which does not hold it");
        }
        let candidates = self.candidates();
        let architectures = self.config.raw.get("architectures").map(ToString::to_string).unwrap_or_default();
        match candidates.is_empty() {
            false => {
                message +=
                    &format!("; found {}: rename it to {SCORE} if it is the head", candidates.join(", "))
            }
            true if architectures.contains("ForCausalLM") || architectures.contains("LMHeadModel") => {
                message += &format!("; config.json names a language model ({architectures})")
            }
            true => message += "; no other tensor looks like one",
        }
        message + ". `pcrm reward` trains a head"
    }

    /// Logs that the head is initialised at random, as a warning if the checkpoint may contain one.
    pub(in crate::model) fn say_drawn(&self, seed: u64) {
        match self.config.claims_head() || !self.candidates().is_empty() {
            true => notes::say(&format!("the checkpoint {}; it is drawn from seed {seed}", self.headless())),
            false => tracing::info!("the checkpoint has no {SCORE}: drawing it from seed {seed}"),
        }
    }

    /// Lists tensors and files that may be a head under another name.
    fn candidates(&self) -> Vec<String> {
        let width = self.config.outer_width;
        let family = self.config.family;
        let language =
            [self.stored(family.language_head), "lm_head.weight".into(), "embed_out.weight".into()];
        let mut found = Vec::new();
        for name in self.checkpoint.names() {
            let shape = self.checkpoint.shape(name).unwrap_or_default();
            let in_body = name.contains(family.layers) || name.contains(".layers.") || name.contains(".h.");
            if in_body
                || self.used.contains(name)
                || language.iter().any(|head| name.ends_with(head.as_str()))
            {
                continue;
            }
            let lower = name.to_lowercase();
            let named = HEADS.iter().any(|part| lower.contains(part)) && shape.last() == Some(&width);
            let shaped = shape == [1, width];
            if named || shaped {
                found.push(format!("{name} {shape:?}"));
            }
        }
        for entry in fs::read_dir(self.checkpoint.dir()).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let weights = [".safetensors", ".bin", ".pt"].iter().any(|ending| name.ends_with(ending));
            if weights && name.contains("head") {
                found.push(format!("a file {name}"));
            }
        }
        found.sort();
        found
    }
}
