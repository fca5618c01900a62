//! The names and requirements of preference losses.

use std::fmt;
use std::str::FromStr;

use pcrm_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// A preference loss, with TRL's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PreferenceLoss {
    /// DPO (arXiv 2305.18290).
    Sigmoid,
    /// Conservative DPO: labels are wrong with probability ε (Mitchell 2023).
    Cdpo,
    /// SLiC (arXiv 2305.10425).
    Hinge,
    /// IPO, by token (arXiv 2310.12036).
    Ipo,
    /// IPO of whole answers, as in TRL's online DPO.
    IpoSum,
    /// EXO (arXiv 2402.00856).
    ExoPair,
    /// NCA (arXiv 2402.05369).
    NcaPair,
    /// Robust DPO (arXiv 2403.00409).
    Robust,
    /// −ln σ(max(Δ, floor)): pairs with a margin below the floor, likely mislabelled, have no gradient.
    Floor,
    /// BCO of pairs (arXiv 2404.04656).
    BcoPair,
    /// SPPO with hard labels (arXiv 2405.00675).
    SppoHard,
    /// AOT of paired data (arXiv 2406.05882).
    Aot,
    /// AOT of unpaired data (arXiv 2406.05882).
    AotUnpaired,
    /// APO-zero (arXiv 2408.06266).
    ApoZero,
    /// APO-down (arXiv 2408.06266).
    ApoDown,
    /// DiscoPOP (arXiv 2406.08414).
    Discopop,
    /// −ln π of the preferred answers, per token.
    Sft,
    /// DPO by token (arXiv 2411.15124).
    SigmoidNorm,
    /// SimPO, without a reference (arXiv 2405.14734).
    Simpo,
    /// CPO, without a reference (arXiv 2401.08417).
    Cpo,
    /// ORPO, without a reference (arXiv 2403.07691).
    Orpo,
}

/// All losses with their names.
pub(super) const ALL: [(PreferenceLoss, &str); 21] = [
    (PreferenceLoss::Sigmoid, "sigmoid"),
    (PreferenceLoss::Cdpo, "cdpo"),
    (PreferenceLoss::Hinge, "hinge"),
    (PreferenceLoss::Ipo, "ipo"),
    (PreferenceLoss::IpoSum, "ipo_sum"),
    (PreferenceLoss::ExoPair, "exo_pair"),
    (PreferenceLoss::NcaPair, "nca_pair"),
    (PreferenceLoss::Robust, "robust"),
    (PreferenceLoss::Floor, "floor"),
    (PreferenceLoss::BcoPair, "bco_pair"),
    (PreferenceLoss::SppoHard, "sppo_hard"),
    (PreferenceLoss::Aot, "aot"),
    (PreferenceLoss::AotUnpaired, "aot_unpaired"),
    (PreferenceLoss::ApoZero, "apo_zero"),
    (PreferenceLoss::ApoDown, "apo_down"),
    (PreferenceLoss::Discopop, "discopop"),
    (PreferenceLoss::Sft, "sft"),
    (PreferenceLoss::SigmoidNorm, "sigmoid_norm"),
    (PreferenceLoss::Simpo, "simpo"),
    (PreferenceLoss::Cpo, "cpo"),
    (PreferenceLoss::Orpo, "orpo"),
];

impl PreferenceLoss {
    /// Returns the name.
    pub fn name(self) -> &'static str {
        ALL.iter().find(|(loss, _)| *loss == self).map_or("", |(_, name)| name)
    }

    /// Returns true if the loss is a function of a single difference of the two answers, which a bound may
    /// limit.
    pub fn has_margin(self) -> bool {
        matches!(
            self,
            Self::Sigmoid
                | Self::Cdpo
                | Self::Hinge
                | Self::Ipo
                | Self::IpoSum
                | Self::ExoPair
                | Self::Robust
                | Self::Floor
                | Self::Discopop
                | Self::SigmoidNorm
                | Self::Simpo
                | Self::Cpo
                | Self::Orpo
        )
    }

    /// Returns true if the loss does not compare the policy with a reference.
    pub fn is_without_reference(self) -> bool {
        matches!(self, Self::Simpo | Self::Cpo | Self::Orpo | Self::Sft)
    }

    /// Returns true if the loss uses `label_smoothing`.
    pub fn smooths(self) -> bool {
        matches!(
            self,
            Self::Cdpo
                | Self::ExoPair
                | Self::Robust
                | Self::Aot
                | Self::AotUnpaired
                | Self::Simpo
                | Self::Cpo
        )
    }

    /// Returns true if the normalising constant of other f-divergences cancels in the loss.
    pub(super) fn takes_divergences(self) -> bool {
        matches!(
            self,
            Self::Sigmoid
                | Self::Cdpo
                | Self::SigmoidNorm
                | Self::Hinge
                | Self::Ipo
                | Self::IpoSum
                | Self::ExoPair
                | Self::Robust
                | Self::Floor
                | Self::Discopop
                | Self::Sft
        )
    }

    /// Returns true if the loss sorts the pairs of a step, which are then computed together.
    pub fn sorts(self) -> bool {
        matches!(self, Self::Aot | Self::AotUnpaired)
    }
}

impl FromStr for PreferenceLoss {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        ALL.iter().find(|(_, name)| *name == text).map(|(loss, _)| *loss).ok_or_else(|| {
            let known: Vec<&str> = ALL.iter().map(|(_, name)| *name).collect();
            Error::invalid("loss", format!("{text:?} is unknown; expected one of {}", known.join(", ")))
        })
    }
}

impl fmt::Display for PreferenceLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: the command line and JSON accept the names as they are displayed.
    #[test]
    fn names_are_read_as_they_are_written() {
        for (loss, name) in ALL {
            assert_eq!(name.parse::<PreferenceLoss>().ok(), Some(loss));
            assert_eq!(serde_json::to_value(loss).ok(), Some(name.into()));
            assert_eq!(loss.to_string(), name);
        }
        assert!("dpo".parse::<PreferenceLoss>().is_err());
    }
}
