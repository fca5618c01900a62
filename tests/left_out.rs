//! Skipped rows: every command warns beside its figures from 2 % on; length limits and their defaults.

use std::fs;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::binary::{World, stderr};
use crate::support::{TWO_ROLES, beside};

const TRAIN: &str = "reward --model base --data train.jsonl --max-steps 2 --batch 8";

/// Runs a command that must succeed and returns its standard output and standard error, with lines broken for
/// the terminal joined.
fn run(world: &World, arguments: &str) -> Result<(String, String)> {
    let output = world.command(arguments)?.output()?;
    let joined = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (out, said) = (String::from_utf8_lossy(&output.stdout).into_owned(), stderr(&output));
    ensure!(output.status.success(), "pcrm {arguments}: {said}");
    Ok((joined(&out), joined(&said)))
}

/// Protects: `reward` warns of many malformed or overlong rows after reading and at its end, but not of few.
#[test]
fn training_warns_of_many_rows_left_out() -> Result<()> {
    let world = World::new()?;
    let good = String::from_utf8(world.read("train.jsonl")?)?;
    world.write("few.jsonl", &format!("{good}{{broken\n"))?;
    world.write("many.jsonl", &format!("{good}{}", "{broken\n".repeat(20)))?;
    world.write("mixed.jsonl", &format!("{good}{}", "{\"text\": \"a\"}\n".repeat(100)))?;
    for (file, warning) in [
        ("few.jsonl", None),
        ("many.jsonl", Some("20 malformed (first: many.jsonl:241")),
        ("mixed.jsonl", Some("100 malformed (first: mixed.jsonl:241")),
    ] {
        let train = TRAIN.replace("train.jsonl", file);
        let (_, said) = run(&world, &format!("{train} --output {file}.run"))?;
        ensure!(
            said.matches("warning: training:").count() == if warning.is_some() { 2 } else { 0 },
            "{file}: {said}"
        );
        ensure!(warning.is_none_or(|warning| said.contains(warning)), "{file}: {said}");
    }
    let (_, said) = run(&world, &format!("{TRAIN} --max-length 50 --output short"))?;
    let (before, after) = said.split_once("finished after").unwrap_or_default();
    for part in [before, after] {
        ensure!(part.contains("pairs") && part.contains("longer than --max-length 50 tokens"), "{said}");
    }
    Ok(())
}

/// Protects: an evaluation reports the rows it does not cover beside its table and in its JSON.
#[test]
fn evaluations_say_what_they_leave_out() -> Result<()> {
    let world = World::new()?;
    world.run(&format!("{TRAIN} --output rm"))?;
    let evaluate = "eval reward --model rm --data test.jsonl --bootstrap 0 --no-report --max-length 45";
    let (table, _) = run(&world, evaluate)?;
    ensure!(table.contains("of 60 pairs") && table.contains("longer than --max-length 45 tokens"), "{table}");
    let json: Value = serde_json::from_str(&world.run(&format!("{evaluate} --json"))?)?;
    ensure!(
        json["warnings"][0].as_str().is_some_and(|text| text.contains("of 60 pairs")),
        "{}",
        json["warnings"]
    );
    let whole = "eval reward --model rm --data test.jsonl --bootstrap 0 --no-report --json";
    ensure!(serde_json::from_str::<Value>(&world.run(whole)?)?.get("warnings").is_none());
    // Ratings need the option that names their field.
    let rated = json!({"prompt": "Q?", "response": " a", "scores": {"fluency": 2, "overall": 3}});
    world.write("rated.jsonl", &format!("{rated}\n"))?;
    world.refuses("eval reward --model rm --data rated.jsonl", &["--human-field /scores/overall"])?;
    world.write("rated.jsonl", "{\"prompt\": \"Q?\", \"answer\": \" a\", \"rating\": 3}\n")?;
    world.refuses("eval reward --model rm --data rated.jsonl", &["--human-field rating"])
}

