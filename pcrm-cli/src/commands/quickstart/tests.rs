//! A small end-to-end run of the command.

use std::fs;

use clap::Parser;
use serde_json::Value;

use super::*;

#[derive(Parser)]
struct Alone {
    #[command(flatten)]
    args: QuickstartArgs,
}

fn args(output: &Path, more: &[&str]) -> QuickstartArgs {
    let output = output.to_str().unwrap();
    let all = ["quickstart", "--output", output, "--pairs", "90", "--epochs", "1"];
    Alone::parse_from(all.iter().chain(more)).args
}

/// Protects: the command works end to end: all files exist and are read like a user's, the same seed gives
/// the same numbers, a second run replaces the first and keeps files of others, and lines fit in 80 columns.
#[test]
fn a_small_run_leaves_what_it_promises() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("out");
    let args = args(&output, &["--seed", "3"]);
    let text = play(&args, None, &AtomicBool::new(false), true).unwrap();
    let read =
        || -> Value { serde_json::from_slice(&fs::read(output.join("report.json")).unwrap()).unwrap() };
    let first = read();
    for file in ["train.jsonl", "test.jsonl"] {
        let (pairs, report) = load_preferences(&[output.join(file)], Strictness::Skip).unwrap();
        assert!(pairs.len() == if file == "test.jsonl" { 30 } else { 90 } && report.problems.is_empty());
    }
    for model in ["base", "none", "length_ratio", "fixed"] {
        assert!(output.join(model).join("model.safetensors").exists());
        assert!(Tokenizer::from_dir(&output.join(model)).unwrap().eos().is_some());
    }
    assert_eq!(first["models"][1]["constraint"]["kind"], "length_ratio");
    let said: String = text.lines().filter(|line| !line.contains(dir.path().to_str().unwrap())).collect();
    assert!(said.contains("labellers") && !said.contains("NaN"), "{text}");
    for line in text.lines().filter(|line| !line.contains(output.to_str().unwrap())) {
        assert!(line.chars().count() <= 80, "{line}");
    }

    fs::write(output.join("notes.txt"), "mine").unwrap();
    play(&args, None, &AtomicBool::new(false), true).unwrap();
    assert!(output.join("notes.txt").exists());
    let second = read();
    for model in 0..MODELS.len() {
        assert_eq!(first["models"][model]["report"], second["models"][model]["report"]);
    }
}

/// Protects: a folder of others is neither emptied nor written to.
#[test]
fn other_folders_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("thesis.tex"), "all of it").unwrap();
    let error = play(&args(dir.path(), &[]), None, &AtomicBool::new(false), true).unwrap_err().to_string();
    assert!(error.contains("choose another folder"), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

/// Protects: Ctrl-C ends the command after the current step with a message, and the folder can be used again.
#[test]
fn stopping_is_said_and_can_be_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let args = args(dir.path(), &[]);
    let error = play(&args, None, &AtomicBool::new(true), true).unwrap_err();
    assert!(format!("{error:#}").contains("none: stopped after step 1;"), "{error:#}");
    play(&args, None, &AtomicBool::new(false), true).unwrap();
}

/// Protects: impossible numbers are refused with the expected range.
#[test]
fn impossible_options_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for (more, expected) in [
        (["--pairs", "5"], "--pairs 5: expected at least 30"),
        (["--epochs", "0"], "--epochs 0: expected a positive number"),
    ] {
        let output = dir.path().to_str().unwrap();
        let all = ["quickstart", "--output", output];
        let args = Alone::parse_from(all.iter().chain(&more)).args;
        assert_eq!(play(&args, None, &AtomicBool::new(false), true).unwrap_err().to_string(), expected);
    }
}

/// Protects: printed commands can be pasted into a shell.
#[test]
fn paths_are_quoted_for_the_shell() {
    assert_eq!(quoted(Path::new("runs/quickstart/base")), "runs/quickstart/base");
    assert_eq!(quoted(Path::new("my runs/it's")), r"'my runs/it'\''s'");
}
