//! vLLM's protocol: `/classify`, `/pooling`, `/score` and `/rerank`, also under `/v1` and `/v2`.
//!
//! Scores are σ(r), as in vLLM for models with one label, unless a request sets `"use_activation": false`.

use serde_json::{Value, json};

use super::answer::{Named, ScoreAnswer};
use super::ask::{Input, ScoreRequest, Side, TooLong, messages, texts_or_ids};
use super::fields::{BodyFields, text, texts, wrong};
use super::number::{base64, number};
use super::refusal::{Refusal, RefusalKind};

/// Body fields that would change scores and are not supported by this server.
const UNSERVED: &[&str] =
    &["chat_template", "chat_template_kwargs", "continue_final_message", "dimensions", "mm_processor_kwargs"];

/// Reads `/classify` and `/pooling`: texts, token ids, or one conversation.
///
/// # Errors
/// Fails if the body is not such a request.
pub fn read_inputs(body: &Value) -> Result<ScoreRequest, Refusal> {
    let fields = BodyFields::of(body)?;
    let inputs = match fields.get("messages") {
        Some(turns) => {
            let generation_prompt = fields.flag("add_generation_prompt")?.unwrap_or(false);
            vec![Input::Chat { messages: messages("messages", turns)?, generation_prompt }]
        }
        None => {
            let special = fields.flag("add_special_tokens")?.unwrap_or(true);
            texts_or_ids("input", fields.required("input", "texts or token ids, or messages")?, !special)?
        }
    };
    if let Some(task) = fields.text("task")?.filter(|task| !["classify", "score", "encode"].contains(task)) {
        let message = format_args!("{task:?} is not supported; expected \"classify\"");
        return Err(Refusal::field("task", message));
    }
    ask(fields, inputs)
}

/// Reads `/score`: one text against several, or two lists of equal length.
///
/// # Errors
/// Fails if the body is not such a request.
pub fn read_pairs(body: &Value) -> Result<ScoreRequest, Refusal> {
    const NAMES: [[&str; 2]; 4] =
        [["text_1", "text_2"], ["queries", "documents"], ["queries", "items"], ["data_1", "data_2"]];
    let fields = BodyFields::of(body)?;
    let names = NAMES.into_iter().find(|names| names.iter().all(|name| fields.has(name)));
    let [left, right] = names.unwrap_or(NAMES[0]);
    let side = |name: &str| documents(name, fields.required(name, "a text or a list of texts")?);
    let (prompts, answers) = (side(left)?, side(right)?);
    if prompts.len() != 1 && prompts.len() != answers.len() {
        let message = format_args!(
            "it has {} texts for {} of {right}; expected 1 or an equal number",
            prompts.len(),
            answers.len()
        );
        return Err(Refusal::field(left, message));
    }
    let prompt = |at: usize| prompts.get(at).or(prompts.first()).cloned().unwrap_or_default();
    let inputs =
        answers.into_iter().enumerate().map(|(at, answer)| Input::Pair { prompt: prompt(at), answer });
    ask(fields, inputs.collect())
}

/// The format of a ranking.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranking {
    pub documents: Vec<String>,
    /// The number of results; 0 for all.
    pub top: usize,
}

/// Reads `/rerank`: a query and its documents.
///
/// # Errors
/// Fails if the body is not such a request.
pub fn read_rerank(body: &Value) -> Result<(ScoreRequest, Ranking), Refusal> {
    let fields = BodyFields::of(body)?;
    let query = text("query", fields.required("query", "a text")?)?;
    let documents = documents("documents", fields.required("documents", "a list of texts")?)?;
    let top = fields.integer("top_n")?.unwrap_or(0);
    let top = usize::try_from(top)
        .map_err(|_| Refusal::field("top_n", format_args!("it is {top}; expected 0 (all) or more")))?;
    let pair = |answer: &String| Input::Pair { prompt: query.to_owned(), answer: answer.clone() };
    let inputs = documents.iter().map(pair).collect();
    Ok((ask(fields, inputs)?, Ranking { documents, top }))
}

/// Reads texts, or objects with a `text`.
fn documents(name: &str, value: &Value) -> Result<Vec<String>, Refusal> {
    let one = |place: &str, value: &Value| match value {
        Value::String(text) => Ok(text.clone()),
        Value::Object(parts) => match parts.get("text").and_then(Value::as_str) {
            Some(text) => Ok(text.to_owned()),
            None => Err(wrong(place, value, "a text, or an object with a text")),
        },
        other => Err(wrong(place, other, "a text, or an object with a text")),
    };
    match value {
        Value::Array(all) => {
            all.iter().enumerate().map(|(at, value)| one(&format!("{name}[{at}]"), value)).collect()
        }
        Value::Object(_) => Ok(vec![one(name, value)?]),
        _ => Ok(texts(name, value)?.into_iter().map(str::to_owned).collect()),
    }
}

