//! A folder belongs to one run while it is written, and its records describe the model in it.

use std::fs;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::binary::{World, stderr};

const TRAIN: &str = "reward --model base --data train.jsonl --batch 8 --threads 1";

fn started(world: &World, arguments: &str, file: &str) -> Result<Child> {
    let child = world.command(arguments)?.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    wait_for(world, file)?;
    Ok(child)
}

fn wait_for(world: &World, file: &str) -> Result<()> {
    let begun = Instant::now();
    while !world.path(file).exists() {
        ensure!(begun.elapsed() < Duration::from_secs(60), "{file} was not written in a minute");
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn manifest(world: &World, run: &str) -> Result<Value> {
    Ok(serde_json::from_slice(&world.read(&format!("{run}/manifest.json"))?)?)
}

fn hidden(world: &World, run: &str) -> Result<Vec<String>> {
    let names = fs::read_dir(world.path(run))?.flatten().map(|entry| entry.file_name().into_string());
    Ok(names.filter_map(Result::ok).filter(|name| name.starts_with('.')).collect())
}

/// Protects: a second run in the same folder is refused with the process id of the first; a killed process
/// does not block the folder, and its temporary files are removed.
#[test]
fn a_second_run_is_refused_while_the_first_is_there() -> Result<()> {
    let world = World::new()?;
    let first = format!("{TRAIN} --epochs 5000 --save-every 1000000 --seed 1 --output run");
    let mut child = started(&world, &first, "run/metrics.jsonl")?;
    let process = format!("process {}, started", child.id());
    world.refuses(&format!("{TRAIN} --max-steps 3 --seed 2 --output run"), &[&process, "writing to this"])?;
    world.refuses(&format!("{TRAIN} --max-steps 3 --seed 2 --output run --resume"), &[&process])?;
    child.kill()?;
    child.wait()?;
    ensure!(manifest(&world, "run")?["fingerprint"]["seed"] == 1, "the records are the second run's");
    fs::write(world.path("run/.tmpAb12Cd"), "half of a file")?;
    fs::write(world.path("run/.pcrm-Ab12Cd"), "half of a file")?;
    world.run(&format!("{TRAIN} --max-steps 3 --seed 2 --output run"))?;
    ensure!(manifest(&world, "run")?["fingerprint"]["seed"] == 2, "the records are the first run's");
    ensure!(hidden(&world, "run")?.is_empty(), "{:?}", hidden(&world, "run")?);
    Ok(())
}

/// Protects: resuming requires the options in the folder's manifest, with and without checkpoints; a refusal
/// changes neither records nor model.
#[test]
fn resuming_is_held_to_the_manifest() -> Result<()> {
    let world = World::new()?;
    let rare = "--save-every 100000 --epochs 50";
    let mut child =
        started(&world, &format!("{TRAIN} {rare} --seed 1 --output killed"), "killed/metrics.jsonl")?;
    child.kill()?;
    child.wait()?;
    world.refuses(
        &format!("{TRAIN} {rare} --seed 2 --learning-rate 1e-3 --output killed --resume"),
        &["killed/manifest.json", "--seed was 1 and is now 2", "--learning-rate was 0.0001 and is now 0.001"],
    )?;
    world.run(&format!("{TRAIN} --max-steps 3 --output done"))?;
    let (model, records) = (world.read("done/model.safetensors")?, world.read("done/manifest.json")?);
    fs::remove_dir_all(world.path("done/checkpoint-3"))?;
    world.refuses(&format!("{TRAIN} --max-steps 3 --seed 2 --output done --resume"), &["--seed was 0"])?;
    world.refuses(
        "reward --model base --data test.jsonl --batch 8 --threads 1 --max-steps 3 --output done --resume",
        &["the file of --data has changed"],
    )?;
    ensure!(world.read("done/model.safetensors")? == model, "the model was overwritten");
    ensure!(world.read("done/manifest.json")? == records, "the records were overwritten");
    world.run(&format!("{TRAIN} --max-steps 3 --output done --resume"))?;
    ensure!(world.read("done/model.safetensors")? == model, "the resumed run ends with a different model");
    Ok(())
}

/// Protects: resuming fine-tuning requires the options in its manifest, which has all of them.
#[test]
fn fine_tuning_is_held_to_its_manifest() -> Result<()> {
    let world = World::new()?;
    let train = "sft --model base --random-init --data train.jsonl --batch 8 --threads 1 --max-steps 3";
    world.run(&format!("{train} --learning-rate 1e-3 --output tuned"))?;
    ensure!(manifest(&world, "tuned")?["fingerprint"]["learning-rate"] == 1e-3, "no options in the manifest");
    fs::remove_dir_all(world.path("tuned/checkpoint-3"))?;
    world.refuses(
        &format!("{train} --learning-rate 2e-3 --output tuned --resume"),
        &["--learning-rate was 0.001 and is now 0.002"],
    )
}

/// Protects: a base model or a model that pcrm did not train is never overwritten, under any path.
#[test]
fn models_of_others_are_never_overwritten() -> Result<()> {
    let world = World::new()?;
    let before = world.read("base/model.safetensors")?;
    #[cfg(unix)]
    std::os::unix::fs::symlink(world.path("base"), world.path("other-name"))?;
    for output in ["base", "base/../base", "other-name"] {
        for resume in ["", "--resume"] {
            world.refuses(
                &format!("{TRAIN} --max-steps 1 --output {output} {resume}"),
                &["is the folder of --model"],
            )?;
        }
    }
    fs::create_dir(world.path("copy"))?;
    for name in ["config.json", "model.safetensors"] {
        fs::copy(world.path(&format!("base/{name}")), world.path(&format!("copy/{name}")))?;
    }
    world.refuses(
        &format!("{TRAIN} --max-steps 1 --output copy --resume"),
        &["neither a checkpoint nor manifest.json"],
    )?;
    for folder in ["base", "copy"] {
        ensure!(world.read(&format!("{folder}/model.safetensors"))? == before, "{folder} was overwritten");
        ensure!(hidden(&world, folder)?.is_empty(), "{folder}: {:?}", hidden(&world, folder)?);
    }
    Ok(())
}

/// Protects: deleting or moving a folder ends the run that writes to it with an error, even with `--quiet`,
/// and the folder is not created again.
#[test]
fn a_folder_that_is_deleted_is_an_error() -> Result<()> {
    let world = World::new()?;
    for (run, options) in [("loud", ""), ("quiet", "--quiet")] {
        let arguments = format!("{options} {TRAIN} --epochs 50 --save-every 5 --output {run}");
        let child = world.command(&arguments)?.stdout(Stdio::null()).spawn()?;
        wait_for(&world, &format!("{run}/checkpoint-5"))?;
        fs::rename(world.path(run), world.path(&format!("{run}-moved")))?;
        let output = child.wait_with_output()?;
        let said = stderr(&output);
        ensure!(output.status.code() == Some(1) && said.contains("was deleted, moved or replaced"), "{said}");
        ensure!(!world.path(run).exists(), "{run} was made again");
    }
    Ok(())
}

/// Protects: a line of metrics.jsonl that is not UTF-8 blocks no run; lost or altered lines are reported.
#[test]
fn harmed_metrics_are_said_and_block_nothing() -> Result<()> {
    let world = World::new()?;
    let train = format!("{TRAIN} --schedule constant --output run");
    world.run(&format!("{train} --max-steps 6"))?;
    let mut lines = world.read("run/metrics.jsonl")?;
    lines[3] = 0xff;
    fs::write(world.path("run/metrics.jsonl"), &lines)?;
    let output = world.command(&format!("{train} --max-steps 8 --resume"))?.output()?;
    let said = stderr(&output);
    ensure!(output.status.success(), "{said}");
    ensure!(said.contains("1 of the lines up to step 6 are lost"), "{said}");
    let steps = world.lines("run/metrics.jsonl")?;
    let steps: Vec<u64> = steps.iter().filter_map(|line| line["step"].as_u64()).collect();
    ensure!(steps == [2, 3, 4, 5, 6, 7, 8], "{steps:?}");
    let text = String::from_utf8(world.read("run/metrics.jsonl")?)?;
    let at = text.find("\"loss\":0.").context("a loss")? + 9;
    let other = if &text[at..=at] == "5" { "6" } else { "5" };
    world.write("run/metrics.jsonl", &format!("{}{other}{}", &text[..at], &text[at + 1..]))?;
    let output = world.command(&format!("{train} --max-steps 9 --resume"))?.output()?;
    let said = stderr(&output);
    ensure!(output.status.success() && said.contains("are not those that the run wrote"), "{said}");
    Ok(())
}

/// Protects: `pcrm compare` continues after a kill at any moment: before an arm's first checkpoint, and
/// between the arm's results and the end of its cleanup.
#[test]
fn a_killed_comparison_continues() -> Result<()> {
    let world = World::new()?;
    let compare = "compare --model base --data train.jsonl --eval-split 0.3 --seeds 1 --max-steps 8 \
                   --batch 8 --threads 1 --constraint none --constraint fixed";
    let whole = world.run(&format!("{compare} --output whole"))?;
    for file in ["none-0/.pcrm.lock", "none-0/manifest.json", "none-0/metrics.jsonl", "fixed-0/config.json"] {
        let mut child = started(&world, &format!("{compare} --output killed"), &format!("killed/{file}"))?;
        child.kill()?;
        child.wait()?;
    }
    fs::create_dir_all(world.path("killed/none-0/checkpoint-8"))?;
    let text = world.run(&format!("{compare} --output killed"))?;
    ensure!(text == whole, "{text}\n{whole}");
    for file in ["comparison.json", "none-0/model.safetensors", "fixed-0/measured.json"] {
        let of = |run: &str| world.read(&format!("{run}/{file}"));
        ensure!(of("whole")? == of("killed")?, "{file} differs");
    }
    ensure!(!world.path("killed/none-0/checkpoint-8").exists(), "a checkpoint is left");
    ensure!(hidden(&world, "killed/none-0")?.is_empty(), "{:?}", hidden(&world, "killed/none-0")?);
    let measured = "killed/fixed-0/measured.json";
    let text = String::from_utf8(world.read(measured)?)?;
    let (at, digit) =
        text.char_indices().rev().find(|(_, digit)| digit.is_ascii_digit()).context("a digit")?;
    let other = if digit == '1' { "2" } else { "1" };
    world.write(measured, &format!("{}{other}{}", &text[..at], &text[at + 1..]))?;
    world.refuses(&format!("{compare} --output killed"), &["measured.json", "is damaged"])
}

/// Protects: no output overwrites its own input, whatever the spelling of its path, and no run overwrites files
/// that no run wrote.
#[test]
fn files_of_the_user_are_never_overwritten() -> Result<()> {
    let world = World::new()?;
    let before = world.read("test.jsonl")?;
    let absolute = world.path("test.jsonl").display().to_string();
    let train = "reward --model base --data train.jsonl --max-steps 1 --batch 2";
    world.run(&format!("{train} --output rm"))?;
    for (command, data) in [
        ("score --model rm", "test.jsonl"),
        ("eval reward --model rm", "test.jsonl"),
        ("constraint bounds --model rm --constraint fixed", "test.jsonl"),
        ("data convert --to alpaca", "test.jsonl"),
        ("data convert --to alpaca", "test.jsonl[:2]"),
    ] {
        for output in ["test.jsonl", "./test.jsonl", &absolute] {
            world.refuses(&format!("{command} --data {data} --output {output}"), &["is one of --data"])?;
        }
    }
    ensure!(world.read("test.jsonl")? == before, "the data were overwritten");

    for name in ["config.toml", "metrics.jsonl", "samples.jsonl", "report.html"] {
        let dir = world.path(name).with_extension("mine");
        fs::create_dir(&dir)?;
        fs::write(dir.join(name), "mine")?;
        let output = format!("--output {}", dir.display());
        world.refuses(&format!("{train} {output}"), &["--output", &format!("already holds {name}")])?;
        world.refuses(&format!("{train} {output} --resume"), &["no run to continue"])?;
        ensure!(fs::read(dir.join(name))? == b"mine", "{name} was overwritten");
    }
    Ok(())
}
