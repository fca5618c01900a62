//! The files that a finished run leaves.

use super::*;

/// Protects: an answer without a true reward leaves its own prompt out of the curve, not the true rewards of all.
#[test]
fn one_missing_true_reward_leaves_out_one_prompt() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let answer = |prompt: &str, score: f64, truth: Option<f64>| {
        let completion = format!("answer {score}");
        json!({"prompt": prompt, "completion": completion, "score": score, "true_reward": truth}).to_string()
            + "\n"
    };
    let lines = [
        answer("a", 1.0, Some(2.0)),
        answer("a", 2.0, Some(4.0)),
        answer("b", 3.0, None),
        answer("b", 1.0, Some(1.0)),
    ];
    leave(dir.path(), &lines.concat(), 2, true)?;
    let curve: Value = serde_json::from_slice(&std::fs::read(dir.path().join("curve.json"))?)?;
    assert_eq!(curve["prompts"], 1, "{curve}");
    let points = curve["points"].as_array().context("points")?;
    assert_eq!(points.len(), 2, "{curve}");
    assert_eq!(points[1]["truth"]["value"], 4.0, "{curve}");
    assert_eq!(std::fs::read_to_string(dir.path().join("best.jsonl"))?.lines().count(), 2);
    Ok(())
}

/// Protects: answers that were cut off are counted, with those of them that are the best of their prompts.
#[test]
fn cut_answers_are_counted() {
    let record = |finish: &str| Map::from_iter([("finish".to_owned(), json!(finish))]);
    let records = [record("stop"), record("length"), record("length"), Map::new()];
    let said = |best| of_cut_answers(&records, best).unwrap_or_default();
    assert!(
        said(1).starts_with("2 of 4 answers were cut off at --max-tokens: 1 of best.jsonl, "),
        "{}",
        said(1)
    );
    assert!(said(0).ends_with(": none of best.jsonl"), "{}", said(0));
    assert_eq!(of_cut_answers(&records[..1], 0), None);
}
