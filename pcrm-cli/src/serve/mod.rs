//! The reward model server: HTTP, a queue, and one thread that owns the models.
//!
//! A request is parsed by its protocol (`protocol.rs`), tokenised by its model (`model.rs`) and queued
//! (`queue.rs`); the owner's thread (`owner.rs`) takes batches across requests. A protocol is a file of pure
//! functions, from a body to a [`ScoreRequest`](ask::ScoreRequest) and from scores to a body.

mod answer;
mod app;
mod ask;
mod body;
mod ending;
mod exposition;
mod fields;
mod listen;
mod metrics;
mod model;
mod models;
mod number;
mod openapi;
mod openrlhf;
mod owner;
mod protocol;
mod queue;
mod refusal;
mod response;
mod retired;
mod routes;
mod scores;
mod sglang;
mod signals;
mod tei;
mod tls;
mod token;
mod vllm;
mod vocabulary;

#[cfg(test)]
mod fuzzing;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::net::TcpListener;
use tokio::runtime::Builder;

pub use self::app::Rules;
pub use self::listen::Connections;
pub use self::model::{Close, Facts, Folder, Model};
pub use self::models::Load;
pub use self::protocol::Dialect;
pub use self::queue::BatchLimits;
pub use self::scores::Range;

use self::app::App;
use self::models::Models;
use self::queue::Queue;
use self::tls::Tls;
use self::token::AccessTokens;
use crate::progress::say;

/// The configuration of a server.
pub struct Setup {
    pub address: SocketAddr,
    /// The names and folders of the models.
    pub names: Vec<(String, PathBuf)>,
    pub load: Load,
    pub tokens: Vec<String>,
    pub rules: Rules,
    pub batches: BatchLimits,
    pub connections: Connections,
    /// The files of a certificate and its key.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Facts for `/info` and the metrics.
    pub about: Vec<(&'static str, String)>,
}

/// Loads the models and serves them until a signal stops the server.
///
/// # Errors
/// Fails if a model does not load, the address cannot be used, or the model's thread ends.
pub fn run(setup: Setup) -> Result<()> {
    let tls =
        setup.tls.as_ref().map(|(certificate, key)| Tls::open(certificate, key)).transpose()?.map(Arc::new);
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let runtime = Builder::new_multi_thread()
        .worker_threads(cores.min(4))
        // Blocking threads parse and tokenise requests, and load models.
        .max_blocking_threads(cores + 1)
        .enable_all()
        .build()
        .context("the server's threads")?;
    // Binds before the models load, which takes long: the address may be in use.
    let listener = runtime.block_on(TcpListener::bind(setup.address));
    let listener =
        listener.with_context(|| format!("--host and --port: cannot listen on {}", setup.address))?;
    let address = listener.local_addr().context("the address of the server")?;
    let (queue, metrics) = (Arc::new(Queue::default()), Arc::default());
    let models = Models::load(&setup.names, setup.load, Arc::clone(&queue))?;
    say_ranges(&models);
    let (owner, ended) = owner::start(models.all(), Arc::clone(&queue), Arc::clone(&metrics), setup.batches)?;
    let mut app =
        App::new(models, Arc::clone(&queue), metrics, AccessTokens::new(&setup.tokens), setup.rules);
    app.about = setup.about;
    let app = Arc::new(app);
    let router = routes::router(Arc::clone(&app));
    let scheme = if tls.is_some() { "https" } else { "http" };
    let names: Vec<String> = app.models.all().iter().map(|model| model.name.clone()).collect();
    let drained = runtime.block_on(async {
        let stop = signals::until_stopped(Arc::clone(&app), tls.clone(), ended)?;
        say(&format!("serving {} on {scheme}://{address}", names.join(", ")));
        anyhow::Ok(listen::serve(listener, app, router, tls, setup.connections, stop).await)
    })?;
    let died = owner.is_finished();
    queue.close();
    runtime.shutdown_timeout(Duration::from_secs(1));
    if died || owner.join().is_err() {
        bail!("the model's thread ended and waiting requests were refused; the reason is logged above");
    }
    match drained {
        true => say("all requests are answered; the server has stopped"),
        false => say("the time limit for stopping (--drain-timeout) is over; open connections were closed"),
    }
    Ok(())
}

/// Reports the range that each model's scores are compared with.
fn say_ranges(models: &Models) {
    for model in models.all() {
        match &model.range {
            Some(range) => say(&format!(
                "{}: scores in training were {:.3} to {:.3} ({}); /metrics reports the drift from them",
                model.name, range.low, range.high, range.source
            )),
            None => say(&format!(
                "{}: its folder records no range of scores in training (config.json, metrics.jsonl), so \
                 /metrics reports no drift; set a range with --range LOW HIGH",
                model.name
            )),
        }
    }
}
