//! The primitives on candle's tensors, each with its gradient.

mod host;
mod index;
mod reduce;
mod view;

use std::sync::Arc;

use candle_core as ct;
use pcrm_core::tape::{self, History, Node, Taped, Wanted};
use pcrm_core::tensor::{Binary, Compare, CoreBackward, LeafReady, RawTensor, Reduce, Unary, View};
use pcrm_core::{DType, Error, HostTensor, Kernels, Result, Tensor};

pub(crate) use self::host::upload;
use crate::NAME;
use crate::broadcast::{Kept, binary, reduce_to};
use crate::device_kernels::DeviceKernels;
use crate::ops::slices;
use crate::path::{self, on_slices};
use crate::slice_kernels::SliceKernels;

/// A candle tensor and its place on the tape.
#[derive(Debug, Clone)]
pub(crate) struct CandleTensor {
    pub(crate) value: ct::Tensor,
    pub(crate) node: History<ct::Tensor>,
    /// Uploaded indices, also kept on the host: reading them back would wait for all pending GPU work.
    host: Option<Arc<[u32]>>,
}

impl CandleTensor {
    /// Wraps a tensor without history.
    pub(crate) fn constant(value: ct::Tensor) -> Self {
        Self { value, node: None, host: None }
    }

    /// Returns token ids or indices on the host.
    pub(crate) fn indices(&self, op: &'static str) -> Result<Arc<[u32]>> {
        match &self.host {
            Some(indices) => Ok(Arc::clone(indices)),
            None => Ok(slices::indices(op, &self.value)?.into()),
        }
    }
}

impl Taped for CandleTensor {
    type Value = ct::Tensor;

    const BACKEND: &'static str = NAME;

    fn taped(value: ct::Tensor, history: History<ct::Tensor>) -> Self {
        Self { value, node: history, host: None }
    }

    fn handle(value: &ct::Tensor) -> ct::Tensor {
        value.clone()
    }

    fn value(&self) -> ct::Tensor {
        self.value.clone()
    }

    fn history(&self) -> &History<ct::Tensor> {
        &self.node
    }

    fn sum(a: ct::Tensor, b: ct::Tensor) -> Result<ct::Tensor> {
        path::add(&a, &b)
    }
}

