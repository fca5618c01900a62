//! The commands as users meet them: their output, scores that do not depend on the batch, and refusals of
//! wrong input.

use std::fs;
use std::io::Write;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::binary::{World, stderr};
use crate::plugins::BACKENDS;
use crate::support::{beside, check_close};

const TRAIN: &str = "reward --model base --data train.jsonl --max-steps 12 --batch 8 --learning-rate 1e-3";

#[test]
fn plugins_are_listed_a_line_each() -> Result<()> {
    let printed = World::new()?.run("plugins")?;
    let names: Vec<Vec<&str>> =
        printed.lines().map(|line| line.split_whitespace().take(2).collect()).collect();
    let backends = BACKENDS.iter().map(|name| format!("backend {name}"));
    let expected = [
        "constraint calibrated",
        "constraint combine",
        "constraint cosine",
        "constraint edit",
        "constraint fixed",
        "constraint learned",
        "constraint length_ratio",
        "constraint none",
        "constraint random",
        "constraint schedule",
        "constraint score_gap",
        "encoder bag-of-words",
        "encoder bert",
        "encoder onnx",
        "encoder policy",
        "judge command",
        "judge gold",
        "judge openai",
        "judge replay",
        "judge reward",
        "reward command",
        "reward exact",
        "reward format",
        "reward http",
        "reward json",
        "reward length",
        "reward overlong",
        "reward python",
        "reward regex",
        "reward repetition",
        "reward world",
    ];
    let expected = backends.chain(expected.map(str::to_owned));
    ensure!(names.iter().map(|words| words.join(" ")).eq(expected), "{printed}");
    Ok(())
}

#[test]
fn a_model_is_trained_scored_and_evaluated() -> Result<()> {
    let world = World::new()?;
    world.run(&format!(
        "{TRAIN} --max-steps 40 --constraint length_ratio --eval-data test.jsonl --output rm"
    ))?;
    let lines = world.lines("rm/metrics.jsonl")?;
    let names = "loss accuracy margin min_reward mean_reward max_reward grad_norm learning_rate num_tokens \
                 epoch bound beyond_bound ranking_loss constraint_loss tokens_per_second padding_avoided";
    for name in names.split_whitespace() {
        ensure!(lines[0][name].is_number(), "metrics.jsonl has no number for {name}: {}", lines[0]);
    }
    ensure!(
        lines.last().is_some_and(|line| line["eval_accuracy"].as_f64() > Some(0.9)),
        "{:?}",
        lines.last()
    );

    world.run("score --model rm --data test.jsonl --output scored.jsonl --ids")?;
    let scored = world.lines("scored.jsonl")?;
    let rows = world.lines("test.jsonl")?;
    ensure!(scored.len() == rows.len(), "{} of {} rows are scored", scored.len(), rows.len());
    ensure!(
        scored.iter().zip(&rows).all(|(scored, row)| scored["prompt"] == row["prompt"]),
        "the input's columns are missing from the output"
    );

    let report: Value = serde_json::from_str(&world.run("eval reward --model rm --data test.jsonl --json")?)?;
    let right =
        scored.iter().filter(|row| row["chosen_score"].as_f64() > row["rejected_score"].as_f64()).count();
    let accuracy = report["accuracy"]["value"].as_f64().context("accuracy")?;
    check_close("accuracy", &[accuracy as f32], &[right as f32 / rows.len() as f32], 1e-6)?;
    ensure!(report["constraint"]["kind"] == "length_ratio", "the model's constraint is not used: {report}");
    let table = world.run("eval reward --model rm --data test.jsonl")?;
    ensure!(
        table.lines().all(|line| line.chars().count() <= 80),
        "the table is wider than 80 columns:\n{table}"
    );
    Ok(())
}

