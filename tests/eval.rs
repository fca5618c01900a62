//! `pcrm eval reward` as users meet it: with a model or given scores, cached, compared, on sets of answers.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::binary::{World, stderr};
use crate::support::{check_intervals, shared_data};

const TRAIN: &str = "reward --model base --data train.jsonl --max-steps 12 --batch 8 --learning-rate 1e-3";

fn report(world: &World, options: &str) -> Result<Value> {
    let printed = world.run(&format!("eval reward {options} --bootstrap 50 --json"))?;
    serde_json::from_str(&printed).context("eval reward --json prints no JSON")
}

/// Compares two documents up to the digits that a score loses when written as a decimal.
fn alike(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => {
            a.as_f64().zip(b.as_f64()).is_some_and(|(a, b)| (a - b).abs() < 1e-6)
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| alike(a, b)))
        }
        _ => a == b,
    }
}

fn lines(rows: &[Value]) -> String {
    rows.iter().map(|row| format!("{row}\n")).collect()
}

/// Protects: pairs that repeat others are counted in a warning; data without repeats give none.
#[test]
fn repeated_pairs_are_counted() -> Result<()> {
    let world = World::new()?;
    world.run(&format!("{TRAIN} --output rm"))?;
    let text = String::from_utf8(world.read("test.jsonl")?)?;
    let text = text.trim_end();
    let first = text.lines().next().unwrap_or_default();
    world.write("again.jsonl", &format!("{text}\n{first}\n"))?;
    let said = |data: &str| -> Result<String> {
        let evaluate = format!("eval reward --model rm --data {data} --json --no-report --no-cache");
        let output = world.command(&evaluate)?.output()?;
        ensure!(output.status.success(), "{}", stderr(&output));
        Ok(stderr(&output).split_whitespace().collect::<Vec<_>>().join(" "))
    };
    let found = said("again.jsonl")?;
    ensure!(
        found.contains("1 of 61 pairs repeat an earlier pair") && found.contains("again.jsonl:61"),
        "{found}"
    );
    let found = said("test.jsonl")?;
    ensure!(!found.contains("repeat an earlier pair"), "{found}");
    Ok(())
}

/// Protects: cached scores give the same report; a damaged cache is reported and recomputed.
#[test]
fn scores_are_kept_and_a_damaged_cache_is_not_believed() -> Result<()> {
    let world = World::new()?;
    world.run(&format!("{TRAIN} --output rm"))?;
    let evaluate = |options: &str| -> Result<(String, String)> {
        let output =
            world.command(&format!("eval reward --model rm --data test.jsonl --json {options}"))?.output()?;
        ensure!(output.status.success(), "{}", stderr(&output));
        Ok((String::from_utf8_lossy(&output.stdout).into_owned(), stderr(&output)))
    };
    let (fresh, said) = evaluate("--cache kept")?;
    ensure!(!said.contains("are cached"), "{said}");
    let (again, said) = evaluate("--cache kept")?;
    ensure!(again == fresh && said.contains("60 of 60 are cached"), "{said}");
    ensure!(evaluate("--no-cache")?.0 == fresh, "the cache changes the report");

    let file: Vec<PathBuf> =
        fs::read_dir(world.path("kept"))?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    ensure!(file.len() == 1, "{file:?}");
    let bytes = fs::read(&file[0])?;
    fs::write(&file[0], &bytes[..bytes.len() / 2])?;
    let (mended, said) = evaluate("--cache kept")?;
    ensure!(mended == fresh && said.contains("damaged or cut short"), "{said}");
    ensure!(fs::read(&file[0])? == bytes, "the cache was not repaired");

    // Other weights do not use these cached scores.
    world.run(&format!("{TRAIN} --learning-rate 2e-3 --output other"))?;
    let other = report(&world, "--model other --data test.jsonl --cache kept")?;
    ensure!(other["margins"]["mean"] != serde_json::from_str::<Value>(&fresh)?["margins"]["mean"]);
    Ok(())
}

