use serde_json::{Value, json};

use super::super::super::{Finish, Prompt, Sample, Sampling};
use super::*;

/// A server that knows tokens below 10; token 2 ends an answer.
fn server(protocol: Protocol) -> Served {
    let access = Access { url: "http://127.0.0.1:1".into(), ..Access::default() };
    Served::new(protocol, &access, Path::new("weights"), 0, BTreeSet::from([2]), 10)
}

fn ask() -> SampleRequest {
    let prompts = vec![Prompt { number: 7, ids: vec![1, 5] }];
    SampleRequest {
        prompts,
        samples: 2,
        sampling: Sampling { max_tokens: 3, ..Sampling::default() },
        version: 4,
        pass: 0,
    }
}

fn version(adapter: bool) -> Version {
    Version { name: "policy-ab-v4".into(), folder: "weights/policy-ab-v4".into(), adapter }
}

fn vllm_answer() -> Value {
    let choice = |index: usize, ids: Value, log_probs: Value, reason: &str| {
        json!({
            "index": index,
            "text": "",
            "token_ids": ids,
            "prompt_token_ids": [1, 5],
            "logprobs": { "token_logprobs": log_probs, "tokens": [], "top_logprobs": [] },
            "finish_reason": reason,
        })
    };
    json!({
        "model": "policy-ab-v4",
        "choices": [
            choice(1, json!([4, 3, 6]), json!([-1.5, -0.0, -2.0]), "length"),
            choice(0, json!([3, 2]), json!([-0.25, -0.5]), "stop"),
        ],
    })
}

fn sglang_answer() -> Value {
    let answer = |pairs: Value, ids: Value, reason: &str| {
        json!({
            "output_ids": ids,
            "meta_info": {
                "weight_version": "policy-ab-v4",
                "output_token_logprobs": pairs,
                "finish_reason": { "type": reason },
            },
        })
    };
    json!([
        answer(json!([[-0.25, 3, null], [-0.5, 2, null]]), json!([3]), "stop"),
        answer(json!([[-1.5, 4, null], [-0.0, 3, null], [-2.0, 6, null]]), json!([4, 3, 6]), "length"),
    ])
}

fn read(protocol: Protocol, answer: &Value) -> Result<Vec<Sample>, String> {
    let (served, ask) = (server(protocol), ask());
    match protocol {
        Protocol::Vllm => vllm::read(answer, &served.server, &ask, &ask.prompts[0], &version(true)),
        Protocol::Sglang => sglang::read(answer, &served.server, &ask, &version(false)),
    }
}

/// Protects: answers of both protocols are read in the order of samples, with the token that ended them.
#[test]
fn answers_are_read() {
    let first =
        Sample { ids: vec![3, 2], log_probs: vec![-0.25, -0.5], filtered: None, finish: Finish::Token(2) };
    let second = Sample {
        ids: vec![4, 3, 6],
        log_probs: vec![-1.5, -0.0, -2.0],
        filtered: None,
        finish: Finish::Length,
    };
    let want = vec![first, second];
    assert_eq!(read(Protocol::Vllm, &vllm_answer()).unwrap(), want);
    assert_eq!(read(Protocol::Sglang, &sglang_answer()).unwrap(), want);
}

