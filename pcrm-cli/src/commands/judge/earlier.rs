//! Checks of the result that `--output` already holds: the same judging may replace it, and no other.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::judges::Panel;
use super::{RESULT, VERDICTS};

/// The part of `result.json` that identifies a judging.
#[derive(Deserialize)]
struct Earlier {
    policies: Vec<Policy>,
    judges: Vec<Judge>,
}

#[derive(Deserialize)]
struct Policy {
    label: String,
    file: PathBuf,
}

#[derive(Deserialize)]
struct Judge {
    name: String,
    digest: String,
}

/// Refuses to overwrite anything but the result of the same policies and judges. `policies` are the labels
/// and files of this judging.
///
/// # Errors
/// Fails if the folder holds other results, verdicts that are replayed, or the cache.
pub fn check(dir: &Path, cache: &Path, policies: &[(String, PathBuf)], panel: &Panel) -> Result<()> {
    let place = format!("--output {}", dir.display());
    let (result, verdicts) = (dir.join(RESULT), dir.join(VERDICTS));
    ensure!(!is_same(dir, cache), "{place}: is the folder of --cache; name another folder");
    if let Some(file) = panel.replayed().find(|file| is_same(file, &verdicts)) {
        bail!("{place}: {} is replayed and would be overwritten; name another folder", file.display());
    }
    if !result.exists() {
        ensure!(!verdicts.exists(), "{place}: holds a {VERDICTS} of another origin; name another folder");
        return Ok(());
    }
    let text = fs::read(&result).with_context(|| result.display().to_string())?;
    let earlier: Earlier = serde_json::from_slice(&text).with_context(|| {
        format!(
            "{place}: holds a {RESULT} that this version of pcrm judge did not write; name another folder"
        )
    })?;
    let same_policies = earlier.policies.len() == policies.len()
        && earlier.policies.iter().zip(policies).all(|(earlier, (label, file))| {
            earlier.label == *label && (earlier.file == *file || is_same(&earlier.file, file))
        });
    let same_judges = earlier.judges.iter().map(|judge| &judge.digest).eq(&panel.digests());
    if same_policies && same_judges {
        return Ok(());
    }
    let labels: Vec<String> = earlier.policies.into_iter().map(|policy| policy.label).collect();
    let judges: Vec<String> = earlier.judges.into_iter().map(|judge| judge.name).collect();
    let what = if same_policies { "judges" } else { "policies" };
    bail!(
        "{place}: holds the judging of {} by {}, with other {what}; name another folder",
        labels.join(", "),
        judges.join(", ")
    );
}

/// Returns true if two paths lead to the same existing file or folder.
fn is_same(first: &Path, second: &Path) -> bool {
    match (first.canonicalize(), second.canonicalize()) {
        (Ok(first), Ok(second)) => first == second,
        _ => false,
    }
}
