//! A child process with a line protocol, and limits on time and line length.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use pcrm_core::text::visible_line;

/// The maximum length of a line.
const LINE: u64 = 64 << 20;
/// The number of lines of standard error shown in an error.
const TAIL: usize = 20;
/// The maximum number of bytes of standard error written to a file.
const LOG: u64 = 64 << 20;
/// The time for a process to exit after its standard input is closed.
const GRACE: Duration = Duration::from_secs(3);

/// The reason for a missing answer.
pub enum Failure {
    /// The process died or did not answer in time; a new one may succeed.
    Gone(String),
    /// The process gave an invalid answer that a new one would repeat.
    Said(String),
}

impl Failure {
    pub fn message(self) -> String {
        match self {
            Self::Gone(message) | Self::Said(message) => message,
        }
    }
}

/// A running process. Dropping it closes its standard input, waits briefly, and kills the process and its
/// descendants.
pub struct Child {
    process: std::process::Child,
    /// Lines to write; `None` once standard input is to be closed.
    to: Option<Sender<String>>,
    from: Receiver<io::Result<String>>,
    errors: Arc<Mutex<Errors>>,
    /// Time for the process to exit by itself.
    grace: Duration,
    /// True once the process was reaped, so that its id may belong to another process.
    forgotten: bool,
}

/// The end of standard error.
#[derive(Default)]
struct Errors {
    tail: VecDeque<String>,
    ended: bool,
}

impl Child {
    /// Starts a process in its own process group.
    ///
    /// # Errors
    /// Fails with the error of the operating system.
    pub fn start(mut command: Command, log: Option<&Path>) -> io::Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let log = log.map(|path| File::options().create(true).append(true).open(path)).transpose()?;
        let mut process = command.spawn()?;
        let (to, lines) = mpsc::channel::<String>();
        let (found, from) = mpsc::channel();
        let errors = Arc::new(Mutex::new(Errors::default()));
        if let (Some(stdin), Some(stdout), Some(stderr)) =
            (process.stdin.take(), process.stdout.take(), process.stderr.take())
        {
            let errors = Arc::clone(&errors);
            thread::spawn(move || write(stdin, &lines));
            thread::spawn(move || read(stdout, &found));
            thread::spawn(move || keep(stderr, log, &errors));
        }
        Ok(Self { process, to: Some(to), from, errors, grace: GRACE, forgotten: false })
    }

    /// Writes a line and reads the reply.
    pub fn exchange(&mut self, line: &str, timeout: Duration) -> Result<String, Failure> {
        // If the writer is gone, so is the process; the reader detects this.
        self.to.as_ref().map(|to| to.send(format!("{line}\n")));
        self.line(timeout, "answer")
    }

    /// Reads a line; `what` completes the message "it did not …" on a time-out.
    pub fn line(&mut self, timeout: Duration, what: &str) -> Result<String, Failure> {
        match self.from.recv_timeout(timeout) {
            Ok(Ok(line)) => Ok(line),
            Ok(Err(error)) => {
                self.grace = Duration::ZERO;
                Err(Failure::Said(self.with_errors(format!("its standard output cannot be read: {error}"))))
            }
            Err(RecvTimeoutError::Timeout) => {
                self.grace = Duration::ZERO;
                let message = format!("it did not {what} within {} s", timeout.as_secs_f64());
                Err(Failure::Gone(self.with_errors(message)))
            }
            Err(RecvTimeoutError::Disconnected) => {
                let end = self.end();
                Err(Failure::Gone(self.with_errors(format!("it {end} before it could {what}"))))
            }
        }
    }

    /// Appends the last lines of standard error to a message.
    fn with_errors(&self, message: String) -> String {
        // A process that has ended has written everything, but its last lines may not have been read yet.
        let until = Instant::now() + Duration::from_millis(300);
        while Instant::now() < until && !self.errors().ended {
            thread::sleep(Duration::from_millis(5));
        }
        let errors = self.errors();
        match errors.tail.is_empty() {
            true => message,
            false => {
                let lines: Vec<&str> = errors.tail.iter().map(String::as_str).collect();
                format!("{message}; the last lines of its standard error:\n  {}", lines.join("\n  "))
            }
        }
    }

    /// Kills the process, and appends the last lines of its standard error to a message.
    pub fn abandoned(mut self, message: String) -> String {
        self.grace = Duration::ZERO;
        self.with_errors(message)
    }

    fn errors(&self) -> std::sync::MutexGuard<'_, Errors> {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Describes how the process ended, after its standard output was closed.
    fn end(&mut self) -> String {
        let until = Instant::now() + Duration::from_millis(500);
        while Instant::now() < until && !self.has_ended() {
            thread::sleep(Duration::from_millis(5));
        }
        if !self.has_ended() {
            return "closed its standard output".to_owned();
        }
        self.kill();
        self.forgotten = true;
        match self.process.wait() {
            Ok(status) => format!("ended ({status})"),
            Err(error) => format!("ended ({error})"),
        }
    }

    /// Returns true if the process has ended. It stays a zombie, so that its id is not reused.
    #[cfg(unix)]
    fn has_ended(&mut self) -> bool {
        use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
        let Some(pid) = Pid::from_raw(self.process.id() as i32) else { return true };
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        !matches!(waitid(WaitId::Pid(pid), options), Ok(None))
    }

    #[cfg(not(unix))]
    fn has_ended(&mut self) -> bool {
        !matches!(self.process.try_wait(), Ok(None))
    }

    /// Kills the process and, on Unix, all its descendants.
    fn kill(&mut self) {
        #[cfg(unix)]
        if let Some(pid) = rustix::process::Pid::from_raw(self.process.id() as i32) {
            // An error means that the group is empty already.
            rustix::process::kill_process_group(pid, rustix::process::Signal::KILL).ok();
        }
        #[cfg(not(unix))]
        self.process.kill().ok();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.to = None;
        if self.forgotten {
            return;
        }
        let until = Instant::now() + self.grace;
        while Instant::now() < until && !self.has_ended() {
            thread::sleep(Duration::from_millis(10));
        }
        self.kill();
        self.process.wait().ok();
    }
}

