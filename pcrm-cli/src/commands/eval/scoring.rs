//! Scoring the data with a model, each distinct text once.

mod sets;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use pcrm_core::constraint::{Constraint, Priors};
use pcrm_core::data::encode::{self, EncodeReport, EncodedComparison, EncodedSet};
use pcrm_core::data::files::data_files;
use pcrm_core::data::preference::{AnswerSet, Ties};
use pcrm_core::data::report::{Origin, Report};
use pcrm_core::data::survey::repeats::Repeats;
use pcrm_core::model::{Scores, ScoringModel};
use pcrm_core::text::Tokenizer;
use pcrm_core::tree::within_budget;
use pcrm_eval::PairScore;
use pcrm_rl::score::score_pairs;

use super::cache::ScoreCache;
use super::columns::{ColumnsByOrigin, within_records};
use super::constraint::{Whose, bounds_of};
use super::fields::GivenFields;
use super::items::{Body, Item, Keys, own_lengths};
use super::sets::{self as answers, Answers};
use crate::chain::in_full;
use crate::dataset::{Reading, say_beyond_training};
use crate::progress::{Bar, bar, say};
use crate::record::{Record, all_records};
use crate::report::data::Source;
use crate::usage::usage;
use crate::warnings::Warnings;
use crate::{left_out, template};

/// The data and the options of scoring.
pub struct Scoring<'a> {
    /// Data files.
    pub data: &'a [PathBuf],
    /// Options for reading them.
    pub reading: &'a Reading,
    /// The meaning of columns.
    pub fields: &'a GivenFields,
    /// The largest number of tokens computed at once.
    pub micro_tokens: usize,
    /// The context of constraints.
    pub priors: Priors,
}

/// The data as read: pairs, sets of answers, and the extra columns of the pairs.
#[derive(Default)]
pub struct ScoringData {
    pairs: Vec<AnswerSet>,
    read: Report,
    sets: Vec<(Answers, Item)>,
    columns: ColumnsByOrigin,
}

/// A model with everything needed to score.
pub struct LoadedScorer {
    /// The model.
    pub model: ScoringModel,
    /// The model's tokenizer.
    pub tokenizer: Tokenizer,
    /// The constraint whose bounds margins are compared with.
    pub constraint: Box<dyn Constraint>,
    /// The origin of the constraint.
    pub whose: Whose,
    /// Cached scores.
    pub cache: ScoreCache,
}