/// Protects: a file of a model's scores gives the model's figures, and two models compare equally as models
/// and as files.
#[test]
fn given_scores_and_models_say_the_same() -> Result<()> {
    let world = World::new()?;
    world.run(&format!("{TRAIN} --output rm"))?;
    world.run(&format!("{TRAIN} --learning-rate 1e-5 --output weak"))?;
    world.run("score --model rm --data test.jsonl --ids --output rm.jsonl")?;
    world.run("score --model weak --data test.jsonl --ids --output weak.jsonl")?;
    let by_models = report(&world, "--model rm --data test.jsonl --compare weak --no-cache")?;
    let given = report(&world, "--scores rm.jsonl --compare weak.jsonl")?;
    for pointer in
        ["/accuracy", "/log_loss", "/ece", "/length", "/by_similarity", "/compared/comparison/mcnemar"]
    {
        let (model, file) = (by_models.pointer(pointer), given.pointer(pointer));
        let (model, file) = model.zip(file).with_context(|| format!("{pointer} is absent"))?;
        ensure!(alike(model, file), "{pointer}: {model} by models, {file} by files");
    }
    let difference = &by_models["compared"]["comparison"]["differences"]["accuracy"];
    let accuracy = |report: &Value| report["accuracy"]["value"].as_f64();
    ensure!(difference["first"].as_f64() == accuracy(&by_models));
    ensure!(difference["second"].as_f64() == accuracy(&by_models["compared"]["report"]));
    let table = world.run("eval reward --scores rm.jsonl --compare weak.jsonl")?;
    ensure!(table.lines().all(|line| line.chars().count() <= 80), "{table}");

    world.write("bad.jsonl", "{\"score_chosen\": 1, \"score_rejected\": 0}\n{\"score_chosen\": 1}\n")?;
    world.refuses("eval reward --scores bad.jsonl", &["bad.jsonl:2", "no scores (keys: score_chosen)"])?;
    world.refuses("eval reward --scores rm.jsonl --compare weak", &["weak", "is a folder"])?;
    world.refuses("eval reward --scores rm.jsonl --model rm", &["--scores", "--model"])?;
    world.refuses("eval reward", &["--model"])?;
    world.refuses(
        "eval reward --scores rm.jsonl --subset-field topic",
        &["rm.jsonl:1", "no \"topic\"", "--subset-field"],
    )
}

/// Protects: a JSON array on one line, as `json.dump` writes it, gives the figures of the same JSON lines: its
/// records keep their subsets, and match the rows that `pcrm score` wrote.
#[test]
fn records_on_one_line_keep_their_columns() -> Result<()> {
    let world = World::new()?;
    world.run(&format!("{TRAIN} --output rm"))?;
    let mut rows = world.lines("test.jsonl")?;
    for (at, row) in rows.iter_mut().enumerate() {
        row["topic"] = ["sea", "road"][at % 2].into();
    }
    world.write("rows.jsonl", &lines(&rows))?;
    world.write("rows.json", &Value::from(rows).to_string())?;
    world.run("score --model rm --data rows.json --output scored.jsonl")?;
    let of = |data: &str| {
        let options = "--subset-field topic --compare scored.jsonl --no-cache";
        report(&world, &format!("--model rm --data {data} {options}"))
    };
    let (spread, joined) = (of("rows.jsonl")?, of("rows.json")?);
    ensure!(joined["subsets"].as_array().map(Vec::len) == Some(2), "{}", joined["subsets"]);
    for pointer in ["/accuracy", "/subsets", "/compared/comparison/mcnemar"] {
        let (lines, array) = (spread.pointer(pointer), joined.pointer(pointer));
        let (lines, array) = lines.zip(array).with_context(|| format!("{pointer} is absent"))?;
        ensure!(alike(lines, array), "{pointer}: {lines} of lines, {array} of an array");
    }
    Ok(())
}

