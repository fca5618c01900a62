//! The tape: which operation made a tensor, and how its gradient goes back to the operands.

use std::collections::{BTreeMap, HashMap};
use std::fmt::{self, Debug};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use candle_core as ct;
use pcrm_core::{Error, Result};

use crate::ops::elementwise;
use crate::tensor::CandleTensor;

/// Gives the gradient of every operand from that of the result; an operand that wants none may get `None`.
pub(crate) type Backward = Box<dyn FnOnce(&ct::Tensor, Wanted<'_>) -> Result<Vec<Option<ct::Tensor>>> + Send>;

/// Which operands want a gradient.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'a>(&'a [Option<Arc<Node>>]);

impl Wanted<'_> {
    /// Whether operand `index` wants a gradient.
    pub(crate) fn operand(self, index: usize) -> bool {
        self.0[index].is_some()
    }

    /// The gradient of operand `index` if it wants one.
    pub(crate) fn then(
        self,
        index: usize,
        gradient: impl FnOnce() -> Result<ct::Tensor>,
    ) -> Result<Option<ct::Tensor>> {
        self.operand(index).then(gradient).transpose()
    }
}

/// One operation on the tape, or a leaf.
pub(crate) struct Node {
    /// Counts up, so that an operation always has a larger number than its operands.
    id: u64,
    operands: Vec<Option<Arc<Node>>>,
    /// Taken by the first backward pass, which frees what the operation saved. `None` in a leaf.
    backward: Mutex<Option<Backward>>,
    leaf: bool,
}

impl Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Node {}", self.id)
    }
}

impl Node {
    fn new(operands: Vec<Option<Arc<Node>>>, backward: Option<Backward>) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let leaf = backward.is_none();
        Arc::new(Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            operands,
            backward: Mutex::new(backward),
            leaf,
        })
    }

    /// A leaf whose gradient is wanted.
    pub(crate) fn leaf() -> Arc<Self> {
        Self::new(Vec::new(), None)
    }

    /// The number by which [`backward`] gives a leaf's gradient.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }
}

/// The result of an operation, put on the tape if any operand is on it.
pub(crate) fn record(
    value: ct::Tensor,
    operands: &[&CandleTensor],
    backward: impl FnOnce(&ct::Tensor, Wanted<'_>) -> Result<Vec<Option<ct::Tensor>>> + Send + 'static,
) -> CandleTensor {
    if operands.iter().all(|operand| operand.node.is_none()) {
        return CandleTensor::constant(value);
    }
    let parents = operands.iter().map(|operand| operand.node.clone()).collect();
    CandleTensor { value, node: Some(Node::new(parents, Some(Box::new(backward)))) }
}

/// Walks the tape back from a tensor of one element and gives the gradient of every leaf, by its number.
pub(crate) fn backward(loss: &CandleTensor) -> Result<HashMap<u64, ct::Tensor>> {
    let Some(root) = &loss.node else { return Ok(HashMap::new()) };
    if loss.value.elem_count() != 1 {
        return Err(Error::shape("backward", "the loss must have one element", &[loss.value.dims()]));
    }
    let ones = loss.value.ones_like().map_err(Error::backend(crate::NAME, "backward"))?;
    // Numbers count up from operands to results, so the largest waiting number has all of its gradient.
    let mut waiting = BTreeMap::from([(root.id, (Arc::clone(root), ones))]);
    let mut leaves = HashMap::new();
    while let Some((id, (node, gradient))) = waiting.pop_last() {
        if node.leaf {
            leaves.insert(id, gradient);
            continue;
        }
        let step = node.backward.lock().unwrap_or_else(PoisonError::into_inner).take().ok_or_else(|| {
            Error::Unsupported(
                "backward was asked for twice over the same history, which the first consumed".into(),
            )
        })?;
        let gradients = step(&gradient, Wanted(&node.operands))?;
        drop(gradient);
        for (operand, gradient) in node.operands.iter().zip(gradients) {
            let (Some(operand), Some(gradient)) = (operand, gradient) else { continue };
            let gradient = match waiting.remove(&operand.id) {
                Some((_, before)) => elementwise::add(&before, &gradient)?,
                None => gradient,
            };
            waiting.insert(operand.id, (Arc::clone(operand), gradient));
        }
    }
    Ok(leaves)
}
