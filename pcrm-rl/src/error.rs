//! The error of this crate.

use std::path::PathBuf;

/// Shorthand for this crate's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of training.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor, file, model or data error.
    #[error(transparent)]
    Core(#[from] pcrm_core::Error),
    /// The loss or a gradient stopped being a number.
    #[error(
        "step {step}: the {what} is {value}; the batch's rows are {}; the last checkpoint is untouched",
        rows.join(", ")
    )]
    NotFinite {
        /// The step that would have been made.
        step: u64,
        /// `loss` or `gradient norm`.
        what: &'static str,
        /// The value.
        value: f64,
        /// File and line of every pair of the batch.
        rows: Vec<String>,
    },
    /// Weights, moments or an evaluation stopped being numbers.
    #[error("step {step}: {message}; the last checkpoint is untouched")]
    Diverged {
        /// Steps made.
        step: u64,
        /// The fault.
        message: String,
    },
    /// An option has a value that training cannot use.
    #[error("{field}: {message}")]
    Invalid {
        /// The option.
        field: &'static str,
        /// The value and what was expected.
        message: String,
    },
    /// A checkpoint that cannot be taken up.
    #[error("{}: {message}", path.display())]
    Checkpoint {
        /// The checkpoint's folder or file.
        path: PathBuf,
        /// The fault.
        message: String,
    },
    /// A reward source that cannot be used, or whose rewards cannot.
    #[error("reward {name:?}: {message}")]
    Reward {
        /// The source.
        name: String,
        /// The fault, the row where it is one row's, and what was expected.
        message: String,
    },
    /// A judge that cannot be used, or that cannot go on.
    #[error("judge {name:?}: {message}")]
    Judge {
        /// The judge.
        name: String,
        /// The fault, and what is kept.
        message: String,
    },
    /// The work was stopped from outside; the message says what is kept.
    #[error("{0}")]
    Interrupted(String),
    /// The saved model does not give the scores of the trained one.
    #[error(
        "{}: reloaded, it scores {reloaded} where the trained model scores {trained} ({row})",
        path.display()
    )]
    Reload {
        /// The saved model.
        path: PathBuf,
        /// The pair.
        row: String,
        /// The score before saving.
        trained: f32,
        /// The score after loading.
        reloaded: f32,
    },
}

impl Error {
    /// Returns the error of a reward source.
    pub fn reward(name: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Reward { name: name.into(), message: message.into() }
    }

    /// Returns the error of a judge.
    pub fn judge(name: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Judge { name: name.into(), message: message.into() }
    }

    /// Returns true if training diverged: a loss, a gradient, a weight or an evaluation is no number.
    pub fn is_divergence(&self) -> bool {
        matches!(self, Self::NotFinite { .. } | Self::Diverged { .. })
    }
}
