//! The last lines of a reward model's run, and a warning where its scores have collapsed.

use std::path::Path;

use pcrm_core::model::RewardModel;
use pcrm_rl::objective::reward::collapsed;
use pcrm_rl::offline::Trained;

use super::super::folder;
use crate::warnings::Warnings;

/// The closing lines of a run that ended; scores that are all alike are a warning.
pub(super) fn closing(trained: &Trained<RewardModel>, dir: &Path, warnings: &mut Warnings) -> Vec<String> {
    if let Some(score) = collapsed(&trained.probe) {
        warnings.keep(format!(
            "the model's scores have collapsed: every text that was checked scores {score}, so it tells no two answers \
             apart. Try a lower --learning-rate"
        ));
    }
    folder::closing(&trained.outcome, dir)
}
