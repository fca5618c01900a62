//! Parts of data and other data sources: `--limit`, slices, CSV and TSV, standard input, several schemas.

use std::io::Write;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::binary::{World, stderr};

/// Writes the first rows of the world's test pairs as a table.
fn table(world: &World, name: &str, separator: char) -> Result<()> {
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let mut text = ["prompt", "chosen", "rejected"].join(&separator.to_string()) + "\n";
    for row in world.lines("test.jsonl")? {
        let cells = ["prompt", "chosen", "rejected"].map(|key| quoted(row[key].as_str().unwrap_or_default()));
        text += &(cells.join(&separator.to_string()) + "\n");
    }
    world.write(name, &text)
}

fn scores(world: &World, data: &str) -> Result<Vec<(Value, Value)>> {
    world.run(&format!("score --model base --data {data} --output scores.jsonl"))?;
    let lines = world.lines("scores.jsonl")?;
    Ok(lines.into_iter().map(|row| (row["chosen_score"].clone(), row["rejected_score"].clone())).collect())
}

/// Protects: a table gives the scores of the same rows in JSON lines, and a slice gives those of its rows.
#[test]
fn tables_and_slices_give_the_scores_of_their_rows() -> Result<()> {
    let world = World::new()?;
    let want = scores(&world, "test.jsonl")?;
    ensure!(want.len() == 60 && want[0].0.is_number(), "{want:?}");
    for (name, separator) in [("test.csv", ','), ("test.tsv", '\t'), ("semicolons", ';')] {
        table(&world, name, separator)?;
        ensure!(scores(&world, name)? == want, "{name} scores otherwise");
    }
    for (data, rows) in [
        ("test.jsonl[:7]", 0..7),
        ("test.jsonl[-5:]", 55..60),
        ("test.csv[10%:20%]", 6..12),
        ("test.jsonl --limit 9", 0..9),
        ("test.tsv[50:] --limit 3", 50..53),
    ] {
        ensure!(scores(&world, data)? == want[rows.clone()], "{data}: not the rows {rows:?}");
    }
    let both = scores(&world, "test.jsonl[:2] test.csv[58:]")?;
    ensure!(both == [&want[..2], &want[58..]].concat(), "{both:?}");
    let score = "score --model base --data";
    world.refuses(&format!("{score} test.jsonl[5]"), &["[5] is not a slice", "[:500]"])?;
    world.refuses(&format!("{score} test.jsonl[60:]"), &["test.jsonl", "holds no record"])?;
    world.refuses(&format!("{score} test.jsonl[5:2]"), &["[5:2] is empty: its start is behind its end"])?;
    world.refuses(&format!("{score} absent.jsonl[:5]"), &["absent.jsonl"])?;
    world.refuses(&format!("{score} test.jsonl --limit 0"), &["--limit", "positive"])?;
    Ok(())
}

/// Protects: the message about a broken row of a table names its line and column.
#[test]
fn broken_tables_are_named() -> Result<()> {
    let world = World::new()?;
    world.write("bad.csv", "prompt,chosen,rejected,margin\nq,a,b,1\nq,a,b\nq,a,b,inf\n")?;
    let score = "score --model base --data bad.csv --strict";
    world.refuses(score, &["bad.csv:3", "3 cells; expected 4", "prompt, chosen, rejected, margin"])?;
    world.write("bad.csv", "prompt,chosen,rejected,margin\nq,a,b,inf\n")?;
    world.refuses(score, &["bad.csv:2", "column 4 (\"margin\")", "finite"])?;
    world.write("bad.csv", "prompt,chosen,chosen\nq,a,b\n")?;
    world.refuses(score, &["bad.csv", "names the column \"chosen\" twice"])
}

/// Protects: standard input is read like a file with the same content, and no copy remains.
#[test]
fn standard_input_is_data() -> Result<()> {
    let world = World::new()?;
    let want = scores(&world, "test.jsonl")?;
    let mut command = world.command("score --model base --data - --output piped.jsonl")?;
    std::fs::create_dir(world.path("tmp"))?;
    let mut child = command.env("TMPDIR", world.path("tmp")).stdin(Stdio::piped()).spawn()?;
    child.stdin.take().context("an input")?.write_all(&world.read("test.jsonl")?)?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{}", stderr(&output));
    let piped = world.lines("piped.jsonl")?;
    let got: Vec<_> =
        piped.into_iter().map(|row| (row["chosen_score"].clone(), row["rejected_score"].clone())).collect();
    ensure!(got == want, "standard input scores otherwise");
    ensure!(std::fs::read_dir(world.path("tmp"))?.next().is_none(), "a copy is left");
    // A pipe that is closed at once, since /dev/null may be a file with content where something else replaced it.
    let output = world.command("score --model base --data -")?.stdin(Stdio::piped()).output()?;
    let message = stderr(&output);
    ensure!(!output.status.success() && message.contains("standard input is empty"), "{message}");
    ensure!(message.contains("--data -"), "{message}");
    Ok(())
}

/// Protects: a run reads files with several schemas, and its log and manifest record the limit and the slice.
#[test]
fn a_run_is_trained_on_parts_of_several_schemas() -> Result<()> {
    let world = World::new()?;
    let rows = world.lines("train.jsonl")?;
    let ranked = rows[..20].iter().map(|row| {
        let responses = [row["rejected"].clone(), row["chosen"].clone()];
        json!({"prompt": row["prompt"], "responses": responses, "scores": [1, 2]}).to_string() + "\n"
    });
    world.write("ranked.jsonl", &ranked.collect::<String>())?;
    table(&world, "more.csv", ',')?;
    let data = "--data train.jsonl[:100] ranked.jsonl more.csv --eval-data test.jsonl[50%:]";
    let train = format!("reward --model base {data} --max-steps 2 --batch 8");
    world.run(&format!("{train} --output all"))?;
    let manifest: Value = serde_json::from_slice(&world.read("all/manifest.json")?)?;
    ensure!(manifest["train_pairs"] == 180 && manifest["eval_pairs"] == 30, "{manifest}");
    ensure!(manifest["data"][0] == "train.jsonl[:100]", "{manifest}");
    let output = world.command(&format!("{train} --limit 110 --output some"))?.output()?;
    ensure!(output.status.success(), "{}", stderr(&output));
    ensure!(stderr(&output).contains("only the first 110 rows"), "{}", stderr(&output));
    let manifest: Value = serde_json::from_slice(&world.read("some/manifest.json")?)?;
    ensure!(manifest["train_pairs"] == 110 && manifest["eval_pairs"] == 30, "{manifest}");
    ensure!(manifest["fingerprint"]["limit"] == 110, "{manifest}");
    let resumed =
        format!("{} --limit 90 --output some --resume", train.replace("--max-steps 2", "--max-steps 4"));
    world.refuses(&resumed, &["limit"])
}
