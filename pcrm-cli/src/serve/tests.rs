use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt;
use pcrm_core::model::ModelConfig;
use pcrm_core::text::Tokenizer;
use pcrm_rl::sharing::SharedScores;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tower::ServiceExt;

use super::app::App;
use super::ending::Ending;
use super::model::{Close, Facts, Folder, Model, ServedScorer};
use super::models::{Load, Models};
use super::owner;
use super::protocol::Dialect;
use super::queue::{BatchLimits, Queue, QueuedSequence, Waiting};
use super::refusal::RefusalKind;
use super::{Rules, routes};

/// A scorer that returns the id of the last token.
pub struct Fake {
    /// True to fail on certain last tokens.
    fails: bool,
}

/// The last tokens that make the scorer fail, return no number, and panic.
const FAILS: u32 = 7;
const NO_NUMBER: u32 = 8;
const PANICS: u32 = 9;

impl ServedScorer for Fake {
    fn scores(&self, sequences: &[&[u32]]) -> anyhow::Result<SharedScores> {
        let last = |ids: &&[u32]| ids.last().copied().unwrap_or_default() + if self.fails { 0 } else { 1000 };
        anyhow::ensure!(!sequences.iter().any(|ids| last(ids) == FAILS), "no memory");
        assert!(!sequences.iter().any(|ids| last(ids) == PANICS), "a broken kernel");
        let score = |ids: &&[u32]| if last(ids) == NO_NUMBER { f32::NAN } else { last(ids) as f32 };
        let rows = sequences.iter().map(|ids| ids.len()).sum();
        Ok(SharedScores { scores: sequences.iter().map(score).collect(), rows })
    }
}

pub fn golden(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/text")).join(name)
}

fn model(name: &str, fails: bool) -> Model {
    model_of(name, Box::new(Fake { fails }))
}

fn model_of(name: &str, scorer: Box<dyn ServedScorer>) -> Model {
    let config = json!({
        "model_type": "llama", "vocab_size": 384, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1,
        "num_attention_heads": 1, "max_position_embeddings": 64
    });
    let config = ModelConfig::from_json(config.as_object().cloned().unwrap(), Path::new("x")).unwrap();
    let dir = golden("plain");
    let tokenizer = Tokenizer::from_dir(&dir).unwrap();
    let folder = Folder { name: name.to_owned(), dir, sha: "0".to_owned(), range: None };
    Model::new(folder, Facts::of((&config).into()), tokenizer, 64, scorer)
}

pub fn rules() -> Rules {
    Rules {
        requests: 64,
        inputs: 16,
        body_bytes: 20_000,
        body_time: Duration::from_secs(5),
        batch_tokens: 256,
        batch_sequences: 16,
        dialect: Dialect::Vllm,
        close: Close::Openrlhf,
        raw: false,
        cut: false,
    }
}

pub const LIMITS: BatchLimits = BatchLimits { tokens: 256, sequences: 16, wait: Duration::ZERO };

/// Returns an app over fake models, and the receiver for the end of its model thread.
pub fn app(names: &[&str], fails: bool) -> (Arc<App>, oneshot::Receiver<()>) {
    let load: Load = Box::new(move |name, _| Ok(model(name, fails)));
    let names: Vec<(String, PathBuf)> =
        names.iter().map(|name| ((*name).to_owned(), golden("plain"))).collect();
    let (queue, metrics) = (Arc::new(Queue::default()), Arc::default());
    let models = Models::load(&names, load, Arc::clone(&queue)).unwrap();
    let (_, ended) = owner::start(models.all(), Arc::clone(&queue), Arc::clone(&metrics), LIMITS).unwrap();
    (Arc::new(App::new(models, queue, metrics, Default::default(), rules())), ended)
}

async fn post(app: &Arc<App>, path: &str, body: &Value) -> (u16, Value) {
    let request = Request::post(path).body(Body::from(body.to_string())).unwrap();
    let response = routes::router(Arc::clone(app)).oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap())
}

