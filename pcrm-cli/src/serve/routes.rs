//! The routes of the server.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use axum::Router;
use axum::extract::Request;
use axum::http::HeaderValue;
use axum::http::header::ALLOW;
use axum::response::Response;
use axum::routing::{MethodRouter, get, post};
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use super::app::App;
use super::exposition::Exposition;
use super::metrics::Metrics;
use super::model::Model;
use super::openapi;
use super::protocol::{ClientFamily, PATHS, Route};
use super::refusal::{Refusal, RefusalKind};
use super::response::{as_json, finished, refused, scored, text};
use super::vocabulary::{self, Conversion};

/// Returns the router of all paths.
pub fn router(app: Arc<App>) -> Router {
    let mut router = Router::new();
    for (path, route) in PATHS {
        let at = Arc::clone(&app);
        let mut methods = post(move |request| score(at, path, route, request));
        if path == "/" {
            methods = methods.merge(page(&app, path, |app| Ok(info(app))));
        }
        let at = Arc::clone(&app);
        router = router.route(path, methods.fallback(move || other_method(at, path)));
    }
    for (path, conversion) in vocabulary::PATHS {
        let at = Arc::clone(&app);
        let methods = post(move |request| convert(at, path, conversion, request));
        let at = Arc::clone(&app);
        router = router.route(path, methods.fallback(move || other_method(at, path)));
    }
    for path in ["/health", "/ping", "/v1/health"] {
        router = router.route(path, open(&app, path, health));
    }
    router = router
        .route("/info", page(&app, "/info", |app| Ok(info(app))))
        .route("/v1/models", page(&app, "/v1/models", |app| Ok(models(app))))
        .route("/openapi.json", page(&app, "/openapi.json", |_| Ok(openapi::document())));
    let at = Arc::clone(&app);
    router = router.route("/metrics", get(move |request| metrics(at, request)));
    let at = Arc::clone(&app);
    router = router.route("/reload", post(move |request| reload(at, request)));
    let at = Arc::clone(&app);
    let nowhere = move |request: Request| async move {
        let message = format!("{} is not a path of this server; see /openapi.json", request.uri().path());
        finished(
            &at,
            "other",
            Instant::now(),
            refused(&at, ClientFamily::Vllm, &Refusal::new(RefusalKind::NotFound, message)),
        )
    };
    let at = Arc::clone(&app);
    router.method_not_allowed_fallback(move || other_method(at, "other")).fallback(nowhere)
}

/// A request in flight; dropped early if its client goes away.
struct Open<'a> {
    metrics: &'a Metrics,
    done: bool,
}

impl<'a> Open<'a> {
    fn new(metrics: &'a Metrics) -> Self {
        metrics.in_flight.fetch_add(1, Ordering::Relaxed);
        Self { metrics, done: false }
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.metrics.in_flight.fetch_sub(1, Ordering::Relaxed);
        if !self.done {
            self.metrics.gone();
        }
    }
}

async fn score(app: Arc<App>, path: &'static str, route: Route, request: Request) -> Response {
    let begun = Instant::now();
    let mut open = Open::new(&app.metrics);
    let outcome = match app.tokens.check(request.headers()) {
        Ok(()) => app.answer(route, request).await,
        Err(refusal) => Err((ClientFamily::of(route, &Value::Null, app.rules.dialect), refusal)),
    };
    open.done = true;
    let response = match outcome {
        Ok(answered) => scored(&app, &answered, begun),
        Err((family, refusal)) => refused(&app, family, &refusal),
    };
    finished(&app, path, begun, response)
}

async fn convert(app: Arc<App>, path: &'static str, conversion: Conversion, request: Request) -> Response {
    let begun = Instant::now();
    let mut open = Open::new(&app.metrics);
    let outcome = match app.tokens.check(request.headers()) {
        Ok(()) => app.convert(conversion, request).await,
        Err(refusal) => Err((conversion.family(&Value::Null), refusal)),
    };
    open.done = true;
    let response = match outcome {
        Ok(body) => as_json(200, &body),
        Err((family, refusal)) => refused(&app, family, &refusal),
    };
    finished(&app, path, begun, response)
}

async fn other_method(app: Arc<App>, path: &'static str) -> Response {
    let message = "the path requires another method; see /openapi.json";
    let mut response = refused(&app, ClientFamily::Vllm, &Refusal::new(RefusalKind::Method, message));
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, POST"));
    finished(&app, path, Instant::now(), response)
}

type Page = fn(&App) -> Result<Value, Refusal>;

/// Returns a page without access control, since probes have no token.
fn open(app: &Arc<App>, path: &'static str, write: Page) -> MethodRouter {
    let app = Arc::clone(app);
    get(move || async move { finished(&app, path, Instant::now(), written(&app, write(&app))) })
}

/// Returns a page that requires a token.
fn page(app: &Arc<App>, path: &'static str, write: Page) -> MethodRouter {
    let app = Arc::clone(app);
    get(move |request: Request| async move {
        let body = app.tokens.check(request.headers()).and_then(|()| write(&app));
        finished(&app, path, Instant::now(), written(&app, body))
    })
}

