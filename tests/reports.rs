//! Output of runs and evaluations for people: pages, events for TensorBoard, model cards.

use std::fs;

use anyhow::{Context, Result, ensure};
use pcrm_rl::tensorboard;
use serde_json::json;

use crate::binary::{World, stderr};

const TRAIN: &str = "reward --model base --batch 8 --max-steps 8 --eval-every 4 --constraint length_ratio";

/// Returns the steps where a run's event files have a tag.
fn steps(world: &World, run: &str, tag: &str) -> Result<Vec<i64>> {
    let mut steps = Vec::new();
    for path in tensorboard::files(&world.path(run).join(tensorboard::FOLDER))? {
        let (events, whole) = tensorboard::read(&path)?;
        ensure!(whole, "{} is truncated", path.display());
        for event in events {
            let values = event.summary.map_or_else(Vec::new, |summary| summary.value);
            ensure!(values.iter().all(|value| value.simple_value.is_some()), "{values:?}");
            steps.extend(values.iter().filter(|value| value.tag == tag).map(|_| event.step));
        }
    }
    Ok(steps)
}

/// Protects: a run leaves a page, events and a card; data and names cannot put markup into the page.
#[test]
fn a_run_and_an_evaluation_leave_their_pages() -> Result<()> {
    let world = World::new()?;
    let hostile = "rm<script>alert(1)<";
    fs::copy(world.path("train.jsonl"), world.path("<img>.jsonl"))?;
    world.run(&format!("{TRAIN} --data <img>.jsonl --eval-data test.jsonl --output {hostile}"))?;
    let page = String::from_utf8(world.read(&format!("{hostile}/report.html"))?)?;
    for part in ["<script", "<img", "alert(1)<"] {
        ensure!(!page.contains(part), "the page has {part}");
    }
    let shown = [
        "rm&lt;script&gt;alert(1)",
        "&lt;img&gt;.jsonl",
        "Accuracy, held out",
        "60 pairs",
        "Ranking loss, held out",
        "guessing has 0.693",
        "Loss with bounds",
        "Saved weights",
        "Margin against its bound",
    ];
    for part in shown.into_iter().chain(["learning-rate", "240", "prefers-color-scheme: dark"]) {
        ensure!(page.contains(part), "the page has no {part}");
    }
    ensure!(page.matches("<svg").count() >= 8, "the page has no plots");
    ensure!(steps(&world, hostile, "train/loss")? == (1..=8).collect::<Vec<_>>(), "steps of train/loss");
    ensure!(steps(&world, hostile, "eval/accuracy")? == [4, 8], "steps of eval/accuracy");
    let card = String::from_utf8(world.read(&format!("{hostile}/README.md"))?)?;
    let front = "---\nlibrary_name: transformers\npipeline_tag: text-classification\ntags:\n- reward-model\n";
    ensure!(card.starts_with(front), "{card}");
    for part in [
        "length_ratio",
        "| Accuracy, 60 pairs |",
        "| Ranking loss, nats per pair (guessing: 0.693) |",
        "AutoModelForSequenceClassification",
        "prompt = \"Question What is the capital of France?\"",
        "answer = \" Paris.\"",
        "`base`, a local checkpoint",
        "adds no end-of-sequence token",
    ] {
        ensure!(card.contains(part), "the card has no {part}: {card}");
    }
    ensure!(!card.contains("Human:") && !card.contains("base_model"), "{card}");
    // Equal scores have ln 2 in the ranking part, and more with bounds.
    let evaluated = world.lines(&format!("{hostile}/metrics.jsonl"))?;
    let last = evaluated.last().context("no evaluation")?;
    let coin = last["eval_coin_ranking_loss"].as_f64().context("no coin")?;
    ensure!((coin - std::f64::consts::LN_2).abs() < 1e-6, "{last}");
    ensure!(last["eval_coin_loss"].as_f64() > Some(coin), "{last}");
    ensure!(steps(&world, hostile, "eval/coin_loss")? == [4, 8], "TensorBoard has no eval/coin_loss");

    world.run(&format!("eval reward --model {hostile} --data test.jsonl"))?;
    let page = String::from_utf8(world.read(&format!("{hostile}/evaluation/test/report.html"))?)?;
    for part in ["Reliability", "Score against length", "the longer one", "rm&lt;script&gt;"] {
        ensure!(page.contains(part), "the page has no {part}");
    }
    ensure!(!page.contains("<script"), "the page has a script");
    world.run(&format!("eval reward --model {hostile} --data test.jsonl --report mine.html"))?;
    ensure!(world.read("mine.html")? == page.as_bytes(), "the page depends on its path");
    world.run(&format!("eval reward --model {hostile} --data train.jsonl --no-report"))?;
    ensure!(!world.path(hostile).join("evaluation/train").exists(), "--no-report wrote a page");
    Ok(())
}

