//! The queue between requests and the thread that owns the models.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pcrm_core::data::encode::common_prefix;
use tokio::sync::oneshot;

use super::model::Model;
use super::refusal::{Refusal, RefusalKind};
use super::retired::Retired;

/// A sequence waiting for its score.
pub struct QueuedSequence {
    pub model: Arc<Model>,
    pub ids: Arc<[u32]>,
    /// The index of the sequence in its request.
    pub place: usize,
    pub request: Arc<Waiting>,
}

/// A request waiting for its scores.
pub struct Waiting {
    pub queued: Instant,
    state: Mutex<State>,
}

struct State {
    scores: Vec<f32>,
    open: usize,
    /// The time from queueing to the first batch, and the computing time.
    timing: Timing,
    client: Option<oneshot::Sender<Result<Computed, Refusal>>>,
}

/// The waiting time of a request, and the duration of its batches.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Timing {
    pub waited: Option<Duration>,
    pub computing: Duration,
}

/// The scores of a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Computed {
    pub scores: Vec<f32>,
    pub timing: Timing,
}

impl Waiting {
    /// Returns a request of `count` sequences, and the receiver of its scores.
    pub fn new(count: usize) -> (Arc<Self>, oneshot::Receiver<Result<Computed, Refusal>>) {
        let (client, scores) = oneshot::channel();
        let state =
            State { scores: vec![0.0; count], open: count, timing: Timing::default(), client: Some(client) };
        (Arc::new(Self { queued: Instant::now(), state: Mutex::new(state) }), scores)
    }

    /// Returns true if the client is no longer waiting.
    pub fn is_gone(&self) -> bool {
        held(&self.state).client.as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    /// Records that the request's first batch begins.
    pub fn begin(&self) {
        held(&self.state).timing.waited.get_or_insert(self.queued.elapsed());
    }

    /// Stores the score of a sequence; the last one sends the answer.
    pub fn score(&self, place: usize, score: f32) {
        let mut state = held(&self.state);
        if let Some(slot) = state.scores.get_mut(place) {
            *slot = score;
            state.open -= 1;
        }
        if state.open == 0
            && let Some(client) = state.client.take()
        {
            let scores = std::mem::take(&mut state.scores);
            // The client may be gone.
            let _ = client.send(Ok(Computed { scores, timing: state.timing }));
        }
    }

    /// Adds the time of a batch.
    pub fn computed(&self, time: Duration) {
        held(&self.state).timing.computing += time;
    }

    /// Refuses the request.
    pub fn refuse(&self, refusal: &Refusal) {
        if let Some(client) = held(&self.state).client.take() {
            let _ = client.send(Err(refusal.clone()));
        }
    }
}

/// The limits of a batch.
#[derive(Debug, Clone, Copy)]
pub struct BatchLimits {
    /// The most tokens, with shared beginnings counted once.
    pub tokens: usize,
    /// The most sequences.
    pub sequences: usize,
    /// The longest time that a batch waits for more sequences; a full batch does not wait.
    pub wait: Duration,
}

/// Sequences in order of arrival.
#[derive(Default)]
pub struct Queue {
    jobs: Mutex<Jobs>,
    arrived: Condvar,
}

#[derive(Default)]
struct Jobs {
    waiting: VecDeque<QueuedSequence>,
    closed: bool,
    retired: Retired,
}

/// The fewest shared tokens that count, as in [`pcrm_rl::sharing`].
const LEAST_SHARED: usize = 16;

impl Queue {
    /// Adds the sequences of a request.
    ///
    /// # Errors
    /// Fails if the queue is closed.
    pub fn push(&self, jobs: Vec<QueuedSequence>) -> Result<(), Refusal> {
        let mut held = held(&self.jobs);
        if held.closed {
            return Err(Refusal::new(RefusalKind::Stopping, "the server is stopping"));
        }
        held.waiting.extend(jobs);
        self.arrived.notify_one();
        Ok(())
    }

