//! `pcrm data`, and the options that describe columns, as users meet them.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, ensure};
use pcrm_core::data::preference::{Strictness, load_preferences};
use pcrm_core::data::prompt_id::PromptId;
use pcrm_core::data::records::Records;
use serde_json::{Value, json};

use crate::binary::{World, stderr};

fn records(world: &World, name: &str) -> Result<Vec<Value>> {
    Records::open(&world.path(name))?.map(|record| Ok(Value::Object(record?.1))).collect()
}

/// Protects: a round trip through every file format gives the same records; losses are reported.
#[test]
fn data_are_converted_there_and_back() -> Result<()> {
    let world = World::new()?;
    let original = records(&world, "test.jsonl")?;
    for ending in ["jsonl", "jsonl.gz", "jsonl.zst", "json", "parquet"] {
        let there = format!("data convert --data test.jsonl --to question --output there.{ending}");
        let output = world.command(&there)?.output()?;
        ensure!(stderr(&output).contains("nothing was lost"), "{}", stderr(&output));
        world.run(&format!(
            "data convert --data there.{ending} --to standard_explicit --output back.{ending}"
        ))?;
        ensure!(
            records(&world, &format!("back.{ending}"))? == original,
            "{ending}: the records differ after a round trip"
        );
    }
    let chat = "data convert --data test.jsonl --to sharegpt --output chat.json";
    let said = stderr(&world.command(chat)?.output()?);
    ensure!(said.contains("lost in 60 of 60 pairs: texts became turns of user and assistant"), "{said}");
    world.refuses(
        "data convert --data test.jsonl --to ranked --output x.jsonl",
        &["ranked", "expected one of", "alpaca"],
    )?;
    world.refuses(
        "data convert --data test.jsonl --to alpaca --output x.csv",
        &["x.csv", ".jsonl.gz", ".parquet"],
    )?;
    world.refuses("data convert --data test.jsonl --to alpaca --output test.jsonl", &["is one of --data"])?;
    world.refuses(
        "data convert --data test.jsonl --to alpacca --output x.jsonl",
        &["alpacca", "known:", "sharegpt"],
    )
}

/// Protects: `--output -` is standard output where JSON lines are written, and never a file of that name.
#[test]
fn a_dash_is_standard_output() -> Result<()> {
    let world = World::new()?;
    let score = "score --model base --data test.jsonl";
    ensure!(world.run(&format!("{score} --output -"))? == world.run(score)?, "the scores differ");
    let convert = "data convert --data test.jsonl --to question --output";
    world.run(&format!("{convert} there.jsonl"))?;
    ensure!(world.run(&format!("{convert} -"))?.as_bytes() == world.read("there.jsonl")?, "the pairs differ");
    let cannot = "--output -: cannot be standard output";
    world
        .refuses("eval reward --model base --data test.jsonl --output -", &[cannot, "file (--json prints"])?;
    world.refuses("reward --model base --data train.jsonl --output -", &[cannot, "expected a folder"])?;
    ensure!(!world.path("-").exists() && !world.path("-.part").exists(), "a file is called -");
    Ok(())
}

/// Protects: a chat template sees the time of the machine's own zone, as in transformers: two zones that are 26 hours
/// apart never have the same date.
#[cfg(unix)]
#[test]
fn templates_see_local_time() -> Result<()> {
    let world = World::new()?;
    world.write("base/chat_template.jinja", "{{ raise_exception(strftime_now('the date is %Y-%m-%d')) }}")?;
    let turns = json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]);
    world.write("chat.jsonl", &json!({"messages": turns}).to_string())?;
    let date = |zone: &str| -> Result<String> {
        let output = world.command("score --model base --data chat.jsonl")?.env("TZ", zone).output()?;
        let said = stderr(&output);
        let (_, rest) = said.split_once("the date is ").with_context(|| said.clone())?;
        Ok(rest.chars().take(10).collect())
    };
    let (east, west) = (date("EAST-14")?, date("WEST12")?);
    ensure!(east > west && east.starts_with("20"), "{east} in the east, {west} in the west");
    Ok(())
}

/// Protects: the two sides of a split share no prompt, lose no record, and are the same with the same seed.
#[test]
fn data_are_split_by_prompt() -> Result<()> {
    let world = World::new()?;
    let split = "data split --data train.jsonl test.jsonl --fraction 0.2 --seed 3";
    world.run(&format!("{split} --output-dir one"))?;
    world.run(&format!("{split} --output-dir two --format json.zst"))?;
    let (train, held) = (records(&world, "one/train.jsonl")?, records(&world, "one/held_out.jsonl")?);
    ensure!(train == records(&world, "two/train.json.zst")?, "the same seed gave another split");
    ensure!(train.len() + held.len() == 300, "{} and {} of 300", train.len(), held.len());
    let prompts = |records: &[Value]| -> BTreeSet<String> {
        records.iter().map(|record| record["prompt"].to_string()).collect()
    };
    ensure!(prompts(&train).is_disjoint(&prompts(&held)), "a prompt is on both sides");
    let share = prompts(&held).len() as f64 / (prompts(&train).len() + prompts(&held).len()) as f64;
    ensure!((share - 0.2).abs() < 0.01, "{share} of the prompts are held out");
    world.refuses(&format!("{split} --output-dir one"), &["one/train.jsonl exists already"])?;
    // Another format would put a second file of each side into the folder.
    let other = format!("{split} --output-dir one --format parquet");
    world.refuses(&other, &["exists already; name another --output-dir"])?;
    world.refuses(
        "data split --data train.jsonl --fraction 1.5 --output-dir x",
        &["fraction", "between 0 and 1"],
    )
}

