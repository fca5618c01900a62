//! OpenAssistant messages: trees of replies, with the assistant's replies to a message ranked by people.
//!
//! The prompt of a set is the path from the tree's root. Deleted messages are not answers.

use std::collections::HashMap;

use serde_json::Value;

use super::several::{Sets, Standing};
use super::{AnswerSet, Content, Message, Origin};
use crate::data::load::{ReadRow, Record, Refusal};
use crate::data::report::ProblemKind;

/// The maximum depth of a tree; a longer path is a cycle.
const DEEPEST: usize = 1000;

fn malformed(message: impl Into<String>) -> Refusal {
    (ProblemKind::Malformed, message.into())
}

#[derive(Debug)]
struct Post {
    parent: Option<String>,
    message: Message,
    rank: Option<f64>,
    deleted: bool,
    origin: Origin,
}

fn post(fields: &Record, origin: &Origin) -> Result<Post, Refusal> {
    let text = |key: &str| fields.get(key).and_then(Value::as_str);
    let (Some(said), Some(role)) = (text("text"), text("role")) else {
        return Err(malformed("a message without \"text\" or \"role\"; expected both to be text"));
    };
    let role = match role {
        "prompter" => "user",
        other => other,
    };
    Ok(Post {
        parent: text("parent_id").filter(|id| !id.is_empty()).map(str::to_owned),
        message: Message::new(role, said),
        rank: fields.get("rank").and_then(Value::as_f64).filter(|rank| rank.is_finite()),
        deleted: fields.get("deleted").and_then(Value::as_bool).unwrap_or(false),
        origin: origin.clone(),
    })
}

fn is_ranked_answer(post: &Post) -> bool {
    post.message.role == "assistant" && !post.deleted && !post.message.content.trim().is_empty()
}

fn ranked<'a>(answers: impl Iterator<Item = &'a Post>) -> Vec<(Content, Standing)> {
    answers
        .filter(|post| is_ranked_answer(post))
        .filter_map(|post| Some((Content::Messages(vec![post.message.clone()]), Standing::Rank(post.rank?))))
        .collect()
}

/// Returns the ranked sets of one tree.
pub(super) fn read_tree(
    record: &Record,
    origin: &Origin,
    sets: &mut Sets,
) -> Result<Vec<AnswerSet>, Refusal> {
    let Some(Value::Object(root)) = record.get("prompt") else {
        return Err(malformed("no \"prompt\"; expected a message with its replies"));
    };
    let mut found = Vec::new();
    let mut open = vec![(root, Vec::new())];
    while let Some((fields, mut path)) = open.pop() {
        path.push(post(fields, origin)?.message);
        let mut replies = Vec::new();
        for reply in fields.get("replies").and_then(Value::as_array).into_iter().flatten() {
            let Value::Object(reply) = reply else {
                return Err(malformed("\"replies\" has an element that is not a message; expected objects"));
            };
            replies.push(post(reply, origin)?);
            open.push((reply, path.clone()));
        }
        let answers = ranked(replies.iter());
        if answers.len() > 1 {
            found.push(sets.ranked(Content::Messages(path), answers, origin));
        }
    }
    if found.is_empty() {
        return Err((ProblemKind::Unranked, "the tree has no two ranked answers to one message".to_owned()));
    }
    Ok(found)
}

/// The messages of a file, collected until all of them are known.
#[derive(Debug, Default)]
pub(super) struct Posts {
    order: Vec<String>,
    by_id: HashMap<String, Post>,
}

impl Posts {
    /// Adds a message.
    pub(super) fn add(&mut self, record: &Record, origin: &Origin) -> Result<(), Refusal> {
        let Some(id) = record.get("message_id").and_then(Value::as_str) else {
            return Err(malformed("no \"message_id\"; expected text"));
        };
        if let Some(known) = self.by_id.get(id) {
            return Err(malformed(format!("the message_id {id:?} is also on line {}", known.origin.line)));
        }
        self.by_id.insert(id.to_owned(), post(record, origin)?);
        self.order.push(id.to_owned());
        Ok(())
    }

    /// Adds the ranked sets of all messages, in the order of the messages they answer.
    pub(super) fn sets(&mut self, sets: &mut Sets, out: &mut Vec<ReadRow<AnswerSet>>) {
        let posts = std::mem::take(self);
        let mut replies: HashMap<&str, Vec<&Post>> = HashMap::new();
        for post in posts.order.iter().filter_map(|id| posts.by_id.get(id)) {
            if let Some(parent) = &post.parent {
                replies.entry(parent).or_default().push(post);
            }
        }
        let mut missing: Vec<(&Origin, &str)> = Vec::new();
        for (parent, answers) in &replies {
            if !posts.by_id.contains_key(*parent) {
                missing.extend(answers.iter().map(|answer| (&answer.origin, *parent)));
            }
        }
        missing.sort();
        for (origin, parent) in missing {
            let message = format!("the parent_id {parent:?} is not a message of the file");
            out.push((origin.clone(), Err(malformed(message))));
        }
        for id in &posts.order {
            let answers = ranked(replies.get(id.as_str()).into_iter().flatten().copied());
            if answers.len() < 2 {
                continue;
            }
            let Some(asked) = posts.by_id.get(id) else { continue };
            match path(id, &posts.by_id) {
                Ok(path) => {
                    let set = sets.ranked(Content::Messages(path), answers, &asked.origin);
                    out.push((asked.origin.clone(), Ok(set)));
                }
                Err(message) => out.push((asked.origin.clone(), Err(malformed(message)))),
            }
        }
    }
}

/// Returns the messages from the root to the given message.
fn path(id: &str, posts: &HashMap<String, Post>) -> Result<Vec<Message>, String> {
    let mut path = Vec::new();
    let mut at = Some(id);
    while let Some(id) = at {
        let Some(post) = posts.get(id) else {
            return Err(format!("the parent_id {id:?} is not a message of the file"));
        };
        path.push(post.message.clone());
        if path.len() > DEEPEST {
            return Err(format!(
                "no root above the message within {DEEPEST} parents; expected a tree without \
                                cycles"
            ));
        }
        at = post.parent.as_deref();
    }
    path.reverse();
    Ok(path)
}
