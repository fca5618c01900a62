//! Gathers an inspection: reads and encodes the data, surveys it and measures the cost.

use std::path::PathBuf;

use anyhow::{Context, Result};
use pcrm_core::constraint::Constraint;
use pcrm_core::data::encode::{
    self, EncodeOptions, EncodedPair, EncodedSet, Padding, Tokenised, fit, tokenised,
};
use pcrm_core::data::files::data_files;
use pcrm_core::data::preference::{AnswerSet, ReadOptions, Strictness, Ties, load_preferences, pairs};
use pcrm_core::data::survey::bounds::Bounds;
use pcrm_core::data::survey::ends::Ends;
use pcrm_core::data::survey::file_schema::file_schema;
use pcrm_core::data::survey::lengths::{Beyond, Lengths, Limit};
use pcrm_core::data::survey::lost::LOST_TURN;
use pcrm_core::data::survey::repeats::{Overlap, Repeats};
use pcrm_core::data::survey::sets::Sets;
use pcrm_core::data::survey::template::Template;
use pcrm_core::data::survey::{Finding, Severity, Tally, reading};
use pcrm_core::model::{RewardModel, ScoringConfig};
use pcrm_core::text::Tokenizer;
use pcrm_rl::pairs::Pairs;

use super::InspectArgs;
use super::cost::{self, Cost};
use super::examples::{self, Example};
use super::report::{Inspection, ModelFacts, PairFacts, TokenizerFacts};
use super::summaries::{self, LengthSummary, LongerPreferred, SavedTokens};
use crate::bound_summary::BoundSummary;
use crate::chain::in_full;
use crate::constraint;
use crate::dataset;
use crate::hub::Weights;
use crate::priors::priors;

/// Gathers the whole inspection.
///
/// # Errors
/// Fails if a file cannot be read, no record is usable or an option is invalid.
pub fn gather(args: &InspectArgs) -> Result<Inspection> {
    args.reading.check()?;
    let constraint = constraint::read(&args.constraint)?;
    let at = || format!("--model {}", args.model.display());
    let weights = Weights::drawn_if(args.steps.no_measure || args.steps.random_init);
    let dir = args.hub.model("--model", &args.model, weights)?;
    let data = args.hub.data("--data", &args.data)?;
    let model = ScoringConfig::from_dir(&dir).with_context(at)?;
    let subject = Subject {
        args,
        // A limit beyond the model's positions is a finding here, not an error.
        max_length: args
            .reading
            .training_length(&model)
            .or_else(|error| args.reading.max_length.ok_or(error))?,
        tokenizer: model.tokenizer(&dir).with_context(at)?,
        model,
        dir,
        constraint,
    };
    if let ScoringConfig::Decoder(config) = &subject.model
        && !args.steps.random_init
        && config.claims_head()
    {
        RewardModel::check_head(&subject.dir).with_context(at)?;
    }
    let backend = args.machine.open()?;
    let asked = args.reading.columns.options(Ties::Drop)?;
    // Report all faults, not only the first.
    let options = ReadOptions { strictness: Strictness::Skip, ..asked.clone() };
    let (rows, report) = load_preferences(&data, options.clone())?;
    let mut schemas = Vec::new();
    for path in data_files(&data)? {
        schemas.extend(file_schema(&path, &options.columns)?);
    }
    let template = Template::of(pairs(&rows), &subject.tokenizer);
    let mut findings = reading::findings(&report, asked.strictness);
    if subject.tokenizer.pairs().is_none() || subject.tokenizer.has_chat_template() {
        findings.extend(template.findings());
    }
    let (mut facts, mut overlap, mut cost) = (None, None, None);
    if let Some(all) = subject.encode(&rows, &mut findings) {
        let ((found, lengths), kept) = subject.survey(&rows, all, &mut findings)?;
        if !args.eval_data.is_empty() {
            overlap = subject.overlap(&options, &kept, &mut findings)?;
        }
        if !args.steps.no_measure && kept.count() > 0 {
            let lengths: Vec<usize> =
                lengths.sequence.chunks(2).filter_map(|two| two.iter().copied().max()).collect();
            cost = subject.measure(backend.as_ref(), &kept, &lengths, &mut findings);
        }
        facts = Some(found);
    }
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    let Subject { model, tokenizer, .. } = &subject;
    let outline = model.outline();
    Ok(Inspection {
        pcrm: env!("CARGO_PKG_VERSION"),
        severity: findings.first().map(|finding| finding.severity),
        findings,
        model: ModelFacts {
            path: args.model.display().to_string(),
            family: outline.model_type,
            vocabulary: outline.vocabulary,
            positions: outline.max_positions,
            learned_positions: outline.has_learned_positions,
            pairs: tokenizer.pair_shape(),
        },
        tokenizer: TokenizerFacts {
            vocabulary: tokenizer.vocab_size(),
            bos: tokenizer.bos().cloned(),
            eos: tokenizer.eos().cloned(),
            padding: Padding::of(model, tokenizer),
            unknown: tokenizer.unk(),
        },
        schemas,
        sets: Sets::of(&rows, &report),
        reading: report,
        template,
        pairs: facts,
        overlap,
        cost,
    })
}

