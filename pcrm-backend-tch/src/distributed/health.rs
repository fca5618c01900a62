//! Liveness of the processes. Each process increments a counter in the store and writes its reason before it
//! ends, so a process whose operation failed can name the one that caused it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use pcrm_core::Error;
use pcrm_core::collective::Meeting;

use super::c10d::{Failed, Part, Store};

/// Time between two increments of a process's counter.
const BEAT: Duration = Duration::from_millis(500);
/// A process whose counter does not change for this long is gone or stopped.
const SILENCE: Duration = Duration::from_millis(3000);
/// The longest time that the process that serves the store waits for the others to read why it ends.
const HEARING: Duration = Duration::from_secs(5);

/// The state of all processes, as the store records it.
#[derive(Debug)]
pub(super) struct Health {
    meeting: Meeting,
    store: Store,
    ended: Arc<AtomicBool>,
    /// The ranks found to be gone.
    gone: Mutex<Vec<usize>>,
}

impl Health {
    /// Opens the store and starts the counter.
    pub fn begin(meeting: &Meeting, part: Part) -> Result<Self, Failed> {
        let Meeting { host, port, prefix, timeout, rank, .. } = meeting;
        let store = Store::open(host, *port, part, prefix, *timeout)?;
        // The counter has its own connection, because an operation on the other one may block.
        let counting = Store::open(host, *port, Part::Client, prefix, *timeout)?;
        let ended = Arc::new(AtomicBool::new(false));
        let (key, over) = (beat(*rank), Arc::clone(&ended));
        let count = move || {
            let mut count = 0u64;
            while !over.load(Ordering::Relaxed) && counting.set(&key, &count.to_string()).is_ok() {
                count += 1;
                thread::sleep(BEAT);
            }
        };
        thread::Builder::new().name("counting".into()).spawn(count).map_err(|error| error.to_string())?;
        Ok(Self { meeting: meeting.clone(), store, ended, gone: Mutex::default() })
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    fn others(&self) -> impl Iterator<Item = usize> {
        let own = self.meeting.rank;
        (0..self.meeting.world).filter(move |rank| *rank != own)
    }

    /// Returns the message for a group that did not form.
    pub fn absent(&self, message: &str) -> String {
        let never = |rank: &usize| matches!(self.store.get(&beat(*rank)), Ok(None));
        let absent: Vec<usize> = self.others().filter(never).collect();
        let within = self.meeting.timeout.as_secs();
        match absent.is_empty() {
            true => self.diagnosis(message),
            false => format!("{} did not come within {within} s: {message}", ranks(&absent)),
        }
    }

    /// Returns the error of a failed operation, with the process that caused it.
    pub fn blaming(&self, message: &str) -> Error {
        Error::Collective { message: self.diagnosis(message) }
    }

    /// Returns the message for a failed operation, with the process that caused it.
    pub fn diagnosis(&self, message: &str) -> String {
        let first_line = message.lines().next().unwrap_or_default();
        let found = self.blamed().unwrap_or_else(|_| {
            let Meeting { host, port, .. } = &self.meeting;
            format!("rank 0 is gone, or the process that serves the store of keys at {host}:{port}")
        });
        format!("{found} ({first_line})")
    }

    fn blamed(&self) -> Result<String, Failed> {
        let counts =
            || -> Result<Vec<_>, Failed> { self.others().map(|rank| self.store.get(&beat(rank))).collect() };
        let (begun, before) = (Instant::now(), counts()?);
        loop {
            for rank in self.others() {
                if let Some(reason) = self.store.get(&ending(rank))? {
                    return Ok(format!("rank {rank} ended: {reason}"));
                }
            }
            if begun.elapsed() > SILENCE {
                break;
            }
            thread::sleep(Duration::from_millis(100));
        }
        let now = counts()?;
        let counted = self.others().zip(before.iter().zip(&now));
        let silent: Vec<usize> =
            counted.filter(|(_, (before, now))| before == now).map(|(rank, _)| rank).collect();
        self.gone().extend(&silent);
        Ok(match silent.is_empty() {
            true => format!(
                "all ranks answer, and one of them did not come to this operation within {} s \
                 (--collective-timeout)",
                self.meeting.timeout.as_secs()
            ),
            false => format!("{} no longer answers: killed, stopped, or cut off", ranks(&silent)),
        })
    }

    fn gone(&self) -> MutexGuard<'_, Vec<usize>> {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the reason why this process ends to the store.
    pub fn ending(&self, reason: &str) {
        let _ = self.store.set(&ending(self.meeting.rank), reason.lines().next().unwrap_or_default());
        self.ended.store(true, Ordering::Relaxed);
    }

    /// If this process serves the store, waits until the others have ended, and so have read why this process ends.
    pub fn heard(&self) {
        let begun = Instant::now();
        let gone = self.gone().clone();
        let is_there = |rank: &usize| !gone.contains(rank);
        let has_ended = |rank: usize| !matches!(self.store.get(&ending(rank)), Ok(None));
        let unheard = || !self.others().filter(is_there).all(has_ended);
        while self.meeting.serves && begun.elapsed() < HEARING && unheard() {
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Health {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

fn beat(rank: usize) -> String {
    format!("beat/{rank}")
}

fn ending(rank: usize) -> String {
    format!("ended/{rank}")
}

fn ranks(ranks: &[usize]) -> String {
    let all: Vec<String> = ranks.iter().map(ToString::to_string).collect();
    format!("rank{} {}", if all.len() > 1 { "s" } else { "" }, all.join(", "))
}
