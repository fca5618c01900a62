//! Vectors in pinned host memory, copied to a GPU and back on streams of their own while it computes.

#![allow(unsafe_code, reason = "copies between bare addresses")]

use std::fmt::{self, Debug};
use std::sync::Arc;

use cudarc::driver::{CudaContext, CudaEvent, CudaStream, DriverError, PinnedHostSlice, result};
use pcrm_core::cuda::{SLOTS, Transfers, element_bytes, longest, pack, stream, unpacked};
use pcrm_core::kernels::{Offloaded, Vectors, Visit};
use pcrm_core::{DType, Error, HostTensor, Result, Tensor};
use tch::{Device, Kind, Tensor as Torch};

use crate::tensor::TchTensor;
use crate::{NAME, failed};

const OP: &str = "offload";

/// Allocates zeros for these parts in pinned memory, and the slots for them on a GPU.
pub(crate) fn open(index: usize, parts: &[Vectors]) -> Result<Box<dyn Offloaded>> {
    // SAFETY: this only tries to load a library.
    if !unsafe { cudarc::driver::sys::is_culib_present() } {
        return Err(Error::backend(NAME, OP)("libcuda is not found"));
    }
    let context = CudaContext::new(index).map_err(driver())?;
    // libtorch computes on the default stream.
    let compute = context.default_stream();
    let slot = |_| Slot::new(parts, index, &compute);
    let slots = (0..SLOTS).map(slot).collect::<Result<_>>()?;
    let pinned = |part: &Vectors| -> Result<Vec<Pinned>> {
        part.iter().map(|vector| Pinned::zeros(*vector, &context)).collect()
    };
    Ok(Box::new(Streamed {
        parts: parts.iter().map(pinned).collect::<Result<_>>()?,
        slots,
        up: context.new_stream().map_err(driver())?,
        down: context.new_stream().map_err(driver())?,
        compute,
    }))
}

fn driver() -> impl FnOnce(DriverError) -> Error {
    Error::backend(NAME, OP)
}

/// A vector in pinned memory.
struct Pinned {
    memory: PinnedHostSlice<u8>,
    dtype: DType,
}

impl Pinned {
    fn zeros((dtype, length): (DType, usize), context: &Arc<CudaContext>) -> Result<Self> {
        let size = length * element_bytes(dtype)?;
        // SAFETY: the memory is filled before anything reads it. Without flags, the host reads it at full speed.
        let mut memory = unsafe { context.alloc_pinned_with_flags(size, 0) }.map_err(|error| {
            let message = format!("{size} bytes of pinned host memory for the moments: {error}");
            Error::backend(NAME, OP)(message)
        })?;
        memory.as_mut_slice().map_err(driver())?.fill(0);
        Ok(Self { memory, dtype })
    }
}

/// Memory of the GPU for one part, and the last work on it.
struct Slot {
    vectors: Vec<Torch>,
    /// After the copy from the host.
    arrived: CudaEvent,
    /// After the work of the GPU.
    updated: CudaEvent,
    /// After the copy to the host.
    free: CudaEvent,
}

impl Slot {
    /// Allocates a slot for the longest vectors of all parts.
    fn new(parts: &[Vectors], index: usize, compute: &CudaStream) -> Result<Self> {
        let empty = |(dtype, length): (DType, usize)| {
            let kind = if dtype == DType::U8 { Kind::Uint8 } else { Kind::Float };
            Torch::f_empty([length as i64], (kind, Device::Cuda(index))).map_err(failed(OP))
        };
        let vectors = longest(parts).into_iter().map(empty).collect::<Result<_>>()?;
        let event = || compute.context().new_event(None).map_err(driver());
        let slot = Self { vectors, arrived: event()?, updated: event()?, free: event()? };
        // The memory may belong to a tensor that pending work of the GPU still uses.
        slot.free.record(compute).map_err(driver())?;
        Ok(slot)
    }

