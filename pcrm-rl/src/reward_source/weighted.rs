//! Several reward sources as one: by TRL's rule a weighted sum over the sources that score an answer, or the
//! minimum of an ensemble.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Answers, Combine, Place, Preparation, RewardPlugin, RewardSource, Spec};
use crate::error::{Error, Result};

/// A callback that opens a saved reward model, given its folder or name.
pub type OpenModel<'a> = dyn FnMut(&Path) -> Result<Box<dyn RewardSource>> + 'a;

/// Opens sources: plugins by their tagged data, saved reward models with `model`.
///
/// # Errors
/// Fails if there is no spec, if a kind is unknown (the error lists the known ones), if a configuration is
/// refused, or if `model` fails.
pub fn open(specs: &[Spec], model: &mut OpenModel<'_>) -> Result<Weighted> {
    let mut all = Weighted { sources: Vec::with_capacity(specs.len()), combine: Combine::Sum };
    for spec in specs {
        let source = match &spec.place {
            Place::Model(path) => model(path)?,
            Place::Tagged(tagged) => pcrm_core::tagged::from_value::<RewardPlugin>(tagged.clone())?,
        };
        all.push(source, spec.weight, spec.name.as_deref());
    }
    match all.sources.is_empty() {
        true => Err(Error::Invalid { field: "reward", message: "expected at least one".to_owned() }),
        false => Ok(all),
    }
}

/// Reward sources with their weights.
#[derive(Default)]
pub struct Weighted {
    sources: Vec<Named>,
    combine: Combine,
}

struct Named {
    name: String,
    weight: f64,
    source: Box<dyn RewardSource>,
}

/// The rewards of a batch by source, and their sums.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Rewards {
    /// The combined reward of every answer: Σ weight·reward over the sources that score it, or as
    /// [`Weighted::combined`] says; `None` if there is none. Such an answer is excluded from training.
    pub total: Vec<Option<f32>>,
    /// Unweighted rewards of every source.
    pub sources: Vec<SourceRewards>,
    /// Logs of the sources, as `SOURCE/NAME`.
    pub logs: BTreeMap<String, Vec<f32>>,
    /// The sources' columns for a table of samples, as `SOURCE/NAME`.
    #[serde(with = "as_text")]
    pub columns: BTreeMap<String, Vec<Value>>,
}

