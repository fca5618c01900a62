//! Constraints as users meet them: in files, and in `pcrm constraint`.

use anyhow::{Context, Result, ensure};
use pcrm_core::constraint;
use pcrm_core::registry::{self, ConstraintPlugin};
use serde_json::{Value, json};

use crate::binary::{World, stderr};
use crate::support::beside;

const TRAIN: &str = "reward --model base --data train.jsonl --batch 8 --max-steps 4 --save-every 2";
const TIGHT: &str = "{\n  \"kind\": \"length_ratio\",\n  \"beta1\": 10,\n  \"beta3\": -5\n}\n";

/// Protects: every option that takes a constraint also takes a file that holds one, and the file's content is
/// saved.
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
    let result: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(result["pairs"]["constraint"]["constraint"]["beta1"] == 10.0, "{}", stderr(&output));
    Ok(())
}

/// Protects: a resumed run keeps its constraint when the file changes or disappears: its own config has the
/// content, and a file with other content is refused.
#[test]
fn a_run_keeps_what_the_file_held() -> Result<()> {
    let world = World::new()?;
    world.write("bound.json", TIGHT)?;
    world.run(&format!("{TRAIN} --constraint bound.json --output rm"))?;
    world.write("bound.json", "{\"kind\": \"fixed\"}")?;
    let resumed = format!("{TRAIN} --constraint bound.json --output rm --resume");
    world.refuses(&resumed, &["constraint", "length_ratio", "fixed"])?;
    // The same constraint in another spelling is the same.
    world.write("bound.json", "{\"beta3\": -5.0, \"beta1\": 10, \"kind\": \"length_ratio\"}")?;
    world.run(&resumed)?;
    std::fs::remove_file(world.path("bound.json"))?;
    world.refuses(&resumed, &["--constraint", "bound.json", "No such file"])?;
    world.run("reward --config rm/config.toml --output again")?;
    ensure!(
        world.read("again/model.safetensors")? == world.read("rm/model.safetensors")?,
        "config.toml trains a different model"
    );
    Ok(())
}

/// Protects: errors in a constraint file name the file, the line or field, and the expected value.
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
        ("kind.json", "{\"kind\": \"fixd\"}", &["kind.json", "fixd", "known: calibrated, combine"]),
        ("none.json", "{\"bound\": 3}", &["none.json", "no \"kind\"", "known kinds: calibrated, combine"]),
    ] {
        world.write(name, text)?;
        world.refuses(&format!("{TRAIN} --output x --constraint {name}"), parts)?;
    }
    for (text, parts) in [
        ("absent.json", &["--constraint: absent.json", "No such file"][..]),
        ("some/where", &["some/where", "No such file"]),
        ("base", &["base", "is a folder", "JSON file"]),
        ("fixd", &["unknown constraint \"fixd\"", "known: calibrated, combine"]),
    ] {
        world.refuses(&format!("{TRAIN} --output x --constraint {text}"), parts)?;
    }
    ensure!(!world.path("x").exists(), "a refused run left a folder");
    Ok(())
}

/// Protects: every kind is listed with its formula and defaults, as text within 80 columns and as JSON.
#[test]
fn kinds_are_listed_with_their_defaults() -> Result<()> {
    let world = World::new()?;
    let listed: Value = serde_json::from_str(&world.run("constraint list --json")?)?;
    let listed = listed.as_array().context("a list")?;
    let kinds: Vec<&str> = registry::all::<ConstraintPlugin>().iter().map(|plugin| plugin.name).collect();
    ensure!(
        listed.iter().map(|result| result["kind"].as_str()).eq(kinds.iter().copied().map(Some)),
        "{listed:?}"
    );
    let text = world.run("constraint list")?;
    for (result, kind) in listed.iter().zip(kinds) {
        let tagged = constraint::parse(kind)?.to_tagged()?;
        ensure!(result["defaults"] == tagged && result["formula"].is_string(), "{result}");
        ensure!(text.lines().any(|line| line.starts_with(kind)), "{kind} is not in\n{text}");
    }
    ensure!(text.contains("beta1 20, beta2 0.001, beta3 −15"), "{text}");
    check_width(&text)
}

