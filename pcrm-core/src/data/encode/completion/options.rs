//! Options of encoding completions.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The tokens that a language model is trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrainOn {
    /// The completion if a row has a prompt, otherwise all tokens of a text or conversation.
    #[default]
    Completion,
    /// The assistant's turns, marked by `{% generation %}` in the chat template; in a row with a prompt and a
    /// completion, only the turns of the completion.
    Assistant,
    /// All tokens, including those of prompts.
    Everything,
}

impl FromStr for TrainOn {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "completion" => Ok(Self::Completion),
            "assistant" => Ok(Self::Assistant),
            "everything" => Ok(Self::Everything),
            _ => Err(Error::invalid(
                "train-on",
                format!("{text:?} is unknown; expected completion, assistant or everything"),
            )),
        }
    }
}

impl fmt::Display for TrainOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Completion => "completion",
            Self::Assistant => "assistant",
            Self::Everything => "everything",
        })
    }
}

/// The treatment of a sequence longer than the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Overlong {
    /// Keep its beginning, as TRL does (`keep_start`).
    #[default]
    CutEnd,
    /// Leave it out.
    Drop,
}

impl FromStr for Overlong {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "cut-end" => Ok(Self::CutEnd),
            "drop" => Ok(Self::Drop),
            _ => Err(Error::invalid("too-long", format!("{text:?} is unknown; expected cut-end or drop"))),
        }
    }
}

impl fmt::Display for Overlong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CutEnd => "cut-end",
            Self::Drop => "drop",
        })
    }
}

/// Options of encoding completions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CompletionOptions {
    /// The maximum number of tokens in a sequence; `None` for no limit.
    pub max_length: Option<usize>,
    /// The treatment of longer sequences.
    pub too_long: Overlong,
    /// The tokens that count in the loss.
    pub train_on: TrainOn,
}