/// Serialises values as JSON text, for formats that are not self-describing.
mod as_text {
    use serde::de::{DeserializeOwned, Error as _};
    use serde::ser::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(value: &impl Serialize, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&serde_json::to_string(value).map_err(S::Error::custom)?)
    }

    pub fn deserialize<'de, D: Deserializer<'de>, T: DeserializeOwned>(
        deserializer: D,
    ) -> Result<T, D::Error> {
        serde_json::from_str(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// The rewards of one source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SourceRewards {
    /// Unique name of the source.
    pub name: String,
    /// Weight in the sum.
    pub weight: f64,
    /// Reward of every answer; `None` if not scored.
    pub rewards: Vec<Option<f32>>,
}

impl SourceRewards {
    /// Returns mean and standard deviation (unbiased, as in `torch.std`) of the present rewards, as TRL logs
    /// them under `rewards/NAME/mean` and `rewards/NAME/std`; `None` if nothing is scored. The deviation of a
    /// single reward is 0.
    pub fn mean_and_std(&self) -> Option<(f64, f64)> {
        let values: Vec<f64> = self.rewards.iter().flatten().map(|reward| f64::from(*reward)).collect();
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        (!values.is_empty()).then(|| (mean, (squares / (count - 1.0).max(1.0)).sqrt()))
    }
}

impl Rewards {
    /// Returns the rewards of the answers with `true` in `keep`; logs remain those of all answers.
    pub fn kept(mut self, keep: &[bool]) -> Self {
        fn of<T>(values: &mut Vec<T>, keep: &[bool]) {
            let mut at = keep.iter();
            values.retain(|_| at.next().copied().unwrap_or(true));
        }
        of(&mut self.total, keep);
        self.sources.iter_mut().for_each(|source| of(&mut source.rewards, keep));
        self.columns.values_mut().for_each(|column| of(column, keep));
        self
    }

    /// Appends the rewards of further answers by the same sources. A column that only some batches have is null
    /// for the answers of the others.
    pub fn append(&mut self, more: Self) {
        let before = self.total.len();
        self.total.extend(more.total);
        for source in more.sources {
            match self.sources.iter_mut().find(|known| known.name == source.name) {
                Some(known) => known.rewards.extend(source.rewards),
                None => self.sources.push(source),
            }
        }
        more.logs.into_iter().for_each(|(log, values)| self.logs.entry(log).or_default().extend(values));
        for (column, values) in more.columns {
            let held = self.columns.entry(column).or_default();
            held.resize(before, Value::Null);
            held.extend(values);
        }
        self.columns.values_mut().for_each(|held| held.resize(self.total.len(), Value::Null));
    }
}

impl Weighted {
    /// Adds a source. A duplicate name gets a number: `regex`, `regex_2`.
    pub fn push(&mut self, source: Box<dyn RewardSource>, weight: f64, name: Option<&str>) {
        let own = name.unwrap_or(source.name()).to_owned();
        let is_taken = |name: &str| self.sources.iter().any(|known| known.name == name);
        let numbered = (2..).map(|number| format!("{own}_{number}"));
        let name = std::iter::once(own.clone()).chain(numbered).find(|name| !is_taken(name)).unwrap_or(own);
        self.sources.push(Named { name, weight, source });
    }

    /// Returns the names of all sources with their weights.
    pub fn weights(&self) -> impl Iterator<Item = (&str, f64)> {
        self.sources.iter().map(|named| (named.name.as_str(), named.weight))
    }

    /// Combines the rewards in this way instead of summing them.
    ///
    /// # Errors
    /// Fails if the sources cannot be combined so.
    pub fn combined(mut self, combine: Combine) -> Result<Self> {
        let of = |named: &Named| (named.name.clone(), named.weight, named.source.range());
        let all: Vec<_> = self.sources.iter().map(of).collect();
        let all: Vec<_> = all.iter().map(|(name, weight, range)| (name.as_str(), *weight, *range)).collect();
        combine.check(&all)?;
        self.combine = combine;
        Ok(self)
    }

    /// Returns how the rewards are combined.
    pub fn combine(&self) -> Combine {
        self.combine
    }

    /// Prepares every source for a run.
    ///
    /// # Errors
    /// Fails with the first error of [`RewardSource::prepare`].
    pub fn prepare(&mut self, run: &Preparation<'_>) -> Result<()> {
        self.sources.iter_mut().try_for_each(|named| named.source.prepare(run))
    }

    /// Returns notes about the sources for users, a line each: `NAME: ..`.
    pub fn notes(&self) -> Vec<String> {
        let of = |named: &Named| {
            let notes = named.source.notes().into_iter();
            notes.map(|note| format!("{}: {note}", named.name)).collect::<Vec<_>>()
        };
        self.sources.iter().flat_map(of).collect()
    }

    /// Scores a batch by every source, in their order.
    ///
    /// # Errors
    /// Fails if a source fails or its rewards are not one finite number or `None` per answer, or if a sum is
    /// beyond f32.
    pub fn score(&mut self, batch: &Answers<'_>) -> Result<Rewards> {
        let mut all = Rewards::default();
        for Named { name, weight, source } in &mut self.sources {
            let scored = source.checked_score(batch)?;
            let key = |log: String| format!("{name}/{log}");
            all.logs.extend(scored.logs.into_iter().map(|(log, values)| (key(log), values)));
            all.columns.extend(scored.columns.into_iter().map(|(column, values)| (key(column), values)));
            let (name, weight) = (name.clone(), *weight);
            all.sources.push(SourceRewards { name, weight, rewards: scored.rewards });
        }
        let ranges: Vec<_> = self.sources.iter().map(|named| named.source.range()).collect();
        all.total = (0..batch.rows.len()).map(|row| self.combine.of(&all.sources, &ranges, row)).collect();
        match all.total.iter().position(|total| total.is_some_and(|total| !total.is_finite())) {
            Some(row) => {
                let message = format!("{}: the weighted sum is beyond f32", batch.place(row));
                Err(Error::reward("sum", message))
            }
            None => Ok(all),
        }
    }
}

impl Drop for Weighted {
    fn drop(&mut self) {
        self.sources.iter_mut().for_each(|named| named.source.close());
    }
}
