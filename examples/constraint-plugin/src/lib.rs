//! The more words two answers share, the less their scores may differ.

use std::collections::HashSet;

use pcrm_core::Result;
use pcrm_core::constraint::{Constraint, PairView, Priors};
use pcrm_core::registry::ConstraintPlugin;

/// Δ* = loose − (loose − tight)·s, where s is the share of words in both answers (Jaccard), ignoring case.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SharedWords {
    /// The bound of answers with the same words.
    pub tight: f32,
    /// The bound of answers without a common word.
    pub loose: f32,
}

impl Default for SharedWords {
    fn default() -> Self {
        Self { tight: 2.0, loose: 8.0 }
    }
}

fn similarity(pair: &PairView<'_>) -> f32 {
    let words = |text: &str| text.split_whitespace().map(str::to_lowercase).collect::<HashSet<_>>();
    let (chosen, rejected) = (words(pair.chosen), words(pair.rejected));
    chosen.intersection(&rejected).count() as f32 / chosen.union(&rejected).count().max(1) as f32
}

impl Constraint for SharedWords {
    fn kind(&self) -> &'static str {
        "shared_words"
    }

    fn bounds(&self, pairs: &[PairView<'_>], _: &Priors) -> Result<Vec<f32>> {
        Ok(pairs.iter().filter_map(|pair| self.bound_at(similarity(pair).into())).collect())
    }

    /// Lets pcrm show the curve of the bound; optional, like the formula.
    fn bound_at(&self, s: f64) -> Option<f32> {
        Some(self.loose - (self.loose - self.tight) * s as f32)
    }
}

pcrm_core::inventory::submit! {
    ConstraintPlugin {
        name: "shared_words",
        about: "bound from the share of words in both answers",
        build: |data| Ok(Box::new(pcrm_core::erased_serde::deserialize::<SharedWords>(data)?)),
    }
}