    /// Returns the number of waiting sequences.
    pub fn len(&self) -> usize {
        held(&self.jobs).waiting.len()
    }

    /// Takes a model that a reload replaced: the thread that computes drops it when nothing else uses it.
    pub fn retire(&self, model: Arc<Model>) {
        held(&self.jobs).retired.add(model);
        self.arrived.notify_one();
    }

    /// Accepts no more sequences; waiting ones are still returned.
    pub fn close(&self) {
        held(&self.jobs).closed = true;
        self.arrived.notify_all();
    }

    /// Accepts no more sequences and refuses the waiting ones.
    pub fn refuse_all(&self, refusal: &Refusal) {
        let mut jobs = held(&self.jobs);
        jobs.closed = true;
        jobs.waiting.drain(..).for_each(|job| job.request.refuse(refusal));
    }

    /// Waits for the next batch: sequences of one model in order of arrival, without those whose client is
    /// gone. Returns `None` once the queue is closed and empty. Drops retired models.
    pub fn next(&self, limits: BatchLimits) -> Option<Vec<QueuedSequence>> {
        /// The interval at which an idle thread checks for unused retired models.
        const LOOK: Duration = Duration::from_millis(50);
        let mut jobs = held(&self.jobs);
        loop {
            let unused = jobs.retired.unused();
            if !unused.is_empty() {
                // Freeing a model takes time; requests may be queued meanwhile.
                drop(jobs);
                drop(unused);
                jobs = held(&self.jobs);
            }
            let has_waited = !jobs.waiting.is_empty();
            if has_waited {
                let may_grow = |jobs: &mut Jobs| !jobs.closed && jobs.waiting.len() < limits.sequences;
                let waited = self.arrived.wait_timeout_while(jobs, limits.wait, may_grow);
                jobs = waited.unwrap_or_else(PoisonError::into_inner).0;
                let batch = jobs.batch(limits);
                if !batch.is_empty() {
                    return Some(batch);
                }
                continue;
            }
            if jobs.closed {
                return None;
            }
            jobs = match jobs.retired.is_empty() {
                true => self.arrived.wait(jobs).unwrap_or_else(PoisonError::into_inner),
                false => self.arrived.wait_timeout(jobs, LOOK).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }
}

impl Jobs {
    fn batch(&mut self, limits: BatchLimits) -> Vec<QueuedSequence> {
        let mut batch: Vec<QueuedSequence> = Vec::new();
        let (mut seen, mut tokens) = (BTreeSet::new(), 0);
        let mut others = Vec::new();
        while batch.len() < limits.sequences {
            let Some(job) = self.waiting.pop_front() else { break };
            if job.request.is_gone() {
                continue;
            }
            if batch.first().is_some_and(|first| !Arc::ptr_eq(&first.model, &job.model)) {
                others.push(job);
                continue;
            }
            let new = new_tokens(&seen, &job.ids);
            if !batch.is_empty() && tokens + new > limits.tokens {
                self.waiting.push_front(job);
                break;
            }
            tokens += new;
            seen.insert(job.ids.clone());
            batch.push(job);
        }
        others.into_iter().rev().for_each(|job| self.waiting.push_front(job));
        batch
    }
}

/// Counts the tokens of a sequence beyond what it shares with sequences of the batch.
fn new_tokens(seen: &BTreeSet<Arc<[u32]>>, ids: &Arc<[u32]>) -> usize {
    if seen.contains(ids) {
        return 0;
    }
    let before = seen.range::<[u32], _>((Bound::Unbounded, Bound::Excluded(&ids[..]))).next_back();
    let behind = seen.range::<[u32], _>((Bound::Excluded(&ids[..]), Bound::Unbounded)).next();
    let shared = before.into_iter().chain(behind).map(|other| common_prefix(other, ids)).max().unwrap_or(0);
    ids.len() - if shared >= LEAST_SHARED { shared } else { 0 }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
