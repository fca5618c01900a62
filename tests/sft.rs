//! Supervised fine-tuning: loss and gradients against transformers, and runs that learn, resume and save.

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use pcrm_core::DType;
use pcrm_core::data::encode::EncodedCompletion;
use pcrm_core::data::prompt_id::PromptId;
use pcrm_core::data::report::Origin;
use pcrm_core::model::parameters::parameters;
use pcrm_core::model::{Head, LanguageModel, weights};
use pcrm_rl::objective::sft::{Completions, Sft};
use pcrm_rl::objective::{Batch, evaluate, gradient};
use serde_json::{Value, json};

use crate::binary::World;
use crate::subject::every_backend;
use crate::support::{beside, shared_data};

fn completion(row: usize, ids: Vec<u32>, trained: Vec<Range<usize>>) -> EncodedCompletion {
    let line = row as u64 + 1;
    let origin = Origin { file: Arc::from(Path::new("sft.json")), line, record: line };
    EncodedCompletion { row, origin, prompt_id: PromptId::of_text(&row.to_string()), ids, trained }
}

fn sequences() -> Result<Completions> {
    let json: Value = serde_json::from_str(&fs::read_to_string(beside("golden/sft/sft.json"))?)?;
    let number = |value: &Value| value.as_u64().unwrap_or_default();
    let ids = |value: &Value| -> Vec<u32> {
        value.as_array().into_iter().flatten().map(|id| number(id) as u32).collect()
    };
    let ranges = |value: &Value| -> Vec<Range<usize>> {
        let range = |range: &Value| number(&range[0]) as usize..number(&range[1]) as usize;
        value.as_array().into_iter().flatten().map(range).collect()
    };
    let sequences = json["sequences"].as_array().context("sequences")?;
    let made = sequences.iter().enumerate();
    let made = made.map(|(row, one)| completion(row, ids(&one["ids"]), ranges(&one["trained"])));
    Ok(Completions::new(made.collect()))
}

/// Protects: the loss is the mean over exactly the trained tokens, in one pass or several; the gradient of
/// every parameter, entropy and token accuracy match transformers in float64.
#[test]
fn losses_and_every_gradient_are_those_of_transformers() -> Result<()> {
    let data = sequences()?;
    ensure!(data.targets() == 6, "{} targets", data.targets());
    every_backend(|backend| {
        for family in ["gemma3", "gpt2", "llama", "qwen2"] {
            let golden = weights::load_file(&beside("golden/sft").join(format!("{family}.safetensors")))?;
            let want = |name: &str| -> Result<Vec<f32>> {
                Ok(golden.get(name).with_context(|| format!("{family}: no {name}"))?.to_f32())
            };
            let dir = beside("golden/models").join(family);
            let model = LanguageModel::load(backend, &dir, DType::F32)?.trainable();
            for micro_tokens in [1 << 20, 1] {
                let batch = Batch { data: &data, items: &[0, 1], micro_tokens };
                let got = gradient(backend, &Sft, &model, &batch, 0.0)?;
                let shown = got.metrics.summary();
                for (metric, name) in
                    [("loss", "loss"), ("entropy", "entropy"), ("mean_token_accuracy", "accuracy")]
                {
                    let found = shown.get(metric).context(metric)? as f32;
                    backend.check_close(&format!("{family}: {metric}"), &[found], &want(name)?, 1e-5)?;
                }
                let mut compared = 0;
                for parameter in parameters(model.config(), &[Head::Language]) {
                    let gradient = got.gradients.get(&parameter.name)?.read()?;
                    let stored = if parameter.transposed { gradient.transposed()? } else { gradient };
                    let name = format!("grad.{}", parameter.name);
                    backend.check_norm(
                        &format!("{family}: {name}"),
                        &stored.into_f32(),
                        &want(&name)?,
                        1e-4,
                    )?;
                    compared += 1;
                }
                let there = golden.keys().filter(|name| name.starts_with("grad.")).count();
                ensure!(compared == there, "{family}: only {compared} of {there} gradients were compared");
            }
            let evaluated = evaluate(&Sft, &model, &data, 1)?.summary().loss() as f32;
            backend.check_close(&format!("{family}: evaluation"), &[evaluated], &want("loss")?, 1e-5)?;
        }
        Ok(())
    })
}

/// Options of a short run in the small world.
const RUN: &str = "sft --data train.jsonl --eval-split 0.2 --batch 4 --save-every 2 --keep 9 --max-length 64 \
                   --max-steps 7 --learning-rate 3e-3 --threads 1";

