//! The gradient of a step on its way to the processes that own its slices, sent while it is computed.

use std::collections::BTreeMap;
use std::ops::Range;

use super::layout::{Bucket, Layout, zeros};
use super::sliced::SliceGradient;
use crate::collective::{Collective, Exchange};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// The usual bytes of a bucket, as in PyTorch's `DistributedDataParallel`.
pub const BUCKET_BYTES: usize = 25 << 20;

/// Sends the gradients of this process's nodes of the tree of lanes, one node after the other. Gradients
/// arrive by parameter and in any order, and a bucket is sent as soon as it is complete. Buckets are sent in
/// the same order by every process.
#[derive(Debug)]
pub struct Sending<'a> {
    layout: &'a Layout,
    collective: &'a dyn Collective,
    /// Any tensor of the device.
    like: &'a Tensor,
    lanes: usize,
    /// The nodes of each process, by rank.
    nodes: Vec<Vec<Range<usize>>>,
    /// Gradients of the current node, by place, until their last bucket is sent.
    waiting: Vec<Option<Tensor>>,
    arrived: Vec<bool>,
    /// The number of gradients that each bucket of the current node still waits for.
    missing: Vec<usize>,
    /// The exchanges of each node, by bucket; those of the current node are last.
    exchanges: Vec<Vec<Box<dyn Exchange>>>,
}

/// A gradient that has been sent; some of its exchanges may still be under way.
#[derive(Debug)]
pub struct Sent {
    lanes: usize,
    nodes: Vec<Vec<Range<usize>>>,
    exchanges: Vec<Vec<Box<dyn Exchange>>>,
}

impl<'a> Sending<'a> {
    pub(super) fn new(
        layout: &'a Layout,
        collective: &'a dyn Collective,
        like: &'a Tensor,
        lanes: usize,
        nodes: &[Vec<Range<usize>>],
    ) -> Self {
        let places = layout.places().len();
        Self {
            missing: waits(layout),
            layout,
            collective,
            like,
            lanes,
            nodes: nodes.to_vec(),
            waiting: vec![None; places],
            arrived: vec![false; places],
            exchanges: vec![Vec::new()],
        }
    }

    /// Takes the current node's gradient of a parameter, and starts to send the buckets that are now complete.
    ///
    /// # Errors
    /// Fails if the optimiser does not train the parameter, if it already has a gradient, or if a process is
    /// gone.
    pub fn add(&mut self, name: &str, gradient: &Tensor) -> Result<()> {
        let unknown = || Error::invalid(name, "has a gradient, but the optimiser does not train it");
        let at = self.layout.place(name).ok_or_else(unknown)?;
        if self.arrived[at] {
            return Err(Error::invalid(name, "has two gradients of one node"));
        }
        let place = &self.layout.places()[at];
        self.waiting[at] = Some(gradient.detach().reshape([place.size()])?);
        self.arrived[at] = true;
        place.buckets.iter().for_each(|bucket| self.missing[*bucket] -= 1);
        self.send()
    }

    /// Sends the complete buckets of the current node that are next in order.
    fn send(&mut self) -> Result<()> {
        let Some(exchanges) = self.exchanges.last_mut() else { return Ok(()) };
        while self.missing.get(exchanges.len()) == Some(&0) {
            let bucket = &self.layout.buckets()[exchanges.len()];
            let of = |at: usize| {
                let sent = || Error::invalid(&self.layout.places()[at].name, "its gradient is already sent");
                self.waiting[at].clone().ok_or_else(sent)
            };
            let part = self.layout.part(bucket.positions.clone(), self.like, of)?;
            for at in &bucket.places {
                if self.layout.places()[*at].buckets.last() == Some(&exchanges.len()) {
                    self.waiting[*at] = None;
                }
            }
            exchanges.push(self.collective.start_all_to_all(&part)?);
        }
        Ok(())
    }