/// Protects: the page shows the report's subsets, deciles and second model, and names from data stay text.
#[test]
fn an_evaluation_shows_subsets_and_the_second_model() -> Result<()> {
    let world = World::new()?;
    let hostile = "<script>alert(1)</script>\"'&";
    let row = |at: usize| {
        let (fourth, fifth) = (at.is_multiple_of(4), at.is_multiple_of(5));
        let subset = if fourth { hostile } else { "plain" };
        let words = |count: usize| " word".repeat(count);
        // The first model errs on every fourth pair, which is the hostile subset; the second also on every
        // fifth.
        let (first, second) = (if fourth { -1.0 } else { 1.0 }, if fourth || fifth { -1.0 } else { 2.0 });
        let row = json!({
            "prompt": format!("What is {at}?"), "subset": subset, "first": [first, 0.0], "<b>second": [second, 0.0],
            "label": "A>B", "chosen": words(3 + at % 11), "rejected": words(4 + at % 7),
        });
        format!("{row}\n")
    };
    world.write("scores.jsonl", &(0..80).map(row).collect::<String>())?;
    let options =
        "--scores scores.jsonl --score-field first --compare scores.jsonl --compare-score-field <b>second";
    world.run(&format!("eval reward {options} --bootstrap 50 --report page.html"))?;
    let page = String::from_utf8(world.read("page.html")?)?;
    for part in ["<script", "alert(1)</script>", "<b>"] {
        ensure!(!page.contains(part), "the page has {part}");
    }
    let shown = [
        "Evaluation of first beside &lt;b&gt;second",
        "only first",
        "only &lt;b&gt;second",
        "McNemar",
        "points lower",
    ];
    let slices = [
        "Accuracy by subset",
        "Accuracy by difference in length",
        "chosen − rejected, words",
        "bootstrap over 80 prompts",
    ];
    for part in shown.into_iter().chain(slices) {
        ensure!(page.contains(part), "the page has no {part}");
    }
    ensure!(
        page.matches("&lt;script&gt;alert(1)").count() == 2,
        "the subset is not exactly once in its plot and its table"
    );
    let (_, row) =
        page.split_once("class=\"left\">&lt;script&gt;alert(1)").context("no row of the hostile subset")?;
    let (row, _) = row.split_once("</tr>").context("no end of the row")?;
    ensure!(
        row.contains(">20<") && row.contains(">0.0\u{a0}%<"),
        "20 pairs, none ordered as labelled: {row}"
    );
    world.run("eval reward --scores scores.jsonl --score-field first --bootstrap 0 --report alone.html")?;
    let page = String::from_utf8(world.read("alone.html")?)?;
    for part in ["McNemar", "bootstrap", "Comparison", "RewardBench", "Best of n", "Human scores"] {
        ensure!(!page.contains(part), "the page mentions {part}, which the report does not have");
    }
    Ok(())
}

/// Protects: a resumed run has one report, one card and each event once, over all its steps.
#[test]
fn a_resumed_run_has_one_report_over_all_its_steps() -> Result<()> {
    let world = World::new()?;
    let train = format!("{TRAIN} --data train.jsonl --eval-data test.jsonl --save-every 3 --output rm");
    world.run(&train)?;
    let last = |world: &World| -> Result<Vec<i64>> { steps(world, "rm", "train/grad_norm") };
    let first = String::from_utf8(world.read("rm/report.html")?)?;
    // Simulates a crash: the last checkpoint is missing, and metrics and events are ahead of the one before.
    fs::remove_dir_all(world.path("rm/checkpoint-8"))?;
    world.run(&format!("{train} --resume"))?;
    ensure!(last(&world)? == (1..=8).collect::<Vec<_>>(), "{:?}", last(&world)?);
    ensure!(steps(&world, "rm", "eval/loss")? == [4, 8], "{:?}", steps(&world, "rm", "eval/loss")?);
    let second = String::from_utf8(world.read("rm/report.html")?)?;
    let plot = |page: &str, title: &str| -> Result<String> {
        let (_, rest) = page.split_once(&format!("<h3>{title}</h3>")).context("no such plot")?;
        Ok(rest.split_once("</figure>").context("no end")?.0.to_owned())
    };
    for title in ["Ranking loss", "Accuracy", "Margin against its bound", "Gradient norm", "Learning rate"] {
        ensure!(plot(&first, title)? == plot(&second, title)?, "{title} differs");
    }
    world.fails(&format!("{train} --resume --seed 1"))?;
    ensure!(world.read("rm/report.html")? == second.as_bytes(), "a refused run changed the report");
    Ok(())
}

