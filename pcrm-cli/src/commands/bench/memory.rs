//! The peak memory of a benchmark, of its process and on the GPU.

use pcrm_core::Backend;
use serde::Serialize;

/// The memory in use before a benchmark.
pub(super) struct Memory {
    gpu: Option<u64>,
}

/// The most memory that a benchmark took, in MiB.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Peak {
    /// The resident memory of the process, if the system reports it.
    pub peak_rss_mib: Option<u64>,
    /// The memory of the GPU; `None` on a CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_gpu_mib: Option<u64>,
}

impl Memory {
    /// Reads the memory in use; call it after the backend is opened and before the model is loaded.
    pub fn of(backend: &dyn Backend) -> Self {
        Self { gpu: backend.memory_in_use() }
    }

    /// Returns the peak since then. Both backends keep the GPU memory that they free, so what is in use at the end is
    /// the most that was in use; what other programs allocated in the meantime is part of it.
    pub fn peak(&self, backend: &dyn Backend) -> Peak {
        let used = backend.memory_in_use().zip(self.gpu).map(|(now, before)| now.saturating_sub(before));
        Peak { peak_rss_mib: peak_rss(), peak_gpu_mib: used.map(|bytes| bytes >> 20) }
    }
}

impl Peak {
    /// Formats the peaks: "812 MiB", and on a GPU "812 MiB, 5120 MiB on the GPU".
    pub fn text(&self) -> String {
        let rss = self.peak_rss_mib.map_or("?".to_owned(), |mib| mib.to_string());
        match self.peak_gpu_mib {
            Some(gpu) => format!("{rss} MiB, {gpu} MiB on the GPU"),
            None => format!("{rss} MiB"),
        }
    }
}

/// Returns the peak resident memory of this process, if the system reports it.
fn peak_rss() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? / 1024)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use pcrm_core::{DType, Device, Error, HostTensor, Result, Tensor};

    use super::*;

    /// A device that reports its memory, in MiB.
    struct Reporting(Cell<Option<u64>>);

    impl Backend for Reporting {
        fn name(&self) -> &'static str {
            "reporting"
        }

        fn device(&self) -> Device {
            Device::Cuda(0)
        }

        fn dtypes(&self) -> &'static [DType] {
            &[]
        }

        fn upload(&self, _: &HostTensor, _: DType) -> Result<Tensor> {
            Err(Error::Unsupported("no tensors".to_owned()))
        }

        fn memory_in_use(&self) -> Option<u64> {
            self.0.get().map(|mib| mib << 20)
        }
    }

    /// Protects: memory of programs that ran before is not ours, and a device that reports nothing has no figure.
    #[test]
    fn memory_is_counted_from_the_start() {
        let device = Reporting(Cell::new(Some(500)));
        let memory = Memory::of(&device);
        device.0.set(Some(1700));
        let peak = memory.peak(&device);
        assert_eq!(peak.peak_gpu_mib, Some(1200));
        assert!(peak.text().ends_with("MiB, 1200 MiB on the GPU"));
        device.0.set(Some(400));
        assert_eq!(memory.peak(&device).peak_gpu_mib, Some(0));
        device.0.set(None);
        let peak = memory.peak(&device);
        assert_eq!(peak.peak_gpu_mib, None);
        assert!(!serde_json::to_string(&peak).unwrap().contains("gpu"));
    }
}
