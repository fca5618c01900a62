use serde_json::{Value, json};

use crate::reward_source::testing::{OwnedAnswers, rewards, sources};

fn given(rule: &Value, rows: &OwnedAnswers) -> Vec<Option<f32>> {
    rewards(&rule.to_string(), rows).unwrap_or_else(|error| panic!("{rule}: {error}"))
}

/// Protects: the values of rules, computed by hand, one answer each.
#[test]
fn rules_give_what_they_say() {
    for (rule, answer, reward) in [
        (json!({"kind": "length", "target": 4}), "abcd", 0.0),
        (json!({"kind": "length", "target": 4}), "", -1.0),
        (json!({"kind": "length", "target": 4}), "abcdef", -0.5),
        (json!({"kind": "length", "per_token": -0.25}), "abcd", -1.0),
        (json!({"kind": "length", "per_unit": 1, "unit": "words"}), " a  bc\nd ", 3.0),
        (json!({"kind": "length", "per_unit": 1, "unit": "characters"}), "äö", 2.0),
        (json!({"kind": "regex", "pattern": "^b"}), "ab\nb", 0.0),
        (json!({"kind": "regex", "pattern": "(?m)^b"}), "ab\nb", 1.0),
        (json!({"kind": "regex", "pattern": "a|ab", "match": "fullmatch"}), "ab", 1.0),
        (json!({"kind": "regex", "pattern": "b|ab", "match": "match"}), "abc", 1.0),
        (json!({"kind": "regex", "pattern": "b|c", "match": "match"}), "abc", 0.0),
        (json!({"kind": "regex", "pattern": "a(?!b)", "reward": 2, "otherwise": -1}), "ab", -1.0),
        (json!({"kind": "json"}), " [1, 2] ", 1.0),
        (json!({"kind": "json"}), "[1, 2] x", 0.0),
        (json!({"kind": "json", "type": "object"}), "[1]", 0.0),
        (json!({"kind": "json", "keys": ["a"]}), "{\"a\": null}", 1.0),
        (json!({"kind": "json", "keys": ["a"]}), "{\"b\": 1}", 0.0),
        (json!({"kind": "json", "fenced": true}), "```json\n{}\n```\n", 1.0),
        (json!({"kind": "json"}), "```json\n{}\n```", 0.0),
        (json!({"kind": "repetition", "ngram": 1, "unit": "words"}), "a b a a", -0.5),
        (json!({"kind": "format", "tags": ["think", "answer"]}), "<think>a</think>\n<answer>b</answer>", 1.0),
        (
            json!({"kind": "format", "tags": ["think", "answer"]}),
            "<think>a</think> x <answer>b</answer>",
            0.0,
        ),
        (json!({"kind": "format", "tags": ["think", "answer"]}), "<answer>b</answer><think>a</think>", 0.0),
        (json!({"kind": "format", "rest": false}), "<think>a</think> b", 0.0),
        (json!({"kind": "format", "rest": false}), "<think>a</think> \n", 1.0),
    ] {
        assert_eq!(given(&rule, &OwnedAnswers::of(&[answer])), [Some(reward)], "{rule} {answer:?}");
    }
}

/// Protects: rules equal TRL's rewards for format, repetition and overlong answers.
#[test]
fn rules_are_those_of_trl() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/rewards/rules.json");
    let golden: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let cases = golden["cases"].as_array().unwrap();
    assert!(cases.len() >= 10);
    for case in cases {
        let texts: Vec<String> = serde_json::from_value(case["completions"].clone()).unwrap();
        let mut rows = OwnedAnswers::of(&texts.iter().map(String::as_str).collect::<Vec<_>>());
        *rows.ids_mut() = serde_json::from_value(case["completion_ids"].clone()).unwrap();
        let wanted: Vec<Option<f32>> = serde_json::from_value(case["rewards"].clone()).unwrap();
        assert_eq!(given(&case["rule"], &rows), wanted, "{case}");
    }
}

