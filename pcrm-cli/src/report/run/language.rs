//! The report of a language model's training.

mod course;

use pcrm_core::data::encode::CompletionReport;
use pcrm_core::data::report::Report;
use pcrm_rl::offline::Outcome;

use self::course::plots;
use super::options;
use crate::report::curves::Curves;
use crate::report::data;
use crate::report::document::{Block, Document, Fact, Section, Severity, Table};
use crate::report::number::{count, duration, number, percent};

/// Completions read for one purpose.
#[derive(Debug)]
pub struct CompletionSource {
    /// The purpose.
    pub role: String,
    /// The report of reading them.
    pub read: Report,
    /// The report of encoding them.
    pub encoded: CompletionReport,
}

/// The kind of a language model's training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrainingKind {
    /// Trained on completions: supervised fine-tuning.
    FineTuned,
    /// Trained on answers labelled desirable or undesirable, with a reference: KTO.
    Labelled,
    /// Trained on its own answers and their rewards: PPO, GRPO, RLOO.
    Rewarded,
}

/// The content of the page of a language model's training.
pub struct LanguagePage<'a> {
    /// The name of the run.
    pub name: String,
    /// The base model.
    pub base: String,
    /// The metrics of all steps.
    pub curves: Curves,
    /// The outcome.
    pub ending: Result<&'a Outcome, &'a pcrm_rl::Error>,
    /// The warnings it printed.
    pub warnings: &'a [String],
    /// The data it read.
    pub sources: &'a [CompletionSource],
    /// The threshold for clipping the gradient norm.
    pub max_grad_norm: Option<f64>,
    /// All options, as TOML.
    pub options: &'a str,
    /// The kind of training.
    pub kind: TrainingKind,
    /// Tables of sampled answers.
    pub answers: Vec<Table>,
}

/// Returns the report of a run.
pub fn document(run: &LanguagePage<'_>) -> Document {
    let mut summary = vec![Block::Figures(figures(run))];
    summary.extend(run.warnings.iter().map(|text| Block::Note(Severity::Warning, text.clone())));
    summary.extend(ending(run));
    let mut sections = vec![Section::open("", summary)];
    if run.curves.last().is_some() {
        sections.push(Section::open("Course of training", vec![Block::Plots(plots(run))]));
    }
    if !run.answers.is_empty() {
        sections.push(Section::open("Answers", run.answers.iter().cloned().map(Block::Table).collect()));
    }
    let files: Vec<_> = run.sources.iter().map(|source| (source.role.as_str(), &source.read)).collect();
    if !files.is_empty() {
        let data = vec![Block::Table(data::files(&files)), Block::Table(tokens(run.sources))];
        sections.push(Section::open("Data", data));
    }
    sections.push(Section::closed("All options", vec![Block::Table(options(run.options))]));
    Document {
        title: format!("Language model {}", run.name),
        about: match run.kind {
            TrainingKind::FineTuned => format!("Fine-tuned from {}.", run.base),
            TrainingKind::Labelled => {
                format!("Trained from {} on answers labelled desirable or undesirable (KTO).", run.base)
            }
            TrainingKind::Rewarded => {
                format!("Trained from {} on its own answers and their rewards.", run.base)
            }
        },
        sections,
    }
}

