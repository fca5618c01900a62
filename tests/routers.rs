//! The routers' loss of mixtures of experts in training: its value and gradient against transformers, its share of
//! a step, its metrics.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use pcrm_core::data::encode::EncodedCompletion;
use pcrm_core::data::prompt_id::PromptId;
use pcrm_core::data::report::Origin;
use pcrm_core::model::{LanguageModel, weights};
use pcrm_core::{Backend, DType};
use pcrm_eval::report::number;
use pcrm_rl::loss::policy::{GrpoConfig, PpoConfig, RlooConfig};
use pcrm_rl::loss::preference::PreferenceConfig;
use pcrm_rl::metrics::Summary;
use pcrm_rl::objective::sft::{Completions, Sft};
use pcrm_rl::objective::{Batch, Objective, gradient};
use pcrm_rl::online::{PairStep, PolicyStep, SampledAnswer, Step, Tree};
use serde_json::{Value, json};

use crate::binary::World;
use crate::subject::{Subject, every_backend};
use crate::support::beside;

const FAMILIES: [&str; 4] = ["mixtral", "olmoe", "qwen2_moe", "qwen3_moe"];

/// The coefficient of the routers' loss where it is added.
const COEFFICIENT: f64 = 0.5;

const ALL_AT_ONCE: usize = 1 << 20;

/// A sequence, its routers' loss by transformers, and the gradient of every router.
struct Golden {
    sequence: Vec<u32>,
    loss: f64,
    gradients: BTreeMap<String, Vec<f32>>,
}

impl Golden {
    fn open(family: &str) -> Result<Self> {
        let dir = beside("golden/models").join(family);
        let cases: Value = serde_json::from_slice(&fs::read(dir.join("cases.json"))?)?;
        let ids = cases["logp_sequence"].as_array().context("logp_sequence")?;
        let sequence = ids.iter().filter_map(Value::as_u64).map(|id| id as u32).collect();
        let golden = weights::load_file(&dir.join("golden.safetensors"))?;
        let loss = golden.get("aux.loss").context("aux.loss")?.to_f32()[0];
        let of_router = |name: &str| Some(name.strip_prefix("aux.grad.")?.to_owned());
        let gradients =
            golden.iter().filter_map(|(name, value)| Some((of_router(name)?, value.to_f32()))).collect();
        Ok(Self { sequence, loss: f64::from(loss), gradients })
    }
}

/// Loads a golden model to train it with this coefficient.
fn model(backend: &dyn Backend, family: &str, coefficient: f64) -> Result<LanguageModel> {
    let model = LanguageModel::load(backend, &beside("golden/models").join(family), DType::F32)?;
    let model = model.with_config(|config| {
        if let Some(mixture) = &mut config.mixture {
            mixture.balance = coefficient;
        }
    });
    Ok(model.trainable())
}

/// Returns a text whose last two tokens are learned.
fn completion(ids: &[u32]) -> EncodedCompletion {
    let origin = Origin { file: Arc::from(Path::new("texts.jsonl")), line: 1, record: 1 };
    let last = ids.len() - 2..ids.len();
    EncodedCompletion {
        row: 0,
        origin,
        prompt_id: PromptId::of_text("text"),
        ids: ids.to_vec(),
        trained: std::iter::once(last).collect(),
    }
}

/// Returns a prompt with one or two answers. The rows of a single answer are the sequence.
fn tree(sequence: &[u32], answers: usize) -> Tree {
    let answer = |ids: &[u32]| SampledAnswer {
        // The last token predicts nothing, so it has no row.
        ids: ids.iter().copied().chain([5]).collect(),
        sampled: vec![-3.0; ids.len() + 1],
        old_log_probs: Some(vec![-3.9; ids.len() + 1]),
        reference: Some(vec![-4.2; ids.len() + 1]),
        advantage: 0.7,
        ended: true,
        ..SampledAnswer::default()
    };
    let (prompt, rest) = sequence.split_at(4);
    let answers = [rest, &rest[2..]].into_iter().take(answers).map(answer).collect();
    Tree { prompt: prompt.to_vec(), answers, ..Tree::default() }
}

/// The metrics of a step, and its gradients by parameter.
type Made = (Summary, BTreeMap<String, Vec<f32>>);

fn made<O: Objective<Model = LanguageModel>>(
    backend: &Subject,
    model: &LanguageModel,
    objective: &O,
    data: &O::Data,
    micro_tokens: usize,
) -> Result<Made> {
    let items: Vec<usize> = (0..objective.sizes(data).len()).collect();
    let found = gradient(backend, objective, model, &Batch { data, items: &items, micro_tokens }, 0.0)?;
    let mut gradients = BTreeMap::new();
    for (name, gradient) in found.gradients.iter() {
        gradients.insert(name.to_owned(), gradient.read()?.into_f32());
    }
    Ok((found.metrics.summary(), gradients))
}

