//! Contents that are lists of text parts: most templates print a content as it is, and would print the list.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::ChatTemplate;
use crate::data::conversation::Message;

/// The text between two joined parts, as in vLLM.
const BETWEEN: &str = "\n";

/// The text of a probe, and a piece of the list around it as Python prints it.
const PROBE: &str = "q7x1z";
const PRINTED: &str = "'type': 'text'";

impl ChatTemplate {
    /// Returns the messages with the parts joined to one text where the template does not read lists; `None` if
    /// all messages stay as they are.
    pub(super) fn with_joined_parts(
        &self,
        messages: &[Message],
        special: &[(String, String)],
    ) -> Option<Vec<Message>> {
        if !messages.iter().any(|message| parts(message).is_some()) {
            return None;
        }
        let mut reads: HashMap<&str, bool> = HashMap::new();
        let joined = |message: &Message, text: String| {
            let mut joined = Message { content: text, ..message.clone() };
            joined.extra.shift_remove("content");
            joined
        };
        let each = messages.iter().map(|message| match parts(message) {
            Some(parts)
                if !*reads
                    .entry(&message.role)
                    .or_insert_with(|| self.reads_parts(&message.role, special)) =>
            {
                joined(message, parts.join(BETWEEN))
            }
            _ => message.clone(),
        });
        Some(each.collect())
    }

    /// Returns whether the template prints the texts of a list in a message of this role, or does not print
    /// such messages at all.
    fn reads_parts(&self, role: &str, special: &[(String, String)]) -> bool {
        let printed = |content: Value| {
            let mut probe = Message::new(role, PROBE);
            probe.extra.insert("content".to_owned(), content);
            let user = Message::new("user", "x");
            let messages = match role {
                "user" => vec![probe],
                "system" | "developer" => vec![probe, user],
                _ => vec![user, probe],
            };
            self.render_as_given(&messages, false, special)
                .ok()
                .map(|chat| chat.text)
                .filter(|text| text.contains(PROBE))
        };
        match printed(json!([{"type": "text", "text": PROBE}])) {
            Some(text) if !text.contains(PRINTED) => true,
            _ => printed(json!(PROBE)).is_none(),
        }
    }
}

/// Returns the texts of a content that is a list of text parts.
fn parts(message: &Message) -> Option<Vec<&str>> {
    message.extra.get("content")?.as_array()?.iter().map(|part| part["text"].as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: the texts of a list reach the model, joined by a line break as in vLLM, if the template prints
    /// contents as they are, drops values that are not strings or fails on them; a template that reads lists
    /// gets the list.
    #[test]
    fn lists_of_parts_are_not_printed_as_lists() {
        let with =
            |content: &str| format!("{{% for m in messages %}}<{{{{ m.role }}}}>{content}{{% endfor %}}");
        let turn = |role: &str| {
            Message::from_value(&json!({"role": role, "content": [
                {"type": "text", "text": "a"}, {"type": "text", "text": "b"}
            ]}))
            .unwrap()
        };
        let each = "{% for p in m.content %}[{{ p.text }}]{% endfor %}";
        let when_string = "{% if m.content is string %}{{ m.content }}{% else %}";
        for (content, expected) in [
            ("{{ m.content }}".to_owned(), "a\nb"),
            ("{{ m['content'] | trim }}".to_owned(), "a\nb"),
            ("{{ m.content.strip() + '.' }}".to_owned(), "a\nb."),
            (format!("{when_string}{{% endif %}}"), "a\nb"),
            (format!("{when_string}{each}{{% endif %}}"), "[a][b]"),
        ] {
            let template = ChatTemplate::new(&with(&content)).unwrap();
            let said = template.render(&[turn("user"), turn("assistant")], false, &[]).unwrap();
            assert_eq!(said, format!("<user>{expected}<assistant>{expected}"), "{content}");
        }
        // Some templates read lists of one role only.
        let mixed = format!("{{% if m.role == 'user' %}}{each}{{% else %}}{{{{ m.content }}}}{{% endif %}}");
        let template = ChatTemplate::new(&with(&mixed)).unwrap();
        let said = template.render(&[turn("user"), turn("assistant")], false, &[]).unwrap();
        assert_eq!(said, "<user>[a][b]<assistant>a\nb");
    }
}
