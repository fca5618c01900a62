//! The position of a run in its data: the next batch, and the number of steps.

use crate::options::TrainerConfig;
use crate::order::{self, BatchSize};

/// An iterator over the batches of a run.
pub(crate) struct BatchPlan<'a> {
    /// Token counts of the items.
    sizes: &'a [usize],
    config: &'a TrainerConfig,
    epoch: u64,
    batches: Vec<Vec<usize>>,
    next: usize,
}

impl<'a> BatchPlan<'a> {
    pub(crate) fn new(sizes: &'a [usize], config: &'a TrainerConfig) -> Self {
        let batches = order::epoch(sizes, config.batch, config.order, config.seed, 0);
        Self { sizes, config, epoch: 0, batches, next: 0 }
    }

    pub(crate) fn next(&mut self) -> &[usize] {
        if self.next == self.batches.len() {
            let config = self.config;
            self.epoch += 1;
            self.batches = order::epoch(self.sizes, config.batch, config.order, config.seed, self.epoch);
            self.next = 0;
        }
        self.next += 1;
        &self.batches[self.next - 1]
    }

    /// Returns the number of passes before the last batch's.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(crate) fn epochs_made(&self) -> f64 {
        self.epoch as f64 + self.next as f64 / self.batches.len() as f64
    }
}

/// Returns the number of steps of the whole run.
pub(crate) fn total_steps(sizes: &[usize], config: &TrainerConfig) -> u64 {
    let (whole, part) = (config.epochs.floor() as u64, config.epochs.fract());
    let steps = |epoch| order::epoch(sizes, config.batch, config.order, config.seed, epoch).len() as f64;
    // Epochs may differ in their number of steps if batches are made by tokens.
    let of_whole: f64 = match config.batch {
        BatchSize::Pairs(_) => whole as f64 * steps(0),
        BatchSize::Tokens(_) => (0..whole).map(steps).sum(),
    };
    let all = of_whole + if part > 0.0 { (part * steps(whole)).ceil() } else { 0.0 };
    config.max_steps.map_or(all as u64, |most| most.min(all as u64))
}
