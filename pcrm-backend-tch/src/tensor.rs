//! The primitives on libtorch's tensors, each with its gradient.

mod host;
mod index;
mod reduce;
mod view;

use std::fmt::{self, Debug};

use pcrm_core::tape::{self, History, Node, Taped, Wanted};
use pcrm_core::tensor::{Binary, Compare, CoreBackward, LeafReady, RawTensor, Reduce, Unary, View};
use pcrm_core::{DType, Error, HostTensor, Kernels, Result, Tensor};
use tch::{Kind, TchError, Tensor as Torch};

pub(crate) use self::host::{to_device, upload};
use crate::broadcast::{self, Kept};
use crate::kernels::TchKernels;
use crate::ops::elementwise;
use crate::{NAME, failed};

/// A libtorch tensor and its place on the tape. libtorch's own autograd sees no history.
pub(crate) struct TchTensor {
    pub(crate) value: Torch,
    pub(crate) node: History<Torch>,
}

impl Debug for TchTensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TchTensor {:?} {:?}", self.value.size(), self.value.kind())
    }
}

impl TchTensor {
    /// Wraps a tensor without history.
    pub(crate) fn constant(value: Torch) -> Self {
        Self { value, node: None }
    }
}

impl Taped for TchTensor {
    type Value = Torch;

    const BACKEND: &'static str = NAME;

    fn taped(value: Torch, history: History<Torch>) -> Self {
        Self { value, node: history }
    }

    fn handle(value: &Torch) -> Torch {
        value.shallow_clone()
    }

    fn value(&self) -> Torch {
        self.value.shallow_clone()
    }

    fn history(&self) -> &History<Torch> {
        &self.node
    }

    fn sum(a: Torch, b: Torch) -> Result<Torch> {
        a.f_add(&b).map_err(failed("backward"))
    }
}

