//! Gathers what an inspection tells: reads, encodes, surveys, measures.

use std::path::PathBuf;

use anyhow::{Context, Result};
use pcrm_core::constraint::{Constraint, PairView};
use pcrm_core::data::encode::{EncodeOptions, EncodedPair, TooLong, encode_pairs};
use pcrm_core::data::files::data_files;
use pcrm_core::data::preference::{Preference, ReadOptions, Strictness, Ties, load_preferences};
use pcrm_core::data::survey::bounds::Bounds;
use pcrm_core::data::survey::ends::{Ends, Padding};
use pcrm_core::data::survey::lengths::{Beyond, Lengths, Limit};
use pcrm_core::data::survey::repeats::{Overlap, Repeats};
use pcrm_core::data::survey::sets::Sets;
use pcrm_core::data::survey::template::Template;
use pcrm_core::data::survey::told::told;
use pcrm_core::data::survey::{Finding, Severity, Tally, reading};
use pcrm_core::model::{ModelConfig, RewardModel};
use pcrm_core::text::Tokenizer;
use pcrm_rl::pairs::Pairs;

use super::InspectArgs;
use super::cost::{self, Cost};
use super::examples::{self, Example};
use super::report::{Inspection, ModelFacts, PairFacts, TokenizerFacts};
use super::summaries::{self, LengthSummary, LongerPreferred, Saved};
use crate::bound_summary::BoundSummary;
use crate::chain::in_full;
use crate::constraint;
use crate::dataset;
use crate::hub::Weights;
use crate::priors::priors;