fn ask(fields: BodyFields<'_>, inputs: Vec<Input>) -> Result<ScoreRequest, Refusal> {
    fields.unserved(UNSERVED)?;
    // vLLM's current name, and the name in earlier releases.
    let activation = match fields.flag("use_activation")? {
        Some(activation) => Some(activation),
        None => fields.flag("activation")?,
    };
    let too_long = match fields.integer("truncate_prompt_tokens")? {
        None => TooLong::Refuse,
        Some(to) => {
            let side = Side::read(fields, "truncation_side", Side::Left)?;
            let to = match to {
                -1 => None,
                to => Some(usize::try_from(to).ok().filter(|to| *to > 0).ok_or_else(|| {
                    let message = format_args!("it is {to}; expected -1 (all the model reads) or at least 1");
                    Refusal::field("truncate_prompt_tokens", message)
                })?),
            };
            TooLong::Cut { side, to }
        }
    };
    Ok(ScoreRequest {
        model: fields.text("model")?.map(str::to_owned),
        inputs,
        too_long,
        raw: activation == Some(false),
    })
}

/// Reads the format of numbers; returns true for base64.
///
/// # Errors
/// Fails if the format is not supported.
pub fn is_base64(body: &Value) -> Result<bool, Refusal> {
    match BodyFields::of(body)?.text("encoding_format")? {
        None | Some("float") => Ok(false),
        Some("base64") => Ok(true),
        Some(other) => Err(Refusal::field(
            "encoding_format",
            format_args!("{other:?} is not supported; expected float or base64"),
        )),
    }
}

/// Counts the tokens of a request in OpenAI's format.
pub fn usage(answer: &ScoreAnswer) -> Value {
    let tokens: usize = answer.tokens.iter().sum();
    json!({
        "prompt_tokens": tokens, "total_tokens": tokens, "completion_tokens": 0, "prompt_tokens_details": null
    })
}

/// Writes the answer of `/classify`.
pub fn write_classes(answer: &ScoreAnswer, named: &Named<'_>) -> Value {
    let one = |(at, score): (usize, &f32)| {
        json!({
            "index": at, "label": named.label, "probs": [number(*score)], "num_classes": 1
        })
    };
    let data: Vec<Value> = answer.scores.iter().enumerate().map(one).collect();
    list(&format!("classify-{}", named.id), data, answer, named)
}

/// Writes the answer of `/pooling`.
pub fn write_pooled(answer: &ScoreAnswer, named: &Named<'_>, is_base64: bool) -> Value {
    let one = |(at, score): (usize, &f32)| {
        let data = if is_base64 { base64(&[*score]).into() } else { json!([number(*score)]) };
        json!({"index": at, "object": "pooling", "data": data})
    };
    let data: Vec<Value> = answer.scores.iter().enumerate().map(one).collect();
    list(&format!("pool-{}", named.id), data, answer, named)
}

/// Writes the answer of `/score`.
pub fn write_scores(answer: &ScoreAnswer, named: &Named<'_>) -> Value {
    let one = |(at, score): (usize, &f32)| json!({"index": at, "object": "score", "score": number(*score)});
    let data: Vec<Value> = answer.scores.iter().enumerate().map(one).collect();
    list(&format!("score-{}", named.id), data, answer, named)
}

fn list(id: &str, data: Vec<Value>, answer: &ScoreAnswer, named: &Named<'_>) -> Value {
    json!({
        "id": id, "object": "list", "created": named.created, "model": named.model, "data": data,
        "usage": usage(answer)
    })
}

/// Writes the answer of `/rerank`: the documents in descending order of scores.
pub fn write_ranked(answer: &ScoreAnswer, named: &Named<'_>, ranking: &Ranking) -> Value {
    let most = if ranking.top == 0 { answer.scores.len() } else { ranking.top };
    let one = |at: &usize| {
        json!({
            "index": at, "document": {"text": ranking.documents.get(*at), "multi_modal": null},
            "relevance_score": number(answer.scores[*at])
        })
    };
    let results: Vec<Value> = answer.ranked().iter().take(most).map(one).collect();
    json!({"id": format!("rerank-{}", named.id), "model": named.model, "usage": usage(answer), "results": results})
}

/// Writes a refusal in OpenAI's format.
pub fn refuse(refusal: &Refusal) -> (u16, Value) {
    let status = refusal.kind.status();
    let kind = match refusal.kind {
        RefusalKind::Unauthorised => "Unauthorized",
        RefusalKind::NotFound | RefusalKind::NoModel => "NotFoundError",
        RefusalKind::Overloaded => "RateLimitError",
        RefusalKind::Failed => "InternalServerError",
        RefusalKind::Stopping => "ServiceUnavailableError",
        _ => "BadRequestError",
    };
    let error = json!({"message": refusal.message, "type": kind, "param": refusal.field, "code": status});
    (status, json!({"error": error}))
}
