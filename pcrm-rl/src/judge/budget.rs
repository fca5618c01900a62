//! Budgets of judges: calls, tokens and money.

use serde::{Deserialize, Serialize};

/// Limits on spending; `None` means no limit.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Budget {
    /// Requests sent, retries included.
    pub calls: Option<u64>,
    /// Tokens read and written.
    pub tokens: Option<u64>,
    /// Money, in the currency of the prices.
    pub cost: Option<f64>,
    /// Prices for computing the cost.
    pub prices: Prices,
}

/// Prices per million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Prices {
    /// Price of tokens that the judge reads.
    pub input: f64,
    /// Price of tokens that the judge writes.
    pub output: f64,
}

/// Calls and tokens spent.
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
    /// Adds another usage.
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
