//! Texts to tokens and back: `/tokenize` of vLLM and TEI, vLLM's `/detokenize` and TEI's `/decode`.

use pcrm_core::text::Span;
use serde_json::{Value, json};

use super::ask::messages;
use super::fields::{BodyFields, text, texts, token_ids, wrong};
use super::model::Model;
use super::protocol::ClientFamily;
use super::refusal::{Refusal, RefusalKind};

/// A route between texts and tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conversion {
    Tokenize,
    Detokenize,
    Decode,
}

/// All paths with their routes.
pub const PATHS: [(&str, Conversion); 3] = [
    ("/tokenize", Conversion::Tokenize),
    ("/detokenize", Conversion::Detokenize),
    ("/decode", Conversion::Decode),
];

impl Conversion {
    /// Returns the family of a request, from its path and the names of its fields.
    pub fn family(self, body: &Value) -> ClientFamily {
        match self {
            Self::Tokenize if body.get("inputs").is_some() => ClientFamily::Tei,
            Self::Tokenize | Self::Detokenize => ClientFamily::Vllm,
            Self::Decode => ClientFamily::Tei,
        }
    }

    /// Answers a request for at most `most` texts.
    ///
    /// # Errors
    /// Fails if the body is not a request of the route, or if the tokenizer refuses it.
    pub fn answer(self, model: &Model, body: &Value, most: usize) -> Result<Value, Refusal> {
        let fields = BodyFields::of(body)?;
        match (self, self.family(body)) {
            (Self::Tokenize, ClientFamily::Tei) => {
                let special = fields.flag("add_special_tokens")?.unwrap_or(true);
                let inputs = texts("inputs", fields.required("inputs", "a text or a list of texts")?)?;
                few("inputs", inputs.len(), most)?;
                let one = |text| model.spans(text, special).map(|spans| tei_tokens(&spans));
                inputs.into_iter().map(one).collect::<Result<Vec<_>, _>>().map(Value::Array)
            }
            (Self::Tokenize, _) => vllm_tokens(model, fields),
            (Self::Detokenize, _) => {
                let ids = ids("tokens", fields.required("tokens", "a list of token ids")?)?;
                Ok(json!({"prompt": model.text(&ids, false)?}))
            }
            (Self::Decode, _) => {
                let plain = fields.flag("skip_special_tokens")?.unwrap_or(true);
                let rows = rows(fields.required("ids", "a list of token ids, or a list of such lists")?)?;
                few("ids", rows.len(), most)?;
                rows.iter().map(|ids| model.text(ids, plain)).collect::<Result<Vec<_>, _>>().map(Value::from)
            }
        }
    }
}

/// Answers vLLM's `/tokenize`: a text, or a conversation with the template of the model.
fn vllm_tokens(model: &Model, fields: BodyFields<'_>) -> Result<Value, Refusal> {
    fields.unserved(&["chat_template", "chat_template_kwargs", "continue_final_message", "tools"])?;
    let special = fields.flag("add_special_tokens")?;
    let spans = match fields.get("messages") {
        Some(turns) => {
            let open = fields.flag("add_generation_prompt")?.unwrap_or(true);
            let rendered = model.rendered(&messages("messages", turns)?, open)?;
            model.spans(&rendered, special.unwrap_or(false))?
        }
        None => {
            let prompt = text("prompt", fields.required("prompt", "a text, or messages")?)?;
            model.spans(prompt, special.unwrap_or(true))?
        }
    };
    let ids: Vec<u32> = spans.iter().map(|span| span.id).collect();
    let named = fields.flag("return_token_strs")?.unwrap_or(false);
    let names = named.then(|| spans.iter().map(|span| span.name.as_str()).collect::<Vec<_>>());
    Ok(json!({"count": ids.len(), "max_model_len": model.most, "tokens": ids, "token_strs": names}))
}

fn tei_tokens(spans: &[Span]) -> Value {
    let one = |span: &Span| {
        let [start, stop] = match &span.bytes {
            Some(bytes) => [Some(bytes.start), Some(bytes.end)],
            None => [None, None],
        };
        json!({
            "id": span.id, "text": span.text, "special": span.bytes.is_none(), "start": start, "stop": stop
        })
    };
    spans.iter().map(one).collect()
}

/// Reads one list of token ids, or several.
fn rows(value: &Value) -> Result<Vec<Vec<u32>>, Refusal> {
    match value {
        Value::Array(all) if all.first().is_some_and(Value::is_array) => {
            all.iter().enumerate().map(|(at, row)| ids(&format!("ids[{at}]"), row)).collect()
        }
        value => Ok(vec![ids("ids", value)?]),
    }
}

fn ids(name: &str, value: &Value) -> Result<Vec<u32>, Refusal> {
    match value {
        Value::Array(all) => token_ids(name, all),
        other => Err(wrong(name, other, "a list of token ids")),
    }
}

fn few(name: &str, given: usize, most: usize) -> Result<(), Refusal> {
    match given {
        0 => Err(Refusal::new(RefusalKind::Empty, format!("{name}: it is an empty list"))),
        given if given > most => {
            Err(Refusal::field(name, format_args!("it has {given} texts; expected at most {most}")))
        }
        _ => Ok(()),
    }
}