/// Protects: a run killed after any checkpoint ends with the same weights as an undisturbed one, in full or
/// with adapters under dropout; the same binary loads the saved folder.
#[test]
fn a_stopped_run_ends_with_the_same_weights() -> Result<()> {
    let world = World::new()?;
    world.run(&format!("{RUN} --model base --random-init --output lm"))?;
    let lora = " --lora-r 4 --lora-dropout 0.2 --lora-target-modules all-linear";
    for (name, lora, weights) in
        [("whole", "", "model.safetensors"), ("adapters", lora, "adapter_model.safetensors")]
    {
        let run = format!("{RUN} --model lm{lora}");
        world.run(&format!("{run} --output {name}"))?;
        world.run(&format!("{run} --output {name}-cut"))?;
        let (straight, cut) = (world.path(name), world.path(&format!("{name}-cut")));
        // Simulates a kill after step 4: later checkpoints and the model are missing.
        for step in fs::read_dir(&cut)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok()) {
            let made = step.strip_prefix("checkpoint-").and_then(|step| step.parse::<u64>().ok());
            if made.is_some_and(|made| made > 4) {
                fs::remove_dir_all(cut.join(step))?;
            }
        }
        fs::remove_file(cut.join(weights))?;
        world.run(&format!("{run} --output {name}-cut --resume"))?;
        ensure!(
            fs::read(straight.join(weights))? == fs::read(cut.join(weights))?,
            "{name}: the weights differ"
        );
    }
    Ok(())
}

/// Protects: `pcrm sft` trains on the best of ranked answers, and says so.
#[test]
fn ranked_answers_are_trained_on_by_their_best() -> Result<()> {
    let world = World::new()?;
    let (mut ranked, mut best) = (String::new(), String::new());
    for at in 0..16 {
        let (prompt, good) = (format!("Question {at}: "), format!("Answer {at}."));
        let row = json!({"prompt": prompt, "responses": ["No.", good, "Answer?"], "scores": [1, 4, 4]});
        ranked += &format!("{row}\n");
        best += &format!("{}\n", json!({"prompt": prompt, "completion": good}));
    }
    world.write("ranked.jsonl", &ranked)?;
    world.write("best.jsonl", &best)?;
    for name in ["ranked", "best"] {
        let run = format!(
            "sft --data {name}.jsonl --model base --random-init --batch 4 --max-length 64 --max-steps 3 --threads 1 \
             --output {name}"
        );
        let output = world.command(&run)?.output()?;
        let message = crate::binary::stderr(&output);
        ensure!(output.status.success(), "{message}");
        let words = message.split_whitespace().collect::<Vec<_>>().join(" ");
        ensure!(
            words.contains("16 records of preferences: the answer ranked best") == (name == "ranked"),
            "{words}"
        );
    }
    ensure!(world.read("ranked/model.safetensors")? == world.read("best/model.safetensors")?);
    Ok(())
}

/// Protects: a real checkpoint learns: its loss on held-out stories falls.
#[test]
fn a_real_checkpoint_learns_stories() -> Result<()> {
    let (Some(model), Some(stories)) =
        (shared_data("ckpt_stories260k"), shared_data("tinystories_sample/tinystories.txt"))
    else {
        return Ok(());
    };
    let world = World::new()?;
    let text = fs::read_to_string(stories)?;
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let rows = lines.chunks(4).map(|lines| serde_json::json!({"text": lines.join("\n")}).to_string());
    fs::write(world.path("stories.jsonl"), rows.collect::<Vec<_>>().join("\n"))?;
    world.run(&format!(
        "sft --model {} --data stories.jsonl --eval-split 0.1 --max-steps 20 --eval-every 5 \
         --learning-rate 1e-3 --output learned",
        model.display()
    ))?;
    let lines = pcrm_rl::metrics::read(&world.path("learned/metrics.jsonl"))?;
    let losses: Vec<f64> = lines.iter().filter_map(|line| line["eval_loss"].as_f64()).collect();
    let (first, last) = (losses.first().context("no evaluation")?, losses.last().context("no evaluation")?);
    ensure!(losses.len() == 4 && *last < first - 0.01, "{losses:?}");
    ensure!(fs::read_to_string(world.path("learned/report.html"))?.contains("Token accuracy"));
    Ok(())
}
