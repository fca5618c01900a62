//! Constraints as users meet them: as files, and told by `pcrm constraint`.

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::binary::{World, stderr};

const TRAIN: &str = "reward --model base --data train.jsonl --batch 8 --max-steps 4 --save-every 2";
const TIGHT: &str = "{\n  \"kind\": \"length_ratio\",\n  \"beta1\": 10,\n  \"beta3\": -5\n}\n";

/// Protects: wherever a constraint is named, a file that holds one does as well, and what is kept is its content.
#[test]
fn a_file_is_a_constraint_everywhere() -> Result<()> {
    let world = World::new()?;
    world.write("tight.json", TIGHT)?;
    world.run(&format!("{TRAIN} --constraint tight.json --output rm"))?;
    let config: Value = serde_json::from_slice(&world.read("rm/config.json")?)?;
    ensure!(config["pcrm"]["constraint"]["beta1"] == 10.0, "{config}");
    let bounds = |options: &str| -> Result<Value> {
        let report: Value = serde_json::from_str(
            &world.run(&format!("eval reward --model rm --data test.jsonl --json --no-report {options}"))?,
        )?;
        Ok(report["bounds"].clone())
    };
    let of_file = bounds("--constraint ./tight.json")?;
    ensure!(of_file == bounds("")? && of_file != bounds("--constraint length_ratio")?, "{of_file}");
    world.run(
        "bench reward --model base --data train.jsonl --steps 1 --warmup 0 --batch 4 --constraint tight.json",
    )?;
    let output = world
        .command("inspect --model base --data train.jsonl --no-measure --json --constraint tight.json")?
        .output()?;
    let told: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(told["pairs"]["constraint"]["constraint"]["beta1"] == 10.0, "{}", stderr(&output));
    Ok(())
}

/// Protects: a run is gone on with under the constraint that it began with, whatever became of the file: its own
/// config has the content, and a file with other content is refused.
#[test]
fn a_run_keeps_what_the_file_held() -> Result<()> {
    let world = World::new()?;
    world.write("bound.json", TIGHT)?;
    world.run(&format!("{TRAIN} --constraint bound.json --output rm"))?;
    world.write("bound.json", "{\"kind\": \"fixed\"}")?;
    let resumed = format!("{TRAIN} --constraint bound.json --output rm --resume");
    world.refuses(&resumed, &["constraint", "length_ratio", "fixed"])?;
    // The same in other words is the same.
    world.write("bound.json", "{\"beta3\": -5.0, \"beta1\": 10, \"kind\": \"length_ratio\"}")?;
    world.run(&resumed)?;
    std::fs::remove_file(world.path("bound.json"))?;
    world.refuses(&resumed, &["--constraint", "bound.json", "No such file"])?;
    world.run("reward --config rm/config.toml --output again")?;
    ensure!(world.read("again/model.safetensors")? == world.read("rm/model.safetensors")?, "another run");
    Ok(())
}

/// Protects: what is wrong with a file is told with its name, the line or the field, and what was expected.
#[test]
fn broken_files_are_told_of() -> Result<()> {
    let world = World::new()?;
    for (name, text, parts) in [
        ("cut.json", "{\"kind\": \"fixed\",\n \"bound\": ", &["cut.json", "line 2"][..]),
        ("list.json", "[\"fixed\"]", &["list.json", "expected an object with \"kind\""]),
        ("empty.json", "", &["empty.json", "expected one JSON object", "line 1"]),
        ("field.json", "{\"kind\": \"fixed\", \"bond\": 3}", &["field.json", "bond", "expected `bound`"]),
        (
            "value.json",
            "{\"kind\": \"fixed\", \"bound\": -3}",
            &["value.json", "bound: found -3", "positive"],
        ),
        ("kind.json", "{\"kind\": \"fixd\"}", &["kind.json", "fixd", "known: combine"]),
        ("none.json", "{\"bound\": 3}", &["none.json", "no \"kind\"", "known kinds: combine"]),
    ] {
        world.write(name, text)?;
        world.refuses(&format!("{TRAIN} --output x --constraint {name}"), parts)?;
    }
    for (text, parts) in [
        ("absent.json", &["--constraint: absent.json", "No such file"][..]),
        ("some/where", &["some/where", "No such file"]),
        ("base", &["base", "is a folder", "JSON file"]),
        ("fixd", &["unknown constraint \"fixd\"", "known: combine"]),
    ] {
        world.refuses(&format!("{TRAIN} --output x --constraint {text}"), parts)?;
    }
    ensure!(!world.path("x").exists(), "a refused run left a folder");
    Ok(())
}
