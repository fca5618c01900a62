//! The last lines of a reward model's run, and a warning if its scores have collapsed.

use std::path::Path;

use pcrm_core::model::RewardModel;
use pcrm_rl::objective::reward::collapsed;
use pcrm_rl::offline::Trained;

use super::super::folder;
use crate::warnings::Warnings;

/// Returns the closing lines of a finished run, and adds a warning if all scores are equal.
pub(super) fn closing(trained: &Trained<RewardModel>, dir: &Path, warnings: &mut Warnings) -> Vec<String> {
    if let Some(score) = collapsed(&trained.probe) {
        warnings.keep(format!(
            "the model's scores have collapsed: every checked text scores {score}, so no two answers can be \
             distinguished. Try a lower --learning-rate"
        ));
    }
    folder::closing(&trained.outcome, dir)
}
