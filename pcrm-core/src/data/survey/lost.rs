//! Conversations with turns that the chat template leaves out, as it does for a role without a branch.
//!
//! Without the turn of the user, conversations with different prompts have the same tokens and the same score.

use std::slice;

use rayon::prelude::*;
use serde::Serialize;

use super::finding::{Finding, Severity, Tally, many};
use crate::data::answer_set::AnswerSet;
use crate::data::completions::Completion;
use crate::data::conversation::Content;
use crate::data::prompts::Prompt;
use crate::data::render::all_turns;
use crate::data::report::Origin;
use crate::error::{Error, Result, in_short};
use crate::text::Tokenizer;
use crate::text::tokenizer::lost_turn;

/// The code of the finding about turns that are not a system's; such conversations are not encoded.
pub const LOST_TURN: &str = "lost_turn";

/// The code of the finding about system turns.
pub const LOST_SYSTEM: &str = "lost_system";

/// Counts of conversations with a turn that leaves no trace in the chat template's text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Lost {
    /// The conversations with any such turn.
    pub conversations: usize,
    /// The conversations with such a turn that is not a system's.
    pub turns: Tally,
    /// The role of that turn in the first of them.
    pub role: Option<String>,
    /// The conversations with such a system turn.
    pub systems: Tally,
}

/// A record as this module sees it: its place, its prompt, and the answers to it.
type View<'a> = (&'a Origin, Option<&'a Content>, &'a [Content]);

/// The lost turns of one record.
#[derive(Default)]
struct Seen {
    role: Option<String>,
    system: bool,
}

impl Lost {
    /// Examines these sets of answers.
    pub fn of_sets(sets: &[AnswerSet], tokenizer: &Tokenizer) -> Self {
        Self::of(sets, |set| (&set.origin, set.prompt.as_ref(), set.answers.as_slice()), tokenizer)
    }

    /// Examines these completions.
    pub fn of_completions<R: AsRef<Completion> + Sync>(rows: &[R], tokenizer: &Tokenizer) -> Self {
        Self::of(
            rows,
            |row| {
                let Completion { origin, prompt, completion } = row.as_ref();
                (origin, prompt.as_ref(), slice::from_ref(completion))
            },
            tokenizer,
        )
    }

    /// Examines these prompts.
    pub fn of_prompts(rows: &[Prompt], tokenizer: &Tokenizer) -> Self {
        Self::of(rows, |row| (&row.origin, None, slice::from_ref(&row.prompt)), tokenizer)
    }

    fn of<T: Sync>(rows: &[T], view: impl Fn(&T) -> View<'_> + Sync, tokenizer: &Tokenizer) -> Self {
        let seen = |row: &T| {
            let (_, prompt, answers) = view(row);
            Seen::of(prompt, answers, tokenizer)
        };
        let all: Vec<Seen> = rows.par_iter().map(seen).collect();
        let mut lost = Self::default();
        for (row, seen) in rows.iter().zip(all) {
            lost.count(view(row).0, seen);
        }
        lost
    }

    /// Examines the answers of one record.
    pub(super) fn see<'a>(
        &mut self,
        origin: &Origin,
        prompt: Option<&'a Content>,
        answers: impl IntoIterator<Item = &'a Content>,
        tokenizer: &Tokenizer,
    ) {
        self.count(origin, Seen::of(prompt, answers, tokenizer));
    }

    fn count(&mut self, origin: &Origin, seen: Seen) {
        self.conversations += usize::from(seen.role.is_some() || seen.system);
        if let Some(role) = seen.role {
            self.turns.add(origin);
            self.role.get_or_insert_with(|| in_short(role));
        }
        if seen.system {
            self.systems.add(origin);
        }
    }

    /// Refuses the conversations with a lost turn that is not a system's.
    ///
    /// # Errors
    /// Fails with their number, and with the file, the line and the role of the first.
    pub fn refuse(&self) -> Result<()> {
        let (Some(first), Some(role)) = (&self.turns.first, &self.role) else { return Ok(()) };
        let place = match self.turns.count {
            1 => String::new(),
            count => format!(" (the first of {count} such conversations)"),
        };
        Err(Error::Line {
            path: first.file.to_path_buf(),
            line: first.line,
            message: lost_turn(role, &place),
        })
    }

    /// Returns the findings.
    pub fn findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        if let Some(role) = &self.role {
            let found = format!(
                "{} with a turn that leaves no trace in the chat template's text (role {role:?})",
                many(self.turns.count, "conversation")
            );
            let advice = "Conversations that differ in this turn have the same tokens; training refuses them. \
                          Use roles that the template renders, such as user and assistant";
            findings.push(Finding::new(LOST_TURN, Severity::Error, found, advice).tallied(&self.turns));
        }
        if !self.systems.is_empty() {
            let found = format!(
                "{} whose system turn leaves no trace in the chat template's text",
                many(self.systems.count, "conversation")
            );
            let advice = "The model does not see it. Put its text into the user's turn, or use a template that \
                          renders the role system";
            findings.push(Finding::new(LOST_SYSTEM, Severity::Warning, found, advice).tallied(&self.systems));
        }
        findings
    }
}

