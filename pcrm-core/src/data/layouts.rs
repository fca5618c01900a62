//! Layouts of published data sets, mapped to columns that the schemas know.
//!
//! Each layout has names for its answers or labels that no option could map. A record in such a layout is
//! presented with the columns of a schema; its other columns stay unchanged.

use serde_json::{Map, Value, json};

use super::load::Record;

/// Columns of a preferred and a rejected answer.
const ANSWERS: [(&str, &str); 4] = [
    ("chosen_response", "rejected_response"),
    ("response_j", "response_k"),
    ("preferred_output", "non_preferred_output"),
    ("chosen_answer", "rejected_answer"),
];

/// A layout: maps a record to the columns of a schema, or returns `None` if the record has another layout.
type Layout = fn(&Record) -> Option<Result<Record, String>>;

const LAYOUTS: [Layout; 7] = [openai, swift, summaries, web_gpt, stanford, arena_55k, answers];

/// Maps the record to the columns of a schema; returns `None` if it has none of these layouts.
///
/// # Errors
/// Fails with a message if a record has one of the layouts but is malformed.
pub(super) fn view(record: &Record) -> Option<Result<Record, String>> {
    if record.contains_key("chosen") && record.contains_key("rejected") {
        return steps(record).map(Ok);
    }
    LAYOUTS.iter().find_map(|layout| layout(record))
}

/// Returns the record without the columns `gone` and with the new `columns`.
fn replaced(record: &Record, gone: &[&str], columns: Value) -> Record {
    let mut seen: Record = record.clone();
    gone.iter().for_each(|key| {
        seen.shift_remove(*key);
    });
    if let Value::Object(columns) = columns {
        seen.extend(columns);
    }
    seen
}

/// Step-DPO's pairs: both answers continue the same `initial_reason_steps`.
fn steps(record: &Record) -> Option<Record> {
    let text = |key: &str| record.get(key).and_then(Value::as_str);
    let (steps, chosen, rejected) = (text("initial_reason_steps")?, text("chosen")?, text("rejected")?);
    let columns = json!({"chosen": format!("{steps}{chosen}"), "rejected": format!("{steps}{rejected}")});
    Some(replaced(record, &["initial_reason_steps"], columns))
}

/// Answers under other names: argilla's, StackExchange's (`response_j` has more votes), OpenAI's.
fn answers(record: &Record) -> Option<Result<Record, String>> {
    let (chosen, rejected) = ANSWERS
        .into_iter()
        .find(|(chosen, rejected)| record.contains_key(*chosen) && record.contains_key(*rejected))?;
    let columns = json!({"chosen": record[chosen], "rejected": record[rejected]});
    Some(Ok(replaced(record, &[chosen, rejected], columns)))
}

/// OpenAI's preference format: `input` with `messages` and `tools`, `preferred_output`,
/// `non_preferred_output`.
fn openai(record: &Record) -> Option<Result<Record, String>> {
    let input = record.get("input")?.as_object()?;
    let (chosen, rejected) = (record.get("preferred_output")?, record.get("non_preferred_output")?);
    let mut columns = json!({"prompt": input.get("messages")?, "chosen": chosen, "rejected": rejected});
    if let Some(tools) = input.get("tools") {
        columns["tools"] = tools.clone();
    }
    Some(Ok(replaced(record, &["input", "preferred_output", "non_preferred_output"], columns)))
}

/// The ms-swift format: `messages` with the preferred answer as its last turn, and the rejected answer in
/// `rejected_response`, or as a whole conversation in `rejected_messages`.
fn swift(record: &Record) -> Option<Result<Record, String>> {
    let messages = record.get("messages")?.as_array()?;
    if let Some(rejected) = record.get("rejected_messages").filter(|value| value.is_array()) {
        let columns = json!({"chosen": messages, "rejected": rejected});
        return Some(Ok(replaced(record, &["messages", "rejected_messages"], columns)));
    }
    let rejected = record.get("rejected_response").filter(|value| value.is_string())?;
    if record.contains_key("chosen_response") {
        return None;
    }
    let (last, before) = messages.split_last()?;
    if last["role"] != "assistant" || before.is_empty() {
        return Some(Err(
            "\"rejected_response\" beside \"messages\" that do not end with an answer; expected the \
             assistant's last, as in ms-swift"
                .to_owned(),
        ));
    }
    let columns = json!({
        "prompt": before, "chosen": [last], "rejected": [{"role": "assistant", "content": rejected}],
    });
    Some(Ok(replaced(record, &["messages", "rejected_response"], columns)))
}

