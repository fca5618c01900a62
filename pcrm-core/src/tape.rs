//! The tape: records the operation behind each tensor and propagates gradients back to its operands.
//!
//! It is generic over a library's own tensor, so that every backend has the same autograd: no gradients are
//! computed for operands that want none, saved tensors are freed right after use, and fused operations are
//! recorded like any other.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::{self, Debug};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, Result};
use crate::tensor::{CoreBackward, LeafReady, RawTensor, Tensor};

/// A function from the gradient of the result to the gradients of the operands; `None` for an operand that
/// wants none.
type Backward<T> = Box<dyn FnOnce(&T, Wanted<'_, T>) -> Result<Vec<Option<T>>> + Send>;

/// A tensor's place on the tape; `None` if no gradient is wanted.
pub type History<T> = Option<Arc<Node<T>>>;

/// The operands that want a gradient.
pub struct Wanted<'a, T>(&'a [History<T>]);

impl<T> Clone for Wanted<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Wanted<'_, T> {}

impl<T> Wanted<'_, T> {
    /// Returns whether operand `index` wants a gradient.
    pub fn operand(self, index: usize) -> bool {
        self.0[index].is_some()
    }

    /// Returns for every operand whether it wants a gradient.
    pub fn flags(self) -> Vec<bool> {
        self.0.iter().map(Option::is_some).collect()
    }

    /// Computes the gradient of operand `index` if it wants one.
    ///
    /// # Errors
    /// Fails as the computation of the gradient does.
    pub fn then(self, index: usize, gradient: impl FnOnce() -> Result<T>) -> Result<Option<T>> {
        self.operand(index).then(gradient).transpose()
    }
}

/// One operation on the tape, or a leaf.
pub struct Node<T> {
    /// An increasing number, so that an operation always has a larger number than its operands.
    id: u64,
    operands: Vec<History<T>>,
    /// Taken by the first backward pass, which frees the saved tensors. `None` in a leaf.
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

    /// Creates a leaf that wants a gradient.
    pub fn leaf() -> Arc<Self> {
        Self::new(Vec::new(), None)
    }
}

/// Returns the history of an operation's result: on the tape if any operand is.
pub fn record<T>(
    operands: Vec<History<T>>,
    backward: impl FnOnce(&T, Wanted<'_, T>) -> Result<Vec<Option<T>>> + Send + 'static,
) -> History<T> {
    operands.iter().any(Option::is_some).then(|| Node::new(operands, Some(Box::new(backward))))
}

/// A backend's tensor: the library's tensor with its place on the tape.
pub trait Taped: RawTensor + Sized {
    /// The library's tensor type, a handle whose copies share their storage.
    type Value: Send + 'static;

    /// The registered name of the backend.
    const BACKEND: &'static str;

    /// Wraps a tensor at this place of the tape.
    fn taped(value: Self::Value, history: History<Self::Value>) -> Self;

    /// Returns another handle to a tensor of the library.
    fn handle(value: &Self::Value) -> Self::Value;

    /// Returns another handle to this tensor's value.
    fn value(&self) -> Self::Value;

    /// Returns its place on the tape.
    fn history(&self) -> &History<Self::Value>;

    /// Computes a + b for two gradients of one tensor, with equal shapes and types.
    fn sum(a: Self::Value, b: Self::Value) -> Result<Self::Value>;
}

/// Records `value` with a backward function of the caller; every backend implements [`RawTensor::record`] with
/// it.
///
/// # Errors
/// Fails if operands belong to another backend. The backward pass fails with the function's errors, and if
/// its gradients differ from the operands in number or shape.
pub fn record_custom<X: Taped>(value: &X, operands: &[&Tensor], backward: CoreBackward) -> Result<Tensor> {
    const OP: &str = "record";
    let mut histories = Vec::with_capacity(operands.len());
    for operand in operands {
        histories.push(operand.downcast::<X>(OP, X::BACKEND)?.history().clone());
    }
    let shapes: Vec<Vec<usize>> = operands.iter().map(|operand| operand.shape()).collect();
    let history = record(histories, move |gradient: &X::Value, wanted| {
        let gradient = Tensor::new(X::taped(X::handle(gradient), None));
        let gradients = backward(&gradient, &wanted.flags())?;
        if gradients.len() != shapes.len() {
            let message = format!("{} gradients of {} operands", gradients.len(), shapes.len());
            return Err(Error::shape(OP, message, &[]));
        }
        let own = |(gradient, shape): (Option<Tensor>, &Vec<usize>)| match gradient {
            Some(gradient) if gradient.shape() == *shape => {
                Ok(Some(gradient.downcast::<X>(OP, X::BACKEND)?.value()))
            }
            Some(gradient) => {
                let shapes = [&gradient.shape()[..], shape];
                Err(Error::shape(OP, "a gradient must have the shape of its operand", &shapes))
            }
            None => Ok(None),
        };
        gradients.into_iter().zip(&shapes).map(own).collect()
    });
    Ok(Tensor::new(X::taped(value.value(), history)))
}

/// Computes d Σ outputs·gradients / d leaf of every leaf, and calls `ready` with the leaf's index and its
/// gradient as soon as that is complete; never for a leaf that no gradient reaches. Every backend implements
/// [`RawTensor::pull`] with it.
///
/// # Errors
/// Fails if gradients have other shapes than their outputs, if an operation or `ready` fails, and if an
/// earlier pass consumed the history.
pub fn pull<X: Taped>(
    outputs: &[(&Tensor, &Tensor)],
    leaves: &[&Tensor],
    ready: LeafReady<'_>,
) -> Result<()> {
    const OP: &str = "backward";
    let own = |tensor: &'_ Tensor| -> Result<(X::Value, History<X::Value>)> {
        let tensor = tensor.downcast::<X>(OP, X::BACKEND)?;
        Ok((tensor.value(), tensor.history().clone()))
    };
    let mut roots = Vec::with_capacity(outputs.len());
    for (output, gradient) in outputs {
        let shapes = [&output.shape()[..], &gradient.shape()];
        if shapes[0] != shapes[1] {
            return Err(Error::shape(OP, "a gradient must have the shape of its output", &shapes));
        }
        if let (_, Some(root)) = own(output)? {
            roots.push((root, own(&gradient.cast(output.dtype())?)?.0));
        }
    }
    let mut asked: HashMap<u64, Vec<usize>> = HashMap::new();
    for (index, leaf) in leaves.iter().enumerate() {
        if let Some(leaf) = own(leaf)?.1 {
            asked.entry(leaf.id).or_default().push(index);
        }
    }
    walk(roots, X::sum, |id, gradient| {
        let mut indices = asked.get(&id).into_iter().flatten();
        indices.try_for_each(|index| ready(*index, Tensor::new(X::taped(X::handle(&gradient), None))))
    })
}

