mod python;

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::reward_source::testing::{OwnedAnswers, rewards, sources};
use crate::reward_source::{Preparation, Rewards, Weighted};
use crate::{Error, Result};

/// Returns the configuration of a shell script that answers batches: `$line` is the batch, `$n` its number
/// from 0.
fn script(body: &str) -> Value {
    let command = format!("echo '{{\"ready\": true}}'; n=0; while read -r line; do {body}; n=$((n+1)); done");
    json!({"kind": "command", "command": command, "timeout": 120})
}

fn said(config: &Value, rows: &OwnedAnswers) -> String {
    match rewards(&config.to_string(), rows) {
        Ok(rewards) => panic!("{config}: {rewards:?}"),
        Err(error) => error.to_string(),
    }
}

fn twice(sources: &mut Weighted, rows: &OwnedAnswers) -> [Result<Rewards, Error>; 2] {
    [rows.weighed_by(sources), rows.weighed_by(sources)]
}

/// Protects: batches and answers are exchanged in order; null is unscored, and logs and columns arrive.
#[test]
fn programs_answer_line_by_line() {
    let rows = OwnedAnswers::of(&["x", "y"]);
    let further = r#"\"logs\": {\"a\": [1, $n]}, \"columns\": {\"c\": [\"u\", 2]}"#;
    let body = format!(r#"echo "{{\"id\": $n, \"rewards\": [0.5, null], {further}}}""#);
    let mut source = sources(&[&script(&body).to_string()]).unwrap();
    for (n, rewards) in twice(&mut source, &rows).into_iter().enumerate() {
        let rewards = rewards.unwrap();
        assert_eq!(rewards.total, [Some(0.5), None]);
        assert_eq!(rewards.logs["echo/a"], [1.0, n as f32]);
        assert_eq!(rewards.columns["echo/c"], [json!("u"), json!(2)]);
    }
}

/// Protects: a program's input matches the module's documentation.
#[test]
fn batches_have_the_documented_keys() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("seen");
    let mut config = script(&format!(
        "printf '%s\\n' \"$line\" > {}; echo '{{\"id\": 0, \"rewards\": [1]}}'",
        file.display()
    ));
    config["name"] = "seen".into();
    let mut rows = OwnedAnswers::default();
    let prompt = json!([{"role": "user", "content": "q"}]);
    rows.add(prompt.clone(), json!({"gold": {"a": [1, "ä\n"]}}), "b");
    assert_eq!(rewards(&config.to_string(), &rows).unwrap(), [Some(1.0)]);
    let seen: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let wanted = json!({
        "id": 0, "step": 3, "prompts": [prompt], "completions": ["b"], "completion_ids": [[98]],
        "columns": {"gold": [{"a": [1, "ä\n"]}]}, "prompt_texts": ["<user>q"], "sequences": ["<user>qb<eos>"],
        "ended": [true]
    });
    assert_eq!(seen, wanted);
}

