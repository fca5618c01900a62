//! The selection of the files to fetch from a repository.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use pcrm_core::data::files::{ENDINGS, splits_in};
use pcrm_core::model::weights::{INDEX, SINGLE};
use pcrm_core::text::tokenizer::is_tokenizer_file;
use serde_json::Value;

use super::card::Config;

mod configs;
mod globs;

/// The treatment of a model's weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weights {
    /// Weights are read.
    Read,
    /// Weights are drawn at random; config and tokenizer suffice.
    Drawn,
}

impl Weights {
    /// Returns `Drawn` for `--random-init`, else `Read`.
    pub fn drawn_if(random_init: bool) -> Self {
        if random_init { Self::Drawn } else { Self::Read }
    }
}

/// Returns the config, the tokenizer, the chat template, and the index of the weights if they are read and
/// sharded.
///
/// # Errors
/// Fails if there is no config.
pub fn model_files(all: &[String], weights: Weights) -> Result<Vec<String>> {
    ensure!(
        all.iter().any(|file| file == CONFIG) || !all.iter().any(|file| file == ADAPTER),
        "the repository is a PEFT adapter, not a model ({ADAPTER} without {CONFIG}); fetch it and run `pcrm \
         merge` on its folder first"
    );
    ensure!(
        all.iter().any(|file| file == CONFIG),
        "the repository has no {CONFIG}; expected a model in the format of transformers, found {}",
        some(all)
    );
    let sharded = weights == Weights::Read && !all.iter().any(|file| file == SINGLE);
    let wanted = |file: &&String| match file.as_str() {
        CONFIG | ADAPTER | "generation_config.json" => true,
        INDEX => sharded,
        other => is_tokenizer_file(other),
    };
    Ok(all.iter().filter(wanted).cloned().collect())
}

const CONFIG: &str = "config.json";
const ADAPTER: &str = "adapter_config.json";

/// Returns the weight files, from the fetched index in `folder` if they are sharded.
///
/// # Errors
/// Fails if there are no weights in safetensors, or if the index is broken or names a file that the
/// repository lacks.
pub fn weight_files(all: &[String], folder: &Path) -> Result<Vec<String>> {
    let holds = |name: &str| all.iter().any(|file| file == name);
    if holds(SINGLE) {
        return Ok(vec![SINGLE.to_owned()]);
    }
    let pickled = all.iter().any(|file| file.starts_with("pytorch_model") && file.contains(".bin"));
    let advice = if pickled { " (load and save it with transformers, which writes safetensors)" } else { "" };
    ensure!(holds(INDEX), "the repository has neither {SINGLE} nor {INDEX}; found {}{advice}", some(all));
    let index: Value =
        serde_json::from_str(&fs::read_to_string(folder.join(INDEX)).context(INDEX)?).context(INDEX)?;
    let map = index.get("weight_map").and_then(Value::as_object);
    let map = map.with_context(|| format!("{INDEX} has no object \"weight_map\""))?;
    let shards: BTreeSet<&str> = map.values().filter_map(Value::as_str).collect();
    if let Some(absent) = shards.iter().find(|shard| !holds(shard)) {
        bail!("{INDEX} names {absent}, which the repository lacks");
    }
    Ok(shards.into_iter().map(str::to_owned).collect())
}

/// Returns an encoder's weights in safetensors and all settings: JSON files, vocabularies and templates in
/// the repository's folder and the folders of its modules (`1_Pooling`).
///
/// # Errors
/// Fails if there are no weights.
pub fn encoder_files(all: &[String]) -> Result<Vec<String>> {
    let module = |folder: &str| folder.split('_').next().is_some_and(|number| number.parse::<u8>().is_ok());
    let weights = |name: &str| name.starts_with("model") && name.ends_with(".safetensors");
    let wanted = |file: &&String| {
        let (folder, name) = file.rsplit_once('/').unwrap_or(("", file));
        let setting = name.ends_with(".json") || is_tokenizer_file(name);
        (folder.is_empty() || module(folder)) && (setting || weights(name))
    };
    let files: Vec<String> = all.iter().filter(wanted).cloned().collect();
    ensure!(
        files.iter().any(|file| weights(last(file))),
        "the repository has no {SINGLE}; expected an encoder in the format of sentence-transformers, found \
         {}",
        some(all)
    );
    Ok(files)
}

/// Returns true for names of data files.
pub fn is_data_file(name: &str) -> bool {
    stem(name).is_some()
}

