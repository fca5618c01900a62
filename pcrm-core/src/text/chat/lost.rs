//! Turns that a chat template leaves out, such as those of a role for which it has no branch.
//!
//! A conversation with other texts but the same roles shows it: every text is a mark that is looked for in the
//! rendered text. The result is kept for all conversations of that shape.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use serde_json::{Value, json};
use xxhash_rust::xxh3::Xxh3;

use super::ChatTemplate;
use crate::data::conversation::Message;

/// The maximum number of shapes that are kept. Data have few; a client of a server could send many.
const MOST_SHAPES: usize = 4096;

/// The maximum number of turns of a conversation whose mark is missing and that are examined further.
const TRIES: usize = 8;

/// The text in place of a mark that is missing.
const OTHER: &str = "another text";

/// The turns of a conversation whose text leaves no trace in the rendered text, as indices of messages. An
/// assistant's earlier turns do not count, because templates shorten them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LostTurns {
    /// The first of them that is not a system's.
    pub turn: Option<usize>,
    /// The first system turn among them.
    pub system: Option<usize>,
}

/// The lost turns of each shape, by its hash; `None` if the template refuses a bare conversation of the shape.
#[derive(Default)]
pub(super) struct Shapes(RwLock<HashMap<u128, Option<LostTurns>>>);

impl ChatTemplate {
    /// Returns the turns that leave no trace in the rendered text. A conversation that the template refuses
    /// has none.
    pub fn lost_turns(&self, messages: &[&Message], special: &[(String, String)]) -> LostTurns {
        let marked = |bare: bool| -> Vec<Message> {
            let turns = messages.iter().enumerate();
            turns.map(|(at, message)| with_text(message, &mark_of(at), bare)).collect()
        };
        let key = shape(messages);
        let known = self.shapes.0.read().unwrap_or_else(PoisonError::into_inner).get(&key).copied();
        let of_shape = known.unwrap_or_else(|| {
            let found = self.examined(&marked(true), special);
            let mut shapes = self.shapes.0.write().unwrap_or_else(PoisonError::into_inner);
            if shapes.len() < MOST_SHAPES {
                shapes.insert(key, found);
            }
            found
        });
        match of_shape {
            Some(lost) if lost.turn.is_none() => lost,
            // Keys such as tool_calls can decide what the template writes.
            _ => self.examined(&marked(false), special).unwrap_or_default(),
        }
    }

    /// Returns the lost turns of a conversation whose texts are marks; `None` if the template refuses it.
    fn examined(&self, turns: &[Message], special: &[(String, String)]) -> Option<LostTurns> {
        let open = turns.last().is_some_and(|turn| turn.role != "assistant");
        let render =
            |turns: &[Message]| self.render(turns, open, special).ok().map(|text| text.to_lowercase());
        let text = render(turns)?;
        let (mut lost, mut from, mut tries) = (LostTurns::default(), 0, TRIES);
        for (at, turn) in turns.iter().enumerate() {
            let first = if turn.role == "system" { &mut lost.system } else { &mut lost.turn };
            let is_earlier_answer = turn.role == "assistant" && at + 1 < turns.len();
            if first.is_some() || is_earlier_answer || is_blank(turn) {
                continue;
            }
            let mark = mark_of(at);
            if let Some(place) = text[from..].find(&mark) {
                from += place;
                continue;
            }
            if text.contains(&mark) {
                continue;
            }
            if tries == 0 {
                break;
            }
            tries -= 1;
            // The mark may only be changed; a lost text makes no difference at all.
            let mut others = turns.to_vec();
            others[at] = with_text(turn, OTHER, false);
            if render(&others).is_some_and(|other| other == text) {
                *first = Some(at);
            }
        }
        Some(lost)
    }
}

/// Returns the mark of a turn; none is a part of another.
fn mark_of(at: usize) -> String {
    format!("q{at}x1z")
}

fn is_blank(message: &Message) -> bool {
    message.content.trim().is_empty()
}

fn has_parts(message: &Message) -> bool {
    message.extra.get("content").is_some_and(Value::is_array)
}

/// Returns a message with this text in the form of its own, unless its own is blank; a bare one has no other keys.
fn with_text(message: &Message, text: &str, bare: bool) -> Message {
    let mut turn = if bare { Message::new(&message.role, "") } else { message.clone() };
    if is_blank(message) {
        return turn;
    }
    turn.content = text.to_owned();
    turn.extra.shift_remove("content");
    if has_parts(message) {
        turn.extra.insert("content".to_owned(), json!([{"type": "text", "text": text}]));
    }
    turn
}

