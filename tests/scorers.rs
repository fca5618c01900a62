//! Encoders that score a question with its answer, compared with transformers: tokens, types, scores, and the
//! commands that use them.
//!
//! The data and the script that generated it are in `golden/scorers`.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use pcrm_core::data::conversation::{Content, Message};
use pcrm_core::data::encode::encode_text;
use pcrm_core::model::{RewardModel, Scores, ScoringModel};
use pcrm_core::text::Tokenizer;
use pcrm_core::{DType, Packed};
use pcrm_rl::score::score_sequences;
use pcrm_rl::sharing::score_shared;
use serde_json::{Value, json};

use crate::binary::World;
use crate::subject::{every_backend, every_backend_with_bf16};
use crate::support::beside;

const ENCODERS: [&str; 9] = [
    "bert",
    "deberta-own",
    "deberta-plain",
    "deberta-v3",
    "distilbert",
    "modernbert",
    "modernbert-mean",
    "roberta",
    "xlm-roberta",
];

fn folder(name: &str) -> PathBuf {
    beside("golden/scorers").join(name)
}

struct Case {
    question: Option<String>,
    answer: String,
    ids: Vec<u32>,
    types: Vec<u32>,
    score: f32,
}

/// Reads the cases of a model: pairs, and a single text.
fn cases(name: &str) -> Result<Vec<Case>> {
    let golden: Value = serde_json::from_str(&fs::read_to_string(folder(name).join("cases.json"))?)?;
    let read = |case: &Value, answer: &str| -> Result<Case> {
        let list = |key: &str| {
            case[key].as_array().into_iter().flatten().filter_map(Value::as_u64).map(|id| id as u32).collect()
        };
        Ok(Case {
            question: case["question"].as_str().map(str::to_owned),
            answer: case[answer].as_str().context("a text")?.to_owned(),
            ids: list("ids"),
            types: list("types"),
            score: case["score"].as_f64().context("score")? as f32,
        })
    };
    let mut all: Vec<Case> = golden["pairs"]
        .as_array()
        .context("pairs")?
        .iter()
        .map(|case| read(case, "answer"))
        .collect::<Result<_>>()?;
    all.push(read(&golden["alone"], "text")?);
    Ok(all)
}

fn text(text: &str) -> Content {
    Content::Text(text.to_owned())
}

fn encoded(case: &Case, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
    Ok(encode_text(case.question.as_deref().map(text).as_ref(), &text(&case.answer), tokenizer, None)?)
}

/// Protects: questions and answers get the ids and types of `tokenizer(question, answer)`, and the scores of
/// transformers in float64; a score has the same bits alone and in a batch of any size.
#[test]
fn scores_are_those_of_transformers_in_any_batch() -> Result<()> {
    every_backend(|backend| {
        for name in ENCODERS {
            let check = || -> Result<()> {
                let (model, tokenizer) = ScoringModel::open(backend, &folder(name), DType::F32)?;
                let form = tokenizer.pairs().context("pairs")?;
                let cases = cases(name)?;
                let mut sequences = Vec::new();
                for case in &cases {
                    let ids = encoded(case, &tokenizer)?;
                    ensure!(tokenizer.untyped(&ids) == case.ids, "ids: {ids:?}, expected {:?}", case.ids);
                    if form.types > 1 {
                        let types: Vec<u32> = ids.iter().map(|id| id / form.vocabulary).collect();
                        ensure!(types == case.types, "types: {types:?}, expected {:?}", case.types);
                    }
                    sequences.push(ids);
                }
                let views: Vec<&[u32]> = sequences.iter().map(Vec::as_slice).collect();
                let want: Vec<f32> = cases.iter().map(|case| case.score).collect();
                let together = score_sequences(&model, &views, 1 << 20)?;
                backend.check_close("scores", &together, &want, 5e-5)?;
                for budget in [1, 50, 200] {
                    let apart = score_sequences(&model, &views, budget)?;
                    backend.check_same(&format!("{budget} tokens at once"), &apart, &together)?;
                }
                let twice = [views.as_slice(), &views[..2]].concat();
                let shared = score_shared(&model, &twice)?.scores;
                backend.check_same("in one pass", &shared[..views.len()], &together)?;
                backend.check_same("the same again", &shared[views.len()..], &together[..2])
            };
            check().with_context(|| name.to_owned())?;
        }
        Ok(())
    })
}

/// Protects: scores in bf16 are close.
#[test]
fn scores_in_bf16_are_near() -> Result<()> {
    every_backend_with_bf16(|backend| {
        for name in ENCODERS {
            let (model, tokenizer) = ScoringModel::open(backend, &folder(name), DType::BF16)?;
            for case in cases(name)? {
                let score = score_sequences(&model, &[&encoded(&case, &tokenizer)?], 8192)?[0];
                let off = (score - case.score).abs() / case.score.abs().max(1.0);
                ensure!(off < 0.25, "{name}: {score}, in float64 {}", case.score);
            }
        }
        Ok(())
    })
}