/// Wraps the result of an operation, and records it on the tape if any operand is on it.
pub(crate) fn record(
    value: ct::Tensor,
    operands: &[&CandleTensor],
    backward: impl FnOnce(&ct::Tensor, Wanted<'_, ct::Tensor>) -> Result<Vec<Option<ct::Tensor>>> + Send + 'static,
) -> CandleTensor {
    let node = tape::record(operands.iter().map(|operand| operand.node.clone()).collect(), backward);
    CandleTensor { value, node, host: None }
}

fn candle_dtype(dtype: DType) -> ct::DType {
    match dtype {
        DType::F32 => ct::DType::F32,
        DType::BF16 => ct::DType::BF16,
        DType::U32 => ct::DType::U32,
        DType::U8 => ct::DType::U8,
    }
}

/// Returns whether two tensors are views of the same elements in memory.
fn shares_storage(a: &ct::Tensor, b: &ct::Tensor) -> bool {
    std::ptr::eq(&*a.storage_and_layout().0, &*b.storage_and_layout().0)
}

fn other<'a>(op: &'static str, tensor: &'a Tensor) -> Result<&'a CandleTensor> {
    tensor.downcast(op, NAME)
}

impl RawTensor for CandleTensor {
    fn kernels(&self) -> &'static dyn Kernels {
        match on_slices(&self.value) {
            true => &SliceKernels,
            false => &DeviceKernels,
        }
    }

    fn share(&self) -> Box<dyn RawTensor> {
        Box::new(self.clone())
    }

    fn shape(&self) -> Vec<usize> {
        self.value.dims().to_vec()
    }

    fn dtype(&self) -> DType {
        match self.value.dtype() {
            ct::DType::U32 => DType::U32,
            ct::DType::U8 => DType::U8,
            ct::DType::BF16 => DType::BF16,
            _ => DType::F32,
        }
    }

    fn unary(&self, op: Unary) -> Result<Tensor> {
        let value = path::unary(op, &self.value)?;
        let x = self.value.clone();
        Ok(Tensor::new(record(value, &[self], move |gradient, _| {
            Ok(vec![Some(path::unary_backward(op, &x, gradient)?)])
        })))
    }

    fn binary(&self, op: Binary, rhs: &Tensor) -> Result<Tensor> {
        let err = || Error::backend(NAME, "binary");
        let rhs = other("binary", rhs)?;
        let (a, b) = (&self.value, &rhs.value);
        let value = match op {
            Binary::Add if a.dims() == b.dims() => path::add(a, b)?,
            _ => binary(op, a, b).map_err(err())?,
        };
        let dims = [a.dims().to_vec(), b.dims().to_vec()];
        let kept = Kept::new(op, [a, b]);
        Ok(Tensor::new(record(value, &[self, rhs], move |gradient, wanted| {
            let [d_a, d_b] = kept.gradients(gradient).map_err(err())?;
            Ok(vec![
                wanted.then(0, || reduce_to(&d_a, &dims[0]).map_err(err()))?,
                wanted.then(1, || reduce_to(&d_b, &dims[1]).map_err(err()))?,
            ])
        })))
    }

    fn compare(&self, op: Compare, rhs: &Tensor) -> Result<Tensor> {
        let rhs = &other("compare", rhs)?.value;
        let value = match op {
            Compare::Eq => self.value.broadcast_eq(rhs),
            Compare::Lt => self.value.broadcast_lt(rhs),
            Compare::Le => self.value.broadcast_le(rhs),
            Compare::Gt => self.value.broadcast_gt(rhs),
            Compare::Ge => self.value.broadcast_ge(rhs),
        };
        let value = value.and_then(|mask| mask.to_dtype(self.value.dtype()));
        Ok(Tensor::new(Self::constant(value.map_err(Error::backend(NAME, "compare"))?)))
    }

    fn affine(&self, scale: f64, shift: f64) -> Result<Tensor> {
        let err = || Error::backend(NAME, "affine");
        let value = path::affine(&self.value, scale, shift).map_err(err())?;
        Ok(Tensor::new(record(value, &[self], move |gradient, _| {
            Ok(vec![Some(path::affine(gradient, scale, 0.0).map_err(err())?)])
        })))
    }

    fn reduce(&self, op: Reduce, dim: usize) -> Result<Tensor> {
        reduce::reduce(self, op, dim)
    }

    fn matmul(&self, rhs: &Tensor) -> Result<Tensor> {
        let err = || Error::backend(NAME, "matmul");
        let rhs = other("matmul", rhs)?;
        let (a, b) = (self.value.clone(), rhs.value.clone());
        let product = |a: &ct::Tensor, b: &ct::Tensor| -> ct::Result<ct::Tensor> {
            a.contiguous()?.matmul(&b.contiguous()?)
        };
        let value = product(&a, &b).map_err(err())?;
        let last = a.rank() - 1;
        Ok(Tensor::new(record(value, &[self, rhs], move |gradient, wanted| {
            let turned = |x: &ct::Tensor| x.transpose(last - 1, last);
            Ok(vec![
                wanted.then(0, || turned(&b).and_then(|b| product(gradient, &b)).map_err(err()))?,
                wanted.then(1, || turned(&a).and_then(|a| product(&a, gradient)).map_err(err()))?,
            ])
        })))
    }

    fn view(&self, view: View<'_>) -> Result<Tensor> {
        view::view(self, view)
    }

    fn concat(&self, rest: &[&Tensor], dim: usize) -> Result<Tensor> {
        let err = || Error::backend(NAME, "concat");
        let mut parts = vec![self];
        for tensor in rest {
            parts.push(other("concat", tensor)?);
        }
        let values: Vec<&ct::Tensor> = parts.iter().map(|part| &part.value).collect();
        let lengths: Vec<usize> =
            values.iter().map(|value| value.dims().get(dim).copied().unwrap_or(0)).collect();
        let value = ct::Tensor::cat(&values, dim).map_err(err())?;
        Ok(Tensor::new(record(value, &parts, move |gradient, wanted| {
            let mut start = 0;
            let cut = lengths.iter().enumerate().map(|(index, length)| {
                let from = start;
                start += length;
                wanted.then(index, || gradient.narrow(dim, from, *length).map_err(err()))
            });
            cut.collect()
        })))
    }

    fn gather(&self, dim: usize, index: &Tensor) -> Result<Tensor> {
        index::gather(self, dim, index)
    }

    fn index_select(&self, dim: usize, index: &Tensor) -> Result<Tensor> {
        index::index_select(self, dim, index)
    }

    fn cast(&self, to: DType) -> Result<Tensor> {
        let err = || Error::backend(NAME, "cast");
        let from = self.value.dtype();
        let value = self.value.to_dtype(candle_dtype(to)).map_err(err())?;
        Ok(Tensor::new(record(value, &[self], move |gradient, _| {
            Ok(vec![Some(gradient.to_dtype(from).map_err(err())?)])
        })))
    }

    fn detach(&self) -> Tensor {
        Tensor::new(Self::constant(self.value.clone()))
    }

    fn variable(&self) -> Tensor {
        Tensor::new(Self { value: self.value.clone(), node: Some(Node::leaf()), host: None })
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
        match value.dims() == self.value.dims() {
            true => path::assign(&self.value, value),
            false => Err(Error::shape("assign", "expected equal shapes", &[self.value.dims(), value.dims()])),
        }
    }

    fn write_rows(&self, at: &[u32], value: &Tensor) -> Result<()> {
        const OP: &str = "write_rows";
        let err = || Error::backend(NAME, OP);
        let value = &other(OP, value)?.value;
        // candle does not write a tensor's elements into their own storage.
        let value = match shares_storage(&self.value, value) {
            true => value.force_contiguous(),
            false => value.contiguous(),
        };
        let value = value.map_err(err())?;
        let mut start = 0;
        for run in at.chunk_by(|a, b| a + 1 == *b) {
            let rows = value.narrow(0, start, run.len()).map_err(err())?;
            self.value.slice_set(&rows, 0, run[0] as usize).map_err(err())?;
            start += run.len();
        }
        Ok(())
    }

    fn constant(&self, host: &HostTensor) -> Result<Tensor> {
        upload(host, host.dtype(), self.value.device())
    }

    fn read(&self) -> Result<HostTensor> {
        host::read(&self.value)
    }
}
