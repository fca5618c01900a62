//! The subjects of the checks: every registered backend, on every device that it can open here.

use anyhow::{Context, Result, ensure};
use pcrm_core::registry::{self, BackendPlugin};
use pcrm_core::{Backend, DType, Device, HostTensor, Tensor};

use crate::support::{check_close, check_norm};

/// A backend on a device, with the accuracy expected of it.
pub struct Subject {
    backend: Box<dyn Backend>,
    /// For example `tch, cuda:0`.
    pub title: String,
}

/// Forwards to the backend.
impl Backend for Subject {
    fn name(&self) -> &'static str {
        self.backend.name()
    }

    fn device(&self) -> Device {
        self.backend.device()
    }

    fn dtypes(&self) -> &'static [DType] {
        self.backend.dtypes()
    }

    fn upload(&self, host: &HostTensor, dtype: DType) -> pcrm_core::Result<Tensor> {
        self.backend.upload(host, dtype)
    }

    fn memory_in_use(&self) -> Option<u64> {
        self.backend.memory_in_use()
    }

    fn synchronize(&self) -> pcrm_core::Result<()> {
        self.backend.synchronize()
    }
}

impl Subject {
    /// Reports whether a row's bits must not depend on the rest of the batch. A GPU library chooses the order
    /// of its sums by the shape of the batch, so only CPUs promise this.
    pub fn exact(&self) -> bool {
        self.device() == Device::Cpu
    }

    /// Adapts a tolerance chosen on a CPU to this device; a tolerance of 0 stays 0.
    pub fn tolerance(&self, of_cpu: f64) -> f64 {
        if self.exact() || of_cpu == 0.0 { of_cpu } else { (4.0 * of_cpu).max(1e-5) }
    }

    /// Fails unless |got − want| ≤ tolerance·(1 + |want|) everywhere, with this device's tolerance.
    pub fn check_close(&self, what: &str, got: &[f32], want: &[f32], tolerance: f32) -> Result<()> {
        check_close(what, got, want, self.tolerance(f64::from(tolerance)) as f32)
    }

    /// Fails unless ‖got − want‖ ≤ tolerance·(‖want‖ + 0.1), with this device's tolerance.
    pub fn check_norm(&self, what: &str, got: &[f32], want: &[f32], tolerance: f64) -> Result<()> {
        check_norm(what, got, want, self.tolerance(tolerance))
    }

    /// Fails unless both have the same bits, or nearly the same values on devices that promise no bits.
    pub fn check_same(&self, what: &str, got: &[f32], want: &[f32]) -> Result<()> {
        if !self.exact() {
            return check_close(what, got, want, 1e-5);
        }
        ensure!(got.len() == want.len(), "{what}: {} elements, expected {}", got.len(), want.len());
        let other = got.iter().zip(want).position(|(got, want)| got.to_bits() != want.to_bits());
        ensure!(other.is_none(), "{what}: the bits differ, first at {other:?}");
        Ok(())
    }
}

/// Returns every registered backend on the CPU, and on the first GPU if it opens there.
pub fn subjects() -> Result<Vec<Subject>> {
    let mut subjects = Vec::new();
    for plugin in registry::all::<BackendPlugin>() {
        for device in [Device::Cpu, Device::Cuda(0)] {
            let title = format!("{}, {device}", plugin.name);
            match (plugin.open)(device.into()) {
                Ok(backend) => subjects.push(Subject { backend, title }),
                Err(error) if device == Device::Cpu => return Err(error).context(title),
                Err(error) => println!("not on {title}: {error}"),
            }
        }
    }
    ensure!(!subjects.is_empty(), "no backend is linked");
    Ok(subjects)
}

/// Runs a check on every backend and device.
pub fn every_backend(check: impl Fn(&Subject) -> Result<()>) -> Result<()> {
    for subject in subjects()? {
        println!("on {}", subject.title);
        check(&subject).with_context(|| format!("on {}", subject.title))?;
    }
    Ok(())
}

/// Runs a check on every backend and device with bf16, and prints a note for the others.
pub fn every_backend_with_bf16(check: impl Fn(&Subject) -> Result<()>) -> Result<()> {
    for subject in subjects()? {
        if !subject.dtypes().contains(&DType::BF16) {
            println!("nothing checked: {} has no bf16", subject.title);
            continue;
        }
        println!("bf16 on {}", subject.title);
        check(&subject).with_context(|| format!("bf16 on {}", subject.title))?;
    }
    Ok(())
}

/// Computes something on every subject, and compares any two of the results.
pub fn across<T>(
    make: impl Fn(&Subject) -> Result<T>,
    compare: impl Fn([&Subject; 2], [&T; 2]) -> Result<()>,
) -> Result<()> {
    let subjects = subjects()?;
    if let [only] = subjects.as_slice() {
        println!("nothing checked: {} is the only backend and device", only.title);
        return Ok(());
    }
    let made = subjects
        .iter()
        .map(|subject| make(subject).with_context(|| format!("on {}", subject.title)))
        .collect::<Result<Vec<T>>>()?;
    for (at, one) in subjects.iter().enumerate() {
        for (other, theirs) in subjects.iter().zip(&made).take(at) {
            println!("{} against {}", one.title, other.title);
            compare([one, other], [&made[at], theirs])
                .with_context(|| format!("{} against {}", one.title, other.title))?;
        }
    }
    Ok(())
}
