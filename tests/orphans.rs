//! Processes that end with the process that started them, and programs, which are not asked to stop with an input.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;

use crate::binary::{World, stderr};

/// The environment variable that asks a process of `pcrm` itself to stop when its input ends.
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

/// Writes the answers of two policies, `a.jsonl` and `b.jsonl`.
fn answers(world: &World) -> Result<()> {
    for name in ["a", "b"] {
        let line = |at: usize| json!({"prompt": format!("Question {at}?"), "completion": name, "sample": 0});
        let lines: Vec<String> = (0..8).map(|at| format!("{}\n", line(at))).collect();
        world.write(&format!("{name}.jsonl"), &lines.concat())?;
    }
    Ok(())
}

/// Protects: a program that a run starts is not asked to stop with its input, since a `pcrm` in it would then consume
/// the program's input.
#[cfg(unix)]
#[test]
fn programs_do_not_inherit_the_request() -> Result<()> {
    let world = World::new()?;
    answers(&world)?;
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

/// Processes that must not outlive the one that they belong to.
#[cfg(target_os = "linux")]
mod hanging {
    use std::io::{BufRead, BufReader};
    use std::path::Path;
    use std::process::Child;

    use anyhow::Context as _;
    use rustix::process::{Pid, Signal, kill_process};

    use super::*;
    use crate::binary::send;

    /// A program that hangs on its first line. It writes the id of the process that started it and the ids of its own
    /// processes to `pids`.
    const PROGRAM: &str = "echo '{\"ready\": true}'; read -r line; sleep 1000 & \
                           echo $PPID $$ $! > pids.part; mv pids.part pids; wait\n";
    /// The time after which a killed process is gone. A program that its guard kills has ten seconds more.
    const KILLED: Duration = Duration::from_secs(8);
    const LIMIT: Duration = Duration::from_secs(120);

    /// Starts a judge whose program hangs, and returns it once it does, with the ids of the program's processes.
    fn judge(world: &World, input: Stdio) -> Result<(Child, Vec<i32>)> {
        answers(world)?;
        world.write("program.sh", PROGRAM)?;
        let mut command = world.command("judge --answers a.jsonl b.jsonl --judge 'command:sh program.sh'")?;
        let child = command.env(PARENT, std::process::id().to_string()).stdin(input).spawn()?;
        let pids = pids(world)?;
        Ok((child, pids))
    }

    /// Waits for the file `pids` and returns its numbers.
    fn pids(world: &World) -> Result<Vec<i32>> {
        wait_until("a program that hangs", || world.path("pids").exists())?;
        let text = String::from_utf8(world.read("pids")?)?;
        let pids: Vec<i32> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        ensure!(pids.len() == 3 && pids.iter().all(|pid| is_alive(*pid)), "{text}");
        Ok(pids)
    }

    fn wait_until(what: &str, is_so: impl Fn() -> bool) -> Result<()> {
        let begun = Instant::now();
        while !is_so() {
            ensure!(begun.elapsed() < LIMIT, "{what}: not within {} s", LIMIT.as_secs());
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Returns the state of a process and its parent; `None` if it is gone.
    fn stat(pid: i32) -> Option<(String, i32)> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = text.rsplit_once(") ")?.1.split(' ');
        Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
    }

    fn is_alive(pid: i32) -> bool {
        stat(pid).is_some_and(|(state, _)| state != "Z" && state != "X")
    }

    /// Fails unless all these processes are gone after this time.
    fn check_gone(pids: &[i32], limit: Duration) -> Result<()> {
        let begun = Instant::now();
        while pids.iter().any(|pid| is_alive(*pid)) {
            let alive: Vec<_> = pids.iter().map(|pid| (pid, stat(*pid))).collect();
            ensure!(begun.elapsed() < limit, "not all are gone after {} s: {alive:?}", limit.as_secs());
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Sends a second signal once the process has reacted to the first, and returns when it has ended.
    fn interrupt_twice(child: &mut Child) -> Result<()> {
        send("INT", child)?;
        let mut said = BufReader::new(child.stderr.take().context("messages")?);
        let mut line = String::new();
        while !line.contains("repeat to stop immediately") {
            line.clear();
            ensure!(said.read_line(&mut line)? > 0, "the first signal was not heard");
        }
        send("INT", child)?;
        let status = child.wait()?;
        ensure!(status.code() == Some(130), "{status}");
        Ok(())
    }

    /// Protects: a program that is computing an answer is gone when its run has ended after a second signal.
    #[test]
    fn no_program_outlives_a_second_signal() -> Result<()> {
        let world = World::new()?;
        let (mut child, pids) = judge(&world, Stdio::piped())?;
        interrupt_twice(&mut child)?;
        check_gone(&pids, KILLED)
    }

    /// Protects: a program is gone when its run has ended because the run's parent did.
    #[test]
    fn no_program_outlives_the_parent_of_its_run() -> Result<()> {
        let world = World::new()?;
        let (mut child, pids) = judge(&world, Stdio::piped())?;
        // The parent's end of the input.
        drop(child.stdin.take());
        let status = child.wait()?;
        ensure!(status.code() == Some(130), "{status}");
        check_gone(&pids, KILLED)
    }

    /// Protects: a program is gone soon after its run was killed.
    #[test]
    fn no_program_outlives_a_run_that_was_killed() -> Result<()> {
        let world = World::new()?;
        let (mut child, pids) = judge(&world, Stdio::piped())?;
        child.kill()?;
        child.wait()?;
        check_gone(&pids, LIMIT)
    }

    /// Protects: neither the processes of `pcrm launch` nor their reward programs outlive it, after a second signal
    /// and after it was killed.
    #[test]
    fn nothing_outlives_a_launcher() -> Result<()> {
        let world = World::new()?;
        world.run("sft --model base --random-init --data train.jsonl --max-steps 1 --output policy")?;
        world.write("program.sh", PROGRAM)?;
        for (run, limit) in [("interrupted", KILLED), ("killed", LIMIT)] {
            let mut child = world
                .command(&format!(
                    "launch -n 1 -- grpo --model policy --data test.jsonl --reward 'command:sh program.sh' \
                     --num-generations 2 --batch 2 --max-completion-length 4 --max-steps 1 --output {run}"
                ))?
                .spawn()?;
            let mut pids = pids(&world)?;
            pids.extend(children(&child)?);
            if run == "interrupted" {
                interrupt_twice(&mut child)?;
            } else {
                child.kill()?;
                child.wait()?;
            }
            check_gone(&pids, limit).context(run)?;
            std::fs::remove_file(world.path("pids"))?;
        }
        Ok(())
    }

    /// Returns the processes that a process has started and that are running.
    fn children(parent: &Child) -> Result<Vec<i32>> {
        let parent = i32::try_from(parent.id())?;
        let names = std::fs::read_dir("/proc")?.flatten().map(|entry| entry.file_name());
        let pids = names.filter_map(|name| name.to_str()?.parse::<i32>().ok());
        Ok(pids.filter(|pid| stat(*pid).is_some_and(|(state, of)| of == parent && state != "Z")).collect())
    }

    /// Protects: no run of a study outlives the study after a second signal, not even a stopped one, which handles no
    /// signals.
    #[test]
    fn no_run_outlives_its_study() -> Result<()> {
        const RECIPE: &str = r#"
title = "Without end"
question = "When does it end?"
hypotheses = ["Never."]
primary = { figure = "log_loss", words = "log loss" }
baseline = "bt"
worlds = ["questions"]
full = { seeds = 1, pairs = 60, answers = 1 }
quick = { seeds = 1, pairs = 60, answers = 1 }
[[arm]]
name = "bt"
reward = { constraint = "none", epochs = 100000 }
[[arm]]
name = "fixed"
reward = { constraint = "fixed", epochs = 100000 }
"#;
        let world = World::new()?;
        world.write("endless.toml", RECIPE)?;
        let study = "study endless.toml --data train.jsonl --model base --jobs 1 --output out";
        let mut child = world.command(study)?.spawn()?;
        let is_begun = |path: &Path| std::fs::metadata(path).is_ok_and(|file| file.len() > 0);
        let metrics = world.path("out/train/seed-0/rm-bt/metrics.jsonl");
        wait_until("a step of the first run", || is_begun(&metrics))?;
        let runs = children(&child)?;
        ensure!(runs.len() == 1, "{runs:?}");
        let run = Pid::from_raw(runs[0]).context("a process")?;
        kill_process(run, Signal::STOP)?;
        let ended = interrupt_twice(&mut child).and_then(|()| check_gone(&runs, KILLED));
        if ended.is_err() {
            kill_process(run, Signal::KILL).ok();
        }
        ended
    }
}
