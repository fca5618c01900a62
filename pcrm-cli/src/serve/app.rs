//! The state shared by all requests, and the path of a request from its body to its scores.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::extract::{Query, Request as HttpRequest};
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_TYPE, ORIGIN};
use pcrm_core::data::surrogate;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;

use super::answer::{Named, ScoreAnswer};
use super::ask::{Side, TooLong};
use super::body::{Bytes, Held};
use super::metrics::{Metrics, Parts};
use super::model::{Close, Model};
use super::models::Models;
use super::number::sigmoid;
use super::protocol::{ClientFamily, Dialect, Request, Route};
use super::queue::{Queue, QueuedSequence, Waiting};
use super::refusal::{Refusal, RefusalKind};
use super::token::AccessTokens;
use super::vocabulary::Conversion;

/// The state shared by all requests.
pub struct App {
    pub models: Models,
    pub queue: Arc<Queue>,
    pub metrics: Arc<Metrics>,
    pub tokens: AccessTokens,
    pub rules: Rules,
    /// True if the server accepts no more requests and only finishes those in flight.
    pub stopping: AtomicBool,
    /// Facts for `/info` and the metrics: backend, device, dtype.
    pub about: Vec<(&'static str, String)>,
    requests: Arc<Semaphore>,
    bytes: Bytes,
    ids: Ids,
}

/// The limits of requests and the options for reading them.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// The most requests answered at once.
    pub requests: usize,
    /// The most texts per request.
    pub inputs: usize,
    pub body_bytes: usize,
    pub body_time: Duration,
    /// The most tokens per batch, for `/info`.
    pub batch_tokens: usize,
    pub batch_sequences: usize,
    pub dialect: Dialect,
    pub close: Close,
    /// True to return raw scores on every path.
    pub raw: bool,
    /// True to truncate long texts even if the request does not ask for it.
    pub cut: bool,
}

/// An answered request.
pub struct Answered {
    pub body: Value,
    pub characters: usize,
    pub tokens: usize,
    pub parts: Parts,
}

/// A request that counts against the limits until it is dropped.
struct Taken {
    /// The model named in the query.
    asked: Option<String>,
    body: Held,
    permit: OwnedSemaphorePermit,
}

/// A request with its token sequences.
struct Prepared {
    request: Request,
    model: Arc<Model>,
    ids: Vec<Vec<u32>>,
    characters: usize,
    time: Duration,
}

impl App {
    pub fn new(
        models: Models,
        queue: Arc<Queue>,
        metrics: Arc<Metrics>,
        tokens: AccessTokens,
        rules: Rules,
    ) -> Self {
        /// The most bytes of bodies held at once; further bodies are refused.
        const HELD: usize = 64 << 20;
        Self {
            models,
            queue,
            metrics,
            tokens,
            rules,
            stopping: AtomicBool::new(false),
            about: Vec::new(),
            requests: Arc::new(Semaphore::new(rules.requests)),
            bytes: Bytes::new(HELD.max(4 * rules.body_bytes)),
            ids: Ids::default(),
        }
    }

    /// Answers a scoring request. An error comes with the family that defines its format.
    ///
    /// # Errors
    /// Fails with the reason for giving no scores.
    pub async fn answer(
        self: &Arc<Self>,
        route: Route,
        request: HttpRequest,
    ) -> Result<Answered, (ClientFamily, Refusal)> {
        let begun = Instant::now();
        let usual = ClientFamily::of(route, &Value::Null, self.rules.dialect);
        let plain = |refusal| (usual, refusal);
        let Taken { asked, body, permit } = self.take(request).await.map_err(plain)?;
        let app = Arc::clone(self);
        let prepared =
            spawn_blocking(move || app.prepare(route, asked, &body).map(|prepared| (prepared, body))).await;
        let failed = |error| {
            plain(Refusal::new(RefusalKind::Failed, format!("the request could not be read: {error}")))
        };
        let (prepared, held) = prepared.map_err(failed)??;
        // The bytes count until the request is answered, since its sequences stay in memory.
        let (_held, _permit) = (held, permit);
        let family = prepared.request.form.family();
        let plain = |refusal| (family, refusal);
        let Prepared { request, model, ids, characters, time } = prepared;
        let lengths: Vec<usize> = ids.iter().map(Vec::len).collect();
        let (waiting, scores) = Waiting::new(ids.len());
        let jobs = ids.into_iter().enumerate().map(|(place, ids)| QueuedSequence {
            model: Arc::clone(&model),
            ids: ids.into(),
            place,
            request: Arc::clone(&waiting),
        });
        self.queue.push(jobs.collect()).map_err(plain)?;
        drop(waiting);
        let ended =
            |_| plain(Refusal::new(RefusalKind::Failed, "the model's thread ended; the server is stopping"));
        let computed = scores.await.map_err(ended)?.map_err(plain)?;
        let parts = Parts {
            tokenization: time,
            queueing: computed.timing.waited.unwrap_or_default(),
            inference: computed.timing.computing,
        };
        self.metrics.scores(&model.name, &computed.scores, &lengths, parts);
        let raw = request.ask.raw || self.rules.raw;
        let scores =
            computed.scores.into_iter().map(|score| if raw { score } else { sigmoid(score) }).collect();
        let tokens = lengths.iter().sum();
        let answer = ScoreAnswer { scores, tokens: lengths };
        let id = self.ids.next();
        let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let seconds = begun.elapsed().as_secs_f64();
        let named = Named { id: &id, model: &model.name, label: &model.label, created, seconds };
        Ok(Answered { body: request.form.write(&answer, &named), characters, tokens, parts })
    }

