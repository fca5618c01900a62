//! A fitted constraint's record of the pairs it was fitted to.

use pcrm_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// A summary of the data and the quality of the fit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// The number of pairs.
    pub pairs: u64,
    /// The number of distinct prompts.
    pub prompts: u64,
    /// The share of judgements in favour of the preferred answer.
    pub mean_win: f64,
    /// The log-likelihoods of wins under models that did not see the pair's fold.
    pub log_likelihood: LogLikelihood,
    /// The value of the features: the excess of `learned` over `constant`.
    pub gain: Gain,
    /// The statistics of the features, in order.
    pub features: Vec<FeatureStats>,
}

/// Mean log-likelihoods per pair, in nats.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogLikelihood {
    /// Under the models.
    pub learned: f64,
    /// Under one P for all pairs, fitted without the pair's fold.
    pub constant: f64,
    /// Under P = ½.
    pub coin: f64,
}

/// A mean with its 95 % interval over prompts (normal approximation).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gain {
    /// The mean over pairs.
    pub mean: f64,
    /// The interval's lower end.
    pub low: f64,
    /// The interval's upper end.
    pub high: f64,
    /// The confidence level.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub level: Option<f64>,
    /// The method of the interval; absent in files of earlier versions.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub method: Option<GainMethod>,
    /// The number of prompts.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub n: Option<u64>,
}

/// The method of a gain's interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GainMethod {
    /// Mean ± 1.96 standard errors, with the sandwich estimate of the variance by prompt.
    Normal,
}

/// The statistics of a feature over all pairs, for display; models keep their own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureStats {
    /// The feature's name.
    pub feature: String,
    /// The mean over the pairs.
    pub mean: f64,
    /// The standard deviation over the pairs.
    pub std: f64,
    /// The first percentile.
    pub p1: f64,
    /// The 99th percentile.
    pub p99: f64,
}

impl Evidence {
    /// Returns the evidence if it is about these features.
    ///
    /// # Errors
    /// Fails if the features differ.
    pub(super) fn checked(self, names: &[&str]) -> Result<Self> {
        let found: Vec<&str> = self.features.iter().map(|seen| seen.feature.as_str()).collect();
        if found == names {
            return Ok(self);
        }
        let message = format!("found features {}, expected {}", found.join(", "), names.join(", "));
        Err(Error::invalid("evidence", message))
    }
}