/// Protects: rows without ids are compared by their number in the data, in which broken records count: each with
/// itself, in every file and subset. A record with several pairs is compared pair by pair.
#[test]
fn rows_are_compared_with_themselves() -> Result<()> {
    let world = World::new()?;
    world.run(&format!("{TRAIN} --output rm"))?;
    world.run(&format!("{TRAIN} --learning-rate 1e-5 --output weak"))?;
    let mut rows = world.lines("test.jsonl")?;
    for (at, row) in rows.iter_mut().enumerate() {
        row["topic"] = ["sea", "road"][at % 2].into();
    }
    world.write("first.jsonl", &format!("{}{{broken\n{}{{cut", lines(&rows[..4]), lines(&rows[4..20])))?;
    world.write("second.jsonl", &lines(&rows[20..]))?;
    let data = "--data first.jsonl second.jsonl";
    world.run(&format!("score --model rm {data} --output scored.jsonl"))?;
    ensure!(world.lines("scored.jsonl")?.len() == 62, "not every record has a line");
    let own =
        report(&world, &format!("--model rm {data} --subset-field topic --compare scored.jsonl --no-cache"))?;
    ensure!(own["pairs"] == 60, "{}", own["pairs"]);
    for pointer in ["/accuracy", "/log_loss", "/subsets", "/margins", "/scores"] {
        let other = own.pointer(&format!("/compared/report{pointer}"));
        let (model, file) =
            own.pointer(pointer).zip(other).with_context(|| format!("{pointer} is absent"))?;
        ensure!(alike(model, file), "{pointer}: {model} by the model, {file} by its file");
    }

    let answers = |at: usize| {
        let text = |good: usize| format!(" the sea{} {at}.", " good".repeat(good));
        let answer = |good: usize| json!({"response": text(good), "overall_score": good});
        json!({"instruction": format!("What is {at}?"), "completions": [answer(0), answer(1), answer(2), answer(3)]})
    };
    world.write("ranked.jsonl", &lines(&(0..8).map(answers).collect::<Vec<_>>()))?;
    let weak = report(&world, "--model weak --data ranked.jsonl --no-cache")?;
    let both = report(&world, "--model rm --data ranked.jsonl --compare weak --no-cache")?;
    let compared = &both["compared"]["report"];
    ensure!(both["pairs"] == 48 && compared["pairs"] == 48, "{} and {}", both["pairs"], compared["pairs"]);
    ensure!(alike(&compared["log_loss"], &weak["log_loss"]), "{compared}");
    Ok(())
}

/// Protects: broken records among sets of answers are counted as left out and refused by `--strict`, and a file that
/// cannot be read to its end is refused.
#[test]
fn broken_sets_of_answers_are_said() -> Result<()> {
    let world = World::new()?;
    world.run(&format!("{TRAIN} --output rm"))?;
    let set = |at: usize| {
        let rejected = [" a road.", " it."];
        json!({"prompt": format!("What is {at}?"), "chosen": [" the sea good."], "rejected": rejected})
    };
    let rows = lines(&(0..12).map(set).collect::<Vec<_>>());
    world.write("bench.jsonl", &format!("{rows}{{broken\n{{broken\n"))?;
    let found = report(&world, "--model rm --data bench.jsonl --no-cache")?;
    let warned = found["warnings"].to_string();
    ensure!(
        warned.contains("12 of 14 sets of answers are kept; 2 are left out (first: bench.jsonl:13"),
        "{found}"
    );
    world
        .refuses("eval reward --model rm --data bench.jsonl --strict", &["bench.jsonl:13", "broken JSON"])?;
    let whole = format!("[{}]", rows.trim_end().replace('\n', ", "));
    world.write("cut.json", &whole[..whole.len() - 40])?;
    world.refuses("eval reward --model rm --data cut.json", &["cut.json"])
}