/// Protects: no error of a program becomes a reward: wrong counts, NaN, noise, wrong ids, reported errors.
#[test]
fn faults_of_answers_are_errors() {
    let rows = OwnedAnswers::of(&["x", "y"]);
    for (reply, message) in [
        (r#"{"id": 0, "rewards": [1]}"#, "gave 1 rewards for 2 answers"),
        (r#"{"id": 0}"#, "gave 0 rewards for 2 answers"),
        (r#"{"id": 0, "rewards": [1, NaN]}"#, "JSON has no NaN"),
        (r#"{"id": 0, "rewards": [1, "nan"]}"#, "answer 2 of 2 (rows.jsonl:2): the reward is \"nan\""),
        (
            r#"{"id": 0, "rewards": [1, 1e39]}"#,
            "answer 2 of 2 (rows.jsonl:2): the reward is 1e+39; expected a finite",
        ),
        (r#"{"id": 0, "rewards": [1, true]}"#, "the reward is true"),
        (r#"{"id": 1, "rewards": [1, 1]}"#, "it answered batch 1; expected batch 0"),
        (r#"{"id": 0, "scores": [1, 1]}"#, "unknown field `scores`"),
        (r#"{"id": 0, "error": "no CUDA"}"#, "reward \"echo\": no CUDA"),
        ("Loading checkpoint shards", "it wrote \"Loading checkpoint shards\", which is not a valid answer"),
        ("", "it wrote \"\", which is not a valid answer"),
    ] {
        let config = script(&format!("echo noise >&2; echo '{reply}'"));
        let said = said(&config, &rows);
        assert!(said.contains(message) && said.contains("standard error:\n  noise"), "{reply}: {said}");
    }
}

/// Protects: a program that dies is restarted once, with the same batch; if it dies again, the error shows
/// its last lines.
#[test]
fn a_program_that_dies_is_started_again_once() {
    let dir = TempDir::new().unwrap();
    let flag = dir.path().join("died");
    let answer = r#"echo "{\"id\": 0, \"rewards\": [2]}""#;
    let rows = OwnedAnswers::of(&["x"]);
    let once = script(&format!("if [ ! -e {0} ]; then touch {0}; exit 3; fi; {answer}", flag.display()));
    assert_eq!(rewards(&once.to_string(), &rows).unwrap(), [Some(2.0)]);
    let said = said(&script("for i in $(seq 30); do echo last $i >&2; done; exit 3"), &rows);
    // The tail is the last twenty lines.
    assert!(said.contains("last 30") && said.contains("last 11\n") && !said.contains("last 10\n"), "{said}");
    assert!(said.starts_with("reward \"echo\": it ended (exit status: 3) before it could answer"), "{said}");
    assert!(said.contains("started again for this batch"), "{said}");
}

/// Protects: a program that hangs is killed with its descendants, and so is one whose run is over.
#[test]
fn processes_do_not_outlive_their_source() {
    let dir = TempDir::new().unwrap();
    let pids = dir.path().join("pids");
    let rows = OwnedAnswers::of(&["x"]);
    let mut hangs = script(&format!("sleep 1000 & echo $! $$ >> {}; wait", pids.display()));
    hangs["timeout"] = 2.into();
    let began = Instant::now();
    let said = said(&hangs, &rows);
    assert!(said.contains("it did not answer within 2 s") && said.contains("started again"), "{said}");
    assert!(began.elapsed() < Duration::from_secs(100));
    let started = std::fs::read_to_string(&pids).unwrap();
    assert_eq!(started.split_whitespace().count(), 4, "{started}");
    let is_alive = |pid: &str| {
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        !state.is_empty() && !state.contains(") Z ")
    };
    if Path::new("/proc/self/stat").exists() {
        let gone = || !started.split_whitespace().any(is_alive);
        let until = Instant::now() + Duration::from_secs(60);
        while !gone() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(gone(), "{started}");
    }
    // A program that exits when its input ends needs no signal.
    let done = dir.path().join("done");
    let command = format!("echo '{{\"ready\": true}}'; cat > /dev/null; touch {}", done.display());
    let mut idle = sources(&[&json!({"kind": "command", "command": command}).to_string()]).unwrap();
    idle.prepare(&Preparation { prompts: rows.prompts(), logs: None }).unwrap();
    drop(idle);
    assert!(done.exists());
}

/// Protects: the programs of a run exit together, and not one after the other: each program here ends once the input
/// of all others has ended too, and none is killed while it waits for them.
#[test]
fn programs_exit_together() {
    let (dir, rows) = (TempDir::new().unwrap(), OwnedAnswers::of(&["x"]));
    let names = ["a", "b", "c"];
    let program = |name: &str| {
        let command = format!(
            "cd {}; echo '{{\"ready\": true}}'; cat > /dev/null; touch asked-{name}; for other in {}; do \
             while [ ! -e asked-$other ]; do sleep 0.02; done; done; touch ended-{name}",
            dir.path().display(),
            names.join(" ")
        );
        json!({"kind": "command", "command": command, "name": name}).to_string()
    };
    let programs = names.map(program);
    let mut all = sources(&programs.each_ref().map(String::as_str)).unwrap();
    all.prepare(&Preparation { prompts: rows.prompts(), logs: None }).unwrap();
    drop(all);
    for name in names {
        assert!(dir.path().join(format!("ended-{name}")).exists(), "{name} was killed");
    }
}

/// Protects: slow answers within the limit and batches larger than a pipe are accepted, and a program that
/// never gets ready is an error before the first rollout.
#[test]
fn slow_and_large_are_no_faults() {
    // A shell reads byte by byte.
    let long = "x".repeat(1 << 17);
    let rows = OwnedAnswers::of(&[&long]);
    let slow = script(r#"sleep 0.3; echo "{\"id\": 0, \"rewards\": [1]}""#);
    assert_eq!(rewards(&slow.to_string(), &rows).unwrap(), [Some(1.0)]);
    let never = json!({"kind": "command", "command": "sleep 1000", "start_timeout": 0.3});
    assert!(said(&never, &rows).contains("it did not get ready within 0.3 s"));
    let deaf = json!({"kind": "command", "command": "echo '{\"ready\": true}'; sleep 1000", "timeout": 0.3});
    assert!(said(&deaf, &rows).contains("it did not answer within 0.3 s"));
    let wrong = json!({"kind": "command", "command": "echo hello; sleep 1000"});
    assert!(said(&wrong, &rows).contains("it wrote \"hello\"; expected {\"ready\": true} as its first line"));
    let unknown = json!({"kind": "command", "command": "no-such-program-here"});
    let unknown = said(&unknown, &rows);
    assert!(unknown.contains("exit status: 127") && unknown.contains("no-such-program-here: "), "{unknown}");
}

/// Protects: a program that closes its standard output before it ends is described by its end and its last
/// words, and not by what was known when its output closed.
#[test]
fn a_program_that_ends_slowly_is_heard_to_its_end() {
    let command = "echo cannot go on >&2; exec >&-; sleep 1; echo last words >&2; exit 3";
    let mut slow = sources(&[&json!({"kind": "command", "command": command}).to_string()]).unwrap();
    let rows = OwnedAnswers::of(&["x"]);
    let failed = slow.prepare(&Preparation { prompts: rows.prompts(), logs: None }).unwrap_err().to_string();
    assert!(failed.contains("it ended (exit status: 3) before it could get ready"), "{failed}");
    assert!(failed.ends_with("\n  cannot go on\n  last words"), "{failed}");
}

/// Protects: a program that is killed is killed before its messages are read, so that none is missing: here those
/// of a process that outlives it.
#[test]
fn messages_are_read_after_the_end_of_a_program() {
    let setsid = std::process::Command::new("setsid").args(["-w", "true"]).status();
    if !setsid.is_ok_and(|status| status.success()) {
        println!("nothing checked: setsid(1) is not installed");
        return;
    }
    let (dir, rows) = (TempDir::new().unwrap(), OwnedAnswers::of(&["x"]));
    let up = dir.path().join("up").display().to_string();
    let heir =
        format!("touch {up}$0; while kill -0 $0; do sleep 0.02; done 2> /dev/null; echo last words >&2");
    let begin = format!("setsid sh -c '{heir}' $$ & while [ ! -e {up}$$ ]; do sleep 0.02; done");
    for (body, timeout, message) in [
        ("echo '{\"ready\": true}'; sleep 1000", 0.3, "it did not answer within 0.3 s"),
        ("echo '{\"ready\": true}'; echo nonsense; sleep 1000", 120.0, "it wrote \"nonsense\""),
        ("echo hello; sleep 1000", 120.0, "it wrote \"hello\""),
    ] {
        let config = json!({"kind": "command", "command": format!("{begin}; {body}"), "timeout": timeout});
        let said = said(&config, &rows);
        assert!(said.contains(message) && said.contains("standard error:\n  last words"), "{said}");
    }
}

/// Protects: all of standard error is written to a file of the run.
#[test]
fn standard_error_is_kept() {
    let (dir, rows) = (TempDir::new().unwrap(), OwnedAnswers::of(&["x"]));
    let body = r#"echo "batch $n" >&2; echo "{\"id\": $n, \"rewards\": [1]}""#;
    let mut source = sources(&[&script(body).to_string()]).unwrap();
    source.prepare(&Preparation { prompts: rows.prompts(), logs: Some(dir.path()) }).unwrap();
    twice(&mut source, &rows).into_iter().for_each(|rewards| drop(rewards.unwrap()));
    drop(source);
    let text = std::fs::read_to_string(dir.path().join("reward-echo.log")).unwrap();
    assert_eq!(text, "batch 0\nbatch 1\n");
}
