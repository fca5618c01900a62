//! PCRM on candle, in pure Rust: f32 on the CPU, every core busy.
//!
//! candle supplies storage, views, reductions and its matrix product; the tape is core's and the fused operations
//! are this crate's. candle's own autograd is not used: it adds every gradient to a tensor of zeros,
//! computes gradients of frozen operands and cuts the graph silently at its fused operations.

mod kernels;
mod ops;
mod tensor;

use pcrm_core::registry::BackendPlugin;
use pcrm_core::{Backend, DType, Device, Error, Gradients, HostTensor, Params, Place, Result, Tensor, tape};

use crate::ops::elementwise;
use crate::tensor::CandleTensor;

/// The name this backend is registered under.
pub const NAME: &str = "candle";

inventory::submit! {
    BackendPlugin { name: NAME, about: "candle, pure Rust: f32 on the CPU", open: CandleBackend::open }
}

/// candle, opened on the CPU.
#[derive(Debug, Clone, Copy)]
pub struct CandleBackend;

impl CandleBackend {
    /// Opens the backend.
    ///
    /// # Errors
    /// Any device but the CPU.
    pub fn open(place: Place) -> Result<Box<dyn Backend>> {
        match place.device {
            Device::Cpu => Ok(Box::new(Self)),
            device @ Device::Cuda(_) => Err(Error::Unsupported(format!(
                "the candle backend of this build serves the device cpu, not {device}"
            ))),
        }
    }
}

impl Backend for CandleBackend {
    fn name(&self) -> &'static str {
        NAME
    }

    fn device(&self) -> Device {
        Device::Cpu
    }

    fn dtypes(&self) -> &'static [DType] {
        &[DType::F32]
    }

    fn upload(&self, host: &HostTensor, dtype: DType) -> Result<Tensor> {
        tensor::upload(host, dtype)
    }

    fn backward(&self, loss: &Tensor, params: &Params) -> Result<Gradients> {
        const OP: &str = "backward";
        let loss = loss.downcast::<CandleTensor>(OP, NAME)?;
        if loss.value.elem_count() != 1 {
            return Err(Error::shape(OP, "the loss must have one element", &[loss.value.dims()]));
        }
        let ones = loss.value.ones_like().map_err(Error::backend(NAME, OP))?;
        let leaves = tape::backward(&loss.node, ones, |a, b| elementwise::add(&a, &b))?;
        let history = |param: &Tensor| Ok(param.downcast::<CandleTensor>(OP, NAME)?.node.clone());
        tape::by_name(leaves, params, history, |gradient| Tensor::new(CandleTensor::constant(gradient)))
    }
}
