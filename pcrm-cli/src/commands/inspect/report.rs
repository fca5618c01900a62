//! All that an inspection tells: the document of `--json`, and what the terminal shows.

use pcrm_core::data::encode::Padding;
use pcrm_core::data::preference::Report;
use pcrm_core::data::survey::ends::Ends;
use pcrm_core::data::survey::lengths::Limit;
use pcrm_core::data::survey::repeats::{Overlap, Repeats};
use pcrm_core::data::survey::sets::Sets;
use pcrm_core::data::survey::template::Template;
use pcrm_core::data::survey::told::Told;
use pcrm_core::data::survey::{Finding, Severity};
use pcrm_core::text::SpecialToken;
use serde::Serialize;

use super::cost::Cost;
use super::examples::Example;
use super::summaries::{LengthSummary, LongerPreferred, Saved};
use crate::bound_summary::BoundSummary;

/// All that an inspection tells.
#[derive(Debug, Serialize)]
pub struct Inspection {
    /// The version that told it.
    pub pcrm: &'static str,
    /// The gravest finding.
    pub severity: Option<Severity>,
    /// What was found, the gravest first.
    pub findings: Vec<Finding>,
    /// The model.
    pub model: ModelFacts,
    /// Its tokenizer.
    pub tokenizer: TokenizerFacts,
    /// What each file is, and by which columns that was told.
    pub schemas: Vec<Told>,
    /// What was read, and what was left out.
    pub reading: Report,
    /// The chat template against the data.
    pub template: Template,
    /// Ranked sets of answers, where there are any.
    pub sets: Option<Sets>,
    /// What is known of pairs as tokens; none where they cannot be encoded.
    pub pairs: Option<PairFacts>,
    /// What of `--eval-data` stands in `--data`.
    pub overlap: Option<Overlap>,
    /// What training takes.
    pub cost: Option<Cost>,
}

/// What matters of a model.
#[derive(Debug, Serialize)]
pub struct ModelFacts {
    /// Its folder.
    pub path: String,
    /// Its family.
    pub family: &'static str,
    /// Embeddings it has.
    pub vocabulary: usize,
    /// The longest sequence its config speaks of.
    pub positions: usize,
    /// Whether positions are learned, so that there are no others.
    pub learned_positions: bool,
}

/// What matters of a tokenizer.
#[derive(Debug, Serialize)]
pub struct TokenizerFacts {
    /// The ids it may give.
    pub vocabulary: usize,
    /// Begins texts.
    pub bos: Option<SpecialToken>,
    /// Ends texts.
    pub eos: Option<SpecialToken>,
    /// What is taken for padding.
    pub padding: Padding,
    /// Stands for unknown text.
    pub unknown: Option<SpecialToken>,
}

/// What is known of pairs as tokens.
#[derive(Debug, Serialize)]
pub struct PairFacts {
    /// Pairs that were read.
    pub read: usize,
    /// Pairs that are trained on.
    pub kept: usize,
    /// The limit on length.
    pub limit: Limit,
    /// Lengths of all pairs, also of those beyond the limit.
    pub lengths: LengthSummary,
    /// How sequences begin and end.
    pub ends: Ends,
    /// Tokens that need not be computed.
    pub saved: Option<Saved>,
    /// How often the longer answer is preferred.
    pub longer_preferred: Option<LongerPreferred>,
    /// What stands more than once.
    pub repeats: Repeats,
    /// What the constraint does.
    pub constraint: Option<BoundSummary>,
    /// Some pairs as tokens.
    pub examples: Vec<Example>,
}
