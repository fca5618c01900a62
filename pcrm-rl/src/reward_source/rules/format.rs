//! A reward for answers that put their parts into tags: `<think>..</think>`.

use serde::Deserialize;

use super::{Answer, Rule, plugin};

/// 1 for an answer that begins with the first tag's part, followed by the other tags' parts in order with
/// only white space between them, each tag opened once; else 0. With only the tag `think` this is TRL's
/// `think_format_reward`.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Format {
    /// Tags, in order.
    tags: Vec<String>,
    /// Allows text after the last part.
    rest: bool,
}

impl Default for Format {
    fn default() -> Self {
        Self { tags: vec!["think".to_owned()], rest: true }
    }
}

plugin!(
    Format,
    "1 for answers with their parts in `tags` ([\"think\"]), in order; `rest` allows text after them"
);

impl Rule for Format {
    const NAME: &'static str = "format";

    fn check(&mut self) -> Result<(), String> {
        let bad = |tag: &&String| tag.is_empty() || tag.contains(['<', '>', '/']);
        match self.tags.iter().find(bad) {
            Some(tag) => Err(format!("the tag {tag:?}; expected a name such as think")),
            None if self.tags.is_empty() => Err("no tags; expected at least one".to_owned()),
            None => Ok(()),
        }
    }

    fn reward(&self, answer: &Answer<'_>) -> Result<Option<f64>, String> {
        Ok(Some(f64::from(u8::from(self.fits(answer.completion())))))
    }
}

impl Format {
    fn fits(&self, text: &str) -> bool {
        let is_once = |mark: &str| text.matches(mark).count() == 1;
        let mut rest = text;
        for (at, tag) in self.tags.iter().enumerate() {
            let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
            let begin = if at == 0 { rest } else { rest.trim_start() };
            let part = begin.strip_prefix(open.as_str()).and_then(|part| part.split_once(close.as_str()));
            match part {
                Some((_, after)) if is_once(&open) => rest = after,
                _ => return false,
            }
        }
        self.rest || rest.trim().is_empty()
    }
}
