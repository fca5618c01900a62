//! `pcrm launch`: starts the processes of a run on this machine.

use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::ops::Range;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::interrupt;
use crate::numbers::positive;
use crate::progress::{quiet, say};
use crate::usage::usage;

/// Options of `pcrm launch`.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct LaunchArgs {
    /// Start this many processes
    #[arg(short, long, value_name = "N", value_parser = positive::<usize>)]
    n: usize,
    /// Give every process this many threads [default: its share of the cores]
    #[arg(long, value_name = "N", value_parser = positive::<usize>)]
    threads: Option<usize>,
    /// The command and its options
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// The commands whose processes share one run. Any other would do its work once in each process.
const SHARING: [&str; 8] = ["reward", "sft", "dpo", "kto", "ppo", "rloo", "grpo", "online-dpo"];

const EXAMPLES: &str = "\
Examples:
  pcrm launch -n 2 -- reward --backend tch --model qwen2 --data train.jsonl --output runs/rm
  pcrm launch -n 8 -- grpo --backend tch --device cuda --dtype bf16 --config runs/policy.toml --output runs/policy

When one process fails, pcrm launch ends the others and exits with the code of the first that failed. Use
torchrun (--no-python) or srun to start processes on several machines.";

/// The ports to meet at. Systems give ports from 32768 on (Linux) or from 49152 on to connections and to listeners
/// that ask for any port.
const PORTS: Range<u16> = 20_000..32_000;
/// The number of ports to try.
const TRIES: usize = 100;

/// The time that processes have to end by themselves after one has failed.
const GRACE: Duration = Duration::from_secs(15);

