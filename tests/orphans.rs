//! Processes that stop with the process that started them, and programs, which do not.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;

use crate::binary::{World, stderr};

/// The environment variable by which `pcrm` asks a process of its own to stop when the process's input ends.
const PARENT: &str = "PCRM_STOP_WITH_INPUT_OF";

/// Protects: a process whose parent was killed before the process could look for it stops too. (Such a process has
/// another parent than the one that the variable names.)
#[test]
fn a_process_whose_parent_is_gone_stops() -> Result<()> {
    let world = World::new()?;
    let mut command = world.command(
        "reward --model base --data train.jsonl --threads 1 --epochs 100000 --batch 8 --output run",
    )?;
    let mut child = command.env(PARENT, "0").stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if begun.elapsed() > Duration::from_secs(120) {
            child.kill()?;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    ensure!(status.code() == Some(130), "{status}");
    Ok(())
}

/// Protects: a program that a run starts is not asked to stop with its input, as a `pcrm` in it would swallow what
/// the program is to read.
#[cfg(unix)]
#[test]
fn programs_do_not_inherit_the_request() -> Result<()> {
    let world = World::new()?;
    for name in ["a", "b"] {
        let line = |at: usize| json!({"prompt": format!("Question {at}?"), "completion": name, "sample": 0});
        let lines: Vec<String> = (0..8).map(|at| format!("{}\n", line(at))).collect();
        world.write(&format!("{name}.jsonl"), &lines.concat())?;
    }
    let program = format!(
        "echo \"${{{PARENT}-nothing}}\" > asked; echo '{{\"ready\": true}}'; n=0; while IFS= read -r line; do \
         echo \"{{\\\"id\\\": $n, \\\"verdict\\\": 1}}\"; n=$((n+1)); done\n"
    );
    world.write("judge.sh", &program)?;
    let mut command = world.command("judge --answers a.jsonl b.jsonl --judge 'command:sh judge.sh'")?;
    command.env(PARENT, std::process::id().to_string()).stdin(Stdio::piped());
    let mut child = command.spawn()?;
    // While this process holds the input, it does not end.
    let input = child.stdin.take();
    let output = child.wait_with_output()?;
    drop(input);
    ensure!(output.status.success(), "{}", stderr(&output));
    let asked = String::from_utf8(world.read("asked")?)?;
    ensure!(asked == "nothing\n", "the program is asked to stop with the input of {asked}");
    Ok(())
}
