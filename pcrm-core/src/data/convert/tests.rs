//! Round trips, and the losses reported where nothing can be restored.

use std::io::Write;

use super::*;
use crate::data::load::ReadOptions;
use crate::data::preference::{Ties, load_sources};

fn sources(text: &str, columns: &Columns) -> Vec<SourceSet> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let options = ReadOptions { columns: columns.clone(), ties: Ties::Keep, ..ReadOptions::default() };
    load_sources(&[file.path().to_path_buf()], options).unwrap().0
}

fn first(source: &SourceSet) -> Preference<'_> {
    source.set.pairs().next().unwrap()
}

fn converted(text: &str, to: Schema) -> Result<(Value, Vec<String>), String> {
    let columns = Columns::default();
    let source = &sources(text, &columns)[0];
    let (record, losses) = convert(source, first(source), to, &columns)?;
    Ok((Value::Object(record), losses.iter().map(Loss::to_string).collect()))
}

/// Round trip: schemas of turns keep the same conversations, and other columns are kept.
#[test]
fn conversations_come_back() {
    let turn = |role: &str, said: &str| json!({"role": role, "content": said});
    let record = json!({
        "prompt": [turn("user", "q"), turn("assistant", "r"), turn("user", "s")],
        "chosen": [turn("assistant", "a")], "rejected": [turn("assistant", "b")],
        "margin": 0.5, "score_chosen": 2, "score_rejected": 1.5, "source": {"id": 7},
    });
    for via in [Schema::ConversationalImplicit, Schema::Alpaca, Schema::ShareGpt, Schema::HhDialogues] {
        let (between, losses) = converted(&record.to_string(), via).unwrap();
        assert_eq!(losses, [""; 0], "{between}");
        let (back, losses) = converted(&between.to_string(), Schema::ConversationalExplicit).unwrap();
        assert_eq!(back, record, "by {}", via.name());
        let expected: &[&str] = match via {
            Schema::HhDialogues => &["texts became turns of user and assistant"],
            _ => &[],
        };
        assert_eq!(losses, expected);
    }
}

/// Every schema that can be written is detected again when read.
#[test]
fn targets_are_read_as_themselves() {
    let text = r#"{"prompt": "q", "chosen": "a", "rejected": "b", "id": 1}"#;
    for to in TARGETS {
        let (record, _) = converted(text, to).unwrap();
        let Value::Object(record) = record else { panic!("no object") };
        assert_eq!(Schema::of_pair(&record).map(Schema::name), Ok(to.name()));
        assert_eq!(record["id"], 1);
    }
}

/// Losses are reported: prompt marks, message keys, columns that would be misread, sets.
#[test]
fn losses_are_said() {
    let (record, losses) = converted(
        r#"{"prompt": "q ", "chosen": "a", "rejected": "b", "text": "t"}"#,
        Schema::StandardImplicit,
    )
    .unwrap();
    assert_eq!(record, json!({"chosen": "q a", "rejected": "q b"}));
    assert_eq!(losses, ["the end of the prompt is no longer marked", "column \"text\" dropped"]);

    let named = r#"{"prompt": [{"role": "user", "content": "q", "name": "Ada"}],
        "chosen": [{"role": "assistant", "content": "a"}], "rejected": [{"role": "assistant", "content": "b"}]}"#;
    let (_, losses) = converted(&named.replace('\n', ""), Schema::Alpaca).unwrap();
    assert_eq!(losses, ["key \"name\" of messages dropped"]);

    let set = r#"{"prompt": "q", "responses": ["a", "b"], "scores": [1, 2], "lang": "en"}"#;
    let (record, losses) = converted(set, Schema::StandardExplicit).unwrap();
    let expected = json!({
        "prompt": "q", "chosen": "b", "rejected": "a", "lang": "en", "score_chosen": 2.0, "score_rejected": 1.0
    });
    assert_eq!(record, expected);
    assert_eq!(losses, ["column \"scores\" dropped", "pairs of one record became separate records"]);
}

/// Protects: ties stay ties, marked by equal scores if the data have none.
#[test]
fn ties_stay_ties() {
    let set = r#"{"prompt": "q", "responses": ["a", "b"], "ranks": [1, 1]}"#;
    let (record, _) = converted(set, Schema::StandardExplicit).unwrap();
    assert_eq!((&record["score_chosen"], &record["score_rejected"]), (&json!(0), &json!(0)));
    let label = r#"{"question": "q", "response_A": "a", "response_B": "b", "label": "A=B"}"#;
    let (record, _) = converted(label, Schema::Question).unwrap();
    assert_eq!((&record["score_chosen"], &record["score_rejected"]), (&json!(0), &json!(0)));
    assert!(record.get("margin").is_none(), "{record}");
}

/// Protects: scores that `pcrm score` wrote keep their mark, so that no one reads them as people's.
#[test]
fn scores_of_a_model_keep_their_mark() {
    let text = r#"{"question": "q", "chosen": "a", "rejected": "b", "chosen_score": 1.5, "rejected_score": 1.5,
        "scored_by": "pcrm:rm@0123456789abcdef"}"#;
    let (record, losses) = converted(&text.replace('\n', ""), Schema::StandardExplicit).unwrap();
    let expected = json!({"prompt": "q", "chosen": "a", "rejected": "b", "chosen_score": 1.5,
        "rejected_score": 1.5, "scored_by": "pcrm:rm@0123456789abcdef"});
    assert_eq!((record, losses.len()), (expected, 0));
}

/// Content that a schema cannot hold is an error, not a guess.
#[test]
fn what_does_not_fit_is_refused() {
    let turns = r#"{"prompt": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "r"}, {"role": "user", "content": "s"}],
        "chosen": [{"role": "assistant", "content": "a"}], "rejected": [{"role": "assistant", "content": "b"}]}"#;
    let said = |to| converted(&turns.replace('\n', ""), to).unwrap_err();
    assert!(said(Schema::StandardExplicit).contains("a conversation of several turns"));
    assert!(said(Schema::Ranked).contains("ranked cannot be written; expected one of standard_explicit"));
    let system = r#"{"prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}], "chosen": [{"role": "assistant", "content": "a"}], "rejected": [{"role": "assistant", "content": "b"}]}"#;
    assert!(converted(system, Schema::HhDialogues).unwrap_err().contains("a turn of \"system\""));
}

/// Columns that the user named are written under the known names, and a replaced column is reported.
#[test]
fn named_columns_are_converted() {
    let mut columns = Columns::default();
    columns.name("prompt", "ask").unwrap();
    columns.name("margin", "gap").unwrap();
    let text = r#"{"ask": "q", "prompt": "old", "gap": 2, "chosen": "a", "rejected": "b"}"#;
    let source = &sources(text, &columns)[0];
    let (record, losses) = convert(source, first(source), Schema::StandardExplicit, &columns).unwrap();
    assert_eq!(Value::Object(record), json!({"prompt": "q", "chosen": "a", "rejected": "b", "margin": 2}));
    assert_eq!(losses, [Loss::Column("prompt".to_owned())]);
}