/// Wraps the result of an operation, and records it on the tape if any operand is on it.
pub(crate) fn record(
    value: Torch,
    operands: &[&TchTensor],
    backward: impl FnOnce(&Torch, Wanted<'_, Torch>) -> Result<Vec<Option<Torch>>> + Send + 'static,
) -> Tensor {
    let node = tape::record(operands.iter().map(|operand| operand.node.clone()).collect(), backward);
    Tensor::new(TchTensor { value, node })
}

/// Wraps the result of a unary operation.
fn record_one(
    op: &'static str,
    x: &TchTensor,
    value: Result<Torch, TchError>,
    backward: impl FnOnce(&Torch) -> Result<Torch, TchError> + Send + 'static,
) -> Result<Tensor> {
    Ok(record(value.map_err(failed(op))?, &[x], move |gradient, _| {
        Ok(vec![Some(backward(gradient).map_err(failed(op))?)])
    }))
}

/// Converts a shape to libtorch's type.
pub(crate) fn sizes(shape: &[usize]) -> Vec<i64> {
    shape.iter().map(|length| *length as i64).collect()
}

/// Returns the shape of a libtorch tensor.
pub(crate) fn shape(value: &Torch) -> Vec<usize> {
    value.size().into_iter().map(|length| length as usize).collect()
}

fn other<'a>(op: &'static str, tensor: &'a Tensor) -> Result<&'a TchTensor> {
    tensor.downcast(op, NAME)
}

/// Converts a dimension to libtorch's type; an invalid one stays out of range.
fn at(dim: usize) -> i64 {
    dim as i64
}

impl RawTensor for TchTensor {
    fn kernels(&self) -> &'static dyn Kernels {
        &TchKernels
    }

    fn share(&self) -> Box<dyn RawTensor> {
        Box::new(Self { value: self.value.shallow_clone(), node: self.node.clone() })
    }

    fn shape(&self) -> Vec<usize> {
        shape(&self.value)
    }

    fn dtype(&self) -> DType {
        match self.value.kind() {
            Kind::Int64 => DType::U32,
            Kind::Uint8 => DType::U8,
            Kind::BFloat16 => DType::BF16,
            _ => DType::F32,
        }
    }

    fn unary(&self, op: Unary) -> Result<Tensor> {
        let x = self.value.shallow_clone();
        record_one("unary", self, elementwise::unary(op, &x), move |gradient| {
            elementwise::unary_backward(op, &x, gradient)
        })
    }

    fn binary(&self, op: Binary, rhs: &Tensor) -> Result<Tensor> {
        let rhs = other("binary", rhs)?;
        let (a, b) = (&self.value, &rhs.value);
        let value = broadcast::binary(op, a, b).map_err(failed("binary"))?;
        let sizes = [a.size(), b.size()];
        let kept = Kept::new(op, [a, b]);
        Ok(record(value, &[self, rhs], move |gradient, wanted| {
            let err = || failed("binary backward");
            let [d_a, d_b] = kept.gradients(gradient).map_err(err())?;
            Ok(vec![
                wanted.then(0, || d_a.f_sum_to_size(&sizes[0]).map_err(err()))?,
                wanted.then(1, || d_b.f_sum_to_size(&sizes[1]).map_err(err()))?,
            ])
        }))
    }

    fn compare(&self, op: Compare, rhs: &Tensor) -> Result<Tensor> {
        let (a, b) = (&self.value, &other("compare", rhs)?.value);
        let mask = match op {
            Compare::Eq => a.f_eq_tensor(b),
            Compare::Lt => a.f_lt_tensor(b),
            Compare::Le => a.f_le_tensor(b),
            Compare::Gt => a.f_gt_tensor(b),
            Compare::Ge => a.f_ge_tensor(b),
        };
        let value = mask.and_then(|mask| mask.f_to_kind(a.kind()));
        Ok(Tensor::new(Self::constant(value.map_err(failed("compare"))?)))
    }

    fn affine(&self, scale: f64, shift: f64) -> Result<Tensor> {
        let value = self.value.f_mul_scalar(scale).and_then(|scaled| match shift == 0.0 {
            true => Ok(scaled),
            false => scaled.f_add_scalar(shift),
        });
        record_one("affine", self, value, move |gradient| gradient.f_mul_scalar(scale))
    }

    fn reduce(&self, op: Reduce, dim: usize) -> Result<Tensor> {
        reduce::reduce(self, op, dim)
    }

    fn matmul(&self, rhs: &Tensor) -> Result<Tensor> {
        let err = || failed("matmul");
        let rhs = other("matmul", rhs)?;
        let (a, b) = (self.value.shallow_clone(), rhs.value.shallow_clone());
        let value = a.f_matmul(&b).map_err(err())?;
        Ok(record(value, &[self, rhs], move |gradient, wanted| {
            let turned = |x: &Torch| x.f_transpose(-1, -2);
            Ok(vec![
                wanted.then(0, || turned(&b).and_then(|b| gradient.f_matmul(&b)).map_err(err()))?,
                wanted.then(1, || turned(&a).and_then(|a| a.f_matmul(gradient)).map_err(err()))?,
            ])
        }))
    }

    fn view(&self, view: View<'_>) -> Result<Tensor> {
        view::view(self, view)
    }

    fn concat(&self, rest: &[&Tensor], dim: usize) -> Result<Tensor> {
        let err = || failed("concat");
        let mut parts = vec![self];
        for tensor in rest {
            parts.push(other("concat", tensor)?);
        }
        let values: Vec<&Torch> = parts.iter().map(|part| &part.value).collect();
        let value = Torch::f_cat(&values, at(dim)).map_err(err())?;
        let lengths: Vec<i64> = values.iter().map(|value| value.size()[dim]).collect();
        Ok(record(value, &parts, move |gradient, wanted| {
            let mut start = 0;
            let cut = lengths.iter().enumerate().map(|(index, length)| {
                let from = start;
                start += length;
                wanted.then(index, || gradient.f_narrow(at(dim), from, *length).map_err(err()))
            });
            cut.collect()
        }))
    }

    fn gather(&self, dim: usize, index: &Tensor) -> Result<Tensor> {
        index::gather(self, dim, index)
    }

    fn index_select(&self, dim: usize, index: &Tensor) -> Result<Tensor> {
        index::index_select(self, dim, index)
    }

    fn cast(&self, to: DType) -> Result<Tensor> {
        const OP: &str = "cast";
        let from = self.value.kind();
        let kind = match to {
            DType::F32 => Kind::Float,
            DType::BF16 => Kind::BFloat16,
            DType::U32 if from == Kind::Uint8 => Kind::Int64,
            DType::U32 | DType::U8 => {
                return Err(Error::DType { op: OP, found: to, expected: "f32 or bf16" });
            }
        };
        record_one(OP, self, self.value.f_to_kind(kind), move |gradient| gradient.f_to_kind(from))
    }

    fn detach(&self) -> Tensor {
        Tensor::new(Self::constant(self.value.shallow_clone()))
    }

    fn variable(&self) -> Tensor {
        Tensor::new(Self { value: self.value.shallow_clone(), node: Some(Node::leaf()) })
    }

    fn has_history(&self) -> bool {
        self.node.is_some()
    }

    fn record(&self, operands: &[&Tensor], backward: CoreBackward) -> Result<Tensor> {
        tape::record_custom(self, operands, backward)
    }

    fn pull(&self, outputs: &[(&Tensor, &Tensor)], leaves: &[&Tensor], ready: LeafReady<'_>) -> Result<()> {
        tape::pull::<Self>(outputs, leaves, ready)
    }

    fn assign(&self, value: &Tensor) -> Result<()> {
        let value = &other("assign", value)?.value;
        if value.size() != self.value.size() {
            let shapes = [&shape(&self.value)[..], &shape(value)];
            return Err(Error::shape("assign", "expected equal shapes", &shapes));
        }
        self.value.shallow_clone().f_copy_(value).map_err(failed("assign"))
    }

    fn write_rows(&self, at: &[u32], value: &Tensor) -> Result<()> {
        const OP: &str = "write_rows";
        let value = &other(OP, value)?.value;
        let at: Vec<i64> = at.iter().map(|row| i64::from(*row)).collect();
        let write = || -> Result<Torch, TchError> {
            let at = to_device(&Torch::f_from_slice(&at)?, self.value.device())?;
            self.value.shallow_clone().f_index_copy_(0, &at, value)
        };
        write().map(|_| ()).map_err(failed(OP))
    }

    fn constant(&self, host: &HostTensor) -> Result<Tensor> {
        let dtype = match host.dtype() {
            whole @ (DType::U32 | DType::U8) => whole,
            DType::F32 | DType::BF16 => DType::F32,
        };
        upload(host, dtype, self.value.device())
    }

    fn read(&self) -> Result<HostTensor> {
        host::read(&self.value, self.dtype())
    }
}
