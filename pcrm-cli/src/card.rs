//! The model card: `README.md` in a trained model's folder, as the Hugging Face Hub reads it.

mod form;
mod method;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Value, context};
use pcrm_core::model::weights;
use serde::Serialize;

use crate::report::Fact;
use pcrm_core::digest;

pub use form::DataForm;
pub use method::TrainingMethod;

const REWARD_MODEL: &str = include_str!("card.md");
const POLICY: &str = include_str!("card/policy.md");
const SCALED: &str = include_str!("card/scaled.md");
const MARK: &str = "<!-- pcrm model card ";

/// The kind of model that a card is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelKind {
    /// A reward model.
    #[default]
    RewardModel,
    /// A language model.
    Policy(TrainingMethod),
    /// A reward model whose head is divided by a temperature.
    Scaled,
}

/// The contents of a card.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Card {
    /// The kind of model.
    pub kind: ModelKind,
    /// The model's name.
    pub name: String,
    /// The Hub repository it was trained from; `None` for a local folder, whose name may belong to someone
    /// else there.
    pub base: Option<String>,
    /// The name of the base model; empty for random weights.
    pub begun_from: String,
    /// The licence lines of the base model, verbatim: `license: apache-2.0`.
    pub license: Vec<String>,
    /// The Hub repositories it was trained on.
    pub datasets: Vec<String>,
    /// The files it was trained on, with the number of rows kept.
    pub files: Vec<String>,
    /// The constraint's name.
    pub constraint: String,
    /// A one-line description of the constraint.
    pub constraint_about: String,
    /// The constraint with its settings, as JSON.
    pub settings: String,
    /// The requested constraint as JSON, if the run fitted the one it used.
    pub asked: Option<String>,
    /// True for an adapter without its base model.
    pub adapter: bool,
    /// Facts about the training.
    pub training: Vec<Fact>,
    /// Results of the evaluation.
    pub measures: Vec<Fact>,
    /// The kind of items that a language model was measured on: pairs, completions, answers or prompts.
    pub held_out: &'static str,
    /// The form of the texts.
    pub form: DataForm,
    /// True if `transformers` has a class for a reward model of this family.
    pub scored_by_transformers: bool,
    /// True if the folder has such a class itself, in `modeling_reward.py`.
    pub own_class: bool,
}

/// The outcome of writing a card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CardOutcome {
    /// The card was written.
    Yes,
    /// The folder has a README.md that a user wrote or changed; it was left alone.
    LeftAlone,
}

/// Writes a card into a model's folder, unless a user wrote or changed its README.md.
///
/// # Errors
/// Fails if the file cannot be written.
pub fn write(dir: &Path, card: &Card) -> Result<CardOutcome> {
    let path = dir.join("README.md");
    if path.exists() && !fs::read_to_string(&path).is_ok_and(|text| is_own(&text)) {
        return Ok(CardOutcome::LeftAlone);
    }
    weights::write(&path, render(card)?.as_bytes())?;
    Ok(CardOutcome::Yes)
}

/// Renders the card as Markdown. The last line holds a hash of the rest, which reveals later changes.
fn render(card: &Card) -> Result<String> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.add_filter("code", |text: String| code(&text));
    environment.add_filter("quoted", |text: String| quoted(&text));
    let template = match card.kind {
        ModelKind::RewardModel => REWARD_MODEL,
        ModelKind::Policy(_) => POLICY,
        ModelKind::Scaled => SCALED,
    };
    let method = match card.kind {
        ModelKind::Policy(method) => Some(method.about()),
        _ => None,
    };
    environment.add_template("card", template)?;
    let text = environment
        .get_template("card")?
        .render(context! {
            card => Value::from(Serde(card)),
            method => Value::from(Serde(&method)),
            version => env!("CARGO_PKG_VERSION"),
        })
        .context("the card's template")?;
    let text = format!("{}\n", text.trim_end());
    let hash = digest::text(&text);
    Ok(format!("{text}{MARK}{hash} -->\n"))
}

fn is_own(text: &str) -> bool {
    let Some((text, mark)) = text.rsplit_once(MARK) else { return false };
    mark.trim_end().strip_suffix(" -->").is_some_and(|hash| hash == digest::text(text))
}

/// Returns a card without the line that contains its hash.
pub fn without_mark(text: &str) -> &str {
    text.rsplit_once(MARK)
        .filter(|(_, mark)| mark.trim_end().ends_with(" -->"))
        .map_or(text, |(text, _)| text)
}

/// Formats text as inline Markdown code, on one line.
fn code(text: &str) -> String {
    let text = text.replace(['\n', '\r'], " ").replace('|', "¦");
    let longest = text.split(|letter| letter != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    let room = if longest > 0 { " " } else { "" };
    format!("{fence}{room}{text}{room}{fence}")
}

/// Quotes text as a YAML string, which may be written as JSON.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Returns the licence lines in the front matter of a model folder's README.md.
pub fn license(dir: &Path) -> Vec<String> {
    let text = fs::read_to_string(dir.join("README.md")).unwrap_or_default();
    let Some(rest) = text.strip_prefix("---\n") else { return Vec::new() };
    let Some((front, _)) = rest.split_once("\n---") else { return Vec::new() };
    let line = |line: &str| {
        let (name, value) = line.split_once(':')?;
        let value = value.trim().trim_matches(['"', '\'']);
        let known = ["license", "license_name", "license_link"].contains(&name);
        (known && !value.is_empty()).then(|| format!("{name}: {}", quoted(value)))
    };
    front.lines().filter_map(line).collect()
}

/// Returns the name of a Hub repository, `owner/name`, unless the path exists.
pub fn repository(path: &Path) -> Option<String> {
    let text = path.to_str()?;
    let (owner, name) = text.split_once('/')?;
    let plain = |part: &str| {
        let letter = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
        !part.is_empty() && part.chars().all(letter) && !part.starts_with('.')
    };
    (plain(owner) && plain(name) && !path.exists()).then(|| text.to_owned())
}
