//! The metrics of the server.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pcrm_rl::sharing::SharedScores;

use super::exposition::{Counters, Exposition, Histograms};
use super::model::Model;
use super::scores::Recent;

/// All counters and histograms.
pub struct Metrics {
    requests: Counters,
    refused: Counters,
    duration: Histograms,
    tokenization: Histograms,
    queueing: Histograms,
    inference: Histograms,
    tokens: Histograms,
    batch_duration: Histograms,
    batch_tokens: Histograms,
    batch_sequences: Histograms,
    computed_tokens: Counters,
    saved_tokens: Counters,
    score: Histograms,
    gone: Counters,
    reloads: Counters,
    recent: Mutex<BTreeMap<String, Arc<Recent>>>,
    /// The number of requests in flight.
    pub in_flight: AtomicUsize,
    /// The number of open connections.
    pub connections: AtomicUsize,
}

impl Default for Metrics {
    fn default() -> Self {
        // TEI's duration buckets, every third one: 1e-5 · 1.5^n.
        let seconds = || Histograms::new((0..35).step_by(3).map(|n| 1e-5 * 1.5f64.powi(n)).collect());
        let sizes = || Histograms::new((0..18).map(|n| f64::from(1 << n)).collect());
        let score = [-50.0, -20.0, -10.0, -5.0, -4.0, -3.0, -2.0, -1.5, -1.0, -0.5, -0.25, 0.0];
        let mirrored = score.iter().rev().skip(1).map(|bound: &f64| -bound);
        Self {
            requests: Counters::default(),
            refused: Counters::default(),
            duration: seconds(),
            tokenization: seconds(),
            queueing: seconds(),
            inference: seconds(),
            tokens: sizes(),
            batch_duration: seconds(),
            batch_tokens: sizes(),
            batch_sequences: sizes(),
            computed_tokens: Counters::default(),
            saved_tokens: Counters::default(),
            score: Histograms::new(score.iter().copied().chain(mirrored).collect()),
            gone: Counters::default(),
            reloads: Counters::default(),
            recent: Mutex::default(),
            in_flight: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
        }
    }
}

/// The durations of a request's phases.
#[derive(Debug, Clone, Copy, Default)]
pub struct Parts {
    pub tokenization: Duration,
    pub queueing: Duration,
    pub inference: Duration,
}

impl Metrics {
    /// Counts an answered or refused request.
    pub fn request(&self, path: &str, status: u16, time: Duration) {
        self.requests.add(&[path, &status.to_string()], 1.0);
        self.duration.observe(&[path], time.as_secs_f64());
    }

    /// Counts a refusal by its reason.
    pub fn refused(&self, reason: &str) {
        self.refused.add(&[reason], 1.0);
    }

    /// Counts a request whose client went away.
    pub fn gone(&self) {
        self.gone.add(&[], 1.0);
    }

    /// Counts a reload.
    pub fn reload(&self, model: &str, outcome: &str) {
        self.reloads.add(&[model, outcome], 1.0);
    }

    /// Records the scores of a request.
    pub fn scores(&self, model: &str, scores: &[f32], tokens: &[usize], parts: Parts) {
        self.tokenization.observe(&[], parts.tokenization.as_secs_f64());
        self.queueing.observe(&[], parts.queueing.as_secs_f64());
        self.inference.observe(&[], parts.inference.as_secs_f64());
        tokens.iter().for_each(|tokens| self.tokens.observe(&[], *tokens as f64));
        scores.iter().for_each(|score| self.score.observe(&[model], f64::from(*score)));
        self.recent(model).add(scores.iter().copied());
    }

    /// Records a batch of `tokens` tokens; fewer rows were computed, because prefixes are shared.
    pub fn batch(&self, model: &str, shared: &SharedScores, tokens: usize, time: Duration) {
        self.batch_duration.observe(&[], time.as_secs_f64());
        self.batch_tokens.observe(&[], shared.rows as f64);
        self.batch_sequences.observe(&[], shared.scores.len() as f64);
        self.computed_tokens.add(&[model], shared.rows as f64);
        self.saved_tokens.add(&[model], tokens.saturating_sub(shared.rows) as f64);
    }

    /// Returns the latest scores of a model.
    pub fn recent(&self, model: &str) -> Arc<Recent> {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        match recent.get(model) {
            Some(recent) => Arc::clone(recent),
            None => Arc::clone(recent.entry(model.to_owned()).or_default()),
        }
    }