/// Protects: one option selects the backend, one the element type; another backend scores the same model
/// alike.
#[test]
fn backends_and_types_are_swapped_by_an_option() -> Result<()> {
    if BACKENDS != ["candle", "tch"] {
        println!("built with {BACKENDS:?} alone: no second backend to test (feature tch)");
        return Ok(());
    }
    let world = World::new()?;
    let scores = |model: &str, options: &str| -> Result<Vec<f32>> {
        world.run(&format!("score --model {model} --data test.jsonl --output scored.jsonl {options}"))?;
        let rows = world.lines("scored.jsonl")?;
        let score = |row: &Value, name: &str| row[name].as_f64().unwrap_or(f64::NAN) as f32;
        Ok(rows.iter().flat_map(|row| [score(row, "chosen_score"), score(row, "rejected_score")]).collect())
    };
    for (name, options) in [("f32", "--backend tch"), ("bf16", "--backend tch --dtype bf16")] {
        world.run(&format!("{TRAIN} --max-steps 40 --eval-data test.jsonl --output {name} {options}"))?;
        let lines = world.lines(&format!("{name}/metrics.jsonl"))?;
        let accuracy = lines.last().and_then(|line| line["eval_accuracy"].as_f64());
        ensure!(accuracy > Some(0.9), "{options}: {accuracy:?}");
        let (own, others) = (scores(name, options)?, scores(name, "--backend candle")?);
        let spread = others.iter().fold(0f32, |most, score| most.max(score.abs()));
        let tolerance = if name == "f32" { 1e-5 } else { 3e-2 * spread };
        for (own, other) in own.iter().zip(&others) {
            ensure!((own - other).abs() <= tolerance, "{options}: score {own}, candle gives {other}");
        }
    }
    Ok(())
}

#[test]
fn the_same_text_has_the_same_score_in_any_batch_order_and_form() -> Result<()> {
    let world = World::new()?;
    world.run(&format!("{TRAIN} --output rm"))?;
    let score = |data: &str, more: &str| -> Result<Vec<Value>> {
        world.run(&format!("score --model rm --data {data} --output scored.jsonl {more}"))?;
        world.lines("scored.jsonl")
    };
    let together = score("test.jsonl", "")?;
    ensure!(together == score("test.jsonl", "--micro-tokens 1")?, "batches change scores");
    ensure!(
        together == score("test.jsonl", "--micro-tokens 100 --threads 1")?,
        "batches or threads change scores"
    );

    let text = String::from_utf8(world.read("test.jsonl")?)?;
    let reversed: Vec<&str> = text.lines().rev().collect();
    world.write("reversed.jsonl", &reversed.join("\n"))?;
    let mut backwards = score("reversed.jsonl", "")?;
    backwards.reverse();
    ensure!(together == backwards, "order changes scores");

    let single =
        |row: &Value| serde_json::json!({"prompt": row["prompt"], "completion": row["chosen"]}).to_string();
    let singles: Vec<String> = world.lines("test.jsonl")?.iter().map(single).collect();
    world.write("single.jsonl", &singles.join("\n"))?;
    let alone = score("single.jsonl", "")?;
    for (pair, alone) in together.iter().zip(&alone) {
        ensure!(pair["chosen_score"] == alone["score"], "{pair} and {alone} have different scores");
    }

    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(text.as_bytes())?;
    fs::write(world.path("test.jsonl.gz"), gzip.finish()?)?;
    fs::write(world.path("test.jsonl.zst"), zstd::encode_all(text.as_bytes(), 1)?)?;
    ensure!(
        together == score("test.jsonl.gz", "")? && together == score("test.jsonl.zst", "")?,
        "packing changes scores"
    );
    Ok(())
}

