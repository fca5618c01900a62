//! What a fitted constraint remembers of the pairs that it was fitted to.

use pcrm_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// What was fitted to, and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// How many pairs.
    pub pairs: u64,
    /// How many different prompts.
    pub prompts: u64,
    /// How often judges preferred the preferred answer.
    pub mean_win: f64,
    /// Of a pair's win under models that did not see its fold.
    pub log_likelihood: LogLikelihood,
    /// What the features bring: by how much that of `learned` exceeds that of `constant`.
    pub gain: Gain,
    /// A feature each, in order.
    pub features: Vec<Seen>,
}

/// Mean log-likelihood per pair, natural logarithms.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogLikelihood {
    /// Of the models.
    pub learned: f64,
    /// Of one P for all pairs, fitted without the pair's fold.
    pub constant: f64,
    /// Of P = ½.
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

/// A feature over all pairs, for showing; models have their own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    /// The feature's name.
    pub feature: String,
    /// Its mean.
    pub mean: f64,
    /// Its standard deviation.
    pub std: f64,
    /// Its first percentile.
    pub p1: f64,
    /// Its 99th percentile.
    pub p99: f64,
}

impl Evidence {
    /// Itself, if it is of these features.
    ///
    /// # Errors
    /// Other features.
    pub(super) fn checked(self, names: &[&str]) -> Result<Self> {
        let found: Vec<&str> = self.features.iter().map(|seen| seen.feature.as_str()).collect();
        if found == names {
            return Ok(self);
        }
        let message = format!("found features {}, expected {}", found.join(", "), names.join(", "));
        Err(Error::invalid("evidence", message))
    }
}
