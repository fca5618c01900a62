//! The contents of an inspection, as printed on the terminal and by `--json`.

use pcrm_core::data::encode::Padding;
use pcrm_core::data::preference::Report;
use pcrm_core::data::survey::ends::Ends;
use pcrm_core::data::survey::file_schema::FileSchema;
use pcrm_core::data::survey::lengths::Limit;
use pcrm_core::data::survey::repeats::{Overlap, Repeats};
use pcrm_core::data::survey::sets::Sets;
use pcrm_core::data::survey::template::Template;
use pcrm_core::data::survey::{Finding, Severity};
use pcrm_core::text::SpecialToken;
use serde::Serialize;

use super::cost::Cost;
use super::examples::Example;
use super::summaries::{LengthSummary, LongerPreferred, SavedTokens};
use crate::bound_summary::BoundSummary;

/// The contents of an inspection.
#[derive(Debug, Serialize)]
pub struct Inspection {
    /// The version of pcrm.
    pub pcrm: &'static str,
    /// The severity of the gravest finding.
    pub severity: Option<Severity>,
    /// The findings, gravest first.
    pub findings: Vec<Finding>,
    /// The model.
    pub model: ModelFacts,
    /// Facts about the model's tokenizer.
    pub tokenizer: TokenizerFacts,
    /// The schema of each file, and the columns that show it.
    pub schemas: Vec<FileSchema>,
    /// The numbers of rows read and left out.
    pub reading: Report,
    /// The fit of the chat template to the data.
    pub template: Template,
    /// The ranked sets of answers, if there are any.
    pub sets: Option<Sets>,
    /// The facts about pairs as tokens; `None` if they cannot be encoded.
    pub pairs: Option<PairFacts>,
    /// The part of `--eval-data` that also appears in `--data`.
    pub overlap: Option<Overlap>,
    /// The cost of training.
    pub cost: Option<Cost>,
}

/// The relevant facts about a model.
#[derive(Debug, Serialize)]
pub struct ModelFacts {
    /// The folder of the model.
    pub path: String,
    /// The family of the model (`model_type`).
    pub family: &'static str,
    /// The number of embeddings.
    pub vocabulary: usize,
    /// The longest sequence according to its config.
    pub positions: usize,
    /// True if positions are learned, so that longer sequences are impossible.
    pub learned_positions: bool,
    /// The special tokens around a question and its answer, for an encoder that reads them as a pair.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pairs: Option<String>,
}

/// The relevant facts about a tokenizer.
#[derive(Debug, Serialize)]
pub struct TokenizerFacts {
    /// The number of ids it can produce.
    pub vocabulary: usize,
    /// The token that begins texts.
    pub bos: Option<SpecialToken>,
    /// The token that ends texts.
    pub eos: Option<SpecialToken>,
    /// The padding token.
    pub padding: Padding,
    /// The token for unknown text.
    pub unknown: Option<SpecialToken>,
}

/// The facts about pairs as tokens.
#[derive(Debug, Serialize)]
pub struct PairFacts {
    /// The number of pairs read.
    pub read: usize,
    /// The number of pairs trained on.
    pub kept: usize,
    /// The limit on length.
    pub limit: Limit,
    /// Lengths of all pairs, including those beyond the limit.
    pub lengths: LengthSummary,
    /// The beginnings and ends of sequences.
    pub ends: Ends,
    /// The tokens that need not be computed.
    pub saved: Option<SavedTokens>,
    /// The share of pairs whose longer answer is preferred.
    pub longer_preferred: Option<LongerPreferred>,
    /// Repeated pairs and prompts.
    pub repeats: Repeats,
    /// The bounds of the constraint.
    pub constraint: Option<BoundSummary>,
    /// Example pairs as tokens.
    pub examples: Vec<Example>,
}
