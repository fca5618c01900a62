//! Checks the chat template against the data: its use, and the tokens that it writes around answers.

use serde::Serialize;

use super::finding::{Finding, Severity, Tally, many, percent};
use super::lost::Lost;
use crate::data::answer_set::Preference;
use crate::data::conversation::{Content, Message};
use crate::text::Tokenizer;

/// The number of conversations whose prompt is rendered separately to see if answers follow the generation
/// prompt.
const EXAMINED: usize = 256;

/// The minimum share of plain pairs without a blank after the prompt for a warning.
const MANY_GLUED: f64 = 0.5;

/// The effect of a chat template on these data.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Template {
    /// True if the tokenizer has a template.
    pub present: bool,
    /// True if the template begins with the BOS.
    pub writes_bos: bool,
    /// True if the tokenizer begins every text with the BOS.
    pub tokenizer_adds_bos: bool,
    /// The number of pairs.
    pub pairs: usize,
    /// Pairs that are conversations.
    pub conversations: usize,
    /// Conversations with turns that the template leaves out.
    pub lost: Lost,
    /// Conversations whose last speaker is not the assistant.
    pub not_assistant: Tally,
    /// Conversations whose prompt was rendered with the generation prompt.
    pub examined: usize,
    /// Conversations whose answer does not follow the generation prompt.
    pub other_start: Tally,
    /// Plain pairs with a separate prompt and no blank between prompt and answer.
    pub glued: Tally,
    /// Plain pairs with a separate prompt.
    pub prompted: usize,
}

impl Template {
    /// Examines these pairs.
    pub fn of<'a>(rows: impl IntoIterator<Item = Preference<'a>>, tokenizer: &Tokenizer) -> Self {
        let mut template = Self {
            present: tokenizer.has_chat_template(),
            writes_bos: writes_bos(tokenizer),
            tokenizer_adds_bos: tokenizer.prepends_bos(),
            ..Self::default()
        };
        for row in rows {
            template.pairs += 1;
            match (row.prompt, row.chosen, row.rejected) {
                (_, Content::Messages(chosen), Content::Messages(rejected)) => {
                    template.conversation(row, [chosen, rejected], tokenizer);
                }
                (Some(Content::Text(prompt)), Content::Text(chosen), Content::Text(rejected)) => {
                    template.prompted += 1;
                    let parted = |answer: &str| {
                        prompt.ends_with(char::is_whitespace) || answer.starts_with(char::is_whitespace)
                    };
                    if !(prompt.is_empty() || parted(chosen) && parted(rejected)) {
                        template.glued.add(row.origin);
                    }
                }
                _ => {}
            }
        }
        template
    }

    fn conversation(
        &mut self,
        row: Preference<'_>,
        [chosen, rejected]: [&Vec<Message>; 2],
        tokenizer: &Tokenizer,
    ) {
        self.conversations += 1;
        self.lost.see(row.origin, row.prompt, [row.chosen, row.rejected], tokenizer);
        let speaks_last = |turns: &[Message]| turns.last().is_some_and(|turn| turn.role == "assistant");
        if !speaks_last(chosen) || !speaks_last(rejected) {
            self.not_assistant.add(row.origin);
            return;
        }
        let mut prompt = match row.prompt {
            Some(Content::Messages(turns)) => turns.clone(),
            _ => Vec::new(),
        };
        let mut whole = prompt.clone();
        prompt.extend_from_slice(&chosen[..chosen.len() - 1]);
        whole.extend_from_slice(chosen);
        if !self.present || self.examined == EXAMINED || prompt.is_empty() {
            return;
        }
        if let (Ok(asked), Ok(answered)) =
            (tokenizer.render_chat(&prompt, true), tokenizer.render_chat(&whole, false))
        {
            self.examined += 1;
            if !answered.starts_with(&asked) {
                self.other_start.add(row.origin);
            }
        }
    }

    /// Returns the findings.
    pub fn findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        if self.writes_bos && self.tokenizer_adds_bos {
            findings.push(Finding::new(
                "template_writes_bos",
                if self.conversations > 0 { Severity::Warning } else { Severity::Note },
                "the chat template writes the BOS and the tokenizer adds one",
                "pcrm tokenises the template's text unchanged, as apply_chat_template does, so there is one; \
                 rendering with tokenize=False and tokenising the text again gives two, and other scores",
            ));
        }
        if self.present && self.conversations == 0 && self.pairs > 0 {
            findings.push(Finding::new(
                "template_unused",
                Severity::Note,
                "the tokenizer has a chat template, but these data are plain text and it is not applied",
                "If the model was tuned on conversations, or will judge them, use messages (pcrm data \
                 convert)",
            ));
        }
        if self.conversations > 0 && self.conversations < self.pairs {
            let found = format!(
                "{} are conversations and {} plain text",
                many(self.conversations, "pair"),
                self.pairs - self.conversations
            );
            findings.push(Finding::new(
                "two_formats",
                Severity::Warning,
                found,
                "The model learns two formats; scores of one are not comparable with those of the other",
            ));
        }
        findings.extend(self.lost.findings());
        if !self.not_assistant.is_empty() {
            let found = format!(
                "{} in which the last turn is not the assistant's",
                many(self.not_assistant.count, "conversation")
            );
            let advice = "The score judges the last turn; check the roles";
            findings.push(
                Finding::new("not_assistant", Severity::Warning, found, advice).tallied(&self.not_assistant),
            );
        }
        if !self.other_start.is_empty() {
            let found = format!(
                "in {} of {} conversations examined the answer does not follow the template's generation \
                 prompt",
                self.other_start.count, self.examined
            );
            let advice = "A policy that generates after that prompt is judged on other tokens than it wrote";
            findings.push(
                Finding::new("generation_prompt", Severity::Note, found, advice).tallied(&self.other_start),
            );
        }
        if self.glued.share(self.prompted) >= MANY_GLUED {
            let found = format!(
                "in {} ({}) the answer follows its prompt without a blank between",
                many(self.glued.count, "pair"),
                percent(self.glued.share(self.prompted))
            );
            let advice = "Plain prompts and answers are joined unchanged, and nothing shows the model where \
                          the prompt ends. Use messages with a chat template, or a mark at the prompt's end";
            findings.push(Finding::new("glued", Severity::Warning, found, advice).tallied(&self.glued));
        }
        findings
    }
}

