//! Scores of people and of models in one file: what `pcrm score` replaces, and who reads its scores.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::binary::{World, stderr};

const TRAIN: &str = "reward --model base --data train.jsonl --max-steps 2 --batch 8";

fn lines(rows: &[Value]) -> String {
    rows.iter().map(|row| format!("{row}\n")).collect()
}

/// Makes two reward models, and the test pairs.
fn world() -> Result<(World, Vec<Value>)> {
    let world = World::new()?;
    world.run(&format!("{TRAIN} --output rm"))?;
    world.run(&format!("{TRAIN} --learning-rate 1e-3 --output other"))?;
    let pairs = world.lines("test.jsonl")?;
    Ok((world, pairs))
}

/// Protects: scores that `pcrm score` did not write are refused before scoring, with the place and both ways out, for
/// pairs and texts; nothing is written then. What it wrote itself is replaced without an option, by the bits of a
/// first scoring, also where another model or limit left out rows.
#[test]
fn scores_of_people_are_not_replaced() -> Result<()> {
    let (world, mut pairs) = world()?;
    (pairs[3]["chosen_score"], pairs[3]["rejected_score"]) = (json!(8), json!(5));
    world.write("rated.jsonl", &lines(&pairs))?;
    let texts = [
        json!({"prompt": "Q?", "completion": " good", "score": null}),
        json!({"prompt": "Q?", "completion": " fine", "score": 7.5}),
    ];
    world.write("texts.jsonl", &lines(&texts))?;
    for (data, parts) in [
        ("rated.jsonl", ["rated.jsonl:4", "\"chosen_score\" is 8", "score_chosen", "--overwrite-scores"]),
        ("texts.jsonl", ["texts.jsonl:2", "\"score\" is 7.5", "human_score", "--overwrite-scores"]),
    ] {
        let score = format!("score --model rm --data {data} --output scored.jsonl");
        world.refuses(&score, &parts)?;
        ensure!(!world.path("scored.jsonl").exists(), "{data}: scores were written");
        world.run(&format!("{score} --overwrite-scores"))?;
        std::fs::remove_file(world.path("scored.jsonl"))?;
    }
    world.run("score --model other --data test.jsonl --ids --max-length 45 --output first.jsonl")?;
    let reasons = |rows: &[Value]| rows.iter().filter(|row| row["left_out"].is_string()).count();
    let first = world.lines("first.jsonl")?;
    ensure!(reasons(&first) > 0 && reasons(&first) < first.len(), "{} left out", reasons(&first));
    ensure!(first.iter().all(|row| row["scored_by"].is_string()), "a row has no mark");
    world.refuses("score --model rm --data first.jsonl", &["\"chosen_ids\" is", "--ids"])?;
    world.run("score --model rm --data first.jsonl --ids --output second.jsonl")?;
    world.run("score --model rm --data test.jsonl --ids --output want.jsonl")?;
    ensure!(world.lines("second.jsonl")? == world.lines("want.jsonl")?, "an earlier scoring left something");
    ensure!(
        world.lines("second.jsonl")?[0]["scored_by"] != first[0]["scored_by"],
        "both models have one mark"
    );
    Ok(())
}

/// Protects: a row that has scores is evaluated although it has the reason of an earlier scoring.
#[test]
fn reasons_beside_scores_leave_nothing_out() -> Result<()> {
    let world = World::new()?;
    let row = |score: Value| {
        let mut row = json!({"prompt": "Q?", "left_out": "600 tokens"});
        (row["chosen_score"], row["rejected_score"]) = (score.clone(), score);
        row
    };
    world.write("rows.jsonl", &lines(&[row(json!(1)), row(json!(2)), row(Value::Null)]))?;
    let report = world.run("eval reward --scores rows.jsonl --bootstrap 0 --no-report --json")?;
    ensure!(serde_json::from_str::<Value>(&report)?["pairs"] == 2, "{report}");
    Ok(())
}

/// Protects: a model is not compared with its own scores, which a note says once, but with people's scores in the
/// same rows; its scores make no margins.
#[test]
fn scores_of_a_model_are_not_read_as_those_of_people() -> Result<()> {
    let (world, _) = world()?;
    world.run("score --model rm --data test.jsonl --output scored.jsonl")?;
    let evaluate = |data: &str| -> Result<(String, String)> {
        let command = format!("eval reward --model rm --data {data} --bootstrap 0 --no-report");
        let output = world.command(&command)?.output()?;
        let joined = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        ensure!(output.status.success(), "{}", stderr(&output));
        Ok((joined(&String::from_utf8_lossy(&output.stdout)), joined(&stderr(&output))))
    };
    let (table, said) = evaluate("scored.jsonl")?;
    ensure!(!table.contains("true reward"), "{table}");
    ensure!(said.matches("not taken as scores of people").count() == 1, "{said}");
    ensure!(said.contains("60 of 60 rows") && said.contains("scored.jsonl:1"), "{said}");
    let train = "reward --model base --max-steps 1 --batch 4 --score-margins --output margins --data";
    world.refuses(
        &format!("{train} scored.jsonl"),
        &["scored.jsonl: line 1", "the model \"rm@", "--score-margins"],
    )?;

    let mut rated = world.lines("scored.jsonl")?;
    for (at, row) in rated.iter_mut().enumerate() {
        (row["score_chosen"], row["score_rejected"]) = (json!(at % 7 + 2), json!(at % 5));
    }
    world.write("rated.jsonl", &lines(&rated))?;
    let (table, said) = evaluate("rated.jsonl")?;
    ensure!(table.contains("true reward") && !said.contains("not taken as scores"), "{table} {said}");
    // `--scores` reads the model's scores, not people's.
    let scores =
        |file: &str| world.run(&format!("eval reward --scores {file} --bootstrap 0 --no-report --json"));
    let of = |file: &str| -> Result<Value> {
        Ok(serde_json::from_str::<Value>(&scores(file)?)?["accuracy"].clone())
    };
    ensure!(of("rated.jsonl")? == of("scored.jsonl")?, "people's scores were evaluated");
    let output = world.command(&format!("{train} rated.jsonl"))?.output()?;
    ensure!(output.status.success(), "{}", stderr(&output));
    let lower =
        rated.iter().filter(|row| row["score_chosen"].as_u64() < row["score_rejected"].as_u64()).count();
    let said = stderr(&output).split_whitespace().collect::<Vec<_>>().join(" ");
    ensure!(lower > 0 && said.contains("get a negative margin"), "{lower}: {said}");
    ensure!(said.contains(&format!("{lower} of ")) && said.contains("Are the columns swapped?"), "{said}");
    Ok(())
}