    /// Answers a request between texts and tokens. An error comes with the family that defines its format.
    ///
    /// # Errors
    /// Fails with the reason for giving no answer.
    pub async fn convert(
        self: &Arc<Self>,
        conversion: Conversion,
        request: HttpRequest,
    ) -> Result<Value, (ClientFamily, Refusal)> {
        let usual = conversion.family(&Value::Null);
        let taken = self.take(request).await.map_err(|refusal| (usual, refusal))?;
        let app = Arc::clone(self);
        let converted = spawn_blocking(move || {
            let body = json(&taken.body).map_err(|refusal| (usual, refusal))?;
            let asked = body.get("model").and_then(Value::as_str).map(str::to_owned).or(taken.asked);
            let model = app.models.find(asked.as_deref());
            let answer = model.and_then(|model| conversion.answer(&model, &body, app.rules.inputs));
            answer.map_err(|refusal| (conversion.family(&body), refusal))
        });
        converted.await.map_err(|error| {
            (usual, Refusal::new(RefusalKind::Failed, format!("the request could not be read: {error}")))
        })?
    }

    /// Takes a request within the limits.
    async fn take(&self, request: HttpRequest) -> Result<Taken, Refusal> {
        is_json(request.headers())?;
        let asked = Query::<HashMap<String, String>>::try_from_uri(request.uri()).ok();
        let asked = asked.and_then(|Query(mut fields)| fields.remove("model"));
        let body = self.body(request).await?;
        let permit = Arc::clone(&self.requests).try_acquire_owned().map_err(|_| {
            let message = format!("{} requests are in flight, the maximum; retry later", self.rules.requests);
            Refusal::new(RefusalKind::Overloaded, message)
        })?;
        Ok(Taken { asked, body, permit })
    }

    /// Reads the body of a request within the limits.
    ///
    /// # Errors
    /// Fails if the body exceeds a limit.
    pub async fn body(&self, request: HttpRequest) -> Result<Held, Refusal> {
        self.bytes.read(request.into_body(), self.rules.body_bytes, self.rules.body_time).await
    }

    /// Reads and tokenises a request.
    fn prepare(
        &self,
        route: Route,
        asked: Option<String>,
        body: &Held,
    ) -> Result<Prepared, (ClientFamily, Refusal)> {
        let begun = Instant::now();
        let dialect = self.rules.dialect;
        let body = json(body).map_err(|refusal| (ClientFamily::of(route, &Value::Null, dialect), refusal))?;
        let family = ClientFamily::of(route, &body, dialect);
        let plain = |refusal| (family, refusal);
        let request = Request::read(route, family, &body).map_err(plain)?;
        drop(body);
        let (inputs, most) = (&request.ask.inputs, self.rules.inputs);
        if inputs.len() > most {
            let message = format!(
                "{} texts; expected at most {most} per request (--max-client-batch-size)",
                inputs.len()
            );
            return Err(plain(Refusal::new(RefusalKind::Invalid, message)));
        }
        let model = self.models.find(request.ask.model.as_deref().or(asked.as_deref())).map_err(plain)?;
        let too_long = match request.ask.too_long {
            TooLong::Refuse if self.rules.cut => TooLong::Cut { side: Side::Left, to: None },
            asked => asked,
        };
        let tokens = |(at, input)| {
            model.tokens(input, too_long, self.rules.close).map_err(|refusal| match inputs.len() {
                1 => refusal,
                _ => Refusal { message: format!("text {at}: {}", refusal.message), ..refusal },
            })
        };
        let ids = inputs.iter().enumerate().map(tokens).collect::<Result<Vec<_>, _>>().map_err(plain)?;
        let characters = inputs.iter().map(|input| input.characters()).sum();
        Ok(Prepared { model, ids, characters, time: begun.elapsed(), request })
    }
}

fn json(body: &Held) -> Result<Value, Refusal> {
    serde_json::from_slice(&body.bytes).map_err(|error| {
        let said = error.to_string();
        let half = str::from_utf8(&body.bytes).ok().and_then(|text| surrogate::explained(&said, text));
        let message = format!("the body is not JSON: {}", half.unwrap_or(said));
        Refusal::new(RefusalKind::Malformed, message)
    })
}

/// Refuses a body that is not declared as JSON: browser pages can send other types to any server without
/// permission.
fn is_json(headers: &HeaderMap) -> Result<(), Refusal> {
    let refusal = |given: &str| {
        let message = format!("the Content-Type is {given}; expected application/json");
        Err(Refusal::new(RefusalKind::MediaType, message))
    };
    match headers.get(CONTENT_TYPE).map(|kind| String::from_utf8_lossy(kind.as_bytes()).to_ascii_lowercase())
    {
        None if headers.contains_key(ORIGIN) => refusal("not given"),
        None => Ok(()),
        Some(kind) if kind.split(';').next().is_some_and(|kind| kind.trim().ends_with("json")) => Ok(()),
        Some(kind) => refusal(&format!("{kind:?}")),
    }
}

/// Generates answer ids: random per process, then counted.
#[derive(Debug)]
struct Ids {
    process: u64,
    next: AtomicU64,
}

impl Default for Ids {
    fn default() -> Self {
        Self { process: RandomState::new().hash_one("pcrm"), next: AtomicU64::new(0) }
    }
}

impl Ids {
    fn next(&self) -> String {
        format!("{:016x}{:016x}", self.process, self.next.fetch_add(1, Ordering::Relaxed))
    }
}
