//! The form of a pair's ranking loss: Bradley–Terry, or a form that tolerates wrong labels.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Slope;
use super::ties::TieModel;

/// The form of the ranking loss; ℓ = −ln σ, or −ln P(win) under a model of ties.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RankingForm {
    /// ℓ(Δ), Bradley–Terry.
    #[default]
    Bt,
    /// (1 − ε)·ℓ(Δ) + ε·ℓ(−Δ), label smoothing: margins settle at ln((1 − ε)/ε).
    Smoothed {
        /// ε
        label_smoothing: WrongShare,
    },
    /// ((1 − ε)·ℓ(Δ) − ε·ℓ(−Δ)) / (1 − 2ε). Its expectation over labels with a share ε of wrong ones equals ℓ
    /// under true labels (Natarajan et al. 2013; rDPO, arXiv 2403.00409).
    Robust {
        /// ε
        label_smoothing: WrongShare,
    },
    /// ℓ(max(Δ, floor)): pairs with a margin below the floor have no gradient.
    Floor {
        /// The margin below which the loss is flat.
        floor: f64,
    },
}

/// ε, the assumed share of wrong labels.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum WrongShare {
    /// A fixed share.
    Given(f64),
    /// A share that the run estimates from its own pairs before the first step.
    Estimated(Keyword),
}

/// The keyword for an estimated share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Keyword {
    /// `estimate`
    Estimate,
}

impl WrongShare {
    /// A share to be estimated.
    pub const ESTIMATE: Self = Self::Estimated(Keyword::Estimate);

    /// Returns ε; NaN if it is not estimated yet, which makes training fail.
    pub(super) fn value(self) -> f64 {
        match self {
            Self::Given(share) => share,
            Self::Estimated(Keyword::Estimate) => f64::NAN,
        }
    }
}

impl fmt::Display for WrongShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(share) => write!(f, "{share}"),
            Self::Estimated(Keyword::Estimate) => f.write_str("estimate"),
        }
    }
}

impl RankingForm {
    /// Returns the ranking loss of a preferred answer at its margin, under a model of ties.
    pub(super) fn of(self, margin: f64, ties: TieModel) -> Slope {
        let (forward, backward) = (ties.win(margin), ties.win(-margin).mirrored());
        match self {
            Self::Floor { floor } if margin < floor => Slope { value: ties.win(floor).value, slope: 0.0 },
            Self::Bt | Self::Floor { .. } => forward,
            Self::Smoothed { label_smoothing } => {
                let wrong = label_smoothing.value();
                forward.mixed(1.0 - wrong, backward, wrong)
            }
            Self::Robust { label_smoothing } => {
                let wrong = label_smoothing.value();
                let scale = 1.0 / (1.0 - 2.0 * wrong);
                forward.mixed((1.0 - wrong) * scale, backward, -wrong * scale)
            }
        }
    }

    /// Returns ε, if the form has one.
    pub fn wrong_share(&self) -> Option<WrongShare> {
        match self {
            Self::Smoothed { label_smoothing } | Self::Robust { label_smoothing } => Some(*label_smoothing),
            Self::Bt | Self::Floor { .. } => None,
        }
    }

    /// Returns this form with another ε, if it has one.
    #[must_use]
    pub fn with_wrong_share(self, share: f64) -> Self {
        let label_smoothing = WrongShare::Given(share);
        match self {
            Self::Smoothed { .. } => Self::Smoothed { label_smoothing },
            Self::Robust { .. } => Self::Robust { label_smoothing },
            Self::Bt | Self::Floor { .. } => self,
        }
    }
}
