//! `pcrm launch`: starts the processes of a run on this machine.

use std::net::{Ipv4Addr, TcpListener};
use std::process::{Command, ExitStatus};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use pcrm_core::collective::STORE_SOCKET;

use crate::children::{self, Started};
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

When one process fails, pcrm launch ends the others and exits with the code of the first that failed. Use \
torchrun (--no-python) or srun to start processes on several machines.";

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
    let mut group = Group { processes: Vec::new() };
    let socket = Socket::open()?;
    for rank in 0..args.n {
        let mut command = command(args, rank, socket.port)?;
        let started = match rank {
            0 if args.n > 1 => socket.given(&mut command),
            _ => Started::new(&mut command).context("pcrm launch"),
        }?;
        group.processes.push(Process { rank, started, status: None });
    }
    // Now only rank 0 has the socket, so those that wait for rank 0 notice its end.
    drop(socket);
    let (mut stopped, mut failure) = (false, None::<(u8, Instant)>);
    while group.poll()? {
        if stop.load(Ordering::Relaxed) && !stopped {
            stopped = true;
            group.processes.iter().for_each(|process| process.started.interrupt());
        }
        if let (None, Some(failed)) = (&failure, group.failed()) {
            let (rank, status) = failed;
            if !stopped {
                say(&format!("rank {rank} {}; ending the others", how(status)));
            }
            failure = Some((code(status), Instant::now()));
        }
        if failure.is_some_and(|(_, since)| since.elapsed() > GRACE) {
            children::end(group.started());
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
    for name in
        ["TORCHELASTIC_USE_AGENT_STORE", "TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", STORE_SOCKET]
    {
        command.env_remove(name);
    }
    let threads = args.threads.unwrap_or((cores / n).max(1)).to_string();
    for name in ["OMP_NUM_THREADS", "RAYON_NUM_THREADS"] {
        if args.threads.is_some() || std::env::var_os(name).is_none() {
            command.env(name, &threads);
        }
    }
    #[cfg(unix)]
    {
        // The terminal's signals reach only this process, which forwards each of them once.
        use std::os::unix::process::CommandExt;
        command.process_group(0);
    }
    Ok(command)
}

/// The processes. Dropping them stops them together.
struct Group {
    processes: Vec<Process>,
}

struct Process {
    rank: usize,
    started: Started,
    status: Option<ExitStatus>,
}

impl Group {
    fn started(&self) -> impl Iterator<Item = &Started> {
        self.processes.iter().map(|process| &process.started)
    }

    /// Checks the processes, and returns true while any runs.
    fn poll(&mut self) -> Result<bool> {
        for process in self.processes.iter_mut().filter(|process| process.status.is_none()) {
            process.status = process.started.ended().context("pcrm launch")?;
        }
        Ok(self.processes.iter().any(|process| process.status.is_none()))
    }

    fn failed(&self) -> Option<(usize, ExitStatus)> {
        let ended = self.processes.iter().filter_map(|process| Some((process.rank, process.status?)));
        ended.into_iter().find(|(_, status)| !status.success())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        children::stop(self.started());
    }
}

/// The socket where the processes meet. On Unix, rank 0 inherits it and serves the store on it, so no other program can
/// take the port before rank 0 listens.
struct Socket {
    listener: TcpListener,
    port: u16,
}

impl Socket {
    fn open() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let listener = listener.context("no port for the processes to meet")?;
        let port = listener.local_addr().context("no port for the processes to meet")?.port();
        Ok(Self { listener, port })
    }

    /// Starts a process that inherits the socket.
    #[cfg(unix)]
    fn given(&self, command: &mut Command) -> Result<Started> {
        use std::os::fd::AsRawFd as _;

        use rustix::io::{FdFlags, fcntl_setfd};

        command.env(STORE_SOCKET, self.listener.as_raw_fd().to_string());
        fcntl_setfd(&self.listener, FdFlags::empty()).context("pcrm launch")?;
        let started = Started::new(command).context("pcrm launch");
        // No other process inherits it.
        fcntl_setfd(&self.listener, FdFlags::CLOEXEC).context("pcrm launch")?;
        started
    }

    /// Starts a process, which listens on the port by itself.
    #[cfg(not(unix))]
    fn given(&self, command: &mut Command) -> Result<Started> {
        Started::new(command).context("pcrm launch")
    }
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

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::TcpStream;

    use super::*;

    /// Protects: no other program gets the port between its choice and its use: the socket listens from the start,
    /// rank 0 inherits it, and it is closed in all other processes.
    #[test]
    fn the_port_belongs_to_rank_0_from_the_start() {
        let socket = Socket::open().unwrap();
        assert!(TcpListener::bind((Ipv4Addr::LOCALHOST, socket.port)).is_err());
        let is_socket = |number: &str| format!("[ -S /proc/self/fd/{number} ]; echo $? > $0; read -r end");
        let (dir, fd) = (tempfile::tempdir().unwrap(), std::os::fd::AsRawFd::as_raw_fd(&socket.listener));
        let (first, second) = (dir.path().join("first"), dir.path().join("second"));
        let mut command = Command::new("sh");
        command.args(["-c", &is_socket(&format!("${STORE_SOCKET}"))]).arg(&first);
        let rank_0 = socket.given(&mut command).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", &is_socket(&fd.to_string())]).arg(&second);
        let rank_1 = Started::new(&mut command).unwrap();
        let said = |path: &std::path::Path| {
            let begun = Instant::now();
            loop {
                match std::fs::read_to_string(path) {
                    Ok(text) if text.ends_with('\n') => return text,
                    _ => assert!(
                        begun.elapsed() < Duration::from_secs(120),
                        "{} is not written",
                        path.display()
                    ),
                }
                thread::sleep(Duration::from_millis(20));
            }
        };
        assert_eq!((said(&first).as_str(), said(&second).as_str()), ("0\n", "1\n"));
        let port = socket.port;
        drop(socket);
        assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok(), "rank 0 does not hold the socket");
        children::stop([&rank_0, &rank_1]);
        // A process that another test starts at the wrong moment has the socket for as long as it lives.
        let begun = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
            assert!(begun.elapsed() < Duration::from_secs(120), "the socket outlives rank 0");
            thread::sleep(Duration::from_millis(20));
        }
    }
}
