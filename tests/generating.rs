//! The commands that sample answers, as users run them: generate, best-of-n, grpo, ppo, online-dpo.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::binary::{World, stderr};
use crate::support::beside;

const SAMPLE: &str = "--model policy --data test.jsonl --limit 6 --max-tokens 8";

/// Trains a language model with the base's shape for a few steps.
fn policy(world: &World) -> Result<()> {
    world
        .run(
            "sft --model base --random-init --data train.jsonl --epochs 3 --learning-rate 1e-2 \
             --output policy",
        )
        .map(drop)
}

/// Runs a command and returns its standard error.
fn messages(world: &World, arguments: &str) -> Result<String> {
    let output = world.command(arguments)?.output()?;
    ensure!(output.status.success(), "pcrm {arguments}: {}", stderr(&output));
    Ok(stderr(&output))
}

/// Protects: the page of answers shows every token of an answer with the log-probability in the file, beside
/// figures of all answers.
#[test]
fn the_page_shows_answers_token_by_token() -> Result<()> {
    let world = World::new()?;
    policy(&world)?;
    world.run(&format!("generate {SAMPLE} --samples 2 --report --output a.jsonl"))?;
    let page = String::from_utf8(world.read("a.html")?)?;
    let lines = world.lines("a.jsonl")?;
    ensure!(lines.iter().all(|line| line["log_probs"].is_array()), "--report implies --log-probs");
    let tokens: usize = lines.iter().filter_map(|line| line["tokens"].as_u64()).sum::<u64>() as usize;
    // Twelve answers: six least and six most likely ones.
    ensure!(page.matches("title=\"ln p = ").count() == tokens, "expected {tokens} tokens on the page");
    ensure!(page.contains("Least likely answers") && page.contains(">12<"), "{page}");
    world.refuses(
        &format!("generate {SAMPLE} --report --output b.html"),
        &["--output", "does not end in .html"],
    )
}

/// Protects: answers do not depend on the number of rows decoded at once or on the size of the cache, and a
/// killed run continues where it stopped.
#[test]
fn answers_are_the_same_however_they_are_made() -> Result<()> {
    let world = World::new()?;
    policy(&world)?;
    let run = |options: &str, output: &str| {
        world.run(&format!("generate {SAMPLE} --samples 2 --log-probs {options} --output {output}"))
    };
    run("", "a.jsonl")?;
    let want = world.read("a.jsonl")?;
    ensure!(run("", "-")?.as_bytes() == want && !world.path("-").exists(), "- is not standard output");
    for option in ["--resume", "--report"] {
        world
            .refuses(&format!("generate {SAMPLE} {option} --output -"), &[option, "found standard output"])?;
    }
    for (at, options) in ["--rows 1", "--cache-tokens 256", "--threads 1"].iter().enumerate() {
        run(options, &format!("b{at}.jsonl"))?;
        ensure!(world.read(&format!("b{at}.jsonl"))? == want, "the answers differ with {options}");
    }
    let lines = world.lines("a.jsonl")?;
    ensure!(lines.len() == 12, "{} lines", lines.len());
    for line in &lines {
        let count = |key: &str| line[key].as_array().map(Vec::len);
        ensure!(
            count("ids") == count("log_probs") && count("ids") == line["tokens"].as_u64().map(|n| n as usize)
        );
        ensure!(line["completion"].is_string() && line["prompt"].is_string(), "{line}");
    }
    world.refuses(&format!("generate {SAMPLE} --output a.jsonl"), &["a.jsonl", "already exists"])?;
    // Simulates a kill in the middle of a line.
    let options = "--samples 2 --log-probs";
    std::fs::remove_file(world.path("a.jsonl"))?;
    let stopped = world.command(&format!("generate {SAMPLE} {options} --output a.jsonl --rows 2"))?.spawn();
    let mut stopped = stopped.context("a run")?;
    let part = world.path("a.jsonl.part");
    while std::fs::metadata(&part).map_or(0, |file| file.len()) == 0 && stopped.try_wait()?.is_none() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let _ = stopped.kill();
    stopped.wait()?;
    if part.exists() {
        let mut torn = std::fs::read(&part)?;
        torn.extend(&want[torn.len()..][..(want.len() - torn.len()).min(17)]);
        std::fs::write(&part, torn)?;
        world.refuses(&format!("generate {SAMPLE} {options} --output a.jsonl"), &["--resume"])?;
        world.refuses(
            &format!("generate {SAMPLE} {options} --temperature 0.5 --output a.jsonl --resume"),
            &["sampling", "remove it to start again"],
        )?;
        world.run(&format!("generate {SAMPLE} {options} --output a.jsonl --resume"))?;
    }
    ensure!(world.read("a.jsonl")? == want, "the resumed run ends with other answers");
    Ok(())
}

