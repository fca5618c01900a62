//! Warnings about a policy and a reference that do not fit: equal after an update, or of different kinds.

use std::path::Path;

use anyhow::{Context, Result};
use pcrm_core::model::ModelConfig;
use pcrm_core::text::Tokenizer;
use pcrm_rl::metrics::{StepMetrics, Summary};
use pcrm_rl::offline::Observer;

use crate::progress::{Bar, Watch, bar};
use crate::training::folder::Description;
use crate::warnings;

/// A text that tokenizers split differently: words, digits, white space, other scripts.
const SAMPLE: &str = "Hello, world! 12345  été — 数学\n\tfn main() {}";

/// Shows a run, and checks that the policy moves away from its reference.
#[derive(Default)]
pub struct Watching {
    shown: Watch,
    precomputing: Option<Bar>,
    /// True after an update at a positive learning rate.
    updated: bool,
    /// The warning, if any.
    same: Option<String>,
}

impl Watching {
    /// Describes the run in its folder once it is accepted.
    pub fn describing(&mut self, description: Description) {
        self.shown.describing(description);
    }

    /// Returns the warning found so far.
    pub fn warnings(&self) -> Option<String> {
        self.same.clone()
    }
}

impl Observer for Watching {
    fn accepted(&mut self) -> pcrm_rl::Result<()> {
        self.shown.accepted()
    }

    fn begin(&mut self, done: u64, total: u64) {
        // Judges of a constraint are trained before the policy, so updates are counted from here.
        self.updated = false;
        self.shown.begin(done, total);
    }

    fn step(&mut self, metrics: &StepMetrics) {
        let zero = |name| metrics.metrics.get(name) == Some(0.0);
        if self.updated && self.same.is_none() && zero("rewards/chosen") && zero("rewards/rejected") {
            let text = format!(
                "policy and reference give the same log-probabilities in step {}, after an update at a \
                 positive learning rate: the loss does not move. Possible causes are adapters without \
                 effect, or a --learning-rate too small for the weights' data type",
                metrics.step
            );
            warnings::print(&text);
            self.same = Some(text);
        }
        self.updated |= metrics.learning_rate > 0.0;
        self.shown.step(metrics);
    }

    fn evaluated(&mut self, step: u64, metrics: &Summary, is_best: bool) {
        self.shown.evaluated(step, metrics, is_best);
    }

    fn note(&mut self, line: &str) {
        self.shown.note(line);
    }

    fn precomputed(&mut self, done: u64, total: u64) {
        let bar = self.precomputing.get_or_insert_with(|| bar(total, "reference"));
        bar.set_position(done);
        if done == total
            && let Some(bar) = self.precomputing.take()
        {
            bar.finish_and_clear();
        }
    }

    fn saved(&mut self, path: &Path) {
        self.shown.saved(path);
    }

    fn end(&mut self) {
        self.shown.end();
    }
}

/// Returns warnings about a reference in another folder than the policy's.
///
/// # Errors
/// Fails if the folder has no readable config.
pub fn other_reference(policy: &ModelConfig, tokenizer: &Tokenizer, dir: &Path) -> Result<Vec<String>> {
    use pcrm_core::model::lora::peft::AdapterFolder;
    let at = || format!("--reference {}", dir.display());
    let folder = match AdapterFolder::is_alone(dir) {
        true => AdapterFolder::open(dir).and_then(|adapters| adapters.base()).with_context(at)?,
        false => dir.to_path_buf(),
    };
    let reference = ModelConfig::from_dir(&folder).with_context(at)?;
    let mut found = Vec::new();
    let mut warn = |text: String| found.push(format!("--reference {}: {text}", dir.display()));
    let [ours, theirs] = [policy, &reference].map(|config| config.family.model_type);
    if ours != theirs {
        warn(format!(
            "is of another family ({theirs}) than the policy ({ours}): log-ratios then compare two models, \
             not a policy with its initial state"
        ));
    }
    match Tokenizer::from_dir(&folder) {
        Err(error) => warn(format!("has no tokenizer to compare with the policy's ({error})")),
        Ok(other) => {
            if other.encode(SAMPLE).ok() != tokenizer.encode(SAMPLE).ok() {
                warn(
                    "its tokenizer gives other token ids than the policy's, which encodes the answers".into(),
                );
            }
            let ids = |tokenizer: &Tokenizer| {
                [tokenizer.bos(), tokenizer.eos(), tokenizer.pad()].map(|token| token.map(|token| token.id))
            };
            for ((name, theirs), ours) in
                ["BOS", "EOS", "padding"].iter().zip(ids(&other)).zip(ids(tokenizer))
            {
                if theirs != ours {
                    let shown = |id: Option<u32>| id.map_or("none".to_owned(), |id| id.to_string());
                    warn(format!(
                        "its {name} token is {}, the policy's {}; the policy's tokenizer encodes the answers",
                        shown(theirs),
                        shown(ours)
                    ));
                }
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use pcrm_rl::metrics::Metrics;

    use super::*;

    fn step(step: u64, reward: f64, learning_rate: f64) -> StepMetrics {
        let mut metrics = Metrics::default();
        metrics.mean("rewards/chosen", reward, 1.0);
        metrics.mean("rewards/rejected", reward, 1.0);
        StepMetrics {
            step,
            epoch: 0.1,
            metrics: metrics.summary(),
            grad_norm: 1.0,
            learning_rate,
            num_tokens: 1,
            tokens_per_second: 1.0,
            padding_avoided: 0.0,
        }
    }

    /// Protects: a policy that equals its reference after an update at a positive rate is reported once, but
    /// not before the first update, during a warm-up from 0, or after it has moved.
    #[test]
    fn a_policy_that_does_not_move_is_said() {
        let found = |steps: &[(f64, f64)]| {
            let mut watching = Watching::default();
            watching.begin(0, 9);
            for (at, (reward, rate)) in (1..).zip(steps) {
                watching.step(&step(at, *reward, *rate));
            }
            watching.warnings()
        };
        assert!(found(&[(0.0, 1e-6), (0.0, 1e-6)]).is_some_and(|text| text.contains("in step 2")));
        assert_eq!(found(&[(0.0, 1e-6), (0.01, 1e-6)]), None);
        assert_eq!(found(&[(0.0, 0.0), (0.0, 1e-6), (0.2, 1e-6)]), None);
    }
}
