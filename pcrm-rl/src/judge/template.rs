//! Templates of the prompts that ask a language model for a verdict.
//!
//! A template is TOML: `user`, and optionally `system`, are minijinja templates with the variables `question`
//! (the last user turn, or the whole of a text prompt), `history` (the turns before, with `role` and
//! `content`), `first`, `second` (the answers in the order shown) and `columns` (the other columns of the
//! prompt's record). `verdict` is the form of the reply: `"choice"`, `"brackets"` or `{ line = "Better" }`;
//! `first_label` (A), `second_label` (B) and `tie` (none) are its labels.

use std::path::Path;

use minijinja::{AutoEscape, Environment, UndefinedBehavior, context};
use pcrm_core::data::conversation::{Content, Message};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Question;
use super::verdict::{Labels, Preference, VerdictForm};

/// The built-in templates.
const BUILT_IN: [(&str, &str); 4] = [
    ("alpaca_eval", include_str!("templates/alpaca_eval.toml")),
    ("dialogue", include_str!("templates/dialogue.toml")),
    ("mt_bench", include_str!("templates/mt_bench.toml")),
    ("summary", include_str!("templates/summary.toml")),
];
/// The maximum number of steps for rendering a template.
const STEPS: u64 = 10_000_000;

/// A prompt template with the form of the verdict.
#[derive(Debug)]
pub struct Template {
    name: String,
    env: Environment<'static>,
    has_system: bool,
    form: VerdictForm,
    labels: Labels,
}

/// A template file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    about: String,
    #[serde(default)]
    system: Option<String>,
    user: String,
    verdict: VerdictForm,
    #[serde(default = "first_label")]
    first_label: String,
    #[serde(default = "second_label")]
    second_label: String,
    #[serde(default)]
    tie: Option<String>,
}

fn first_label() -> String {
    "A".to_owned()
}

fn second_label() -> String {
    "B".to_owned()
}

/// Returns the built-in templates: names and one-line descriptions.
pub fn built_in() -> Vec<(&'static str, String)> {
    let about = |text: &str| toml::from_str::<File>(text).map(|file| file.about).unwrap_or_default();
    BUILT_IN.iter().map(|(name, text)| (*name, about(text))).collect()
}

impl Template {
    /// Opens the built-in template with this name, or the template file at this path.
    ///
    /// # Errors
    /// Fails if the file cannot be read or is not a template, or if the template omits the question or an
    /// answer.
    pub fn open(name: &str) -> Result<Self, String> {
        if let Some((name, text)) = BUILT_IN.iter().find(|(known, _)| *known == name) {
            return Self::new(name, text);
        }
        let path = Path::new(name);
        if !path.exists() {
            let known: Vec<&str> = BUILT_IN.iter().map(|(name, _)| *name).collect();
            return Err(format!(
                "unknown template {name:?}; expected a built-in one ({}) or a file",
                known.join(", ")
            ));
        }
        let text = std::fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
        let short =
            path.file_stem().map_or_else(|| name.to_owned(), |stem| stem.to_string_lossy().into_owned());
        Self::new(&short, &text).map_err(|message| format!("{name}: {message}"))
    }

