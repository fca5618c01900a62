//! Studies as users run them: `pcrm study` and `pcrm data world`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use statrs::distribution::{ContinuousCDF, StudentsT};

use crate::binary::{World, send, stderr};

const RECIPE: &str = r#"
title = "A tiny study"
question = "Does it run?"
hypotheses = ["It does."]
primary = { figure = "ppo/truth@1", words = "true reward at 1 nat" }
baseline = "bt"
automatic = "fixed 1"
worlds = ["dialogue"]
[full]
seeds = 3
pairs = 90
answers = 2
[quick]
seeds = 1
pairs = 60
answers = 1
[options]
sft = { epochs = 1, learning-rate = 2e-3 }
reward = { max-steps = 4, learning-rate = 1e-3 }
dpo = { max-steps = 3, learning-rate = 1e-3 }
best-of-n = { n = 2, temperature = 0.7, max-tokens = 8 }
[options.ppo]
max-steps = 4
epochs = 9
batch = 8
num-mini-batches = 1
learning-rate = 3e-3
max-completion-length = 8
eval-every = 1
save-every = 1
[[arm]]
name = "bt"
reward = { constraint = "none" }
[[arm]]
name = "mean"
mean-of = 2
reward = { constraint = "none" }
[[arm]]
name = "least"
minimum-of = "mean"
[[arm]]
name = "dpo"
dpo = { constraint = { kind = "fixed", bound = 1 } }
[[arm]]
name = "tomorrow"
reward = { time-travel = true }
optional = true
[[grid]]
name = "fixed {bound}"
values = { bound = [0.5, 1] }
reward = { constraint = { kind = "fixed", bound = "{bound}" } }
[[follow]]
name = "best"
verb = "best-of-n"
[[follow]]
name = "ppo"
verb = "ppo"
options = { kl-coef = 0.005 }
kl = [1]
arms = ["bt", "least", "fixed 1"]
"#;

/// The files of a study for readers.
const SHOWN: [&str; 3] = ["study.json", "report.md", "report.html"];

/// Starts the study, ends it after this many of its runs, and returns its exit code.
fn ended_after(world: &World, runs: usize, signal: &str) -> Result<Option<i32>> {
    let child = world.command("study tiny.toml --jobs 2 --output killed")?.spawn()?;
    let began = Instant::now();
    let marks = world.path("killed/jobs/dialogue");
    let done = || {
        let seeds = std::fs::read_dir(&marks).into_iter().flatten().flatten();
        let files = seeds.filter_map(|seed| std::fs::read_dir(seed.path()).ok()).flatten().flatten();
        files.filter(|file| file.file_name().to_string_lossy().ends_with(".done.json")).count()
    };
    while done() < runs {
        ensure!(began.elapsed() < Duration::from_secs(120), "{runs} runs were not done in two minutes");
        std::thread::sleep(Duration::from_millis(5));
    }
    send(signal, &child)?;
    let output = child.wait_with_output()?;
    if signal == "INT" {
        ensure!(stderr(&output).contains("rerun the same command to continue"), "{}", stderr(&output));
    }
    Ok(output.status.code())
}