/// Protects: benchmarks with lists of answers and human scores of single answers are scored by a model and
/// measured.
#[test]
fn sets_of_answers_are_scored_and_measured() -> Result<()> {
    let world = World::new()?;
    world.run(&format!("{TRAIN} --max-steps 40 --output rm"))?;
    let right = |at: usize| format!(" the sea and rain {} good good.", "x".repeat(at % 3));
    let bench = |subset: &str, id: String, right: Vec<String>, at: usize| {
        let wrong: Vec<String> = (0..3).map(|other| format!(" a road and my cat {}.", at + other)).collect();
        json!({"id": id, "subset": subset, "prompt": "What?", "chosen": right, "rejected": wrong})
    };
    let mut rows = Vec::new();
    for at in 0..4 {
        for subset in ["Factuality", "Precise IF", "Math", "Safety", "Focus"] {
            rows.push(bench(subset, at.to_string(), vec![right(at)], at));
        }
        rows.push(bench("Ties", format!("ref:{at}"), vec![right(0)], at));
        rows.push(bench("Ties", format!("tied:{at}"), vec![right(0), right(1)], at));
    }
    world.write("bench.jsonl", &lines(&rows))?;
    let bench = report(&world, "--model rm --data bench.jsonl --no-cache")?;
    ensure!(bench["reward_bench_2"]["score"].as_f64() > Some(0.7), "{}", bench["reward_bench_2"]);
    ensure!(bench["best_of_n"]["prompts"] == 28, "{}", bench["best_of_n"]);
    ensure!(bench["subsets"].as_array().map(Vec::len) == Some(6), "{}", bench["subsets"]);

    let rated: Vec<Value> = (0..12)
        .map(|at| {
            let text = format!("the sea{}", " good".repeat(at % 4));
            json!({"source": format!("q{}", at / 4), "system_output": text, "scores": {"overall": at % 4}})
        })
        .collect();
    world.write("rated.json", &Value::from(rated).to_string())?;
    let rated = report(&world, "--model rm --data rated.json --human-field /scores/overall --no-cache")?;
    ensure!(rated["human"]["prompts"] == 3 && rated["human"]["answers"] == 12, "{}", rated["human"]);
    ensure!(rated["pairs"] == 18, "three prompts with four answers have 18 pairs, found {}", rated["pairs"]);
    let table = world.run("eval reward --model rm --data bench.jsonl --no-cache")?;
    ensure!(
        table.lines().all(|line| line.chars().count() <= 80) && table.contains("RewardBench 2"),
        "{table}"
    );
    Ok(())
}

