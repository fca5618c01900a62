//! An inspection as text: data, tokens, numbers, cost, and the findings last.

mod numbers;

use anstyle::{AnsiColor, Style};
use pcrm_core::data::survey::file_schema::{Column, FileSchema};
use pcrm_core::data::survey::{Finding, Severity};
use pcrm_core::text::SpecialToken;

use self::numbers::number;
use super::examples::{Example, SequencePart};
use super::report::{Inspection, PairFacts};
use super::tokens::{legend, lines, visible};
use crate::page::{Page, coloured, padded};

/// Columns of the labels in front of facts.
const INDENT: usize = 11;

/// Writes the inspection to a page.
pub fn show(inspection: &Inspection, page: &mut Page) {
    data(inspection, page);
    tokens(inspection, page);
    if let Some(pairs) = &inspection.pairs {
        examples(&pairs.examples, page);
        numbers::lengths(inspection, pairs, page);
        labels(inspection, pairs, page);
        if let Some(bounds) = &pairs.constraint {
            numbers::constraint(bounds, page);
        }
    }
    if let Some(cost) = &inspection.cost {
        numbers::cost(cost, page);
    }
    findings(&inspection.findings, page);
}

fn data(inspection: &Inspection, page: &mut Page) {
    page.heading("data");
    for file in &inspection.reading.files {
        page.labelled("read", INDENT, &file.to_string());
        let path = file.file.display().to_string();
        for schema in inspection.schemas.iter().filter(|schema| schema.file == path) {
            page.labelled("columns", INDENT, &columns_of(schema));
        }
    }
    if let Some(sets) = &inspection.sets {
        let sizes: Vec<String> =
            sets.sizes.iter().map(|(size, count)| format!("{count} of {size}")).collect();
        page.labelled(
            "sets",
            INDENT,
            &format!(
                "{} ranked sets of answers ({}): {} comparisons, {} ties",
                sets.sets,
                sizes.join(", "),
                sets.pairs,
                sets.ties
            ),
        );
    }
}

