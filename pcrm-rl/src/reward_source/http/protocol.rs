//! The request formats of reward servers.

use serde_json::{Value, json};

use super::Config;
use super::text::Texts;
use crate::reward_source::Answers;

/// A protocol of reward servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// OpenRLHF's `/get_reward`.
    OpenRlhf,
    /// vLLM's `/classify`, and SGLang's `/v1/classify`.
    Classify,
    /// SGLang's own `/classify`.
    Sglang,
    /// vLLM's `/pooling`.
    Pooling,
    /// vLLM's `/score`.
    Score,
    /// `/v1/embeddings` with one number per text.
    Embeddings,
    /// TEI's `/predict`.
    Predict,
    /// TEI's `/rerank`.
    TeiRerank,
    /// `/v1/rerank` of vLLM and Jina.
    Rerank,
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::OpenRlhf => "OpenRLHF (/get_reward)",
            Self::Classify => "vLLM (/classify, no activation)",
            Self::Sglang => "SGLang (/classify)",
            Self::Pooling => "vLLM (/pooling, no activation)",
            Self::Score => "vLLM (/score, no activation)",
            Self::Embeddings => "OpenAI's embeddings, of one number",
            Self::Predict => "TEI (/predict, raw scores)",
            Self::TeiRerank => "TEI (/rerank, raw scores)",
            Self::Rerank => "vLLM and Jina (/rerank, no activation)",
        })
    }
}

/// One request: the rows of the batch that it covers, and its body.
#[derive(Debug)]
pub struct PartialRequest {
    pub rows: Vec<usize>,
    pub body: Value,
}

impl Protocol {
    /// Returns the protocol selected by an address.
    ///
    /// # Errors
    /// Fails if the path selects no protocol.
    pub fn of(url: &str) -> Result<Self, String> {
        let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
        let rest = rest.ok_or_else(|| format!("{url:?}: expected an address, http://.. or https://.."))?;
        let (rest, named) = rest.split_once('#').map_or((rest, None), |(rest, named)| (rest, Some(named)));
        let rest = rest.split('?').next().unwrap_or_default();
        let path = rest.find('/').map_or("", |at| &rest[at..]);
        let ends = |name: &str| path.trim_end_matches('/').ends_with(name);
        let found = match named {
            Some("openrlhf") => Some(Self::OpenRlhf),
            Some("sglang") if ends("/embeddings") => Some(Self::Embeddings),
            Some("sglang") => Some(Self::Sglang),
            Some("tei") if ends("/rerank") => Some(Self::TeiRerank),
            Some("tei") => Some(Self::Predict),
            Some("vllm") if ends("/rerank") => Some(Self::Rerank),
            Some("vllm") if ends("/score") => Some(Self::Score),
            Some("vllm") if ends("/pooling") => Some(Self::Pooling),
            Some("vllm") => Some(Self::Classify),
            Some(_) => None,
            None if ends("/get_reward") || path == "/" => Some(Self::OpenRlhf),
            None if ends("/classify") => Some(Self::Classify),
            None if ends("/pooling") => Some(Self::Pooling),
            None if ends("/score") => Some(Self::Score),
            None if ends("/embeddings") => Some(Self::Embeddings),
            None if ends("/predict") => Some(Self::Predict),
            None if ends("/v1/rerank") || ends("/v2/rerank") => Some(Self::Rerank),
            None if ends("/rerank") => Some(Self::TeiRerank),
            None => None,
        };
        found.ok_or_else(|| {
            format!(
                "{url}: the path names no protocol; expected /get_reward, /classify, /pooling, /score, \
                 /v1/embeddings, /predict or /rerank, or one of #openrlhf, #vllm, #sglang and #tei at its end"
            )
        })
    }

    /// Returns true if a request has the prompt separate from its answers.
    pub fn has_pairs(self) -> bool {
        matches!(self, Self::Score | Self::TeiRerank | Self::Rerank)
    }

    /// Returns true if conversations are sent as messages.
    pub fn has_messages(self) -> bool {
        matches!(self, Self::Classify | Self::Pooling)
    }