/// Protects: data of several schemas are split into one file each; every record is read back, and no prompt
/// is on both sides in any schema.
#[test]
fn several_schemas_are_split_whole() -> Result<()> {
    let world = World::new()?;
    let dialogue = |at: usize, said: &str| format!("\n\nHuman: q{at}\n\nAssistant: {said}");
    let write = |name: &str, record: &dyn Fn(usize) -> Value| -> Result<()> {
        let lines: Vec<String> = (0..20).map(|at| record(at).to_string()).collect();
        world.write(name, &lines.join("\n"))
    };
    write("hh.jsonl", &|at| json!({"chosen": dialogue(at, "a"), "rejected": dialogue(at, "b")}))?;
    write("texts.jsonl", &|at| json!({"prompt": format!("q{at}"), "chosen": "a", "rejected": "b"}))?;
    let set = |at: usize| json!({"prompt": format!("q{}", at + 10), "responses": ["a", "b", "c"], "ranks": [1, 2, 3]});
    write("sets.jsonl", &set)?;
    let split = "data split --data hh.jsonl texts.jsonl sets.jsonl --fraction 0.3 --output-dir mix";
    let output = world.command(split)?.output()?;
    ensure!(output.status.success(), "{}", stderr(&output));
    let said = stderr(&output);
    ensure!(
        said.contains("9 of 30 prompts are held out") && said.contains("--data mix/train-*.jsonl"),
        "{said}"
    );
    let mut sides = Vec::new();
    for side in ["train", "held_out"] {
        let files =
            ["hh_dialogues", "standard_explicit", "ranked"].map(|schema| format!("{side}-{schema}.jsonl"));
        let paths = files.map(|file| world.path(&format!("mix/{file}")));
        let (sets, report) = load_preferences(&paths, Strictness::Refuse)?;
        sides.push((report.rows, sets.iter().map(PromptId::of).collect::<BTreeSet<_>>()));
    }
    ensure!(sides[0].0 + sides[1].0 == 60, "{} and {} of 60 records", sides[0].0, sides[1].0);
    ensure!(sides[0].1.is_disjoint(&sides[1].1), "a prompt is on both sides");
    ensure!((sides[0].1.len(), sides[1].1.len()) == (21, 9), "{} and {}", sides[0].1.len(), sides[1].1.len());
    // A folder with both sides cannot be read as one data set.
    world.refuses(
        "data convert --data mix --to question --output x.jsonl",
        &["mix: a folder with files of several splits"],
    )
}

/// Protects: every command that reads data prints findings and reasons for skipped rows.
#[test]
fn findings_are_printed_by_every_verb() -> Result<()> {
    let world = World::new()?;
    let rows = world.lines("train.jsonl")?;
    let mut lines: Vec<String> = rows.iter().take(20).map(Value::to_string).collect();
    let mut with_margin = rows[20].clone();
    with_margin["margin"] = json!(0.5);
    lines.push(with_margin.to_string());
    lines.push("{\"prompt\": \"cut".to_owned());
    world.write("some.jsonl", &lines.join("\n"))?;
    world.run("reward --model base --data train.jsonl --max-steps 1 --output rm")?;
    for command in [
        "reward --model base --data some.jsonl --max-steps 1 --batch 4 --output run",
        "score --model rm --data some.jsonl --output scored.jsonl",
        "data convert --data some.jsonl --to question --output there.jsonl",
    ] {
        let said = stderr(&world.command(command)?.output()?);
        ensure!(said.contains("warning: 20 of 21 pairs have no margin"), "{command}: {said}");
        ensure!(
            said.contains("1 malformed (some.jsonl:22: broken JSON: EOF while parsing a string"),
            "{command}: {said}"
        );
    }
    Ok(())
}

/// Protects: a record with several pairs is written once, even if several records are on one line.
#[test]
fn sets_are_split_whole() -> Result<()> {
    let world = World::new()?;
    let set =
        |at: usize| json!({"prompt": format!("q{at}"), "responses": ["a", "b", "c"], "ranks": [1, 2, 2]});
    let sets: Vec<Value> = (0..10).map(set).collect();
    world.write("sets.json", &serde_json::to_string(&sets)?)?;
    world.run("data split --data sets.json --fraction 0.3 --output-dir sets")?;
    let mut all = [records(&world, "sets/train.jsonl")?, records(&world, "sets/held_out.jsonl")?].concat();
    ensure!(all.len() == 10, "{} records of 10", all.len());
    all.sort_by_key(|set| set["prompt"].to_string());
    ensure!(all == sets, "the sets differ after the split");
    Ok(())
}

