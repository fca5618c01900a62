//! Python functions through the adapter.

use std::process::Command;

use serde_json::json;
use tempfile::TempDir;

use super::said;
use crate::Result;
use crate::reward_source::testing::{OwnedAnswers, rewards, sources};
use crate::reward_source::{Preparation, Rewards, Spec};

/// Returns the interpreter for tests: `PCRM_PYTHON`, or the system's. Without one, tests that need it print a
/// message and pass.
fn python() -> Option<String> {
    let python = std::env::var("PCRM_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let is_there = Command::new(&python).arg("--version").output().is_ok_and(|out| out.status.success());
    if !is_there {
        println!("skipped: no Python ({python}); set PCRM_PYTHON");
    }
    is_there.then_some(python)
}

/// Writes a Python file in a temporary folder.
fn file(code: &str) -> (TempDir, String) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("reward.py");
    std::fs::write(&path, code).unwrap();
    let path = path.display().to_string();
    (dir, path)
}

fn function(python: &str, path: &str, function: &str) -> Spec {
    format!("python:{path}:{function}:{python}").parse().unwrap()
}

fn weighed(spec: &Spec, rows: &OwnedAnswers) -> Result<Rewards> {
    let mut sources = sources(&[&spec.to_tagged().to_string()])?;
    sources.prepare(&Preparation { prompts: rows.prompts(), logs: None })?;
    rows.weighed_by(&mut sources)
}

const FORMS: &str = r#"
import sys
print("import time")

def trl_text(prompts, completions, completion_ids, gold, **kwargs):
    print("noise on stdout")
    assert prompts == ["q", "q"] and completion_ids == [[49], [50]], (prompts, completion_ids)
    assert kwargs["trainer_state"].global_step == 3
    kwargs["log_metric"]("hits", 0.5)
    kwargs["log_metric"]("undefined", float("nan"))
    kwargs["log_extra"]("seen", completions)
    kwargs["log_extra"]("odd", [float("nan"), {"a": 1}])
    return [1.0 if c == g else None for c, g in zip(completions, gold)]

def trl_chat(completions, **kwargs):
    return [float(c[0]["content"]) if c[0]["role"] == "assistant" else -1 for c in completions]

async def trl_async(completions, gold):
    return [len(c) for c in completions]

class Scalar:
    def __init__(self, value): self.value = value
    def tolist(self): return self.value

def openrlhf(queries, prompts, labels):
    assert queries == ["q1<eos>", "q2<eos>"] and prompts == ["q", "q"], (queries, prompts)
    rewards = Scalar([float(label == "1") for label in labels])
    return {"rewards": rewards, "scores": rewards, "extra_logs": {"n": Scalar([2, 3])}}

def verl(data_source, solution_str, ground_truth, extra_info=None):
    assert data_source == "d" and extra_info["i"] == 1
    right = solution_str == ground_truth
    return {"score": float(right), "acc": right, "pred": solution_str}

def verl_batch(data_sources, solution_strs, ground_truths, extra_infos):
    return [float(s == g) for s, g in zip(solution_strs, ground_truths)]

def failing(completions, **kwargs):
    return inner(completions)

def inner(completions):
    raise ValueError("no such unit: parsec")

def leaving(completions, **kwargs):
    sys.exit(4)

def dying(completions, **kwargs):
    import os
    os._exit(4)

def nan(completions, **kwargs):
    return [float("nan")] * len(completions)

def short(completions, **kwargs):
    return [1.0]

def strange(a, b):
    return [1.0]

number = 7
"#;

/// Protects: functions of TRL, OpenRLHF and verl are called unchanged, by the names of their parameters;
/// their prints do no harm.
#[test]
fn functions_of_three_trainers_work_unchanged() {
    let Some(python) = python() else { return };
    let (_dir, path) = file(FORMS);
    let mut rows = OwnedAnswers::default();
    let columns = json!({"gold": "1", "label": "1", "data_source": "d", "extra_info": {"i": 1},
                         "reward_model": {"style": "rule", "ground_truth": "1"}});
    rows.add(json!("q"), columns.clone(), "1");
    rows.add(json!("q"), columns, "2");
    for (name, wanted) in [
        ("trl_text", [Some(1.0), None]),
        ("trl_async", [Some(1.0), Some(1.0)]),
        ("openrlhf", [Some(1.0), Some(1.0)]),
        ("verl", [Some(1.0), Some(0.0)]),
        ("verl_batch", [Some(1.0), Some(0.0)]),
    ] {
        let rewards =
            weighed(&function(&python, &path, name), &rows).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(rewards.total, wanted, "{name}");
        match name {
            "trl_text" => {
                assert_eq!(rewards.logs["trl_text/hits"], [0.5]);
                assert!(rewards.logs["trl_text/undefined"].is_empty());
                assert_eq!(rewards.columns["trl_text/seen"], [json!("1"), json!("2")]);
                assert_eq!(rewards.columns["trl_text/odd"], [json!("nan"), json!("{'a': 1}")]);
            }
            "openrlhf" => assert_eq!(rewards.logs["openrlhf/n"], [2.0, 3.0]),
            "verl" => assert_eq!(rewards.logs["verl/acc"], [1.0, 0.0]),
            _ => {}
        }
    }
    let spec = function(&python, &path, "openrlhf").to_tagged().to_string();
    let mut noted = sources(&[&spec]).unwrap();
    noted.prepare(&Preparation { prompts: rows.prompts(), logs: None }).unwrap();
    let notes = noted.notes();
    assert!(
        notes.len() == 1 && notes[0].starts_with("openrlhf: ") && notes[0].contains("OpenRLHF's (queries")
    );
    let mut chat = OwnedAnswers::default();
    chat.add(json!([{"role": "user", "content": "q"}]), json!({}), "0.25");
    assert_eq!(weighed(&function(&python, &path, "trl_chat"), &chat).unwrap().total, [Some(0.25)]);
    let mut labelled = function(&python, &path, "verl_batch").to_tagged();
    labelled["label"] = "gold".into();
    assert_eq!(rewards(&labelled.to_string(), &rows).unwrap(), [Some(1.0), Some(0.0)]);
    labelled["label"] = "golden".into();
    assert!(said(&labelled, &rows).contains("rows.jsonl:1: no column \"golden\" for the label"));
}

