//! `pcrm bench gemm`: measures the machine's peak, the fastest of many matrix products.

use std::time::Instant;

use anyhow::{Result, ensure};
use clap::Args;
use pcrm_core::{Backend, Device, HostTensor};
use serde::Serialize;

use super::system;
use crate::machine::Machine;
use crate::numbers::real;
use crate::terminal;

/// Options of `pcrm bench gemm`.
#[derive(Debug, Args)]
pub struct GemmArgs {
    /// Run for S seconds
    #[arg(long, value_name = "S", default_value_t = 3.0, value_parser = real)]
    seconds: f64,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    machine: Machine,
}

#[derive(Debug, Serialize)]
struct Peak {
    system: String,
    device: String,
    dtype: String,
    gflop_per_s: f64,
    shape: [usize; 3],
}

/// The shape of the measured product, `[m, k, n]`: large enough to fill the device, small enough to be quick.
fn shape(device: Device) -> [usize; 3] {
    match device {
        Device::Cpu => [1024, 768, 3072], // a feed-forward layer
        Device::Cuda(_) => [8192, 8192, 8192],
    }
}

/// The number of products between clock readings: waiting for a GPU costs as much as a small product.
fn products(device: Device) -> usize {
    match device {
        Device::Cpu => 1,
        Device::Cuda(_) => 10,
    }
}

/// Times products and prints the peak.
///
/// # Errors
/// Fails if the device cannot be opened or `--seconds` is not positive.
pub fn run(args: &GemmArgs) -> Result<()> {
    ensure!(
        args.seconds > 0.0 && args.seconds.is_finite(),
        "--seconds {}: expected a positive number",
        args.seconds
    );
    let backend = args.machine.open()?;
    let peak = Peak {
        system: system(backend.as_ref()),
        device: args.machine.device.to_string(),
        dtype: args.machine.dtype.to_string(),
        gflop_per_s: peak(backend.as_ref(), &args.machine, args.seconds)?,
        shape: shape(args.machine.device),
    };
    match args.json {
        true => terminal::result(&(serde_json::to_string(&peak)? + "\n")),
        false => terminal::result(&format!(
            "{:.1} GFLOP/s, {} on {} ({:?})\n",
            peak.gflop_per_s, peak.dtype, peak.device, peak.shape
        )),
    }
}

/// Returns the rate of the fastest of many products, in GFLOP/s.
///
/// # Errors
/// Fails if the backend fails.
pub fn peak(backend: &dyn Backend, machine: &Machine, seconds: f64) -> Result<f64> {
    let ([m, k, n], products) = (shape(machine.device), products(machine.device));
    let fill = |rows: usize, columns: usize| -> Result<_> {
        let values = (0..rows * columns).map(|at| (at % 17) as f32 * 0.1 - 0.8).collect();
        Ok(backend.upload(&HostTensor::f32([rows, columns], values)?, machine.dtype)?)
    };
    let (a, b) = (fill(m, k)?, fill(k, n)?);
    let begun = Instant::now();
    let mut best = f64::INFINITY;
    while begun.elapsed().as_secs_f64() < seconds {
        let started = Instant::now();
        for _ in 0..products {
            a.matmul(&b)?;
        }
        backend.synchronize()?;
        best = best.min(started.elapsed().as_secs_f64() / products as f64);
    }
    Ok(2.0 * (m * k * n) as f64 / best / 1e9)
}
