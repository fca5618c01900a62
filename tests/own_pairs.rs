//! Studies on the user's own preference files: `pcrm study --data`.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::binary::{World, stderr};

const RECIPE: &str = r#"
title = "My pairs"
question = "Does it run?"
hypotheses = ["It does."]
primary = { figure = "ppo/truth@1", words = "true reward at 1 nat" }
baseline = "bt"
[full]
seeds = 2
[quick]
seeds = 1
[options]
sft = { epochs = 1, learning-rate = 2e-3 }
reward = { epochs = 3, learning-rate = 1e-3 }
dpo = { max-steps = 3, learning-rate = 1e-3 }
[data]
files = ["first.train.jsonl", "second.jsonl[:390]"]
model = "questions/base"
random-init = true
calibration = 0.4
[[arm]]
name = "bt"
reward = { constraint = "none" }
[[arm]]
name = "bt / T"
temperature-of = "bt"
[[arm]]
name = "mean"
mean-of = 2
reward = { constraint = "none" }
[[arm]]
name = "dpo"
dpo = { constraint = { kind = "fixed", bound = 1 } }
[[follow]]
name = "ppo"
verb = "ppo"
kl = [1]
"#;

fn prompts(world: &World, path: &str) -> Result<BTreeSet<String>> {
    Ok(world.lines(path)?.into_iter().map(|line| line["prompt"].to_string()).collect())
}

/// Protects: a study on files measures every model on prompts of that seed that it was not trained on, with the numbers
/// of `pcrm score`. Parts that need a true reward are left out and reported. The same command runs nothing again, and a
/// file or a model that has changed since is refused.
#[test]
fn a_study_runs_on_own_pairs() -> Result<()> {
    let world = World::new()?;
    world.write("tiny.toml", RECIPE)?;
    for (name, file) in [("questions", "first.train.jsonl"), ("dialogue", "second.jsonl")] {
        world.run(&format!("data world --name {name} --pairs 400 --output {name}"))?;
        std::fs::copy(world.path(&format!("{name}/train.jsonl")), world.path(file))?;
    }
    let command = "study tiny.toml --jobs 2 --output own";
    let output = world.command(command)?.output()?;
    let said = stderr(&output);
    ensure!(output.status.success(), "{said}");
    ensure!(said.contains("Primary figure: log loss on held-out pairs, arm minus bt"), "{said}");
    let study: Value = serde_json::from_slice(&world.read("own/study.json")?)?;
    let cells = study["results"]["cells"].as_array().context("cells")?;
    ensure!(cells.len() == 2 * 2 * 3, "{} cells", cells.len());
    let mut held_out = BTreeSet::new();
    for seed in 0..2 {
        let folder = format!("own/first/seed-{seed}");
        let test = prompts(&world, &format!("{folder}/split/held_out.jsonl"))?;
        let calibration = prompts(&world, &format!("{folder}/parts/held_out.jsonl"))?;
        let train = prompts(&world, &format!("{folder}/parts/train.jsonl"))?;
        ensure!(
            test.is_disjoint(&calibration) && test.is_disjoint(&train) && train.is_disjoint(&calibration)
        );
        ensure!(!test.is_empty() && !calibration.is_empty() && held_out.insert(test));
        world.run(&format!(
            "score --model {folder}/rm-bt --data {folder}/split/held_out.jsonl --output scores-{seed}.jsonl"
        ))?;
        let scores = world.lines(&format!("scores-{seed}.jsonl"))?;
        let margin = |row: &Value| Some(row["chosen_score"].as_f64()? - row["rejected_score"].as_f64()?);
        let margins: Vec<f64> =
            scores.iter().map(|row| margin(row).context("scores")).collect::<Result<_>>()?;
        let loss =
            margins.iter().map(|margin| (1.0 + (-margin).exp()).ln()).sum::<f64>() / margins.len() as f64;
        let is_it = |cell: &&Value| cell["arm"] == "bt" && cell["world"] == "first" && cell["seed"] == seed;
        let found = &cells.iter().find(is_it).context("a cell of bt")?["figures"];
        let shown = found["log_loss"].as_f64().context("log_loss")?;
        ensure!((shown - loss).abs() < 1e-6, "{shown}, from the scores {loss}");
        ensure!(found.as_object().context("figures")?.keys().all(|name| !name.contains("truth")), "{found}");
    }
    let text = String::from_utf8(world.read("own/report.md")?)?;
    for part in [
        "ppo, mean: only generated worlds have a true reward",
        "first.train.jsonl; model base",
        "all together",
    ] {
        ensure!(text.contains(part), "{part}: {text}");
    }
    let again = world.command(command)?.output()?;
    ensure!(again.stdout == output.stdout && !stderr(&again).contains("[1/"), "{}", stderr(&again));
    world.refuses("study tiny.toml --quick --output own", &["holds the study \"My pairs\""])?;
    for (option, file) in [
        ("--data second.jsonl[:390]", "second.jsonl"),
        ("--model questions/base", "questions/base/config.json"),
    ] {
        let before = String::from_utf8(world.read(file)?)?;
        world.write(file, &format!("{before}\n"))?;
        let expected = format!("{option}: has changed since this study began; name another --output");
        world.refuses(&format!("{command} --seeds 3"), &[&expected])?;
        world.write(file, &before)?;
    }
    let last = world.command(command)?.output()?;
    ensure!(last.stdout == output.stdout, "{}", stderr(&last));
    Ok(())
}

/// Protects: a study without worlds or files, a missing file or model and options that contradict each other are
/// refused before anything runs.
#[test]
fn wrong_files_are_refused() -> Result<()> {
    let world = World::new()?;
    let (before, data) = RECIPE.split_once("[data]").context("data")?;
    let after = data.split_once("[[arm]]").context("arms")?.1;
    world.write("tiny.toml", &format!("{before}[[arm]]{after}"))?;
    world.write("pairs.jsonl", "{\"prompt\": \"a\", \"chosen\": \"b\", \"rejected\": \"c\"}\n")?;
    let refused = [
        ("study tiny.toml --plan", "has no worlds; expected --data with --model, or --worlds"),
        ("study tiny.toml --plan --data pairs.jsonl", "--model"),
        ("study tiny.toml --plan --model base", "--data"),
        ("study tiny.toml --plan --data none.jsonl --model base", "--data none.jsonl: no such file"),
        ("study tiny.toml --plan --data none.jsonl[:5] --model base", "--data none.jsonl[:5]: no such file"),
        (
            "study tiny.toml --plan --data pairs.jsonl[5] --model base",
            "--data: pairs.jsonl[5]: [5] is not a slice",
        ),
        (
            "study tiny.toml --plan --data org/pairs:train --model base",
            "a study reads local files, such as those",
        ),
        ("study tiny.toml --plan --data pairs.jsonl --model nowhere", "--model nowhere: no such folder"),
        (
            "study tiny.toml --plan --data pairs.jsonl pairs.jsonl --model org/m",
            "another file is called pairs",
        ),
        ("study tiny.toml --plan --data pairs.jsonl --model org/m --worlds questions", "--worlds"),
    ];
    for (command, expected) in refused {
        world.refuses(command, &[expected])?;
    }
    let planned = world.command("study preferences --plan --data pairs.jsonl[:1] --model org/m")?.output()?;
    let listing = String::from_utf8(planned.stdout)?;
    ensure!(
        planned.status.success() && listing.contains("pairs/seed-4/rm-calibrated.measured.json"),
        "{listing}"
    );
    Ok(())
}