    /// Ends the current node.
    ///
    /// # Errors
    /// Fails if a parameter has no gradient.
    pub fn end_node(&mut self) -> Result<()> {
        let missing = self.layout.places().iter().zip(&self.arrived).filter(|(_, arrived)| !**arrived);
        let names: Vec<String> = missing.map(|(place, _)| place.name.clone()).collect();
        if !names.is_empty() {
            return Err(Error::MissingGradient { names });
        }
        self.arrived.fill(false);
        self.missing = waits(self.layout);
        self.exchanges.push(Vec::new());
        Ok(())
    }

    /// Ends the gradient after the last node of this process. A process with fewer nodes than others sends
    /// zeros, which are ignored.
    ///
    /// # Errors
    /// Fails if this process has not ended all its nodes, or if a process is gone.
    pub fn end(mut self) -> Result<Sent> {
        self.exchanges.pop();
        if self.exchanges.len() != self.nodes.get(self.collective.rank()).map_or(0, Vec::len) {
            return Err(Error::invalid("lanes", "a node has no gradient"));
        }
        let most = self.nodes.iter().map(Vec::len).max().unwrap_or(0);
        while self.exchanges.len() < most {
            let start = |bucket: &Bucket| {
                let none = zeros(self.like, bucket.size())?;
                self.collective.start_all_to_all(&none)
            };
            let exchanges = self.layout.buckets().iter().map(start).collect::<Result<_>>()?;
            self.exchanges.push(exchanges);
        }
        Ok(Sent { lanes: self.lanes, nodes: self.nodes, exchanges: self.exchanges })
    }
}

/// Returns the number of gradients that each bucket waits for.
fn waits(layout: &Layout) -> Vec<usize> {
    layout.buckets().iter().map(|bucket| bucket.places.len()).collect()
}

impl Sent {
    /// Waits for all exchanges and returns this process's slice of the gradient, summed over all lanes.
    ///
    /// The sum follows a balanced binary tree over lanes: nodes come from the processes that computed them,
    /// and those above are added in tree order. The bits of the sum therefore do not depend on the number of
    /// processes, nor on the buckets.
    ///
    /// # Errors
    /// Fails if a process is gone.
    pub fn total(self) -> Result<SliceGradient> {
        let lanes = 0..self.lanes;
        let mut exchanges: Vec<_> = self.exchanges.into_iter().map(Vec::into_iter).collect();
        let mut parts = Vec::new();
        loop {
            let mut nodes: BTreeMap<(usize, usize), Tensor> = BTreeMap::new();
            for (at, exchange) in exchanges.iter_mut().enumerate() {
                let Some(exchange) = exchange.next() else { continue };
                let received = exchange.wait()?;
                let part = received.size() / self.nodes.len();
                for (rank, of_rank) in self.nodes.iter().enumerate() {
                    if let Some(node) = of_rank.get(at) {
                        nodes.insert((node.start, node.end), received.narrow(0, rank * part, part)?);
                    }
                }
            }
            if nodes.is_empty() {
                break;
            }
            parts.push(tree_sum(&lanes, &nodes)?);
        }
        Ok(SliceGradient(Tensor::concat(&parts.iter().collect::<Vec<_>>(), 0)?))
    }
}

/// Returns the sum over a node of the tree of lanes: the received one, or the sum of its halves.
fn tree_sum(node: &Range<usize>, nodes: &BTreeMap<(usize, usize), Tensor>) -> Result<Tensor> {
    if let Some(sum) = nodes.get(&(node.start, node.end)) {
        return Ok(sum.clone());
    }
    let [left, right] = halves(node).ok_or_else(|| Error::invalid("lanes", "a lane has no gradient"))?;
    tree_sum(&left, nodes)?.add(&tree_sum(&right, nodes)?)
}

/// Returns the two halves of a node of the tree of lanes; `None` for a single lane.
pub fn halves(node: &Range<usize>) -> Option<[Range<usize>; 2]> {
    let middle = node.start + node.len() / 2;
    (node.len() > 1).then_some([node.start..middle, middle..node.end])
}