fn write(mut stdin: ChildStdin, lines: &Receiver<String>) {
    for line in lines {
        if stdin.write_all(line.as_bytes()).and_then(|()| stdin.flush()).is_err() {
            return;
        }
    }
}

fn read(stdout: ChildStdout, found: &Sender<io::Result<String>>) {
    let mut stdout = BufReader::new(stdout);
    loop {
        let mut line = Vec::new();
        let read = match stdout.by_ref().take(LINE).read_until(b'\n', &mut line) {
            Ok(0) => return,
            Ok(_) if line.last() != Some(&b'\n') && line.len() as u64 >= LINE => {
                Err(io::Error::other(format!("a line of more than {} MiB", LINE >> 20)))
            }
            Ok(_) => String::from_utf8(line).map_err(|_| io::Error::other("a line that is not UTF-8")),
            Err(error) => Err(error),
        };
        let ends = read.is_err();
        if found.send(read.map(|line| line.trim_end_matches(['\n', '\r']).to_owned())).is_err() || ends {
            return;
        }
    }
}

/// Records standard error: the last lines for messages, all of it in a file.
fn keep(stderr: ChildStderr, mut log: Option<File>, errors: &Mutex<Errors>) {
    let mut stderr = BufReader::new(stderr);
    let mut written = 0;
    let mut line = Vec::new();
    loop {
        line.clear();
        // Limit the line length: a progress bar may have no line feeds.
        match stderr.by_ref().take(1 << 16).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => break,
            Ok(read) => written += read as u64,
        }
        let text = String::from_utf8_lossy(&line);
        let text = visible_line(text.trim_end());
        match &mut log {
            // Limit the log, so that a program cannot fill the disk.
            Some(file) if written <= LOG => drop(file.write_all(&line)),
            Some(_) => {}
            None => tracing::debug!("{text}"),
        }
        let mut errors = errors.lock().unwrap_or_else(PoisonError::into_inner);
        if errors.tail.len() == TAIL {
            errors.tail.pop_front();
        }
        errors.tail.push_back(text.into_owned());
    }
    errors.lock().unwrap_or_else(PoisonError::into_inner).ended = true;
}