/// Protects: the best of n has the highest score, `pcrm dpo` reads the pairs, and the true reward, which the
/// choice does not see, is shown beside the score.
#[test]
fn the_best_of_n_is_the_best_and_pairs_train_a_policy() -> Result<()> {
    let world = World::new()?;
    policy(&world)?;
    world.run("reward --model base --data train.jsonl --max-steps 4 --learning-rate 1e-3 --output rm")?;
    let shown = world.run(
        "best-of-n --model policy --reward model:rm --truth repetition --data test.jsonl --limit 10 \
         --max-tokens 8 -n 4 --output best",
    )?;
    ensure!(shown.contains("true reward"), "{shown}");
    let (samples, best) = (world.lines("best/samples.jsonl")?, world.lines("best/best.jsonl")?);
    ensure!(samples.len() == 40 && best.len() == 10, "{} and {}", samples.len(), best.len());
    for (samples, best) in samples.chunks(4).zip(&best) {
        let score = |line: &Value| line["score"].as_f64().unwrap_or(f64::NAN);
        let top = samples.iter().map(score).fold(f64::MIN, f64::max);
        ensure!(score(best) == top, "{best}: expected the highest score, {top}");
        ensure!(samples.iter().all(|line| line["true_reward"].is_f64() || line["true_reward"].is_i64()));
    }
    // `pcrm score` gives the same text the same score.
    let overwrite = "--overwrite-scores --output scored.jsonl";
    world.run(&format!("score --model rm --data best/best.jsonl {overwrite}"))?;
    for (best, scored) in best.iter().zip(world.lines("scored.jsonl")?) {
        ensure!(best["score"] == scored["score"], "{best} is scored {}", scored["score"]);
    }
    // A stop string is neither written nor scored.
    let sampled = "generate --model policy --data test.jsonl --limit 10 --max-tokens 12 --samples 2 \
                   --stop oo --score-with rm";
    world.run(&format!("{sampled} --output cut.jsonl"))?;
    world.run(&format!("score --model rm --data cut.jsonl {overwrite}"))?;
    for (cut, scored) in world.lines("cut.jsonl")?.iter().zip(world.lines("scored.jsonl")?) {
        ensure!(cut["completion"].as_str().is_some_and(|text| !text.contains("oo")), "{cut}");
        ensure!(
            scored["score"].is_null() || cut["score"] == scored["score"],
            "{cut} is scored {}",
            scored["score"]
        );
    }
    let curve: Value = serde_json::from_slice(&world.read("best/curve.json")?)?;
    let points = curve["points"].as_array().context("points")?;
    let scores: Vec<f64> = points.iter().filter_map(|point| point["score"]["value"].as_f64()).collect();
    ensure!(scores.len() == 3 && scores.windows(2).all(|pair| pair[0] <= pair[1]), "{scores:?}");
    world.run("dpo --model policy --data best/pairs.jsonl --max-steps 1 --output dpo").map(drop)
}