fn columns_of(schema: &FileSchema) -> String {
    let names = |columns: &[Column]| {
        columns
            .iter()
            .map(|column| format!("{} ({})", column.name, column.holds))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let how = if schema.chosen { "schema given; " } else { "" };
    let unread: Vec<&str> = schema.unread.iter().map(|column| column.name.as_str()).collect();
    let rest = if unread.is_empty() { String::new() } else { format!("; not read: {}", unread.join(", ")) };
    format!("{how}{}{rest}", names(&schema.read))
}

fn tokens(inspection: &Inspection, page: &mut Page) {
    let (model, tokenizer) = (&inspection.model, &inspection.tokenizer);
    page.heading("model and tokens");
    let positions = if model.learned_positions { "learned positions" } else { "positions" };
    page.labelled(
        "model",
        INDENT,
        &format!("{}: {}, {} {positions}", model.path, model.family, model.positions),
    );
    if let Some(shape) = &model.pairs {
        page.labelled("pairs", INDENT, &format!("an encoder, which reads {}", visible(shape)));
    }
    let named = |name: &str, token: Option<&SpecialToken>| {
        token
            .map_or(format!("{name} none"), |token| format!("{name} {} ({})", visible(&token.text), token.id))
    };
    let padding = match (tokenizer.padding.id, tokenizer.padding.named) {
        (Some(id), true) => format!("padding {id}"),
        (Some(id), false) => format!("padding {id} (the EOS; no padding token is named)"),
        (None, _) => "padding none".to_owned(),
    };
    page.labelled(
        "tokens",
        INDENT,
        &format!(
            "{} ids for {} embeddings; {}, {}, {padding}, {}",
            tokenizer.vocabulary,
            model.vocabulary,
            named("BOS", tokenizer.bos.as_ref()),
            named("EOS", tokenizer.eos.as_ref()),
            named("unknown", tokenizer.unknown.as_ref())
        ),
    );
    let template = &inspection.template;
    let used = match (template.present, template.conversations) {
        (false, 0) => "none, and none needed: the data are plain text".to_owned(),
        (false, _) => "none".to_owned(),
        (true, 0) => "present, but not applied: the data are plain text".to_owned(),
        (true, _) if template.lost.conversations > 0 => {
            format!("leaves out turns of {} of {} pairs", template.lost.conversations, template.pairs)
        }
        (true, count) if count == template.pairs => "renders all pairs".to_owned(),
        (true, count) => format!("renders {count} of {} pairs", template.pairs),
    };
    page.labelled("template", INDENT, &used);
    if let Some(pairs) = &inspection.pairs {
        let scored: Vec<String> = pairs
            .ends
            .scored
            .iter()
            .map(|scored| {
                let share = percent(scored.sequences as f64 / pairs.ends.sequences.max(1) as f64);
                format!("{} ({share})", visible(&scored.text))
            })
            .collect();
        let more = match pairs.ends.scored_tokens - pairs.ends.scored.len() {
            0 => String::new(),
            more => format!(", and {more} others"),
        };
        page.labelled("scored at", INDENT, &format!("{}{more}", scored.join(", ")));
    }
}

fn examples(examples: &[Example], page: &mut Page) {
    if examples.is_empty() {
        return;
    }
    page.heading("examples");
    page.line(&legend(page.paint));
    for example in examples {
        let mut facts = vec![format!("prompt {} tokens", example.prompt.ids.len())];
        facts.push(format!("chosen {}", example.chosen.ids.len()));
        facts.push(format!("rejected {}", example.rejected.ids.len()));
        facts.extend(example.similarity.map(|s| format!("s {s:.2}")));
        facts.extend(example.bound.map(|bound| format!("Δ* {}", number(f64::from(bound)))));
        page.line("");
        page.labelled("", 0, &format!("{}: {}", example.origin, facts.join(", ")));
        for (label, colour, part) in [
            ("prompt", AnsiColor::Blue, &example.prompt),
            ("chosen", AnsiColor::Green, &example.chosen),
            ("rejected", AnsiColor::Red, &example.rejected),
        ] {
            shown(label, coloured(colour), part, page);
        }
    }
}

fn shown(label: &str, style: Style, part: &SequencePart, page: &mut Page) {
    const LABEL: usize = 9;
    let rendered = lines(&part.cells, page.width - LABEL - 2, page.paint);
    let label = page.paint.styled(&padded(label, LABEL), style);
    let bar = page.paint.styled("│", style);
    if rendered.is_empty() {
        page.line(&format!("{label}{bar} (empty)"));
    }
    for (at, line) in rendered.iter().enumerate() {
        let label = if at == 0 { label.clone() } else { " ".repeat(LABEL) };
        page.line(&format!("{label}{bar} {line}"));
    }
}

fn labels(inspection: &Inspection, pairs: &PairFacts, page: &mut Page) {
    page.heading("labels and repetition");
    let longer = match pairs.longer_preferred {
        None => "no pair's answers differ in length".to_owned(),
        Some(longer) => format!(
            "the longer answer is preferred in {:.1} % (95 % interval {:.1} to {:.1} %) of the {} pairs \
             whose answers differ in length",
            100.0 * longer.share.value,
            100.0 * longer.share.low(),
            100.0 * longer.share.high(),
            longer.pairs
        ),
    };
    page.labelled("length", INDENT, &longer);
    let repeats = &pairs.repeats;
    page.labelled(
        "repeated",
        INDENT,
        &format!(
            "{} distinct prompts in {} pairs; {} pairs appear twice, {} also with answers swapped",
            repeats.prompts, repeats.pairs, repeats.repeated.count, repeats.contradicted.count
        ),
    );
    if let Some(overlap) = &inspection.overlap {
        page.labelled(
            "held out",
            INDENT,
            &format!(
                "{} pairs; {} are also in the training data, {} have a prompt from it",
                overlap.pairs, overlap.same_pairs.count, overlap.same_prompts.count
            ),
        );
    }
}

fn findings(findings: &[Finding], page: &mut Page) {
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let counts: Vec<String> = [Severity::Error, Severity::Warning, Severity::Note]
        .into_iter()
        .filter(|severity| count(*severity) > 0)
        .map(|severity| {
            format!("{} {severity}{}", count(severity), if count(severity) == 1 { "" } else { "s" })
        })
        .collect();
    page.heading(&match counts.is_empty() {
        true => "findings: none".to_owned(),
        false => format!("findings: {}", counts.join(", ")),
    });
    for finding in findings {
        let colour = match finding.severity {
            Severity::Error => AnsiColor::Red,
            Severity::Warning => AnsiColor::Yellow,
            Severity::Note => AnsiColor::Blue,
        };
        let label = page.paint.styled(&padded(&finding.severity.to_string(), 9), coloured(colour).bold());
        let place = match (&finding.first, finding.count) {
            (Some(first), Some(1)) => format!(" ({first})"),
            (Some(first), _) => format!(" (first: {first})"),
            (None, _) => String::new(),
        };
        let found = format!("{}{place} [{}]", visible(&finding.found), finding.code);
        page.labelled(&label, 9, &found);
        page.labelled("", 9, &format!("→ {}", finding.advice));
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}