/// Protects: a conversation of a question and its answer is a pair. Other turns, several labels, a missing
/// head, shared tokens and training are refused with a message.
#[test]
fn conversations_are_pairs_and_the_rest_is_refused() -> Result<()> {
    every_backend(|backend| {
        let (model, tokenizer) = ScoringModel::open(backend, &folder("bert"), DType::F32)?;
        let turns = |turns: &[(&str, &str)]| {
            Content::Messages(turns.iter().map(|(role, text)| Message::new(*role, *text)).collect())
        };
        let encode = |content: &Content| encode_text(None, content, &tokenizer, None);
        let chat = encode(&turns(&[("user", "what is the sea?"), ("assistant", "the sea is wide.")]))?;
        ensure!(tokenizer.untyped(&chat) == cases("bert")?[0].ids);
        let long = turns(&[("system", "be brief"), ("user", "a"), ("assistant", "b")]);
        let said = encode(&long).err().context("three turns")?.to_string();
        ensure!(said.contains("the turns are system, user, assistant; expected a question"), "{said}");
        let mut packed = Packed::default();
        let prompt = packed.push(&[2, 7, 3], None)?;
        packed.push(&[8, 3], Some(prompt))?;
        let said = model.scores(&packed, &[4]).err().context("shared")?.to_string();
        ensure!(said.contains("an encoder computes every sequence apart"), "{said}");
        let said = RewardModel::load_to_train(backend, &folder("deberta-v3"), DType::F32, 0);
        let said = said.err().context("training")?.to_string();
        ensure!(said.contains("encoders score (pcrm score") && said.contains("not trained here"), "{said}");
        for (change, expected) in [
            (json!({"id2label": {"0": "a", "1": "b"}}), "names 2 labels; a reward model has one"),
            (json!({"vocab_size": 99}), "embeddings.word_embeddings.weight has shape"),
            (json!({"num_hidden_layers": 3}), "encoder.layer.2.attention.self.query.weight is missing"),
        ] {
            let dir = tempfile::tempdir()?;
            for name in ["model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
                fs::copy(folder("bert").join(name), dir.path().join(name))?;
            }
            let mut config: Value =
                serde_json::from_str(&fs::read_to_string(folder("bert").join("config.json"))?)?;
            for (key, value) in change.as_object().into_iter().flatten() {
                config[key] = value.clone();
            }
            fs::write(dir.path().join("config.json"), config.to_string())?;
            let said =
                ScoringModel::open(backend, dir.path(), DType::F32).err().context("a refusal")?.to_string();
            ensure!(said.contains(expected), "{said}");
        }
        Ok(())
    })
}

/// Protects: the unknown keys of an encoder's config are named, and its known ones, read or not, are not.
#[test]
fn unknown_keys_of_encoders_are_named() -> Result<()> {
    let world = World::new()?;
    world.write("texts.jsonl", "{\"prompt\": \"what is the sea?\", \"completion\": \"wide\"}\n")?;
    for name in ["bert", "deberta-v3", "distilbert", "modernbert", "roberta", "xlm-roberta"] {
        fs::create_dir(world.path(name))?;
        for entry in fs::read_dir(folder(name))? {
            let entry = entry?;
            fs::copy(entry.path(), world.path(name).join(entry.file_name()))?;
        }
        let mut config: Value = serde_json::from_str(&fs::read_to_string(folder(name).join("config.json"))?)?;
        let family = config["model_type"].as_str().context("model_type")?.to_owned();
        config["alibi"] = json!(true);
        world.write(&format!("{name}/config.json"), &config.to_string())?;
        let score = format!("score --model {name} --data texts.jsonl --output {name}.jsonl");
        let output = world.command(&score)?.output()?;
        let message = crate::binary::stderr(&output).split_whitespace().collect::<Vec<_>>().join(" ");
        let named = format!("alibi is not a known key of {family}; it is ignored");
        ensure!(output.status.success() && message.contains(&named), "{name}: {message}");
        ensure!(message.matches("is not a known key").count() == 1, "{name}: {message}");
    }
    Ok(())
}

/// Protects: `score`, `eval reward`, `judge` and the scoring of `best-of-n` accept an encoder like a decoder,
/// and give the scores of transformers.
#[test]
fn verbs_that_score_take_encoders() -> Result<()> {
    let world = World::new()?;
    for name in ["deberta-v3", "bert"] {
        let dir = folder(name);
        let dir = dir.display();
        let cases = cases(name)?;
        let line = |case: &Case| {
            json!({"prompt": case.question.clone().unwrap_or_default(), "completion": case.answer})
                .to_string()
        };
        let pairs: Vec<&Case> = cases.iter().filter(|case| case.question.is_some()).collect();
        world.write("texts.jsonl", &pairs.iter().map(|case| line(case) + "\n").collect::<String>())?;
        world.run(&format!("score --model {dir} --data texts.jsonl --ids --output scored.jsonl"))?;
        for (line, case) in world.lines("scored.jsonl")?.iter().zip(&pairs) {
            let score = line["score"].as_f64().context("score")?;
            ensure!((score - f64::from(case.score)).abs() < 5e-5, "{line}");
            ensure!(line["ids"] == json!(case.ids), "{line}");
        }
        let (first, second) = (&cases[0], &cases[1]);
        let chosen_first = first.score > second.score;
        let (chosen, rejected) = if chosen_first { (first, second) } else { (second, first) };
        let pair = json!({"prompt": first.question, "chosen": chosen.answer, "rejected": rejected.answer});
        world.write("pairs.jsonl", &format!("{pair}\n"))?;
        world.run(&format!(
            "eval reward --model {dir} --data pairs.jsonl --no-cache --report page.html --output report.json"
        ))?;
        let report: Value = serde_json::from_slice(&world.read("report.json")?)?;
        let accuracy = report.to_string();
        ensure!(accuracy.contains("\"accuracy\""), "{accuracy}");
        let long = "a ".repeat(300);
        world.write("long.jsonl", &json!({"prompt": "q", "completion": long}).to_string())?;
        world.refuses(
            &format!("score --model {dir} --data long.jsonl"),
            &["no rows are left: all exceed --max-length"],
        )?;
    }
    let dir = folder("deberta-v3");
    world.refuses(
        &format!("reward --model {} --data test.jsonl --output run", dir.display()),
        &["model_type is \"deberta-v2\"", "encoders score (pcrm score", "not trained here"],
    )
}