impl Scoring<'_> {
    /// Reads the data.
    ///
    /// # Errors
    /// Fails if a file cannot be read or no row is usable; with `--strict`, on the first unusable row.
    pub fn read(&self, warnings: &mut Warnings) -> Result<ScoringData> {
        let mut rows = ScoringData::default();
        let mut keys = Keys::default();
        let (mut pair_files, mut ratings, mut before) = (Vec::new(), None, 0);
        for path in &data_files(self.data)? {
            let mut records = all_records(path)?;
            let all = records.len();
            let first = records.iter().find_map(|(_, record)| record.as_ref().ok());
            if first.is_some_and(|record| answers::is_set(record, self.fields)) {
                let room = self.reading.columns.limit.map_or(usize::MAX, |limit| limit - rows.sets.len());
                records.truncate(room);
                let used = records.len();
                if used < all {
                    say(&format!("{}: --limit uses the first {used} of {all} records", path.display()));
                }
                if used > 0 {
                    self.read_sets(path, records, before, &mut keys, &mut rows, warnings)?;
                }
            } else {
                rows.columns.add(&records, before, self.fields, &mut keys)?;
                ratings = ratings.or(first.and_then(answers::ratings));
                pair_files.push(path.clone());
            }
            before += all as u64;
        }
        rows.columns.note().iter().for_each(|note| say(note));
        if !pair_files.is_empty() {
            let read = self.reading.preferences(&pair_files, Ties::Drop);
            (rows.pairs, rows.read) = match ratings {
                Some(field) => read.with_context(|| {
                    format!("no pairs; for single answers with human scores, add --human-field {field}")
                })?,
                None => read?,
            };
            rows.read.shortfall().into_iter().for_each(|text| warnings.add(text));
        }
        Ok(rows)
    }

    fn read_sets(
        &self,
        path: &Path,
        records: Vec<(Origin, pcrm_core::Result<Record>)>,
        before: u64,
        keys: &mut Keys,
        rows: &mut ScoringData,
        warnings: &mut Warnings,
    ) -> Result<()> {
        let (all, already) = (records.len(), rows.sets.len());
        let mut first_left_out = None;
        for (origin, record) in records {
            let at = || origin.to_string();
            let read = match record {
                Ok(record) => {
                    let subset = self.fields.subset(&record).with_context(at)?;
                    let id = super::fields::id(&record);
                    let key = keys.key(before + origin.record, subset.as_deref(), id.as_deref());
                    let answers = answers::read(&record, self.fields).with_context(at);
                    answers.and_then(|answers| Ok((key, subset, self.fields.prompt(&record)?, answers)))
                }
                Err(error) => Err(error.into()),
            };
            match read {
                Ok((key, subset, prompt, answers)) => {
                    // The scores are filled in later.
                    let labels = answers.labels.clone();
                    let body = Body::Set { scores: Vec::new(), lengths: Vec::new(), labels };
                    rows.sets.push((answers, Item { key, subset, prompt, prompt_id: None, body }));
                }
                Err(error) if self.reading.columns.strict => return Err(error),
                Err(error) => first_left_out = first_left_out.or(Some(error)),
            }
        }
        let kept = rows.sets.len() - already;
        let left_out = all - kept;
        match first_left_out {
            Some(error) if kept == 0 => return Err(error.context("no record can be used")),
            Some(error) => warnings.add(format!(
                "{}: {kept} of {all} sets of answers are kept; {left_out} are left out (first: {})",
                path.display(),
                in_full(&error)
            )),
            None => say(&format!("{}: {kept} sets of answers", path.display())),
        }
        Ok(())
    }

    /// Scores the rows.
    ///
    /// # Errors
    /// Fails if the tokenizer refuses a text, the constraint gives no bound, a score is not finite or no row
    /// is left.
    pub fn score(
        &self,
        rows: &ScoringData,
        scorer: &mut LoadedScorer,
        warnings: &mut Warnings,
    ) -> Result<(Vec<Item>, Vec<Source>)> {
        let (mut items, mut sources) = (Vec::new(), Vec::new());
        let max_length = usage(self.reading.scoring_length(scorer.model.outline()))?;
        if !rows.pairs.is_empty() {
            template::warn(&rows.pairs, &scorer.tokenizer);
            let (pairs, encoded) = self.score_pairs(rows, scorer, max_length, warnings)?;
            left_out::unencoded(&encoded, max_length).into_iter().for_each(|text| warnings.add(text));
            items.extend(pairs);
            sources.push(Source { role: "evaluation".to_owned(), read: rows.read.clone(), encoded });
        }
        if !rows.sets.is_empty() {
            items.extend(self.score_sets(rows, scorer, max_length, warnings)?);
        }
        scorer.cache.save();
        Ok((items, sources))
    }

    fn score_pairs(
        &self,
        rows: &ScoringData,
        scorer: &mut LoadedScorer,
        max_length: usize,
        warnings: &mut Warnings,
    ) -> Result<(Vec<Item>, EncodeReport)> {
        let pad = scorer.model.outline().pad;
        let (sets, report) = self.reading.encode(&rows.pairs, &scorer.tokenizer, pad, max_length)?;
        let pairs = || encode::pairs(&sets);
        say_beyond_training(scorer.model.outline(), pairs().map(|pair| pair.longest()));
        // Models that are compared score the same pairs.
        if let Some(text) = repeated(&sets).filter(|text| !warnings.all().contains(text)) {
            warnings.add(text);
        }
        let bounds = bounds_of(scorer.constraint.as_ref(), scorer.whose, &sets, &self.priors)?;
        let is_unknown =
            |set: &&EncodedSet| set.answers.iter().any(|answer| scorer.cache.get(&answer.ids).is_none());
        let unknown: Vec<&EncodedSet> = sets.iter().filter(is_unknown).collect();
        let count = |sets: &[&EncodedSet]| sets.iter().map(|set| set.comparisons.len()).sum();
        let mut pace = Pace::new(count(&unknown), pairs().count());
        for part in within_budget(&unknown, self.micro_tokens, |set| set.unique_tokens()) {
            let scores = score_pairs(&scorer.model, part, self.micro_tokens)?;
            let compared = part.iter().flat_map(|set| set.comparisons.iter().map(move |pair| (set, pair)));
            for ((set, pair), (chosen, rejected)) in compared.zip(scores) {
                ensure!(chosen.is_finite() && rejected.is_finite(), BROKEN);
                scorer.cache.insert(&set.answers[pair.chosen as usize].ids, chosen);
                scorer.cache.insert(&set.answers[pair.rejected as usize].ids, rejected);
            }
            pace.went(count(part), &mut scorer.cache);
        }
        pace.end();
        let compared = sets.iter().flat_map(|set| set.comparisons.iter().map(move |pair| (set, pair)));
        let score = |set: &EncodedSet, answer: u32| {
            scorer.cache.get(&set.answers[answer as usize].ids).context("an answer was not scored")
        };
        let within = within_records(&rows.pairs);
        let item = |((set, comparison), bound): ((&EncodedSet, &EncodedComparison), f32)| {
            let (chosen, rejected) = (score(set, comparison.chosen)?, score(set, comparison.rejected)?);
            let pair = set.view(comparison);
            let columns = rows.columns.at(pair.origin);
            let judged = columns.and_then(|columns| columns.judged);
            let (chosen_tokens, rejected_tokens, similarity) = own_lengths(pair.chosen, pair.rejected);
            let key = match (columns, within[pair.row]) {
                (Some(columns), None) => columns.key.clone(),
                (Some(columns), Some(number)) => format!("{}, pair {number}", columns.key),
                (None, _) => format!("{} {}", pair.origin, pair.row),
            };
            Ok(Item {
                key,
                subset: columns.and_then(|columns| columns.subset.clone()),
                prompt: Some(pair.prompt_text.to_owned()).filter(|text| !text.is_empty()),
                prompt_id: Some(pair.id.prompt),
                body: Body::Pair(PairScore {
                    chosen: chosen.into(),
                    rejected: rejected.into(),
                    chosen_tokens,
                    rejected_tokens,
                    similarity: Some(similarity),
                    bound: bound.is_finite().then_some(bound.into()),
                    true_chosen: judged.map(|(chosen, _)| chosen),
                    true_rejected: judged.map(|(_, rejected)| rejected),
                }),
            })
        };
        Ok((compared.zip(bounds).map(item).collect::<Result<_>>()?, report))
    }
}

/// Returns a warning about pairs that repeat others; `None` if none does.
fn repeated(sets: &[EncodedSet]) -> Option<String> {
    let Repeats { pairs, repeated, .. } = Repeats::of(sets);
    let first = repeated.first?;
    Some(format!(
        "{} of {pairs} pairs repeat an earlier pair, including its answers (first: {first}); each counts as another \
         pair in all measures",
        repeated.count
    ))
}

const BROKEN: &str = "a score is not a finite number: the model's weights are broken";

/// Shows the progress of scoring and saves the cache regularly.
struct Pace {
    bar: Bar,
    kept: Instant,
}

impl Pace {
    const KEEP_EVERY: Duration = Duration::from_secs(60);

    fn new(unknown: usize, all: usize) -> Self {
        if unknown < all {
            say(&format!("{} of {all} are cached", all - unknown));
        }
        Self { bar: bar(unknown as u64, "scoring"), kept: Instant::now() }
    }

    fn went(&mut self, by: usize, cache: &mut ScoreCache) {
        self.bar.inc(by as u64);
        if self.kept.elapsed() >= Self::KEEP_EVERY {
            cache.save();
            self.kept = Instant::now();
        }
    }

    fn end(self) {
        self.bar.finish_and_clear();
    }
}