/// Protects: a study prints its question first, runs everything, and skips and reports the arms this program
/// does not support. Killed or interrupted, it continues with the same command and ends with identical files;
/// a finished one runs nothing. Every number in its tables follows from its results.
#[test]
fn a_study_is_killed_and_ends_the_same() -> Result<()> {
    let world = World::new()?;
    world.write("tiny.toml", RECIPE)?;
    let command = "study tiny.toml --jobs 2 --output whole";
    let output = world.command(command)?.output()?;
    let said = stderr(&output);
    ensure!(output.status.success(), "{said}");
    let (asked, begun) = (said.find("Primary figure: true reward at 1 nat"), said.find("[1/"));
    ensure!(asked.is_some() && asked < begun, "{said}");
    ensure!(said.contains("tomorrow") && said.contains("time-travel"), "{said}");
    for name in SHOWN {
        ensure!(String::from_utf8(world.read(&format!("whole/{name}"))?)?.contains("tomorrow"), "{name}");
    }
    ensure!(ended_after(&world, 3, "KILL")?.is_none());
    ensure!(ended_after(&world, 16, "INT")? == Some(130));
    let again = world.command("study tiny.toml --jobs 2 --output killed")?.output()?;
    ensure!(again.status.success() && stderr(&again).contains("runs are done"), "{}", stderr(&again));
    for name in SHOWN {
        let same = world.read(&format!("whole/{name}"))? == world.read(&format!("killed/{name}"))?;
        ensure!(same, "{name} differs after a kill");
    }
    let third = world.command(command)?.output()?;
    ensure!(third.stdout == output.stdout && !stderr(&third).contains("[1/"), "{}", stderr(&third));
    tables_follow_from_results(&world)?;
    // Results of other options are not mixed with existing ones.
    world.write("tiny.toml", &RECIPE.replace("max-steps = 3", "max-steps = 2"))?;
    world.refuses(command, &["was run with another --max-steps (3, now 2)", "name another --output"])?;
    world.refuses("study tiny.toml --quick --output whole", &["holds the study \"A tiny study\""])?;
    world.write("mine/notes.txt", "mine").or_else(|_| {
        std::fs::create_dir(world.path("mine"))?;
        world.write("mine/notes.txt", "mine")
    })?;
    world.refuses("study tiny.toml --output mine", &["holds files that no study made"])
}

/// A table of a Markdown report: its caption, columns and rows.
type Table = (String, Vec<String>, Vec<Vec<String>>);

fn tables(text: &str) -> Vec<Table> {
    let cells = |line: &str| -> Vec<String> {
        line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        if line.starts_with("| ---") && at >= 3 {
            let rows =
                lines[at + 1..].iter().take_while(|line| line.starts_with('|')).map(|line| cells(line));
            found.push((lines[at - 3].to_owned(), cells(lines[at - 1]), rows.collect()));
        }
    }
    found
}

/// Recomputes every cell of the tables of means and differences from the results of each seed, with other
/// code.
fn tables_follow_from_results(world: &World) -> Result<()> {
    let study: Value = serde_json::from_slice(&world.read("whole/study.json")?)?;
    let text = String::from_utf8(world.read("whole/report.md")?)?;
    let cells = study["results"]["cells"].as_array().context("cells")?;
    let names: BTreeMap<&str, &str> = BTreeMap::from([
        ("accuracy", "accuracy"),
        ("accuracy by truth", "accuracy_truth"),
        ("log loss", "log_loss"),
        ("log loss, scaled", "log_loss_scaled"),
        ("log loss, true p", "cross_entropy"),
        ("ECE", "ece"),
        ("ECE, scaled", "ece_scaled"),
        ("temperature", "temperature"),
        ("KL per token", "kl_per_token"),
        ("true reward", "truth"),
        ("true reward of the best of 1", "best/truth@1"),
        ("true reward of the best of 2", "best/truth@2"),
        ("true reward of the best of all", "best/truth"),
        ("true reward at 1 nats", "ppo/truth@1"),
        ("true reward at the end", "ppo/truth"),
        ("KL at the end, nats", "ppo/kl"),
        ("tokens at the end", "ppo/length"),
        ("win rate by truth over where it began", "ppo/win_rate"),
    ]);
    let by_seed = |arm: &str, figure: &str| -> BTreeMap<u64, f64> {
        let own = cells.iter().filter(|cell| cell["arm"] == arm);
        own.filter_map(|cell| Some((cell["seed"].as_u64()?, cell["figures"][figure].as_f64()?))).collect()
    };
    let number = |value: f64, sign: bool| {
        let text = format!("{:.3}", value.abs());
        let minus = value < 0.0 && !text.trim_matches(['0', '.']).is_empty();
        format!(
            "{}{text}",
            if minus {
                "−"
            } else if sign {
                "+"
            } else {
                ""
            }
        )
    };
    let mut checked = 0;
    let of_figures =
        |caption: &str| caption.ends_with("means over seeds") || caption.ends_with("seed by seed");
    for (caption, columns, rows) in tables(&text).into_iter().filter(|(caption, ..)| of_figures(caption)) {
        let follow = if caption.contains(", ppo:") { "ppo" } else { "best" };
        for row in rows {
            for (column, shown) in columns.iter().zip(&row).skip(1) {
                let figure = match column.as_str() {
                    "score at the end" => format!("{follow}/proxy"),
                    known => match names.get(known) {
                        Some(figure) => (*figure).to_owned(),
                        None => continue,
                    },
                };
                let own = by_seed(&row[0], &figure);
                let expected = if caption.ends_with("means over seeds") {
                    let without =
                        cells.iter().filter(|cell| cell["arm"] == row[0].as_str()).count() - own.len();
                    let mean = own.values().sum::<f64>() / own.len() as f64;
                    match (own.len(), without) {
                        (0, _) => "–".to_owned(),
                        (_, 0) => number(mean, false),
                        (_, without) => format!("{} ({without} without)", number(mean, false)),
                    }
                } else {
                    let base = by_seed("bt", &figure);
                    let apart: Vec<f64> =
                        own.iter().filter_map(|(seed, value)| Some(value - base.get(seed)?)).collect();
                    difference(&apart, &number)?
                };
                ensure!(
                    *shown == expected,
                    "{caption}, {}, {column}: {shown}, from the results {expected}",
                    row[0]
                );
                checked += 1;
            }
        }
    }
    ensure!(checked > 60, "only {checked} cells were checked");
    Ok(())
}

