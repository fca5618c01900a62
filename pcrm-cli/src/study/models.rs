//! The models of the Hub that a study starts from: every run reads the commit that the study began with.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use pcrm_eval::study::StudyPlan;
use toml::{Table, Value};

use crate::hub::{self, CachedPath, Weights};
use crate::progress::say;
use crate::revision::RevisionArgs;

/// The word before a commit in the record of a study, which distinguishes it from the digest of a local
/// folder.
const COMMIT: &str = "commit ";

/// The commits of models, by the repository and the revision that the options of a run name.
#[derive(Debug, Default)]
pub struct HubModels(BTreeMap<(String, String), String>);

impl HubModels {
    /// Finds the models of the Hub that the runs of a plan name, and fetches them once for all runs. `recorded` has
    /// the commits of a study that has begun.
    ///
    /// # Errors
    /// Fails if a repository cannot be fetched, or was a local folder when the study began.
    pub fn of(plan: &StudyPlan, recorded: &BTreeMap<String, String>) -> Result<Self> {
        let mut commits = BTreeMap::new();
        for job in &plan.jobs {
            let Some(named) = named(&job.options).filter(|named| !commits.contains_key(named)) else {
                continue;
            };
            let option = option(&named);
            let before = match recorded.get(&option) {
                Some(known) => Some(known.strip_prefix(COMMIT).with_context(|| {
                    format!("{option}: was a local folder when this study began; name another --output")
                })?),
                None => None,
            };
            let hub = RevisionArgs::of(before.unwrap_or(&named.1)).hub();
            let drawn = job.options.get("random-init").and_then(Value::as_bool).unwrap_or(false);
            let folder = hub.model("--model", Path::new(&named.0), Weights::drawn_if(drawn))?;
            let commit = CachedPath::of(&folder).with_context(|| folder.display().to_string())?.commit;
            say(&format!("{option}: commit {commit}"));
            commits.insert(named, commit);
        }
        Ok(Self(commits))
    }

    /// Returns the commits by option, as a study records them.
    pub fn inputs(&self) -> impl Iterator<Item = (String, String)> {
        self.0.iter().map(|(named, commit)| (option(named), format!("{COMMIT}{commit}")))
    }

    /// Returns the options of a run with the commit in place of the revision.
    pub fn pinned(&self, options: &Table) -> Table {
        let mut options = options.clone();
        if let Some(commit) = named(&options).and_then(|named| self.0.get(&named)) {
            options.insert("revision".to_owned(), commit.as_str().into());
        }
        options
    }
}

/// Returns the repository and the revision that options name as the model, unless it is a local path.
fn named(options: &Table) -> Option<(String, String)> {
    let model = options.get("model")?.as_str()?;
    let revision = options.get("revision").and_then(Value::as_str).unwrap_or(RevisionArgs::MAIN);
    let is_remote = hub::is_repository(model) && !Path::new(model).exists();
    is_remote.then(|| (model.to_owned(), revision.to_owned()))
}

/// Returns the option that records a model in a study.
fn option((model, revision): &(String, String)) -> String {
    match revision == RevisionArgs::MAIN {
        true => format!("--model {model}"),
        false => format!("--model {model} --revision {revision}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: a run reads the commit that the study recorded for its model and revision; local models and models
    /// of other runs keep their options.
    #[test]
    fn runs_read_the_recorded_commit() {
        let key = |model: &str, revision: &str| (model.to_owned(), revision.to_owned());
        let commits = [(key("acme/nano", "main"), "0123abc"), (key("acme/nano", "v2"), "4567def")];
        let models = HubModels(commits.map(|(key, commit)| (key, commit.to_owned())).into());
        let pinned = |text: &str| models.pinned(&text.parse().unwrap()).to_string();
        assert_eq!(pinned("model = \"acme/nano\""), "model = \"acme/nano\"\nrevision = \"0123abc\"\n");
        let of_v2 = pinned("model = \"acme/nano\"\nrevision = \"v2\"");
        assert_eq!(of_v2, "model = \"acme/nano\"\nrevision = \"4567def\"\n");
        for other in ["model = \"acme/other\"\n", "model = \"{study}/a/base\"\n", "name = \"acme/nano\"\n"] {
            assert_eq!(pinned(other), other);
        }
        let inputs: Vec<(String, String)> = models.inputs().collect();
        let recorded =
            [("--model acme/nano", "commit 0123abc"), ("--model acme/nano --revision v2", "commit 4567def")];
        assert_eq!(inputs, recorded.map(|(option, commit)| (option.to_owned(), commit.to_owned())));
    }
}
