//! The operations that only NVIDIA GPUs have: fused kernels, compiled at run time, and attention over all segments
//! of a tree by one call.
//!
//! Each is compared with the composed reference when a GPU is opened. If it differs or is missing, the backend
//! warns and uses libtorch's operations, which are slower.

mod attention_proof;
pub(crate) mod decode;
mod decode_proof;
mod fused;
mod module;
mod nvrtc;
pub(crate) mod offload;
mod optimiser_proof;
mod proof;
pub(crate) mod statistics;
mod statistics_proof;
pub(crate) mod symbols;
mod update;

use std::sync::{Arc, OnceLock};

use tch::{Device, Tensor as Torch};

pub(crate) use self::fused::Fused;
pub(crate) use self::update::Update;

/// The proven paths of a GPU.
#[derive(Default)]
struct Paths {
    fused: Option<Arc<Fused>>,
    has_packed_attention: bool,
    /// True if the kernels for 8-bit AdamW and stochastic rounding passed their proof.
    has_optimiser: bool,
    /// The paths that are off, with the reasons.
    off: Vec<String>,
}

/// The most GPUs of a machine; any others use slower operations.
const GPUS: usize = 16;

static PATHS: [OnceLock<Paths>; GPUS] = [const { OnceLock::new() }; GPUS];

/// Prepares and proves the paths of a GPU, once.
pub(crate) fn prepare(index: usize) {
    match PATHS.get(index) {
        Some(slot) => {
            slot.get_or_init(|| prove(index));
        }
        None => off(index).iter().for_each(|note| tracing::warn!("{note}")),
    }
}

fn prove(index: usize) -> Paths {
    let mut off = Vec::new();
    let mut without = |what: &str, why: String| {
        let note = format!("cuda:{index}: {what} is off, so computation is slower: {why}");
        tracing::warn!("{note}");
        off.push(note);
    };
    let device = Device::Cuda(index);
    let compiled = || -> Result<Arc<Fused>, String> {
        let fused = Arc::new(Fused::compile(index)?);
        proof::of_fused(&fused, device)?;
        decode_proof::of_decoding(&fused, device)?;
        statistics_proof::of_statistics(&fused, device)?;
        Ok(fused)
    };
    let fused = compiled().map_err(|why| without("the use of fused kernels", why)).ok();
    let has_optimiser = fused.as_deref().is_some_and(|fused| {
        let proven = optimiser_proof::of_optimiser(fused, device);
        proven
            .map_err(|why| without("AdamW with 8-bit moments or stochastic rounding on the GPU", why))
            .is_ok()
    });
    let packed = match symbols::are_found() {
        true => attention_proof::of_attention(fused.as_deref(), device),
        false => Err("this libtorch does not export its attention kernels".to_owned()),
    };
    let has_packed_attention = packed.map_err(|why| without("attention by one call a layer", why)).is_ok();
    Paths { fused, has_packed_attention, has_optimiser, off }
}

/// Returns the paths of a GPU that are off, with the reasons.
pub(crate) fn off(index: usize) -> Vec<String> {
    match PATHS.get(index) {
        Some(slot) => slot.get().map(|paths| paths.off.clone()).unwrap_or_default(),
        None => vec![format!("cuda:{index}: fast paths serve {GPUS} GPUs, so computation is slower")],
    }
}

fn paths(x: &Torch) -> Option<&'static Paths> {
    match x.device() {
        Device::Cuda(index) => PATHS.get(index)?.get(),
        _ => None,
    }
}

/// Returns the fused kernels of the GPU of x, if they are proven.
pub(crate) fn fused(x: &Torch) -> Option<&'static Fused> {
    paths(x)?.fused.as_deref()
}

/// Returns the kernels of AdamW with 8-bit moments and of stochastic rounding, if they are proven on the GPU of x.
pub(crate) fn optimiser(x: &Torch) -> Option<&'static Fused> {
    paths(x).filter(|paths| paths.has_optimiser)?.fused.as_deref()
}

/// Returns another handle to the kernels of [`fused`].
fn shared(x: &Torch) -> Option<Arc<Fused>> {
    paths(x)?.fused.clone()
}

/// Returns whether attention by one call is proven on the GPU of x.
pub(crate) fn has_packed_attention(x: &Torch) -> bool {
    paths(x).is_some_and(|paths| paths.has_packed_attention)
}
