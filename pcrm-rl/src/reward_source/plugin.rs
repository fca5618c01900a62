//! Reward sources as plugins: `{"kind": "length", "target": 100}` selects one by its `kind` and configures it
//! with the rest.

use pcrm_core::registry::Plugin;
use pcrm_core::tagged::{Build, Tagged};

use super::RewardSource;

/// A registered reward source.
///
/// ```
/// use pcrm_rl::Result;
/// use pcrm_rl::reward_source::{Answers, RewardPlugin, RewardSource, Scored};
///
/// /// The share of capital letters.
/// #[derive(serde::Deserialize)]
/// #[serde(deny_unknown_fields)]
/// struct Loudness {}
///
/// impl RewardSource for Loudness {
///     fn name(&self) -> &str {
///         "loudness"
///     }
///
///     fn score(&mut self, batch: &Answers<'_>) -> Result<Scored> {
///         let share = |text: &str| {
///             let letters = text.chars().filter(|letter| letter.is_alphabetic()).count();
///             let capitals = text.chars().filter(|letter| letter.is_uppercase()).count();
///             (letters > 0).then(|| capitals as f32 / letters as f32)
///         };
///         Ok(Scored::of(batch.rows.iter().map(|answer| share(answer.completion())).collect()))
///     }
/// }
///
/// pcrm_core::inventory::submit! {
///     RewardPlugin {
///         name: "loudness",
///         about: "share of capital letters",
///         build: |data| Ok(Box::new(pcrm_core::erased_serde::deserialize::<Loudness>(data)?)),
///     }
/// }
/// assert!("loudness".parse::<pcrm_rl::reward_source::Spec>().is_ok());
/// ```
pub struct RewardPlugin {
    /// The `kind` that selects it.
    pub name: &'static str,
    /// Description in one line, for listings.
    pub about: &'static str,
    /// Builds the source from its configuration (the tagged object without its `kind`).
    pub build: Build<dyn RewardSource>,
}

pcrm_core::inventory::collect!(RewardPlugin);

impl Plugin for RewardPlugin {
    const WHAT: &'static str = "reward";
    fn name(&self) -> &'static str {
        self.name
    }
    fn about(&self) -> &'static str {
        self.about
    }
}

impl Tagged for RewardPlugin {
    type Made = dyn RewardSource;
    fn build(&self) -> Build<Self::Made> {
        self.build
    }
}
