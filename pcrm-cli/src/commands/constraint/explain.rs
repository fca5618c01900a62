//! `pcrm constraint explain`: explains one constraint.

use std::path::PathBuf;

use anstyle::AnsiColor;
use anyhow::{Context, Result};
use clap::{Args, ColorChoice};
use pcrm_core::constraint::Effect;
use pcrm_core::data::survey::bounds::{LOOSE, sureness};
use unicode_width::UnicodeWidthStr;

use super::explanation::{BoundForm, Explanation, Parameter};
use super::report::document;
use crate::page::{Page, coloured};
use crate::progress::say;
use crate::report::{self, number, percent};
use crate::usage::usage;
use crate::{chart, constraint, terminal};

/// Options of `pcrm constraint explain`.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct ExplainArgs {
    /// Kind (see `pcrm constraint list`), JSON such as '{"kind": "fixed", "bound": 3}', or a JSON file
    #[arg(value_name = "KIND|JSON|FILE")]
    constraint: String,
    /// Write a page with the plots to this folder (as report.html) or to this .html file
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Use colours; auto: on a terminal unless NO_COLOR is set
    #[arg(long, value_name = "WHEN", default_value_t = ColorChoice::Auto)]
    color: ColorChoice,
}

const EXAMPLES: &str = "\
Examples:
  pcrm constraint explain length_ratio
  pcrm constraint explain '{\"kind\": \"length_ratio\", \"beta1\": 10, \"beta3\": -5}' --report pages
  pcrm constraint explain bound.json --json | jq '.bounds[] | [.s, .bound]'";

/// The explanation of the probabilities in a table.
pub const LEAST: &str =
    "The loss of a pair is smallest at the margin Δ*/2, where the confidence in the label is P = σ(Δ*/2).";

/// Explains a constraint.
///
/// # Errors
/// Fails if the text names no constraint or standard output cannot be written.
pub fn run(args: &ExplainArgs) -> Result<()> {
    let constraint = usage(constraint::meant(&args.constraint))?;
    let explanation = Explanation::of(constraint.as_ref())?;
    if let Some(place) = &args.report {
        let path = match place.extension().is_some_and(|ending| ending == "html") {
            true => place.clone(),
            false => place.join(report::FILE),
        };
        let page = report::render(&document(&explanation))?;
        pcrm_core::model::weights::write(&path, page.as_bytes()).context("--report")?;
        say(&format!("report: {}", path.display()));
    }
    match args.json {
        true => terminal::result(&(serde_json::to_string_pretty(&explanation)? + "\n")),
        false => {
            let mut page = Page::on(&terminal::output(), args.color);
            show(&explanation, explanation.kind(), &mut page);
            terminal::page(&page)
        }
    }
}

fn show(explanation: &Explanation, title: &str, page: &mut Page) {
    page.heading(title);
    page.labelled("", 0, explanation.about);
    if let Some(formula) = explanation.formula {
        page.line("");
        page.labelled("", 0, formula);
    }
    parameters(explanation, page);
    if explanation.unfitted {
        page.line("");
        page.labelled("", 0, "Its numbers must be fitted to data first; until then it gives no bounds.");
    }
    if let Some(evidence) = &explanation.evidence {
        page.line("");
        page.labelled("", 0, &format!("Fitted to {evidence}."));
    }
    bounds(explanation, page);
    factors(explanation, page);
    for effect in &explanation.effects {
        feature(effect, page);
    }
    for (at, part) in explanation.parts.iter().enumerate() {
        show(part, &format!("{title}: part {at}, {}", part.kind()), page);
    }
}

fn parameters(explanation: &Explanation, page: &mut Page) {
    const WIDEST: usize = 30;
    let label = |parameter: &Parameter| match parameter.shown() {
        Some(value) => format!("{} {value}", parameter.name),
        None => parameter.name.clone(),
    };
    let labels: Vec<String> = explanation.parameters.iter().map(label).collect();
    if labels.is_empty() {
        return;
    }
    let short = |label: &&String| label.width() <= WIDEST;
    let indent = labels.iter().filter(short).map(|label| label.width() + 3).max().unwrap_or(4);
    page.line("");
    for (parameter, label) in explanation.parameters.iter().zip(&labels) {
        match short(&label) {
            true if parameter.meaning.is_empty() => page.line(label),
            true => page.labelled(label, indent, parameter.meaning),
            false => {
                page.labelled("", 0, label);
                page.labelled("", indent, parameter.meaning);
            }
        }
    }
}