/// Returns data files: the file named by `part`, or else what `part` names by the card's configs, or, without
/// configs, by the names of files and folders.
///
/// # Errors
/// Fails if there are no files, `part` names none of these, or `part` is missing and there is no default; what can
/// be named is listed.
pub fn data_files(all: &[String], configs: &[Config], part: Option<&str>) -> Result<Vec<String>> {
    let data: Vec<&String> =
        all.iter().filter(|file| is_data_file(file) && !NOTES.contains(&last(file))).collect();
    ensure!(
        !data.is_empty(),
        "the repository has no data; expected files in {}, found {}",
        ENDINGS.join(", "),
        some(all)
    );
    match part.filter(|part| data.iter().any(|file| file == part)) {
        Some(file) => Ok(vec![file.to_owned()]),
        None if configs.is_empty() => named_files(data, part),
        None => configs::data_files(all, configs, part),
    }
}

/// Returns the files in the folder or split that `part` names; without a part, the split `train`, or all files if
/// there is only one split.
///
/// A file's split is its name without extensions and shard numbers (`train` of
/// `data/train-00000-of-00002.parquet`), or the split that a folder names (`train` of `train/0000.parquet`).
fn named_files(data: Vec<&String>, part: Option<&str>) -> Result<Vec<String>> {
    let splits: BTreeSet<&str> = data.iter().filter_map(|file| split(file)).collect();
    let listed = || splits.iter().copied().collect::<Vec<_>>().join(", ");
    let chosen: Vec<String> = match part {
        Some(part) => {
            let part = part.trim_end_matches('/');
            let within = |file: &str| file.strip_prefix(part).is_some_and(|rest| rest.starts_with('/'));
            let named = |file: &str| within(file) || split(file) == Some(part);
            let in_folder = |file: &str| {
                // harmless-base/train: a split of one folder
                part.rsplit_once('/').is_some_and(|(folder, name)| {
                    file.rsplit_once('/').is_some_and(|(of_file, _)| of_file == folder)
                        && split(file) == Some(name)
                })
            };
            data.iter().filter(|file| named(file) || in_folder(file)).map(|file| (*file).clone()).collect()
        }
        None if splits.contains("train") => {
            data.iter().filter(|file| split(file) == Some("train")).map(|file| (*file).clone()).collect()
        }
        None if splits.len() == 1 => data.into_iter().cloned().collect(),
        None => bail!("the repository has several splits: name one of {} (org/name:split)", listed()),
    };
    if chosen.is_empty() {
        let part = part.unwrap_or_default();
        bail!("{part:?} is not a file, folder or split of the repository; splits: {}", listed());
    }
    Ok(chosen)
}

/// The number of names in a message.
const SHOWN: usize = 8;

const PACKED: [&str; 4] = [".gz", ".zst", ".zstd", ""];
/// JSON files that describe data sets without being data.
const NOTES: [&str; 5] =
    ["dataset_infos.json", "dataset_info.json", "dataset_dict.json", "state.json", "config.json"];

fn last(file: &str) -> &str {
    file.rsplit('/').next().unwrap_or(file)
}

/// Returns the path of a data file without its extensions.
fn stem(file: &str) -> Option<&str> {
    let plain = PACKED.iter().find_map(|packed| file.strip_suffix(packed))?;
    ENDINGS.iter().find_map(|ending| plain.strip_suffix(ending)).filter(|stem| !last(stem).is_empty())
}

/// Returns the split of a data file: its own name if that contains a split's word, or else the split of the
/// nearest folder that contains one.
fn split(file: &str) -> Option<&str> {
    let own = own_split(file)?;
    if !splits_in(own).is_empty() {
        return Some(own);
    }
    let of_folder = |folder: &str| match splits_in(folder)[..] {
        [split] => Some(split),
        _ => None,
    };
    Some(file.rsplit('/').skip(1).find_map(of_folder).unwrap_or(own))
}

/// Returns the name of a data file without extensions and shard numbers.
fn own_split(file: &str) -> Option<&str> {
    let name = last(stem(file)?);
    // NAME-00000-of-00002, followed by a hash in files written by `datasets`.
    let digits = |text: &str| text.len() >= 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    let words: Vec<&str> = name.split('-').collect();
    let of = words
        .windows(3)
        .rposition(|at| digits(at[0]) && at[1] == "of" && digits(&at[2][..at[2].len().min(5)]));
    let length =
        of.filter(|of| *of > 0).map(|of| words[..of].iter().map(|word| word.len() + 1).sum::<usize>() - 1);
    Some(&name[..length.unwrap_or(name.len())])
}

/// Lists the first of these texts, for messages.
fn some(all: &[String]) -> String {
    first(all.len(), all.iter().cloned())
}

/// Lists the first of `count` texts, for messages.
fn first(count: usize, texts: impl Iterator<Item = String>) -> String {
    let shown = texts.take(SHOWN).collect::<Vec<_>>().join(", ");
    match count {
        0 => "nothing".to_owned(),
        count if count > SHOWN => format!("{shown} and {} more", count - SHOWN),
        _ => shown,
    }
}

#[cfg(test)]
mod tests;