/// Protects: every command reads columns of any name, from the command line and from a config file.
#[test]
fn columns_are_named() -> Result<()> {
    let world = World::new()?;
    fs::create_dir(world.path("folder"))?;
    let rows = world.lines("train.jsonl")?;
    let renamed = rows.iter().map(|row| {
        json!({"ask": row["prompt"], "good": row["chosen"], "bad": row["rejected"], "gap": 1, "s": 2, "t": 1})
            .to_string()
            + "\n"
    });
    world.write("folder/own.jsonl", &renamed.collect::<String>())?;
    let fields = "--prompt-field ask --chosen-field good --rejected-field bad --margin-field gap";
    let train = "--model base --max-steps 2 --batch 4";
    world.run(&format!("reward {train} --data folder {fields} --output own"))?;
    world.run(&format!("reward {train} --data train.jsonl --output known"))?;
    let numbers = |run: &str| -> Result<Vec<[Value; 2]>> {
        let lines = world.lines(&format!("{run}/metrics.jsonl"))?;
        Ok(lines.iter().map(|line| [line["accuracy"].clone(), line["num_tokens"].clone()]).collect())
    };
    ensure!(numbers("own")?[0][1].is_number(), "no tokens are counted");
    ensure!(numbers("own")? == numbers("known")?, "naming the columns changed the data");
    world.run("reward --config own/config.toml --output again")?;
    ensure!(numbers("own")? == numbers("again")?, "config.toml trains a different model");
    world.run(&format!("score --model own --data folder {fields} --output scored.jsonl"))?;
    world.run(&format!("eval reward --model own --data folder {fields} --schema standard-explicit"))?;
    world.refuses(
        &format!("score --model own --data folder {fields} --schema alpaca"),
        &["\"instruction\" is missing", "alpaca"],
    )?;
    world.refuses(
        "score --model own --data folder --field promt=ask",
        &["--field promt=ask", "known: prompt, chosen"],
    )?;
    world.refuses(
        "score --model own --data folder --prompt-field question",
        &["no column \"question\"", "keys: ask, good"],
    )?;
    world.refuses(
        "reward --model base --data folder --schema hf --output x",
        &["hf", "known: standard_explicit"],
    )
}

/// Protects: with `--score-margins`, differences of score columns become margins.
#[test]
fn scores_become_margins() -> Result<()> {
    let world = World::new()?;
    let rows = world.lines("test.jsonl")?.into_iter().map(|mut row| {
        row["score_chosen"] = json!(9);
        row["score_rejected"] = json!(2);
        row.to_string() + "\n"
    });
    world.write("scored.jsonl", &rows.collect::<String>())?;
    let loss = |options: &str, output: &str| -> Result<f64> {
        world.run(&format!(
            "reward --model base --max-steps 1 --data scored.jsonl {options} --output {output}"
        ))?;
        world.lines(&format!("{output}/metrics.jsonl"))?[0]["loss"].as_f64().context("loss")
    };
    // −ln σ(Δ − 7) for Δ near 0 is near 7, and −ln σ(Δ) is near ln 2.
    let (plain, with) = (loss("", "plain")?, loss("--score-margins", "with")?);
    ensure!((plain - 0.7).abs() < 0.5 && (with - 7.0).abs() < 1.0, "{plain} and {with}");
    Ok(())
}

/// Protects: a warning reports evaluation data that is also in the training data, in any schema.
#[test]
fn leaks_are_told() -> Result<()> {
    let world = World::new()?;
    world.run("data convert --data test.jsonl --to question --output question.json")?;
    let train = |data: &str, output: &str| -> Result<String> {
        let command = format!(
            "reward --model base --max-steps 1 --batch 4 --data {data} --eval-data question.json \
             --output {output}"
        );
        let output = world.command(&command)?.output()?;
        ensure!(output.status.success(), "{}", stderr(&output));
        Ok(stderr(&output))
    };
    let said = train("train.jsonl test.jsonl", "leaking")?;
    ensure!(
        said.contains("warning: ") && said.contains("60 of 60 pairs of --eval-data are also in --data"),
        "{said}"
    );
    let lines = world.lines("test.jsonl")?.into_iter().map(|mut row| {
        row["prompt"] = json!(format!("Other: {}", row["prompt"]));
        row.to_string() + "\n"
    });
    world.write("other.jsonl", &lines.collect::<String>())?;
    let said = train("other.jsonl", "tight")?;
    ensure!(!said.contains("warning: "), "{said}");
    Ok(())
}
