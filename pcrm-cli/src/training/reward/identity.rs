//! The identity of a run (every option and file that determines its numbers), and the manifest that records
//! it.

use std::path::PathBuf;

use anyhow::Result;
use pcrm_rl::fingerprint::Fingerprint;
use pcrm_rl::pairs::Pairs;
use serde_json::{Value, json};

use super::RewardArgs;

/// Returns the identity of a run's inputs, by option name: the constraint, the reading options, and digests
/// of the data and the model; `max_length` is the effective limit.
///
/// # Errors
/// Fails if a file cannot be read.
pub(super) fn identity(args: &RewardArgs, constraint: &Value, max_length: usize) -> Result<Fingerprint> {
    let (reading, columns) = (&args.training.reading, &args.training.reading.columns);
    args.training.source().identity([
        ("constraint", constraint.clone()),
        ("max-length", json!(max_length)),
        ("too-long", json!(reading.too_long)),
        ("rejected-field", json!(columns.rejected_field)),
        ("margin-field", json!(columns.margin_field)),
        ("score-margins", json!(columns.score_margins)),
    ])
}

/// Returns the content of `manifest.json`.
pub(super) fn manifest(
    args: &RewardArgs,
    fingerprint: &Fingerprint,
    train: &Pairs,
    eval: Option<&Pairs>,
) -> Value {
    let files = |paths: &[PathBuf]| paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
    json!({
        "pcrm": env!("CARGO_PKG_VERSION"),
        "model": args.training.model,
        "data": files(&args.training.data),
        "eval_data": files(&args.training.eval_data),
        "train_pairs": train.count(),
        "eval_pairs": eval.map(Pairs::count),
        "fingerprint": fingerprint,
    })
}