    fn new(name: &str, text: &str) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
        let labels = Labels { first: file.first_label, second: file.second_label, tie: file.tie };
        let all = [Some(&labels.first), Some(&labels.second), labels.tie.as_ref()];
        let all: Vec<&str> = all.into_iter().flatten().map(String::as_str).collect();
        if let Some(at) =
            (0..all.len()).find(|at| all[*at].trim().is_empty() || all[..*at].contains(&all[*at]))
        {
            return Err(format!("the label {:?} is empty or used for two verdicts", all[at]));
        }
        let mut env = Environment::new();
        env.set_auto_escape_callback(|_| AutoEscape::None);
        env.set_undefined_behavior(UndefinedBehavior::Strict);
        env.set_fuel(Some(STEPS));
        let has_system = file.system.is_some();
        for (part, text) in [("system", file.system), ("user", Some(file.user))] {
            if let Some(text) = text {
                env.add_template_owned(part, text).map_err(|error| format!("{part}: {error:#}"))?;
            }
        }
        let template = Self { name: name.to_owned(), env, has_system, form: file.verdict, labels };
        template.check()?;
        Ok(template)
    }

    /// Returns the name of a built-in template, or the file's name without its extension.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the messages that ask a question.
    ///
    /// # Errors
    /// Fails if the template cannot render the question or an answer.
    pub fn messages(&self, question: &Question<'_>) -> Result<Value, String> {
        self.rendered(&question.prompt.prompt, &question.prompt.columns, question.first, question.second)
    }

    /// Reads the verdict from a reply.
    ///
    /// # Errors
    /// Fails if the reply has no verdict in the form of the template, or several different ones.
    pub fn read(&self, reply: &str) -> Result<Preference, String> {
        self.form.read(&self.labels, reply)
    }

    fn rendered(
        &self,
        prompt: &Content,
        columns: &Map<String, Value>,
        first: &str,
        second: &str,
    ) -> Result<Value, String> {
        let (history, question) = match prompt {
            Content::Text(text) => (&[][..], text.as_str()),
            Content::Messages(turns) => match turns.split_last() {
                Some((last, before)) => (before, last.content.as_str()),
                None => (&[][..], ""),
            },
        };
        let turn = |turn: &Message| context! { role => turn.role.as_str(), content => turn.content.as_str() };
        let history: Vec<minijinja::Value> = history.iter().map(turn).collect();
        let columns = minijinja::Value::from(minijinja::value::Serde(columns));
        let values = context! { history, question, first, second, columns };
        let render = |part: &str| {
            let template = self.env.get_template(part).map_err(|error| format!("{error:#}"))?;
            let text = template.render(&values).map_err(|error| format!("{part}: {error:#}"))?;
            Ok::<_, String>(text.trim().to_owned())
        };
        let mut messages = Vec::new();
        if self.has_system {
            messages.push(json!({"role": "system", "content": render("system")?}));
        }
        messages.push(json!({"role": "user", "content": render("user")?}));
        Ok(Value::Array(messages))
    }

    /// Refuses a template that does not show the question and both answers: its verdicts would be
    /// meaningless.
    fn check(&self) -> Result<(), String> {
        let marks = ["\u{1}question\u{1}", "\u{1}first\u{1}", "\u{1}second\u{1}"];
        let shown = self.rendered(&Content::Text(marks[0].to_owned()), &Map::new(), marks[1], marks[2]);
        // A template that uses columns cannot be checked: there is no example record.
        let Ok(shown) = shown else { return Ok(()) };
        let texts: String =
            shown.as_array().into_iter().flatten().filter_map(|m| m["content"].as_str()).collect();
        match marks.iter().find(|mark| !texts.contains(**mark)) {
            Some(mark) => {
                let name = mark.trim_matches('\u{1}');
                Err(format!("the template never shows {{{{ {name} }}}}"))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: every built-in template shows the question, its history and both answers, in order, and
    /// parses the verdict that it asks for.
    #[test]
    fn built_in_templates_show_everything() {
        let turns = [("user", "Hello there"), ("assistant", "Yes?"), ("user", "What is <b>5 & 6</b>?")];
        let prompt = Content::Messages(turns.iter().map(|(role, text)| Message::new(*role, *text)).collect());
        for (name, about) in built_in() {
            assert!(about.len() > 20, "{name}");
            let template = Template::open(name).unwrap();
            let messages = template.rendered(&prompt, &Map::new(), "ELEVEN", "TWELVE").unwrap();
            let text = messages.as_array().unwrap().last().unwrap()["content"].as_str().unwrap().to_owned();
            let at = |part: &str| text.find(part).unwrap_or_else(|| panic!("{name} lacks {part}: {text}"));
            assert!(at("What is <b>5 & 6</b>?") < at("ELEVEN") && at("ELEVEN") < at("TWELVE"), "{text}");
            if name != "summary" {
                assert!(at("Hello there") < at("What is"), "{text}");
            }
            let reply = match &template.form {
                VerdictForm::Choice => "B".to_owned(),
                VerdictForm::Brackets => "[[B]]".to_owned(),
                VerdictForm::Line(words) => format!("Comparison: x.\n{words}: B"),
            };
            assert_eq!(template.read(&reply), Ok(0.0), "{name}");
        }
    }

    /// Protects: custom templates are read from files, and invalid ones are refused with a reason.
    #[test]
    fn templates_come_from_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mine.toml");
        let open = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Template::open(path.to_str().unwrap())
        };
        let own = open(
            "verdict = \"choice\"\nfirst_label = \"left\"\nsecond_label = \"right\"\ntie = \"same\"\n\
             user = \"{{ question }} ({{ columns.gold }}): {{ first }} | {{ second }}\"",
        )
        .unwrap();
        let columns = Map::from_iter([("gold".to_owned(), json!(4))]);
        let messages = own.rendered(&Content::Text("2+2".into()), &columns, "x", "y").unwrap();
        assert_eq!(messages, json!([{"role": "user", "content": "2+2 (4): x | y"}]));
        assert_eq!((own.name(), own.read("same"), own.read("A").is_err()), ("mine", Ok(0.5), true));
        for (text, message) in [
            ("verdict = \"choice\"\nuser = \"{{ question }} {{ first }}\"", "never shows {{ second }}"),
            ("verdict = \"guess\"\nuser = \"\"", "unknown variant `guess`"),
            ("verdict = \"choice\"", "missing field `user`"),
            ("verdict = \"choice\"\nuser = \"{% if %}\"", "user: "),
            (
                "verdict = \"choice\"\ntie = \"A\"\nuser = \"{{ question }}{{ first }}{{ second }}\"",
                "used for two",
            ),
        ] {
            let said = open(text).unwrap_err();
            assert!(said.contains(message) && said.contains("mine.toml"), "{said}");
        }
        assert!(Template::open("nowhere").unwrap_err().contains("alpaca_eval, dialogue, mt_bench, summary"));
    }
}
