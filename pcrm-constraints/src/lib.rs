//! Prior constraints: bounds on the margins of preference pairs, known before training.
//!
//! PCRM (arXiv 2404.00978, §4.1) trains a reward model with L = −log σ(Δ) − log σ(Δ* − Δ), where
//! Δ = r(chosen) − r(rejected). A constraint computes the Δ* of each pair once, without gradient. The loss of
//! one pair is smallest at Δ = Δ*/2, so a constraint states a confidence in each pair: P(chosen ≻ rejected)
//! is pulled towards σ(Δ*/2).
//!
//! | kind | Δ* | fields and defaults | source |
//! |---|---|---|---|
//! | `length_ratio` | β1/(s + β2) + β3, s = shorter/longer in tokens from the first differing one | `beta1` 20, `beta2` 0.001, `beta3` −15 | arXiv 2404.00978 §4.1 |
//! | `cosine` | the same, s from the cosine of the answers' sentence embeddings | `encoder` bag-of-words, `similarity` raw, `text` answer, `beta1` 20, `beta2` 0.001, `beta3` −15; `preset` | arXiv 2404.00978 §4.1 |
//! | `edit` | the same, s = 1 − edits/longer, in the same tokens | as `length_ratio` | Levenshtein ratio |
//! | `score_gap` | the same, s = 1/(1 + margin/scale) | `scale` 1, `beta1` 5, `beta2` 0.001, `beta3` −2 | margins in the data |
//! | `calibrated` | as `of`, with β1 and β3 fitted to measured win rates | `of` length_ratio, `beta2` that of `of` (or "fitted"), `folds` 5, `bootstrap` 1000, `level` 0.95 | [`calibration`] |
//! | `learned` | 2·softplus(f), f of several priors at once, fitted to the agreement of judges | `features` cosine, edit (and score_gap), `monotone`, `folds` 5, `form` linear | [`learned`] |
//! | `combine` | min, mean, product or weighted sum of other constraints' Δ* | `how` min, `of` length_ratio and edit, `weights` | |
//! | `schedule` | f(t)·Δ* of another constraint, t the share of completed steps | `of` length_ratio, `from` 2, `to` 1, `shape` linear, `over` 1 | |
//! | `fixed` | c | `bound` 3 | the paper's control |
//! | `random` | U(low, high), from the run's seed and the pair's identity | `low` 1, `high` 2 | the paper's control |
//! | `none` | ∞ | | Bradley–Terry, the baseline |
//!
//! A constraint is data, `{"kind": "length_ratio", "beta1": 20}`; [`pcrm_core::constraint::parse`] builds it
//! and refuses a configuration that could give a bound ≤ 0 for some pair, before any training.
//!
//! `cosine` uses a sentence encoder, which is a plugin too ([`pcrm_core::encoder`]): `bag-of-words`, `bert`,
//! `onnx` or `policy`. Each distinct text is encoded once, and its vector is cached on disk ([`embeddings`]).
//!
//! # Adding a constraint
//!
//! A constraint is a struct, its Δ* and a registration; nothing else changes. It may live in any crate that
//! the binary links (`use that_crate as _;`):
//!
//! ```
//! use pcrm_core::constraint::{Constraint, PairView, Priors, parse};
//!
//! #[derive(Debug, serde::Serialize, serde::Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Margin { scale: f32 }
//!
//! impl Constraint for Margin {
//!     fn kind(&self) -> &'static str { "margin" }
//!     fn bounds(&self, pairs: &[PairView<'_>], _: &Priors) -> pcrm_core::Result<Vec<f32>> {
//!         Ok(pairs.iter().map(|pair| self.scale * pair.margin.unwrap_or(1.0)).collect())
//!     }
//! }
//!
//! inventory::submit! {
//!     pcrm_core::registry::ConstraintPlugin {
//!         name: "margin", about: "a multiple of the margin in the data",
//!         build: |data| Ok(Box::new(erased_serde::deserialize::<Margin>(data)?)),
//!     }
//! }
//!
//! let constraint = parse(r#"{"kind": "margin", "scale": 3}"#)?;
//! assert_eq!(constraint.kind(), "margin");
//! # Ok::<(), pcrm_core::Error>(())
//! ```
//!
//! Reading order: [`bound`], the paper's map from a similarity to Δ*; then a file per constraint
//! ([`length_ratio`] is the paper's own); then [`cosine`] with [`embeddings`], and a file per encoder.

pub mod bag_of_words;
pub mod bert;
pub mod bound;
pub mod calibrated;
pub mod calibration;
pub mod combine;
pub mod cosine;
pub mod edit;
pub mod embeddings;
pub mod fixed;
pub mod learned;
pub mod length_ratio;
pub mod none;
mod number;
pub mod onnx;
pub mod policy;
pub mod pooling;
pub mod random;
pub mod schedule;
pub mod score_gap;
pub mod sentence_folder;
#[cfg(test)]
mod testing;
mod texts_on_backend;

pub use bag_of_words::BagOfWords;
pub use bert::Bert;
pub use bound::Hyperbola;
pub use calibrated::Calibrated;
pub use combine::{Combine, How};
pub use cosine::Cosine;
pub use edit::Edit;
pub use embeddings::Embeddings;
pub use fixed::Fixed;
pub use learned::Learned;
pub use length_ratio::LengthRatio;
pub use none::Unbounded;
pub use onnx::Onnx;
pub use policy::{Policy, StatePooling};
pub use pooling::Pooling;
pub use random::Random;
pub use schedule::Schedule;
pub use score_gap::ScoreGap;
pub use sentence_folder::{FolderOptions, SentenceFolder};

#[cfg(test)]
mod tests {
    use pcrm_core::registry::{ConstraintPlugin, all};

    /// Protects: every constraint of this crate is registered exactly once, under its own kind.
    #[test]
    fn all_constraints_are_registered() {
        let names: Vec<_> = all::<ConstraintPlugin>().iter().map(|plugin| plugin.name).collect();
        assert_eq!(
            names,
            [
                "calibrated",
                "combine",
                "cosine",
                "edit",
                "fixed",
                "learned",
                "length_ratio",
                "none",
                "random",
                "schedule",
                "score_gap"
            ]
        );
        for name in names {
            assert_eq!(pcrm_core::constraint::parse(name).unwrap().kind(), name);
        }
    }

    /// Protects: the error for an unknown kind lists the known kinds.
    #[test]
    fn unknown_kinds_list_the_known() {
        let error = pcrm_core::constraint::parse("lenght_ratio").unwrap_err().to_string();
        assert_eq!(
            error,
            "unknown constraint \"lenght_ratio\"; known: calibrated, combine, cosine, edit, fixed, learned, \
            length_ratio, none, random, schedule, score_gap"
        );
    }

    /// Protects: an error about a constraint of any length is short.
    #[test]
    fn long_constraints_have_short_errors() {
        let long = "V".repeat(5000);
        for text in [
            long.clone(),
            format!("{{{long}"),
            format!("{{\"{long}\": 1}}"),
            format!("{{\"kind\": \"{long}\"}}"),
            format!("{{\"kind\": [\"{long}\"]}}"),
            format!("{{\"kind\": \"fixed\", \"{long}\": 1}}"),
        ] {
            let error = pcrm_core::constraint::parse(&text).map(|_| ()).unwrap_err().to_string();
            assert!(error.len() < 2000, "{} bytes for {}", error.len(), &text[..40]);
        }
    }
}