/// Returns the steps of several objectives on the same trees, and of fine-tuning on texts.
fn steps(
    backend: &Subject,
    model: &LanguageModel,
    (trees, texts): (&[Tree], &[EncodedCompletion]),
    micro_tokens: usize,
) -> Result<Vec<(&'static str, Made)>> {
    let texts = Completions::new(texts.to_vec());
    let mut found = vec![("sft", made(backend, model, &Sft, &texts, micro_tokens)?)];
    let items: Vec<usize> = (0..trees.len()).collect();
    let losses = [
        ("grpo", GrpoConfig { beta: 0.1, ..GrpoConfig::default() }.loss(16)),
        ("rloo", RlooConfig::default().loss()),
        ("ppo", PpoConfig::default().loss()),
    ];
    for (name, loss) in losses {
        let mut step = Step::new(trees.to_vec());
        step.counted(&loss, &items, 1, None)?;
        let objective = PolicyStep { loss, temperature: 0.9 };
        found.push((name, made(backend, model, &objective, &step, micro_tokens)?));
    }
    // Prompts without a preference: nothing but the routers' loss is learned.
    let objective = PairStep { loss: PreferenceConfig::default(), sampled_at: 0.9 };
    let step = Step::new(trees.to_vec());
    found.push(("online-dpo", made(backend, model, &objective, &step, micro_tokens)?));
    Ok(found)
}

/// Returns what the routers' loss added to the loss and to the gradient of a router.
fn added(balanced: &Made, free: &Made, router: &str) -> Result<(f64, Vec<f32>)> {
    let of = |made: &Made| made.1.get(router).cloned().with_context(|| format!("no gradient of {router}"));
    let gradient = of(balanced)?.iter().zip(of(free)?).map(|(balanced, free)| balanced - free).collect();
    Ok((balanced.0.loss() - free.0.loss(), gradient))
}

/// Protects: fine-tuning and every on-policy objective add the routers' loss of all their rows with its
/// coefficient, in value and gradient that of transformers. `aux_loss` is without the coefficient, as in TRL;
/// with a coefficient of 0 there is none.
#[test]
fn every_objective_adds_the_loss_of_routers_of_transformers() -> Result<()> {
    every_backend(|backend| {
        for family in FAMILIES {
            let golden = Golden::open(family)?;
            ensure!(!golden.gradients.is_empty(), "{family}: no gradient of a router");
            let (trees, texts) = ([tree(&golden.sequence, 1)], [completion(&golden.sequence)]);
            let of = |coefficient: f64| {
                let model = model(backend, family, coefficient)?;
                steps(backend, &model, (&trees, &texts), ALL_AT_ONCE)
            };
            for ((name, balanced), (_, free)) in of(COEFFICIENT)?.iter().zip(&of(0.0)?) {
                let what = |of: &str| format!("{family}, {name}: {of}");
                let close = |of: &str, got: f64, want: f64| {
                    backend.check_close(&what(of), &[got as f32], &[want as f32], 2e-5)
                };
                close("aux_loss", balanced.0.get("aux_loss").context(what("aux_loss"))?, golden.loss)?;
                ensure!(free.0.get("aux_loss").is_none(), "{}", what("aux_loss of free routers"));
                for (router, want) in &golden.gradients {
                    let (loss, gradient) = added(balanced, free, router)?;
                    close("loss", loss, COEFFICIENT * golden.loss)?;
                    let want: Vec<f32> = want.iter().map(|want| COEFFICIENT as f32 * want).collect();
                    backend.check_norm(&what(router), &gradient, &want, 1e-4)?;
                }
            }
        }
        Ok(())
    })
}