fn bounds(explanation: &Explanation, page: &mut Page) {
    page.line("");
    match explanation.form() {
        BoundForm::Curve if explanation.parts.iter().any(|part| part.curve == explanation.curve) => {
            page.labelled("", 0, "Δ* over s is shown with its part below.");
        }
        BoundForm::Other if explanation.parts.is_empty() && explanation.effects.is_empty() => {
            page.labelled(
                "",
                0,
                "Δ* does not depend on a similarity of the answers alone; run `pcrm constraint bounds` to \
                 see it on data.",
            );
        }
        BoundForm::Other => page.labelled("", 0, "To see Δ* on data, run `pcrm constraint bounds`."),
        BoundForm::None => page.labelled("", 0, "No margin is bounded: Bradley-Terry."),
        BoundForm::Constant(bound) => {
            let sure = sure(sureness(bound));
            page.labelled(
                "",
                0,
                &format!("Δ* = {} for every pair, P = σ(Δ*/2) = {sure}. {LEAST}", number(bound)),
            );
        }
        BoundForm::Curve => {
            page.columns(&table(explanation));
            page.line("");
            let (curve, beyond) = explanation.visible_curve();
            plot("Δ* over s", &curve, page);
            if let Some(most) = beyond {
                page.labelled("", 0, &format!("(The plot leaves out Δ* above {}.)", number(most)));
            }
            // Built-in constraints check their parameters and never get here; a plugin's may.
            if let Some((s, bound)) =
                explanation.curve.iter().find(|(_, bound)| bound.is_nan() || *bound <= 0.0)
            {
                let refused = format!(
                    "Δ* is {} at s = {s:.2}: pairs with such a bound are refused, since bounds must be \
                     positive.",
                    number(*bound)
                );
                page.labelled("", 0, &refused);
            }
            let acts = explanation.curve.iter().find(|(_, bound)| sureness(*bound) <= LOOSE).map(|(s, _)| *s);
            let acts = match acts {
                Some(s) if s > 0.0 => format!(
                    " Below s = {s:.2} the bound rarely acts: it allows a confidence above {}.",
                    percent(LOOSE)
                ),
                Some(_) => String::new(),
                None => {
                    format!(" It rarely acts: at any s it allows a confidence above {}.", percent(LOOSE))
                }
            };
            page.labelled("", 0, &format!("{LEAST}{acts}"));
        }
    }
}

/// Returns the rows of the table over s, starting with the heading.
pub fn table(explanation: &Explanation) -> Vec<Vec<String>> {
    let mut rows = vec![["s", "Δ*", "P = σ(Δ*/2)"].map(str::to_owned).to_vec()];
    rows.extend(explanation.bounds.iter().map(|at| {
        let bound = at.bound.map_or("∞".to_owned(), |bound| number(bound.into()));
        vec![format!("{:.1}", at.s), bound, sure(at.probability)]
    }));
    rows
}

fn factors(explanation: &Explanation, page: &mut Page) {
    if explanation.factors.is_empty() {
        return;
    }
    page.line("");
    page.labelled("", 0, "Over training, bounds are multiplied by a factor that ends at 1:");
    page.line("");
    let shares = explanation.factors.iter().step_by(2);
    let mut rows = vec![vec!["steps done".to_owned()], vec!["factor".to_owned()]];
    for at in shares {
        rows[0].push(format!("{:.0} %", 100.0 * at.share));
        rows[1].push(number(at.factor));
    }
    page.columns(&rows);
    page.line("");
    plot("factor over the share of completed steps", &explanation.course, page);
}

fn feature(effect: &Effect, page: &mut Page) {
    page.line("");
    let direction = serde_json::to_value(effect.direction).unwrap_or_default();
    let weight = effect.weight.map_or(String::new(), |weight| {
        format!(
            "; weight {} (range over the folds: {} to {})",
            number(weight.mean),
            number(weight.low),
            number(weight.high)
        )
    });
    page.labelled(
        "",
        0,
        &format!(
            "{}: {}{weight}; mean {}, standard deviation {}",
            effect.feature,
            direction.as_str().unwrap_or_default(),
            number(effect.mean),
            number(effect.std)
        ),
    );
    plot(&format!("Δ* over {}, the others at their means", effect.feature), &effect.points, page);
}

fn plot(title: &str, points: &[(f64, f64)], page: &mut Page) {
    let lines = chart::curve(points, page.width.min(80));
    if lines.is_empty() {
        return;
    }
    page.line(title);
    for line in lines {
        let line = page.paint.styled(&line, coloured(AnsiColor::Cyan));
        page.line(&line);
    }
}

/// Formats a probability, with "≈1" for values close to 1.
pub fn sure(probability: f64) -> String {
    match probability {
        all if all > 0.9995 => "≈1".to_owned(),
        part => format!("{part:.3}"),
    }
}
