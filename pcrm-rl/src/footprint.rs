//! Memory, exchanged bytes and time of a step with several processes, computed before any of them starts.
//!
//! The bytes of weights, gradients, moments and exchanges follow from the parameters and are exact: they
//! match what [`pcrm_core::optim::SlicedAdamW`] holds and sends. Activations and times are estimates.

use pcrm_core::optim::{StatePlace, passing_bytes, slice_of};

/// The properties of a run with several processes that determine its footprint.
#[derive(Debug, Clone, PartialEq)]
pub struct Footprint {
    /// The number of elements of each trained parameter.
    pub trained: Vec<usize>,
    /// The number of elements of frozen parameters that are not quantised.
    pub frozen: usize,
    /// The number of elements of quantised parameters, and their bytes.
    pub quantised: (usize, u64),
    /// The numbers of elements, trained and frozen, of experts that a token does not use.
    pub idle: (usize, usize),
    /// Bytes per element of the model's data type.
    pub element: usize,
    /// The memory that holds the moments.
    pub states: StatePlace,
    /// The number of processes.
    pub processes: usize,
    /// The number of lanes.
    pub lanes: usize,
    /// The number of layers and their width, which determine activations.
    pub layers: (usize, usize),
    /// The number of tokens of a step.
    pub tokens: u64,
    /// The number of tokens that a process computes at once.
    pub micro_tokens: usize,
}

/// The bytes that a process holds on its device, by category, and on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Weights: trained ones in f32, frozen ones in the type that the model computes in.
    pub weights: u64,
    /// Master weights and both moments of this process's slice, in f32. If moments are in host memory, only those that
    /// are on the device at once count.
    pub optimiser: u64,
    /// Peak of the lanes' gradients in f32, including the buckets that are sent and received.
    pub gradients: u64,
    /// An estimate of activations: the values of a micro-batch that the backward pass reads.
    pub activations: u64,
    /// Moments in host memory; each is copied to the device and back in every step.
    pub host: u64,
}

impl Memory {
    /// Returns the total on the device.
    pub fn total(&self) -> u64 {
        self.weights + self.optimiser + self.gradients + self.activations
    }
}

/// An estimate of the values kept for the backward pass per token, layer and element of the width: norms, the
/// three projections, the attention's output, and a feed-forward network of four times the width.
const KEPT: u64 = 20;

impl Footprint {
    /// Returns the number of trained elements.
    pub fn parameters(&self) -> u64 {
        self.trained.iter().map(|elements| *elements as u64).sum()
    }

    /// Returns the number of elements of a slice.
    fn slice(&self) -> u64 {
        slice_of(self.trained.iter().copied(), self.processes) as u64
    }

    /// Returns the number of gradients in memory at once while lanes are computed: one for every unfinished node above
    /// the current lane, and the sum over its micro-batches, if it has several. A backward pass adds its gradients to
    /// these as soon as they are complete, so its own gradient counts only if there is no other.
    fn gradients_at_once(&self) -> u64 {
        let own = (self.lanes / self.processes).max(1) as u64;
        let several = self.tokens > (self.micro_tokens as u64).saturating_mul(self.lanes as u64);
        (u64::from(own.next_power_of_two().trailing_zeros()) + u64::from(several)).max(1)
    }

    /// Returns the number of elements of gradients in memory at once. With several lanes these are the larger of the
    /// gradients of the process's last node and the send and receive buffers for it, plus the buffers for its other
    /// nodes.
    fn gradients(&self) -> u64 {
        let (lanes, flat) =
            (self.gradients_at_once() * self.parameters(), self.slice() * self.processes as u64);
        match self.is_exchanged() {
            true => lanes.max(2 * flat) + 2 * flat * (nodes(self.lanes, self.processes) as u64 - 1),
            false => lanes,
        }
    }

    /// Returns the bytes that a process holds.
    pub fn memory(&self) -> Memory {
        let (parameters, slice) = (self.parameters(), self.slice());
        let (layers, width) = (self.layers.0 as u64, self.layers.1 as u64);
        let (masters, updated) = if self.is_exchanged() { (4 * slice, slice) } else { (0, parameters) };
        // A slice is updated as one vector, in two parts at most.
        let largest = self.trained.iter().map(|elements| *elements as u64).max().unwrap_or(0);
        let largest = if self.is_exchanged() { slice } else { largest };
        let (moments, host) = match self.states {
            StatePlace::Device => (8 * updated, 0),
            StatePlace::Host => (passing_bytes(largest), 8 * updated),
        };
        Memory {
            weights: 4 * parameters + (self.frozen * self.element) as u64 + self.quantised.1,
            optimiser: masters + moments,
            gradients: 4 * self.gradients(),
            activations: KEPT * layers * width * self.micro_tokens as u64 * self.element as u64,
            host,
        }
    }

