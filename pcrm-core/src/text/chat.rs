//! Chat templates, rendered like transformers with jinja2.

mod bounds;
mod files;
mod generation;
mod lost;
mod operators;
mod parts;
mod percent;
mod shape;
mod tags;
mod training;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, ErrorKind, Value};

use self::bounds::TooMuch;
pub(super) use self::files::Chat;
use self::generation::{Tracker, Written, with_calls};
pub use self::lost::LostTurns;
use self::lost::Shapes;
use self::operators::with_bounds;
use self::percent::with_format_filter;
use self::tags::tags;
use super::{moment, python};
use crate::data::conversation::Message;
use crate::error::{Error, Result};
use crate::guard::guarded;

/// The maximum number of steps of a rendering. A long conversation takes a thousandth of them; a template that
/// never ends is stopped.
const STEPS: u64 = 50_000_000;

const NAME: &str = "chat_template";

/// The keys under which messages hold reasoning; a template may read any of them.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// A compiled chat template.
pub struct ChatTemplate {
    env: Environment<'static>,
    /// The template that marks the assistant's text: this one, or a known variant of it.
    marks: Marks,
    /// The turns that it leaves out, by the shape of the conversation.
    shapes: Shapes,
}

/// The source of the `{% generation %}` marks.
enum Marks {
    Own,
    Variant(&'static str),
    Missing,
}

/// A rendered conversation and the parts written by the assistant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarkedChat {
    /// The whole text.
    pub text: String,
    /// The ranges between `{% generation %}` and `{% endgeneration %}`, in characters of the text.
    pub spans: Vec<Range<usize>>,
}

/// The message passed to `raise_exception`.
#[derive(Debug)]
struct Raised(String);

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}

impl ChatTemplate {
    /// Compiles a template.
    ///
    /// # Errors
    /// Fails if the template has a syntax error (with its line), exceeds 1 MiB, or nests expressions too
    /// deep.
    pub fn new(source: &str) -> Result<Self> {
        shape::check_length(source).map_err(Error::Tokenizer)?;
        moment::compiled(source);
        let mut env = Environment::new();
        env.set_fuel(Some(STEPS));
        let syntax =
            SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(refused)?;
        env.set_syntax(syntax);
        env.set_auto_escape_callback(|_| AutoEscape::None);
        python::install(&mut env);
        let originals = env.clone();
        bounds::install(&mut env, originals);
        env.set_formatter(|out, state, value| {
            bounds::write(value)?;
            python::print(out, state, value)
        });
        env.add_function("raise_exception", |message: String| -> Result<Value, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, "raise_exception")
                .with_source(Raised(message)))
        });
        // jinja2 treats every line ending as a line feed.
        let lines = source.replace("\r\n", "\n").replace('\r', "\n");
        shape::check_depth(&lines, &tags(&lines)).map_err(Error::Tokenizer)?;
        let (lines, marked) = with_calls(&lines);
        let bounded = with_bounds(&with_format_filter(&lines));
        guarded(|| env.add_template_owned(NAME, bounded)).map_err(panicked)?.map_err(refused)?;
        let marks = match (marked, training::variant(source)) {
            (true, _) => Marks::Own,
            (false, Some(variant)) => Marks::Variant(variant),
            (false, None) => Marks::Missing,
        };
        Ok(Self { env, marks, shapes: Shapes::default() })
    }

    /// Returns a known variant of this template that marks the assistant's text, or `None` if this one has
    /// marks.
    ///
    /// # Errors
    /// Fails if the template has no marks and no variant is known.
    pub(super) fn marked_variant(&self) -> Result<Option<Self>> {
        match self.marks {
            Marks::Own => Ok(None),
            Marks::Variant(source) => Self::new(source).map(Some),
            Marks::Missing => Err(Error::Tokenizer(
                "the chat template does not mark the assistant's text, so the loss cannot be taken on the \
                 assistant's turns alone; put {% generation %} before and {% endgeneration %} after the text \
                 of an assistant's turn, its end-of-turn token included, or train on whole completions"
                    .to_owned(),
            )),
        }
    }

    /// Renders a conversation. `special` are the named special tokens that templates can print, such as
    /// `bos_token`.
    ///
    /// # Errors
    /// Fails if the template raises an exception or has an error that only appears during rendering.
    pub fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
        special: &[(String, String)],
    ) -> Result<String> {
        self.render_marked(messages, add_generation_prompt, special).map(|chat| chat.text)
    }

    /// Renders like [`ChatTemplate::render`] and returns the assistant's parts; without marks there are none.
    ///
    /// # Errors
    /// Fails in the same cases as [`ChatTemplate::render`].
    pub fn render_marked(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
        special: &[(String, String)],
    ) -> Result<MarkedChat> {
        let joined = self.with_joined_parts(messages, special);
        self.render_as_given(joined.as_deref().unwrap_or(messages), add_generation_prompt, special)
    }

    fn render_as_given(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
        special: &[(String, String)],
    ) -> Result<MarkedChat> {
        let turns: Vec<Value> = messages.iter().map(turn).collect();
        let mut context = vec![
            ("messages".to_owned(), Value::from(turns)),
            ("tools".to_owned(), Value::from(())),
            ("documents".to_owned(), Value::from(())),
            ("add_generation_prompt".to_owned(), Value::from(add_generation_prompt)),
        ];
        context.extend(special.iter().map(|(name, text)| (name.clone(), Value::from(text.as_str()))));
        let tracker = Arc::new(Tracker::default());
        context.extend(tracker.functions());
        bounds::begin();
        let template = self.env.get_template(NAME).map_err(refused)?;
        let mut written = Written { text: Vec::new(), tracker: &tracker };
        let context = Value::from_pairs(context);
        guarded(|| template.render_captured_to(context, &mut written).map(drop))
            .map_err(panicked)?
            .map_err(refused)?;
        let text = String::from_utf8(written.text)
            .map_err(|error| Error::Tokenizer(format!("the chat template writes no UTF-8: {error}")))?;
        let spans = tracker.in_characters(&text);
        Ok(MarkedChat { text, spans })
    }
}

