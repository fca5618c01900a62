//! Constraints compared over seeds: `pcrm compare` and `pcrm eval comparisons`.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::binary::{World, stderr};

const COMPARE: &str = "compare --model base --data train.jsonl --eval-split 0.3 --max-steps 6 --batch 8 \
    --learning-rate 1e-3 --constraint none --constraint 'tight={\"kind\": \"fixed\", \"bound\": 0.5}'";

fn comparison(world: &World, dir: &str) -> Result<Value> {
    Ok(serde_json::from_slice(&world.read(&format!("{dir}/comparison.json"))?)?)
}

/// Protects: every arm is trained with every seed as `pcrm reward` with the same options would train it, and
/// measured as `pcrm eval reward` would measure it; a second call trains nothing and prints the same.
#[test]
fn arms_are_runs_of_their_own() -> Result<()> {
    let world = World::new()?;
    let command = format!("{COMPARE} --seed 3 --seeds 2 --output cmp");
    let first = world.command(&command)?.output()?;
    ensure!(first.status.success(), "{}", stderr(&first));
    let text = String::from_utf8(first.stdout.clone())?;
    ensure!(text.contains("tight") && text.contains("beyond bound") && text.contains("difference"), "{text}");
    // Two seeds are too few for statistics: no interval, no star, no axis scaled to rounding errors.
    ensure!(text.contains("intervals need at least 3"), "{text}");
    ensure!(!text.contains('±') && !text.contains("95 %") && !text.contains("−0.0 %"), "{text}");
    let page = String::from_utf8(world.read("cmp/report.html")?)?.replace('\u{a0}', " ");
    ensure!(!page.contains("e-8 %") && !page.contains("95 % interval") && !page.contains("−0.0 %"), "{page}");
    ensure!(page.contains("higher is better") && page.contains("a seed"), "{page}");
    let whole = comparison(&world, "cmp")?;
    let runs = whole["runs"].as_array().context("runs")?;
    let named: Vec<String> = runs.iter().map(|run| format!("{}-{}", run["label"], run["seed"])).collect();
    ensure!(named == ["\"none\"-3", "\"tight\"-3", "\"none\"-4", "\"tight\"-4"], "{named:?}");
    ensure!(runs[0]["pairs"] != 0 && runs[0]["measures"]["log_loss"] != runs[2]["measures"]["log_loss"]);
    let again = world.command(&command)?.output()?;
    ensure!(again.stdout == first.stdout, "{}", String::from_utf8_lossy(&again.stdout));
    ensure!(stderr(&again).matches("already measured").count() == 4, "{}", stderr(&again));
    // The run's own config reproduces its model.
    world.run("reward --config cmp/tight-4/config.toml --output same")?;
    ensure!(
        world.read("same/model.safetensors")? == world.read("cmp/tight-4/model.safetensors")?,
        "config.toml trains a different model"
    );
    // Results of other options are not mixed with existing ones.
    world.refuses(&format!("{command} --batch 4"), &["cmp/none-3", "was measured with another", "--output"])
}

