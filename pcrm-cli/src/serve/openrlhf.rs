//! OpenRLHF's protocol: `POST /get_reward` with `{"query": [..], "prompts": [..], "labels": [..]}`.

use serde_json::{Value, json};

use super::ask::{Input, ScoreRequest, TooLong};
use super::fields::{BodyFields, texts};
use super::number::number;
use super::refusal::{Refusal, RefusalKind};

/// Reads a request. A query is a prompt with its answer as decoded by the policy's tokenizer, including
/// special tokens; a reward model does not use `prompts` and `labels`.
///
/// # Errors
/// Fails if the body is not such a request.
pub fn read(body: &Value) -> Result<ScoreRequest, Refusal> {
    let fields = BodyFields::of(body)?;
    let queries = texts("query", fields.required("query", "a list of texts")?)?;
    let input = |text: &str| Input::Text { text: text.to_owned(), bare: true, closed: true };
    Ok(ScoreRequest {
        model: fields.text("model")?.map(str::to_owned),
        inputs: queries.into_iter().map(input).collect(),
        too_long: TooLong::Refuse,
        raw: true,
    })
}

/// Writes the answer: rewards, and the same numbers as scores, which OpenRLHF filters prompts by.
pub fn write(scores: &[f32]) -> Value {
    let rewards: Vec<Value> = scores.iter().map(|score| number(*score)).collect();
    json!({"rewards": rewards, "scores": rewards, "extra_logs": {"reward": rewards}})
}

/// Writes a refusal; the client reads only the status.
pub fn refuse(refusal: &Refusal) -> (u16, Value) {
    let status = match refusal.kind {
        RefusalKind::Failed => 500,
        kind => kind.status(),
    };
    (status, json!({"error": refusal.message}))
}
