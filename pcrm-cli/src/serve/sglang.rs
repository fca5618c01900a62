//! SGLang's protocol: its own `/classify`, and `/v1/embeddings`. Scores are raw.

use serde_json::{Value, json};

use super::answer::{Named, ScoreAnswer};
use super::ask::{Input, ScoreRequest, TooLong, messages, texts_or_ids};
use super::fields::{BodyFields, text, wrong};
use super::number::{base64, number};
use super::refusal::{Refusal, RefusalKind};
use super::vllm::{Ranking, read_rerank, usage};

/// Reads SGLang's own `/classify`: `text` or `input_ids`. Also returns true for a single input, whose answer
/// is not a list.
///
/// # Errors
/// Fails if the body is not such a request.
pub fn read_classify(body: &Value) -> Result<(ScoreRequest, bool), Refusal> {
    let fields = BodyFields::of(body)?;
    let (inputs, single) = match (fields.get("text"), fields.get("input_ids")) {
        (Some(texts), None) => (texts_or_ids("text", texts, false)?, texts.is_string()),
        (None, Some(Value::Array(ids))) => {
            let inputs = texts_or_ids("input_ids", &Value::Array(ids.clone()), false)?;
            (inputs, ids.first().is_some_and(Value::is_number))
        }
        (None, Some(other)) => return Err(wrong("input_ids", other, "a list of token ids")),
        (Some(_), Some(_)) => {
            return Err(Refusal::field(
                "input_ids",
                "it is given together with text; expected one of the two",
            ));
        }
        (None, None) => return Err(Refusal::missing("text", "a text or a list of texts, or input_ids")),
    };
    Ok((ask(fields, inputs)?, single))
}

/// Reads `/v1/embeddings`: `input` holds texts, token ids or conversations.
///
/// # Errors
/// Fails if the body is not such a request.
pub fn read_embeddings(body: &Value) -> Result<ScoreRequest, Refusal> {
    let fields = BodyFields::of(body)?;
    fields.unserved(&["dimensions"])?;
    let inputs = match fields.get("messages") {
        Some(turns) => vec![Input::Chat { messages: messages("messages", turns)?, generation_prompt: false }],
        None => texts_or_ids("input", fields.required("input", "texts or token ids")?, false)?,
    };
    ask(fields, inputs)
}

/// Reads `/v1/rerank` in SGLang's format.
///
/// # Errors
/// Fails if the body is not such a request.
pub fn read_ranking(body: &Value) -> Result<(ScoreRequest, Ranking), Refusal> {
    let (ask, ranking) = read_rerank(body)?;
    Ok((ScoreRequest { raw: true, ..ask }, ranking))
}

fn ask(fields: BodyFields<'_>, inputs: Vec<Input>) -> Result<ScoreRequest, Refusal> {
    let model = fields.get("model").map(|value| text("model", value)).transpose()?.map(str::to_owned);
    Ok(ScoreRequest { model, inputs, too_long: TooLong::Refuse, raw: true })
}

/// Writes the answer of SGLang's own `/classify`.
pub fn write_classes(answer: &ScoreAnswer, named: &Named<'_>, single: bool) -> Value {
    let one = |(at, (score, tokens)): (usize, (&f32, &usize))| {
        let id = if single { named.id.to_owned() } else { format!("{}-{at}", named.id) };
        let meta = json!({
            "id": id, "finish_reason": null, "prompt_tokens": tokens, "cached_tokens": 0, "e2e_latency": named.seconds
        });
        json!({"embedding": [number(*score)], "meta_info": meta})
    };
    let mut all: Vec<Value> = answer.scores.iter().zip(&answer.tokens).enumerate().map(one).collect();
    if single { all.pop().unwrap_or(Value::Null) } else { Value::Array(all) }
}

/// Writes the answer of `/v1/embeddings`: vectors of one number.
pub fn write_embeddings(answer: &ScoreAnswer, named: &Named<'_>, is_base64: bool) -> Value {
    let one = |(at, score): (usize, &f32)| {
        let embedding = if is_base64 { base64(&[*score]).into() } else { json!([number(*score)]) };
        json!({"object": "embedding", "index": at, "embedding": embedding})
    };
    let data: Vec<Value> = answer.scores.iter().enumerate().map(one).collect();
    json!({"object": "list", "data": data, "model": named.model, "usage": usage(answer)})
}

/// Writes the answer of SGLang's `/v1/rerank`.
pub fn write_ranked(answer: &ScoreAnswer, named: &Named<'_>, ranking: &Ranking) -> Value {
    let most = if ranking.top == 0 { answer.scores.len() } else { ranking.top };
    let one = |at: &usize| {
        json!({
            "score": number(answer.scores[*at]), "document": ranking.documents.get(*at), "index": at,
            "meta_info": {"id": named.id, "prompt_tokens": answer.tokens[*at], "e2e_latency": named.seconds}
        })
    };
    answer.ranked().iter().take(most).map(one).collect()
}

/// Writes a refusal.
pub fn refuse(refusal: &Refusal) -> (u16, Value) {
    let status = refusal.kind.status();
    let kind = match refusal.kind {
        RefusalKind::Failed | RefusalKind::Stopping => "InternalServerError",
        _ => "BadRequestError",
    };
    let fields = json!({
        "object": "error", "message": refusal.message, "type": kind, "param": refusal.field, "code": status,
        "error": {"message": refusal.message}
    });
    (status, fields)
}