/// Protects: comparison with columns of every type, null columns, and records without the column.
#[test]
fn columns_are_compared() {
    let mut rows = OwnedAnswers::default();
    for (gold, answer) in [
        (json!("Paris"), " paris\n"),
        (json!("Paris"), "Paris!"),
        (json!(42), "The answer is \\boxed{7}, no, \\boxed{42}."),
        (json!(["a", "b"]), "b"),
        (json!(null), "b"),
        (json!(true), "true"),
    ] {
        rows.add(json!("q"), json!({"gold": gold}), answer);
    }
    let (yes, no) = (Some(1.0), Some(0.0));
    assert_eq!(given(&json!({"kind": "exact", "column": "gold"}), &rows), [no, no, no, yes, None, yes]);
    let folded = json!({"kind": "exact", "column": "gold", "ignore_case": true});
    assert_eq!(given(&folded, &rows), [yes, no, no, yes, None, yes]);
    let boxed = json!({"kind": "exact", "column": "gold", "extract": r"\\boxed\{([^}]*)\}"});
    assert_eq!(given(&boxed, &rows), [no, no, yes, no, None, no]);
    rows.add(json!("q"), json!({"other": 1}), "x");
    let said = rewards(r#"{"kind": "exact", "column": "gold"}"#, &rows).unwrap_err().to_string();
    assert_eq!(said, "reward \"exact\": rows.jsonl:7: no column \"gold\"; the record has other");
    rows = OwnedAnswers::default();
    rows.add(json!("q"), json!({"gold": {}}), "x");
    let said = rewards(r#"{"kind": "exact", "column": "gold"}"#, &rows).unwrap_err().to_string();
    assert!(said.contains("the column \"gold\" is {}; expected a text or a number"), "{said}");
}

/// Protects: the generated world's true reward reaches the sum, for texts and conversations.
#[test]
fn the_worlds_truth_is_a_reward() {
    let mut rows = OwnedAnswers::default();
    let asked = "Where does the otter live?";
    rows.add(json!(format!("Question: {asked}\nAnswer:")), json!({}), " The otter lives in clear rivers.");
    rows.add(json!([{"role": "user", "content": asked}]), json!({}), "The otter lives in old barns.");
    assert_eq!(rewards("world:0.5", &rows).unwrap(), [Some(0.9), Some(-0.9)]);
    rows.add(json!("Why?"), json!({}), "x");
    let said = rewards("world", &rows).unwrap_err().to_string();
    assert_eq!(said, "reward \"world\": rows.jsonl:3: \"Why?\" is not a prompt of a generated world");
}

/// Protects: invalid parameters are refused with the expected values.
#[test]
fn bad_parameters_are_refused() {
    for (rule, said) in [
        (json!({"kind": "length"}), "expected one of target and per_unit"),
        (json!({"kind": "length", "target": 0}), "target is 0; expected a positive number"),
        (json!({"kind": "length", "target": 3, "unit": "lines"}), "unknown variant `lines`"),
        (json!({"kind": "length", "goal": 3}), "unknown field `goal`"),
        (json!({"kind": "regex"}), "missing field `pattern`"),
        (json!({"kind": "regex", "pattern": "("}), "pattern \"(\": "),
        (
            json!({"kind": "exact"}),
            "missing field `column`; write for example {\"kind\": \"exact\", \"column\": ",
        ),
        (json!({"kind": "json", "type": "array", "keys": ["a"]}), "keys are an object's"),
        (json!({"kind": "repetition", "penalty": 1}), "penalty is 1; expected 0 or less"),
        (json!({"kind": "repetition", "ngram": 0}), "ngram is 0; expected 1 or more"),
        (json!({"kind": "overlong", "max": 3, "cache": 4}), "expected 0 ≤ cache ≤ max"),
        (json!({"kind": "format", "tags": []}), "no tags"),
        (json!({"kind": "format", "tags": ["<a>"]}), "the tag \"<a>\"; expected a name"),
    ] {
        let error = sources(&[&rule.to_string()]).err().unwrap_or_else(|| panic!("{rule}")).to_string();
        assert!(error.contains(said), "{rule}: {error}");
    }
}
