//! Processes of programs. Each leads a process group of its own, and none outlives this process: they are killed before
//! it exits at once ([`kill_programs`]), and on Unix a guard in each group kills it once this process is gone.

use std::io;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// A shell script that waits for the end of its input, gives the process `$0` ten seconds to end, and kills its own
/// process group.
#[cfg(unix)]
const GUARD: &str = "while read -r _; do :; done; \
                     for _ in 1 2 3 4 5 6 7 8 9 10; do kill -0 $0 || break; sleep 1; done; kill -KILL 0";

type Shared = Arc<Mutex<Child>>;

/// The processes that run, or that ended and are not reaped, so their ids belong to nobody else.
static RUNNING: Mutex<Vec<Shared>> = Mutex::new(Vec::new());

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// While this value lives, no program starts, and no thread learns that one has ended ([`kill_programs`]).
#[derive(Debug)]
#[must_use = "programs start again once it is dropped"]
pub struct NoPrograms {
    _running: MutexGuard<'static, Vec<Shared>>,
}

/// Kills all programs that this process has started as reward sources and judges, with their descendants. Call it right
/// before [`std::process::exit`], which runs no destructors.
pub fn kill_programs() -> NoPrograms {
    let running = locked(&RUNNING);
    running.iter().for_each(|process| kill(&mut locked(process)));
    NoPrograms { _running: running }
}

/// A process and its descendants.
pub(super) struct ProcessGroup {
    process: Shared,
    /// Waits in the group for the end of this process; `None` if there is no shell.
    #[cfg(unix)]
    guard: Option<Child>,
    is_reaped: bool,
}

impl ProcessGroup {
    /// Starts a process.
    ///
    /// # Errors
    /// Fails with the error of the operating system.
    pub fn start(mut command: Command) -> io::Result<Self> {
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        // Hold the lock, so that no other thread kills the programs before this one is registered.
        let mut running = locked(&RUNNING);
        let process = command.spawn()?;
        #[cfg(unix)]
        let guard = guard(process.id());
        let process = Arc::new(Mutex::new(process));
        running.push(Arc::clone(&process));
        Ok(Self {
            process,
            #[cfg(unix)]
            guard,
            is_reaped: false,
        })
    }

    /// Returns the pipes of the process, once.
    pub fn pipes(&mut self) -> Option<(ChildStdin, ChildStdout, ChildStderr)> {
        let mut process = locked(&self.process);
        Some((process.stdin.take()?, process.stdout.take()?, process.stderr.take()?))
    }

    /// Waits for the process to end; returns false if it is still running at `limit`.
    pub fn ends_by(&self, limit: Instant) -> bool {
        while !self.is_reaped && !has_ended(&mut locked(&self.process)) {
            if Instant::now() >= limit {
                return false;
            }
            thread::sleep(Duration::from_millis(5));
        }
        true
    }

    /// Kills the process and its descendants, and returns how it ended; `None` if it was killed before.
    pub fn end(&mut self) -> Option<io::Result<ExitStatus>> {
        if self.is_reaped {
            return None;
        }
        kill(&mut locked(&self.process));
        locked(&RUNNING).retain(|process| !Arc::ptr_eq(process, &self.process));
        self.is_reaped = true;
        let end = locked(&self.process).wait();
        #[cfg(unix)]
        if let Some(mut guard) = self.guard.take() {
            guard.kill().and_then(|()| guard.wait()).ok();
        }
        Some(end)
    }
}

/// Starts a process that joins a process group and kills it when this process is gone. (A parent-death signal on Linux
/// would reach only the leader, and would be sent as soon as the thread that started it ends.)
#[cfg(unix)]
fn guard(leader: u32) -> Option<Child> {
    use std::process::Stdio;
    let mut command = Command::new("sh");
    command.args(["-c", GUARD, &leader.to_string()]);
    // The guard's input ends with this process.
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    std::os::unix::process::CommandExt::process_group(&mut command, i32::try_from(leader).ok()?);
    command.spawn().ok()
}

/// Returns true if a process has ended. It stays a zombie, so that its id is not reused.
#[cfg(unix)]
fn has_ended(process: &mut Child) -> bool {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    let Some(pid) = pid(process) else { return true };
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    !matches!(waitid(WaitId::Pid(pid), options), Ok(None))
}

#[cfg(not(unix))]
fn has_ended(process: &mut Child) -> bool {
    !matches!(process.try_wait(), Ok(None))
}

/// Kills a process that is not reaped and, on Unix, its descendants.
fn kill(process: &mut Child) {
    #[cfg(unix)]
    if let Some(pid) = pid(process) {
        // An error means that the group is empty already.
        rustix::process::kill_process_group(pid, rustix::process::Signal::KILL).ok();
    }
    process.kill().ok();
}

#[cfg(unix)]
fn pid(process: &Child) -> Option<rustix::process::Pid> {
    i32::try_from(process.id()).ok().and_then(rustix::process::Pid::from_raw)
}
