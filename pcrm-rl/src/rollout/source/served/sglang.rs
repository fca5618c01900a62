//! SGLang's `/generate`: token ids in, token ids with their log-probabilities out, and its requests for loading new
//! weights.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::super::super::{Prompt, Sample};
use super::super::{SampleRequest, request_seed};
use super::Version;
use super::server::Server;
use crate::rollout::answer;
use crate::transport::cut;

/// Returns the request for all samples of a prompt: a batch with a seed for each. (`n` would give them all
/// the same seed.) Servers without `--enable-deterministic-inference` ignore seeds.
pub(super) fn body(ask: &SampleRequest, prompt: &Prompt, version: &Version, ends: &BTreeSet<u32>) -> Value {
    let first = request_seed(ask.sampling.seed, prompt.number);
    let sampling = |sample: usize| {
        json!({
            "max_new_tokens": ask.sampling.max_tokens,
            "temperature": ask.sampling.filters.temperature,
            "top_p": 1.0,
            "top_k": -1,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "sampling_seed": first + sample as u64,
            "stop_token_ids": ends,
            "skip_special_tokens": false,
            "no_stop_trim": true,
        })
    };
    let mut body = json!({
        "input_ids": vec![&prompt.ids; ask.samples],
        "sampling_params": (0..ask.samples).map(sampling).collect::<Vec<_>>(),
        "return_logprob": true,
    });
    if version.adapter {
        body["lora_path"] = version.name.as_str().into();
    }
    body
}

/// Reads the samples of a prompt. Tokens are read from the list of log-probabilities, which includes the token that
/// ended the answer.
pub(super) fn read(
    value: &Value,
    server: &Server,
    ask: &SampleRequest,
    version: &Version,
) -> Result<Vec<Sample>, String> {
    let all = answer::list(value, "the answer", "a list of answers")?;
    if all.len() != ask.samples {
        return Err(format!("the answer has {} answers, expected {}", all.len(), ask.samples));
    }
    all.iter().enumerate().map(|(at, one)| sample(one, at, server, ask, version)).collect()
}

fn sample(
    value: &Value,
    at: usize,
    server: &Server,
    ask: &SampleRequest,
    version: &Version,
) -> Result<Sample, String> {
    let field = |name: &str| format!("[{at}].meta_info.{name}");
    let info = &value["meta_info"];
    // With an adapter, the request names the version, and this is the version of the base weights.
    if !version.adapter && info["weight_version"] != version.name.as_str() {
        let (field, found) = (field("weight_version"), &info["weight_version"]);
        return Err(format!("{field} is {found}, expected {:?}", version.name));
    }
    let name = field("output_token_logprobs");
    let pairs = answer::list(&info["output_token_logprobs"], &name, "[log-probability, token id, ..] each")?;
    if pairs.is_empty() {
        return Err(format!("{name} is empty; expected at least one token"));
    }
    let (mut ids, mut log_probs) = (Vec::with_capacity(pairs.len()), Vec::with_capacity(pairs.len()));
    for (token, pair) in pairs.iter().enumerate() {
        log_probs.push(answer::of_log_prob(&pair[0], &format!("{name}[{token}][0]"))?);
        ids.push(answer::of_id(&pair[1], &format!("{name}[{token}][1]"), server.vocabulary)?);
    }
    answer::ends_last(&ids, &name, &server.ends)?;
    let same = |made: &Vec<Value>| {
        let made = made.iter().map(Value::as_u64);
        let scored = || ids.iter().map(|id| Some(u64::from(*id)));
        made.clone().eq(scored()) || made.eq(scored().take(ids.len() - 1))
    };
    if value["output_ids"].as_array().is_some_and(|made| !same(made)) {
        return Err(format!("[{at}].output_ids are other tokens than those of {name}"));
    }
    let reason = info["finish_reason"]["type"].as_str().unwrap_or("null");
    server.sample(ids, log_probs, reason, &field("finish_reason.type"), ask)
}

/// Returns the request to load weights from a folder.
pub(super) fn update(version: &Version) -> Value {
    json!({
        "model_path": version.folder,
        "weight_version": version.name,
        "abort_all_requests": false,
        "flush_cache": true,
    })
}

/// Reads the answer to [`update`].
pub(super) fn updated(text: &str) -> Result<(), String> {
    let value: Value = serde_json::from_str(text)
        .map_err(|error| format!("the answer is not JSON: {error}: {}", cut(text)))?;
    match value["success"] == true {
        true => Ok(()),
        false => Err(format!("success is {}, expected true: {}", value["success"], cut(text))),
    }
}