/// Returns the measures on held-out data of the model that was saved; none where nothing was held out.
pub fn measures(run: &LanguagePage<'_>) -> Vec<Fact> {
    let mut figures = Vec::new();
    let kept = match run.ending {
        Ok(Outcome::Finished { saved, .. }) => run.curves.evaluation(*saved),
        _ => run.curves.last_evaluation(),
    };
    let held_out = |name: &str| kept.and_then(|line| line[format!("eval_{name}")].as_f64());
    if let Some(loss) = held_out("loss") {
        let note = match run.kind {
            // The loss of a mixture of experts includes the routers' loss, which is no log-likelihood.
            TrainingKind::FineTuned => match held_out("nll_loss") {
                Some(nats) => format!(
                    "with the routers' loss; {} nats per token, perplexity {}",
                    number(nats),
                    number(nats.exp())
                ),
                None => format!("nats per token; perplexity {}", number(loss.exp())),
            },
            TrainingKind::Labelled | TrainingKind::Rewarded => "per answer".to_owned(),
        };
        match run.kind {
            TrainingKind::Rewarded => {
                let before = run.curves.train("reward").first().map(|(_, reward)| *reward);
                let note = before
                    .map_or(String::new(), |before| format!("the first rollout had {}", number(before)));
                figures.push(Fact::new("Reward, held out", number(-loss)).with_note(note));
            }
            _ => figures.push(Fact::new("Loss, held out", number(loss)).with_note(note)),
        }
    }
    if let Some(margin) = held_out("rewards/margins") {
        let note = "reward of desirable answers − of others";
        figures.push(Fact::new("Margin, held out", number(margin)).with_note(note));
    }
    if let Some(accuracy) = held_out("mean_token_accuracy") {
        let note = "of held-out tokens are the most likely";
        figures.push(Fact::new("Token accuracy, held out", percent(accuracy)).with_note(note));
    }
    if let Some(kl) = held_out("objective/kl") {
        let note = "nats per answer, Σ ln π − ln π_ref";
        figures.push(Fact::new("Divergence from the reference, held out", number(kl)).with_note(note));
    }
    figures
}

fn figures(run: &LanguagePage<'_>) -> Vec<Fact> {
    let mut figures = measures(run);
    let is_measured = !figures.is_empty();
    if let Some(last) = run.curves.last() {
        let of = |name: &str| last[name].as_f64().unwrap_or(0.0);
        if !is_measured {
            let unit = match run.kind {
                TrainingKind::FineTuned if last.get("nll_loss").is_some() => {
                    "per token, with the routers' loss"
                }
                TrainingKind::FineTuned => "nats per token",
                TrainingKind::Labelled | TrainingKind::Rewarded => "per answer",
            };
            figures.push(Fact::new("Loss, last step", number(of("loss"))).with_note(unit));
        }
        figures.push(
            Fact::new("Steps", count(of("step") as u64)).with_note(format!("{:.2} epochs", of("epoch"))),
        );
        let time = format!("{} in steps", duration(run.curves.seconds()));
        figures.push(Fact::new("Tokens", count(of("num_tokens") as u64)).with_note(time));
    }
    if let Some(speed) = run.curves.median("tokens_per_second") {
        let saved = run.curves.median("padding_avoided").unwrap_or(0.0);
        let note = format!("tokens per second; {:.0} % of padded batches not computed", 100.0 * saved);
        figures.push(Fact::new("Speed, median", count(speed.round() as u64)).with_note(note));
    }
    figures
}

fn ending(run: &LanguagePage<'_>) -> Option<Block> {
    let (severity, text) = match run.ending {
        Ok(Outcome::Finished { early: false, .. }) => return None,
        Ok(Outcome::Finished { early: true, .. }) => (
            Severity::Info,
            "Stopped early: evaluations stopped improving (--patience), or a --stop limit was reached."
                .to_owned(),
        ),
        Ok(Outcome::Interrupted { .. }) => {
            (Severity::Warning, "Interrupted: rerun the same command with --resume to continue.".to_owned())
        }
        Err(error) => (Severity::Error, format!("Failed: {error}")),
    };
    Some(Block::Note(severity, text))
}

/// A row's label and the function for its number.
type Row = (&'static str, fn(&CompletionReport) -> usize);

fn tokens(sources: &[CompletionSource]) -> Table {
    let mut columns = vec![""];
    columns.extend(sources.iter().map(|source| source.role.as_str()));
    let mut table = Table::of_numbers("Completions as tokens", &columns);
    let rows: [Row; 7] = [
        ("completions", |report| report.kept),
        ("left out: too long", |report| report.dropped_too_long),
        ("left out: no target tokens", |report| report.nothing_to_learn),
        ("cut to the limit", |report| report.cut),
        ("tokens", |report| report.tokens),
        ("target tokens", |report| report.trained_tokens),
        ("longest sequence", |report| report.longest),
    ];
    table.rows = rows
        .into_iter()
        .map(|(label, of)| {
            let numbers = sources.iter().map(|source| count(of(&source.encoded) as u64));
            std::iter::once(label.to_owned()).chain(numbers).collect()
        })
        .collect();
    table
}
