//! Updates of parameters: AdamW, AdamW with 8-bit moments, stochastic rounding, and vectors in host memory.

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::host::{HostData, HostTensor};
use crate::kernels::{AdamWStep, Offloaded, QuantisedSlots, RandomBits, Slots, Vectors, Visit};
use crate::slices::adamw8;
use crate::tensor::{Tensor, Unary};

/// See [`crate::kernels::Kernels::adamw`].
pub fn adamw(step: &AdamWStep, slots: &Slots, grad: &Tensor) -> Result<()> {
    let grad = grad.detach().affine(step.grad_scale, 0.0)?;
    let mean = slots.mean.affine(step.beta1, 0.0)?.add(&grad.affine(1.0 - step.beta1, 0.0)?)?;
    let squared = grad.square()?.affine(1.0 - step.beta2, 0.0)?;
    let variance = slots.variance.affine(step.beta2, 0.0)?.add(&squared)?;
    let (bias1, bias2) = (1.0 - step.beta1.powf(step.step as f64), 1.0 - step.beta2.powf(step.step as f64));
    let denominator = variance.unary(Unary::Sqrt)?.affine(1.0 / bias2.sqrt(), step.eps)?;
    let update = mean.affine(step.lr / bias1, 0.0)?.div(&denominator)?;
    let param = slots.param.detach().affine(1.0 - step.lr * step.weight_decay, 0.0)?.sub(&update)?;
    slots.mean.assign(&mean)?;
    slots.variance.assign(&variance)?;
    slots.param.assign(&param)
}

/// See [`crate::kernels::Kernels::adamw_8bit`]: on the host.
pub fn adamw_8bit(step: &AdamWStep, slots: &QuantisedSlots, grad: &Tensor) -> Result<()> {
    slots.check(grad)?;
    let shape = slots.param.shape();
    let gradient = grad.read()?.into_f32();
    let mut weights = slots.param.read()?.into_f32();
    let (mut mean, mut variance) = (slots.mean.read()?, slots.variance.read()?);
    adamw8::step(step, &mut weights, &gradient, [&mut mean, &mut variance]);
    slots.mean.assign(mean)?;
    slots.variance.assign(variance)?;
    slots.param.assign(&slots.param.constant(&HostTensor::f32(shape, weights)?)?)
}

/// See [`crate::kernels::Kernels::round_at_random`]: on the host.
pub fn round_at_random(value: &Tensor, into: &Tensor, bits: &RandomBits) -> Result<()> {
    let host = value.read()?.into_f32();
    let rounded = host.iter().zip(0_u64..).map(|(value, at)| bits.round(at, *value)).collect();
    let host = HostTensor::new(into.shape(), HostData::BF16(rounded))?;
    into.assign(&into.constant(&host)?.cast(DType::BF16)?)
}

/// See [`crate::kernels::Kernels::offload`]: every part is copied to the device and read back, one after the other.
pub fn offload(like: &Tensor, parts: &[Vectors]) -> Result<Box<dyn Offloaded>> {
    let zeros = |(dtype, length): &(DType, usize)| match dtype {
        DType::F32 => Ok(HostTensor::vector(vec![0.0; *length])),
        DType::U8 => Ok(HostTensor::bytes(vec![0; *length])),
        other => Err(Error::DType { op: "offload", found: *other, expected: "f32 or u8" }),
    };
    let part = |part: &Vectors| part.iter().map(zeros).collect::<Result<_>>();
    Ok(Box::new(Copied { like: like.detach(), parts: parts.iter().map(part).collect::<Result<_>>()? }))
}

/// Vectors that are copied to a device whenever they are used.
#[derive(Debug)]
struct Copied {
    /// Any tensor of the device.
    like: Tensor,
    parts: Vec<Vec<HostTensor>>,
}

impl Copied {
    fn at(&self, part: usize, vector: usize) -> Result<&HostTensor> {
        let none = || Error::invalid("offload", format!("part {part} has no vector {vector}"));
        self.parts.get(part).and_then(|part| part.get(vector)).ok_or_else(none)
    }
}

impl Offloaded for Copied {
    fn each(&mut self, visit: Visit<'_>) -> Result<()> {
        for (at, part) in self.parts.iter_mut().enumerate() {
            let vectors = part.iter().map(|host| self.like.constant(host)).collect::<Result<Vec<_>>>()?;
            visit(at, &vectors)?;
            *part = vectors.iter().map(Tensor::read).collect::<Result<_>>()?;
        }
        Ok(())
    }

    fn read(&self, part: usize, vector: usize) -> Result<HostTensor> {
        self.at(part, vector).cloned()
    }

    fn write(&mut self, part: usize, vector: usize, host: HostTensor) -> Result<()> {
        let own = self.at(part, vector)?;
        if (own.dtype(), own.shape()) != (host.dtype(), host.shape()) {
            return Err(Error::shape("offload", "another vector is stored", &[own.shape(), host.shape()]));
        }
        self.parts[part][vector] = host;
        Ok(())
    }
}