/// Protects: a body with half of a surrogate pair, as Python writes one, is refused with the half.
#[tokio::test(flavor = "multi_thread")]
async fn half_of_a_surrogate_pair_is_named() {
    let (app, _ended) = app(&["m"], false);
    let request = Request::post("/classify").header("content-type", "application/json");
    let request = request.body(Body::from(r#"{"input": "a\ud83d"}"#)).unwrap();
    let response = routes::router(app).oneshot(request).await.unwrap();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let said = String::from_utf8_lossy(&bytes);
    assert!(said.contains("half of a surrogate pair (\\\\ud83d)"), "{said}");
}

/// Protects: a sequence that fails, or has a score that is not finite, harms no other in its batch.
#[tokio::test(flavor = "multi_thread")]
async fn a_sequence_that_fails_harms_no_other() {
    let (app, _ended) = app(&["m"], true);
    let send = |id: u32| {
        let app = Arc::clone(&app);
        async move { post(&app, "/classify", &json!({"input": [5, id], "use_activation": false})).await }
    };
    for _ in 0..20 {
        let (fails, number, nothing) = tokio::join!(send(FAILS), send(33), send(NO_NUMBER));
        assert_eq!((fails.0, nothing.0), (500, 500));
        assert!(fails.1["error"]["message"].as_str().unwrap().contains("no memory"), "{fails:?}");
        assert!(nothing.1["error"]["message"].as_str().unwrap().contains("NaN"), "{nothing:?}");
        assert_eq!(number.1["data"][0]["probs"][0], 33.0, "{number:?}");
    }
    let (status, answer) = post(&app, "/predict", &json!({"inputs": "a"})).await;
    assert_eq!((status, answer[0]["label"].as_str()), (200, Some("LABEL_0")), "{answer}");
}

/// Protects: the end of the model's thread is noticed, and no request waits for it forever.
#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_models_thread_is_heard() {
    let (app, ended) = app(&["m"], true);
    let (status, answer) = post(&app, "/classify", &json!({"input": [5, PANICS]})).await;
    assert_eq!(status, 500, "{answer}");
    ended.await.unwrap();
    let (status, answer) = post(&app, "/classify", &json!({"input": [5, 6]})).await;
    assert_eq!(status, 503, "{answer}");
    assert!(answer["error"]["message"].is_string());
}

/// Protects: batches hold sequences of one model in order of arrival, within the token limit with shared
/// beginnings counted once, and without those whose client is gone.
#[test]
fn batches_are_of_one_model_and_within_their_tokens() {
    let [first, second] = ["a", "b"].map(|name| Arc::new(model(name, true)));
    let queue = Queue::default();
    let mut clients = Vec::new();
    let mut push = |model: &Arc<Model>, ids: Vec<u32>| {
        let (request, client) = Waiting::new(1);
        clients.push(Some(client));
        queue
            .push(vec![QueuedSequence { model: Arc::clone(model), ids: ids.into(), place: 0, request }])
            .unwrap();
    };
    let prompt: Vec<u32> = (0..200).map(|at| at % 50).collect();
    let with = |last: u32| [prompt.as_slice(), &[last; 20]].concat();
    push(&first, with(1));
    push(&second, vec![1, 2]);
    push(&first, with(2));
    push(&first, with(1));
    push(&first, with(3));
    push(&second, vec![1, 3]);
    clients[5] = None;
    let taken = |batch: Option<Vec<QueuedSequence>>| -> Vec<(String, u32)> {
        let jobs = batch.into_iter().flatten();
        jobs.map(|job| (job.model.name.clone(), *job.ids.last().unwrap())).collect()
    };
    let named = |name: &str, all: &[u32]| all.iter().map(|last| (name.to_owned(), *last)).collect::<Vec<_>>();
    // 220 tokens, 20 more, none, and 20 that exceed the limit.
    assert_eq!(taken(queue.next(LIMITS)), named("a", &[1, 2, 1]));
    assert_eq!(taken(queue.next(LIMITS)), named("b", &[2]));
    assert_eq!(taken(queue.next(LIMITS)), named("a", &[3]));
    queue.close();
    assert!(queue.next(LIMITS).is_none());
    let (request, _client) = Waiting::new(1);
    let job = QueuedSequence { model: first, ids: vec![1].into(), place: 0, request };
    assert_eq!(queue.push(vec![job]).unwrap_err().kind, RefusalKind::Stopping);
}

/// Protects: a batch waits for more sequences only as long as more can come: neither when it is full, nor after the
/// queue was closed.
#[test]
fn a_full_batch_does_not_wait() {
    let limits = BatchLimits { sequences: 2, wait: Duration::from_secs(100), ..LIMITS };
    let (queue, model) = (Queue::default(), Arc::new(model("a", true)));
    let push = |last: u32| {
        let (request, client) = Waiting::new(1);
        queue
            .push(vec![QueuedSequence {
                model: Arc::clone(&model),
                ids: vec![last].into(),
                place: 0,
                request,
            }])
            .unwrap();
        client
    };
    let began = Instant::now();
    let taken = || queue.next(limits).map_or(0, |batch| batch.len());
    let _clients = [push(1), push(2), push(3)];
    assert_eq!(taken(), 2);
    std::thread::scope(|scope| {
        let second = scope.spawn(taken);
        let _client = push(4);
        assert_eq!(second.join().unwrap(), 2);
        let _client = push(5);
        let third = scope.spawn(taken);
        queue.close();
        assert_eq!(third.join().unwrap(), 1);
    });
    assert_eq!(taken(), 0);
    assert!(began.elapsed() < limits.wait, "a batch waited for sequences that could not come");
}

/// A scorer that reports which thread computes with it and which drops it.
struct Traced(Sender<(&'static str, Option<String>)>);

impl Traced {
    fn report(&self, what: &'static str) {
        let _ = self.0.send((what, std::thread::current().name().map(str::to_owned)));
    }
}

impl ServedScorer for Traced {
    fn scores(&self, sequences: &[&[u32]]) -> anyhow::Result<SharedScores> {
        self.report("computes");
        Fake { fails: true }.scores(sequences)
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        self.report("drops");
    }
}

/// Protects: a model that a reload replaced is dropped by the thread that computes, after that thread's first pass,
/// once no request uses the model: at once, after the last request, and if its client went away.
#[test]
fn a_replaced_model_is_dropped_where_it_computes() {
    let (events, seen) = channel();
    let load: Load = Box::new(move |name, _| Ok(model_of(name, Box::new(Traced(events.clone())))));
    let queue = Arc::new(Queue::default());
    let models = Models::load(&[("m".to_owned(), golden("plain"))], load, Arc::clone(&queue)).unwrap();
    let (owner, _ended) = owner::start(models.all(), Arc::clone(&queue), Arc::default(), LIMITS).unwrap();
    let hear = |what: &'static str| {
        let event = seen.recv_timeout(Duration::from_secs(60)).unwrap();
        assert_eq!(event, (what, Some("model".to_owned())));
    };
    hear("computes");
    models.reload("m").unwrap();
    hear("drops");
    for client_stays in [true, false] {
        let model = models.find(None).unwrap();
        models.reload("m").unwrap();
        let early = seen.recv_timeout(Duration::from_millis(200));
        assert!(early.is_err(), "{early:?} while a request uses the model");
        let (request, client) = Waiting::new(1);
        let client = client_stays.then_some(client);
        queue.push(vec![QueuedSequence { model, ids: vec![5, 33].into(), place: 0, request }]).unwrap();
        if let Some(client) = client {
            hear("computes");
            assert_eq!(client.blocking_recv().unwrap().unwrap().scores, [33.0]);
        }
        hear("drops");
    }
    queue.close();
    owner.join().unwrap();
}

/// Protects: the end of a text is removed and added as in training, within the template and without it.
#[test]
fn texts_end_as_in_training() {
    let ending = Ending::of(&Tokenizer::from_dir(&golden("plain")).unwrap());
    let end = |text: &str| ending.end(text);
    let chat = "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\na";
    for tail in ["", "</s>", "<|im_end|>", "<|im_end|>\n", "<|im_end|>\n</s><pad><pad>", "<|im_end|></s>"] {
        let ended = end(&format!("{chat}{tail}"));
        assert_eq!(
            (ended.text.as_str(), ended.is_whole),
            (&*format!("{chat}<|im_end|>\n"), true),
            "{tail:?}"
        );
    }
    for (text, whole) in [("q a", false), ("q a</s>", false), ("<s>q a</s><pad>", true)] {
        let expected = if whole { "<s>q a</s>" } else { "q a</s>" };
        let ended = end(text);
        assert_eq!((ended.text.as_str(), ended.is_whole), (expected, whole), "{text:?}");
    }
}