/// Protects: a kind, JSON or a file is explained as a table, as JSON and as a curve, with the Δ* of the
/// formula.
#[test]
fn a_constraint_is_explained() -> Result<()> {
    let world = World::new()?;
    world.write("tight.json", TIGHT)?;
    let result: Value = serde_json::from_str(&world.run("constraint explain tight.json --json")?)?;
    let bounds = result["bounds"].as_array().context("bounds")?;
    ensure!(bounds.len() == 11 && result["constraint"]["beta1"] == 10.0, "{result}");
    for (tenth, at) in bounds.iter().enumerate() {
        let s = tenth as f64 / 10.0;
        let bound = 10.0 / (s + 0.001) - 5.0;
        let probability = 1.0 / (1.0 + (-bound / 2.0).exp());
        let off = |name: &str, value: f64| {
            at[name].as_f64().map_or(f64::MAX, |result| (result / value - 1.0).abs())
        };
        ensure!(off("bound", bound) < 1e-6 && off("probability", probability) < 1e-6, "s = {s}: {at}");
    }
    let text = world.run("constraint explain tight.json")?;
    for part in [
        "beta1 10 ",
        "how fast the bound loosens",
        "0.5   15.0        0.999",
        "1.0   4.99        0.924",
        "Below s = 0.54",
    ] {
        ensure!(text.contains(part), "{part:?} is not in\n{text}");
    }
    ensure!(
        text.chars().filter(|c| ('\u{2801}'..='\u{28ff}').contains(c)).count() > 60,
        "no curve in\n{text}"
    );
    check_width(&text)?;

    let fixed = world.run("constraint explain '{\"kind\": \"fixed\", \"bound\": 4}'")?;
    ensure!(fixed.contains("Δ* = 4.00 for every pair, P = σ(Δ*/2) = 0.881"), "{fixed}");
    let random = world.run("constraint explain random")?;
    ensure!(random.contains("low 1 ") && random.contains("Δ* does not depend on a similarity"), "{random}");
    let none = world.run("constraint explain none")?;
    ensure!(none.contains("Bradley-Terry"), "{none}");
    let combine: Value = serde_json::from_str(&world.run("constraint explain combine --json")?)?;
    ensure!(combine["parts"][1]["constraint"]["kind"] == "edit", "{combine}");
    let text = world.run("constraint explain combine")?;
    ensure!(text.contains("combine: part 1, edit") && text.contains("s = 1 - edits/longer"), "{text}");
    let schedule = world.run("constraint explain schedule")?;
    ensure!(schedule.contains("factor      2.00  1.80  1.60  1.40  1.20   1.00"), "{schedule}");
    for text in [fixed, random, none, text, schedule] {
        check_width(&text)?;
    }
    Ok(())
}

/// Protects: the page has the plots, the table and the parts, and opens offline; wrong input leaves no page.
#[test]
fn an_explanation_may_be_a_page() -> Result<()> {
    let world = World::new()?;
    world.run("constraint explain combine --report pages")?;
    let page = String::from_utf8(world.read("pages/report.html")?)?;
    ensure!(page.matches("<svg").count() == 4 && page.contains("part 1, edit"), "{page}");
    ensure!(page.contains("19,985") && page.contains("how fast the bound loosens"), "{page}");
    ensure!(page.contains("Where there is no line, Δ* is above 20.0"), "{page}");
    ensure!(!page.contains("<script") && !page.contains("src="), "{page}");
    world.run("constraint explain fixed --report one.html")?;
    ensure!(world.path("one.html").is_file(), "no page");
    world.refuses(
        "constraint explain fixd --report x",
        &["unknown constraint \"fixd\"", "known: calibrated, combine"],
    )?;
    world.refuses("constraint explain x.json --report x", &["x.json", "No such file"])?;
    world.refuses(
        "constraint explain '{\"kind\": \"fixed\", \"bound\": 0}'",
        &["bound: found 0", "positive"],
    )?;
    ensure!(!world.path("x").exists(), "a refusal left a page");
    Ok(())
}

