//! vLLM's `/v1/completions`: token ids in and out, with the log-probabilities that tokens were drawn with
//! (`--logprobs-mode processed_logprobs`).

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::super::super::{Prompt, Sample};
use super::super::{SampleRequest, request_seed};
use super::Version;
use super::server::Server;
use crate::rollout::answer;

/// Returns the request for all samples of a prompt. vLLM gives sample `i` the seed plus `i`.
///
/// Every setting is sent, as the server takes missing ones from the model's `generation_config.json`.
pub(super) fn body(ask: &SampleRequest, prompt: &Prompt, version: &Version, ends: &BTreeSet<u32>) -> Value {
    json!({
        "model": version.name,
        "prompt": prompt.ids,
        "n": ask.samples,
        "max_tokens": ask.sampling.max_tokens,
        "temperature": ask.sampling.filters.temperature,
        "top_p": 1.0,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "seed": request_seed(ask.sampling.seed, prompt.number),
        "logprobs": 0,
        "return_token_ids": true,
        "stop_token_ids": ends,
        "skip_special_tokens": false,
        "add_special_tokens": false,
    })
}

/// Reads the samples of a prompt.
pub(super) fn read(
    value: &Value,
    server: &Server,
    ask: &SampleRequest,
    prompt: &Prompt,
    version: &Version,
) -> Result<Vec<Sample>, String> {
    match &value["model"] {
        Value::String(model) if *model == version.name => {}
        other => return Err(format!("the answer is of model {other}, expected {:?}", version.name)),
    }
    let choices = answer::list(&value["choices"], "choices", "a list of answers")?;
    if choices.len() != ask.samples {
        return Err(format!("choices has {} answers, expected {}", choices.len(), ask.samples));
    }
    let mut samples = vec![None; choices.len()];
    for (at, choice) in choices.iter().enumerate() {
        let field = |name: &str| format!("choices[{at}].{name}");
        let place = choice["index"].as_u64().and_then(|index| samples.get_mut(usize::try_from(index).ok()?));
        let Some(place @ None) = place else {
            let (index, count) = (&choice["index"], choices.len());
            return Err(format!("{} is {index}; expected each number below {count} once", field("index")));
        };
        if choice["token_ids"].is_null() {
            let field = field("token_ids");
            return Err(format!("{field} is missing; expected token ids, which vLLM returns from 0.10.2 on"));
        }
        if let Value::Array(sent) = &choice["prompt_token_ids"] {
            let same = sent.iter().map(Value::as_u64).eq(prompt.ids.iter().map(|id| Some(u64::from(*id))));
            if !same {
                return Err(format!("{} is not the prompt that was sent", field("prompt_token_ids")));
            }
        }
        let ids = answer::ids(&choice["token_ids"], &field("token_ids"), server.vocabulary)?;
        answer::ends_last(&ids, &field("token_ids"), &server.ends)?;
        let log_probs = &choice["logprobs"]["token_logprobs"];
        let log_probs = answer::log_probs(log_probs, &field("logprobs.token_logprobs"), ids.len())?;
        let reason = choice["finish_reason"].as_str().unwrap_or("null");
        *place = Some(server.sample(ids, log_probs, reason, &field("finish_reason"), ask)?);
    }
    Ok(samples.into_iter().flatten().collect())
}
