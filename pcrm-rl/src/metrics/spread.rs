//! Standard deviations that merge.

use serde::{Deserialize, Serialize};

/// A standard deviation of numbers that come one by one or in groups (Chan, Golub and LeVeque 1983).
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Spread {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Spread {
    /// Returns the spread of one number.
    pub(super) fn of(value: f64) -> Self {
        Self { count: 1.0, mean: value, squares: 0.0 }
    }

    /// Returns the spread of the numbers of both.
    pub(super) fn merged(self, other: Self) -> Self {
        let count = self.count + other.count;
        let apart = other.mean - self.mean;
        Self {
            count,
            mean: self.mean + apart * other.count / count,
            squares: self.squares + other.squares + apart * apart * self.count * other.count / count,
        }
    }

    /// Returns the standard deviation, which divides by the number of values.
    pub(super) fn std(self) -> f64 {
        (self.squares / self.count.max(1.0)).sqrt()
    }

    /// Returns the unbiased variance; `None` for a single number.
    pub(super) fn variance(self) -> Option<f64> {
        (self.count > 1.0).then(|| self.squares / (self.count - 1.0))
    }
}
