//! NCCL: exchanges between GPUs that do not pass through the hosts' memory.
//!
//! No separate build is needed: its constructors are found by name in libtorch's CUDA part. Like every path of GPUs, it
//! is proved before it is used: the processes exchange known numbers, and use NCCL if all of them receive the right
//! ones.

use tch::{Device, Kind, Tensor as Torch};

use super::c10d::{Failed, Group, Store};
use pcrm_core::collective::Meeting;

/// The elements that the proof sends to each process: several NCCL chunks of a small message, and an odd number.
const PROOF: i64 = 4099;

/// Opens a group of all processes and proves it. `agree` gathers a text from every process, in rank order; all
/// processes return a group, or none does.
///
/// # Errors
/// Fails if `agree` does.
pub(super) fn opened<E>(
    meeting: &Meeting,
    store: &Store,
    device: Device,
    agree: impl Fn(&str) -> Result<Vec<String>, E>,
) -> Result<Option<Group>, E> {
    let Meeting { rank, world, timeout, .. } = *meeting;
    let opened = match device {
        Device::Cuda(_) => Group::join_nccl(store, rank, world, timeout),
        _ => Err(ON_CPU.to_owned()),
    };
    let ready = agree(opened.as_ref().err().map_or("", String::as_str))?;
    // A group that some processes cannot open would leave the others waiting.
    let Ok(mut group) =
        opened.map_err(drop).and_then(|group| if is_fine(&ready) { Ok(group) } else { Err(()) })
    else {
        warn(&ready);
        return Ok(None);
    };
    let proved = agree(&proof(&mut group, rank as i64, world as i64, device).err().unwrap_or_default())?;
    if is_fine(&proved) {
        return Ok(Some(group));
    }
    group.abort();
    warn(&proved);
    Ok(None)
}

/// The reason that a process on the CPU gives for not using NCCL.
const ON_CPU: &str = "it computes on the CPU";

fn is_fine(reasons: &[String]) -> bool {
    reasons.iter().all(String::is_empty)
}

/// Names the first process that cannot use NCCL, unless all compute on the CPU.
fn warn(reasons: &[String]) {
    let first = reasons.iter().enumerate().find(|(_, reason)| !reason.is_empty());
    if let Some((rank, reason)) = first.filter(|_| reasons.iter().any(|reason| reason != ON_CPU)) {
        let reason = reason.lines().next().unwrap_or_default();
        tracing::warn!(
            "no NCCL between the GPUs, so tensors pass through host memory; rank {rank}: {reason}"
        );
    }
}

/// Exchanges known numbers by each operation and compares what arrives.
fn proof(group: &mut Group, rank: i64, world: i64, device: Device) -> Result<(), Failed> {
    let on = |value: Torch| value.to_device(device);
    let part =
        |from: i64, to: i64| Torch::arange(PROOF, (Kind::Float, Device::Cpu)) + (from * world + to) as f64;
    let compare = |operation: &str, out: &Torch, expected: &[Torch]| {
        let equal = out.to_device(Device::Cpu).equal(&Torch::cat(expected, 0));
        if equal { Ok(()) } else { Err(format!("{operation} returns wrong numbers")) }
    };
    let (sent, received): (Vec<Torch>, Vec<Torch>) =
        (0..world).map(|other| (part(rank, other), part(other, rank))).unzip();
    let own = on(Torch::cat(&sent, 0));
    let mut out = own.zeros_like();
    group.all_to_all(&mut out, &own)?;
    compare("all_to_all", &out, &received)?;
    group.all_gather(&mut out, &on(part(rank, 0)))?;
    compare("all_gather", &out, &(0..world).map(|from| part(from, 0)).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::super::c10d::Part;
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(60);

    /// Serves a store at a free port, which another program may take before the store does.
    fn served() -> (Store, u16) {
        let serve = || {
            let port = std::net::TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?.port();
            Some((Store::open("127.0.0.1", port, Part::Server, "nccl-test", TIMEOUT).ok()?, port))
        };
        (0..5).find_map(|_| serve()).unwrap()
    }

    /// Protects: one process exchanges with itself on a GPU; without a GPU, NCCL's constructor says so, or there is no
    /// NCCL. NCCL's watchdog, which ends the whole process, is off before the constructor reads the environment.
    #[test]
    fn one_process_proves_nccl_or_says_why_there_is_none() {
        crate::library::prepare();
        let asked = std::env::var("TORCH_NCCL_BLOCKING_WAIT");
        match Group::join_nccl(&served().0, 0, 1, TIMEOUT) {
            Ok(mut group) => {
                proof(&mut group, 0, 1, Device::Cuda(0)).unwrap();
                group.abort();
            }
            Err(message) => {
                assert!(!tch::Cuda::is_available(), "{message}");
                let reasons = ["this libtorch has no NCCL", "only supported with GPUs"];
                assert!(reasons.iter().any(|reason| message.contains(reason)), "{message}");
            }
        }
        let blocking = std::env::var("TORCH_NCCL_BLOCKING_WAIT").unwrap();
        assert_eq!(blocking, asked.unwrap_or_else(|_| "1".to_owned()));
    }

    /// Protects: the proof accepts right exchanges, here Gloo's, between processes with different parts.
    #[test]
    fn right_exchanges_are_proved() {
        crate::library::prepare();
        let (store, port) = served();
        let join = move |store: &Store, rank| {
            let mut group = Group::join(store, rank, 2, "127.0.0.1", "", TIMEOUT).unwrap();
            proof(&mut group, rank as i64, 2, Device::Cpu)
        };
        let other = thread::spawn(move || {
            join(&Store::open("127.0.0.1", port, Part::Client, "nccl-test", TIMEOUT).unwrap(), 1)
        });
        assert_eq!(join(&store, 0), Ok(()));
        assert_eq!(other.join().unwrap(), Ok(()));
    }

    /// Protects: a process that cannot use NCCL keeps all from it, and an error of the agreement is passed on.
    #[test]
    fn a_process_without_a_gpu_keeps_all_from_nccl() {
        let (store, port) = served();
        let host = "127.0.0.1".to_owned();
        let (prefix, rank, world) = (String::new(), 0, 2);
        let meeting = Meeting { host, port, serves: true, prefix, rank, world, timeout: TIMEOUT };
        let asked = std::cell::RefCell::new(Vec::new());
        let agree = |own: &str| {
            asked.borrow_mut().push(own.to_owned());
            Ok::<_, Failed>(vec![own.to_owned(), String::new()])
        };
        assert!(opened(&meeting, &store, Device::Cpu, agree).unwrap().is_none());
        assert_eq!(asked.into_inner(), [ON_CPU]);
        let failing = |_: &str| Err("rank 1 is gone".to_owned());
        assert_eq!(opened(&meeting, &store, Device::Cpu, failing).err().as_deref(), Some("rank 1 is gone"));
    }
}
