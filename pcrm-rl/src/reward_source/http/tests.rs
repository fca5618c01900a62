use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::protocol::Protocol;
use crate::reward_source::testing::{OwnedAnswers, rewards, sources};

/// A response of the test server: status, additional headers and body; or none, keeping the connection open.
#[derive(Clone)]
enum Reply {
    Say(u16, &'static str, String),
    Hang,
    HangUp,
}

fn ok(body: Value) -> Reply {
    Reply::Say(200, "", body.to_string())
}

/// A server on the loopback interface that sends these responses in order, repeating the last one, and
/// records the requests.
struct Server {
    address: String,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Server {
    fn new(replies: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        thread::spawn(move || {
            for (at, stream) in listener.incoming().flatten().enumerate() {
                let reply = replies[at.min(replies.len() - 1)].clone();
                let seen = Arc::clone(&seen);
                thread::spawn(move || serve(stream, &reply, &seen));
            }
        });
        Self { address, asked }
    }

    /// Returns the requests so far: path and headers, body.
    fn asked(&self) -> Vec<(String, Value)> {
        self.asked.lock().unwrap().clone()
    }

    fn config(&self, path: &str) -> Value {
        let url = format!("{}{path}", self.address);
        json!({"kind": "http", "url": url, "backoff": 0.01, "timeout": 5, "concurrency": 1})
    }
}

/// Reads a request: path and headers, body.
fn request(stream: &TcpStream) -> (String, Value) {
    let mut reader = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
        head += &line;
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    (head, serde_json::from_slice(&body).unwrap())
}

fn serve(stream: TcpStream, reply: &Reply, asked: &Mutex<Vec<(String, Value)>>) {
    let (head, body) = request(&stream);
    asked.lock().unwrap().push((head, body));
    let mut stream = stream;
    match reply {
        Reply::Hang => thread::sleep(Duration::from_secs(30)),
        Reply::HangUp => {}
        Reply::Say(status, headers, body) => {
            let head = format!(
                "HTTP/1.1 {status} X\r\n{headers}connection: close\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(head.as_bytes()).ok();
        }
    }
}

fn said(config: &Value, rows: &OwnedAnswers) -> String {
    match rewards(&config.to_string(), rows) {
        Ok(rewards) => panic!("{config}: {rewards:?}"),
        Err(error) => error.to_string(),
    }
}

/// Protects: each protocol's request, key by key, and the position of its rewards, in any order.
#[test]
fn protocols_are_those_of_the_servers() {
    let item = |index: usize, key: &str, value: Value| json!({"index": index, key: value});
    let data = |key: &str, values: [Value; 2]| {
        let [first, second] = values;
        json!({"object": "list", "data": [item(1, key, second), item(0, key, first)]})
    };
    let quiet = |body: Value| {
        let mut body = body;
        body["use_activation"] = false.into();
        body["activation"] = false.into();
        body
    };
    for (path, reply, request) in [
        (
            "/get_reward",
            json!({"rewards": [0.5, -2], "scores": [0.5, -2], "extra_logs": {"n": [1, 2]}}),
            json!({"query": ["qa<eos>", "qb<eos>"], "prompts": ["q", "q"], "labels": [7, 7]}),
        ),
        (
            "/",
            json!({"rewards": [[0.5], [-2]]}),
            json!({"query": ["qa<eos>", "qb<eos>"], "prompts": ["q", "q"], "labels": [7, 7]}),
        ),
        ("/classify", data("probs", [json!([0.5]), json!([-2])]), quiet(json!({"input": ["qa", "qb"]}))),
        ("/v1/classify", data("probs", [json!([0.5]), json!([-2])]), quiet(json!({"input": ["qa", "qb"]}))),
        (
            "/classify#sglang",
            json!([{"embedding": [0.5], "meta_info": {}}, {"embedding": [-2]}]),
            json!({"text": ["qa", "qb"]}),
        ),
        (
            "/pooling",
            data("data", [json!([0.5]), json!([-2])]),
            quiet(json!({"input": ["qa", "qb"], "encoding_format": "float", "task": "classify"})),
        ),
        (
            "/v1/score",
            data("score", [json!(0.5), json!(-2)]),
            quiet(json!({"text_1": ["q", "q"], "text_2": ["a", "b"]})),
        ),
        (
            "/v1/embeddings",
            data("embedding", [json!([0.5]), json!([-2])]),
            json!({"input": ["qa", "qb"], "model": "default", "encoding_format": "float"}),
        ),
        (
            "/predict",
            json!([[{"score": 0.5, "label": "LABEL_0"}], [{"score": -2, "label": "LABEL_0"}]]),
            json!({"inputs": [["qa"], ["qb"]], "raw_scores": true}),
        ),
        (
            "/rerank",
            json!([item(1, "score", json!(-2)), item(0, "score", json!(0.5))]),
            json!({"query": "q", "texts": ["a", "b"], "raw_scores": true}),
        ),
        (
            "/v2/rerank",
            json!({"results": [
                item(1, "relevance_score", json!(-2)),
                item(0, "relevance_score", json!(0.5))
            ]}),
            quiet(json!({"query": "q", "documents": ["a", "b"]})),
        ),
    ] {
        let server = Server::new(vec![ok(reply)]);
        let mut rows = OwnedAnswers::default();
        ["a", "b"].iter().for_each(|answer| rows.add(json!("q"), json!({"label": 7}), answer));
        let rewards = rewards(&server.config(path).to_string(), &rows)
            .unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(rewards, [Some(0.5), Some(-2.0)], "{path}");
        let asked = server.asked();
        let sent = path.split('#').next().unwrap();
        assert!(
            asked.len() == 1 && asked[0].0.starts_with(&format!("POST {sent} HTTP/1.1\r\n")),
            "{asked:?}"
        );
        assert_eq!(asked[0].1, request, "{path}");
    }
}

/// Protects: conversations are sent as messages or rendered by a template, and refused if a protocol would
/// garble them.
#[test]
fn conversations_have_a_form_or_are_refused() {
    let mut rows = OwnedAnswers::default();
    let user = json!({"role": "user", "content": "q"});
    rows.add(json!([{"role": "system", "content": "s"}, user]), json!({}), "a");
    let server = Server::new(vec![ok(json!({"data": [{"index": 0, "probs": [1]}]}))]);
    assert_eq!(rewards(&server.config("/classify").to_string(), &rows).unwrap(), [Some(1.0)]);
    let sent = json!([{"role": "system", "content": "s"}, user, {"role": "assistant", "content": "a"}]);
    assert_eq!(server.asked()[0].1["messages"], sent);
    let server = Server::new(vec![ok(json!([[{"score": 1}]]))]);
    let refused = said(&server.config("/predict"), &rows);
    assert!(
        refused.contains("rows.jsonl:1: the prompt is a conversation") && refused.contains("tokenizer"),
        "{refused}"
    );
    assert!(said(&server.config("/rerank"), &rows).contains("the prompt has 2 turns"));
    assert!(server.asked().is_empty());
    let mut config = server.config("/predict");
    config["tokenizer"] = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/text/qwen2").into();
    assert_eq!(rewards(&config.to_string(), &rows).unwrap(), [Some(1.0)]);
    let text = server.asked()[0].1["inputs"][0][0].as_str().unwrap().to_owned();
    assert_eq!(
        text,
        "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\na<|im_end|>\n"
    );
}

/// Protects: transient errors are retried as often as configured, and not before the server allows it.
#[test]
fn passing_faults_are_tried_again() {
    let rows = OwnedAnswers::of(&["a"]);
    let good = || ok(json!({"rewards": [1.5]}));
    let busy = || Reply::Say(429, "retry-after: 1\r\n", "{\"error\": \"Overloaded\"}".to_owned());
    let broken = || Reply::Say(503, "", String::new());
    let server = Server::new(vec![broken(), Reply::HangUp, Reply::Say(500, "", "boom".to_owned()), good()]);
    assert_eq!(rewards(&server.config("/get_reward").to_string(), &rows).unwrap(), [Some(1.5)]);
    assert_eq!(server.asked().len(), 4);
    let (server, began) = (Server::new(vec![busy(), good()]), Instant::now());
    assert_eq!(rewards(&server.config("/get_reward").to_string(), &rows).unwrap(), [Some(1.5)]);
    assert!(began.elapsed() >= Duration::from_secs(1));
    let server = Server::new(vec![Reply::Hang]);
    let mut config = server.config("/get_reward");
    (config["timeout"], config["attempts"]) = (json!(1), json!(2));
    let hung = said(&config, &rows);
    assert!(hung.contains("no answer within 1 s, after 2 tries; the batch stays unscored"), "{hung}");
    // The server may read the second request after its time is over.
    let until = Instant::now() + Duration::from_secs(10);
    while server.asked().len() < 2 && Instant::now() < until {
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(server.asked().len(), 2);
    let server = Server::new(vec![Reply::Say(500, "", "boom".to_owned())]);
    let failed = said(&server.config("/get_reward"), &rows);
    assert!(
        failed.contains("500 Internal Server Error: boom, after 5 tries; the batch stays unscored"),
        "{failed}"
    );
    let nobody = json!({"kind": "http", "url": "http://127.0.0.1:1/get_reward", "attempts": 2, "backoff": 0});
    assert!(said(&nobody, &rows).contains("after 2 tries; the batch stays unscored"));
}

/// Protects: errors that a retry cannot fix are reported immediately, with the server's message.
#[test]
fn lasting_faults_are_errors_at_once() {
    let rows = OwnedAnswers::of(&["a", "b"]);
    let text = |status, headers, body: &str| Reply::Say(status, headers, body.to_owned());
    for (path, reply, message) in [
        (
            "/get_reward",
            text(400, "", "{\"error\": \"too long\"}"),
            "400 Bad Request: {\"error\": \"too long\"}",
        ),
        ("/get_reward", text(404, "", ""), "404 Not Found"),
        ("/get_reward", text(307, "location: http://evil/\r\n", ""), "it redirects to http://evil/"),
        ("/get_reward", ok(json!({"rewards": [1]})), "gave 1 rewards for 2 answers"),
        ("/get_reward", text(200, "", "{\"rewards\": [1, NaN]}"), "JSON has no NaN"),
        ("/get_reward", text(200, "", "<html>"), "the response is not valid JSON"),
        (
            "/get_reward",
            ok(json!({"rewards": [1, "x"]})),
            "answer 2 of 2 (rows.jsonl:2): the reward is \"x\"",
        ),
        (
            "/get_reward",
            ok(json!({"reward": [1, 1]})),
            "the response does not have the form {\"rewards\": [..]}",
        ),
        ("/classify", ok(json!({"data": [{"index": 0, "probs": [1]}]})), "gave 1 rewards for 2 answers"),
        (
            "/classify",
            ok(json!({"data": [{"index": 0, "probs": [1]}, {"index": 0, "probs": [1]}]})),
            "is duplicate",
        ),
        (
            "/score",
            ok(json!({"data": [{"index": 0, "score": 1}, {"index": 1, "score": null}]})),
            "the reward is null",
        ),
        (
            "/classify",
            ok(json!({"data": [{"index": 0, "probs": [0.4, 0.6]}, {"index": 1, "probs": [0.4, 0.6]}]})),
            "answer 1 of 2 (rows.jsonl:1): the reward is [0.4,0.6]; expected one finite number",
        ),
        ("/predict", ok(json!([[{"score": 1}, {"score": 2}], [{"score": 1}]])), "the model has 2 labels"),
    ] {
        let server = Server::new(vec![reply]);
        let said = said(&server.config(path), &rows);
        assert!(
            said.starts_with("reward \"127.0.0.1\": http://127.0.0.1:") && said.contains(message),
            "{path}: {said}"
        );
        assert_eq!(server.asked().len(), 1, "{message}");
    }
}

/// Protects: batches are split and reassembled in order with concurrent requests; null is unscored; the key
/// is sent.
#[test]
fn batches_are_cut_and_put_together() {
    let answers: Vec<String> = (0..7).map(|n| n.to_string()).collect();
    let rows = OwnedAnswers::of(&answers.iter().map(String::as_str).collect::<Vec<_>>());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    // Reward every answer by its number, answering later requests first.
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let seen = Arc::clone(&seen);
            thread::spawn(move || {
                let (head, body) = request(&stream);
                let numbers: Vec<f64> = body["query"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|text| text.as_str().unwrap()[1..2].parse().unwrap())
                    .collect();
                thread::sleep(Duration::from_millis((60.0 - 8.0 * numbers[0]) as u64));
                let rewards: Vec<Value> =
                    numbers.iter().map(|n| if *n == 3.0 { Value::Null } else { json!(n) }).collect();
                let body = json!({"rewards": rewards, "extra_logs": {"n": numbers}}).to_string();
                seen.lock().unwrap().push(head);
                let head =
                    format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
                (&stream).write_all(format!("{head}{body}").as_bytes()).unwrap();
            });
        }
    });
    let url = format!("http://{address}/get_reward");
    let config = json!({"kind": "http", "url": url, "batch": 2, "concurrency": 3,
                        "api_key_env": "PATH"});
    let scored = rows.weighed_by(&mut sources(&[&config.to_string()]).unwrap()).unwrap();
    let wanted = [Some(0.0), Some(1.0), Some(2.0), None, Some(4.0), Some(5.0), Some(6.0)];
    assert_eq!(scored.total, wanted);
    assert_eq!(scored.logs["127.0.0.1/n"], [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let asked = asked.lock().unwrap();
    let key = format!("authorization: bearer {}", std::env::var("PATH").unwrap().to_lowercase());
    assert!(asked.len() == 4 && asked.iter().all(|head| head.to_lowercase().contains(&key)), "{asked:?}");
}

/// Protects: unknown paths and invalid settings are refused before anything is sent.
#[test]
fn bad_addresses_and_settings_are_refused() {
    for (change, message) in [
        (json!({"url": "http://h/v1/chat/completions"}), "the path names no protocol"),
        (json!({"url": "http://h/classify#openai"}), "the path names no protocol"),
        (json!({"url": "ftp://h/classify"}), "expected an address"),
        (json!({"attempts": 0}), "attempts is 0; expected 1 or more"),
        (json!({"timeout": 0}), "timeout is 0; expected seconds"),
        (json!({"api_key_env": "PCRM_NO_SUCH_KEY"}), "which is not set in the environment"),
        (json!({"tokenizer": "/nowhere"}), "/nowhere"),
        (json!({"urls": 1}), "unknown field `urls`"),
    ] {
        let mut config = json!({"kind": "http", "url": "http://h/get_reward"});
        config.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let error = sources(&[&config.to_string()]).err().unwrap_or_else(|| panic!("{config}")).to_string();
        assert!(error.contains(message), "{config}: {error}");
    }
    for (url, protocol) in [
        ("http://h:1/rm/classify?x=1#tei", Protocol::Predict),
        ("https://h/api/#vllm", Protocol::Classify),
        ("http://h/x/rerank#vllm", Protocol::Rerank),
        ("http://h/x/rerank", Protocol::TeiRerank),
    ] {
        assert_eq!(Protocol::of(url), Ok(protocol), "{url}");
    }
}
