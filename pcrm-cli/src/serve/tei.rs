//! The protocol of Text Embeddings Inference: `/predict` and `/rerank`. Scores are σ(r) unless a request asks
//! for raw ones.

use serde_json::{Value, json};

use super::answer::{Named, ScoreAnswer};
use super::ask::{Input, ScoreRequest, Side, TooLong};
use super::fields::{BodyFields, text, texts, wrong};
use super::number::number;
use super::refusal::{Refusal, RefusalKind};

/// Reads `/predict`: a text, a pair, or a batch of texts and pairs. Also returns true for a single input.
///
/// # Errors
/// Fails if the body is not such a request.
pub fn read_predict(body: &Value) -> Result<(ScoreRequest, bool), Refusal> {
    const EXPECTED: &str = "a text, a pair of texts, or a list of [text] and [text, text]";
    let fields = BodyFields::of(body)?;
    let inputs = fields.required("inputs", EXPECTED)?;
    let one = |place: &str, value: &Value| match value {
        Value::String(one) => Ok(Input::text(one)),
        Value::Array(all) => match all.as_slice() {
            [one] => Ok(Input::text(text(place, one)?)),
            [left, right] => Ok(Input::Pair {
                prompt: text(place, left)?.to_owned(),
                answer: text(place, right)?.to_owned(),
            }),
            _ => Err(wrong(place, value, "a list of one or two texts")),
        },
        other => Err(wrong(place, other, EXPECTED)),
    };
    let (inputs, single) = match inputs {
        Value::Array(all) if all.is_empty() => {
            return Err(Refusal::new(RefusalKind::Empty, "inputs: it is an empty list"));
        }
        Value::Array(all) if all[0].is_array() => {
            let each = all.iter().enumerate().map(|(at, value)| one(&format!("inputs[{at}]"), value));
            (each.collect::<Result<Vec<_>, _>>()?, false)
        }
        value => (vec![one("inputs", value)?], true),
    };
    Ok((ask(fields, inputs)?, single))
}

/// Reads `/rerank`: a query and texts. Also returns the texts if the answer must contain them.
///
/// # Errors
/// Fails if the body is not such a request.
pub fn read_rerank(body: &Value) -> Result<(ScoreRequest, Option<Vec<String>>), Refusal> {
    let fields = BodyFields::of(body)?;
    let query = text("query", fields.required("query", "a text")?)?;
    let answers = texts("texts", fields.required("texts", "a list of texts")?)?;
    if answers.is_empty() {
        return Err(Refusal::new(RefusalKind::Empty, "texts: it is an empty list"));
    }
    let pair = |answer: &&str| Input::Pair { prompt: query.to_owned(), answer: (*answer).to_owned() };
    let inputs = answers.iter().map(pair).collect();
    let returned = fields.flag("return_text")?.unwrap_or(false);
    let returned = returned.then(|| answers.iter().map(|text| (*text).to_owned()).collect());
    Ok((ask(fields, inputs)?, returned))
}

fn ask(fields: BodyFields<'_>, inputs: Vec<Input>) -> Result<ScoreRequest, Refusal> {
    let side = Side::read(fields, "truncation_direction", Side::Right)?;
    let too_long = match fields.flag("truncate")?.unwrap_or(false) {
        true => TooLong::Cut { side, to: None },
        false => TooLong::Refuse,
    };
    let model = fields.get("model").map(|value| text("model", value)).transpose()?.map(str::to_owned);
    Ok(ScoreRequest { model, inputs, too_long, raw: fields.flag("raw_scores")?.unwrap_or(false) })
}

/// Writes the answer of `/predict`.
pub fn write_predictions(answer: &ScoreAnswer, named: &Named<'_>, single: bool) -> Value {
    let one = |score: &f32| json!([{"score": number(*score), "label": named.label}]);
    let mut all: Vec<Value> = answer.scores.iter().map(one).collect();
    if single { all.pop().unwrap_or(Value::Null) } else { Value::Array(all) }
}

/// Writes the answer of `/rerank`: the texts in descending order of scores.
pub fn write_ranked(answer: &ScoreAnswer, texts: Option<&[String]>) -> Value {
    let one = |at: usize| {
        let mut fields = json!({"index": at, "score": number(answer.scores[at])});
        if let Some(text) = texts.and_then(|texts| texts.get(at)) {
            fields["text"] = text.as_str().into();
        }
        fields
    };
    answer.ranked().into_iter().map(one).collect()
}

/// Writes a refusal.
pub fn refuse(refusal: &Refusal) -> (u16, Value) {
    let status = match refusal.kind {
        RefusalKind::Malformed | RefusalKind::Invalid => 422,
        RefusalKind::Failed => 424,
        kind => kind.status(),
    };
    (status, json!({"error": refusal.message, "error_type": refusal.kind.name()}))
}
