//! Scores as margins: those against the label, and those of a model.

use serde_json::{Value, json};

use super::*;
use crate::data::survey::Severity;

fn read(records: &[Value], score_margins: bool) -> Result<(Vec<AnswerSet>, Report)> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let text: String = records.iter().map(|record| format!("{record}\n")).collect();
    file.write_all(text.as_bytes()).unwrap();
    let options = ReadOptions { score_margins, ..ReadOptions::default() };
    load_preferences(&[file.path().to_path_buf()], options)
}

/// Protects: with score margins, pairs whose chosen score is lower are counted with the first of them, once; margins
/// of the data and pairs without score margins give no such warning.
#[test]
fn scores_against_the_label_are_found() {
    let pair = |chosen: i32, rejected: i32| {
        let mut row = json!({"prompt": "q", "chosen": "a", "rejected": "b"});
        (row["score_chosen"], row["score_rejected"]) = (json!(chosen), json!(rejected));
        row
    };
    let mut with_margin = pair(1, 2);
    with_margin["margin"] = json!(1);
    let rows = [pair(5, 3), pair(3, 5), pair(1, 2), with_margin];
    let report = read(&rows, true).unwrap().1;
    let [found] = &report.findings[..] else { panic!("{:?}", report.findings) };
    assert_eq!((found.code, found.severity, found.count), ("negative_margins", Severity::Warning, Some(2)));
    assert_eq!(found.first.as_ref().map(|first| first.line), Some(2));
    assert!(found.found.starts_with("2 of 4 pairs get a negative margin"), "{}", found.found);
    let codes: Vec<_> = read(&rows, false).unwrap().1.findings.iter().map(|finding| finding.code).collect();
    assert_eq!(codes, ["margins_missing"]);
}

/// Protects: scores that `pcrm score` wrote are no scores of the data: they make no margins and no ties, and
/// `--score-margins` refuses a file whose only scores they are, with the line and the model.
#[test]
fn scores_of_a_model_are_no_scores_of_people() {
    let rows = |rejected: f64, more: Value| {
        let mut row = json!({"prompt": "q", "chosen": "a", "rejected": "b", "chosen_score": 1.5,
            "rejected_score": rejected, "scored_by": "pcrm:rm@0123456789abcdef"});
        row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let plain =
            json!({"prompt": "q", "chosen": "a", "rejected": "b", "score_chosen": 2, "score_rejected": 1});
        [plain, row]
    };
    let (pairs, report) = read(&rows(1.5, json!({})), false).unwrap();
    assert_eq!((pairs.len(), pairs[1].comparisons[0].scores), (2, None), "{report}");
    assert_eq!(report.files[0].unread, ["chosen_score", "rejected_score"]);
    let refused = read(&rows(0.5, json!({})), true).unwrap_err().to_string();
    for part in ["line 2", "\"chosen_score\"", "rm@0123456789abcdef", "--field score_chosen=COLUMN"] {
        assert!(refused.contains(part), "{refused}");
    }
    for (more, margin) in [
        (json!({"score_chosen": 4, "score_rejected": 1}), 3.0),
        (json!({"margin": 0.25}), 0.25),
        (json!({"scored_by": "annotator 7"}), 1.0),
    ] {
        let (pairs, _) = read(&rows(0.5, more), true).unwrap();
        assert_eq!(pairs[1].comparisons[0].margin, Some(margin));
    }
}