/// Protects: s, Δ* and P of every pair follow the formula, with the pair's file and line, and so do the
/// deciles.
#[test]
fn bounds_of_data_are_told_pair_by_pair() -> Result<()> {
    let world = World::new()?;
    let command = "constraint bounds --model base --data train.jsonl --constraint length_ratio";
    let text = world.run(&format!("{command} --output bounds.jsonl"))?;
    check_width(&text)?;
    let rows = world.lines("bounds.jsonl")?;
    ensure!(rows.len() == 240, "{} rows", rows.len());
    for (at, row) in rows.iter().enumerate() {
        ensure!(row["file"] == "train.jsonl" && row["line"] == at + 1, "{row}");
        let of = |name: &str| row[name].as_f64().unwrap_or(f64::NAN);
        let bound = 20.0 / (of("s") + 0.001) - 15.0;
        ensure!((of("bound") / bound - 1.0).abs() < 1e-5, "{row}");
        ensure!((of("probability") - 1.0 / (1.0 + (-bound / 2.0).exp())).abs() < 1e-5, "{row}");
    }
    let result: Value = serde_json::from_str(&world.run(&format!("{command} --json"))?)?;
    let mut sorted: Vec<f64> = rows.iter().filter_map(|row| row["s"].as_f64()).collect();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = (&result["similarity_deciles"][0], &result["similarity_deciles"][10]);
    let close =
        |result: &Value, want: f64| result.as_f64().is_some_and(|result| (result - want).abs() < 1e-6);
    ensure!(close(low, sorted[0]) && close(high, sorted[239]) && result["pairs"] == 240, "{result}");

    let ranked = json!({"prompt": "a", "responses": ["b c d", "c", "d"], "scores": [3, 2, 1]});
    world.write("ranked.jsonl", &format!("{ranked}\n"))?;
    world.run(
        "constraint bounds --model base --data ranked.jsonl --constraint none --output ranked.bounds.jsonl",
    )?;
    let rows = world.lines("ranked.bounds.jsonl")?;
    let places: Vec<_> = rows.iter().map(|row| (row["chosen"].as_u64(), row["rejected"].as_u64())).collect();
    ensure!(places == [(Some(0), Some(1)), (Some(0), Some(2)), (Some(1), Some(2))], "{rows:?}");
    ensure!(
        rows[0]["bound"].is_null() && rows[0]["s"].is_null() && rows[0]["probability"] == 1.0,
        "{rows:?}"
    );
    Ok(())
}

/// Protects: bounds that cannot be computed or written are refused by name and leave no file; a closed pipe
/// is not an error.
#[test]
fn bounds_that_cannot_be_had_are_told_of() -> Result<()> {
    let world = World::new()?;
    let command = "constraint bounds --model base --data train.jsonl --output x.jsonl";
    for (options, parts) in [
        ("--constraint score_gap", &["--constraint", "score_gap", "train.jsonl:1 has no margin"][..]),
        (
            "--constraint '{\"kind\": \"schedule\", \"of\": {\"kind\": \"fixed\", \"bound\": 1e30}, \"from\": 1e20}'",
            &["--constraint", "schedule", "train.jsonl:1 has the bound 1", "is inf; expected a positive"],
        ),
        ("--constraint fixd", &["--constraint", "unknown constraint \"fixd\""]),
        ("--constraint none.json", &["--constraint: none.json", "No such file"]),
        ("--constraint fixed --model absent", &["--model absent"]),
        ("--constraint fixed --data absent.jsonl", &["absent.jsonl"]),
        ("--constraint fixed --max-length 1", &["--max-length 1"]),
        ("--constraint fixed --output x.csv", &["--output", "x.csv", ".jsonl"]),
        ("--constraint fixed --output train.jsonl", &["--output train.jsonl", "is one of --data"]),
    ] {
        world.refuses(&format!("{command} {options}"), parts)?;
        ensure!(!world.path("x.jsonl").exists(), "{options} left a file");
    }
    for verb in ["list", "explain length_ratio", "bounds --model base --data train.jsonl --constraint fixed"]
    {
        let mut child = world.command(&format!("constraint {verb}"))?.spawn()?;
        drop(child.stdout.take());
        ensure!(child.wait()?.success(), "{verb} fails when its reader closes the pipe");
    }
    Ok(())
}

/// Protects: the example of a constraint outside the workspace stays as short as documented and depends only
/// on the core.
#[test]
fn the_example_is_as_short_as_it_says() -> Result<()> {
    let example = beside("../examples/constraint-plugin");
    let code = |name: &str| -> Result<Vec<String>> {
        let text = std::fs::read_to_string(example.join(name)).with_context(|| name.to_owned())?;
        let is_code = |line: &&str| !line.trim().is_empty() && !line.trim().starts_with("//");
        Ok(text.lines().filter(is_code).map(str::to_owned).collect())
    };
    let lines = code("src/lib.rs")?;
    ensure!(lines.len() < 40, "{} lines of code", lines.len());
    let binary = code("pcrm/src/main.rs")?;
    let wanted =
        ["use constraint_plugin as _;", "fn main() -> std::process::ExitCode {", "    pcrm_cli::main()", "}"];
    ensure!(binary == wanted, "{binary:#?}");
    let manifest = code("Cargo.toml")?;
    let dependencies: Vec<&str> = manifest
        .iter()
        .skip_while(|line| *line != "[dependencies]")
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    ensure!(dependencies == ["pcrm-core", "serde"], "{dependencies:?}");
    Ok(())
}

fn check_width(text: &str) -> Result<()> {
    let wide = text.lines().find(|line| line.chars().count() > 80);
    ensure!(wide.is_none(), "wider than 80 columns: {wide:?}");
    Ok(())
}
