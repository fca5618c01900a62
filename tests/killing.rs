//! Interrupted and killed runs: after resuming, the final weights equal those of an undisturbed run.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use crate::binary::{World, send, stderr};

const TRAIN: &str = "reward --model base --data train.jsonl --eval-data test.jsonl --eval-every 25 \
                     --epochs 12 --batch 8 --learning-rate 1e-3 --save-every 10 --constraint length_ratio";

/// Starts a run, sends it a signal after this many steps, and returns its exit code and message.
fn disturb(
    world: &World,
    arguments: &str,
    metrics: &str,
    steps: usize,
    signal: &str,
) -> Result<(Option<i32>, String)> {
    let child = world.command(arguments)?.spawn()?;
    let begun = Instant::now();
    while world.read(metrics).map_or(0, |text| text.iter().filter(|byte| **byte == b'\n').count()) < steps {
        ensure!(begun.elapsed() < Duration::from_secs(120), "{steps} steps were not made in 2 minutes");
        std::thread::sleep(Duration::from_millis(2));
    }
    send(signal, &child)?;
    let output = child.wait_with_output()?;
    Ok((output.status.code(), stderr(&output)))
}

fn same_weights(world: &World, a: &str, b: &str) -> Result<()> {
    let weights = |run: &str| world.read(&format!("{run}/model.safetensors"));
    ensure!(weights(a)? == weights(b)?, "{a} and {b} end with other weights");
    let steps = |run: &str| -> Result<Vec<serde_json::Value>> {
        let mut lines = world.lines(&format!("{run}/metrics.jsonl"))?;
        for line in &mut lines {
            line.as_object_mut().map(|line| line.remove("tokens_per_second"));
        }
        Ok(lines)
    };
    ensure!(steps(a)? == steps(b)?, "the metrics of {a} and {b} differ");
    Ok(())
}

#[test]
fn a_killed_run_goes_on_to_the_same_weights() -> Result<()> {
    let world = World::new()?;
    world.run(&format!("{TRAIN} --output whole"))?;
    for (at, steps) in [(0, 35), (1, 90)] {
        let run = format!("killed-{at}");
        let arguments = format!("{TRAIN} --output {run}");
        let (code, _) = disturb(&world, &arguments, &format!("{run}/metrics.jsonl"), steps, "KILL")?;
        ensure!(code.is_none(), "the run ended by itself with {code:?} before it was killed");
        ensure!(!world.path(&format!("{run}/model.safetensors")).exists(), "a killed run left a model");
        world.refuses(&arguments, &["--resume"])?;
        world.run(&format!("{arguments} --resume"))?;
        same_weights(&world, "whole", &run)?;
    }
    Ok(())
}

#[test]
fn an_interrupted_run_saves_and_goes_on_to_the_same_weights() -> Result<()> {
    let world = World::new()?;
    world.run(&format!("{TRAIN} --output whole"))?;
    let arguments = format!("{TRAIN} --output stopped");
    let (code, message) = disturb(&world, &arguments, "stopped/metrics.jsonl", 33, "INT")?;
    ensure!(code == Some(130) && message.contains("--resume"), "{code:?}: {message}");
    world.refuses(
        &format!("{arguments} --resume --learning-rate 2e-3"),
        &["--learning-rate was 0.001 and is now 0.002"],
    )?;
    world.run(&format!("{arguments} --resume"))?;
    same_weights(&world, "whole", "stopped")
}

/// Protects: a run that was killed as it replaced its only checkpoint still holds it: a new run is refused, and the
/// same one continues from there.
#[test]
fn a_checkpoint_that_was_being_replaced_belongs_to_its_run() -> Result<()> {
    let world = World::new()?;
    let run = "reward --model base --data train.jsonl --batch 8 --learning-rate 1e-3 --max-steps 120";
    world.run(&format!("{run} --output whole"))?;
    let arguments = format!("{run} --output killed");
    let (code, message) = disturb(&world, &arguments, "killed/metrics.jsonl", 5, "INT")?;
    ensure!(code == Some(130), "{code:?}: {message}");
    let checkpoints = |prefix: &str| -> Result<Vec<String>> {
        let names = std::fs::read_dir(world.path("killed"))?.map(|entry| Ok(entry?.file_name()));
        let names = names.collect::<Result<Vec<_>>>()?;
        let names = names.into_iter().filter_map(|name| name.into_string().ok());
        Ok(names.filter(|name| name.starts_with(prefix)).collect())
    };
    let found = checkpoints("checkpoint-")?;
    let [name] = found.as_slice() else { bail!("{found:?} is not one checkpoint") };
    std::fs::rename(world.path(&format!("killed/{name}")), world.path(&format!("killed/.replaced-{name}")))?;
    world.refuses(&arguments, &[&format!("already holds {name} of a run"), "--resume"])?;
    ensure!(checkpoints(".replaced")?.is_empty() && checkpoints("checkpoint-")? == found);
    world.run(&format!("{arguments} --resume"))?;
    same_weights(&world, "whole", "killed")
}

#[test]
fn a_corrupt_checkpoint_is_told_of_and_passed_over() -> Result<()> {
    let world = World::new()?;
    world.run(&format!("{TRAIN} --output whole"))?;
    let arguments = format!("{TRAIN} --output harmed");
    disturb(&world, &arguments, "harmed/metrics.jsonl", 45, "KILL")?;
    let mut folders: Vec<u64> = Vec::new();
    for entry in std::fs::read_dir(world.path("harmed"))? {
        let name = entry?.file_name();
        folders.extend(name.to_str().and_then(|name| name.strip_prefix("checkpoint-")?.parse::<u64>().ok()));
    }
    let Some(newest) = folders.into_iter().max() else { bail!("no checkpoint after 45 steps") };
    let file = format!("harmed/checkpoint-{newest}/optimizer.safetensors");
    let mut bytes = world.read(&file)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(world.path(&file), bytes)?;
    let output = world.command(&format!("{arguments} --resume"))?.output()?;
    ensure!(output.status.success(), "{}", stderr(&output));
    ensure!(
        stderr(&output).contains("is corrupt"),
        "the corrupt checkpoint is not reported: {}",
        stderr(&output)
    );
    same_weights(&world, "whole", "harmed")
}
