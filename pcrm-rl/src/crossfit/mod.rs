//! Cross-fitting: margins of pairs from judges not trained on them, and constraints fitted to those margins.
//!
//! Pairs are split by prompt ([`pcrm_core::folds`]). For every fold a Bradley–Terry model is trained on the
//! other folds, as the run itself would be, and scores the fold. Judges are trained in a temporary folder
//! (set by `TMPDIR`); only their margins are kept, keyed by content. Folders of killed processes are removed
//! when the next judge is trained. Several processes train each judge together.

mod cache;
mod fit;

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use pcrm_core::Backend;
use pcrm_core::data::encode::EncodedSet;
use pcrm_core::data::prompt_id::PromptId;
use pcrm_core::disk::FolderLock;
use pcrm_core::folds::fold;
use pcrm_core::model::{RewardModel, Scores};
use pcrm_core::text::Tokenizer;

use crate::error::{Error, Result};
use crate::fingerprint::Fingerprint;
use crate::lanes::Lanes;
use crate::objective::reward::Reward;
use crate::offline::{Final, Observer, Outcome, Run, TrainerConfig, train};
use crate::pairs::Pairs;
use crate::score::score_pairs;
use crate::train::{Base, RewardOptions};

pub use cache::MarginCache;
pub use fit::{Evidence, Fitted, fit};

/// The prefix of the names of judges' folders.
const JUDGE: &str = "pcrm-judge-";
/// The minimum age of an unlocked judge's folder before it is removed.
const SETTLED: Duration = Duration::from_secs(60);

/// The setting for training judges.
pub struct Crossfit<'a> {
    /// Backend.
    pub backend: &'a dyn Backend,
    /// Model that every judge starts from.
    pub base: &'a Base,
    /// Tokenizer of the model.
    pub tokenizer: &'a Tokenizer,
    /// Training options; evaluations and checkpoints are disabled.
    pub options: &'a RewardOptions,
    /// Number of folds, and of judges.
    pub folds: usize,
    /// Cache of margins.
    pub cache: MarginCache,
    /// Set from outside to stop the training of a judge.
    pub stop: &'a AtomicBool,
}

impl Crossfit<'_> {
    /// Returns for every pair the share of judges not trained on its prompt that prefer its preferred answer.
    /// There is one such judge, so the share is 1 or 0, or ½ if it scores both answers equally.
    ///
    /// # Errors
    /// Fails as [`Crossfit::margins`] does.
    pub fn wins(&self, sets: &[EncodedSet], observer: &mut dyn Observer) -> Result<Vec<f32>> {
        Ok(self.margins(sets, observer)?.into_iter().map(win).collect())
    }

    /// Returns for every pair the margin from the judge that was not trained on its prompt.
    ///
    /// # Errors
    /// Fails with fewer than two folds, if all prompts fall into one fold, if interrupted, or if training
    /// fails.
    pub fn margins(&self, sets: &[EncodedSet], observer: &mut dyn Observer) -> Result<Vec<f32>> {
        let folds = self.folds;
        if folds < 2 {
            let message = format!("{folds}: expected at least 2: judges must not know the pairs they judge");
            return Err(Error::Invalid { field: "folds", message });
        }
        self.cache.sweep();
        let options = judges_options(self.options);
        let setting = cache::setting(&self.base.digest(self.backend)?, &options);
        let mut all: Vec<Vec<f32>> = sets.iter().map(|set| vec![0.0; set.comparisons.len()]).collect();
        for (held_out, places) in parts(sets.iter().map(|set| set.prompt_id), folds) {
            let own: Vec<&EncodedSet> = places.iter().map(|at| &sets[*at]).collect();
            if own.len() == sets.len() {
                let message = format!(
                    "cross-fitting: all {} pairs fall into one of {folds} folds by prompt; expected pairs of \
                     several prompts",
                    count(sets)
                );
                return Err(pcrm_core::Error::invalid("data", message).into());
            }
            // `parts` returns ascending indices.
            let others = (0..sets.len()).filter(|at| places.binary_search(at).is_err());
            let others: Vec<EncodedSet> = others.map(|at| sets[at].clone()).collect();
            let (known, judged) = (count(&others), count(own.iter().copied()));
            let which = format!("cross-fitting, fold {} of {folds}", held_out + 1);
            let key = cache::key(&setting, &others, &own);
            // The caches of processes may differ, and a judge is trained by all of them.
            let known_margins = self.cache.get(&key, judged);
            let trains = self.backend.collective().any(known_margins.is_none())?;
            let margins = match known_margins.filter(|_| !trains) {
                Some(margins) => {
                    observer.note(&format!("{which}: {judged} pairs were judged before"));
                    margins
                }
                None => {
                    let line = format!("{which}: training a judge on {known} pairs to judge {judged}");
                    observer.note(&line);
                    let margins = self.fold_margins(others, &own, &options, observer)?;
                    if self.backend.collective().is_first() {
                        self.cache.put(&key, &margins);
                    }
                    margins
                }
            };
            let mut margins = margins.into_iter();
            for at in places {
                all[at].iter_mut().zip(margins.by_ref()).for_each(|(place, margin)| *place = margin);
            }
        }
        Ok(all.concat())
    }

    /// Returns the margins of a fold's pairs from a judge trained on the other folds.
    fn fold_margins(
        &self,
        others: Vec<EncodedSet>,
        own: &[&EncodedSet],
        options: &RewardOptions,
        observer: &mut dyn Observer,
    ) -> Result<Vec<f32>> {
        let bounds = vec![f32::INFINITY; count(&others)];
        let judge = self.judge(&Pairs::new(others, bounds), options, observer)?;
        Lanes::of_processes(self.backend)
            .dealt(own.len(), |range| margins_by(&judge, &own[range], options.trainer.micro_tokens))
    }

    fn judge(
        &self,
        pairs: &Pairs,
        options: &RewardOptions,
        observer: &mut dyn Observer,
    ) -> Result<RewardModel> {
        let temporary = std::env::temp_dir();
        sweep(&temporary);
        let dir = tempfile::Builder::new().prefix(JUDGE).tempdir();
        let dir = dir.map_err(pcrm_core::Error::io(&temporary))?;
        let _held = FolderLock::take(dir.path())?;
        let objective = Reward { config: options.reward, schedule: None };
        let run = Run {
            backend: self.backend,
            objective: &objective,
            model: self.base.open(self.backend)?,
            tokenizer: self.tokenizer,
            train: pairs,
            eval: None,
            dir: dir.path(),
            fingerprint: Fingerprint::new(),
            stop: self.stop,
        };
        let trained = train(run, &options.trainer, observer)?;
        if let Outcome::Interrupted { .. } = trained.outcome {
            return Err(Error::Interrupted(
                "interrupted; the judged folds are kept, nothing else is written: rerun the same command to \
                 continue"
                    .to_owned(),
            ));
        }
        Ok(trained.model)
    }
}