/// Protects: rated answers of which each prompt has one form no pairs. They are correlated with the human scores, for a
/// model and for given scores, and terminal and page say why there is no more.
#[test]
fn ratings_without_pairs_are_correlated() -> Result<()> {
    let world = World::new()?;
    let why = "No prompt has two answers with different human scores";
    // Spearman's ρ is 1 − 6·4 / (6·35).
    let human = [0.0, 2.0, 1.0, 3.0, 5.0, 4.0];
    let scored = |of: &dyn Fn(usize) -> f64| {
        let row = |at: usize| json!({"prompt": format!("q{at}"), "score": of(at), "human_score": human[at]});
        lines(&(0..6).map(row).collect::<Vec<_>>())
    };
    world.write("a.jsonl", &scored(&|at| at as f64))?;
    world.write("b.jsonl", &scored(&|at| human[at]))?;
    let alone = report(&world, "--scores a.jsonl")?;
    let rho = |report: &Value| report["human"]["pooled"]["spearman"]["value"].as_f64();
    ensure!(rho(&alone).is_some_and(|rho| (rho - (1.0 - 24.0 / 210.0)).abs() < 1e-12), "{alone}");
    ensure!(alone["pairs"] == 0 && alone["prompts"] == 6 && alone["compared"].is_null(), "{alone}");
    let both = report(&world, "--scores a.jsonl --compare b.jsonl")?;
    ensure!(rho(&both) == rho(&alone) && rho(&both["compared"]["report"]).is_some_and(|rho| rho > 0.999));
    let difference = &both["compared"]["comparison"]["human"]["pooled_spearman"];
    ensure!(difference["first"].as_f64() == rho(&alone), "{difference}");
    let text = world.run("eval reward --scores a.jsonl --compare b.jsonl --report page.html")?;
    let page = String::from_utf8(world.read("page.html")?)?.replace('\u{a0}', " ");
    ensure!(text.contains("0.8857") && text.contains(why) && page.contains(why), "{text}");
    ensure!(text.lines().all(|line| line.chars().count() <= 80) && !page.contains("NaN"), "{text}");

    world.run(&format!("{TRAIN} --output rm"))?;
    let row = |at: usize| {
        let text = format!("the sea{}", " good".repeat(at % 4));
        json!({"source": format!("q{at}"), "system_output": text, "scores": {"overall": at % 4}})
    };
    world.write("rated.json", &Value::from((0..40).map(row).collect::<Vec<_>>()).to_string())?;
    let rated = "--model rm --data rated.json --human-field /scores/overall --no-cache";
    let found = report(&world, rated)?;
    ensure!(found["human"]["answers"] == 40 && found["length"]["spearman"].is_number(), "{found}");
    let rho = found["human"]["pooled"]["spearman"].clone();
    ensure!(rho["value"].as_f64().is_some_and(|rho| rho.abs() <= 1.0) && rho["low"].is_number(), "{rho}");
    let text = world.run(&format!("eval reward {rated}"))?;
    ensure!(text.contains(why) && text.contains("rated answers"), "{text}");
    ensure!(world.path("rm/evaluation/rated/report.html").exists(), "no page");
    Ok(())
}

/// Protects: a file with a published model's scores gives the reference's figures through the binary.
#[test]
fn published_scores_give_the_reference_numbers() -> Result<()> {
    let Some(folder) = shared_data("judgebench") else { return Ok(()) };
    let golden: Value = serde_json::from_str(&fs::read_to_string(folder.join("golden_metrics.json"))?)?;
    let world = World::new()?;
    for (model, golden) in golden["models"].as_object().context("models")? {
        let file = folder.join("reward_model_scores.jsonl");
        let report = report(&world, &format!("--scores {} --score-field /scores/{model}", file.display()))?;
        ensure!(report["strict_accuracy"] == golden["accuracy_strict"], "{model}: {}", report["accuracy"]);
        ensure!(report["ties"] == golden["ties"], "{model}: {}", report["ties"]);
        let off = report["log_loss"].as_f64().zip(golden["bt_loss"].as_f64()).map(|(a, b)| (a - b).abs());
        ensure!(off < Some(1e-12), "{model}: {}", report["log_loss"]);
        ensure!(report["prompts"] == 350, "{model}: {}", report["prompts"]);
    }
    Ok(())
}