    /// Returns the requests of a batch.
    ///
    /// # Errors
    /// Fails if the protocol cannot express a row.
    pub fn parts(
        self,
        batch: &Answers<'_>,
        texts: &Texts,
        config: &Config,
    ) -> Result<Vec<PartialRequest>, String> {
        let runs: Vec<Vec<usize>> = match self {
            Self::TeiRerank | Self::Rerank => batch.by_prompt().into_iter().map(Iterator::collect).collect(),
            _ => vec![(0..batch.rows.len()).collect()],
        };
        let mut parts = Vec::new();
        for rows in runs.iter().flat_map(|run| run.chunks(config.batch)) {
            let is_conversation = |row: &&usize| batch.rows[**row].prompt.prompt.is_conversation();
            let as_messages = self.has_messages() && !texts.has_tokenizer();
            let (messages, others): (Vec<usize>, Vec<usize>) =
                rows.iter().partition(|row| as_messages && is_conversation(row));
            // A request has the messages of a single conversation.
            for row in messages {
                let answer = &batch.rows[row];
                let body = json!({"messages": Texts::messages(answer), "add_generation_prompt": false});
                parts.push(PartialRequest { rows: vec![row], body: self.dressed(body, config) });
            }
            if !others.is_empty() {
                let body = self.dressed(self.body(&others, batch, texts)?, config);
                parts.push(PartialRequest { rows: others, body });
            }
        }
        Ok(parts)
    }

    fn body(self, rows: &[usize], batch: &Answers<'_>, texts: &Texts) -> Result<Value, String> {
        let answers = || rows.iter().map(|row| &batch.rows[*row]);
        let located = |row: usize, message: String| format!("{}: {message}", batch.place(row));
        let text =
            |row: &usize| texts.sequence(self, &batch.rows[*row]).map_err(|message| located(*row, message));
        let asked =
            |row: &usize| Texts::question(batch.rows[*row].prompt).map_err(|message| located(*row, message));
        let all = |of: &dyn Fn(&usize) -> Result<String, String>| {
            rows.iter().map(of).collect::<Result<Vec<String>, String>>()
        };
        let written: Vec<&str> = answers().map(|answer| answer.completion()).collect();
        Ok(match self {
            Self::OpenRlhf => {
                let prompts: Vec<&str> = answers().map(|answer| answer.texts.prompt.as_str()).collect();
                let labels: Vec<&Value> = answers().map(|answer| texts.label(answer)).collect();
                json!({"query": all(&text)?, "prompts": prompts, "labels": labels})
            }
            Self::Classify | Self::Pooling | Self::Embeddings => json!({"input": all(&text)?}),
            Self::Sglang => json!({"text": all(&text)?}),
            Self::Score => json!({"text_1": all(&asked)?, "text_2": written}),
            Self::Predict => {
                let inputs: Vec<[String; 1]> = all(&text)?.into_iter().map(|text| [text]).collect();
                json!({"inputs": inputs})
            }
            Self::TeiRerank => json!({"query": asked(&rows[0])?, "texts": written}),
            Self::Rerank => json!({"query": asked(&rows[0])?, "documents": written}),
        })
    }

    /// Adds common fields: the model's name, and the request for raw scores.
    fn dressed(self, mut body: Value, config: &Config) -> Value {
        if let Some(model) = &config.model {
            body["model"] = model.as_str().into();
        }
        match self {
            // The field of current vLLM releases, and of earlier ones.
            Self::Classify | Self::Pooling | Self::Score | Self::Rerank => {
                body["use_activation"] = false.into();
                body["activation"] = false.into();
            }
            Self::Predict | Self::TeiRerank => body["raw_scores"] = true.into(),
            Self::Embeddings => {
                body["encoding_format"] = "float".into();
                if config.model.is_none() {
                    body["model"] = "default".into();
                }
            }
            Self::OpenRlhf | Self::Sglang => {}
        }
        if self == Self::Pooling {
            body["encoding_format"] = "float".into();
            // Without this, vLLM scores every token.
            body["task"] = "classify".into();
        }
        body
    }
}