/// Protects: an error in Python reaches the user with its traceback and line, and stops the run.
#[test]
fn faults_in_python_are_shown() {
    let Some(python) = python() else { return };
    let (_dir, path) = file(FORMS);
    let rows = OwnedAnswers::of(&["x", "y"]);
    for (name, parts) in [
        ("failing", &["in inner\n", "ValueError: no such unit: parsec", "reward.py\", line"][..]),
        ("leaving", &["SystemExit: 4", "in leaving"]),
        ("dying", &["it ended (exit status: 4) before it could answer", "after it was started again"]),
        ("nan", &["answer 1 of 2 (rows.jsonl:1): the reward is \"nan\""]),
        ("short", &["gave 1 rewards for 2 answers"]),
        (
            "strange",
            &["the function takes (a, b); expected a function of TRL's parameters (prompts, completions"],
        ),
        ("number", &["number is int; expected a function"]),
        ("absent", &["reward.py has no absent; it has: ", "trl_text"]),
        ("verl", &["expected a column reward_model with ground_truth, or ground_truth (columns: none)"]),
        ("trl_text", &["cannot be called: missing a required argument: 'gold'"]),
    ] {
        let error = weighed(&function(&python, &path, name), &rows).expect_err(name).to_string();
        for part in parts {
            assert!(error.contains(part), "{name}: {part:?} is not in\n{error}");
        }
        assert!(!error.contains("File \"<string>\""), "{error}");
    }
    let (dir, _) = file("");
    let json = dir.path().join("json.py");
    std::fs::write(&json, "def f(completions):\n    return [2.0] * len(completions)\n").unwrap();
    let rewards = weighed(&function(&python, &json.display().to_string(), "f"), &rows).unwrap();
    assert_eq!(rewards.total, [Some(2.0), Some(2.0)]);
    let (_other, broken) = file("def f(:\n");
    let said = weighed(&function(&python, &broken, "f"), &rows).unwrap_err().to_string();
    assert!(said.contains("SyntaxError") && said.contains("reward.py"), "{said}");
}

/// Protects: messages name a missing file or interpreter.
#[test]
fn missing_files_and_interpreters_are_said() {
    let rows = OwnedAnswers::of(&["x"]);
    let absent = weighed(&function("python3", "/nowhere/reward.py", "f"), &rows).unwrap_err().to_string();
    assert!(absent.contains("/nowhere/reward.py: no such file"), "{absent}");
    let (_dir, path) = file("def f(completions): return [0.0]\n");
    let said = weighed(&function("/nowhere/python", &path, "f"), &rows).unwrap_err().to_string();
    assert!(
        said.contains("cannot start \"/nowhere/python\"") && said.contains("FUNCTION:/path/to/python"),
        "{said}"
    );
}

/// Protects: TRL's own reward functions, from its installed package, give the same values as called from
/// Python. Runs if Python has TRL.
#[test]
fn rewards_of_trl_itself_work() {
    let Some(python) = python() else { return };
    let has_trl = Command::new(&python).args(["-c", "import trl.rewards"]).output();
    if !has_trl.is_ok_and(|out| out.status.success()) {
        println!("skipped: {python} has no TRL");
        return;
    }
    let code = "from trl.rewards import *\n\
                repeats = get_repetition_penalty_reward(ngram_size=1, max_penalty=-1.0)\n\
                overlong = get_soft_overlong_punishment(max_completion_len=20, soft_punish_cache=15)\n";
    let (_dir, path) = file(code);
    let mut rows = OwnedAnswers::default();
    for answer in ["<think>a</think>b", "aaaa", ""] {
        rows.add(json!([{"role": "user", "content": "q"}]), json!({"solution": "x"}), answer);
    }
    for (file, name, wanted) in [
        ("trl.rewards", "think_format_reward", [1.0, 0.0, 0.0]),
        (&path, "think_format_reward", [1.0, 0.0, 0.0]),
        // 17 bytes with 10 distinct values, and 4 with 1.
        (&path, "repeats", [-(1.0 - 10.0 / 17.0), -0.75, 0.0]),
        (&path, "overlong", [-12.0 / 15.0, 0.0, 0.0]),
    ] {
        let rewards =
            weighed(&function(&python, file, name), &rows).unwrap_or_else(|error| panic!("{error}"));
        let given: Vec<f32> = rewards.total.into_iter().flatten().collect();
        assert_eq!(given, wanted.map(|reward: f64| reward as f32), "{name}");
    }
}
