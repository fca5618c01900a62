//! The last lines of a run: how it ended, which weights the folder holds, and what is wrong with them.

use std::path::Path;

use pcrm_core::model::RewardModel;
use pcrm_rl::objective::reward::collapsed;
use pcrm_rl::offline::{Outcome, Trained};

use crate::warnings::Warnings;

/// The closing lines of a run that ended, and a warning where its scores have collapsed.
pub(super) fn closing(trained: &Trained<RewardModel>, dir: &Path, warnings: &mut Warnings) -> Vec<String> {
    closing_of(&trained.outcome, collapsed(&trained.probe), dir, warnings)
}

fn closing_of(outcome: &Outcome, collapsed: Option<f32>, dir: &Path, warnings: &mut Warnings) -> Vec<String> {
    let Outcome::Finished { steps, best, early, saved } = outcome else { return Vec::new() };
    let why = if *early { ", as patience ran out" } else { "" };
    let made = if *steps == 1 { "1 step".to_owned() } else { format!("{steps} steps") };
    let mut lines = vec![format!("finished after {made}{why}; the model is in {}", dir.display())];
    if let Some(best) = best.filter(|best| best.step != *steps) {
        let (best, loss) = (best.step, best.loss);
        lines.push(match best == *saved {
            true => format!("the folder holds the weights of step {saved}, the best evaluation (loss {loss:.4})"),
            false => format!(
                "the folder holds the weights of step {saved}; the best evaluation was after step {best} (loss \
                 {loss:.4}): --final best keeps those"
            ),
        });
    }
    if let Some(score) = collapsed {
        warnings.keep(format!(
            "the model's scores have collapsed: every text that was checked scores {score}, so it tells no two answers \
             apart. Try a lower --learning-rate"
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use pcrm_rl::checkpoint::Best;

    use super::*;

    fn said(best: Option<u64>, saved: u64, collapsed: Option<f32>) -> (String, usize) {
        let best = best.map(|step| Best { step, loss: 1.0148 });
        let outcome = Outcome::Finished { steps: 110, best, early: false, saved };
        let mut warnings = Warnings::default();
        (
            closing_of(&outcome, collapsed, Path::new("runs/rm"), &mut warnings).join("\n"),
            warnings.all().len(),
        )
    }

    /// Protects: the step whose weights are in the folder is the one that is announced.
    #[test]
    fn the_saved_step_is_announced() {
        assert_eq!(said(None, 110, None).0, "finished after 110 steps; the model is in runs/rm");
        assert_eq!(said(Some(110), 110, None).0.lines().count(), 1);
        let (last, _) = said(Some(80), 110, None);
        assert!(last.contains("holds the weights of step 110;") && last.contains("--final best"), "{last}");
        let (best, _) = said(Some(80), 80, None);
        assert!(
            best.contains("holds the weights of step 80, the best") && !best.contains("--final"),
            "{best}"
        );
    }

    /// Protects: a model that scores all texts alike is a warning.
    #[test]
    fn a_collapse_is_a_warning() {
        assert_eq!((said(None, 110, Some(-3.5)).1, said(None, 110, None).1), (1, 0));
    }
}
