//! A finished run as a folder to share: the model or adapter with its tokenizer and card, without
//! checkpoints, metrics, logs and local paths.

mod card;
mod figures;
mod finished;
mod origins;
mod paths;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use pcrm_core::model::checkpoint;
use pcrm_core::model::config::CLASS_FILE;
use pcrm_core::model::lora::TRAINER_NOTES;
use pcrm_core::model::lora::peft::AdapterFolder;
use pcrm_core::model::weights;
use pcrm_core::text::tokenizer::is_tokenizer_file;
use serde_json::{Map, Value};

use self::origins::Origins;
use self::paths::Paths;
use crate::hub::{CachedPath, Content, Entry, is_repository};

const ADAPTER: &str = "adapter_model.safetensors";
const ADAPTER_CONFIG: &str = "adapter_config.json";
const CONFIG: &str = "config.json";
const CARD: &str = "README.md";

/// The files to share, with the origins and warnings of the run.
pub struct Export {
    /// The files, sorted by name.
    pub entries: Vec<Entry>,
    /// Names of files in the run's folder that are left out.
    pub left_out: Vec<String>,
    /// The Hub repository of the base model.
    pub base: Option<String>,
    /// The Hub repositories of the data.
    pub datasets: Vec<String>,
    /// Files in which local paths were replaced or removed.
    pub changed: Vec<String>,
    /// Warnings about the result.
    pub warnings: Vec<String>,
}

/// Gathers the files of a finished run. `base` names the base model's repository, instead of the one that the
/// run's records name.
///
/// # Errors
/// Fails if the folder holds no finished model, or a weight is not a finite number.
pub fn gather(run: &Path, base: Option<&str>) -> Result<Export> {
    let step = finished::check(run)?;
    let adapter = AdapterFolder::is_alone(run);
    let origins = Origins::of(run, base, adapter)?;
    let paths = Paths::of(run, &origins);
    let mut chosen = BTreeSet::new();
    let mut left_out = Vec::new();
    let weight_files = match adapter {
        true => BTreeSet::from([ADAPTER.to_owned()]),
        false => named(&checkpoint::files(run)?),
    };
    for entry in fs::read_dir(run).with_context(|| run.display().to_string())? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        match entry.path().is_file() && (weight_files.contains(&name) || is_shared(&name, adapter)) {
            true => drop(chosen.insert(name)),
            false if is_templates(&entry.path()) => {
                let inner = fs::read_dir(entry.path())?.flatten();
                let inner = inner.map(|file| format!("{name}/{}", file.file_name().to_string_lossy()));
                chosen.extend(inner.filter(|name| is_tokenizer_file(name)));
            }
            false => left_out.push(name),
        }
    }
    left_out.sort();
    let (mut entries, mut changed) = (Vec::new(), Vec::new());
    for name in chosen.iter().filter(|name| *name != CARD) {
        let path = run.join(name);
        let content = match cleaned(&path, name, &origins, &paths)? {
            Some(bytes) => {
                changed.push(name.clone());
                Content::Bytes(bytes)
            }
            None => Content::File(path),
        };
        entries.push(Entry { name: name.clone(), content });
    }
    let card = card::shared(run, &origins, &paths, step, adapter)?;
    if fs::read_to_string(run.join(CARD)).is_ok_and(|text| text != paths.replaced(&text)) {
        changed.push(CARD.to_owned());
    }
    entries.push(Entry { name: CARD.to_owned(), content: Content::Bytes(card.into_bytes()) });
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    let warnings = warnings(run, &origins, &chosen, adapter);
    Ok(Export { entries, left_out, base: origins.base, datasets: origins.datasets, changed, warnings })
}

/// Writes all files into a folder that does not exist or is empty; on failure it writes none.
///
/// # Errors
/// Fails if the folder is not empty or the disk is full.
pub fn write(entries: &[Entry], output: &Path) -> Result<()> {
    check_output(output)?;
    let parent = pcrm_core::disk::whole::folder_of(output);
    fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
    let temporary = tempfile::Builder::new().prefix(".pcrm-export-").tempdir_in(parent)?;
    for entry in entries {
        let path = temporary.path().join(&entry.name);
        let place = || format!("--output {}", output.join(&entry.name).display());
        fs::create_dir_all(pcrm_core::disk::whole::folder_of(&path)).with_context(place)?;
        match &entry.content {
            Content::Bytes(bytes) => weights::write(&path, bytes).with_context(place)?,
            Content::File(from) => drop(fs::copy(from, &path).with_context(place)?),
        }
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(temporary.path(), fs::Permissions::from_mode(0o755))?;
    }
    if output.exists() {
        fs::remove_dir(output).with_context(|| format!("--output {}", output.display()))?;
    }
    fs::rename(temporary.path(), output).with_context(|| format!("--output {}", output.display()))?;
    let _ = temporary.keep(); // it has another name now
    Ok(weights::sync_dir(parent)?)
}

