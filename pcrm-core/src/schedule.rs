//! Learning-rate schedules, with the same numbers as `transformers` under the same names.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

/// The shape of the learning rate after warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// 1 throughout (`constant_with_warmup`).
    Constant,
    /// From 1 down to 0 linearly.
    Linear,
    /// From 1 down to 0 along half a cosine.
    Cosine,
}

/// A learning rate over a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// The largest learning rate.
    pub peak: f64,
    /// The shape after warm-up.
    pub shape: Shape,
    /// The number of steps over which the rate rises linearly from 0.
    pub warmup: u64,
    /// The number of steps of the whole run.
    pub total: u64,
}

impl Schedule {
    /// Returns the rate of step `step`, counted from 0.
    pub fn rate(&self, step: u64) -> f64 {
        if step < self.warmup {
            return self.peak * step as f64 / self.warmup as f64;
        }
        let progress = (step - self.warmup) as f64 / self.total.saturating_sub(self.warmup).max(1) as f64;
        self.peak
            * match self.shape {
                Shape::Constant => 1.0,
                Shape::Linear => (1.0 - progress).max(0.0),
                Shape::Cosine => (0.5 * (1.0 + (PI * progress).cos())).max(0.0),
            }
    }
}