/// Protects: comparisons with the same arms are combined into one with more seeds, and other arms are refused. Known
/// probabilities are read from their column and used to measure; measures against another column are not reused.
#[test]
fn comparisons_are_put_together() -> Result<()> {
    let world = World::new()?;
    for seed in [0, 1] {
        world.run(&format!("--quiet {COMPARE} --seed {seed} --seeds 1 --output part-{seed}"))?;
    }
    let text = world.run("eval comparisons part-0 part-1 --output both")?;
    ensure!(text.contains("2 seeds"), "{text}");
    let runs = comparison(&world, "both")?["runs"].as_array().map(Vec::len);
    ensure!(runs == Some(4), "{runs:?}");
    world.run(&format!("--quiet {COMPARE} --seed 2 --seeds 1 --output part-2"))?;
    let text = world.run("eval comparisons part-0 part-1 part-2 --output three")?;
    let joined = text.split_whitespace().collect::<Vec<_>>().join(" ");
    ensure!(
        joined.contains("95 % intervals over seeds (Student's t)") && joined.contains("difference"),
        "{text}"
    );
    ensure!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    world.run(&format!(
        "--quiet {} --seeds 1 --output other",
        COMPARE.replace("--constraint none", "--constraint length_ratio")
    ))?;
    world.refuses(
        "eval comparisons part-0 other --output x",
        &["tight in common", "expected at least two", "length_ratio, none"],
    )?;
    let known =
        "compare --model base --data train.jsonl --eval-data test.jsonl --max-steps 2 --seeds 1 --output p";
    world.refuses(&format!("{known} --probability-field row"), &["test.jsonl:", "row", "from 0 to 1"])?;
    world.refuses(
        &format!("{known} --probability-field p"),
        &["test.jsonl:", "\"p\"", "--probability-field"],
    )?;
    ensure!(!world.path("p").exists(), "something was trained");
    let test = String::from_utf8(world.read("test.jsonl")?)?.replace("\"row\"", "\"p\": 0.75, \"row\"");
    world.write("test.jsonl", &test)?;
    world.run(&format!("{known} --probability-field p"))?;
    let entropy = comparison(&world, "p")?["runs"][0]["measures"]["cross_entropy"].as_f64();
    ensure!(entropy.is_some_and(|nats| nats > 0.562_335), "{entropy:?}: less than the entropy of 0.75");
    world.write("test.jsonl", &test.replace("\"p\": 0.75", "\"p\": 0.75, \"q\": 0.25"))?;
    let known = known.replace("--output p", "--output q");
    world.run(&format!("{known} --probability-field p"))?;
    for (options, now) in [("--probability-field q", "now \"q\""), ("", "now null")] {
        world.refuses(
            &format!("{known} {options}"),
            &["was measured with another --probability-field (\"p\"", now, "name another --output"],
        )?;
    }
    // Losses against two columns are not put into one table.
    let other = known.replace("--output q", "--output r");
    world.run(&format!("{other} --seed 1 --probability-field q"))?;
    world.refuses(
        "eval comparisons q r --output x",
        &["q and r were measured against", "(\"p\" and \"q\")", "one --probability-field"],
    )
}

/// Protects: a pair is measured against the probability of its own record, also where records share a line, and
/// the column of probabilities is not called unread.
#[test]
fn probabilities_are_those_of_their_records() -> Result<()> {
    let world = World::new()?;
    let mut lines = world.lines("test.jsonl")?;
    for (at, line) in lines.iter_mut().enumerate() {
        line["p"] = (0.55 + 0.4 * (at % 7) as f64 / 6.0).into();
    }
    world.write("p.jsonl", &lines.iter().map(|line| format!("{line}\n")).collect::<String>())?;
    world.write("p.json", &Value::Array(lines).to_string())?;
    let mut measured = Vec::new();
    for data in ["p.jsonl", "p.json"] {
        let compare = format!(
            "compare --model base --data train.jsonl --eval-data {data} --max-steps 2 --seeds 1 \
             --constraint none --constraint length_ratio --probability-field p --output of-{data}"
        );
        let output = world.command(&compare)?.output()?;
        ensure!(output.status.success(), "{}", stderr(&output));
        let said = stderr(&output);
        let of_file = |line: &str| line.contains(&format!("{data} (")) && line.ends_with("; not read: row");
        ensure!(said.lines().any(of_file), "{said}");
        measured.push(comparison(&world, &format!("of-{data}"))?["runs"][0]["measures"].clone());
    }
    ensure!(measured[0]["cross_entropy"].is_f64(), "{}", measured[0]);
    ensure!(measured[0] == measured[1], "{} and {}", measured[0], measured[1]);
    Ok(())
}

/// Protects: impossible comparisons are refused before anything is trained.
#[test]
fn nothing_to_compare_is_told() -> Result<()> {
    let world = World::new()?;
    let base = "compare --model base --data train.jsonl --output x";
    for (options, parts) in [
        ("", &["--eval-split or --eval-data"][..]),
        ("--eval-split 0.2 --constraint none", &["at least two"]),
        ("--eval-split 0.2 --constraint fixed --constraint fixed", &["two are called \"fixed\""]),
        (
            "--eval-split 0.2 --constraint none --constraint a=fixd",
            &["a=fixd", "unknown constraint", "known: "],
        ),
        ("--eval-split 0.2 --seeds 0", &["--seeds"]),
    ] {
        world.refuses(&format!("{base} {options}"), parts)?;
    }
    ensure!(!world.path("x").exists(), "something was written");
    Ok(())
}