/// Protects: the routers' loss of a step is the mean of its micro-batches, each weighted by its items (prompts
/// with any number of answers, texts of as many learned tokens), in the gradient and in the metrics.
#[test]
fn micro_batches_share_the_loss_of_routers_by_their_items() -> Result<()> {
    every_backend(|backend| {
        let golden = Golden::open("mixtral")?;
        let other: Vec<u32> = golden.sequence.iter().rev().take(9).map(|id| (id * 7 + 3) % 60 + 5).collect();
        let trees = [tree(&golden.sequence, 1), tree(&other, 2)];
        let texts = [completion(&golden.sequence), completion(&other)];
        let of = |items: std::ops::Range<usize>| {
            let each = |coefficient: f64| {
                let model = model(backend, "mixtral", coefficient)?;
                steps(backend, &model, (&trees[items.clone()], &texts[items.clone()]), 1)
            };
            anyhow::Ok((each(COEFFICIENT)?, each(0.0)?))
        };
        let [(first, first_free), (second, second_free), (both, both_free)] =
            [of(0..1)?, of(1..2)?, of(0..2)?];
        for (at, (name, whole)) in both.iter().enumerate() {
            let aux_loss = |made: &Made| made.0.get("aux_loss").context("no aux_loss");
            let parts = [aux_loss(&first[at].1)?, aux_loss(&second[at].1)?];
            ensure!((parts[0] - parts[1]).abs() > 1e-3, "{name}: both parts have a loss of {}", parts[0]);
            let mean = f64::midpoint(parts[0], parts[1]);
            let close = |of: &str, got: f64, want: f64| {
                backend.check_close(&format!("{name}: {of}"), &[got as f32], &[want as f32], 2e-5)
            };
            close("aux_loss", aux_loss(whole)?, mean)?;
            for router in golden.gradients.keys() {
                let (loss, gradient) = added(whole, &both_free[at].1, router)?;
                close("loss", loss, COEFFICIENT * mean)?;
                let (_, first) = added(&first[at].1, &first_free[at].1, router)?;
                let (_, second) = added(&second[at].1, &second_free[at].1, router)?;
                let want: Vec<f32> = first.iter().zip(second).map(|(a, b)| 0.5 * (a + b)).collect();
                backend.check_norm(&format!("{name}: {router}"), &gradient, &want, 1e-4)?;
            }
        }
        Ok(())
    })
}

/// Makes a folder of a world's base as a small Mixtral with this coefficient of the routers' loss, which
/// `output_router_logits` turns on.
pub fn mixture(world: &World, name: &str, balanced: bool, coefficient: f64) -> Result<()> {
    fs::create_dir(world.path(name))?;
    for entry in fs::read_dir(world.path("base"))? {
        let entry = entry?;
        fs::copy(entry.path(), world.path(name).join(entry.file_name()))?;
    }
    let mut config: Value = serde_json::from_slice(&world.read("base/config.json")?)?;
    config["model_type"] = json!("mixtral");
    config["architectures"] = json!(["MixtralForCausalLM"]);
    config["num_local_experts"] = json!(4);
    config["num_experts_per_tok"] = json!(2);
    config["router_aux_loss_coef"] = json!(coefficient);
    config["output_router_logits"] = json!(balanced);
    world.write(&format!("{name}/config.json"), &config.to_string())
}

/// Protects: every command that trains a policy adds the routers' loss with its coefficient: `loss` includes it,
/// `aux_loss` is without it, and it changes the weights. For nearly even routing it is the number of experts of
/// a token (experts · Σ f·p with p = 1 / experts and Σ f = 2). A coefficient of 0 gives the bits of a model whose
/// config turns it off. Sampled tokens keep the log-probabilities of training.
#[test]
fn every_policy_balances_its_routers() -> Result<()> {
    let world = World::new()?;
    mixture(&world, "even", true, COEFFICIENT)?;
    mixture(&world, "free", false, COEFFICIENT)?;
    mixture(&world, "zero", true, 0.0)?;
    let offline = "--data train.jsonl --max-length 64 --batch 4";
    let online = "--data train.jsonl --reward repetition --max-completion-length 8 --num-generations 2 \
                  --num-mini-batches 1 --batch 4";
    for (verb, options) in [
        ("sft", offline),
        ("dpo", offline),
        ("kto", offline),
        ("grpo", online),
        ("rloo", online),
        ("ppo", online),
        ("online-dpo", online),
    ] {
        let run = |model: &str| -> Result<(Value, Vec<u8>)> {
            let output = format!("{model}-{verb}");
            let steps = "--random-init --learning-rate 1e-3 --max-steps 1 --threads 1";
            world.run(&format!("{verb} --model {model} {options} {steps} --output {output}"))?;
            let mut lines = world.lines(&format!("{output}/metrics.jsonl"))?;
            Ok((lines.swap_remove(0), world.read(&format!("{output}/model.safetensors"))?))
        };
        let [(even, even_weights), (free, free_weights), (zero, zero_weights)] =
            [run("even")?, run("free")?, run("zero")?];
        let aux_loss = even["aux_loss"].as_f64().with_context(|| format!("{verb}: no aux_loss: {even}"))?;
        ensure!((1.5..3.5).contains(&aux_loss), "{verb}: {aux_loss}, expected about 2");
        let loss = |line: &Value| line["loss"].as_f64().with_context(|| format!("{verb}: no loss: {line}"));
        let added = loss(&even)? - loss(&free)?;
        ensure!((added - COEFFICIENT * aux_loss).abs() < 1e-5, "{verb}: {added} of {aux_loss} was added");
        ensure!(even_weights != free_weights, "{verb}: the loss reached no weight");
        for line in [&free, &zero] {
            ensure!(line.get("aux_loss").is_none(), "{verb} without it has a loss of routers: {line}");
        }
        ensure!(zero_weights == free_weights, "{verb}: a coefficient of 0 changes the weights");
        ensure!(loss(&zero)? == loss(&free)?, "{verb}: a coefficient of 0 changes the loss");
        if options == online {
            let name = "sampling/sampling_logp_difference/max";
            ensure!(even[name] == 0.0, "{verb}: {name} is {}", even[name]);
        }
    }
    Ok(())
}