/// Protects: `score` writes a line for every row in order, with null and a reason where there is no score,
/// for pairs and texts; evaluating such a file skips those rows and reports them.
#[test]
fn every_row_has_a_line_of_scores() -> Result<()> {
    let world = World::new()?;
    world.run(&format!("{TRAIN} --output rm"))?;
    let long = "x".repeat(600);
    let pairs = [
        json!({"id": 0, "prompt": "Q?", "chosen": " good", "rejected": " bad"}).to_string(),
        "{broken".to_owned(),
        json!({"id": 2, "prompt": "Q?", "chosen": format!(" {long}"), "rejected": " bad"}).to_string(),
        json!({"id": 3, "prompt": "Q?", "chosen": " ", "rejected": " bad"}).to_string(),
        json!({"id": 4, "text": "other"}).to_string(),
        json!({"id": 5, "prompt": "Q?", "chosen": " fine", "rejected": " so"}).to_string(),
    ];
    let texts = [
        json!({"id": 0, "prompt": "Q?", "completion": " good"}).to_string(),
        json!({"id": 1, "prompt": "Q?", "completion": format!(" {long}")}).to_string(),
        json!({"id": 2, "prompt": "Q?", "completion": 7}).to_string(),
        json!({"id": 3, "prompt": "Q?", "completion": " fine"}).to_string(),
    ];
    world.write("pairs.jsonl", &pairs.join("\n"))?;
    world.write("texts.jsonl", &texts.join("\n"))?;
    for (file, names, reasons) in [
        (
            "pairs.jsonl",
            &["chosen_score", "rejected_score"][..],
            &["", "broken JSON", "--max-length 512", "empty", "mixed schemas", ""][..],
        ),
        ("texts.jsonl", &["score"][..], &["", "--max-length 512", "expected", ""][..]),
    ] {
        let (_, said) = run(&world, &format!("score --model rm --data {file} --output scored.jsonl"))?;
        ensure!(said.contains(&format!("2 of {} rows scored", reasons.len())), "{said}");
        let rows = world.lines("scored.jsonl")?;
        ensure!(rows.len() == reasons.len(), "{file}: {} lines", rows.len());
        for (row, reason) in rows.iter().zip(reasons) {
            let scored = names.iter().all(|name| row[*name].is_number());
            let null = names.iter().all(|name| row.get(*name).is_some_and(Value::is_null));
            let left_out = row["left_out"].as_str();
            ensure!(if reason.is_empty() { scored && left_out.is_none() } else { null }, "{file}: {row}");
            ensure!(left_out.is_none_or(|left_out| left_out.contains(reason)), "{file}: {row}");
        }
        ensure!(
            rows[0]["id"] == 0 && rows.last().is_some_and(|row| row["id"] == reasons.len() - 1),
            "{file}"
        );
    }
    run(&world, "score --model rm --data pairs.jsonl --output scored.jsonl")?;
    let (table, _) = run(&world, "eval reward --scores scored.jsonl --bootstrap 0 --no-report")?;
    ensure!(table.contains("4 of 6 rows (67 %) of scored.jsonl have no score"), "{table}");
    Ok(())
}

/// Protects: a row whose turn the chat template leaves out has no score but a reason, and is refused with its place
/// by `--strict`, without other rows, and in training: other prompts would have the same score.
#[test]
fn rows_with_turns_that_vanish_have_no_score() -> Result<()> {
    let world = World::new()?;
    world.write("base/chat_template.jinja", TWO_ROLES)?;
    let turn = |role: &str, text: &str| json!({"role": role, "content": text});
    let line = |role: &str, text: &str| {
        let [chosen, rejected] = [" yes", " no"].map(|text| [turn("assistant", text)]);
        json!({"prompt": [turn(role, text)], "chosen": chosen, "rejected": rejected}).to_string() + "\n"
    };
    let human = line("human", "a") + &line("human", "b");
    world.write("mixed.jsonl", &(line("user", "a") + &human))?;
    world.write("human.jsonl", &human)?;
    let (_, said) = run(&world, "score --model base --data mixed.jsonl --output scored.jsonl")?;
    let part =
        "2 of 3 rows are left out (first: mixed.jsonl:2: the role \"human\" (turn 1 of 2) leaves no trace";
    ensure!(said.contains(part) && said.contains("1 of 3 rows scored"), "{said}");
    let rows = world.lines("scored.jsonl")?;
    ensure!(rows[0]["chosen_score"].is_number() && rows[0]["left_out"].is_null(), "{}", rows[0]);
    for row in &rows[1..] {
        ensure!(row["chosen_score"].is_null() && row["rejected_score"].is_null(), "{row}");
        ensure!(row["left_out"].as_str().is_some_and(|reason| reason.contains("leaves no trace")), "{row}");
    }
    let refused = |command: &str, place: &str| -> Result<()> {
        let said = world.fails(command)?.split_whitespace().collect::<Vec<_>>().join(" ");
        ensure!(said.contains(place) && said.contains("leaves no trace"), "{command}: {said}");
        Ok(())
    };
    refused("score --model base --data mixed.jsonl --strict", "mixed.jsonl:2: the role \"human\"")?;
    refused("score --model base --data human.jsonl", "human.jsonl:1: the role \"human\"")?;
    let first = "mixed.jsonl:2: the role \"human\" (the first of 2 such conversations)";
    refused("reward --model base --data mixed.jsonl --max-steps 1 --output rm", first)?;
    refused("kto --model base --data mixed.jsonl --random-init --max-steps 1 --output kto", "mixed.jsonl:2: ")
}

