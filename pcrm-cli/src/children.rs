//! Processes of this program that it starts itself, for `pcrm study` and `pcrm launch`. None outlives it: each stops
//! when its standard input ends, at the latest with this process, and running ones are ended before this process
//! exits at once.

use std::io;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::interrupt::PARENT;

/// The interval at which processes are polled.
const PAUSE: Duration = Duration::from_millis(20);
/// The time limit for processes to stop after their standard input is closed; they exit by themselves before it ends.
const STOPPING: Duration = Duration::from_secs(20);
/// The time limit for processes to exit after a signal, before they are killed, and to be gone after that.
const ENDING: Duration = Duration::from_secs(5);

type Shared = Arc<Mutex<Child>>;

/// The processes that are running.
static RUNNING: Mutex<Vec<Shared>> = Mutex::new(Vec::new());

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A process that this one started. Dropping it stops it.
#[derive(Debug)]
pub struct Started(Shared);

impl Started {
    /// Starts a command of this program, which stops when its standard input ends.
    ///
    /// # Errors
    /// Fails with the error of the operating system.
    pub fn new(command: &mut Command) -> io::Result<Self> {
        command.env(PARENT, std::process::id().to_string()).stdin(Stdio::piped());
        // Hold the lock, so that `end_all` cannot run between the start of this process and its registration.
        let mut running = locked(&RUNNING);
        let child = Arc::new(Mutex::new(command.spawn()?));
        running.push(Arc::clone(&child));
        Ok(Self(child))
    }

    /// Returns how the process ended, or `None` if it is running.
    ///
    /// # Errors
    /// Fails with the error of the operating system.
    pub fn ended(&self) -> io::Result<Option<ExitStatus>> {
        locked(&self.0).try_wait()
    }

    /// Asks the process to stop after the current step, however long that takes. On systems other than Unix it has only
    /// as long as a process whose parent is gone.
    pub fn interrupt(&self) {
        let mut child = locked(&self.0);
        if is_running(&mut child) {
            terminate(&mut child);
        }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        stop([&*self]);
        locked(&RUNNING).retain(|child| !Arc::ptr_eq(child, &self.0));
    }
}

/// Asks processes to stop, all at the same time, and returns when they are gone. Ends processes that do not stop in
/// time.
pub fn stop<'a>(processes: impl IntoIterator<Item = &'a Started>) {
    let children: Vec<&Shared> = processes.into_iter().map(|process| &process.0).collect();
    children.iter().for_each(|child| drop(locked(child).stdin.take()));
    let begun = Instant::now();
    while children.iter().any(|child| is_running(&mut locked(child))) && begun.elapsed() < STOPPING {
        thread::sleep(PAUSE);
    }
    end_each(&children);
}

/// Makes processes exit at once, with all that they started, and returns when they are gone.
pub fn end<'a>(processes: impl IntoIterator<Item = &'a Started>) {
    end_each(&processes.into_iter().map(|process| &process.0).collect::<Vec<_>>());
}

/// While this value lives, no process starts.
#[must_use = "processes start again once it is dropped"]
pub struct NoneStarts {
    _running: MutexGuard<'static, Vec<Shared>>,
}

/// Ends all processes, as [`end`] does. Call it right before this process exits.
pub fn end_all() -> NoneStarts {
    let running = locked(&RUNNING);
    end_each(&running.iter().collect::<Vec<_>>());
    NoneStarts { _running: running }
}

fn end_each(children: &[&Shared]) {
    // A process whose input has ended exits on the first signal, and otherwise on the second.
    children.iter().for_each(|child| drop(locked(child).stdin.take()));
    let begun = Instant::now();
    while begun.elapsed() < 2 * ENDING {
        let mut is_any_running = false;
        for child in children {
            let mut child = locked(child);
            if is_running(&mut child) {
                is_any_running = true;
                match begun.elapsed() < ENDING {
                    true => terminate(&mut child),
                    false => drop(child.kill()),
                }
            }
        }
        if !is_any_running {
            return;
        }
        thread::sleep(PAUSE);
    }
}

fn is_running(child: &mut Child) -> bool {
    matches!(child.try_wait(), Ok(None))
}

/// Sends a signal to a process that is not reaped.
#[cfg(unix)]
fn terminate(child: &mut Child) {
    use rustix::process::{Pid, Signal, kill_process};
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // A process that has just ended needs no signal.
        let _ = kill_process(pid, Signal::TERM);
    }
}

#[cfg(not(unix))]
fn terminate(child: &mut Child) {
    drop(child.stdin.take());
}

#[cfg(all(test, unix))]
mod tests {
    use std::path::Path;

    use super::*;

    /// Starts a shell script in a folder.
    fn script(dir: &Path, text: &str, name: &str) -> Started {
        Started::new(Command::new("sh").args(["-c", text, name]).current_dir(dir)).unwrap()
    }

    fn wait_for(path: &Path) {
        let begun = Instant::now();
        while !path.exists() {
            assert!(begun.elapsed() < Duration::from_secs(120), "{} does not come", path.display());
            thread::sleep(PAUSE);
        }
    }

    /// Protects: processes are asked to stop at the same time, and not one after the other: here, each stops once
    /// the others were asked too.
    #[test]
    fn processes_stop_together() {
        let dir = tempfile::tempdir().unwrap();
        let text = "cat; touch asked-$0; for other in a b c; do \
                    while [ ! -e asked-$other ]; do sleep 0.02; done; done; touch stopped-$0";
        let all = ["a", "b", "c"].map(|name| script(dir.path(), text, name));
        stop(&all);
        for name in ["a", "b", "c"] {
            assert!(dir.path().join(format!("stopped-{name}")).exists(), "{name} was killed");
        }
    }

    /// Protects: a process that reacts to a signal exits at once, and one that does not is killed.
    #[test]
    fn a_process_that_hears_no_signal_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let hears = "trap 'touch heard; exit 7' TERM; touch up-$0; while :; do sleep 0.02; done";
        let deaf = "trap '' TERM; touch up-$0; while :; do sleep 0.02; done";
        let both = [script(dir.path(), hears, "hears"), script(dir.path(), deaf, "deaf")];
        for name in ["up-hears", "up-deaf"] {
            wait_for(&dir.path().join(name));
        }
        end(&both);
        let codes = both.each_ref().map(|process| process.ended().unwrap().map(|status| status.code()));
        assert_eq!(codes, [Some(Some(7)), Some(None)]);
        assert!(dir.path().join("heard").exists());
    }
}
