//! The identity of a run: every option and file that decides its numbers, and the manifest that records them.

use std::path::PathBuf;

use anyhow::Result;
use pcrm_core::data::files::data_files;
use pcrm_core::digest;
use pcrm_rl::fingerprint::Fingerprint;
use pcrm_rl::pairs::Pairs;
use serde_json::{Value, json};

use super::RewardArgs;

/// The identity of what a run reads, by option name: the constraint, how data are read, digests of the data and the model;
/// `max_length` is the limit in force.
///
/// # Errors
/// Files that cannot be read.
pub(super) fn identity(args: &RewardArgs, constraint: &Value, max_length: usize) -> Result<Fingerprint> {
    let training = &args.training;
    let (machine, columns) = (&training.machine, &training.reading.columns);
    let digests = |paths: &[PathBuf]| -> Result<Vec<String>> {
        data_files(paths)?.iter().map(|path| Ok(digest::file(path)?)).collect()
    };
    let own = [
        ("constraint", constraint.clone()),
        ("max-length", json!(max_length)),
        ("too-long", json!(training.reading.too_long)),
        ("schema", json!(columns.schema.map(|schema| schema.name()))),
        ("prompt-field", json!(columns.prompt_field)),
        ("chosen-field", json!(columns.chosen_field)),
        ("rejected-field", json!(columns.rejected_field)),
        ("margin-field", json!(columns.margin_field)),
        ("field", json!(columns.field)),
        ("score-margins", json!(columns.score_margins)),
        ("eval-split", json!(training.eval_split)),
        ("backend", json!(machine.backend)),
        ("device", json!(machine.device.to_string())),
        ("dtype", json!(machine.dtype.to_string())),
        ("data", json!(digests(&training.data)?)),
        ("eval-data", json!(digests(&training.eval_data)?)),
        ("model", json!(digest::model(&training.model)?)),
        ("random-init", json!(training.random_init)),
        ("lora", json!(training.lora.config())),
    ];
    Ok(own.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// The content of `manifest.json`.
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
