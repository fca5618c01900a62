//! Where the moments of an optimiser are.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The memory that holds the moments of an optimiser. The choice does not change results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StatePlace {
    /// Device memory.
    #[default]
    Device,
    /// Host memory. Every step copies the moments to the device and back, part by part, while the device
    /// updates other parts.
    Host,
}

impl FromStr for StatePlace {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "device" => Ok(Self::Device),
            "host" => Ok(Self::Host),
            _ => {
                let message = format!("{text:?} is unknown; expected device or host");
                Err(Error::invalid("optimizer-states", message))
            }
        }
    }
}

impl fmt::Display for StatePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Device => "device",
            Self::Host => "host",
        })
    }
}
