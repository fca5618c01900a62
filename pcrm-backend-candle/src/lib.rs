//! PCRM on candle, in pure Rust: f32 on the CPU, every core busy.
//!
//! candle supplies storage, views, reductions and its matrix product; the tape and the fused operations
//! are this crate's. candle's own autograd is not used: it adds every gradient to a tensor of zeros,
//! computes gradients of frozen operands and cuts the graph silently at its fused operations.

mod kernels;
mod ops;
mod tape;
mod tensor;

use pcrm_core::registry::BackendPlugin;
use pcrm_core::{Backend, DType, Device, Error, Gradients, HostTensor, Params, Result, Tensor};

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
    pub fn open(device: Device) -> Result<Box<dyn Backend>> {
        match device {
            Device::Cpu => Ok(Box::new(Self)),
            Device::Cuda(_) => Err(Error::Unsupported(format!(
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
        let mut by_leaf = tape::backward(loss.downcast::<CandleTensor>("backward", NAME)?)?;
        let mut gradients = Gradients::default();
        let mut missing = Vec::new();
        for (name, param) in params.iter() {
            let leaf = param.downcast::<CandleTensor>("backward", NAME)?.leaf();
            match leaf.and_then(|leaf| by_leaf.remove(&leaf)) {
                Some(gradient) => gradients.insert(name, Tensor::new(CandleTensor::constant(gradient))),
                None => missing.push(name.to_owned()),
            }
        }
        match missing.is_empty() {
            true => Ok(gradients),
            false => Err(Error::MissingGradient { names: missing }),
        }
    }
}
