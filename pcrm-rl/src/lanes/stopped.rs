//! Failures of one process that all processes of a run learn of, so that they save together.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// An error after which a run can save the steps so far. Any other error ends its process at once.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Stopped {
    Interrupted(String),
    Rollouts { engine: String, message: String },
    Reward { name: String, message: String },
}

impl Stopped {
    /// Converts an error of this process; fails with any other one.
    pub fn of(error: Error) -> Result<Self> {
        match error {
            Error::Interrupted(message) => Ok(Self::Interrupted(message)),
            Error::Rollouts { engine, message } => Ok(Self::Rollouts { engine, message }),
            Error::Reward { name, message } => Ok(Self::Reward { name, message }),
            other => Err(other),
        }
    }

    /// Returns the results of all processes by rank, or the error that ends process `own`. Failures take precedence
    /// over interrupts in all processes, because each kind is followed by different exchanges. A process that failed
    /// returns its own failure, any other that of the lowest rank.
    pub fn joined<T>(all: Vec<Result<T, Self>>, own: usize) -> Result<Vec<T>> {
        let mut made = Vec::with_capacity(all.len());
        let mut first: Option<((bool, bool), usize, Self)> = None;
        for (rank, part) in all.into_iter().enumerate() {
            match part {
                Ok(part) => made.push(part),
                Err(stopped) => {
                    let weight = (!matches!(stopped, Self::Interrupted(_)), rank == own);
                    if first.as_ref().is_none_or(|(before, ..)| weight > *before) {
                        first = Some((weight, rank, stopped));
                    }
                }
            }
        }
        match first {
            None => Ok(made),
            Some((_, rank, stopped)) if rank == own => Err(stopped.into_error(|message| message)),
            Some((_, rank, stopped)) => Err(stopped.into_error(|message| format!("rank {rank}: {message}"))),
        }
    }

    fn into_error(self, said: impl Fn(String) -> String) -> Error {
        match self {
            Self::Interrupted(message) => Error::Interrupted(said(message)),
            Self::Rollouts { engine, message } => Error::rollouts(engine, said(message)),
            Self::Reward { name, message } => Error::reward(name, said(message)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: all processes end with the same kind of error, so that the exchanges that follow agree: a failure
    /// takes precedence over an interrupt, and each process names its own failure or the other's rank.
    #[test]
    fn processes_stop_for_the_same_reason() {
        let interrupted = || Err(Stopped::Interrupted("stopped".into()));
        let failed = |message: &str| Err(Stopped::Reward { name: "r".into(), message: message.into() });
        let said = |all: &[Result<u8, Stopped>], own: usize| match Stopped::joined(all.to_vec(), own) {
            Err(error) => error.to_string(),
            Ok(made) => format!("{made:?}"),
        };
        assert_eq!(said(&[Ok(4), Ok(7)], 1), "[4, 7]");
        let all = [interrupted(), failed("a"), Ok(1), failed("b")];
        let expected = ["rank 1: a", "a", "rank 1: a", "b"];
        for (own, expected) in expected.into_iter().enumerate() {
            assert_eq!(said(&all, own), format!("reward \"r\": {expected}"));
        }
        let all = [Ok(1), interrupted()];
        assert_eq!([said(&all, 0), said(&all, 1)], ["rank 1: stopped", "stopped"]);
        assert!(matches!(Stopped::joined(all.to_vec(), 0), Err(Error::Interrupted(_))));
        let other = Error::judge("j", "gone");
        assert!(Stopped::of(other).is_err_and(|error| matches!(error, Error::Judge { .. })));
    }
}