/// Formats a mean difference with Student's interval, computed from the formula.
fn difference(apart: &[f64], number: &dyn Fn(f64, bool) -> String) -> Result<String> {
    let n = apart.len() as f64;
    let mean = apart.iter().sum::<f64>() / n;
    if apart.is_empty() {
        return Ok("–".to_owned());
    }
    if apart.len() < 3 || apart.iter().all(|value| *value == apart[0]) {
        return Ok(number(mean, true));
    }
    let deviation = (apart.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
    let half = StudentsT::new(0.0, 1.0, n - 1.0)?.inverse_cdf(0.975) * deviation / n.sqrt();
    let star = if mean.abs() > half { " *" } else { "" };
    Ok(format!("{} [{}, {}]{star}", number(mean, true), number(mean - half, true), number(mean + half, true)))
}

/// Protects: all runs of a study read the commit of a model of the Hub that the study began with, and the study
/// records it: a branch that moves between two calls does not mix two models in one report.
#[test]
fn a_study_keeps_the_commit_of_its_model() -> Result<()> {
    const RECIPE: &str = r#"
title = "On the Hub"
question = "Which commit?"
hypotheses = ["The first one."]
primary = { figure = "log_loss", words = "log loss" }
baseline = "bt"
worlds = ["questions"]
full = { seeds = 2, pairs = 60, answers = 1 }
quick = { seeds = 1, pairs = 60, answers = 1 }
[[arm]]
name = "bt"
reward = { constraint = "none", max-steps = 1 }
[[arm]]
name = "fixed"
reward = { constraint = "fixed", max-steps = 1 }
"#;
    let world = World::new()?;
    world.write("hub.toml", RECIPE)?;
    let cached = world.path("hf/hub/models--acme--nano");
    let (first, second) = ("a".repeat(40), "b".repeat(40));
    for commit in [&first, &second] {
        let folder = cached.join("snapshots").join(commit);
        std::fs::create_dir_all(&folder)?;
        for entry in std::fs::read_dir(world.path("base"))? {
            let entry = entry?;
            std::fs::copy(entry.path(), folder.join(entry.file_name()))?;
        }
    }
    std::fs::create_dir(cached.join("refs"))?;
    let run = |seeds: u64, main: &str| -> Result<Value> {
        std::fs::write(cached.join("refs/main"), main)?;
        let study = "study hub.toml --data train.jsonl --model acme/nano --output out --seeds";
        let mut command = world.command(&format!("{study} {seeds}"))?;
        command.env("HF_HUB_OFFLINE", "1").env("HF_HOME", world.path("hf")).env_remove("HF_HUB_CACHE");
        let output = command.output()?;
        ensure!(output.status.success(), "{}", stderr(&output));
        let record = serde_json::from_slice::<Value>(&world.read("out/study-options.json")?)?;
        ensure!(record["inputs"]["--model acme/nano"] == format!("commit {first}"), "{record}");
        let place = format!("out/train/seed-{}/rm-bt/manifest.json", seeds - 1);
        Ok(serde_json::from_slice(&world.read(&place)?)?)
    };
    for (seeds, main) in [(1, &first), (2, &second)] {
        let manifest = run(seeds, main)?;
        ensure!(manifest["model"].as_str().is_some_and(|model| model.contains(&first)), "{manifest}");
    }
    Ok(())
}

/// Protects: mistakes in a recipe and in the options of its runs are found before anything runs, and named by
/// file, arm and option; built-in studies are listed and shown, and their options are valid.
#[test]
fn mistakes_are_found_before_anything_runs() -> Result<()> {
    let world = World::new()?;
    let refuses = |from: &str, to: &str, parts: &[&str]| {
        ensure!(RECIPE.contains(from), "{from}");
        world.write("bad.toml", &RECIPE.replace(from, to))?;
        world.refuses("study bad.toml --output bad", parts)?;
        ensure!(!world.path("bad").exists(), "a refused study left a folder");
        Ok(())
    };
    refuses("titles", "x", &[]).err().context("no such text")?;
    refuses("title =", "titel =", &["bad.toml", "line 2", "unknown field `titel`"])?;
    refuses(
        "batch = 8",
        "bach = 8",
        &["bad.toml: ppo, arm \"bt\"", "unknown option \"bach\"", "did you mean batch"],
    )?;
    refuses("max-steps = 3", "max-steps = \"many\"", &["bad.toml: dpo, arm \"dpo\"", "many", "--max-steps"])?;
    world.refuses(
        "study nowhere --output bad",
        &["nowhere: neither a built-in study nor a file", "ablation"],
    )?;
    world.refuses("study ablation", &["--output"])?;
    let listed = world.run("study --list")?;
    for name in ["ablation", "sensitivity", "dpo", "strength", "domains", "over-optimisation"] {
        ensure!(listed.contains(&format!("{name}: ")), "{listed}");
        let shown = world.run(&format!("study --show {name}"))?;
        world.write(&format!("{name}.toml"), &shown)?;
        for quick in ["", "--quick"] {
            let plan = world.run(&format!("study {name}.toml {quick} --plan"))?;
            ensure!(plan.contains("seed-2/") && plan.contains("Hypothesis 1: "), "{plan}");
        }
    }
    Ok(())
}

/// Protects: a generated world has pairs of known truth, prompts that training never sees and a base model;
/// the list of worlds shows how similarity relates to preference strength.
#[test]
fn worlds_are_written_whole() -> Result<()> {
    let world = World::new()?;
    world.run("data world --name code --pairs 90 --answers 3 --seed 4 --output code")?;
    let (train, test) = (world.lines("code/train.jsonl")?, world.lines("code/test.jsonl")?);
    ensure!((train.len(), test.len(), world.lines("code/calibration.jsonl")?.len()) == (90, 20, 10));
    let asked = world.lines("code/asked.jsonl")?;
    ensure!(world.lines("code/prompts.jsonl")?.len() == 3 * asked.len());
    ensure!(asked.iter().all(|row| train.iter().all(|pair| pair["prompt"] != row["prompt"])));
    world.run("reward --model code/base --data code/train.jsonl --max-steps 1 --output rm")?;
    world.refuses(
        "data world --name moon --output moon",
        &["--name moon", "expected one of questions, dialogue"],
    )?;
    let listed = world.run("data world --list")?;
    ensure!(listed.contains("similarity in length carries preference strength ("), "{listed}");
    ensure!(listed.contains("similarity in length carries almost no preference strength"), "{listed}");
    Ok(())
}