fn written(app: &App, body: Result<Value, Refusal>) -> Response {
    match body {
        Ok(Value::Null) => text(200, "text/plain", String::new()),
        Ok(body) => as_json(200, &body),
        Err(refusal) => refused(app, ClientFamily::Tei, &refusal),
    }
}

fn health(app: &App) -> Result<Value, Refusal> {
    match app.stopping.load(Ordering::Relaxed) {
        false => Ok(Value::Null),
        true => Err(Refusal::new(RefusalKind::Stopping, "the server is stopping")),
    }
}

fn models(app: &App) -> Value {
    let one = |model: &Arc<Model>| {
        json!({
            "id": model.name, "object": "model", "created": 0, "owned_by": "pcrm", "root": model.name, "parent": null,
            "max_model_len": model.most
        })
    };
    json!({"object": "list", "data": app.models.all().iter().map(one).collect::<Vec<_>>()})
}

fn info(app: &App) -> Value {
    let all = app.models.all();
    let (rules, first) = (&app.rules, all.first());
    let about =
        |name: &str| app.about.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str());
    let one = |model: &Arc<Model>| {
        let range = model.range.as_ref().map(
            |range| json!({"low": range.low, "mean": range.mean, "high": range.high, "std": range.deviation, "source": range.source}),
        );
        let recent = app.metrics.recent(&model.name).summary(model.range.as_ref()).map(|recent| {
            json!({
                "count": recent.count, "mean": recent.mean, "std": recent.deviation, "outside": recent.outside,
                "drift": recent.drift
            })
        });
        json!({
            "name": model.name, "sha": model.sha, "label": model.label, "max_input_length": model.most,
            "training_scores": range, "recent_scores": recent
        })
    };
    let label = first.map_or("LABEL_0", |model| model.label.as_str());
    json!({
        "model_id": first.map(|model| &model.name),
        "model_sha": first.map(|model| &model.sha),
        "model_dtype": about("dtype"),
        "model_type": {"classifier": {"id2label": {"0": label}, "label2id": {label: 0}}},
        "max_concurrent_requests": rules.requests,
        "max_input_length": first.map(|model| model.most),
        "max_batch_tokens": rules.batch_tokens,
        "max_batch_requests": rules.batch_sequences,
        "max_client_batch_size": rules.inputs,
        "auto_truncate": rules.cut,
        "version": env!("CARGO_PKG_VERSION"),
        "backend": about("backend"),
        "device": about("device"),
        "raw": rules.raw,
        "models": all.iter().map(one).collect::<Vec<_>>(),
    })
}

async fn metrics(app: Arc<App>, request: Request) -> Response {
    let begun = Instant::now();
    let response = match app.tokens.check(request.headers()) {
        Err(refusal) => refused(&app, ClientFamily::Tei, &refusal),
        Ok(()) => {
            let about: Vec<(&str, &str)> =
                app.about.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let body = app.metrics.text(&app.models.all(), app.queue.len(), &about);
            text(200, Exposition::MEDIA_TYPE, body)
        }
    };
    finished(&app, "/metrics", begun, response)
}

/// Reloads the model named in the body, or all models.
async fn reload(app: Arc<App>, request: Request) -> Response {
    let begun = Instant::now();
    let outcome = match app.tokens.check(request.headers()) {
        Ok(()) if app.tokens.is_empty() => {
            let message = "reloading over HTTP requires a token on the server (--api-key); send SIGHUP to \
                           the process instead";
            Err(Refusal::new(RefusalKind::Unauthorised, message))
        }
        Ok(()) => reloaded(&app, request).await,
        Err(refusal) => Err(refusal),
    };
    let response = match outcome {
        Ok(body) => as_json(200, &body),
        Err(refusal) => refused(&app, ClientFamily::Tei, &refusal),
    };
    finished(&app, "/reload", begun, response)
}

async fn reloaded(app: &Arc<App>, request: Request) -> Result<Value, Refusal> {
    let held = app.body(request).await?;
    let body: Value = match held.bytes.is_empty() {
        true => Value::Null,
        false => serde_json::from_slice(&held.bytes).map_err(|error| {
            Refusal::new(RefusalKind::Malformed, format!("the body is not JSON: {error}"))
        })?,
    };
    let names: Vec<String> = match body.get("model").and_then(Value::as_str) {
        Some(name) => vec![app.models.find(Some(name))?.name.clone()],
        None => app.models.all().iter().map(|model| model.name.clone()).collect(),
    };
    let mut shas = serde_json::Map::new();
    for name in names {
        let (at, of) = (Arc::clone(app), name.clone());
        let outcome = spawn_blocking(move || at.models.reload(&of)).await;
        match outcome.map_err(anyhow::Error::from).and_then(|outcome| outcome) {
            Ok(model) => {
                app.metrics.reload(&name, "success");
                shas.insert(name, model.sha.as_str().into());
            }
            Err(error) => {
                app.metrics.reload(&name, "failure");
                return Err(Refusal::new(RefusalKind::Failed, format!("{error:#}")));
            }
        }
    }
    Ok(json!({"reloaded": shas}))
}
