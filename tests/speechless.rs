//! Runs whose terminal or pipe closes, or whose disk is full: they end as if their messages had been read.

use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::binary::{World, send, stderr};

const TRAIN: &str = "reward --model base --data train.jsonl --eval-data test.jsonl --eval-every 5 --batch 8 \
                     --epochs 99 --save-every 100000 --threads 1";

/// Starts a command and closes the pipe of its standard error once the run takes steps.
fn unheard(world: &World, arguments: &str, metrics: &str) -> Result<Child> {
    let mut child = world.command(arguments)?.stdout(Stdio::null()).spawn()?;
    let begun = Instant::now();
    while world.read(metrics).map_or(0, |text| text.iter().filter(|byte| **byte == b'\n').count()) < 12 {
        ensure!(begun.elapsed() < Duration::from_secs(60), "no step was made in a minute");
        std::thread::sleep(Duration::from_millis(2));
    }
    drop(child.stderr.take());
    Ok(child)
}

/// Returns true if this process ignores SIGHUP, as under nohup; its children then ignore it too.
fn ignores_hangups() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

/// Protects: a run outlives the reader of its messages; a later signal still saves a checkpoint and ends the
/// run with 130.
#[test]
fn a_run_outlives_the_reader_of_its_messages() -> Result<()> {
    let world = World::new()?;
    for name in ["INT", "TERM", "HUP"] {
        if name == "HUP" && ignores_hangups() {
            println!("HUP is not checked: this process ignores it");
            continue;
        }
        let run = format!("stopped-{name}");
        let mut child = unheard(&world, &format!("{TRAIN} --output {run}"), &format!("{run}/metrics.jsonl"))?;
        send(name, &child)?;
        let status = child.wait()?;
        ensure!(status.code() == Some(130), "{name}: {status}");
        let saved = fs::read_dir(world.path(&run))?.flatten();
        let saved = saved.filter(|entry| entry.file_name().to_string_lossy().starts_with("checkpoint-"));
        ensure!(saved.count() > 0, "{name}: no checkpoint");
    }
    let child = unheard(&world, &format!("{TRAIN} --max-steps 40 --output whole"), "whole/metrics.jsonl")?;
    ensure!(child.wait_with_output()?.status.success(), "the run failed");
    ensure!(world.path("whole/model.safetensors").exists(), "no model");
    Ok(())
}

/// Protects: under nohup a run continues after its terminal closes.
#[test]
fn a_run_under_nohup_goes_on() -> Result<()> {
    let world = World::new()?;
    let pcrm = world.command("plugins")?.get_program().to_owned();
    let mut nohup = Command::new("nohup");
    nohup.arg(pcrm).args(format!("{TRAIN} --max-steps 40 --output run").split_whitespace());
    nohup.current_dir(world.path("")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(mut child) = nohup.spawn() else {
        println!("nothing checked: nohup is not installed");
        return Ok(());
    };
    let begun = Instant::now();
    while !world.path("run/metrics.jsonl").exists() {
        ensure!(begun.elapsed() < Duration::from_secs(60), "no step was made in a minute");
        std::thread::sleep(Duration::from_millis(2));
    }
    send("HUP", &child)?;
    let status = child.wait()?;
    ensure!(status.success() && world.path("run/model.safetensors").exists(), "{status}");
    Ok(())
}

/// Protects: logs on a full disk are dropped, results on one are errors, and a command whose reader closes
/// the pipe ends quietly; nothing panics.
#[test]
fn full_disks_and_closed_pipes_end_as_they_should() -> Result<()> {
    let Ok(full) = File::create("/dev/full") else {
        println!("nothing checked: /dev/full does not exist");
        return Ok(());
    };
    let world = World::new()?;
    let train = "reward --model base --data train.jsonl --max-steps 2 --batch 8 --output rm";
    let status = world.command(train)?.stderr(full.try_clone()?).status()?;
    ensure!(status.success() && world.path("rm/model.safetensors").exists(), "{status}");
    let status =
        world.command("reward --model absent --data x --output y")?.stderr(full.try_clone()?).status()?;
    ensure!(status.code() == Some(1), "an error on a full disk: {status}");
    for (verb, code) in [
        ("completions bash", 1),
        ("plugins", 1),
        ("--help", 1),
        ("--version", 1),
        ("constraint list", 1),
        ("constraint explain fixed --json", 1),
        ("score --model rm --data test.jsonl", 1),
        ("eval reward --model rm --data test.jsonl --no-cache", 1),
        ("inspect --model base --data train.jsonl --no-measure", 2),
        ("bench gemm --seconds 0.01", 1),
    ] {
        let output = world.command(verb)?.stdout(full.try_clone()?).output()?;
        let said = stderr(&output);
        ensure!(output.status.code() == Some(code), "{verb} >/dev/full: {}: {said}", output.status);
        ensure!(said.contains("error: standard output: ") && !said.contains("panicked"), "{verb}: {said}");
        let (reader, writer) = std::io::pipe()?;
        drop(reader);
        let output = world.command(verb)?.stdout(writer).output()?;
        let said = stderr(&output);
        let quiet = !said.contains("error") && !said.contains("panicked");
        ensure!(quiet, "{verb} into a closed pipe: {}: {said}", output.status);
        ensure!(output.status.success() || verb.starts_with("inspect"), "{verb} into a closed pipe: {said}");
    }
    drop(full);
    Ok(())
}

/// Protects: a run with a progress bar continues after its terminal closes.
#[test]
fn a_terminal_that_goes_away_ends_no_run() -> Result<()> {
    let world = World::new()?;
    let pcrm = world.command("plugins")?.get_program().to_owned();
    let pcrm = pcrm.to_str().context("a path that is text")?.to_owned();
    // `script` gives the run a terminal that closes when `script` ends.
    let line = format!("trap '' HUP; exec {pcrm} {TRAIN} --max-steps 40 --output run");
    let mut script = Command::new("script");
    script.args(["-qec", &line, "/dev/null"]).current_dir(world.path("")).env("HOME", world.path(""));
    script.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(mut child) = script.spawn() else {
        println!("nothing checked: script(1) is not installed");
        return Ok(());
    };
    let begun = Instant::now();
    while world.read("run/metrics.jsonl").map_or(0, |text| text.len()) < 2000 {
        ensure!(begun.elapsed() < Duration::from_secs(60), "no step was made in a minute");
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill()?;
    child.wait()?;
    while !world.path("run/report.html").exists() {
        ensure!(begun.elapsed() < Duration::from_secs(120), "the run did not end");
        std::thread::sleep(Duration::from_millis(20));
    }
    ensure!(world.path("run/model.safetensors").exists(), "no model");
    Ok(())
}