/// Protects: `--router-aux-loss-coef` turns the routers' loss on with another coefficient, and off; a model without
/// routers and a negative number are refused, and a run does not continue with another coefficient.
#[test]
fn the_coefficient_of_an_option_replaces_that_of_the_config() -> Result<()> {
    let world = World::new()?;
    mixture(&world, "even", true, COEFFICIENT)?;
    mixture(&world, "free", false, 0.1)?;
    let steps = "--random-init --data train.jsonl --batch 4 --learning-rate 1e-3 --max-steps 1 --threads 1";
    let grpo = "--reward repetition --max-completion-length 8 --num-generations 2";
    for (verb, options) in [("sft", "--max-length 64"), ("kto", "--max-length 64"), ("grpo", grpo)] {
        let run = |model: &str, more: &str, output: &str| {
            let output = format!("{output}-{verb}");
            world.run(&format!("{verb} --model {model} {steps} {options} {more} --output {output}"))?;
            world.read(&format!("{output}/model.safetensors"))
        };
        let [even, free] = [run("even", "", "even")?, run("free", "", "free")?];
        ensure!(run("free", "--router-aux-loss-coef 0.5", "on")? == even, "{verb}: it was not turned on");
        ensure!(run("even", "--router-aux-loss-coef 0", "off")? == free, "{verb}: it was not turned off");
        let refused = format!("{verb} --model base {steps} {options} --output refused");
        for (coefficient, parts) in [
            ("0.5", ["router-aux-loss-coef", "0.5", "no mixture of experts"]),
            ("=-1", ["router-aux-loss-coef", "-1", "from 0 up"]),
            ("nan", ["router-aux-loss-coef", "NaN", "from 0 up"]),
        ] {
            let separator = if coefficient.starts_with('=') { "" } else { " " };
            let option = format!("--router-aux-loss-coef{separator}{coefficient}");
            world.refuses(&format!("{refused} {option}"), &parts)?;
        }
        let other = format!("{verb} --model free {steps} {options} --router-aux-loss-coef 0.25");
        world.refuses(
            &format!("{other} --output on-{verb} --resume"),
            &["--router-aux-loss-coef was 0.5 and is now 0.25"],
        )?;
    }
    Ok(())
}

/// Protects: the perplexity of a fine-tuned mixture of experts is that of its likelihood, without the routers'
/// loss, and its page shows that loss.
#[test]
fn perplexity_leaves_out_the_loss_of_routers() -> Result<()> {
    let world = World::new()?;
    mixture(&world, "even", true, COEFFICIENT)?;
    world.run(
        "sft --model even --random-init --data train.jsonl --eval-split 0.2 --max-length 64 --batch 4 \
         --max-steps 2 --threads 1 --output lm",
    )?;
    let lines = world.lines("lm/metrics.jsonl")?;
    let line = lines.iter().find(|line| line.get("eval_loss").is_some()).context("no evaluation")?;
    let of = |name: &str| line[name].as_f64().with_context(|| format!("no {name}: {line}"));
    let (loss, nats, aux_loss) = (of("eval_loss")?, of("eval_nll_loss")?, of("eval_aux_loss")?);
    ensure!((loss - nats - COEFFICIENT * aux_loss).abs() < 1e-9, "{line}");
    let page = String::from_utf8(world.read("lm/report.html")?)?;
    for part in [format!("perplexity {}", number(nats.exp())), "Routers".to_owned()] {
        ensure!(page.contains(&part), "the page has no {part}");
    }
    Ok(())
}