/// Returns a hash of the roles and the forms of the texts.
fn shape(messages: &[&Message]) -> u128 {
    let mut hash = Xxh3::new();
    for message in messages {
        hash.update(&(message.role.len() as u64).to_le_bytes());
        hash.update(message.role.as_bytes());
        hash.update(&[u8::from(is_blank(message)), u8::from(has_parts(message))]);
    }
    hash.digest128()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHATML: &str = "<{{ m.role }}>{{ m.content }}";

    fn template(turn: &str) -> ChatTemplate {
        ChatTemplate::new(&format!("{{% for m in messages %}}{turn}{{% endfor %}}")).unwrap()
    }

    fn lost(template: &ChatTemplate, turns: &[(&str, &str)]) -> (Option<usize>, Option<usize>) {
        let turns: Vec<Message> = turns.iter().map(|(role, text)| Message::new(*role, *text)).collect();
        let lost = template.lost_turns(&turns.iter().collect::<Vec<_>>(), &[]);
        (lost.turn, lost.system)
    }

    /// Protects: a turn of a role without a branch is lost, whatever its place; system turns are told apart; blank
    /// turns and an assistant's earlier turns are not lost.
    #[test]
    fn turns_of_unknown_roles_are_lost() {
        let known =
            template("{% if m.role in ['user', 'assistant'] %}<{{ m.role }}>{{ m.content }}{% endif %}");
        for (turns, expected) in [
            (&[("user", "q"), ("assistant", "a")][..], (None, None)),
            (&[("human", "q"), ("assistant", "a")][..], (Some(0), None)),
            (&[("developer", "d"), ("user", "q"), ("assistant", "a")][..], (Some(0), None)),
            (&[("system", "s"), ("user", "q"), ("assistant", "a")][..], (None, Some(0))),
            (&[("user", "q"), ("system", "s"), ("human", "h")][..], (Some(2), Some(1))),
            (&[("user", "q"), ("gpt", "a")][..], (Some(1), None)),
            (&[("human", " "), ("user", "q"), ("tool", "t")][..], (Some(2), None)),
            (&[("human", "q")][..], (Some(0), None)),
        ] {
            assert_eq!(lost(&known, turns), expected, "{turns:?}");
            assert_eq!(lost(&known, turns), expected, "{turns:?}, again");
        }
        assert_eq!(lost(&template(CHATML), &[("human", "q"), ("system", "s"), ("gpt", "a")]), (None, None));
        let last = template("{% if loop.last or m.role != 'assistant' %}{{ m.content }}{% endif %}");
        let turns = [("user", "q"), ("assistant", "a"), ("user", "q"), ("assistant", "a")];
        assert_eq!(lost(&last, &turns), (None, None));
    }

    /// Protects: a text that the template changes is not lost, and neither is one that it refuses.
    #[test]
    fn changed_and_refused_texts_are_not_lost() {
        let turns = [("user", "q"), ("assistant", "a")];
        for written in
            ["{{ m.content | upper }}", "{{ m.content | trim | tojson }}", "{{ m.content | length }}"]
        {
            assert_eq!(lost(&template(written), &turns), (None, None), "{written}");
        }
        let refuses = template("{{ raise_exception('no') }}");
        assert_eq!(lost(&refuses, &turns), (None, None));
        let constant = ChatTemplate::new("[]").unwrap();
        assert_eq!(lost(&constant, &turns), (Some(0), None));
    }

    /// Protects: other keys of a message, and a content that is a list, decide whether its text is written.
    #[test]
    fn keys_and_lists_are_heeded() {
        let of = |message: Value| Message::from_value(&message).unwrap();
        let user = of(json!({"role": "user", "content": "q"}));
        let named = of(json!({"role": "tool", "content": "t", "name": "f"}));
        let bare = of(json!({"role": "tool", "content": "t"}));
        let tools = template("{% if m.role == 'user' or m.name is defined %}{{ m.content }}{% endif %}");
        assert_eq!(tools.lost_turns(&[&user, &named], &[]).turn, None);
        assert_eq!(tools.lost_turns(&[&user, &bare], &[]).turn, Some(1));
        let parts = of(json!({"role": "user", "content": [{"type": "text", "text": "q"}]}));
        let lists = template("{% for p in m.content %}[{{ p.text }}]{% endfor %}");
        assert_eq!(lists.lost_turns(&[&parts], &[]).turn, None);
    }

    /// Protects: the number of shapes that are kept has a limit, beyond which turns are still found.
    #[test]
    fn shapes_are_limited() {
        let user = template("{% if m.role == 'user' %}{{ m.content }}{% endif %}");
        for at in 0..MOST_SHAPES + 10 {
            let role = format!("r{at}");
            assert_eq!(lost(&user, &[("user", "q"), (role.as_str(), "t")]), (Some(1), None));
        }
        assert_eq!(user.shapes.0.read().unwrap().len(), MOST_SHAPES);
    }
}