/// Starts the processes, waits for them, and returns the exit code.
///
/// # Errors
/// Fails with a usage error if processes of the command do not share a run, and if the processes cannot be
/// started.
pub fn run(args: &LaunchArgs) -> Result<u8> {
    usage(check(&args.command))?;
    let stop = interrupt::flag()?;
    let mut group = Group { children: Vec::new() };
    let port = free_port()?;
    for rank in 0..args.n {
        let child = command(args, rank, port)?.spawn().context("pcrm launch")?;
        group.children.push(Process { rank, child, status: None });
    }
    let (mut stopped, mut failure) = (false, None::<(u8, Instant)>);
    while group.poll()? {
        if stop.load(Ordering::Relaxed) && !stopped {
            stopped = true;
            group.signal(Signal::Stop);
        }
        if let (None, Some(failed)) = (&failure, group.failed()) {
            let (rank, status) = failed;
            if !stopped {
                say(&format!("rank {rank} {}; ending the others", how(status)));
            }
            failure = Some((code(status), Instant::now()));
        }
        if failure.is_some_and(|(_, since)| since.elapsed() > GRACE) {
            group.signal(Signal::Kill);
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(failure.map(|(code, _)| code).or(group.failed().map(|(_, status)| code(status))).unwrap_or(0))
}

/// Refuses commands whose processes do not share a run.
fn check(command: &[String]) -> Result<()> {
    let verb = command.iter().find(|word| !word.starts_with('-')).map_or("", String::as_str);
    ensure!(
        SHARING.contains(&verb),
        "{verb:?}: several processes cannot share it; expected {}",
        SHARING.join(", ")
    );
    Ok(())
}

/// Returns the command of a rank, with the environment that torchrun would set.
fn command(args: &LaunchArgs, rank: usize, port: u16) -> Result<Command> {
    let (n, cores) = (args.n, thread::available_parallelism().map_or(1, usize::from));
    let mut command = Command::new(std::env::current_exe().context("pcrm launch")?);
    command.args(quiet().then_some("--quiet")).args(&args.command);
    for (name, value) in [("RANK", rank), ("LOCAL_RANK", rank), ("WORLD_SIZE", n), ("LOCAL_WORLD_SIZE", n)] {
        command.env(name, value.to_string());
    }
    command.env("MASTER_ADDR", "127.0.0.1").env("MASTER_PORT", port.to_string());
    for name in ["TORCHELASTIC_USE_AGENT_STORE", "TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT"] {
        command.env_remove(name);
    }
    let threads = args.threads.unwrap_or((cores / n).max(1)).to_string();
    for name in ["OMP_NUM_THREADS", "RAYON_NUM_THREADS"] {
        if args.threads.is_some() || std::env::var_os(name).is_none() {
            command.env(name, &threads);
        }
    }
    // A process stops when its standard input closes, so none outlives this one.
    command.env(interrupt::PARENT, std::process::id().to_string()).stdin(Stdio::piped());
    #[cfg(unix)]
    {
        // The terminal's signals reach only this process, which forwards each of them once.
        use std::os::unix::process::CommandExt;
        command.process_group(0);
    }
    Ok(command)
}

struct Group {
    children: Vec<Process>,
}

struct Process {
    rank: usize,
    child: Child,
    status: Option<ExitStatus>,
}

#[derive(Clone, Copy)]
enum Signal {
    Stop,
    Kill,
}

impl Group {
    /// Checks the processes, and returns true while any runs.
    fn poll(&mut self) -> Result<bool> {
        for process in self.children.iter_mut().filter(|process| process.status.is_none()) {
            process.status = process.child.try_wait().context("pcrm launch")?;
        }
        Ok(self.children.iter().any(|process| process.status.is_none()))
    }

    fn failed(&self) -> Option<(usize, ExitStatus)> {
        let ended = self.children.iter().filter_map(|process| Some((process.rank, process.status?)));
        ended.into_iter().find(|(_, status)| !status.success())
    }

    fn signal(&mut self, signal: Signal) {
        for process in self.children.iter_mut().filter(|process| process.status.is_none()) {
            match signal {
                Signal::Kill => drop(process.child.kill()),
                Signal::Stop => process.stop(),
            }
        }
    }
}

impl Process {
    /// Asks the process to end after the current step.
    fn stop(&mut self) {
        #[cfg(unix)]
        {
            use rustix::process::{Pid, Signal, kill_process};
            let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
            if let Some(pid) = pid {
                // A process that has just ended needs no signal.
                let _ = kill_process(pid, Signal::TERM);
            }
        }
        #[cfg(not(unix))]
        drop(self.child.stdin.take());
    }
}

/// Returns a port that is free now, and that the system gives to nobody before rank 0 listens on it.
fn free_port() -> Result<u16> {
    let random = RandomState::new();
    let mut ports = (0..TRIES).map(|at| PORTS.start + (random.hash_one(at) % PORTS.len() as u64) as u16);
    // As the store of keys listens: on all addresses.
    let is_free = |port: &u16| {
        let all: [SocketAddr; 2] =
            [(Ipv6Addr::UNSPECIFIED, *port).into(), (Ipv4Addr::UNSPECIFIED, *port).into()];
        TcpListener::bind(&all[..]).is_ok()
    };
    ports.find(is_free).with_context(|| {
        format!(
            "no free port for the processes to meet: {TRIES} from {} to {} are in use",
            PORTS.start, PORTS.end
        )
    })
}

/// Describes the end of a process in words.
fn how(status: ExitStatus) -> String {
    match status.code() {
        Some(code) => format!("ended with exit code {code}"),
        None => format!("was killed ({status})"),
    }
}

/// Returns the exit code as a shell reports it: 128 + the signal for a process that was killed.
fn code(status: ExitStatus) -> u8 {
    #[cfg(unix)]
    let signal = std::os::unix::process::ExitStatusExt::signal(&status).map(|signal| 128 + signal);
    #[cfg(not(unix))]
    let signal = None::<i32>;
    u8::try_from(status.code().or(signal).unwrap_or(1)).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: between its choice and its use, no connection and no other listener gets the port.
    #[test]
    fn ports_are_none_that_the_system_gives_away() {
        for _ in 0..20 {
            let port = free_port().unwrap();
            assert!(PORTS.contains(&port) && PORTS.end <= 32_768, "{port}");
        }
    }
}
