//! The files of a split, as a data set's card lists them.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};
use pcrm_core::data::files::ENDINGS;

use super::globs::{Pattern, inside};
use super::{NOTES, first, is_data_file, last, some, split};
use crate::hub::card::Config;

/// The split that is read by default.
const TRAIN: &str = "train";

/// Returns the data files that `part` names: a split of the default config, a config, `config/split`, or a folder. A
/// config without a split gives the files of `train`, or of its only split.
///
/// # Errors
/// Fails if `part` names none of these, if it is missing and the card has no default config, or if a config has
/// several splits without `train`; what can be named is listed.
pub fn data_files(all: &[String], configs: &[Config], part: Option<&str>) -> Result<Vec<String>> {
    let default = default(configs);
    let Some(part) = part else {
        let default = default.with_context(|| {
            let names = first(configs.len(), configs.iter().map(|config| config.name.clone()));
            format!(
                "the data set's card lists several configs and no single default: name one of {names} \
                 (org/name:config, or org/name:config/split)"
            )
        })?;
        return default.only(all, "");
    };
    let part = part.trim_end_matches('/');
    if let Some(default) = default.filter(|default| default.splits(all).iter().any(|split| split == part)) {
        return default.files(all, part);
    }
    for config in configs {
        let Some(rest) = part.strip_prefix(config.name.as_str()) else { continue };
        if rest.is_empty() {
            return config.only(all, &format!("{}/", config.name));
        }
        let named = |own: &&String| rest.strip_prefix('/') == Some(own.as_str());
        if let Some(own) = config.splits(all).iter().find(named) {
            return config.files(all, own);
        }
    }
    let within = |file: &str| file.strip_prefix(part).is_some_and(|rest| rest.starts_with('/'));
    let found: Vec<String> = all.iter().filter(|file| within(file) && is_data(file)).cloned().collect();
    if found.is_empty() {
        let known = configs.iter().map(|config| format!("{} ({})", config.name, some(&config.splits(all))));
        bail!(
            "{part:?} is not a split, a config, a folder or a file of the data set; configs of its card, with \
             splits: {}",
            first(configs.len(), known)
        );
    }
    Ok(found)
}

/// Returns the default config: the one that the card marks, the one of that name, or the only one.
fn default(configs: &[Config]) -> Option<&Config> {
    let is_default = |config: &&Config| config.default || config.name == "default" || configs.len() == 1;
    let mut found = configs.iter().filter(is_default);
    let first = found.next();
    first.filter(|_| found.next().is_none())
}

fn is_data(file: &str) -> bool {
    is_data_file(file) && !NOTES.contains(&last(file))
}

impl Config {
    /// Returns the names of the splits.
    fn splits(&self, all: &[String]) -> Vec<String> {
        match &self.splits {
            Some(splits) => splits.iter().map(|(name, _)| name.clone()).collect(),
            None => {
                let mut names: Vec<String> = self.named(all).map(|(_, split)| split.to_owned()).collect();
                names.sort();
                names.dedup();
                names
            }
        }
    }

    /// Returns the data files in the config's folder with the splits that their names imply.
    fn named<'a>(&'a self, all: &'a [String]) -> impl Iterator<Item = (&'a String, &'a str)> {
        let folder = inside(&self.folder).ok();
        all.iter().filter(|file| is_data(file)).filter_map(move |file| {
            let own = match folder.as_deref()? {
                "" => file.as_str(),
                folder => file.strip_prefix(folder)?.strip_prefix('/')?,
            };
            Some((file, split(own)?))
        })
    }

    /// Returns the files of `train`, or of the only split. `prefix` goes before the splits that a message lists.
    fn only(&self, all: &[String], prefix: &str) -> Result<Vec<String>> {
        let splits = self.splits(all);
        match &splits[..] {
            [] => bail!("the config {} has no data; {}", self.name, expected(all)),
            [split] => self.files(all, split),
            several if several.iter().any(|split| split == TRAIN) => self.files(all, TRAIN),
            several => {
                let named: Vec<String> = several.iter().map(|split| format!("{prefix}{split}")).collect();
                bail!(
                    "the config {} has several splits: name one of {} (org/name:{})",
                    self.name,
                    some(&named),
                    named[0]
                )
            }
        }
    }

    /// Returns the data files of a split: by pattern, and within a pattern by name.
    fn files(&self, all: &[String], name: &str) -> Result<Vec<String>> {
        let listed = self.splits.as_ref().and_then(|splits| splits.iter().find(|(own, _)| own == name));
        let Some((_, patterns)) = listed else {
            let named = self.named(all).filter(|(_, split)| *split == name);
            return Ok(named.map(|(file, _)| file.clone()).collect());
        };
        let read = || -> Result<Vec<String>> {
            let (mut files, mut known) = (Vec::new(), BTreeSet::new());
            for text in patterns {
                let pattern = Pattern::new(&self.folder, text)?;
                // Files that datasets writes beside data are read only if the pattern names them.
                let readable =
                    |file: &str| is_data(file) || is_data_file(file) && last(file) == pattern.last();
                let found: Vec<&String> =
                    all.iter().filter(|file| readable(file) && pattern.matches(file)).collect();
                ensure!(
                    !(pattern.is_name && found.is_empty()),
                    "no data file is named {text:?}; {}",
                    expected(all)
                );
                files.extend(found.into_iter().filter(|file| known.insert(*file)).cloned());
            }
            ensure!(!files.is_empty(), "no data file is one of {}; {}", some(patterns), expected(all));
            Ok(files)
        };
        read().with_context(|| format!("the split {name} of the config {} in the data set's card", self.name))
    }
}

fn expected(all: &[String]) -> String {
    format!("expected names that end in {}, found {}", ENDINGS.join(", "), some(all))
}

#[cfg(test)]
mod tests;
