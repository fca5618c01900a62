//! Cross-fitting: how judges that were not trained on a pair see it, and constraints fitted to that.
//!
//! Pairs are parted by prompt ([`pcrm_core::folds`]); for every fold a Bradley–Terry model is trained on the other folds
//! as the run itself would be, and scores the fold. Judges are trained in a temporary folder (`TMPDIR` says where) and
//! leave nothing but the margins they gave, which are kept by content.

mod base;
mod fit;
mod kept;

use anyhow::{Context, Result, ensure};
use pcrm_core::Backend;
use pcrm_core::data::encode::EncodedPair;
use pcrm_core::data::prompt_id::PromptId;
use pcrm_core::folds::fold;
use pcrm_core::model::RewardModel;
use pcrm_core::text::Tokenizer;
use pcrm_rl::fingerprint::Fingerprint;
use pcrm_rl::reward::Pairs;
use pcrm_rl::score::score_pairs;
use pcrm_rl::trainer::{self, Final, Outcome, Run, TrainerConfig};

pub use base::{Base, model_digest};
pub use fit::{Evidence, Fitted, fit, folds_of};
pub use kept::Kept;

use crate::interrupt::{self, Interrupted};
use crate::progress::{Watch, say};

/// How judges are trained.
pub struct Crossfit<'a> {
    /// What computes.
    pub backend: &'a dyn Backend,
    /// What every judge begins from.
    pub base: &'a Base,
    /// Its tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// The options of training; evaluations and checkpoints are left out.
    pub config: &'a TrainerConfig,
    /// How many folds; as many judges are trained.
    pub folds: usize,
    /// Where margins are kept.
    pub kept: Kept,
}

impl Crossfit<'_> {
    /// For every pair the share of judges, of those that were not trained on its prompt, who prefer its preferred answer:
    /// there is one such judge, so 1 or 0, and ½ where it scores both alike.
    ///
    /// # Errors
    /// Fewer than two folds, prompts that all fall into one fold, being interrupted, and all that training may meet.
    pub fn wins(&self, pairs: &[EncodedPair]) -> Result<Vec<f32>> {
        let folds = self.folds;
        ensure!(
            folds >= 2,
            "--folds {folds}: expected at least 2: judges must not know the pairs they judge"
        );
        let config = judges_config(self.config);
        let setting = format!("{} {config:?}", self.base.digest(self.backend)?);
        let mut wins = vec![0.5; pairs.len()];
        for (held_out, places) in parts(pairs.iter().map(|pair| pair.id.prompt), folds) {
            let own: Vec<&EncodedPair> = places.iter().map(|at| &pairs[*at]).collect();
            ensure!(
                own.len() < pairs.len(),
                "cross-fitting: all {} pairs fall into one of {folds} folds by prompt; expected pairs of several prompts",
                pairs.len()
            );
            // Places ascend, as parts gives them.
            let others = (0..pairs.len()).filter(|at| places.binary_search(at).is_err());
            let others: Vec<EncodedPair> = others.map(|at| pairs[at].clone()).collect();
            let which = format!("cross-fitting, fold {} of {folds}", held_out + 1);
            let key = kept::key(&setting, &others, &own);
            let margins = match self.kept.get(&key, own.len()) {
                Some(margins) => {
                    say(&format!("{which}: {} pairs were judged before", own.len()));
                    margins
                }
                None => {
                    let (known, judged) = (others.len(), own.len());
                    say(&format!("{which}: a judge is trained on {known} pairs and judges {judged}"));
                    let margins = self.margins(others, &own, &config).context(which)?;
                    self.kept.put(&key, &margins);
                    margins
                }
            };
            places.into_iter().zip(margins).for_each(|(at, margin)| wins[at] = win(margin));
        }
        Ok(wins)
    }

    /// The margins of a fold's pairs, by a judge that knows the others alone.
    fn margins(
        &self,
        others: Vec<EncodedPair>,
        own: &[&EncodedPair],
        config: &TrainerConfig,
    ) -> Result<Vec<f32>> {
        let bounds = vec![f32::INFINITY; others.len()];
        let judge = self.judge(&Pairs::new(others, bounds), config)?;
        margins_by(&judge, own, config.compute.micro_tokens)
    }

    fn judge(&self, train: &Pairs, config: &TrainerConfig) -> Result<RewardModel> {
        let dir = tempfile::Builder::new().prefix("pcrm-judge-").tempdir().context("a temporary folder")?;
        let run = Run {
            backend: self.backend,
            model: self.base.open(self.backend)?,
            tokenizer: self.tokenizer,
            train,
            eval: None,
            dir: dir.path(),
            fingerprint: Fingerprint::new(),
            schedule: None,
            stop: interrupt::flag()?,
        };
        if let Outcome::Interrupted { .. } = trainer::train(run, config, &mut Watch::default())? {
            let message = "interrupted; the folds that were judged are kept, nothing else is written: rerun \
                           the same command to continue after them";
            return Err(Interrupted { message: message.to_owned() }.into());
        }
        Ok(RewardModel::load(self.backend, dir.path(), self.base.dtype)?)
    }
}