#[test]
fn a_config_file_holds_any_option_and_flags_override_it() -> Result<()> {
    let world = World::new()?;
    world.write(
        "run.toml",
        "model = \"base\"\ndata = [\"train.jsonl\"]\nmax-steps = 3\nbatch = 4\nlearning-rate = 1e-3\n\
         strict = true\n[constraint]\nkind = \"fixed\"\nbound = 2.5\n",
    )?;
    world.run("reward --config run.toml --output a --max-steps 2")?;
    ensure!(world.lines("a/metrics.jsonl")?.len() == 2, "the flag did not override the file");
    let resolved = String::from_utf8(world.read("a/config.toml")?)?;
    ensure!(resolved.contains("batch = 4") && resolved.contains("strict = true"), "{resolved}");
    let config: Value = serde_json::from_slice(&world.read("a/config.json")?)?;
    ensure!(config["pcrm"]["constraint"]["bound"] == 2.5, "{config}");
    // A path stays text, and a seed keeps its digits.
    world.run("reward --config run.toml --output 01 --seed 9223372036854775809 --max-steps 1")?;
    let resolved = String::from_utf8(world.read("01/config.toml")?)?;
    ensure!(
        resolved.contains("output = \"01\"") && resolved.contains("\"9223372036854775809\""),
        "{resolved}"
    );
    world.refuses("reward --config 01/config.toml", &["01", "already holds"])?;
    // The resolved config of a run reproduces it.
    world.run("reward --config a/config.toml --output b")?;
    ensure!(
        world.read("a/model.safetensors")? == world.read("b/model.safetensors")?,
        "config.toml trains a different model"
    );

    world.write("bad.toml", "learning-rat = 1\n")?;
    world
        .refuses("reward --config bad.toml", &["bad.toml", "\"learning-rat\"", "known:", "learning-rate,"])?;
    world.write("bad.toml", "batch = \"many\"\n")?;
    let rest = "--model base --data train.jsonl --output x";
    world.refuses(&format!("reward --config bad.toml {rest}"), &["bad.toml", "'many'", "--batch"])?;
    world.refuses(
        &format!("reward --config run.toml --config bad.toml {rest}"),
        &["--config is given twice"],
    )?;
    world.write("bad.toml", "batch = [1, 2]\n")?;
    world.refuses(&format!("reward --config bad.toml {rest}"), &["bad.toml", "batch", "one value"])?;
    world.write("bad.toml", "batch = \n")?;
    world.refuses(&format!("reward --config bad.toml {rest}"), &["bad.toml", "line 1"])
}

/// Protects: ranked answers are trained on with every ranking loss, with and without ties; where ties cannot
/// be used, the message explains the options.
#[test]
fn ranked_answers_are_trained_on_with_and_without_ties() -> Result<()> {
    let world = World::new()?;
    let line = |row: usize| {
        let answers = [" good and good.", " good rain.", " a road.", " the sea."];
        let turned: Vec<&str> = (0..4).map(|at| answers[(row + at) % 4]).collect();
        let ranks: Vec<usize> = (0..4).map(|at| [1, 2, 3, 3][(row + at) % 4]).collect();
        json!({"prompt": format!("Question {row}?"), "responses": turned, "ranks": ranks}).to_string() + "\n"
    };
    world.write("ranked.jsonl", &(0..40).map(line).collect::<String>())?;
    let train = "reward --model base --data ranked.jsonl --max-steps 6 --batch 8 --constraint length_ratio";
    for (name, options) in [
        ("pairs", ""),
        ("whole", "--ranking plackett-luce"),
        ("davidson", "--ties davidson --ranking plackett-luce --tie-strength 0.5"),
        ("rao", "--ties rao-kupper"),
    ] {
        world.run(&format!("{train} --output {name} {options}"))?;
        let lines = world.lines(&format!("{name}/metrics.jsonl"))?;
        ensure!(lines.len() == 5 && lines[0]["ranking_loss"].as_f64() > Some(0.0), "{name}: {lines:?}");
    }
    let tied = json!({"prompt": "Q?", "responses": ["a", "b"], "scores": [1, 1]});
    world.write("tied.jsonl", &format!("{tied}\n"))?;
    world.refuses("reward --model base --data tied.jsonl --output x", &["tied.jsonl:1", "tie"])?;
    world.run("reward --model base --data tied.jsonl --output tied --ties davidson --max-steps 1")?;
    world.refuses(&format!("{train} --output x --tie-strength 2"), &["--tie-strength", "--ties davidson"])?;
    world.refuses(&format!("{train} --output x --ties some"), &["davidson", "rao-kupper", "drop"])?;
    world.refuses(
        &format!("{train} --output x --ties rao-kupper --ranking plackett-luce"),
        &["ties", "davidson"],
    )?;
    let bench =
        "bench reward --model base --data ranked.jsonl --steps 2 --warmup 1 --batch 4 --answers 4 --json";
    let [together, apart] = ["", "--apart"].map(|how| world.run(&format!("{bench} {how}")));
    let tokens = |line: Result<String>| -> Result<f64> {
        let line: Value = serde_json::from_str(&line?)?;
        line["unique_tokens_per_pair"].as_f64().context("unique_tokens_per_pair")
    };
    let (together, apart) = (tokens(together)?, tokens(apart)?);
    ensure!(apart > 2.5 * together, "{together} unique tokens per pair together, {apart} apart");
    Ok(())
}

