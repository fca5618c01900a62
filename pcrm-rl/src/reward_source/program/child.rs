//! A child process with a line protocol, and limits on time and line length.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use pcrm_core::text::visible_line;

use super::group::ProcessGroup;

/// The environment variable that asks a process of `pcrm` itself to stop when its input ends. Programs do not
/// inherit it.
pub const STOPS_WITH_INPUT: &str = "PCRM_STOP_WITH_INPUT_OF";

/// The maximum length of a line.
const LINE: u64 = 64 << 20;
/// The number of lines of standard error shown in an error.
const TAIL: usize = 20;
/// The maximum number of bytes of standard error written to a file.
const LOG: u64 = 64 << 20;
/// The time for a process to exit after its standard input or output is closed, and for the last lines of its
/// standard error to be read after it failed.
const GRACE: Duration = Duration::from_secs(10);
/// The time after which a wait looks at its stop flag again.
const POLL: Duration = Duration::from_millis(50);
/// The additional time to read the last lines of standard error of a process that is dropped.
const LAST: Duration = Duration::from_secs(2);

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

/// A running process. Dropping it closes its standard input, waits for its end, and kills the process and its
/// descendants if they do not end.
pub struct Child {
    group: ProcessGroup,
    /// Lines to write; `None` once standard input is to be closed.
    to: Option<Sender<String>>,
    from: Receiver<io::Result<String>>,
    errors: Arc<Mutex<Errors>>,
    /// The time when standard input was closed.
    closed: Option<Instant>,
}

/// The end of standard error.
#[derive(Default)]
struct Errors {
    tail: VecDeque<String>,
    ended: bool,
}

impl Child {
    /// Starts a process.
    ///
    /// # Errors
    /// Fails with the error of the operating system.
    pub fn start(mut command: Command, log: Option<&Path>) -> io::Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // The input is for the program, and not for a pcrm that it may start.
        command.env_remove(STOPS_WITH_INPUT);
        let log = log.map(|path| File::options().create(true).append(true).open(path)).transpose()?;
        let mut group = ProcessGroup::start(command)?;
        let (to, lines) = mpsc::channel::<String>();
        let (found, from) = mpsc::channel();
        let errors = Arc::new(Mutex::new(Errors::default()));
        if let Some((stdin, stdout, stderr)) = group.pipes() {
            let errors = Arc::clone(&errors);
            thread::spawn(move || write(stdin, &lines));
            thread::spawn(move || read(stdout, &found));
            thread::spawn(move || keep(stderr, log, &errors));
        }
        Ok(Self { group, to: Some(to), from, errors, closed: None })
    }

    /// Closes standard input, which asks the process to exit. Processes that are closed before the first of them is
    /// dropped share one time limit.
    pub fn close(&mut self) {
        self.to = None;
        self.closed.get_or_insert_with(Instant::now);
    }

    /// Writes a line and reads the reply.
    pub fn exchange(&mut self, line: &str, timeout: Duration) -> Result<String, Failure> {
        // If the writer is gone, so is the process; the reader detects this.
        self.to.as_ref().map(|to| to.send(format!("{line}\n")));
        self.line(timeout, "answer")
    }

    /// Reads a line; `what` completes the message "it did not …" on a time-out. The process is gone after a
    /// failure.
    pub fn line(&mut self, timeout: Duration, what: &str) -> Result<String, Failure> {
        let received = self.from.recv_timeout(timeout);
        self.outcome(received, timeout, what)
    }

    /// Writes a line and reads the reply; `None` once `stop` is set.
    pub fn exchange_unless(
        &mut self,
        stop: &AtomicBool,
        line: &str,
        timeout: Duration,
    ) -> Result<Option<String>, Failure> {
        self.to.as_ref().map(|to| to.send(format!("{line}\n")));
        self.line_unless(stop, timeout, "answer")
    }

    /// Reads a line as [`Child::line`] does; `None` once `stop` is set.
    pub fn line_unless(
        &mut self,
        stop: &AtomicBool,
        timeout: Duration,
        what: &str,
    ) -> Result<Option<String>, Failure> {
        let begun = Instant::now();
        loop {
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let left = timeout.saturating_sub(begun.elapsed());
            match self.from.recv_timeout(left.min(POLL)) {
                Err(RecvTimeoutError::Timeout) if left > POLL => {}
                received => return self.outcome(received, timeout, what).map(Some),
            }
        }
    }

    fn outcome(
        &mut self,
        received: Result<io::Result<String>, RecvTimeoutError>,
        timeout: Duration,
        what: &str,
    ) -> Result<String, Failure> {
        match received {
            Ok(Ok(line)) => Ok(line),
            Ok(Err(error)) => {
                Err(Failure::Said(self.killed(&format!("its standard output cannot be read: {error}"))))
            }
            Err(RecvTimeoutError::Timeout) => {
                let message = format!("it did not {what} within {} s", timeout.as_secs_f64());
                Err(Failure::Gone(self.killed(&message)))
            }
            Err(RecvTimeoutError::Disconnected) => {
                let end = match self.group.ends_by(Instant::now() + GRACE) {
                    true => self.reap(Instant::now() + GRACE),
                    false => "closed its standard output".to_owned(),
                };
                Err(Failure::Gone(self.killed(&format!("it {end} before it could {what}"))))
            }
        }
    }

    /// Kills the process, and appends the last lines of its standard error to a message.
    pub fn abandoned(mut self, message: String) -> String {
        self.killed(&message)
    }

    /// Kills the process unless it has ended, and appends the last lines of its standard error to a message.
    fn killed(&mut self, message: &str) -> String {
        // Its messages are complete only after it has ended.
        self.reap(Instant::now() + GRACE);
        let errors = self.errors();
        match errors.tail.is_empty() {
            true => message.to_owned(),
            false => {
                let lines: Vec<&str> = errors.tail.iter().map(String::as_str).collect();
                format!("{message}; the last lines of its standard error:\n  {}", lines.join("\n  "))
            }
        }
    }

    fn errors(&self) -> std::sync::MutexGuard<'_, Errors> {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Kills the process and its descendants, waits until all of its standard error is read, and describes how
    /// it ended.
    fn reap(&mut self, limit: Instant) -> String {
        let end = match self.group.end() {
            Some(Ok(status)) => format!("ended ({status})"),
            Some(Err(error)) => format!("ended ({error})"),
            None => return "ended".to_owned(),
        };
        // A process outside the group may hold standard error open forever.
        while Instant::now() < limit && !self.errors().ended {
            thread::sleep(Duration::from_millis(5));
        }
        end
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.close();
        let limit = self.closed.unwrap_or_else(Instant::now) + GRACE;
        self.group.ends_by(limit);
        self.reap(limit + LAST);
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