/// OpenAI's summaries: a post in `info`, two `summaries` and the `choice` between them. The prompt is the
/// paper's.
fn summaries(record: &Record) -> Option<Result<Record, String>> {
    let (info, texts) = (record.get("info")?.as_object()?, record.get("summaries")?.as_array()?);
    let choice = record.get("choice")?;
    let field = |name: &str| info.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let prompt = match (field("post"), field("article")) {
        (Some(post), _) => {
            let head = [("SUBREDDIT: r/", field("subreddit")), ("TITLE: ", field("title"))];
            let head = head.iter().filter_map(|(mark, text)| Some(format!("{mark}{}\n\n", (*text)?)));
            format!("{}POST: {post}\n\nTL;DR:", head.collect::<String>())
        }
        (None, Some(article)) => format!("Article: {article}\n\nTL;DR:"),
        (None, None) => {
            return Some(Err("\"info\" has neither a post nor an article; expected text".to_owned()));
        }
    };
    let [Some(first), Some(second)] = [0, 1].map(|at| texts.get(at)?.get("text")?.as_str()) else {
        return Some(Err("\"summaries\" has no two texts; expected two objects with \"text\"".to_owned()));
    };
    let answer = |text: &str| format!(" {}", text.trim_start());
    let (first, second) = (answer(first), answer(second));
    let columns = json!({"prompt": prompt, "response_0": first, "response_1": second, "preference": choice});
    Some(Ok(replaced(record, &["info", "summaries", "choice"], columns)))
}

/// WebGPT's comparisons: a `question` with its `full_text`, `answer_0` and `answer_1`, `score_0` and
/// `score_1`.
fn web_gpt(record: &Record) -> Option<Result<Record, String>> {
    let question = record.get("question")?;
    let text = question.get("full_text").unwrap_or(question);
    for key in ["answer_0", "answer_1"] {
        record.get(key)?;
    }
    let (first, second) = (record.get("score_0")?, record.get("score_1")?);
    let preference =
        match first.as_f64().zip(second.as_f64()).and_then(|(first, second)| first.partial_cmp(&second)) {
            Some(std::cmp::Ordering::Greater) => json!("answer_0"),
            Some(std::cmp::Ordering::Less) => json!("answer_1"),
            Some(std::cmp::Ordering::Equal) => json!("tie"),
            None => {
                return Some(Err(format!(
                    "\"score_0\" is {first} and \"score_1\" is {second}; expected two numbers"
                )));
            }
        };
    let columns = json!({"question": text, "preference": preference});
    Some(Ok(replaced(record, &["score_0", "score_1"], columns)))
}

/// The Stanford Human Preferences: a post in `history`, `human_ref_A`, `human_ref_B`, and `labels`, where 1
/// means A.
fn stanford(record: &Record) -> Option<Result<Record, String>> {
    let (first, second) = (record.get("human_ref_A")?, record.get("human_ref_B")?);
    let label = record.get("labels")?;
    let winner = match label.as_f64() {
        Some(1.0) => "A",
        Some(0.0) => "B",
        _ => {
            return Some(Err(format!(
                "\"labels\" is {label}; expected 1 for human_ref_A or 0 for human_ref_B"
            )));
        }
    };
    let columns = json!({"response_A": first, "response_B": second, "preference": winner});
    Some(Ok(replaced(record, &["human_ref_A", "human_ref_B", "labels"], columns)))
}

/// LMSYS's 55k comparisons: lists of turns as JSON in `prompt`, `response_a` and `response_b`, and the winner
/// in three columns.
fn arena_55k(record: &Record) -> Option<Result<Record, String>> {
    const WINNERS: [(&str, &str); 3] =
        [("winner_model_a", "model_a"), ("winner_model_b", "model_b"), ("winner_tie", "tie")];
    for (key, _) in WINNERS {
        record.get(key)?;
    }
    let (prompt, first, second) =
        (record.get("prompt")?, record.get("response_a")?, record.get("response_b")?);
    let won: Vec<&str> =
        WINNERS.iter().filter(|(key, _)| record[*key].as_f64() == Some(1.0)).map(|(_, name)| *name).collect();
    let [winner] = won[..] else {
        let message =
            "winner_model_a, winner_model_b and winner_tie; expected 1 in one of them and 0 in the others";
        return Some(Err(message.to_owned()));
    };
    let conversations = turns_of(prompt, first, "response_a")
        .and_then(|first| Ok([first, turns_of(prompt, second, "response_b")?]));
    let [first, second] = match conversations {
        Ok(conversations) => conversations,
        Err(message) => return Some(Err(message)),
    };
    let columns = json!({"conversation_a": first, "conversation_b": second, "winner": winner});
    let gone = ["prompt", "response_a", "response_b", "winner_model_a", "winner_model_b", "winner_tie"];
    Some(Ok(replaced(record, &gone, columns)))
}

