//! The protocols, distinguished by the path and the fields of a request.

use serde_json::Value;

use super::answer::{Named, ScoreAnswer};
use super::ask::ScoreRequest;
use super::refusal::{Refusal, RefusalKind};
use super::vllm::Ranking;
use super::{openrlhf, sglang, tei, vllm};

/// A family of clients, which defines the format of refusals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientFamily {
    OpenRlhf,
    Vllm,
    Sglang,
    Tei,
}

/// The family of paths and fields shared by two families: `/v1/classify` and `/v1/rerank`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Dialect {
    /// σ of scores unless `use_activation` is false, with rankings in vLLM's format
    #[default]
    Vllm,
    /// Raw scores, with rankings in SGLang's format
    Sglang,
}

/// A scoring route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    GetReward,
    Classify,
    V1Classify,
    Pooling,
    Score,
    V1Score,
    Rerank,
    V1Rerank,
    Embeddings,
    Predict,
}

/// All scoring paths with their routes.
pub const PATHS: [(&str, Route); 14] = [
    ("/get_reward", Route::GetReward),
    ("/", Route::GetReward),
    ("/classify", Route::Classify),
    ("/v1/classify", Route::V1Classify),
    ("/pooling", Route::Pooling),
    ("/v1/pooling", Route::Pooling),
    ("/score", Route::Score),
    ("/v1/score", Route::V1Score),
    ("/rerank", Route::Rerank),
    ("/v1/rerank", Route::V1Rerank),
    ("/v2/rerank", Route::Rerank),
    ("/embeddings", Route::Embeddings),
    ("/v1/embeddings", Route::Embeddings),
    ("/predict", Route::Predict),
];

/// A request: its contents, and the format of its answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    pub ask: ScoreRequest,
    pub form: AnswerFormat,
}

/// The formats of answers.
#[derive(Debug, Clone, PartialEq)]
pub enum AnswerFormat {
    OpenRlhf,
    VllmClasses,
    VllmPooled { is_base64: bool },
    VllmScores,
    VllmRanked(Ranking),
    SglangClasses { single: bool },
    SglangRanked(Ranking),
    Embeddings { is_base64: bool },
    TeiPredictions { single: bool },
    TeiRanked(Option<Vec<String>>),
}

impl ClientFamily {
    /// Returns the family of a request, from its path and the names of its fields.
    pub fn of(route: Route, body: &Value, dialect: Dialect) -> Self {
        let has = |name: &str| body.get(name).is_some();
        match route {
            Route::GetReward => Self::OpenRlhf,
            Route::Classify if has("text") || has("input_ids") => Self::Sglang,
            Route::Classify | Route::V1Classify if has("inputs") => Self::Tei,
            Route::Rerank | Route::V1Rerank if has("texts") => Self::Tei,
            Route::V1Score if has("label_token_ids") => Self::Sglang,
            Route::V1Classify | Route::V1Rerank if dialect == Dialect::Sglang => Self::Sglang,
            Route::Classify | Route::V1Classify | Route::Pooling | Route::Score | Route::V1Score => {
                Self::Vllm
            }
            Route::Rerank | Route::V1Rerank => Self::Vllm,
            Route::Embeddings => Self::Sglang,
            Route::Predict => Self::Tei,
        }
    }

    /// Writes a refusal: its status and its body.
    pub fn refuse(self, refusal: &Refusal) -> (u16, Value) {
        match self {
            Self::OpenRlhf => openrlhf::refuse(refusal),
            Self::Vllm => vllm::refuse(refusal),
            Self::Sglang => sglang::refuse(refusal),
            Self::Tei => tei::refuse(refusal),
        }
    }
}

