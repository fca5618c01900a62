//! OpenRLHF's protocol: `POST /get_reward` with `{"query": [..], "prompts": [..], "labels": [..]}`.

use serde_json::{Value, json};

use super::ask::{Ask, Input, TooLong};
use super::fields::{BodyFields, texts};
use super::number::number;
use super::refusal::{Kind, Refusal};

/// Reads a request. A query is a prompt with its answer as decoded by the policy's tokenizer, including
/// special tokens; a reward model does not use `prompts` and `labels`.
///
/// # Errors
/// Fails if the body is not such a request.
pub fn read(body: &Value) -> Result<Ask, Refusal> {
    let fields = BodyFields::of(body)?;
    let queries = texts("query", fields.required("query", "a list of texts")?)?;
    let input = |text: &str| Input::Text { text: text.to_owned(), bare: true, closed: true };
    Ok(Ask {
        model: fields.text("model")?.map(str::to_owned),
        inputs: queries.into_iter().map(input).collect(),
        too_long: TooLong::Refuse,
        raw: true,
    })
}

/// Writes the answer: rewards, repeated as the scores by which OpenRLHF filters prompts.
pub fn write(scores: &[f32]) -> Value {
    let rewards: Vec<Value> = scores.iter().map(|score| number(*score)).collect();
    json!({"rewards": rewards, "scores": rewards, "extra_logs": {"reward": rewards}})
}

/// Writes a refusal; the client reads only the status.
pub fn refuse(refusal: &Refusal) -> (u16, Value) {
    let status = match refusal.kind {
        Kind::Failed => 500,
        kind => kind.status(),
    };
    (status, json!({"error": refusal.message}))
}