fn writes_bos(tokenizer: &Tokenizer) -> bool {
    let Some(bos) = tokenizer.bos() else { return false };
    let sample = [Message::new("user", "a"), Message::new("assistant", "b")];
    tokenizer.render_chat(&sample, false).is_ok_and(|text| text.starts_with(&bos.text))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{changed, find, read, tokenizer};
    use super::*;
    use crate::data::answer_set::pairs;

    fn surveyed(records: &[Value], tokenizer: &Tokenizer) -> Vec<Finding> {
        Template::of(pairs(&read(records).0), tokenizer).findings()
    }

    fn chat(role: &str) -> Value {
        json!({"chosen": [{"role": "user", "content": "q"}, {"role": role, "content": "a"}],
            "rejected": [{"role": "user", "content": "q"}, {"role": role, "content": "b"}]})
    }

    fn codes(findings: &[Finding]) -> Vec<&str> {
        findings.iter().map(|finding| finding.code).collect()
    }

    /// Protects: a template that fits its data raises no finding.
    #[test]
    fn a_template_that_fits_is_found_nothing_of() {
        assert_eq!(surveyed(&[chat("assistant")], &tokenizer("plain")), []);
    }

    /// Protects: a BOS from both the template and the tokenizer is found; it is severe if conversations are
    /// rendered.
    #[test]
    fn a_bos_from_two_hands_is_found() {
        let bos = tokenizer("bos");
        let severity = |record: Value| {
            let findings = surveyed(&[record], &bos);
            find(&findings, "template_writes_bos").map(|finding| finding.severity)
        };
        assert_eq!(severity(chat("assistant")), Some(Severity::Warning));
        let text = json!({"prompt": "q ", "chosen": "a", "rejected": "b"});
        assert_eq!(severity(text), Some(Severity::Note));
        let template = "{{ bos_token }}{% for m in messages %}{{ m['content'] }}{% endfor %}";
        let alone = changed("plain", &[], Some(template));
        assert!(find(&surveyed(&[chat("assistant")], &alone), "template_writes_bos").is_none());
    }

    /// Protects: plain text despite a template is a note, and prompts that touch their answers raise a warning.
    #[test]
    fn plain_text_is_looked_at() {
        let text = |prompt: &str| json!({"prompt": prompt, "chosen": "a", "rejected": "b"});
        let plain = tokenizer("plain");
        assert_eq!(codes(&surveyed(&[text("q ")], &plain)), ["template_unused"]);
        assert_eq!(codes(&surveyed(&[text("q")], &plain)), ["template_unused", "glued"]);
        assert_eq!(codes(&surveyed(&[text("q"), text("q "), text("q\n")], &plain)), ["template_unused"]);
    }

    /// Protects: conversations whose prompt vanishes are an error with their number, place and role.
    #[test]
    fn turns_that_vanish_are_found() {
        let two = "{% for m in messages %}{% if m.role in ['user', 'assistant'] %}{{ m.role }}: {{ m.content \
                   }}{% endif %}{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}";
        let turn = |role: &str, said: &str| json!({"role": role, "content": said});
        let of = |role: &str| {
            json!({"prompt": [turn(role, "q")], "chosen": [turn("assistant", "a")],
                "rejected": [turn("assistant", "b")]})
        };
        let findings = surveyed(&[of("user"), of("human"), of("human")], &changed("plain", &[], Some(two)));
        let found = find(&findings, "lost_turn").unwrap();
        assert_eq!((found.severity, found.count), (Severity::Error, Some(2)));
        assert_eq!(found.first.as_ref().map(|first| first.line), Some(2));
        assert!(found.found.contains("(role \"human\")"), "{found:?}");
    }

    /// Protects: the last speaker, both formats in one set, and answers that do not follow the generation
    /// prompt.
    #[test]
    fn conversations_are_looked_at() {
        let plain = tokenizer("plain");
        assert_eq!(codes(&surveyed(&[chat("user")], &plain)), ["not_assistant"]);
        let other = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}{% endfor %}\
                     {% if add_generation_prompt %}### {% endif %}";
        let findings = surveyed(&[chat("assistant")], &changed("plain", &[], Some(other)));
        assert_eq!(codes(&findings), ["generation_prompt"]);
        assert_eq!((findings[0].severity, findings[0].count), (Severity::Note, Some(1)));
        let (mut rows, _) = read(&[chat("assistant")]);
        rows.extend(read(&[json!({"prompt": "q ", "chosen": "a", "rejected": "b"})]).0);
        assert_eq!(codes(&Template::of(pairs(&rows), &plain).findings()), ["two_formats"]);
    }
}