impl Seen {
    fn of<'a>(
        prompt: Option<&'a Content>,
        answers: impl IntoIterator<Item = &'a Content>,
        tokenizer: &Tokenizer,
    ) -> Self {
        let mut seen = Self::default();
        for answer in answers {
            let turns = all_turns(prompt, answer);
            let lost = tokenizer.lost_turns(&turns);
            seen.system |= lost.system.is_some();
            if seen.role.is_none() {
                seen.role = lost.turn.and_then(|at| turns.get(at)).map(|turn| turn.role.clone());
            }
        }
        seen
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{changed, read, tokenizer};
    use super::*;
    use crate::data::conversation::Message;
    use crate::data::encode::{
        CompletionOptions, EncodeOptions, encode_completions, encode_prompts, encode_sets, encode_text,
    };

    fn chat(role: &str, prompt: &str) -> Value {
        json!({"prompt": [{"role": role, "content": prompt}],
            "chosen": [{"role": "assistant", "content": "a"}],
            "rejected": [{"role": "assistant", "content": "b"}]})
    }

    /// A tokenizer whose template renders the roles user and assistant alone.
    fn two_roles() -> Tokenizer {
        let template = "{% for m in messages %}{% if m.role in ['user', 'assistant'] %}<{{ m.role }}>{{ m.content \
                        }}{% endif %}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";
        changed("plain", &[], Some(template))
    }

    /// Protects: sets with a turn that vanishes are refused with their number, place and role, and system turns
    /// are counted and kept; a template that renders every role gives no finding.
    #[test]
    fn sets_with_lost_turns_are_refused() {
        let (sets, _) = read(&[chat("user", "p"), chat("human", "q"), chat("developer", "r")]);
        let lost = Lost::of_sets(&sets, &two_roles());
        assert_eq!((lost.conversations, lost.turns.count, lost.role.as_deref()), (2, 2, Some("human")));
        let said = encode_sets(&sets, &two_roles(), &EncodeOptions::new(None)).unwrap_err().to_string();
        assert!(
            said.contains(".jsonl:2: the role \"human\" (the first of 2 such conversations) leaves no trace"),
            "{said}"
        );
        let findings = lost.findings();
        assert_eq!((findings[0].code, findings[0].severity), (LOST_TURN, Severity::Error));
        assert_eq!(findings[0].first.as_ref().map(|first| first.line), Some(2));
        assert_eq!(Lost::of_sets(&sets, &tokenizer("plain")), Lost::default());

        let system = json!({"role": "system", "content": "s"});
        let mut record = chat("user", "q");
        record["prompt"].as_array_mut().unwrap().insert(0, system);
        let (sets, _) = read(&[record]);
        assert!(encode_sets(&sets, &two_roles(), &EncodeOptions::new(None)).is_ok());
        let findings = Lost::of_sets(&sets, &two_roles()).findings();
        assert_eq!((findings.len(), findings[0].code, findings[0].count), (1, LOST_SYSTEM, Some(1)));
    }

    /// Protects: completions, prompts and single texts with a turn that vanishes are refused too, with the place
    /// of the turn where there is one conversation.
    #[test]
    fn other_rows_with_lost_turns_are_refused() {
        let (sets, _) = read(&[chat("human", "q")]);
        let (origin, prompt, answer) =
            (&sets[0].origin, sets[0].prompt.clone().unwrap(), &sets[0].answers[0]);
        let refusal = "the role \"human\" leaves no trace in the chat template's text";
        let row =
            Completion { origin: origin.clone(), prompt: Some(prompt.clone()), completion: answer.clone() };
        let said = encode_completions(&[row], &two_roles(), &CompletionOptions::default()).unwrap_err();
        assert!(said.to_string().contains(refusal), "{said}");
        let row =
            Prompt { origin: origin.clone(), prompt: prompt.clone(), columns: serde_json::Map::default() };
        let said = encode_prompts(&[row], &two_roles(), None).unwrap_err();
        assert!(said.to_string().contains(refusal), "{said}");
        let said = encode_text(Some(&prompt), answer, &two_roles(), None).unwrap_err().to_string();
        assert!(said.contains("the role \"human\" (turn 1 of 2) leaves no trace"), "{said}");
        assert!(said.ends_with("expected roles that the chat template renders, such as user and assistant"));
    }

    /// Protects: a role that every template should know is not called unknown, and without a template nothing is
    /// lost.
    #[test]
    fn a_template_without_assistants_is_refused() {
        let turns = [Message::new("user", "q"), Message::new("assistant", "a")];
        let turns: Vec<&Message> = turns.iter().collect();
        let template =
            "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}";
        let said = changed("plain", &[], Some(template)).refuse_lost_turns(&turns).unwrap_err().to_string();
        assert!(said.ends_with("expected a chat template that renders this role"), "{said}");
        assert!(changed("plain", &[], Some("{% if %}")).refuse_lost_turns(&turns).is_ok());
        assert!(two_roles().refuse_lost_turns(&[]).is_ok());
    }
}