/// Protects: a run of best-of-n that was killed, also while it wrote its results, continues to the same files.
#[test]
fn a_killed_best_of_n_continues() -> Result<()> {
    let world = World::new()?;
    policy(&world)?;
    let run =
        "best-of-n --model policy --reward repetition --data test.jsonl --limit 10 --max-tokens 24 -n 4";
    world.run(&format!("{run} --output whole"))?;
    let part = world.path("cut/samples.jsonl.part");
    for _ in 0..10 {
        let mut stopped = world.command(&format!("{run} --rows 4 --output cut"))?.spawn()?;
        while std::fs::metadata(&part).map_or(0, |file| file.len()) == 0 && stopped.try_wait()?.is_none() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        let _ = stopped.kill();
        stopped.wait()?;
        if part.exists() {
            break;
        }
        std::fs::remove_dir_all(world.path("cut"))?;
    }
    ensure!(part.exists(), "every run ended before it was killed");
    world.write("cut/best.jsonl", "{\"prompt\": ")?;
    world.refuses(&format!("{run} --output cut"), &["samples.jsonl.part", "pass --resume"])?;
    world.run(&format!("{run} --output cut --resume"))?;
    for name in ["samples.jsonl", "best.jsonl", "pairs.jsonl", "curve.json"] {
        let same = world.read(&format!("whole/{name}"))? == world.read(&format!("cut/{name}"))?;
        ensure!(same, "{name} differs from that of an undisturbed run");
    }
    Ok(())
}

/// Protects: `pcrm grpo` trains with a reward model, leaves samples and a page, and its output loads as a
/// model; options that would bias it are refused.
#[test]
fn a_policy_is_trained_by_a_reward_model() -> Result<()> {
    let world = World::new()?;
    policy(&world)?;
    world.run("reward --model base --data train.jsonl --max-steps 4 --learning-rate 1e-3 --output rm")?;
    let train = "grpo --model policy --data test.jsonl --reward model:rm --num-generations 4 \
                 --max-completion-length 12 --batch 4 --epochs 9 --max-steps 3 --learning-rate 1e-3 \
                 --beta 0.04";
    world.run(&format!("{train} --eval-split 0.3 --output grpo"))?;
    let lines = world.lines("grpo/metrics.jsonl")?;
    let steps: Vec<&Value> = lines.iter().filter(|line| line.get("loss").is_some()).collect();
    ensure!(steps.len() == 3, "{} steps", steps.len());
    ensure!(
        steps.iter().all(|line| line["sampling/sampling_logp_difference/max"] == 0.0),
        "ratios are not 1"
    );
    ensure!(lines.iter().any(|line| line["eval_reward"].is_f64()));
    ensure!(world.lines("grpo/samples.jsonl")?.len() == 9);
    ensure!(world.path("grpo/report.html").exists());
    world.run("generate --model grpo --prompt hello --max-tokens 4")?;
    world.run(&format!(
        "rloo {} --output rloo",
        train.trim_start_matches("grpo ").replace(" --beta 0.04", "")
    ))?;
    for (options, parts) in [
        ("--temperature 0", ["temperature", "must be sampled"]),
        ("--num-generations 1", ["num-generations", "at least 2"]),
        ("--reward nonsense", ["nonsense", "known: command"]),
        ("--reference base --beta 0", ["--reference", "no effect"]),
    ] {
        let train = match options.starts_with("--num") {
            true => train.replace(" --num-generations 4", ""),
            false => train.to_owned(),
        };
        let train = if options.contains("--beta 0") { train.replace(" --beta 0.04", "") } else { train };
        world.refuses(&format!("{train} {options} --output refused"), &parts)?;
    }
    Ok(())
}

