//! `pcrm quickstart` from start to end, including policies.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::binary::World;

/// Protects: one command runs everything: reward models, then policies by PPO, best of n and DPO with their
/// figures. The first lines show the results of both studies with their intervals, the page has everything,
/// and a second run replaces the first.
#[test]
fn the_whole_story_is_one_command() -> Result<()> {
    let world = World::new()?;
    let run = "quickstart --pairs 60 --epochs 1 --policies quick --output story";
    let text = world.run(run)?;
    let study = |name: &str| -> Result<Value> {
        Ok(serde_json::from_slice(&world.read(&format!("story/{name}/study.json"))?)?)
    };
    let (ppo, dpo) = (study("ppo")?, study("dpo")?);
    let figure = |study: &Value, name: &str, arm: &str| {
        let found = &study["outcome"]["figures"]["questions"][name][arm];
        found["mean"]["value"].as_f64().with_context(|| format!("{name} of {arm}: {}", study["outcome"]))
    };
    for arm in ["bt", "length_ratio", "fixed 3"] {
        ensure!((0.0..=1.0).contains(&figure(&ppo, "accuracy", arm)?));
        ensure!((0.0..=1.0).contains(&figure(&ppo, "ppo/win_rate", arm)?));
        figure(&ppo, "ppo, paper's coefficient/truth", arm)?;
        figure(&ppo, "best-of-n/truth", arm)?;
    }
    ensure!(ppo["results"]["failed"] == Value::Array(Vec::new()), "{}", ppo["results"]["failed"]);
    let truth = figure(&dpo, "truth", "dpo")?;
    ensure!((0.0..=1.0).contains(&figure(&dpo, "win_rate", "pcdpo, fixed 1")?));
    let shown = format!("True reward (dpo: {truth:.3})").replace('-', "−");
    let page = String::from_utf8(world.read("story/report.html")?)?;
    ensure!(text.replace('\n', " ").contains(&shown) && page.contains(&shown), "{shown}: {text}");
    ensure!(page.contains("Quickstart: DPO with and without a bound"), "the page lacks the second study");
    let sft = "sft --model story/base --data story/train.jsonl --output sft";
    world.refuses(sft, &["lm_head.weight", "holds a reward model", "--random-init"])?;
    world.run(&run.replace("quick --", "none --"))?;
    ensure!(!world.path("story/ppo").exists() && world.path("story/report.html").exists());
    Ok(())
}
