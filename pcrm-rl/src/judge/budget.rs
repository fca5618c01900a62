//! The budget of judges: calls, tokens and money.

use serde::{Deserialize, Serialize};

/// Limits on what is spent; `None`: no limit.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Budget {
    /// Requests sent, those included that are sent again.
    pub calls: Option<u64>,
    /// Tokens read and written.
    pub tokens: Option<u64>,
    /// Money, in the currency of the prices.
    pub cost: Option<f64>,
    /// The prices that cost follows from.
    pub prices: Prices,
}

/// Prices of a million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Prices {
    /// Of tokens that the judge reads.
    pub input: f64,
    /// Of tokens that it writes.
    pub output: f64,
}

/// The calls, tokens and money that were spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Requests sent.
    pub calls: u64,
    /// Tokens that judges read.
    pub input: u64,
    /// Tokens that judges wrote.
    pub output: u64,
}

impl Usage {
    /// Adds what was spent elsewhere.
    pub fn add(&mut self, other: Self) {
        self.calls += other.calls;
        self.input += other.input;
        self.output += other.output;
    }

    /// Returns the cost at these prices.
    pub fn cost(&self, prices: Prices) -> f64 {
        (self.input as f64 * prices.input + self.output as f64 * prices.output) / 1e6
    }
}
