//! Memory, exchanged bytes and time of a step by several processes, before any of them is started.
//!
//! Bytes of weights, gradients, moments and exchanges follow from the parameters and are exact: they are what
//! [`pcrm_core::optim::SlicedAdamW`] holds and sends. Activations and times are estimates.

use pcrm_core::optim::slice_of;

/// A run of several processes, as far as its footprint depends on it.
#[derive(Debug, Clone, PartialEq)]
pub struct Footprint {
    /// Elements of each trained parameter.
    pub trained: Vec<usize>,
    /// Elements of frozen parameters.
    pub frozen: usize,
    /// Bytes of an element that the model computes in.
    pub element: usize,
    /// The number of processes.
    pub processes: usize,
    /// The number of lanes.
    pub lanes: usize,
    /// The number of layers and their width, which activations follow from.
    pub layers: (usize, usize),
    /// Tokens that a process computes at once.
    pub micro_tokens: usize,
}

/// Bytes that a process holds, by what they are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Weights: trained ones in f32, frozen ones in the type that the model computes in.
    pub weights: u64,
    /// This process's slice of the masters and both moments, in f32.
    pub optimiser: u64,
    /// Gradients of lanes, in f32, at their most; and while they are exchanged, the flat copies that are sent and received.
    pub gradients: u64,
    /// Activations, about: what the backward pass reads of a micro-batch.
    pub activations: u64,
}

impl Memory {
    /// All of it.
    pub fn total(&self) -> u64 {
        self.weights + self.optimiser + self.gradients + self.activations
    }
}

/// Numbers kept for the backward pass per token, layer and element of the width, about: norms, the three projections, the
/// attention's output, and a feed-forward network of four times the width.
const KEPT: u64 = 20;

impl Footprint {
    /// Trained elements.
    pub fn parameters(&self) -> u64 {
        self.trained.iter().map(|elements| *elements as u64).sum()
    }

    /// Elements of a slice.
    fn slice(&self) -> u64 {
        slice_of(self.trained.iter().copied(), self.processes) as u64
    }

    /// Gradients that exist at once while lanes are computed: one being made, and one for every unfinished node above it.
    fn gradients_at_once(&self) -> u64 {
        let own = (self.lanes / self.processes).max(1) as u64;
        u64::from(own.next_power_of_two().trailing_zeros()) + 1
    }

    /// Bytes that a process holds.
    pub fn memory(&self) -> Memory {
        let (parameters, slice) = (self.parameters(), self.slice());
        let flat = slice * self.processes as u64;
        let exchanged = parameters + if self.is_exchanged() { 2 * flat } else { 0 };
        let (layers, width) = (self.layers.0 as u64, self.layers.1 as u64);
        Memory {
            weights: 4 * parameters + (self.frozen * self.element) as u64,
            optimiser: if self.is_exchanged() { 12 * slice } else { 8 * parameters },
            gradients: 4 * exchanged.max(self.gradients_at_once() * parameters),
            activations: KEPT * layers * width * self.micro_tokens as u64 * self.element as u64,
        }
    }

    fn is_exchanged(&self) -> bool {
        self.lanes > 1
    }

    /// Bytes of tensors that a process sends in a step: slices of gradients to their owners, and its own weights to all.
    pub fn sent(&self) -> u64 {
        let others = self.processes as u64 - 1;
        let nodes = nodes(self.lanes, self.processes) as u64;
        4 * self.slice() * others * (nodes + 1)
    }

    /// Floating-point operations of a step of so many tokens: 6 for every trained parameter and token, 4 for a frozen one.
    pub fn operations(&self, tokens: u64) -> f64 {
        (6.0 * self.parameters() as f64 + 4.0 * self.frozen as f64) * tokens as f64
    }
}

/// The most nodes of the tree of lanes that a process has whole.
fn nodes(lanes: usize, processes: usize) -> usize {
    crate::lanes::subtrees(lanes, processes).iter().map(Vec::len).max().unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn llama(processes: usize) -> Footprint {
        Footprint {
            trained: vec![4_000_000_000, 4_000_000_000, 266_240],
            frozen: 0,
            element: 2,
            processes,
            lanes: 8,
            layers: (32, 4096),
            micro_tokens: 2048,
        }
    }

    /// Protects: moments and masters shrink with the number of processes, weights do not, and the bytes of a step are those
    /// of a reduce-scatter and an all-gather in f32.
    #[test]
    fn slices_shrink_with_the_number_of_processes() {
        let (one, eight) = (llama(1), llama(8));
        assert_eq!(one.memory().weights, eight.memory().weights);
        let ratio = one.memory().optimiser as f64 / eight.memory().optimiser as f64;
        assert!((ratio - 8.0).abs() < 1e-3, "{ratio}");
        assert_eq!(one.sent(), 0);
        let expected = 8.0 * eight.parameters() as f64 * 7.0 / 8.0;
        assert!((eight.sent() as f64 / expected - 1.0).abs() < 1e-3, "{}", eight.sent());
        // One process of eight lanes keeps unfinished nodes: 4 gradients at once.
        assert_eq!(one.memory().gradients, 16 * one.parameters());
    }
}
