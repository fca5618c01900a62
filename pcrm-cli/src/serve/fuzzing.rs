//! Every route with randomly broken bodies: a seeded run of two thousand, or of `PCRM_FUZZ_SECONDS`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{Method, Request};
use http_body_util::BodyExt;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Map, Value, json};
use tower::ServiceExt;

use super::protocol::PATHS;
use super::tests::app;
use super::{routes, vocabulary};

/// Returns valid bodies of the routes.
fn bodies() -> Vec<Value> {
    let parts = json!([{"type": "text", "text": "b"}]);
    let turns = json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": parts}]);
    vec![
        json!({"query": ["a<|im_end|>", "b"], "prompts": ["a", "b"], "labels": ["", ""]}),
        json!({"model": "m", "input": ["a", "b"], "use_activation": false, "truncate_prompt_tokens": 3}),
        json!({"input": [[1, 2], [3]], "add_special_tokens": false, "truncation_side": "right"}),
        json!({"messages": turns, "add_generation_prompt": true, "model": "n"}),
        json!({"text": ["a", "b"]}),
        json!({"input_ids": [1, 2, 3]}),
        json!({"text_1": "a", "text_2": ["b", {"text": "c"}]}),
        json!({"queries": ["a", "b"], "documents": ["c", "d"]}),
        json!({"query": "a", "documents": ["b", "c"], "top_n": 1}),
        json!({"query": "a", "texts": ["b", "c"], "return_text": true, "truncate": true,
               "truncation_direction": "Left"}),
        json!({"inputs": [["a"], ["b", "c"]], "raw_scores": true}),
        json!({"inputs": "a", "truncate": true}),
        json!({"input": "a", "encoding_format": "base64", "task": "classify", "dimensions": null}),
        json!({"prompt": "a\u{e9}", "add_special_tokens": false, "return_token_strs": true}),
        json!({"tokens": [1, 2, 3], "ids": [[1], [2, 3]], "skip_special_tokens": false}),
    ]
}

/// Returns an unexpected value.
fn strange(random: &mut StdRng) -> Value {
    let deep = (0..random.random_range(1..200)).fold(json!(1), |inner, _| json!([inner]));
    match random.random_range(0..16) {
        0 => Value::Null,
        1 => json!(-1),
        2 => json!(1e308),
        3 => json!(u64::MAX),
        4 => json!("\u{0}\u{fffd}<s></s><pad>\u{202e}"),
        5 => json!("x ".repeat(random.random_range(0..3000))),
        6 => json!([]),
        7 => json!({}),
        8 => deep,
        9 => json!([[], [[]], {}, null, true]),
        10 => json!(vec![7; random.random_range(0..300)]),
        11 => json!(vec!["a"; random.random_range(0..40)]),
        12 => json!({"role": "user", "content": "a", "text": 3}),
        13 => json!(true),
        14 => json!("\u{1F600}".repeat(random.random_range(0..50))),
        _ => json!(0),
    }
}

/// Changes one value in the body.
fn changed(value: &mut Value, names: &[String], random: &mut StdRng) {
    match value {
        Value::Object(fields) if !fields.is_empty() && random.random_bool(0.8) => {
            let at = random.random_range(0..fields.len());
            let key = fields.keys().nth(at).cloned().unwrap_or_default();
            match random.random_range(0..4) {
                0 => drop(fields.shift_remove(&key)),
                1 => {
                    let name = names[random.random_range(0..names.len())].clone();
                    fields.insert(name, strange(random));
                }
                _ => changed(&mut fields[&key], names, random),
            }
        }
        Value::Array(all) if !all.is_empty() && random.random_bool(0.7) => {
            let at = random.random_range(0..all.len());
            changed(&mut all[at], names, random);
        }
        value => *value = strange(random),
    }
}

fn body(bodies: &[Value], names: &[String], random: &mut StdRng) -> Vec<u8> {
    let mut value = bodies[random.random_range(0..bodies.len())].clone();
    for _ in 0..random.random_range(0..4) {
        changed(&mut value, names, random);
    }
    let mut bytes = value.to_string().into_bytes();
    if random.random_bool(0.3) {
        for _ in 0..random.random_range(1..6) {
            let at = random.random_range(0..=bytes.len());
            match random.random_range(0..3) {
                0 => bytes.truncate(at),
                1 if at < bytes.len() => bytes[at] = random.random_range(0..=255),
                _ => bytes.insert(at, random.random_range(0..=255)),
            }
        }
    }
    bytes
}

/// The number of bodies to try; more with `PCRM_FUZZ_SECONDS`.
const FEWEST: u64 = 2000;

/// Protects: no body makes a route panic, hang or answer with anything but JSON; scores are finite numbers.
#[tokio::test(flavor = "multi_thread")]
async fn no_body_breaks_a_route() {
    let seconds = std::env::var("PCRM_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let (app, mut ended) = app(&["m", "n"], false);
    let router = routes::router(Arc::clone(&app));
    let bodies = bodies();
    let keys = bodies.iter().filter_map(Value::as_object).flat_map(Map::keys);
    let names: Vec<String> =
        keys.cloned().chain(["chat_template".to_owned(), "label_token_ids".to_owned()]).collect();
    let paths: Vec<&str> =
        PATHS.map(|(path, _)| path).into_iter().chain(vocabulary::PATHS.map(|(path, _)| path)).collect();
    let mut random = StdRng::seed_from_u64(seconds);
    let (mut sent, mut scored) = (0u64, 0u64);
    let until = Instant::now() + Duration::from_secs(seconds);
    while sent < FEWEST || Instant::now() < until {
        let path = paths[random.random_range(0..paths.len())];
        let bytes = body(&bodies, &names, &mut random);
        let shown = String::from_utf8_lossy(&bytes).into_owned();
        let request = Request::builder().method(Method::POST).uri(path).body(Body::from(bytes)).unwrap();
        let response = tokio::time::timeout(Duration::from_secs(120), router.clone().oneshot(request));
        let response = response.await.unwrap_or_else(|_| panic!("{path} hangs: {shown}")).unwrap();
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let answer: Value = serde_json::from_slice(&bytes).unwrap_or_else(|_| panic!("{path} {shown}"));
        let text = answer.to_string();
        assert!(matches!(status, 200 | 400 | 404 | 413 | 422), "{path} {shown}: {status} {text}");
        sent += 1;
        scored += u64::from(status == 200);
        assert!(ended.try_recv().is_err(), "{path} ended the model's thread: {shown}");
    }
    assert!(scored * 20 > sent && sent - scored > sent / 20, "{sent} requests, {scored} with scores");
}
