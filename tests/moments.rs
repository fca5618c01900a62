//! Runs whose chat template asks for the time: a resumed run renders with the moment when the run began.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::binary::{World, stderr};

/// Two time zones: the clock always differs between them, and so does every text.
const ZONES: [&str; 2] = ["EAST-14", "WEST12"];

const TEMPLATE: &str = "{{ strftime_now('%j %H') }}{% for turn in messages %} {{ turn.role }}: {{ turn.content }}\
                        {% endfor %}";

/// Writes conversations and a template that prints the day and the hour.
fn chats(world: &World) -> Result<()> {
    let turn = |role: &str, text: &Value| json!({"role": role, "content": text});
    let chat = |row: &Value| {
        let answer = |name: &str| json!([turn("assistant", &row[name])]);
        let prompt = json!([turn("user", &row["prompt"])]);
        json!({"prompt": prompt, "chosen": answer("chosen"), "rejected": answer("rejected")}).to_string()
            + "\n"
    };
    world.write("chats.jsonl", &world.lines("train.jsonl")?.iter().map(chat).collect::<String>())?;
    world.write("base/chat_template.jinja", TEMPLATE)
}

fn run_in(world: &World, zone: &str, command: &str) -> Result<()> {
    let output = world.command(command)?.env("TZ", zone).output()?;
    ensure!(output.status.success(), "{command}: {}", stderr(&output));
    Ok(())
}

fn moment(world: &World, run: &str) -> Result<Value> {
    let manifest: Value = serde_json::from_slice(&world.read(&format!("{run}/manifest.json"))?)?;
    Ok(manifest["fingerprint"]["template-time"].clone())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let (from, to) = (entry?.path(), to.to_path_buf());
        let to = to.join(from.file_name().context("no name")?);
        match from.is_dir() {
            true => copy(&from, &to)?,
            false => drop(fs::copy(&from, &to)?),
        }
    }
    Ok(())
}

/// Protects: a run keeps the moment at which it began, wherever and whenever it is resumed, also if its
/// manifest is damaged; another run has its own moment.
#[test]
fn a_resumed_run_keeps_its_moment() -> Result<()> {
    let world = World::new()?;
    chats(&world)?;
    let train = |steps: u32, output: &str| {
        format!(
            "reward --model base --data chats.jsonl --max-steps {steps} --batch 8 --schedule constant \
             --save-every 2 --output {output}"
        )
    };
    run_in(&world, ZONES[0], &train(2, "a"))?;
    for other in ["b", "c"] {
        copy(&world.path("a"), &world.path(other))?;
    }
    let began = moment(&world, "a")?;
    ensure!(began.as_str().is_some_and(|moment| moment.ends_with("+14:00")), "{began}");
    world.write("c/manifest.json", "{")?;
    for (run, zone) in [("a", ZONES[0]), ("b", ZONES[1]), ("c", ZONES[1])] {
        run_in(&world, zone, &format!("{} --resume", train(4, run)))?;
        ensure!(moment(&world, run)? == began, "{run}: {}", moment(&world, run)?);
        ensure!(
            world.read(&format!("{run}/model.safetensors"))? == world.read("a/model.safetensors")?,
            "{run}: the run was resumed with other texts"
        );
    }
    run_in(&world, ZONES[1], &train(4, "d"))?;
    ensure!(moment(&world, "d")? != began, "a new run has the moment of an old one");
    ensure!(world.read("d/model.safetensors")? != world.read("a/model.safetensors")?, "the texts are equal");
    Ok(())
}

/// Protects: a run whose templates do not ask for the time records none, and does not depend on it.
#[test]
fn other_runs_record_no_moment() -> Result<()> {
    let world = World::new()?;
    chats(&world)?;
    let train = "reward --model base --data train.jsonl --max-steps 2 --batch 8 --output";
    for (run, zone) in [("a", ZONES[0]), ("b", ZONES[1])] {
        run_in(&world, zone, &format!("{train} {run}"))?;
        ensure!(moment(&world, run)?.is_null(), "{}", moment(&world, run)?);
    }
    ensure!(world.read("a/manifest.json")? == world.read("b/manifest.json")?, "the manifests differ");
    ensure!(world.read("a/model.safetensors")? == world.read("b/model.safetensors")?, "the weights differ");
    Ok(())
}