/// Gathers all that is told.
///
/// # Errors
/// What leaves nothing to tell: files that cannot be read, no usable record, options that are wrong.
pub fn gather(args: &InspectArgs) -> Result<Inspection> {
    args.reading.check()?;
    let constraint = constraint::read(&args.constraint)?;
    let at = || format!("--model {}", args.model.display());
    let weights = Weights::drawn_if(args.steps.no_measure || args.steps.random_init);
    let dir = args.hub.model("--model", &args.model, weights)?;
    let data = args.hub.data("--data", &args.data)?;
    let model = ModelConfig::from_dir(&dir).with_context(at)?;
    let subject = Subject {
        args,
        // Positions beyond the model's are a finding here.
        max_length: args
            .reading
            .training_length(&model)
            .or_else(|error| args.reading.max_length.ok_or(error))?,
        model,
        tokenizer: Tokenizer::from_dir(&dir).with_context(at)?,
        dir,
        constraint,
    };
    if !args.steps.random_init && subject.model.claims_head() {
        RewardModel::check_head(&subject.dir).with_context(at)?;
    }
    let backend = args.machine.open()?;
    let asked = args.reading.columns.options(Ties::Drop)?;
    // All that is wrong is told, not only the first.
    let options = ReadOptions { strictness: Strictness::Skip, ..asked.clone() };
    let (rows, report) = load_preferences(&data, options.clone())?;
    let mut schemas = Vec::new();
    for path in data_files(&data)? {
        schemas.extend(told(&path, &options.columns)?);
    }
    let template = Template::of(&rows, &subject.tokenizer);
    let mut findings = reading::findings(&report, asked.strictness);
    findings.extend(template.findings());
    let (mut facts, mut overlap, mut cost) = (None, None, None);
    if let Some(all) = subject.encode(&rows, &mut findings) {
        let (pairs, kept) = subject.survey(&rows, all, &mut findings)?;
        if !args.eval_data.is_empty() {
            overlap = subject.overlap(&options, &kept, &mut findings)?;
        }
        if !args.steps.no_measure && !kept.pairs.is_empty() {
            let lengths: Vec<usize> =
                pairs.1.sequence.chunks(2).filter_map(|two| two.iter().copied().max()).collect();
            cost = subject.measure(backend.as_ref(), &kept, &lengths, &mut findings);
        }
        facts = Some(pairs.0);
    }
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    let Subject { model, tokenizer, .. } = &subject;
    Ok(Inspection {
        pcrm: env!("CARGO_PKG_VERSION"),
        severity: findings.first().map(|finding| finding.severity),
        findings,
        model: ModelFacts {
            path: args.model.display().to_string(),
            family: model.family.model_type,
            vocabulary: model.vocabulary,
            positions: model.max_positions,
            learned_positions: model.has_learned_positions(),
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

/// What is inspected.
struct Subject<'a> {
    args: &'a InspectArgs,
    /// The most tokens of a sequence.
    max_length: usize,
    dir: PathBuf,
    model: ModelConfig,
    tokenizer: Tokenizer,
    constraint: Box<dyn Constraint>,
}

impl Subject<'_> {
    fn limit(&self) -> Limit {
        Limit { max_length: self.max_length, too_long: self.args.reading.too_long }
    }

    /// All pairs as tokens, without a limit; nothing, and a finding, where they cannot be encoded.
    fn encode(&self, rows: &[Preference], findings: &mut Vec<Finding>) -> Option<Vec<EncodedPair>> {
        let encoded = match encode_pairs(rows, &self.tokenizer, &EncodeOptions::default()) {
            Ok((encoded, _)) => encoded,
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
        let mut next = encoded.iter().map(|pair| pair.row).peekable();
        for (at, row) in rows.iter().enumerate() {
            if next.next_if_eq(&at).is_none() {
                same.add(&row.origin);
            }
        }
        if !same.is_empty() {
            let found = format!("{} pairs whose answers differ as text but not as tokens", same.count);
            findings.push(
                Finding::new("identical_tokens", Severity::Warning, found, "They are left out")
                    .tallied(&same),
            );
        }
        Some(encoded)
    }

    /// What there is to tell of pairs, and those that are trained on, with their bounds.
    fn survey(
        &self,
        rows: &[Preference],
        all: Vec<EncodedPair>,
        findings: &mut Vec<Finding>,
    ) -> Result<((PairFacts, Lengths), Pairs)> {
        let (limit, model, tokenizer) = (self.limit(), &self.model, &self.tokenizer);
        let lengths = Lengths::of(&all);
        let longest: Vec<usize> = all.iter().map(EncodedPair::longest).collect();
        let beyond = Beyond::of(&all, limit, model);
        findings.extend(beyond.findings(limit, model));
        let mut kept = self.within_limit(rows, all);
        findings.extend(beyond.unmended(kept.len(), limit));
        let ends = Ends::of(&kept, rows, tokenizer, model);
        findings.extend(ends.findings(tokenizer, model));
        if let Some(pad) = Padding::of(model, tokenizer).id {
            kept.iter_mut().for_each(|pair| pair.strip_padding(pad));
        }
        let repeats = Repeats::of(&kept, |pair| rows[pair.row].scores);
        findings.extend(repeats.findings());
        let of_kept = Lengths::of(&kept);
        let longer = LongerPreferred::of(of_kept.longer_preferred())?;
        findings.extend(longer.as_ref().and_then(LongerPreferred::finding));
        let (bounds, similarities) = self.bounds(&kept)?;
        let told = Bounds::of(&kept, &bounds, similarities.as_deref());
        findings.extend(told.findings());
        let constraint = BoundSummary::of(self.constraint.to_tagged()?, &told)?;
        let examples: Vec<Example> = examples::spread(kept.len(), self.args.examples)
            .map(|at| {
                let s = similarities.as_ref().map(|all| all[at]);
                examples::example(&kept[at], tokenizer, (s, bounds[at]))
            })
            .collect::<Result<_>>()?;
        let count = kept.len();
        let kept = Pairs::new(kept, bounds);
        let facts = PairFacts {
            read: rows.len(),
            kept: count,
            limit,
            lengths: LengthSummary::of(&lengths, &longest)?,
            ends,
            saved: Saved::of(&kept, self.args.steps.batch, model)?,
            longer_preferred: longer,
            repeats,
            constraint,
            examples,
        };
        Ok(((facts, lengths), kept))
    }

    fn within_limit(&self, rows: &[Preference], all: Vec<EncodedPair>) -> Vec<EncodedPair> {
        let most = self.max_length;
        match self.args.reading.too_long {
            TooLong::CutPrompt if all.iter().any(|pair| pair.longest() > most) => {
                let options = EncodeOptions { max_length: Some(most), too_long: TooLong::CutPrompt };
                // The same rows were encoded without a limit: all that can fail now is that none is left.
                encode_pairs(rows, &self.tokenizer, &options).map_or_else(|_| Vec::new(), |(pairs, _)| pairs)
            }
            _ => all.into_iter().filter(|pair| pair.longest() <= most).collect(),
        }
    }

    fn bounds(&self, pairs: &[EncodedPair]) -> Result<(Vec<f32>, Option<Vec<f32>>)> {
        let priors = priors(&self.args.machine, (!self.args.steps.random_init).then_some(&self.dir))?;
        let bounds = dataset::bounds(self.constraint.as_ref(), pairs, &priors)?;
        let views: Vec<PairView<'_>> = pairs.iter().map(EncodedPair::view).collect();
        Ok((bounds, self.constraint.similarities(&views, &priors).context("--constraint")?))
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
        let (pairs, _) =
            encode_pairs(&rows, &self.tokenizer, &EncodeOptions::default()).context("--eval-data")?;
        let overlap = Overlap::of(&kept.pairs, &pairs);
        findings.extend(overlap.findings());
        Ok(Some(overlap))
    }

    /// What training takes; nothing, and a note, where it cannot be measured.
    fn measure(
        &self,
        backend: &dyn pcrm_core::Backend,
        kept: &Pairs,
        lengths: &[usize],
        findings: &mut Vec<Finding>,
    ) -> Option<Cost> {
        let measured = cost::measure(self.args, backend, (&self.model, &self.dir), kept);
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
                    "With --random-init config.json and a tokenizer are enough; --no-measure asks for no measurement",
                ));
                None
            }
        }
    }
}
