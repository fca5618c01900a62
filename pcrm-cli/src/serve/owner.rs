//! The thread that owns the models: it computes one batch after another, and drops models that are replaced.

use std::collections::HashSet;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use anyhow::{Context, Result};
use tokio::sync::oneshot;

use super::metrics::Metrics;
use super::model::Model;
use super::queue::{BatchLimits, Queue, QueuedSequence, Waiting};
use super::refusal::{Refusal, RefusalKind};

/// Starts the thread. The receiver is notified when it ends, for whatever reason.
///
/// # Errors
/// Fails if the system cannot start a thread.
pub fn start(
    models: Vec<Arc<Model>>,
    queue: Arc<Queue>,
    metrics: Arc<Metrics>,
    limits: BatchLimits,
) -> Result<(JoinHandle<()>, oneshot::Receiver<()>)> {
    let (ended, ends) = oneshot::channel();
    let run = move || {
        let _end = End { queue: Arc::clone(&queue), ended: Some(ended) };
        models.into_iter().for_each(|model| begin(&model));
        while let Some(batch) = queue.next(limits) {
            compute(&batch, &metrics);
        }
    };
    let handle = thread::Builder::new().name("model".into()).spawn(run).context("the model's thread")?;
    Ok((handle, ends))
}

/// Refuses all waiting requests when the thread ends, even by a panic.
struct End {
    queue: Arc<Queue>,
    ended: Option<oneshot::Sender<()>>,
}

impl Drop for End {
    fn drop(&mut self) {
        self.queue.refuse_all(&Refusal::new(
            RefusalKind::Failed,
            "the model's thread ended; the server is stopping",
        ));
        if let Some(ended) = self.ended.take() {
            let _ = ended.send(());
        }
    }
}

/// Computes the score of one token. The first pass compiles a GPU's kernels, so that no request waits for them,
/// and gives the thread the GPU's context, which it needs to drop a model.
fn begin(model: &Model) {
    if let Err(error) = model.scores(&[&[0]]) {
        tracing::warn!("the first pass of {} failed: {error:#}", model.name);
    }
}

/// Computes a batch. If it fails, each sequence is computed on its own, so that one cannot harm the others.
fn compute(batch: &[QueuedSequence], metrics: &Metrics) {
    let requests = requests(batch);
    requests.iter().for_each(|request| request.begin());
    let begun = Instant::now();
    match pass(batch, metrics) {
        Ok(scores) => {
            requests.iter().for_each(|request| request.computed(begun.elapsed()));
            batch.iter().zip(scores).for_each(|(job, score)| give(job, score));
        }
        Err(error) if batch.len() > 1 => {
            tracing::warn!(
                "a batch of {} sequences failed; computing each on its own: {error:#}",
                batch.len()
            );
            for job in batch.chunks(1) {
                let begun = Instant::now();
                match pass(job, metrics) {
                    Ok(scores) => {
                        job[0].request.computed(begun.elapsed());
                        scores.into_iter().for_each(|score| give(&job[0], score));
                    }
                    Err(error) => fail(&job[0], &error),
                }
            }
        }
        Err(error) => batch.iter().for_each(|job| fail(job, &error)),
    }
}

fn pass(batch: &[QueuedSequence], metrics: &Metrics) -> Result<Vec<f32>> {
    let Some(first) = batch.first() else { return Ok(Vec::new()) };
    let sequences: Vec<&[u32]> = batch.iter().map(|job| &job.ids[..]).collect();
    let begun = Instant::now();
    let shared = first.model.scores(&sequences)?;
    let tokens: usize = sequences.iter().map(|ids| ids.len()).sum();
    metrics.batch(&first.model.name, &shared, tokens, begun.elapsed());
    Ok(shared.scores)
}

fn give(job: &QueuedSequence, score: f32) {
    match score.is_finite() {
        true => job.request.score(job.place, score),
        false => {
            let message = format!("the score is {score}: the model's weights are broken");
            job.request.refuse(&Refusal::new(RefusalKind::Failed, message));
        }
    }
}

fn fail(job: &QueuedSequence, error: &anyhow::Error) {
    tracing::error!("a sequence of {} tokens has no score: {error:#}", job.ids.len());
    job.request.refuse(&Refusal::new(RefusalKind::Failed, format!("the model failed: {error:#}")));
}

/// Returns the distinct requests of a batch.
fn requests(batch: &[QueuedSequence]) -> Vec<Arc<Waiting>> {
    let mut known = HashSet::new();
    let requests = batch.iter().map(|job| &job.request);
    requests.filter(|request| known.insert(Arc::as_ptr(request))).cloned().collect()
}
