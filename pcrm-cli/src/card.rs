//! The model card: `README.md` in a trained model's folder, as the Hugging Face Hub reads it.

mod form;
mod method;

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

pub use form::Form;
pub use method::Method;

const REWARD_MODEL: &str = include_str!("card.md");
const POLICY: &str = include_str!("card/policy.md");
const SCALED: &str = include_str!("card/scaled.md");
const MARK: &str = "<!-- pcrm model card ";

/// The kind of model that a card is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A reward model.
    #[default]
    RewardModel,
    /// A language model.
    Policy(Method),
    /// A reward model whose head is divided by a temperature.
    Scaled,
}

/// The contents of a card.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Card {
    /// The kind of model.
    pub kind: Kind,
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
    pub form: Form,
    /// True if `transformers` has a class for a reward model of this family.
    pub scored_by_transformers: bool,
}

/// The outcome of writing a card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// The card was written.
    Yes,
    /// The folder has a README.md that a user wrote or changed; it was left alone.
    LeftAlone,
}

/// Writes a card into a model's folder, unless a user wrote or changed its README.md.
///
/// # Errors
/// Fails if the file cannot be written.
pub fn write(dir: &Path, card: &Card) -> Result<Written> {
    let path = dir.join("README.md");
    if path.exists() && !fs::read_to_string(&path).is_ok_and(|text| is_own(&text)) {
        return Ok(Written::LeftAlone);
    }
    weights::write(&path, render(card)?.as_bytes())?;
    Ok(Written::Yes)
}

/// Renders the card as Markdown. The last line holds a hash of the rest, which reveals later changes.
fn render(card: &Card) -> Result<String> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.add_filter("code", |text: String| code(&text));
    environment.add_filter("quoted", |text: String| quoted(&text));
    let template = match card.kind {
        Kind::RewardModel => REWARD_MODEL,
        Kind::Policy(_) => POLICY,
        Kind::Scaled => SCALED,
    };
    let method = match card.kind {
        Kind::Policy(method) => Some(method.about()),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn card() -> Card {
        Card {
            name: "rm".into(),
            base: Some("acme/qwen2".into()),
            begun_from: "acme/qwen2".into(),
            constraint: "fixed".into(),
            scored_by_transformers: true,
            ..Card::default()
        }
    }

    /// Protects: the card of a family for which transformers has no class of reward models promises none: it
    /// scores with pcrm.
    #[test]
    fn the_example_loads_only_where_a_class_exists() {
        for kind in [Kind::RewardModel, Kind::Scaled] {
            let with = render(&Card { kind, ..card() }).unwrap();
            assert!(with.starts_with("---\nlibrary_name: transformers\npipeline_tag"), "{with}");
            let without = render(&Card { kind, scored_by_transformers: false, ..card() }).unwrap();
            assert!(without.starts_with("---\npipeline_tag: text-classification\n"), "{without}");
            assert!(!without.contains("AutoModel") && !without.contains("```python"), "{without}");
            let shown = without.contains("pcrm score --model .");
            assert_eq!(shown, kind == Kind::RewardModel, "{without}");
        }
    }

    /// Protects: a README that a user wrote or changed is not overwritten; an unchanged card is replaced by a
    /// newer one.
    #[test]
    fn readmes_of_users_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("README.md");
        assert_eq!(write(dir.path(), &card()).unwrap(), Written::Yes);
        let longer = Card { name: "rm after more steps".into(), ..card() };
        assert_eq!(write(dir.path(), &longer).unwrap(), Written::Yes);
        let ours = fs::read_to_string(&path).unwrap();
        assert!(ours.contains("rm after more steps"), "{ours}");
        for theirs in
            ["# mine\n".to_owned(), ours.replace("rm after", "my model after"), format!("{ours}\nmore")]
        {
            fs::write(&path, &theirs).unwrap();
            assert_eq!(write(dir.path(), &card()).unwrap(), Written::LeftAlone);
            assert_eq!(fs::read_to_string(&path).unwrap(), theirs);
        }
    }

    /// Protects: names cannot break out of front matter, tables and code.
    #[test]
    fn hostile_names_stay_names() {
        let bad = "x\n---\nlicense: mit\n`<script>` | y\"";
        let hostile =
            Card { base: Some(bad.into()), files: vec![bad.into()], datasets: vec![bad.into()], ..card() };
        let text = render(&hostile).unwrap();
        assert_eq!(text.lines().filter(|line| *line == "---").count(), 2, "{text}");
        assert!(!text.lines().any(|line| line.starts_with("license:")), "{text}");
        assert!(!text.contains("\n`<script>") && text.contains("base_model: \"x\\n---"), "{text}");
        assert_eq!(code("a`b``c"), "``` a`b``c ```");
    }

    /// Protects: the example has the form of the data (a text frame, roles, or the prompt alone); a local
    /// base model is not linked to the Hub.
    #[test]
    fn the_example_has_the_form_of_the_data() {
        let of = |form: Form| render(&Card { form, ..card() }).unwrap();
        let text = |before: &str, after: &str, gap: &str, prompts: bool| {
            let [before, after, gap] = [before, after, gap].map(str::to_owned);
            of(Form::Text { before, after, gap, prompts })
        };
        let dialogue = text("\n\nHuman: ", "\n\nAssistant:", " ", true);
        let line = r#"prompt = "\n\nHuman: What is the capital of France?\n\nAssistant:""#;
        assert!(dialogue.contains(line) && dialogue.contains("answer = \" Paris.\""), "{dialogue}");
        let plain = text("", "", "", true);
        assert!(
            plain.contains("prompt = \"What is the capital of France?\"") && !plain.contains("Human"),
            "{plain}"
        );
        assert!(plain.contains("tokenizer.eos_token") && plain.contains("pipeline"), "{plain}");
        let alone = text("", "", "", false);
        assert!(
            alone.contains("text = \"The capital of France is Paris.\"") && !alone.contains("prompt ="),
            "{alone}"
        );
        let turns = of(Form::Conversation { system: false });
        assert!(turns.contains("apply_chat_template") && !turns.contains("\"system\""), "{turns}");
        assert!(of(Form::Conversation { system: true }).contains("{\"role\": \"system\""));
        let local = Card { base: None, begun_from: "gpt2".into(), ..card() };
        let local = render(&local).unwrap();
        assert!(!local.contains("base_model") && local.contains("a local checkpoint"), "{local}");
    }

    #[test]
    fn licences_come_from_the_base_model_alone() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(license(dir.path()), [""; 0]);
        fs::write(dir.path().join("README.md"), "---\nlicense: apache-2.0\ntags:\n- x\n---\nlicense: no\n")
            .unwrap();
        assert_eq!(license(dir.path()), ["license: \"apache-2.0\""]);
        fs::write(dir.path().join("README.md"), "license: mit\n").unwrap();
        assert_eq!(license(dir.path()), [""; 0]);
    }

    #[test]
    fn repositories_are_distinguished_from_paths() {
        assert_eq!(repository(Path::new("Anthropic/hh-rlhf")).as_deref(), Some("Anthropic/hh-rlhf"));
        for path in ["data.jsonl", "a/b/c", "/data/x", "../x", "src/main.rs"] {
            assert_eq!(repository(Path::new(path)), None, "{path}");
        }
    }
}