    fn vector(&self, at: usize, pinned: &Pinned) -> Result<Torch> {
        let length = pinned.memory.len() / element_bytes(pinned.dtype)?;
        self.vectors[at].f_narrow(0, 0, length as i64).map_err(failed(OP))
    }
}

/// The parts in pinned memory, with a stream for each direction.
struct Streamed {
    parts: Vec<Vec<Pinned>>,
    slots: Vec<Slot>,
    up: Arc<CudaStream>,
    down: Arc<CudaStream>,
    compute: Arc<CudaStream>,
}

impl Debug for Streamed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Streamed, {} parts", self.parts.len())
    }
}

impl Transfers for Streamed {
    fn upload(&mut self, part: usize, slot: usize) -> Result<()> {
        let (slot, up) = (&self.slots[slot], &self.up);
        up.wait(&slot.free).map_err(driver())?;
        for (at, pinned) in self.parts[part].iter().enumerate() {
            let to = slot.vector(at, pinned)?.data_ptr() as u64;
            let from = pinned.memory.as_slice().map_err(driver())?;
            // SAFETY: the slot has room for the vector, and neither is freed or written before `finish`, but by copies
            // and kernels that wait for this one.
            unsafe { result::memcpy_htod_async(to, from, up.cu_stream()) }.map_err(driver())?;
        }
        slot.arrived.record(up).map_err(driver())
    }

    fn arrived(&mut self, part: usize, slot: usize) -> Result<Vec<Tensor>> {
        let slot = &self.slots[slot];
        self.compute.wait(&slot.arrived).map_err(driver())?;
        let vector =
            |(at, pinned): (usize, &Pinned)| Ok(Tensor::new(TchTensor::constant(slot.vector(at, pinned)?)));
        self.parts[part].iter().enumerate().map(vector).collect()
    }

    fn download(&mut self, part: usize, slot: usize) -> Result<()> {
        let (slot, down) = (&self.slots[slot], &self.down);
        slot.updated.record(&self.compute).map_err(driver())?;
        down.wait(&slot.updated).map_err(driver())?;
        for (at, pinned) in self.parts[part].iter_mut().enumerate() {
            let from = slot.vector(at, pinned)?.data_ptr() as u64;
            let to = pinned.memory.as_mut_slice().map_err(driver())?;
            // SAFETY: as above; nothing reads the memory before `finish`.
            unsafe { result::memcpy_dtoh_async(to, from, down.cu_stream()) }.map_err(driver())?;
        }
        slot.free.record(down).map_err(driver())
    }

    fn finish(&mut self) -> Result<()> {
        let [up, down] = [self.up.synchronize(), self.down.synchronize()];
        up.and(down).map_err(driver())
    }
}

impl Offloaded for Streamed {
    fn each(&mut self, visit: Visit<'_>) -> Result<()> {
        stream(self.parts.len(), self, visit)
    }

    fn read(&self, part: usize, vector: usize) -> Result<HostTensor> {
        let pinned =
            self.parts.get(part).and_then(|part| part.get(vector)).ok_or_else(|| none(part, vector))?;
        Ok(unpacked(pinned.memory.as_slice().map_err(driver())?, pinned.dtype))
    }

    fn write(&mut self, part: usize, vector: usize, host: HostTensor) -> Result<()> {
        let pinned = self.parts.get_mut(part).and_then(|part| part.get_mut(vector));
        let pinned = pinned.ok_or_else(|| none(part, vector))?;
        pack(&host, pinned.dtype, pinned.memory.as_mut_slice().map_err(driver())?)
    }
}

fn none(part: usize, vector: usize) -> Error {
    Error::invalid(OP, format!("part {part} has no vector {vector}"))
}

impl Drop for Streamed {
    fn drop(&mut self) {
        // Copies that are under way use the memory. An error of the driver ends them too.
        drop(self.finish());
    }
}
