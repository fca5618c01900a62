//! `pcrm report`: several runs in one table and on one page.

use anyhow::{Result, ensure};

use crate::binary::World;

/// Protects: one table has the runs and the options in which they differ, one plot per metric has the curves of
/// all, and a folder that is no run, an unknown metric and too many runs are refused by name.
#[test]
fn runs_are_put_beside_each_other() -> Result<()> {
    let world = World::new()?;
    let train = "reward --model base --data train.jsonl --eval-data test.jsonl --max-steps 4 --eval-every 2 \
                 --threads 1";
    for (name, rate) in [("slow", "1e-4"), ("fast", "1e-2")] {
        world.run(&format!("{train} --learning-rate {rate} --output {name}"))?;
    }
    let output = world.command("report slow fast --over tokens --output runs.html")?.output()?;
    let shown = String::from_utf8(output.stdout)?;
    let line =
        |name: &str| shown.lines().find(|line| line.trim_start().starts_with(name)).unwrap_or_default();
    let evaluated = |name: &str| -> Result<f64> {
        let lines = world.lines(&format!("{name}/metrics.jsonl"))?;
        Ok(lines.iter().rev().find_map(|line| line["eval_loss"].as_f64()).unwrap_or(f64::NAN))
    };
    for name in ["slow", "fast"] {
        let loss = format!("{:.3}", evaluated(name)?);
        ensure!(line(name).split_whitespace().nth(1) == Some("4"), "{shown}");
        ensure!(line(name).contains(&loss), "expected the last eval_loss {loss} in {shown}");
    }
    ensure!(line("learning-rate").contains("0.0001") && line("learning-rate").contains("0.01"), "{shown}");
    ensure!(!shown.contains("output") && !shown.contains("max-steps"), "options that do not differ: {shown}");
    let page = String::from_utf8(world.read("runs.html")?)?;
    for part in ["<h3>eval_loss</h3>", "<h3>loss</h3>", ">slow<", ">fast<", ">tokens<"] {
        ensure!(page.contains(part), "expected {part} on the page");
    }
    world.run("report slow fast --metrics grad_norm")?;
    world.refuses("report slow base", &["base", "expected the folder of a training run"])?;
    world.refuses("report slow --metrics los", &["--metrics los", "expected some of", "eval_loss"])?;
    world.refuses(
        "report slow slow slow slow slow slow --output runs.html",
        &["6 runs on one page", "expected at most 5"],
    )
}