    /// Writes all metrics.
    pub fn text(&self, models: &[Arc<Model>], queued: usize, about: &[(&str, &str)]) -> String {
        let mut out = Exposition::default();
        let names: Vec<&str> = about.iter().map(|(name, _)| *name).collect();
        let values = about.iter().map(|(_, value)| (*value).to_owned()).collect();
        out.gauge("pcrm_build_info", "The build, backend and device.", &names, &[(values, 1.0)]);
        out.counters("pcrm_requests_total", "Requests answered.", &["path", "status"], &self.requests);
        out.counters("pcrm_refusals_total", "Requests refused, by reason.", &["reason"], &self.refused);
        out.counters("pcrm_clients_gone_total", "Requests whose client went away.", &[], &self.gone);
        out.counters("pcrm_reloads_total", "Reloads of models.", &["model", "outcome"], &self.reloads);
        let now = |value: usize| [(Vec::new(), value as f64)];
        out.gauge("pcrm_queue_sequences", "Sequences waiting.", &[], &now(queued));
        let in_flight = self.in_flight.load(Ordering::Relaxed);
        out.gauge("pcrm_requests_in_flight", "Requests being answered.", &[], &now(in_flight));
        let connections = self.connections.load(Ordering::Relaxed);
        out.gauge("pcrm_connections", "Open connections.", &[], &now(connections));
        let path = &["path"];
        out.histograms("pcrm_request_duration_seconds", "Time of requests.", path, &self.duration);
        let none = &[];
        out.histograms(
            "pcrm_tokenization_duration_seconds",
            "Time of reading and tokenising.",
            none,
            &self.tokenization,
        );
        out.histograms(
            "pcrm_queue_duration_seconds",
            "Time before a request's first batch.",
            none,
            &self.queueing,
        );
        out.histograms(
            "pcrm_inference_duration_seconds",
            "Time of a request's batches.",
            none,
            &self.inference,
        );
        out.histograms("pcrm_sequence_tokens", "Tokens per sequence.", none, &self.tokens);
        out.histograms("pcrm_batch_duration_seconds", "Time of batches.", none, &self.batch_duration);
        out.histograms("pcrm_batch_tokens", "Tokens computed in a batch.", none, &self.batch_tokens);
        out.histograms("pcrm_batch_sequences", "Sequences per batch.", none, &self.batch_sequences);
        let model = &["model"];
        out.counters("pcrm_computed_tokens_total", "Tokens computed.", model, &self.computed_tokens);
        let help = "Tokens not computed, since another sequence of the batch begins with the same ones.";
        out.counters("pcrm_prefix_tokens_saved_total", help, model, &self.saved_tokens);
        out.histograms("pcrm_score", "Raw scores.", model, &self.score);
        self.drift(&mut out, models);
        out.into_text()
    }

    /// Writes the latest scores and the range of training.
    fn drift(&self, out: &mut Exposition, models: &[Arc<Model>]) {
        let all: Vec<_> = models
            .iter()
            .map(|model| (&model.name, self.recent(&model.name).summary(model.range.as_ref()), &model.range))
            .collect();
        let mut write = |name: &str, help: &str, of: &dyn Fn(usize) -> Option<f64>| {
            let samples = all.iter().enumerate();
            let samples: Vec<(Vec<String>, f64)> =
                samples.filter_map(|(at, (model, ..))| Some((vec![(*model).clone()], of(at)?))).collect();
            if !samples.is_empty() {
                out.gauge(name, help, &["model"], &samples);
            }
        };
        let range = |at: usize| all[at].2.as_ref();
        let recent = |at: usize| all[at].1;
        write("pcrm_score_training_low", "The lowest score in training.", &|at| {
            range(at).map(|range| range.low)
        });
        write("pcrm_score_training_mean", "The mean score in training.", &|at| range(at)?.mean);
        write("pcrm_score_training_high", "The highest score in training.", &|at| {
            range(at).map(|range| range.high)
        });
        write("pcrm_score_training_std", "The standard deviation of scores in training.", &|at| {
            range(at)?.deviation
        });
        write("pcrm_score_recent_mean", "The mean of the last 4096 scores.", &|at| Some(recent(at)?.mean));
        write("pcrm_score_recent_std", "The standard deviation of the last 4096 scores.", &|at| {
            Some(recent(at)?.deviation)
        });
        write(
            "pcrm_score_outside_ratio",
            "The share of the last 4096 scores outside the range of training.",
            &|at| recent(at)?.outside,
        );
        let help = "The mean of the last 4096 scores minus that of training, in standard deviations or half \
                    ranges of training.";
        write("pcrm_score_drift", help, &|at| recent(at)?.drift);
    }
}