/// Protects: an evaluation computes the bounds with the model before training; if that model is gone, it
/// continues without bounds, unless `--constraint` was given.
#[test]
fn bounds_by_the_policy_outlive_its_training() -> Result<()> {
    let world = World::new()?;
    let constraint = r#"{"kind": "cosine", "encoder": "policy"}"#;
    world.refuses(
        &format!(
            "reward --model base --random-init --data train.jsonl --constraint '{constraint}' --output none"
        ),
        &["encoder \"policy\"", "there is no model"],
    )?;
    world.run(&format!(
        "reward --model base --data train.jsonl --max-steps 4 --constraint '{constraint}' --output rm"
    ))?;
    let evaluate = "eval reward --model rm --data test.jsonl --bootstrap 0 --no-report --json";
    let bound = |report: &str| -> Result<Value> {
        Ok(serde_json::from_str::<Value>(report)?.pointer("/bounds/mean").cloned().unwrap_or_default())
    };
    let stored = world.run(evaluate)?;
    let before = world.path("base").display().to_string();
    let named = format!(r#"{{"kind": "cosine", "encoder": {{"kind": "policy", "model": "{before}"}}}}"#);
    let asked = world.run(&format!("{evaluate} --constraint '{named}'"))?;
    ensure!(bound(&stored)?.is_number() && bound(&stored)? == bound(&asked)?, "{stored} {asked}");
    fs::rename(world.path("base"), world.path("elsewhere"))?;
    let output = world.command(evaluate)?.output()?;
    ensure!(
        output.status.success() && stderr(&output).contains("evaluated without bounds"),
        "{}",
        stderr(&output)
    );
    ensure!(bound(&String::from_utf8(output.stdout)?)?.is_null(), "bounds without the model before training");
    world.refuses(&format!("{evaluate} --constraint '{named}'"), &["--constraint", "is not a folder"])
}

/// Protects: every interval and p-value in JSON, terminal and page has enough draws or a formula behind it.
/// Without draws, with too few draws or prompts, or where all draws agree, there is none. One property covers
/// all cases.
#[test]
fn what_was_not_drawn_is_absent() -> Result<()> {
    let world = World::new()?;
    let row = |at: usize, of: f64, prompts: usize| {
        let chosen = if at.is_multiple_of(3) { -of } else { of + 0.01 * at as f64 };
        json!({"prompt": format!("What is {}?", at % prompts), "score_chosen": chosen, "score_rejected": 0.0})
    };
    for (pairs, prompts) in [(1, 1), (2, 2), (5, 5), (40, 2), (40, 5), (40, 40), (12, 6)] {
        let file = |of: f64| lines(&(0..pairs).map(|at| row(at, of, prompts)).collect::<Vec<_>>());
        world.write("a.jsonl", &file(1.0))?;
        world.write("b.jsonl", &file(0.3))?;
        for draws in [0, 1, 20, 38, 39, 200] {
            let what = format!("{pairs} pairs of {prompts} prompts, {draws} draws");
            let command = format!("eval reward --scores a.jsonl --compare b.jsonl --bootstrap {draws}");
            let json = world.run(&format!("{command} --no-report --json"))?;
            let json: Value = serde_json::from_str(&json)?;
            let intervals = check_intervals(&json).with_context(|| what.clone())?;
            let drawn = draws >= 39 && prompts >= 6;
            ensure!(intervals >= 2, "{what}: no interval of the accuracy");
            ensure!(
                json["intervals"].as_object().is_some_and(|all| all.is_empty() != drawn),
                "{what}: {json}"
            );
            let difference = &json["compared"]["comparison"]["differences"]["log_loss"];
            ensure!(difference["p"].is_number() == drawn, "{what}: {difference}");
            let text = world.run(&format!("{command} --report page.html"))?;
            let page = String::from_utf8(world.read("page.html")?)?;
            ensure!(text.contains("bootstrap over") == drawn, "{what}: {text}");
            ensure!(
                page.contains("bootstrap over") == drawn,
                "{what}: the page mentions draws: expected {drawn}"
            );
            ensure!(text.contains("No intervals and p-values") != drawn, "{what}: {text}");
            // The spread of a single margin has no width and is not an interval.
            let spreads = ["range", "1 to 99 %", "5 to 95 %", "25 to 75 %"];
            for line in text.lines().filter(|line| spreads.iter().all(|name| !line.contains(name))) {
                let words: Vec<&str> = line.split_whitespace().collect();
                let empty = words.windows(3).find(|three| three[1] == "to" && three[0] == three[2]);
                ensure!(empty.is_none(), "{what}: {empty:?} in {line}");
            }
        }
    }
    Ok(())
}

/// Protects: equal scores, a single pair and a model that guesses are reported in the terminal and on the
/// page; a difference shows as many digits as it needs.
#[test]
fn findings_are_said_everywhere() -> Result<()> {
    let world = World::new()?;
    let write = |name: &str, scores: &dyn Fn(usize) -> f64, pairs: usize| {
        let row = |at| json!({"prompt": format!("{at}?"), "score_chosen": scores(at), "score_rejected": 0.5});
        world.write(name, &lines(&(0..pairs).map(row).collect::<Vec<_>>()))
    };
    write("equal.jsonl", &|_| 0.5, 60)?;
    write("one.jsonl", &|_| 0.9, 1)?;
    write("guess.jsonl", &|at| if at.is_multiple_of(2) { 0.6 } else { 0.4 }, 60)?;
    for (file, part) in [
        ("equal", "All 120 answers have the same score (0.5000)"),
        ("one", "There is only 1 pair"),
        ("guess", "includes 50 %: no evidence that the model beats guessing"),
    ] {
        let text = world.run(&format!("eval reward --scores {file}.jsonl --report {file}.html"))?;
        let joined = text.lines().map(str::trim).collect::<Vec<_>>().join(" ");
        ensure!(joined.contains(part), "{part}: {text}");
        let page = String::from_utf8(world.read(&format!("{file}.html"))?)?.replace('\u{a0}', " ");
        ensure!(page.contains(part), "{part} is not on the page of {file}");
        ensure!(!page.contains("NaN") && !page.contains("−0.0 %"), "{file}: {page}");
    }
    write("near.jsonl", &|at| if at.is_multiple_of(2) { 0.6 } else { 0.4 - 0.00001 * (at + 3) as f64 }, 60)?;
    let text = world.run("eval reward --scores guess.jsonl --compare near.jsonl --no-report")?;
    ensure!(!text.contains("+0.000 ") && !text.contains("−0.000 "), "{text}");
    ensure!(text.contains("guess.jsonl") && text.contains("near.jsonl") && !text.contains("first"), "{text}");
    Ok(())
}

/// Protects: several models are compared with the first on the rows that all of them have; a warning says if
/// the page of another evaluation is replaced.
#[test]
fn several_models_are_compared() -> Result<()> {
    let world = World::new()?;
    let write = |name: &str, rows: std::ops::Range<usize>, of: f64| {
        let score = |at: usize| if at.is_multiple_of(4) { -of } else { of };
        let row = |at| json!({"id": at, "score_chosen": score(at), "score_rejected": 0.0, "prompt": at.to_string()});
        world.write(name, &lines(&rows.map(row).collect::<Vec<_>>()))
    };
    write("a.jsonl", 0..50, 1.0)?;
    write("b.jsonl", 5..50, 0.5)?;
    write("c.jsonl", 0..40, 2.0)?;
    let compared = report(&world, "--scores a.jsonl --compare b.jsonl c.jsonl")?;
    ensure!(
        compared["pairs"] == 35 && compared["compared"]["report"]["pairs"] == 35,
        "{}",
        compared["pairs"]
    );
    ensure!(compared["others"][0]["report"]["pairs"] == 35, "{}", compared["others"]);
    let said = |options: &str| -> Result<String> {
        let output = world.command(&format!("eval reward --scores a.jsonl {options}"))?.output()?;
        ensure!(output.status.success(), "{}", stderr(&output));
        Ok(stderr(&output))
    };
    ensure!(said("--compare b.jsonl c.jsonl")?.contains("evaluation/a-against-b+c/report.html"));
    let page = String::from_utf8(world.read("evaluation/a-against-b+c/report.html")?)?;
    ensure!(page.contains("Comparison with b.jsonl") && page.contains("Comparison with c.jsonl"), "{page}");
    ensure!(!said("")?.contains("replaces"), "a warning although no page existed");
    ensure!(!said("")?.contains("replaces"), "a warning although the evaluation is the same");
    ensure!(
        said("--bootstrap 0")?.contains("replaces an earlier report"),
        "no warning about the replaced page"
    );
    ensure!(said("--bootstrap 5")?.contains("too few draws"), "no warning about too few draws");
    Ok(())
}
