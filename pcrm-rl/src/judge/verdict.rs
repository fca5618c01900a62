//! Verdicts on two answers, and how they are read from a judge's words.

use serde::Deserialize;

/// The probability, from 0 to 1, that the answer shown first is better; ½ is a tie.
pub type Preference = f64;

/// The answer shown first is better.
pub const FIRST: Preference = 1.0;
/// The answer shown second is better.
pub const SECOND: Preference = 0.0;
/// Neither answer is better.
pub const TIE: Preference = 0.5;

/// The form of a verdict in a reply.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum VerdictForm {
    /// The label alone: `A`.
    Choice,
    /// The label in double brackets anywhere: `[[A]]`.
    Brackets,
    /// A separate line that begins with these words and a colon: `Better: A`.
    Line(String),
}

/// The labels of the verdicts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels {
    /// Label of the answer shown first.
    pub first: String,
    /// Label of the answer shown second.
    pub second: String,
    /// Label of a tie; `None` if the judge must choose.
    pub tie: Option<String>,
}

impl VerdictForm {
    /// Reads the verdict from a reply. Reasoning up to `</think>` is ignored.
    ///
    /// # Errors
    /// Fails if the reply has no verdict in this form, or several different ones, or if its reasoning does not
    /// end.
    pub fn read(&self, labels: &Labels, reply: &str) -> Result<Preference, String> {
        let reply = reply.rsplit_once("</think>").map_or(reply, |(_, rest)| rest);
        if reply.contains("<think>") {
            return Err("no verdict; the reasoning does not end".to_owned());
        }
        let found: Vec<Preference> = match self {
            Self::Choice => labels.read(reply).into_iter().collect(),
            Self::Brackets => {
                let inner = reply.split("[[").skip(1).filter_map(|rest| rest.split_once("]]"));
                inner.filter_map(|(inner, _)| labels.read(inner)).collect()
            }
            Self::Line(words) => {
                let lines = reply.lines().filter_map(|line| after(line, words));
                lines.filter_map(|rest| labels.read(rest)).collect()
            }
        };
        match found.split_first() {
            None => Err(format!("no verdict; expected {}", self.expected(labels))),
            Some((first, others)) if others.iter().all(|other| other == first) => Ok(*first),
            Some(_) => Err(format!("several verdicts that differ; expected one, {}", self.expected(labels))),
        }
    }

    fn expected(&self, labels: &Labels) -> String {
        let label = labels.named();
        match self {
            Self::Choice => format!("{label} and nothing else"),
            Self::Brackets => format!("{label} in double brackets"),
            Self::Line(words) => format!("a line \"{words}: \" with {label}"),
        }
    }
}

impl Labels {
    /// Reads a label that is alone except for quotes, emphasis and a full stop.
    fn read(&self, text: &str) -> Option<Preference> {
        let text = text.trim_matches(|c: char| c.is_whitespace() || "\"'`*_.()[]:".contains(c));
        let is = |label: &str| text.eq_ignore_ascii_case(label);
        match text {
            _ if text == self.first => Some(FIRST),
            _ if text == self.second => Some(SECOND),
            _ if is(&self.first) && !is(&self.second) => Some(FIRST),
            _ if is(&self.second) && !is(&self.first) => Some(SECOND),
            _ if self.tie.as_deref().is_some_and(is) => Some(TIE),
            _ => None,
        }
    }

    fn named(&self) -> String {
        match &self.tie {
            Some(tie) => format!("{:?}, {:?} or {tie:?}", self.first, self.second),
            None => format!("{:?} or {:?}", self.first, self.second),
        }
    }
}

/// Returns the text after these words and a colon on a line, ignoring emphasis.
fn after<'a>(line: &'a str, words: &str) -> Option<&'a str> {
    let line = line.trim_start_matches(|c: char| c.is_whitespace() || "*_#->".contains(c));
    let begins = line.get(..words.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(words));
    let rest = line.get(words.len()..).filter(|_| begins)?;
    rest.trim_start_matches(['*', '_', ' ']).strip_prefix(':')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: verdicts are read only in the requested form.
    #[test]
    fn verdicts_are_read_strictly() {
        let labels =
            |tie: Option<&str>| Labels { first: "A".into(), second: "B".into(), tie: tie.map(str::to_owned) };
        let line = || VerdictForm::Line("Better".to_owned());
        for (form, tie, reply, verdict) in [
            (VerdictForm::Choice, None, "A", Some(FIRST)),
            (VerdictForm::Choice, None, " **b**.\n", Some(SECOND)),
            (VerdictForm::Choice, None, "\"A\"", Some(FIRST)),
            (VerdictForm::Choice, None, "<think>A or B? B.</think>\nA", Some(FIRST)),
            (VerdictForm::Choice, None, "<think>A", None),
            (VerdictForm::Brackets, None, "<think>Perhaps [[A]], but", None),
            (VerdictForm::Brackets, None, "<think>B?</think> <think>[[A]]", None),
            (line(), None, "<think>\nBetter: A\n", None),
            (VerdictForm::Choice, None, "A is better", None),
            (VerdictForm::Choice, None, "C", None),
            (VerdictForm::Choice, Some("C"), "C", Some(TIE)),
            (VerdictForm::Choice, None, "", None),
            (VerdictForm::Brackets, Some("C"), "Both are good. [[C]]", Some(TIE)),
            (VerdictForm::Brackets, Some("C"), "[[A]] because .. so [[A]]", Some(FIRST)),
            (VerdictForm::Brackets, Some("C"), "not [[A]] but [[B]]", None),
            (VerdictForm::Brackets, Some("C"), "The verdict is A", None),
            (VerdictForm::Brackets, Some("C"), "see [[1]]: [[B]]", Some(SECOND)),
            (line(), None, "Comparison: A is longer.\nBetter: B", Some(SECOND)),
            (line(), None, "**Better:** \"A\"", Some(FIRST)),
            (line(), None, "better: A", Some(FIRST)),
            (line(), None, "Better: A or B", None),
            (line(), None, "Better: A\nBetter: B", None),
            (line(), None, "I find B better: B", None),
        ] {
            let found = form.read(&labels(tie), reply);
            assert_eq!(found.clone().ok(), verdict, "{form:?} {reply:?}: {found:?}");
        }
        let said = VerdictForm::Brackets.read(&labels(Some("C")), "?").unwrap_err();
        assert_eq!(said, "no verdict; expected \"A\", \"B\" or \"C\" in double brackets");
        let own = Labels { first: "m".into(), second: "M".into(), tie: None };
        assert_eq!(
            (VerdictForm::Choice.read(&own, "m"), VerdictForm::Choice.read(&own, "M")),
            (Ok(FIRST), Ok(SECOND))
        );
    }
}
