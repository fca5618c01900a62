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
    /// The loss or a gradient is no longer finite.
    #[error(
        "step {step}: the {what} is {value}; the batch's rows are {}; the last checkpoint is untouched",
        rows.join(", ")
    )]
    NotFinite {
        /// Step that failed.
        step: u64,
        /// `loss` or `gradient norm`, and the ranks with this value.
        what: String,
        /// The value.
        value: f64,
        /// File and line of every pair of the batch.
        rows: Vec<String>,
    },
    /// Weights, moments or an evaluation are no longer finite.
    #[error("step {step}: {message}; the last checkpoint is untouched")]
    Diverged {
        /// Number of completed steps.
        step: u64,
        /// Description of the error.
        message: String,
    },
    /// An option has an invalid value.
    #[error("{field}: {message}")]
    Invalid {
        /// The option.
        field: &'static str,
        /// Value found and value expected.
        message: String,
    },
    /// The processes of a run differ in what they must have in common.
    #[error("rank {rank} differs from rank 0: {message}")]
    Apart {
        /// First process that differs.
        rank: usize,
        /// The difference, and the expected value.
        message: String,
    },
    /// A checkpoint cannot be resumed.
    #[error("{}: {message}", path.display())]
    Checkpoint {
        /// Folder or file of the checkpoint.
        path: PathBuf,
        /// Description of the error.
        message: String,
    },
    /// A reward source, or its rewards, cannot be used.
    #[error("reward {name:?}: {message}")]
    Reward {
        /// Name of the source.
        name: String,
        /// Description of the error, with the row if there is one, and the expected value.
        message: String,
    },
    /// A judge cannot be used or cannot continue.
    #[error("judge {name:?}: {message}")]
    Judge {
        /// Name of the judge.
        name: String,
        /// Description of the error and of the kept state.
        message: String,
    },
    /// A judge stopped before its last verdict; a further call may continue from its replies.
    #[error("judge {name:?}: {message}")]
    Unfinished {
        /// Name of the judge.
        name: String,
        /// Description of the reason and of the kept state.
        message: String,
    },
    /// A source of a policy's answers cannot be used or gave what was not asked for.
    #[error("rollouts of {engine}: {message}")]
    Rollouts {
        /// The source.
        engine: String,
        /// Description of the error: the field, the value found and the value expected.
        message: String,
    },
    /// The run was stopped from outside; the message describes the kept state.
    #[error("{0}")]
    Interrupted(String),
    /// The saved model does not reproduce the scores of the trained one.
    #[error(
        "{}: reloaded, it scores {reloaded} where the trained model scores {trained} ({row})",
        path.display()
    )]
    Reload {
        /// Folder of the saved model.
        path: PathBuf,
        /// File and line of the pair.
        row: String,
        /// Score before saving.
        trained: f32,
        /// Score after loading.
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

    /// Returns the error of a judge that another call may help.
    pub fn unfinished(name: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Unfinished { name: name.into(), message: message.into() }
    }

    /// Returns the error of a source of answers.
    pub fn rollouts(engine: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Rollouts { engine: engine.into(), message: message.into() }
    }

    /// Returns true if training diverged: a loss, gradient, weight or evaluation is not finite.
    pub fn is_divergence(&self) -> bool {
        matches!(self, Self::NotFinite { .. } | Self::Diverged { .. })
    }
}