/// Protects: training saves its length limit with the model, and later training uses it; scoring reads all
/// positions.
#[test]
fn limits_on_length_are_remembered_and_scoring_has_none_but_the_models() -> Result<()> {
    let world = World::new()?;
    let limit = |run: &str| -> Result<Value> {
        Ok(serde_json::from_slice::<Value>(&world.read(&format!("{run}/config.json"))?)?["pcrm"]["max_length"].clone())
    };
    world.run(&format!("{TRAIN} --output usual"))?;
    ensure!(limit("usual")? == 512, "the model has 512 positions: {}", limit("usual")?);
    let resolved = String::from_utf8(world.read("usual/config.toml")?)?;
    ensure!(resolved.contains("max-length = 512\n"), "{resolved}");
    world.run(&format!("{TRAIN} --max-length 64 --output short"))?;
    world.run(&format!("{} --output shorter", TRAIN.replace("base", "short")))?;
    ensure!(
        limit("short")? == 64 && limit("shorter")? == 64,
        "{} and {}",
        limit("short")?,
        limit("shorter")?
    );

    let answers = |length: usize| json!({"prompt": "Q?", "chosen": " X".repeat(length), "rejected": " b"});
    let lines: String = [10, 90, 200].map(|length| format!("{}\n", answers(length))).concat();
    world.write("long.jsonl", &lines)?;
    world.run("score --model short --data long.jsonl --output scored.jsonl")?;
    ensure!(
        world.lines("scored.jsonl")?.iter().all(|row| row["chosen_score"].is_number()),
        "a row has no score"
    );
    let (_, said) = run(&world, "score --model short --data long.jsonl --output scored.jsonl")?;
    ensure!(said.contains("2 rows are longer than the 64 tokens"), "{said}");
    let evaluated =
        world.run("eval reward --model short --data long.jsonl --bootstrap 0 --no-report --json")?;
    ensure!(serde_json::from_str::<Value>(&evaluated)?["pairs"] == 3, "{evaluated}");
    let (_, said) =
        run(&world, "score --model short --data long.jsonl --output scored.jsonl --max-length 600")?;
    ensure!(said.contains("beyond the 512 positions"), "{said}");
    Ok(())
}

/// Protects: learned positions end at a limit; every command refuses a greater length before data is read.
#[test]
fn limits_beyond_learned_positions_are_refused() -> Result<()> {
    let world = World::new()?;
    let folder = world.path("gpt2");
    fs::create_dir(&folder)?;
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        fs::copy(beside("golden/text/plain").join(name), folder.join(name))?;
    }
    let config = json!({"model_type": "gpt2", "vocab_size": 384, "n_embd": 16, "n_layer": 1, "n_head": 2,
        "n_positions": 128, "architectures": ["GPT2LMHeadModel"]});
    world.write("gpt2/config.json", &config.to_string())?;
    let train = "reward --model gpt2 --random-init --data train.jsonl --max-steps 1 --batch 8";
    world.run(&format!("{train} --output rm"))?;
    for command in [
        train.replace("train.jsonl", "absent.jsonl") + " --output other",
        "score --model rm --data test.jsonl".to_owned(),
        "eval reward --model rm --data test.jsonl".to_owned(),
    ] {
        let output = world.command(&format!("{command} --max-length 129"))?.output()?;
        ensure!(output.status.code() == Some(2), "{command}: {:?}", output.status.code());
        ensure!(
            stderr(&output).contains("--max-length 129: the model has only 128 learned positions"),
            "{}",
            stderr(&output)
        );
    }
    Ok(())
}

/// Protects: a pair that a constraint cannot bound is named by file and line.
#[test]
fn pairs_without_a_margin_are_named_by_line() -> Result<()> {
    let world = World::new()?;
    let line = |row: usize, margin: Option<f64>| match margin {
        Some(margin) => {
            json!({"prompt": format!("Q{row}?"), "chosen": " a", "rejected": " b", "margin": margin})
        }
        None => json!({"prompt": format!("Q{row}?"), "chosen": " a", "rejected": " b"}),
    };
    let rows = (0..30).map(|row| format!("{}\n", line(row, (row != 6).then_some(0.5))));
    world.write("margins.jsonl", &rows.collect::<String>())?;
    let train = TRAIN.replace("train.jsonl", "margins.jsonl");
    world
        .refuses(&format!("{train} --constraint score_gap --output x"), &["margins.jsonl:7 has no margin"])?;
    world.refuses(&format!("{TRAIN} --constraint score_gap --output x"), &["train.jsonl:1 has no margin"])
}

/// Protects: every command that encodes data warns of prompts and answers joined without a blank.
#[test]
fn glued_texts_are_said_by_every_verb() -> Result<()> {
    let world = World::new()?;
    let line =
        |row: usize| json!({"prompt": format!("Question {row}?"), "chosen": "good", "rejected": "bad"});
    world.write("glued.jsonl", &(0..40).map(|row| format!("{}\n", line(row))).collect::<String>())?;
    let single = |row: usize| json!({"question": format!("Question {row}?"), "answer": "good"});
    world.write("singles.jsonl", &(0..40).map(|row| format!("{}\n", single(row))).collect::<String>())?;
    world.run(&format!("{TRAIN} --output rm"))?;
    let glued = TRAIN.replace("train.jsonl", "glued.jsonl");
    for (command, warned) in [
        (format!("{glued} --output glued"), true),
        ("eval reward --model rm --data glued.jsonl --bootstrap 0 --no-report".to_owned(), true),
        ("score --model rm --data glued.jsonl".to_owned(), true),
        ("score --model rm --data singles.jsonl".to_owned(), true),
        ("score --model rm --data test.jsonl".to_owned(), false),
        (format!("{TRAIN} --output parted"), false),
    ] {
        let (_, said) = run(&world, &command)?;
        ensure!(said.contains("follows its prompt without a blank") == warned, "{command}: {said}");
    }
    Ok(())
}