/// Removes the folders of judges whose process was killed, ignoring errors.
fn sweep(temporary: &Path) {
    for entry in fs::read_dir(temporary).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let is_judge = name.to_str().is_some_and(|name| name.starts_with(JUDGE));
        if !is_judge || !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        // A new folder may not be locked yet.
        let changed = entry.metadata().and_then(|found| found.modified()).ok();
        let is_old = changed.and_then(|time| time.elapsed().ok()).is_some_and(|age| age > SETTLED);
        if is_old && let Ok(held) = FolderLock::take(&entry.path()) {
            let _ = fs::remove_dir_all(entry.path());
            drop(held);
        }
    }
}

/// Returns the non-empty folds with the indices of their pairs, ascending.
fn parts(prompts: impl Iterator<Item = PromptId>, folds: usize) -> Vec<(usize, Vec<usize>)> {
    let mut places = vec![Vec::new(); folds];
    prompts.enumerate().for_each(|(at, prompt)| places[fold(prompt, folds)].push(at));
    places.into_iter().enumerate().filter(|(_, places)| !places.is_empty()).collect()
}

/// Returns a run's options without those for a run whose model is kept.
fn judges_options(options: &RewardOptions) -> RewardOptions {
    let trainer = TrainerConfig {
        log_every: u64::MAX,
        eval_every: None,
        save_every: None,
        keep: 1,
        patience: None,
        final_weights: Final::Last,
        ..options.trainer.clone()
    };
    RewardOptions { trainer, reward: options.reward }
}

/// Returns the number of pairs in these sets.
fn count<'a>(sets: impl IntoIterator<Item = &'a EncodedSet>) -> usize {
    sets.into_iter().map(|set| set.comparisons.len()).sum()
}

/// Returns a model's margins for the pairs of these sets.
///
/// # Errors
/// Fails if the model fails or a score is not finite.
pub fn margins_by(judge: &impl Scores, sets: &[&EncodedSet], micro_tokens: usize) -> Result<Vec<f32>> {
    let scores = score_pairs(judge, sets, micro_tokens)?;
    let margins: Vec<f32> = scores.into_iter().map(|(chosen, rejected)| chosen - rejected).collect();
    match margins.iter().all(|margin| margin.is_finite()) {
        true => Ok(margins),
        false => Err(pcrm_core::Error::invalid("judge", "a score is not a finite number").into()),
    }
}

/// Returns the win of a judge's margin: 1, 0, or ½ for a margin of 0.
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

    /// Protects: every pair is judged once, by a judge not trained on its prompt; folds without pairs are
    /// skipped.
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

    /// Protects: the conversion of margins to wins.
    #[test]
    fn margins_win_by_their_sign() {
        assert_eq!([0.1, -0.1, 0.0, -0.0].map(win), [1.0, 0.0, 0.5, 0.5]);
    }
}