/// Walks the tape back from tensors with known gradients, and calls `ready` with the number and the gradient
/// of every leaf as soon as the last operation that uses the leaf is done.
fn walk<T>(
    roots: Vec<(Arc<Node<T>>, T)>,
    add: impl Fn(T, T) -> Result<T>,
    mut ready: impl FnMut(u64, T) -> Result<()>,
) -> Result<()> {
    let mut uses = uses(roots.iter().map(|(root, _)| root.as_ref()).collect());
    // Numbers increase from operands to results, so the largest waiting number has its complete gradient.
    let mut waiting: BTreeMap<u64, (Arc<Node<T>>, T)> = BTreeMap::new();
    let arrive = |waiting: &mut BTreeMap<u64, (Arc<Node<T>>, T)>, node: &Arc<Node<T>>, gradient: T| {
        let gradient = match waiting.remove(&node.id) {
            Some((_, before)) => add(before, gradient)?,
            None => gradient,
        };
        waiting.insert(node.id, (Arc::clone(node), gradient));
        Ok::<_, Error>(())
    };
    for (root, gradient) in roots {
        arrive(&mut waiting, &root, gradient)?;
    }
    while let Some((id, (node, gradient))) = waiting.pop_last() {
        // A leaf is left here if some operation that uses it got no gradient.
        if node.leaf {
            ready(id, gradient)?;
            continue;
        }
        let step = node.backward.lock().unwrap_or_else(PoisonError::into_inner).take().ok_or_else(|| {
            Error::Unsupported(
                "backward ran twice over the same history, which the first pass consumed".into(),
            )
        })?;
        let gradients = step(&gradient, Wanted(&node.operands))?;
        drop(gradient);
        for (operand, gradient) in node.operands.iter().zip(gradients) {
            let Some(operand) = operand else { continue };
            if let Some(gradient) = gradient {
                arrive(&mut waiting, operand, gradient)?;
            }
            let Some(left) = uses.get_mut(&operand.id) else { continue };
            *left -= 1;
            if *left == 0
                && let Some((_, gradient)) = waiting.remove(&operand.id)
            {
                ready(operand.id, gradient)?;
            }
        }
    }
    Ok(())
}

/// Returns the number of uses of every leaf by operations of the tape that reaches back from `roots`.
fn uses<T>(roots: Vec<&Node<T>>) -> HashMap<u64, usize> {
    let (mut uses, mut seen, mut open) = (HashMap::new(), HashSet::new(), roots);
    while let Some(node) = open.pop() {
        if !seen.insert(node.id) {
            continue;
        }
        for operand in node.operands.iter().flatten() {
            match operand.leaf {
                true => *uses.entry(operand.id).or_default() += 1,
                false => open.push(operand),
            }
        }
    }
    uses
}

#[cfg(test)]
mod tests;