/// The folds that have pairs, and the places of those pairs, ascending.
fn parts(prompts: impl Iterator<Item = PromptId>, folds: usize) -> Vec<(usize, Vec<usize>)> {
    let mut places = vec![Vec::new(); folds];
    prompts.enumerate().for_each(|(at, prompt)| places[fold(prompt, folds)].push(at));
    places.into_iter().enumerate().filter(|(_, places)| !places.is_empty()).collect()
}

/// A run's options without what only a run that is kept needs.
fn judges_config(config: &TrainerConfig) -> TrainerConfig {
    TrainerConfig {
        log_every: u64::MAX,
        eval_every: None,
        save_every: None,
        keep: 1,
        patience: None,
        final_weights: Final::Last,
        ..config.clone()
    }
}

/// The margins that a model gives pairs.
///
/// # Errors
/// The model's, and scores that are not finite.
pub fn margins_by(judge: &RewardModel, pairs: &[&EncodedPair], micro_tokens: usize) -> Result<Vec<f32>> {
    let scores = score_pairs(judge, pairs, micro_tokens)?;
    let margins: Vec<f32> = scores.into_iter().map(|(chosen, rejected)| chosen - rejected).collect();
    ensure!(margins.iter().all(|margin| margin.is_finite()), "a judge's score is not a finite number");
    Ok(margins)
}

/// How a judge's margin counts: 1, 0, or ½ for none.
pub fn win(margin: f32) -> f32 {
    match margin {
        margin if margin > 0.0 => 1.0,
        0.0 => 0.5,
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: every pair is judged once, by a judge that knows no pair of its prompt; folds without pairs are passed over.
    #[test]
    fn no_prompt_stands_on_both_sides() {
        let prompts: Vec<String> = (0..300).map(|at| format!("prompt {}", at % 40)).collect();
        for folds in [2, 5, 200] {
            let parts = parts(prompts.iter().map(|prompt| PromptId::of_text(prompt)), folds);
            let mut judged: Vec<usize> = parts.iter().flat_map(|(_, places)| places.clone()).collect();
            judged.sort_unstable();
            assert_eq!(judged, (0..300).collect::<Vec<_>>());
            for (_, places) in &parts {
                assert!(!places.is_empty() && places.is_sorted());
                let known = (0..300).filter(|at| !places.contains(at));
                let known: Vec<&str> = known.map(|at| prompts[at].as_str()).collect();
                assert!(places.iter().all(|at| !known.contains(&prompts[*at].as_str())), "{folds} folds");
            }
        }
    }

    /// Protects: how a margin counts.
    #[test]
    fn margins_win_by_their_sign() {
        assert_eq!([0.1, -0.1, 0.0, -0.0].map(win), [1.0, 0.0, 0.5, 0.5]);
    }
}