/// Builds a conversation from questions and answers, each a list of texts, or such a list as JSON text.
fn turns_of(asked: &Value, answered: &Value, key: &str) -> Result<Vec<Value>, String> {
    let list = |value: &Value, key: &str| -> Result<Vec<String>, String> {
        let parsed = match value {
            Value::String(text) => match serde_json::from_str(text) {
                Ok(Value::Array(items)) => items,
                _ => vec![value.clone()],
            },
            Value::Array(items) => items.clone(),
            other => vec![other.clone()],
        };
        let text = |item: &Value| match item {
            Value::String(text) => Ok(text.clone()),
            other => Err(format!("{key:?} has {other}; expected texts, one for each turn")),
        };
        parsed.iter().map(text).collect()
    };
    let (asked, answered) = (list(asked, "prompt")?, list(answered, key)?);
    if asked.len() != answered.len() {
        return Err(format!(
            "\"prompt\" has {} turns and {key:?} has {}; expected equal numbers",
            asked.len(),
            answered.len()
        ));
    }
    let turn = |role: &str, text: &String| json!({"role": role, "content": text});
    let pairs = asked.iter().zip(&answered);
    Ok(pairs.flat_map(|(asked, answered)| [turn("user", asked), turn("assistant", answered)]).collect())
}

/// Columns that may hold turns as JSON text.
const PACKED: [&str; 14] = [
    "prompt",
    "chosen",
    "rejected",
    "messages",
    "conversations",
    "conversation",
    "trajectory",
    "context",
    "history",
    "input",
    "completion",
    "response",
    "conversation_a",
    "conversation_b",
];

/// Unpacks turns stored as JSON text, as in CSV files and databases; returns `None` if there are none.
///
/// # Errors
/// Fails with a message if the turns are in Python's print format.
pub(super) fn unpacked(record: &Record) -> Result<Option<Record>, String> {
    let mut unpacked: Option<Map<String, Value>> = None;
    for key in PACKED {
        let Some(Value::String(text)) = record.get(key) else { continue };
        let trimmed = text.trim();
        if !trimmed.starts_with(['[', '{']) {
            continue;
        }
        if let Some(turns) = turns(trimmed) {
            unpacked.get_or_insert_with(|| record.clone()).insert(key.to_owned(), turns);
            continue;
        }
        let turn = trimmed.trim_start_matches('[').trim_start().trim_start_matches('{').trim_start();
        let begins = |quote: char| {
            let key = turn.strip_prefix(quote);
            let key = key.and_then(|key| {
                ["role", "content", "from", "value"].iter().find_map(|k| key.strip_prefix(*k))
            });
            key.is_some_and(|rest| rest.starts_with(quote))
        };
        if begins('\'') {
            return Err(format!(
                "{key:?} is a list of messages as Python prints it, inside a text; expected a list or JSON \
                 (json.dumps)"
            ));
        }
        if trimmed.starts_with('[') && begins('"') && serde_json::from_str::<Value>(trimmed).is_err() {
            return Err(format!(
                "{key:?} is a list of messages as JSON inside a text, and broken; expected a list or valid \
                 JSON"
            ));
        }
    }
    Ok(unpacked)
}

/// Parses a list of turns, or one turn, from JSON text.
fn turns(text: &str) -> Option<Value> {
    let is_turn = |value: &Value| {
        (value["role"].is_string() && value.get("content").is_some())
            || (value["from"].is_string() && value["value"].is_string())
    };
    let value: Value = serde_json::from_str(text).ok()?;
    let whole = match &value {
        Value::Array(items) => !items.is_empty() && items.iter().all(is_turn),
        other => is_turn(other),
    };
    whole.then_some(value)
}