impl fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChatTemplate").finish_non_exhaustive()
    }
}

/// Returns the error for a panic of the engine. Its arithmetic overflows on some templates, such as
/// `{{ [1, 2][:2:-1] }}`.
fn panicked(message: String) -> Error {
    Error::Tokenizer(format!("the chat template breaks the template engine: {message}"))
}

fn refused(error: minijinja::Error) -> Error {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(cause) = source {
        if let Some(Raised(message)) = cause.downcast_ref() {
            return Error::Tokenizer(format!(
                "the chat template refuses these messages: {}",
                in_short(message)
            ));
        }
        if let Some(much) = cause.downcast_ref::<TooMuch>() {
            return Error::Tokenizer(format!("the chat template {much}"));
        }
        source = cause.source();
    }
    if error.kind() == ErrorKind::OutOfFuel {
        return Error::Tokenizer(format!("the chat template does not end within {STEPS} steps"));
    }
    if error.kind() == ErrorKind::WriteFailure {
        return Error::Tokenizer(format!(
            "the chat template makes a text of more than {} MiB",
            bounds::LARGEST >> 20
        ));
    }
    Error::Tokenizer(format!("the chat template fails: {}", in_short(&error.to_string())))
}

/// Shortens a message of a template or a library that quotes its input.
fn in_short(message: &str) -> String {
    const LONGEST: usize = 1000;
    match message.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}..", &message[..end]),
        None => message.to_owned(),
    }
}

/// Returns a message as templates see it: without nulls, and with reasoning under all its names.
fn turn(message: &Message) -> Value {
    let mut fields = message.fields();
    fields.retain(|_, value| !value.is_null());
    if let Some(reasoning) = REASONING.iter().find_map(|key| fields.get(*key).cloned()) {
        fields.entry("thinking").or_insert_with(|| reasoning.clone());
        fields.insert(REASONING[0].to_owned(), reasoning);
    }
    to_template(&serde_json::Value::Object(fields))
}

fn to_template(value: &serde_json::Value) -> Value {
    match value {
        serde_json::Value::Null => Value::from(()),
        serde_json::Value::Bool(flag) => Value::from(*flag),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Value::from(number),
            (None, Some(number)) => Value::from(number),
            (None, None) => python::float(number.as_f64().unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(text) => Value::from(text.as_str()),
        serde_json::Value::Array(items) => Value::from(items.iter().map(to_template).collect::<Vec<_>>()),
        serde_json::Value::Object(fields) => {
            Value::from_pairs(fields.iter().map(|(key, value)| (key.clone(), to_template(value))))
        }
    }
}

#[cfg(test)]
mod tests;