impl Request {
    /// Reads the body of a request.
    ///
    /// # Errors
    /// Fails if the body is not a request of the route.
    pub fn read(route: Route, family: ClientFamily, body: &Value) -> Result<Self, Refusal> {
        let (ask, form) = match (route, family) {
            (Route::GetReward, _) => (openrlhf::read(body)?, AnswerFormat::OpenRlhf),
            (Route::Classify | Route::V1Classify | Route::Predict, ClientFamily::Tei) => {
                let (ask, single) = tei::read_predict(body)?;
                (ask, AnswerFormat::TeiPredictions { single })
            }
            (Route::Rerank | Route::V1Rerank, ClientFamily::Tei) => {
                let (ask, texts) = tei::read_rerank(body)?;
                (ask, AnswerFormat::TeiRanked(texts))
            }
            (Route::Classify, ClientFamily::Sglang) => {
                let (ask, single) = sglang::read_classify(body)?;
                (ask, AnswerFormat::SglangClasses { single })
            }
            (Route::V1Classify, ClientFamily::Sglang) => {
                let ask = vllm::read_inputs(body)?;
                let raw = body.get("use_activation") != Some(&Value::Bool(true));
                (ScoreRequest { raw, ..ask }, AnswerFormat::VllmClasses)
            }
            (Route::V1Rerank, ClientFamily::Sglang) => {
                let (ask, ranking) = sglang::read_ranking(body)?;
                (ask, AnswerFormat::SglangRanked(ranking))
            }
            (Route::V1Score, ClientFamily::Sglang) => {
                let message = "label_token_ids: token probabilities need a language model; this is a reward \
                               model: use /v1/classify or /v1/embeddings";
                return Err(Refusal::new(RefusalKind::Invalid, message));
            }
            (Route::Pooling, _) => {
                let is_base64 = vllm::is_base64(body)?;
                (vllm::read_inputs(body)?, AnswerFormat::VllmPooled { is_base64 })
            }
            (Route::Classify | Route::V1Classify, _) => (vllm::read_inputs(body)?, AnswerFormat::VllmClasses),
            (Route::Score | Route::V1Score, _) => (vllm::read_pairs(body)?, AnswerFormat::VllmScores),
            (Route::Rerank | Route::V1Rerank, _) => {
                let (ask, ranking) = vllm::read_rerank(body)?;
                (ask, AnswerFormat::VllmRanked(ranking))
            }
            (Route::Embeddings, _) => {
                let is_base64 = vllm::is_base64(body)?;
                (sglang::read_embeddings(body)?, AnswerFormat::Embeddings { is_base64 })
            }
            (Route::Predict, _) => {
                return Err(Refusal::new(RefusalKind::Malformed, "not a request of /predict"));
            }
        };
        match ask.inputs.is_empty() {
            true => Err(Refusal::new(RefusalKind::Empty, "the request has nothing to score")),
            false => Ok(Self { ask, form }),
        }
    }
}

impl AnswerFormat {
    /// Returns the family of clients that read the format.
    pub fn family(&self) -> ClientFamily {
        match self {
            Self::OpenRlhf => ClientFamily::OpenRlhf,
            Self::VllmClasses | Self::VllmPooled { .. } | Self::VllmScores | Self::VllmRanked(_) => {
                ClientFamily::Vllm
            }
            Self::SglangClasses { .. } | Self::SglangRanked(_) | Self::Embeddings { .. } => {
                ClientFamily::Sglang
            }
            Self::TeiPredictions { .. } | Self::TeiRanked(_) => ClientFamily::Tei,
        }
    }

    /// Writes an answer.
    pub fn write(&self, answer: &ScoreAnswer, named: &Named<'_>) -> Value {
        match self {
            Self::OpenRlhf => openrlhf::write(&answer.scores),
            Self::VllmClasses => vllm::write_classes(answer, named),
            Self::VllmPooled { is_base64 } => vllm::write_pooled(answer, named, *is_base64),
            Self::VllmScores => vllm::write_scores(answer, named),
            Self::VllmRanked(ranking) => vllm::write_ranked(answer, named, ranking),
            Self::SglangClasses { single } => sglang::write_classes(answer, named, *single),
            Self::SglangRanked(ranking) => sglang::write_ranked(answer, named, ranking),
            Self::Embeddings { is_base64 } => sglang::write_embeddings(answer, named, *is_base64),
            Self::TeiPredictions { single } => tei::write_predictions(answer, named, *single),
            Self::TeiRanked(texts) => tei::write_ranked(answer, texts.as_deref()),
        }
    }
}