#[test]
fn wrong_data_is_told_by_file_and_line() -> Result<()> {
    let world = World::new()?;
    let good = String::from_utf8(world.read("train.jsonl")?)?;
    let many: Vec<&str> = good.lines().cycle().take(1500).collect();
    let mut broken = many.clone();
    broken[1233] = "{\"prompt\": \"what";
    world.write("broken.jsonl", &broken.join("\n"))?;
    let train = "reward --model base --output x --max-steps 1";
    world.refuses(&format!("{train} --data broken.jsonl --strict"), &["broken.jsonl:1234", "JSON"])?;
    ensure!(!world.path("x").exists(), "a refused run left a folder");
    let output = world.command(&format!("{train} --data broken.jsonl"))?.output()?;
    ensure!(
        output.status.success() && stderr(&output).contains("1 malformed (broken.jsonl:1234: broken JSON: "),
        "{}",
        stderr(&output)
    );

    world.refuses("reward --model base --output y --data none.jsonl", &["none.jsonl", "No such file"])?;
    world.write("empty.jsonl", "")?;
    world.refuses("reward --model base --output y --data empty.jsonl", &["empty.jsonl"])?;
    world.write("other.jsonl", "{\"question\": \"a\", \"answer\": \"b\"}\n")?;
    world.refuses("reward --model base --output y --data other.jsonl", &["other.jsonl", "chosen"])?;
    world.refuses(
        "reward --model base --output y --data train.jsonl --max-length 3",
        &["240 exceed 3 tokens"],
    )?;
    ensure!(!world.path("y").exists(), "a refused run left a folder");
    Ok(())
}

#[test]
fn wrong_models_are_told_by_file() -> Result<()> {
    let world = World::new()?;
    let copy = |name: &str| -> Result<()> {
        fs::create_dir(world.path(name))?;
        for entry in fs::read_dir(world.path("base"))? {
            let entry = entry?;
            fs::copy(entry.path(), world.path(name).join(entry.file_name()))?;
        }
        Ok(())
    };
    let train = |name: &str| format!("reward --model {name} --data train.jsonl --output x");
    copy("short")?;
    let weights = world.read("short/model.safetensors")?;
    fs::write(world.path("short/model.safetensors"), &weights[..weights.len() / 2])?;
    world.refuses(&train("short"), &["short/model.safetensors", "not a whole safetensors file"])?;

    copy("endless")?;
    for name in ["tokenizer_config.json", "config.json"] {
        let path = world.path("endless").join(name);
        let mut json: Value = serde_json::from_slice(&fs::read(&path)?)?;
        json.as_object_mut().context("an object")?.retain(|key, _| !key.starts_with("eos_token"));
        fs::write(&path, json.to_string())?;
    }
    world.refuses(&train("endless"), &["EOS", "tokenizer_config.json"])?;

    copy("sharded")?;
    fs::remove_file(world.path("sharded/model.safetensors"))?;
    let index = "model.safetensors.index.json";
    fs::copy(beside("golden/models/llama-sharded").join(index), world.path("sharded").join(index))?;
    world.refuses(&train("sharded"), &[index, "model-00001-of-00003.safetensors"])?;

    // Missing weights are an error, unless `--random-init` is given.
    copy("bare")?;
    fs::remove_file(world.path("bare/model.safetensors"))?;
    world.refuses(&train("bare"), &["bare", "model.safetensors"])?;
    world.run(&format!(
        "{} --random-init --max-steps 1",
        train("bare").replace("--output x", "--output fresh")
    ))?;

    copy("strange")?;
    world.write("strange/config.json", "{\"model_type\": \"mamba\"}")?;
    world.refuses(
        &train("strange"),
        &["strange/config.json", "mamba", "gemma3_text, glm4, gpt2, gpt_neox, granite, internlm2, llama"],
    )?;
    world.refuses(&train("absent"), &["absent"])?;
    ensure!(!world.path("x").exists(), "a refused run left a folder");

    world.write(
        "base/config.json",
        &String::from_utf8(world.read("base/config.json")?)?.replace("ForSequence", "For"),
    )?;
    // The head is found by its tensors, whatever the class in config.json is called.
    world.run("score --model base --data test.jsonl --output scored.jsonl").map(drop)
}

