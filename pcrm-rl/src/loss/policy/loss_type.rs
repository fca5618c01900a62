//! The losses of GRPO and its variants, by name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A loss of sampled answers, with TRL's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GrpoLoss {
    /// The mean over answers of the means over their tokens (arXiv 2402.03300).
    Grpo,
    /// The mean over the tokens of the step.
    Bnpo,
    /// The sum divided by the maximum length of an answer (arXiv 2503.20783).
    DrGrpo,
    /// The sum divided by the tokens of the rollout (arXiv 2503.14476).
    #[default]
    Dapo,
    /// Clipped weights of log-probabilities (MiniMax-M1, arXiv 2506.13585).
    Cispo,
    /// A soft gate instead of the clip (arXiv 2511.20347).
    Sapo,
    /// The mean over answers of the sums over their tokens (arXiv 2602.05261).
    Luspo,
    /// Weights of whole answers by a gamma kernel (arXiv 2602.10693).
    Vespo,
}

/// All losses with their names.
const ALL: [(GrpoLoss, &str); 8] = [
    (GrpoLoss::Grpo, "grpo"),
    (GrpoLoss::Bnpo, "bnpo"),
    (GrpoLoss::DrGrpo, "dr_grpo"),
    (GrpoLoss::Dapo, "dapo"),
    (GrpoLoss::Cispo, "cispo"),
    (GrpoLoss::Sapo, "sapo"),
    (GrpoLoss::Luspo, "luspo"),
    (GrpoLoss::Vespo, "vespo"),
];

impl GrpoLoss {
    /// Returns the name.
    pub fn name(self) -> &'static str {
        ALL.iter().find(|(loss, _)| *loss == self).map_or("", |(_, name)| name)
    }

    /// Returns true if the loss clips ratios on both sides.
    pub(super) fn clips(self) -> bool {
        !matches!(self, Self::Cispo | Self::Sapo | Self::Vespo)
    }
}

impl FromStr for GrpoLoss {
    type Err = pcrm_core::Error;

    fn from_str(text: &str) -> pcrm_core::Result<Self> {
        ALL.iter().find(|(_, name)| *name == text).map(|(loss, _)| *loss).ok_or_else(|| {
            let known = ALL.map(|(_, name)| name).join(", ");
            pcrm_core::Error::invalid("loss-type", format!("{text:?} is unknown; expected one of {known}"))
        })
    }
}

impl fmt::Display for GrpoLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