/// The model and data under inspection.
struct Subject<'a> {
    args: &'a InspectArgs,
    /// The most tokens per sequence.
    max_length: usize,
    dir: PathBuf,
    model: ScoringConfig,
    tokenizer: Tokenizer,
    constraint: Box<dyn Constraint>,
}

impl Subject<'_> {
    fn limit(&self) -> Limit {
        Limit { max_length: self.max_length, too_long: self.args.reading.too_long }
    }

    /// Encodes all sets without a limit and with their padding. Returns `None`, and adds a finding, if they
    /// cannot be encoded.
    fn encode(&self, rows: &[AnswerSet], findings: &mut Vec<Finding>) -> Option<Tokenised> {
        let all = match tokenised(rows, &self.tokenizer) {
            Ok(all) => all,
            // Encoding refuses lost turns, and they are a finding already.
            Err(_) if findings.iter().any(|finding| finding.code == LOST_TURN) => return None,
            Err(error) => {
                findings.push(Finding::new(
                    "not_encodable",
                    Severity::Error,
                    format!("the data cannot be encoded for this model: {error}"),
                    "Training would fail with the same message",
                ));
                return None;
            }
        };
        let mut same = Tally::default();
        let mut next = encode::pairs(&all.sets).map(|pair| pair.row).peekable();
        for (at, pair) in pairs(rows).enumerate() {
            if next.next_if_eq(&at).is_none() {
                same.add(pair.origin);
            }
        }
        drop(next);
        if !same.is_empty() {
            let found = format!("{} pairs whose answers differ as text but not as tokens", same.count);
            findings.push(
                Finding::new("identical_tokens", Severity::Warning, found, "They are left out")
                    .tallied(&same),
            );
        }
        Some(all)
    }

    /// Returns the facts about all pairs and their lengths, and the training sets with their bounds.
    fn survey(
        &self,
        rows: &[AnswerSet],
        all: Tokenised,
        findings: &mut Vec<Finding>,
    ) -> Result<((PairFacts, Lengths), Pairs)> {
        let (limit, model, tokenizer) = (self.limit(), &self.model, &self.tokenizer);
        let lengths = Lengths::of(&all.sets);
        let longest: Vec<usize> = encode::pairs(&all.sets).map(|pair| pair.longest()).collect();
        let beyond = Beyond::of(&all.sets, limit, model);
        findings.extend(beyond.findings(limit, model));
        let padded = self.within_limit(all.clone(), None);
        findings.extend(beyond.unmended(encode::pairs(&padded).count(), limit));
        let ends = Ends::of(&padded, rows, tokenizer, model);
        drop(padded);
        // An encoder reads its score from a whole sequence, however it ends.
        if !model.outline().is_encoder {
            findings.extend(ends.findings(tokenizer, model));
        }
        let kept = self.within_limit(all, Padding::of(model, tokenizer).id);
        let repeats = Repeats::of(&kept);
        findings.extend(repeats.findings());
        let of_kept = Lengths::of(&kept);
        let longer = LongerPreferred::of(of_kept.longer_preferred())?;
        findings.extend(longer.as_ref().and_then(LongerPreferred::finding));
        let (bounds, similarities) = self.bounds(&kept)?;
        let summary = Bounds::of(&kept, &bounds, similarities.as_deref());
        findings.extend(summary.findings());
        let constraint = BoundSummary::of(self.constraint.to_tagged()?, &summary)?;
        let all: Vec<EncodedPair<'_>> = encode::pairs(&kept).collect();
        let count = all.len();
        let examples: Vec<Example> = examples::spread(count, self.args.examples)
            .map(|at| {
                let s = similarities.as_ref().map(|all| all[at]);
                examples::example(all[at], tokenizer, (s, bounds[at]))
            })
            .collect::<Result<_>>()?;
        let kept = Pairs::new(kept, bounds);
        let facts = PairFacts {
            read: pairs(rows).count(),
            kept: count,
            limit,
            lengths: LengthSummary::of(&lengths, &longest)?,
            ends,
            saved: SavedTokens::of(&kept, self.args.steps.batch, model)?,
            longer_preferred: longer,
            repeats,
            constraint,
            examples,
        };
        Ok(((facts, lengths), kept))
    }

    /// Returns the sets within the limit, without this padding; having none is reported as a finding
    /// elsewhere.
    fn within_limit(&self, all: Tokenised, padding: Option<u32>) -> Vec<EncodedSet> {
        let Limit { max_length, too_long } = self.limit();
        let options = EncodeOptions { max_length: Some(max_length), too_long, padding };
        fit(all, &self.tokenizer, &options).map_or_else(|_| Vec::new(), |(sets, _)| sets)
    }

    fn bounds(&self, sets: &[EncodedSet]) -> Result<(Vec<f32>, Option<Vec<f32>>)> {
        let priors = priors(&self.args.machine, (!self.args.steps.random_init).then_some(&self.dir))?;
        let bounds = dataset::bounds(self.constraint.as_ref(), sets, &priors)?;
        Ok((
            bounds,
            self.constraint
                .similarities(&pcrm_rl::train::bounds::views(sets), &priors)
                .context("--constraint")?,
        ))
    }

    fn overlap(
        &self,
        options: &ReadOptions,
        kept: &Pairs,
        findings: &mut Vec<Finding>,
    ) -> Result<Option<Overlap>> {
        let (rows, _) =
            load_preferences(&self.args.hub.data("--eval-data", &self.args.eval_data)?, options.clone())
                .context("--eval-data")?;
        let held_out = tokenised(&rows, &self.tokenizer).context("--eval-data")?;
        let overlap = Overlap::of(&kept.sets, &held_out.sets);
        findings.extend(overlap.findings());
        Ok(Some(overlap))
    }

    /// Measures the cost of training. Returns `None`, and adds a note, if it cannot be measured.
    fn measure(
        &self,
        backend: &dyn pcrm_core::Backend,
        kept: &Pairs,
        lengths: &[usize],
        findings: &mut Vec<Finding>,
    ) -> Option<Cost> {
        let ScoringConfig::Decoder(config) = &self.model else {
            let found = "the model is an encoder: it scores, and is not trained here";
            let advice = "pcrm score, eval reward, serve, judge and best-of-n take it";
            findings.push(Finding::new("not_trained", Severity::Note, found, advice));
            return None;
        };
        let measured = cost::measure(self.args, backend, config.as_ref(), &self.dir, kept);
        match measured {
            Ok(mut cost) => {
                cost.by_length = summaries::by_length(lengths, kept, &cost);
                findings.extend(cost.findings());
                Some(cost)
            }
            Err(error) => {
                findings.push(Finding::new(
                    "not_measured",
                    Severity::Note,
                    format!("no training step could be measured: {}", in_full(&error)),
                    "Use --random-init if there are no weights (config.json and a tokenizer are enough), or \
                     --no-measure to skip the measurement",
                ));
                None
            }
        }
    }
}
