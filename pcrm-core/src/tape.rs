//! The tape: which operation made a tensor, and how its gradient goes back to the operands.
//!
//! It is generic over a library's own tensor, so that every backend has the same autograd: nothing is computed for
//! operands that want no gradient, what an operation saved is freed as soon as it was used, and a fused operation is
//! on it like any other.

use std::collections::{BTreeMap, HashMap};
use std::fmt::{self, Debug};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, Result};
use crate::params::{Gradients, Params};
use crate::tensor::Tensor;

/// Gives the gradient of every operand from that of the result; an operand that wants none may get `None`.
type Backward<T> = Box<dyn FnOnce(&T, Wanted<'_, T>) -> Result<Vec<Option<T>>> + Send>;

/// A tensor's place on the tape; `None` where no gradient is wanted.
pub type History<T> = Option<Arc<Node<T>>>;

/// Which operands want a gradient.
pub struct Wanted<'a, T>(&'a [History<T>]);

impl<T> Clone for Wanted<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Wanted<'_, T> {}

impl<T> Wanted<'_, T> {
    /// Whether operand `index` wants a gradient.
    pub fn operand(self, index: usize) -> bool {
        self.0[index].is_some()
    }

    /// The gradient of operand `index` if it wants one.
    ///
    /// # Errors
    /// The gradient's.
    pub fn then(self, index: usize, gradient: impl FnOnce() -> Result<T>) -> Result<Option<T>> {
        self.operand(index).then(gradient).transpose()
    }
}

/// One operation on the tape, or a leaf.
pub struct Node<T> {
    /// Counts up, so that an operation always has a larger number than its operands.
    id: u64,
    operands: Vec<History<T>>,
    /// Taken by the first backward pass, which frees what the operation saved. `None` in a leaf.
    backward: Mutex<Option<Backward<T>>>,
    leaf: bool,
}

impl<T> Debug for Node<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Node {}", self.id)
    }
}

impl<T> Node<T> {
    fn new(operands: Vec<History<T>>, backward: Option<Backward<T>>) -> Arc<Self> {
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
    pub fn leaf() -> Arc<Self> {
        Self::new(Vec::new(), None)
    }

    /// The number by which [`backward`] gives a leaf's gradient.
    pub fn id(&self) -> u64 {
        self.id
    }
}

/// The place of an operation's result: on the tape if any operand is on it.
pub fn record<T>(
    operands: Vec<History<T>>,
    backward: impl FnOnce(&T, Wanted<'_, T>) -> Result<Vec<Option<T>>> + Send + 'static,
) -> History<T> {
    operands.iter().any(Option::is_some).then(|| Node::new(operands, Some(Box::new(backward))))
}

/// Walks the tape back from a tensor whose gradient is `ones` and gives the gradient of every leaf, by its number.
///
/// # Errors
/// The operations' own, and a history that an earlier walk consumed.
pub fn backward<T>(root: &History<T>, ones: T, add: impl Fn(T, T) -> Result<T>) -> Result<HashMap<u64, T>> {
    let Some(root) = root else { return Ok(HashMap::new()) };
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
                Some((_, before)) => add(before, gradient)?,
                None => gradient,
            };
            waiting.insert(operand.id, (Arc::clone(operand), gradient));
        }
    }
    Ok(leaves)
}

/// The gradients of [`backward`] by the trained parameters' names.
///
/// # Errors
/// A trained parameter that no gradient reached.
pub fn by_name<T>(
    mut leaves: HashMap<u64, T>,
    params: &Params,
    history: impl Fn(&Tensor) -> Result<History<T>>,
    wrap: impl Fn(T) -> Tensor,
) -> Result<Gradients> {
    let mut gradients = Gradients::default();
    let mut missing = Vec::new();
    for (name, param) in params.iter_trained() {
        match history(param)?.and_then(|leaf| leaves.remove(&leaf.id)) {
            Some(gradient) => gradients.insert(name, wrap(gradient)),
            None => missing.push(name.to_owned()),
        }
    }
    match missing.is_empty() {
        true => Ok(gradients),
        false => Err(Error::MissingGradient { names: missing }),
    }
}