/// Protects: a report that cannot be written loses nothing else, and a user's README.md is kept.
#[test]
fn what_cannot_be_written_is_a_warning() -> Result<()> {
    let world = World::new()?;
    fs::create_dir_all(world.path("rm/report.html"))?;
    fs::write(world.path("rm/tensorboard"), "in the way")?;
    fs::write(world.path("rm/README.md"), "# mine\n")?;
    let output =
        world.command(&format!("{TRAIN} --data train.jsonl --eval-data test.jsonl --output rm"))?.output()?;
    let said = stderr(&output);
    ensure!(output.status.success(), "{said}");
    for part in
        ["no report in rm/report.html", "no events for TensorBoard", "README.md was written or changed"]
    {
        ensure!(said.contains(part), "expected {part:?} in {said}");
    }
    ensure!(world.path("rm/model.safetensors").exists(), "the model is lost");
    ensure!(world.read("rm/README.md")? == b"# mine\n", "README.md was overwritten");
    Ok(())
}

/// Protects: a run that fits its constraint shows this on its page and card, with the evidence. The terminal
/// shows the ranking loss first, beside a guessing model's; the saved weights and the best evaluation are
/// shown separately.
#[test]
fn a_calibrated_run_shows_its_evidence() -> Result<()> {
    let world = World::new()?;
    let constraint = r#"{"kind": "calibrated", "of": "edit", "folds": 2, "bootstrap": 100}"#;
    let train = "reward --model base --data train.jsonl --eval-data test.jsonl --batch 16 --max-steps 12 \
                 --eval-every 4 --learning-rate 1e-3";
    let output = world.command(&format!("{train} --constraint '{constraint}' --output rm"))?.output()?;
    let said = stderr(&output);
    ensure!(output.status.success(), "{said}");
    ensure!(
        said.contains("evaluation after step 4: ranking loss ") && said.contains("(guessing 0.6931)"),
        "{said}"
    );
    ensure!(said.contains("; total loss "), "{said}");
    let page = String::from_utf8(world.read("rm/report.html")?)?;
    let (about, _) = page.split_once("<section>").context("no section")?;
    ensure!(about.contains("with the constraint calibrated, fitted as "), "{about}");
    for part in
        ["evidence", "Judges (cross-fitted in 2 folds)", "How often the chosen answer wins", "step 12"]
    {
        ensure!(page.contains(part), "the page has no {part}");
    }
    let card = String::from_utf8(world.read("rm/README.md")?)?;
    ensure!(
        card.contains("\"kind\":\"calibrated\"") && card.contains("| Saved weights | `step 12"),
        "{card}"
    );
    Ok(())
}

/// Protects: warnings about bounds and skipped rows are printed when found and at the end, and are on the
/// run's page; an evaluation's are on its page.
#[test]
fn pages_carry_the_warnings() -> Result<()> {
    let world = World::new()?;
    let train = "reward --model base --data train.jsonl --batch 8 --max-steps 2 --eval-data test.jsonl";
    for (bound, warning) in [("50", "so loose that it rarely acts"), ("0.1", "so tight that the model")] {
        let command = format!(
            "{train} --constraint '{{\"kind\": \"fixed\", \"bound\": {bound}}}' --max-length 45 \
             --output rm-{bound}"
        );
        let said =
            stderr(&world.command(&command)?.output()?).split_whitespace().collect::<Vec<_>>().join(" ");
        let page = String::from_utf8(world.read(&format!("rm-{bound}/report.html"))?)?.replace('\u{a0}', " ");
        for part in [warning, "longer than --max-length 45"] {
            ensure!(said.matches(part).count() >= 2, "expected {part:?} twice in {said}");
            ensure!(page.contains(part), "{part:?} is not on the page");
        }
    }
    let plain = format!("{train} --output rm");
    ensure!(!stderr(&world.command(&plain)?.output()?).contains("warning: --constraint"));
    world.run("eval reward --model rm --data test.jsonl --max-length 45 --bootstrap 0 --report page.html")?;
    ensure!(String::from_utf8(world.read("page.html")?)?.contains("longer than --max-length 45"));
    Ok(())
}