/// Protects: `pcrm ppo`, also with the paper's recipe, trains a policy and a critic that starts from the
/// reward model. The critic loads as a model and starts another run. Drift from the reward model's training
/// data is measured, limits end a run, and contradictory options are refused.
#[test]
fn a_policy_is_trained_beside_a_critic() -> Result<()> {
    let world = World::new()?;
    policy(&world)?;
    world.run(
        "reward --model base --data train.jsonl --max-steps 4 --learning-rate 1e-3 --constraint fixed \
         --output rm",
    )?;
    let config: Value = serde_json::from_slice(&world.read("rm/config.json")?)?;
    let range = &config["pcrm"]["scores"];
    ensure!(
        range["low"].as_f64() <= range["mean"].as_f64() && range["mean"].as_f64() <= range["high"].as_f64()
    );
    let train = "ppo --model policy --data test.jsonl --reward model:rm --max-completion-length 12 \
                 --batch 4 --epochs 9";
    let recipe = beside("../recipes/ppo-paper.toml").display().to_string();
    let ppo = format!("{train} --num-generations 2 --num-mini-batches 2 --max-steps 16 --learning-rate 1e-3");
    let said = messages(&world, &format!("{ppo} --ptx-data train.jsonl --eval-split 0.3 --output ppo"))?;
    ensure!(said.contains("the critic starts from rm") && said.contains("scores of its own data"), "{said}");
    let lines = world.lines("ppo/metrics.jsonl")?;
    let steps: Vec<&Value> = lines.iter().filter(|line| line.get("loss").is_some()).collect();
    ensure!(steps.len() == 16, "{} steps", steps.len());
    let names = [
        "objective/kl",
        "objective/scores",
        "val/explained_variance",
        "loss/value_avg",
        "loss/policy_avg",
        "rm/beyond_range",
        "rm/drift",
        "rm/beyond_bound",
        "critic/grad_norm",
        "ptx/loss",
    ];
    for name in names {
        ensure!(steps[0][name].is_f64(), "{name} is not in {}", steps[0]);
    }
    ensure!(steps[0]["val/ratio"] == 1.0, "{}", steps[0]["val/ratio"]);
    world.run("score --model ppo/critic --data test.jsonl --output scores.jsonl")?;
    world.run(&format!("{ppo} --critic ppo/critic --critic-learning-rate 1e-4 --output again"))?;
    world.run(&format!("{train} --critic policy --max-steps 1 --config '{recipe}' --output paper"))?;
    let said = messages(&world, &format!("{ppo} --stop-score -1e9 --output limited"))?;
    ensure!(said.contains("more than --stop-score"), "{said}");
    ensure!(world.lines("limited/metrics.jsonl")?.len() == 8, "a limit did not end the run");
    for (options, parts) in [
        ("--kl-in loss --kl-estimator k1", ["kl-estimator", "k1"]),
        ("--critic ./policy", ["./policy", "score.weight"]),
        ("--cliprange 2", ["cliprange", "2"]),
        ("--kl-target 6 --kl-coef 0", ["kl-coef", "0"]),
        ("--kl-coef 0 --reference base", ["--reference", "no effect"]),
    ] {
        world.refuses(&format!("{ppo} {options} --output refused"), &parts)?;
    }
    Ok(())
}

/// Protects: `pcrm online-dpo` learns from pairs of its own answers, with and without a bound on their
/// margins, and refuses unfitted constraints and losses that do not compare one pair.
#[test]
fn a_policy_is_trained_on_pairs_of_its_answers() -> Result<()> {
    let world = World::new()?;
    // Random weights give answers that differ.
    let train = r#"online-dpo --model base --random-init --data test.jsonl
                 --reward '{"kind": "repetition", "ngram": 1, "unit": "characters"}'
                 --max-completion-length 12 --batch 4 --epochs 9 --max-steps 4 --learning-rate 1e-3"#;
    world.run(&format!("{train} --num-generations 3 --constraint length_ratio --output dpo"))?;
    let steps = world.lines("dpo/metrics.jsonl")?;
    let names = ["objective/scores_margin", "rewards/margins", "rewards/accuracies", "bound", "objective/kl"];
    for name in names {
        ensure!(steps[0][name].is_f64(), "{name} is not in {}", steps[0]);
    }
    ensure!(steps[0]["sampling/sampling_logp_difference/max"] == 0.0, "ratios are not 1");
    world.run("generate --model dpo --prompt hello --max-tokens 4")?;
    world.run(&format!("{train} --loss simpo --beta 2 --temperature 0.9 --output simpo"))?;
    for (options, parts) in [
        ("--constraint calibrated", ["--constraint", "pcrm calibrate"]),
        ("--loss aot", ["loss", "sorts the pairs"]),
        ("--loss bco_pair --constraint fixed", ["bco_pair", "one difference"]),
        ("--num-generations 1", ["num-generations", "at least 2"]),
    ] {
        world.refuses(&format!("{train} {options} --output refused"), &parts)?;
    }
    Ok(())
}