#[test]
fn unknown_names_list_the_known_ones() -> Result<()> {
    let world = World::new()?;
    let train = "reward --model base --data train.jsonl --output x";
    let tch: &[&str] = if BACKENDS.contains(&"tch") { &["cuda:999"] } else { &["tch", "scripts/libtorch"] };
    let cases: [(&str, &[&str]); 9] = [
        ("--constraint cosines", &["\"cosines\"", "combine, cosine, edit", "length_ratio, none, random"]),
        ("--constraint '{\"kind\": \"fixed\", \"bond\": 3}'", &["fixed", "bond", "bound"]),
        (
            "--constraint '{\"kind\": \"length_ratio\", \"beta3\": -25}'",
            &["length_ratio", "s = 1", "positive"],
        ),
        ("--constraint '{\"bound\": 3}'", &["kind", "combine, cosine, edit", "length_ratio, none, random"]),
        ("--backend torch", &["\"torch\"", "known: candle"]),
        ("--device cuda:0", &["cuda:0", "cpu", "candle-cuda"]),
        ("--backend tch --device cuda:999", tch),
        ("--dtype bf16", &["bf16", "f32", "--backend tch"]),
        ("--eval-split 1.5", &["1.5", "between 0 and 1"]),
    ];
    for (option, parts) in cases {
        world.refuses(&format!("{train} {option}"), parts)?;
    }
    world.refuses("rewards", &["rewards", "reward"])
}

#[test]
fn benchmarks_print_the_fields_of_the_peer() -> Result<()> {
    let world = World::new()?;
    for job in ["reward", "score"] {
        let options = "--model base --data train.jsonl --steps 3 --warmup 1 --batch 4 --threads 2 --json";
        let line: Value = serde_json::from_str(&world.run(&format!("bench {job} {options}"))?)?;
        let names = "system job device dtype pairs_per_s tokens_per_s s_per_step batch mean_tokens_per_pair \
                     peak_rss_mib";
        for name in names.split_whitespace() {
            ensure!(!line[name].is_null(), "bench {job} prints no {name}: {line}");
        }
        ensure!(line["job"] == job && line["pairs_per_s"].as_f64() > Some(0.0), "{line}");
    }
    // As scripts/gpu-bench trains a large model.
    let adapters = "--lora-r 2 --lora-target-modules all-linear --gradient-checkpointing";
    let options = format!("--model base --data train.jsonl --steps 1 --warmup 0 --batch 4 --json {adapters}");
    let line: Value = serde_json::from_str(&world.run(&format!("bench reward {options}"))?)?;
    ensure!(line["pairs_per_s"].as_f64() > Some(0.0), "{line}");
    let peak: Value = serde_json::from_str(&world.run("bench gemm --seconds 0.2 --json")?)?;
    ensure!(peak["gflop_per_s"].as_f64() > Some(0.1), "{peak}");
    Ok(())
}

#[test]
fn completions_know_the_verbs() -> Result<()> {
    let world = World::new()?;
    for shell in ["bash", "zsh", "fish"] {
        ensure!(world.run(&format!("completions {shell}"))?.contains("length"), "{shell}");
    }
    Ok(())
}

#[test]
fn every_command_has_a_man_page() -> Result<()> {
    let world = World::new()?;
    world.run("man pages/of/pcrm")?;
    for (name, needle) in [("pcrm", "reward"), ("pcrm-reward", "center"), ("pcrm-eval-dpo", "pairs")] {
        let page = String::from_utf8(world.read(&format!("pages/of/pcrm/{name}.1"))?)?;
        ensure!(page.contains(".TH") && page.contains(needle), "{name}: {page}");
    }
    world.write("file", "")?;
    world.refuses("man file", &["file"])
}