/// Protects: every part of an answer that is not what was asked for is an error that names the field, the
/// value and what was expected.
#[test]
fn faulty_answers_are_named() {
    let vllm = Protocol::Vllm;
    let faults: [(Protocol, &str, Value, &str); 24] = [
        (vllm, "/model", json!("policy-ab-v3"), "is of model \"policy-ab-v3\", expected \"policy-ab-v4\""),
        (vllm, "/choices", Value::Null, "choices is missing; expected a list of answers"),
        (vllm, "/choices", json!([]), "choices has 0 answers, expected 2"),
        (vllm, "/choices/0/index", json!(0), "choices[1].index is 0; expected each number below 2 once"),
        (vllm, "/choices/0/token_ids", Value::Null, "choices[0].token_ids is missing"),
        (vllm, "/choices/0/token_ids", json!([]), "choices[0].token_ids is empty"),
        (vllm, "/choices/0/token_ids/1", json!(3.5), "choices[0].token_ids[1] is 3.5; expected a token id"),
        (vllm, "/choices/0/token_ids/1", json!(-3), "choices[0].token_ids[1] is -3; expected a token id"),
        (
            vllm,
            "/choices/0/token_ids/1",
            json!(10),
            "choices[0].token_ids[1] is 10; expected a token id below 10",
        ),
        (
            vllm,
            "/choices/0/token_ids/1",
            json!(2),
            "choices[0].token_ids[1] is 2, which ends answers; expected it last of 3 tokens",
        ),
        (
            Protocol::Sglang,
            "/1/meta_info/output_token_logprobs/0/1",
            json!(2),
            "[1].meta_info.output_token_logprobs[0] is 2, which ends answers; expected it last of 3",
        ),
        (vllm, "/choices/0/prompt_token_ids/1", json!(6), "prompt_token_ids is not the prompt that was sent"),
        (vllm, "/choices/0/logprobs", Value::Null, "choices[0].logprobs.token_logprobs is missing"),
        (vllm, "/choices/0/logprobs/token_logprobs", json!([-1]), "token_logprobs has 1 numbers, expected 3"),
        (
            vllm,
            "/choices/0/logprobs/token_logprobs/2",
            Value::Null,
            "token_logprobs[2] is null; expected a log",
        ),
        (
            vllm,
            "/choices/0/logprobs/token_logprobs/2",
            json!(0.5),
            "token_logprobs[2] is 0.5; expected a log",
        ),
        (
            vllm,
            "/choices/0/finish_reason",
            json!("abort"),
            "choices[0].finish_reason is \"abort\" after token 6",
        ),
        (
            vllm,
            "/choices/1/token_ids/1",
            json!(4),
            "choices[1].finish_reason is \"stop\" after token 4, which",
        ),
        (Protocol::Sglang, "/0", Value::Null, "weight_version is null, expected \"policy-ab-v4\""),
        (
            Protocol::Sglang,
            "/1/meta_info/weight_version",
            json!("default"),
            "[1].meta_info.weight_version is \"default\", expected \"policy-ab-v4\"",
        ),
        (
            Protocol::Sglang,
            "/1/meta_info/output_token_logprobs",
            Value::Null,
            "[1].meta_info.output_token_logprobs is missing",
        ),
        (
            Protocol::Sglang,
            "/1/meta_info/output_token_logprobs/0/0",
            Value::Null,
            "output_token_logprobs[0][0] is null; expected a log-probability",
        ),
        (
            Protocol::Sglang,
            "/1/meta_info/output_token_logprobs/2/1",
            json!("6"),
            "output_token_logprobs[2][1] is \"6\"; expected a token id",
        ),
        (Protocol::Sglang, "/1/output_ids/0", json!(5), "[1].output_ids are other tokens"),
    ];
    for (protocol, place, value, expected) in faults {
        let mut answer = if protocol == vllm { vllm_answer() } else { sglang_answer() };
        *answer.pointer_mut(place).unwrap() = value;
        let message = read(protocol, &answer).unwrap_err();
        assert!(message.contains(expected), "{place}: {message}, expected {expected}");
    }
    let short = json!([[-1.5, 4, null]]);
    let mut answer = sglang_answer();
    answer[1]["meta_info"]["output_token_logprobs"] = short;
    answer[1]["output_ids"] = json!([4]);
    let message = read(Protocol::Sglang, &answer).unwrap_err();
    assert!(message.contains("is \"length\" after 1 of 3 tokens"), "{message}");
}

/// Protects: a request has token ids and every setting of sampling; samples of a prompt have consecutive
/// seeds.
#[test]
fn requests_carry_tokens_and_seeds() {
    let (ask, ends) = (ask(), BTreeSet::from([2]));
    let seed = super::super::request_seed(0, 7);
    let body = vllm::body(&ask, &ask.prompts[0], &version(true), &ends);
    assert_eq!(body["prompt"], json!([1, 5]));
    assert_eq!(
        [&body["model"], &body["n"], &body["logprobs"]],
        [&json!("policy-ab-v4"), &json!(2), &json!(0)]
    );
    assert_eq!(body["seed"], json!(seed));
    let body = sglang::body(&ask, &ask.prompts[0], &version(true), &ends);
    assert_eq!(body["input_ids"], json!([[1, 5], [1, 5]]));
    assert_eq!(body["lora_path"], json!("policy-ab-v4"));
    assert_eq!(body["sampling_params"][1]["sampling_seed"], json!(seed + 1));
    assert!(sglang::body(&ask, &ask.prompts[0], &version(false), &ends)["lora_path"].is_null());
    assert!(seed < 1 << 62);
}

/// Protects: a server's answer to new weights is read, not assumed.
#[test]
fn refused_weights_are_an_error() {
    assert_eq!(sglang::updated(r#"{"success": true, "message": ""}"#), Ok(()));
    let refused = sglang::updated(r#"{"success": false, "message": "no such path"}"#).unwrap_err();
    assert!(refused.starts_with("success is false, expected true") && refused.contains("no such path"));
    assert!(sglang::updated("oops").unwrap_err().starts_with("the answer is not JSON"));
}

/// Protects: a server keeps as many versions as rollouts may be old, and one more.
#[test]
fn old_versions_are_outdated() {
    let mut versions = Versions::new(Path::new("weights"), 2);
    let mut dropped = Vec::new();
    for version in 0..6 {
        dropped.extend(versions.outdated());
        versions.push(version);
        assert!(versions.all().len() <= 3);
    }
    assert_eq!((dropped, versions.all()), (vec![0, 1, 2], vec![3, 4, 5]));
}