/// Refuses a folder that is not empty.
///
/// # Errors
/// Fails if the path is a file or a folder with entries.
pub fn check_output(output: &Path) -> Result<()> {
    let free = !output.exists() || fs::read_dir(output).is_ok_and(|mut entries| entries.next().is_none());
    ensure!(free, "--output {}: exists already; expected a new or an empty folder", output.display());
    Ok(())
}

/// Returns true for a file that a shared model includes beside its weights.
fn is_shared(name: &str, adapter: bool) -> bool {
    let config = if adapter { ADAPTER_CONFIG } else { CONFIG };
    if adapter && name == TRAINER_NOTES {
        return true;
    }
    let kept = [config, "generation_config.json", CARD, "LICENSE", "LICENSE.md", "LICENSE.txt", "NOTICE"];
    let of_model = [weights::INDEX, CLASS_FILE];
    kept.contains(&name) || (!adapter && of_model.contains(&name)) || is_tokenizer_file(name)
}

fn is_templates(path: &Path) -> bool {
    path.is_dir() && path.file_name().is_some_and(|name| name == "additional_chat_templates")
}

fn named(paths: &[PathBuf]) -> BTreeSet<String> {
    paths.iter().filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect()
}

/// Returns the new content of a settings file that contains local paths or names the base model; `None` if it
/// needs no change.
fn cleaned(path: &Path, name: &str, origins: &Origins, paths: &Paths) -> Result<Option<Vec<u8>>> {
    let settings = name.ends_with("config.json") || name == TRAINER_NOTES;
    if !settings {
        return Ok(None);
    }
    let place = || path.display().to_string();
    let text = fs::read_to_string(path).with_context(place)?;
    let before: Map<String, Value> = serde_json::from_str(&text).with_context(place)?;
    let mut after = before.clone();
    let base = origins.base.clone().map_or(Value::Null, Value::from);
    match after.get("base_model_name_or_path").and_then(Value::as_str).map(PathBuf::from) {
        Some(named)
            if name == ADAPTER_CONFIG && !(is_repository(&named.to_string_lossy()) && base.is_null()) =>
        {
            // The weights that the adapter was trained on, whatever the branch holds later.
            if let Some(own) = CachedPath::of(&named).filter(|own| base == own.repository) {
                after.insert("revision".to_owned(), own.commit.into());
            }
            after.insert("base_model_name_or_path".to_owned(), base);
        }
        _ => {}
    }
    for key in ["_name_or_path", "name_or_path"] {
        let local = after.get(key).and_then(Value::as_str).is_some_and(|text| paths.is_local(text));
        match (&origins.base, local) {
            (Some(base), true) => drop(after.insert(key.to_owned(), base.clone().into())),
            (None, true) => drop(after.shift_remove(key)),
            _ => {}
        }
    }
    let after = paths.replaced_in(&Value::Object(after));
    if after == Value::Object(before) {
        return Ok(None);
    }
    let mut bytes = serde_json::to_vec_pretty(&after)?;
    bytes.push(b'\n');
    Ok(Some(bytes))
}

fn warnings(run: &Path, origins: &Origins, chosen: &BTreeSet<String>, adapter: bool) -> Vec<String> {
    let mut warnings = Vec::new();
    if adapter && origins.base.is_none() {
        warnings.push(
            "the adapter's base model is a local folder, so base_model_name_or_path is empty: name its Hub \
             repository with --base-model ORG/NAME, or export the output of `pcrm merge`"
                .to_owned(),
        );
    }
    if !chosen.iter().any(|name| is_tokenizer_file(name)) {
        warnings.push(format!("{} has no tokenizer", run.display()));
    }
    warnings
}

/// Returns true if the folder contains a reward model.
fn is_reward(run: &Path, adapter: bool) -> Result<bool> {
    if adapter {
        return Ok(AdapterFolder::open(run)?.is_reward()?);
    }
    let config: Value = serde_json::from_slice(&fs::read(run.join(CONFIG))?)?;
    let classes = config["architectures"].as_array().into_iter().flatten();
    let mut classes = classes.filter_map(Value::as_str);
    Ok(classes.any(|class| class.contains("SequenceClassification") || class.contains("RewardModel")))
}