    fn is_exchanged(&self) -> bool {
        self.lanes > 1
    }

    /// Returns the tensor bytes that a process sends in a step: slices of gradients to their owners, and its
    /// own weights to all others.
    pub fn sent(&self) -> u64 {
        let others = self.processes as u64 - 1;
        let nodes = nodes(self.lanes, self.processes) as u64;
        4 * self.slice() * others * (nodes + 1)
    }

    /// Returns the floating-point operations of a step with this many tokens: 6 per token for every trained
    /// parameter that it uses, 4 for a frozen one.
    pub fn operations(&self, tokens: u64) -> f64 {
        let frozen = self.frozen + self.quantised.0 - self.idle.1;
        let trained = self.parameters() - self.idle.0 as u64;
        (6.0 * trained as f64 + 4.0 * frozen as f64) * tokens as f64
    }
}

/// Returns the largest number of tree nodes that one process holds in full.
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
            quantised: (0, 0),
            idle: (0, 0),
            element: 2,
            states: StatePlace::Device,
            processes,
            lanes: 8,
            layers: (32, 4096),
            tokens: 8 * 2048,
            micro_tokens: 2048,
        }
    }

    /// Protects: moments and masters shrink with the number of processes, weights do not, and a step sends
    /// the bytes of a reduce-scatter and an all-gather in f32.
    #[test]
    fn slices_shrink_with_the_number_of_processes() {
        let (one, eight) = (llama(1), llama(8));
        assert_eq!(one.memory().weights, eight.memory().weights);
        let ratio = one.memory().optimiser as f64 / eight.memory().optimiser as f64;
        assert!((ratio - 8.0).abs() < 1e-3, "{ratio}");
        assert_eq!(one.sent(), 0);
        let expected = 8.0 * eight.parameters() as f64 * 7.0 / 8.0;
        assert!((eight.sent() as f64 / expected - 1.0).abs() < 1e-3, "{}", eight.sent());
        // One process with eight lanes keeps unfinished nodes, and adds the last lane to them: 3 gradients.
        assert_eq!(one.memory().gradients, 12 * one.parameters());
        // What one of eight processes sends and receives: 2 gradients.
        assert_eq!(eight.memory().gradients, 8 * 8 * eight.slice());
    }

    /// Protects: moments in host memory are counted there, and three pieces of them on the device; masters stay.
    #[test]
    fn moments_in_host_memory_leave_the_device() {
        const PIECES: u64 = 3 * 8 * (1 << 22);
        let away = |of: Footprint| Footprint { states: StatePlace::Host, ..of };
        let alone = away(Footprint { lanes: 1, ..llama(1) });
        assert_eq!((alone.memory().optimiser, alone.memory().host), (PIECES, 8 * alone.parameters()));
        let sliced = away(llama(8));
        assert_eq!(sliced.memory().optimiser, 4 * sliced.slice() + PIECES);
        assert_eq!(sliced.memory().host, 8 * sliced.slice());
        assert_eq!(llama(8).memory().optimiser, 12 * sliced.slice());
        assert_eq!(llama(8).memory().host, 0);
        let few = away(Footprint { trained: vec![1000, 10], lanes: 1, ..llama(1) });
        assert_eq!((few.memory().optimiser, few.memory().host), (3 * 8 * 1000, 8 * 1010));
    }

    /// Protects: a lane with several micro-batches holds their sum beside unfinished nodes, and nothing more
    /// where it is the only lane.
    #[test]
    fn micro_batches_need_one_sum() {
        let one = llama(1);
        let more = Footprint { tokens: one.tokens + 1, ..one.clone() };
        assert_eq!(more.memory().gradients, 16 * one.parameters());
        let whole = |tokens| Footprint { lanes: 1, tokens, ..llama(1) };
        assert_eq!(whole(2048).memory().gradients, 4 * one.parameters());
        assert_eq!(whole(2049).memory().gradients, 4 * one.parameters());
    }
}
