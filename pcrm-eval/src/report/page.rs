//! Renders documents as HTML pages: one file, no scripts, no external resources.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Value, context};
use serde::Serialize;

use super::document::{Block, Document, Fold, Token, Tokens};
use super::draw;
use super::number::number;
use super::plot::{Layer, Mark, Plot};
use crate::error::{Error, Result};

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");

/// A block as the template takes it: its kind and its content.
#[derive(Serialize)]
struct Shown {
    kind: &'static str,
    content: Value,
}

#[derive(Serialize)]
struct ShownPlot<'a> {
    plot: &'a Plot,
    legend: Vec<Key<'a>>,
    svg: Value,
}

/// An entry of a legend.
#[derive(Serialize)]
struct Key<'a> {
    name: &'a str,
    colour: String,
    mark: &'static str,
}

#[derive(Serialize)]
struct ShownSection<'a> {
    title: &'a str,
    closed: bool,
    blocks: Vec<Shown>,
}

/// Renders a document as an HTML page. Fails if a plot cannot be drawn.
pub fn render(document: &Document) -> Result<String> {
    let mut environment = Environment::new();
    // Escape everything: text from data and options may look like HTML.
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment
        .set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(template)?);
    environment.add_template("page", PAGE).map_err(template)?;
    let sections = document.sections.iter().map(|section| {
        Ok(ShownSection {
            title: &section.title,
            closed: section.fold == Fold::Closed,
            blocks: section.blocks.iter().map(shown).collect::<Result<_>>()?,
        })
    });
    let sections = sections.collect::<Result<Vec<_>>>()?;
    let page = environment.get_template("page").map_err(template)?.render(context! {
        document => from_serde(document),
        sections => from_serde(&sections),
        style => Value::from_safe_string(STYLE.to_owned()),
        version => env!("CARGO_PKG_VERSION"),
    });
    // Keep a number and its % on one line.
    Ok(page.map_err(template)?.replace(" %", "\u{a0}%"))
}

fn template(error: minijinja::Error) -> Error {
    Error::Page { part: "the page's template".to_owned(), message: error.to_string() }
}

fn from_serde(value: impl Serialize) -> Value {
    Value::from(Serde(value))
}

fn shown(block: &Block) -> Result<Shown> {
    let (kind, content) = match block {
        Block::Text(text) => ("text", from_serde(text)),
        Block::Note(severity, text) => ("note", context! { severity => from_serde(severity), text }),
        Block::Figures(facts) => ("figures", from_serde(facts)),
        Block::Facts(facts) => ("facts", from_serde(facts)),
        Block::Table(table) => ("table", from_serde(table)),
        Block::Tokens(tokens) => ("tokens", shaded(tokens)),
        Block::Plots(plots) => {
            let plots = plots.iter().map(shown_plot).collect::<Result<Vec<_>>>()?;
            ("plots", from_serde(&plots))
        }
    };
    Ok(Shown { kind, content })
}

/// Returns tokens with their shade, from 0 (probability 0.9 or more) to 4 (below 0.01).
fn shaded(tokens: &Tokens) -> Value {
    let token = |token: &Token| {
        let probability = token.log_prob.exp();
        let shade = [0.9, 0.5, 0.1, 0.01].iter().filter(|least| probability < **least).count();
        let note = format!("ln p = {}, p = {}", number(token.log_prob), number(probability));
        context! { text => &token.text, shade, note }
    };
    let shown: Vec<Value> = tokens.tokens.iter().map(token).collect();
    context! { caption => &tokens.caption, before => &tokens.before, tokens => shown }
}

fn shown_plot(plot: &Plot) -> Result<ShownPlot<'_>> {
    let named = plot.layers.iter().filter(|layer| !layer.name.is_empty() && !layer.is_empty());
    Ok(ShownPlot { plot, legend: named.map(key).collect(), svg: Value::from_safe_string(draw::svg(plot)?) })
}

fn key(layer: &Layer) -> Key<'_> {
    let colour = layer.ink.key();
    let mark = match layer.mark {
        Mark::Line(_) => "line",
        Mark::Faint(_) => "faint",
        Mark::Dashes(_) | Mark::Across(_) | Mark::Upright(_) => "dashes",
        Mark::Band(_) => "band",
        Mark::Dots(_) | Mark::Crowd(_) => "dot",
        Mark::Intervals(_) => "interval",
        Mark::Lying(_) => "lying",
        Mark::Bars(_) | Mark::Cells(_) => "bar",
    };
    Key { name: &layer.name, colour: format!("#{:02X}{:02X}{:02X}", colour.0, colour.1, colour.2), mark }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::document::{Fact, Section, Severity, Table};
    use crate::report::plot::{Axis, Ink};

    /// Protects: data, names and paths are escaped in every field that takes text.
    #[test]
    fn hostile_text_stays_text() {
        let bad = || "</style><script>alert(1)</script>\"'&<img src=x onerror=y>".to_owned();
        let mut table = Table::of_text(bad(), &[&bad()]);
        table.rows.push(vec![bad()]);
        let plot = Plot {
            title: bad(),
            about: bad(),
            x: Axis::new(bad()),
            y: Axis { label: bad(), ..Axis::of_names(vec![bad(), bad()]) },
            layers: vec![Layer::new(bad(), Ink::Blue, Mark::Line(vec![(0.0, 0.0), (1.0, 1.0)]))],
        };
        let facts = || vec![Fact::new(bad(), bad()).with_note(bad())];
        let blocks = vec![
            Block::Text(bad()),
            Block::Note(Severity::Warning, bad()),
            Block::Figures(facts()),
            Block::Facts(facts()),
            Block::Table(table),
            Block::Plots(vec![plot]),
            Block::Tokens(Tokens {
                caption: bad(),
                before: bad(),
                tokens: vec![Token { text: bad(), log_prob: f64::NEG_INFINITY }],
            }),
        ];
        let document = Document {
            title: bad(),
            about: bad(),
            sections: vec![Section::open(bad(), blocks.clone()), Section::closed(bad(), blocks)],
        };
        let page = render(&document).unwrap();
        assert!(page.matches("&lt;script&gt;alert(1)").count() > 30, "{page}");
        for part in ["<script", "<img", "onerror=y>", "alert(1)</script>"] {
            assert!(!page.contains(part), "{part} in {page}");
        }
        assert_eq!(page.matches("</style>").count(), 1);
    }

    /// Protects: a page needs no other file.
    #[test]
    fn nothing_is_fetched() {
        let plot =
            Plot { layers: vec![Layer::new("a", Ink::Red, Mark::Dots(vec![(1.0, 2.0)]))], ..Plot::default() };
        let blocks = vec![Block::Plots(vec![plot])];
        let document = Document { sections: vec![Section::open("", blocks)], ..Document::default() };
        let page = render(&document).unwrap();
        for part in ["<script", "<link", "src=", "url(", "@import", "href="] {
            assert!(!page.contains(part), "{part}");
        }
        assert_eq!(
            page.matches("http").count(),
            page.matches("xmlns=\"http").count() + page.matches("http-equiv").count()
        );
        assert!(page.contains("prefers-color-scheme: dark"));
    }
}
