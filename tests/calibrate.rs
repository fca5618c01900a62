//! Constraints fitted to evidence: `pcrm calibrate`, and runs that fit their own constraint.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use pcrm_core::constraint::{self, PairView, Priors};
use pcrm_core::data::encode::{self, EncodeOptions, EncodedSet, encode_sets};
use pcrm_core::data::preference::{ReadOptions, load_preferences};
use pcrm_core::text::Tokenizer;
use serde_json::{Value, json};

use crate::binary::{World, send, stderr};
use crate::support::{check_close, check_intervals};

const OPTIONS: &str = "--model base --data train.jsonl --max-steps 15 --batch 8 --learning-rate 1e-3";
const FORM: &str = r#"'{"kind": "calibrated", "beta2": 0.1, "folds": 3, "bootstrap": 100}'"#;

fn json_of(text: &str) -> Result<Value> {
    serde_json::from_str(text).with_context(|| text.to_owned())
}

/// Protects: each judge scores only prompts it was not trained on and beats chance; the output file is a
/// constraint and the page has a plot. A second call trains nothing and prints the same, and a damaged file
/// of margins is recomputed.
#[test]
fn cross_fitted_evidence_becomes_a_constraint() -> Result<()> {
    let world = World::new()?;
    let calibrate = format!(
        "calibrate {OPTIONS} --folds 3 --bootstrap 100 --output bound.json --report page --json \
         --constraint '{{\"kind\": \"edit\", \"beta2\": 0.1}}'"
    );
    let first = world.command(&calibrate)?.output()?;
    ensure!(first.status.success(), "{}", stderr(&first));
    let result = json_of(&String::from_utf8(first.stdout.clone())?)?;
    ensure!(result["pairs"] == 240 && result["judges"] == "cross-fitted in 3 folds", "{result}");
    ensure!(result["accuracy"]["low"].as_f64() > Some(0.5), "{}", result["accuracy"]);
    check_intervals(&result)?;
    let one = &result["constraints"][0];
    let bins = one["calibration"]["bins"].as_array().context("bins")?;
    let wins: f64 = bins.iter().filter_map(|bin| Some(bin["win"].as_f64()? * bin["pairs"].as_f64()?)).sum();
    ensure!((wins / 240.0 - result["accuracy"]["value"].as_f64().context("a share")?).abs() < 1e-9);
    let written = constraint::from_tagged(json_of(&String::from_utf8(world.read("bound.json")?)?)?)?;
    ensure!(written.to_tagged()? == one["fitted"] && !written.is_unfitted(), "{written:?}");
    let page = String::from_utf8(world.read("page/report.html")?)?;
    ensure!(
        page.contains("<svg") && page.contains("How often the chosen answer wins"),
        "the page has no plot"
    );
    let again = world.command(&calibrate)?.output()?;
    ensure!(again.stdout == first.stdout, "the second call prints a different result");
    ensure!(stderr(&again).matches("were judged before").count() == 3, "{}", stderr(&again));
    let kept = fs::read_dir(world.path("cache/pcrm/crossfit"))?.next().context("a file")??.path();
    fs::write(&kept, &fs::read(&kept)?[..40])?;
    let mended = world.command(&calibrate)?.output()?;
    ensure!(mended.stdout == first.stdout && stderr(&mended).contains("truncated"), "{}", stderr(&mended));
    ensure!(stderr(&mended).matches("were judged before").count() == 2, "{}", stderr(&mended));
    Ok(())
}

/// Protects: a run with an unfitted constraint fits it to its own training pairs with its own options and
/// saves the fitted constraint; a resumed run uses that one and fits nothing.
#[test]
fn a_run_fits_its_constraint_once() -> Result<()> {
    let world = World::new()?;
    let train = format!("reward {OPTIONS} --eval-split 0.2 --constraint {FORM} --output rm");
    let first = world.command(&train)?.output()?;
    ensure!(first.status.success(), "{}", stderr(&first));
    ensure!(stderr(&first).contains("cross-fitting, fold 3 of 3"), "{}", stderr(&first));
    let file = |name: &str| json_of(&String::from_utf8(world.read(name)?)?);
    let (config, fitted, evidence) =
        (file("rm/config.json")?, file("rm/constraint.json")?, file("rm/evidence.json")?);
    ensure!(config["pcrm"]["constraint"] == fitted && fitted["kind"] != "calibrated", "{config}");
    ensure!(config["pcrm"]["evidence"]["accuracy"] == evidence["accuracy"], "{config}");
    ensure!(evidence["from"]["kind"] == "calibrated" && evidence["pairs"].as_u64() < Some(240), "{evidence}");
    // A resumed run keeps its constraint and fits nothing.
    let again = world.command(&format!("{train} --resume"))?.output()?;
    ensure!(again.status.success() && !stderr(&again).contains("cross-fit"), "{}", stderr(&again));
    world.refuses(
        &format!("reward {OPTIONS} --eval-split 0.2 --constraint calibrated --output rm --resume"),
        &["--constraint", "was fitted from", "keeps its constraint"],
    )?;
    // Evaluation uses the constraint of training, and another run can use it unchanged.
    let measured = json_of(&world.run("eval reward --model rm --data test.jsonl --no-report --json")?)?;
    ensure!(measured["constraint"] == fitted, "{}", measured["constraint"]);
    world.run(&format!("reward {OPTIONS} --eval-split 0.2 --constraint '{fitted}' --output same"))?;
    ensure!(
        world.read("same/model.safetensors")? == world.read("rm/model.safetensors")?,
        "the weights differ"
    );
    Ok(())
}

/// Protects: interrupting cross-fitting returns the interruption's exit code and leaves no output and no
/// temporary files. The next call skips the judged folds and prints the result of an undisturbed call.
#[test]
fn an_interrupted_cross_fit_goes_on() -> Result<()> {
    let world = World::new()?;
    fs::create_dir(world.path("tmp"))?;
    let calibrate = "calibrate --model base --data train.jsonl[:120] --epochs 2 --batch 8 --learning-rate 1e-3 \
                     --folds 4 --bootstrap 100 --output bound.json --json";
    let judged = || -> usize {
        let files = fs::read_dir(world.path("cache/pcrm/crossfit")).into_iter().flatten().flatten();
        files.filter(|file| file.path().extension().is_some_and(|ext| ext == "margins")).count()
    };
    let child = world.command(calibrate)?.env("TMPDIR", world.path("tmp")).spawn()?;
    let begun = Instant::now();
    while judged() == 0 {
        ensure!(begun.elapsed() < Duration::from_secs(120), "no fold was judged in two minutes");
        std::thread::sleep(Duration::from_millis(2));
    }
    send("INT", &child)?;
    let output = child.wait_with_output()?;
    let message = stderr(&output);
    ensure!(output.status.code() == Some(130) && message.contains("same command to continue"), "{message}");
    ensure!(!world.path("bound.json").exists() && output.stdout.is_empty(), "something was written");
    ensure!(fs::read_dir(world.path("tmp"))?.next().is_none(), "a judge's folder was left behind");
    let before = judged();
    let again = world.command(calibrate)?.output()?;
    ensure!(stderr(&again).matches("were judged before").count() == before, "{}", stderr(&again));
    fs::remove_dir_all(world.path("cache"))?;
    ensure!(
        world.run(calibrate)?.as_bytes() == again.stdout,
        "an undisturbed call prints a different result"
    );
    Ok(())
}

/// Encodes the pairs of a file as the binary does.
fn encoded(world: &World, name: &str) -> Result<Vec<EncodedSet>> {
    let tokenizer = Tokenizer::from_dir(&world.path("base"))?;
    let (rows, _) = load_preferences(&[world.path(name)], ReadOptions::default())?;
    let padding = tokenizer.pad().or(tokenizer.eos()).map(|token| token.id);
    let options = EncodeOptions { max_length: Some(1024), ..EncodeOptions::new(padding) };
    Ok(encode_sets(&rows, &tokenizer, &options)?.0)
}

/// Writes `train.jsonl` as `votes.jsonl`, with shares of annotators that depend on a pair's similarity.
fn vote(world: &World, share: impl Fn(f64) -> f64) -> Result<()> {
    let sets = encoded(world, "train.jsonl")?;
    let views: Vec<PairView<'_>> = encode::pairs(&sets).map(|pair| pair.view()).collect();
    let length_ratio = constraint::parse("length_ratio")?;
    let similarities = length_ratio.similarities(&views, &Priors::default())?.context("similarities")?;
    let mut lines = world.lines("train.jsonl")?;
    ensure!(lines.len() == similarities.len(), "a pair was left out");
    for (line, s) in lines.iter_mut().zip(similarities) {
        line["votes"] = json!({"share": share(f64::from(s))});
        line["agreement"] = line["votes"]["share"].clone();
    }
    world.write("votes.jsonl", &lines.iter().map(|line| format!("{line}\n")).collect::<String>())
}

/// Protects: where the annotators' agreement follows σ(Δ*/2) exactly, Δ* is recovered exactly, without a
/// model's weights; the column with the shares is not called unread.
#[test]
fn annotators_agreement_gives_back_its_curve() -> Result<()> {
    let world = World::new()?;
    let bound = |s: f64| 0.8 / (s + 0.1) - 0.3;
    vote(&world, |s| 1.0 / (1.0 + (-bound(s) / 2.0).exp()))?;
    fs::remove_file(world.path("base/model.safetensors"))?;
    // An array on one line, as json.dump writes it, holds the same records.
    world.write("votes.json", &Value::Array(world.lines("votes.jsonl")?).to_string())?;
    for (data, field) in
        [("votes.jsonl", "agreement"), ("votes.jsonl", "/votes/share"), ("votes.json", "agreement")]
    {
        let calibrate = format!(
            "calibrate --model base --data {data} --agreement-field {field} --bootstrap 100 \
             --output bound.json --constraint '{{\"kind\": \"length_ratio\", \"beta2\": 0.1}}'"
        );
        let output = world.command(&calibrate)?.output()?;
        ensure!(output.status.success(), "{}", stderr(&output));
        let other = if field == "agreement" { "votes" } else { "agreement" };
        ensure!(stderr(&output).contains(&format!("; not read: row, {other}\n")), "{}", stderr(&output));
        let printed = String::from_utf8(output.stdout)?;
        ensure!(printed.contains("the curve is fitted"), "{printed}");
        ensure!(printed.lines().all(|line| line.chars().count() <= 80), "{printed}");
        let fitted = json_of(&String::from_utf8(world.read("bound.json")?)?)?;
        ensure!(fitted["kind"] == "length_ratio", "{fitted}");
        let found = ["beta1", "beta2", "beta3"].map(|name| fitted[name].as_f64().unwrap_or(f64::NAN) as f32);
        check_close("beta", &found, &[0.8, 0.1, -0.3], 1e-3)?;
    }
    Ok(())
}

/// Protects: where agreement follows no curve, every fitted value has an interval with its method and level.
#[test]
fn noisy_agreement_has_intervals() -> Result<()> {
    let world = World::new()?;
    vote(&world, |s| if ((1000.0 * s) as u64).is_multiple_of(2) { 0.9 } else { 0.6 })?;
    let said = json_of(&world.run(
        "calibrate --model base --data votes.jsonl --agreement-field agreement --bootstrap 100 --json \
         --constraint '{\"kind\": \"length_ratio\", \"beta2\": 0.1}' --output bound.json",
    )?)?;
    ensure!(check_intervals(&said)? > 50, "few intervals in {said}");
    Ok(())
}

/// Protects: missing or invalid shares are refused with file, line and the expected range; labels that
/// annotators reject are refused too, as are files given twice; nothing is written.
#[test]
fn broken_agreement_is_refused() -> Result<()> {
    let world = World::new()?;
    let calibrate = |field: &str| {
        format!(
            "calibrate --model base --data votes.jsonl --agreement-field {field} --bootstrap 100 \
             --output bound.json"
        )
    };
    vote(&world, |_| 0.3)?;
    world.refuses(&calibrate("agreement"), &["30.0 %", "no better than a coin", "nothing can be fitted"])?;
    world.refuses(&calibrate("agreemnt"), &["votes.jsonl:1", "agreemnt", "missing", "0 to 1"])?;
    world.refuses(&calibrate("prompt"), &["votes.jsonl:1", "found \"Question", "0 to 1"])?;
    vote(&world, |s| if s < 0.5 { 0.9 } else { 80.0 })?;
    world.refuses(&calibrate("agreement"), &["votes.jsonl:", "found 80", "0 to 1"])?;
    vote(&world, |_| 0.9)?;
    world.refuses(
        &calibrate("agreement").replace("votes.jsonl", "votes.jsonl votes.jsonl"),
        &["votes.jsonl:1", "the file is given twice"],
    )?;
    ensure!(!world.path("bound.json").exists(), "a constraint was written");
    Ok(())
}

/// Protects: β2 is fitted when requested, and `--constraint` may name a file with the constraint to fit.
#[test]
fn beta2_may_be_fitted_too() -> Result<()> {
    let world = World::new()?;
    vote(&world, |s| 1.0 / (1.0 + (-(1.5 / (s + 0.3) - 0.6) / 2.0).exp()))?;
    world.write("asked.json", "{\"kind\": \"length_ratio\", \"beta1\": 30, \"beta3\": -25}")?;
    let calibrate = "calibrate --model base --data votes.jsonl --agreement-field agreement --bootstrap 100 \
                     --constraint asked.json";
    world.run(&format!("{calibrate} --beta2 fitted --output bound.json"))?;
    let fitted = json_of(&String::from_utf8(world.read("bound.json")?)?)?;
    let found = ["beta1", "beta2", "beta3"].map(|name| fitted[name].as_f64().unwrap_or(f64::NAN) as f32);
    check_close("beta", &found, &[1.5, 0.3, -0.6], 1e-3)?;
    // The written file can be passed to `--constraint` again.
    world.run("reward --model base --data train.jsonl --max-steps 2 --constraint bound.json --output rm")?;
    world.run(&format!("{calibrate} --beta2 0.001 --output other.json"))?;
    ensure!(world.read("other.json")? != world.read("bound.json")?, "--beta2 has no effect");
    // It also replaces the β2 of an unfitted form.
    let of_form = calibrate.replace("asked.json", "calibrated");
    world.run(&format!("{of_form} --beta2 fitted --output form.json"))?;
    ensure!(world.read("form.json")? == world.read("bound.json")?, "calibrated keeps its own β2");
    Ok(())
}

/// Protects: `--judge` uses a given model and warns if that model was trained on the data; several
/// constraints give a file each.
#[test]
fn a_given_model_judges() -> Result<()> {
    let world = World::new()?;
    world.run(&format!("reward {OPTIONS} --output rm"))?;
    let calibrate = "calibrate --model base --judge rm --bootstrap 100 --output bounds \
                     --constraint length_ratio --constraint cosine --constraint length_ratio";
    let output = world.command(&format!("{calibrate} --data train.jsonl"))?.output()?;
    ensure!(output.status.success(), "{}", stderr(&output));
    ensure!(stderr(&output).contains("was trained on train.jsonl"), "{}", stderr(&output));
    for name in ["length_ratio", "cosine", "length_ratio-2"] {
        let text = String::from_utf8(world.read(&format!("bounds/{name}.json"))?)?;
        ensure!(!constraint::from_tagged(json_of(&text)?)?.is_unfitted(), "{text}");
    }
    let output = world.command(&format!("{calibrate} --data test.jsonl --json"))?.output()?;
    ensure!(!stderr(&output).contains("warning"), "{}", stderr(&output));
    let result = json_of(&String::from_utf8(output.stdout)?)?;
    let scored = json_of(&world.run("eval reward --model rm --data test.jsonl --no-report --json")?)?;
    ensure!(
        result["accuracy"]["value"] == scored["accuracy"]["value"],
        "{} {}",
        result["accuracy"],
        scored["accuracy"]
    );
    Ok(())
}

/// Protects: invalid requests are refused by the option's name before anything is computed.
#[test]
fn wrong_calibrations_are_refused() -> Result<()> {
    let world = World::new()?;
    world
        .write("one.jsonl", &"{\"prompt\": \"a\", \"chosen\": \" b\", \"rejected\": \" c d\"}\n".repeat(5))?;
    let cases: [(&str, &[&str]); 16] = [
        (
            "--data train.jsonl --constraint fixed",
            &["--constraint fixed", "no beta1, beta2 and beta3", "length_ratio"],
        ),
        ("--data train.jsonl --constraint lenght", &["\"lenght\"", "calibrated, combine"]),
        ("--data train.jsonl --folds 1", &["--folds 1", "expected 2 to 1000"]),
        ("--data train.jsonl --bootstrap 3", &["bootstrap", "found 3", "at least 100"]),
        ("--data train.jsonl --level 95", &["level", "found 95", "between 0 and 1"]),
        ("--data train.jsonl --judge nowhere", &["--judge", "nowhere", "no such folder"]),
        ("--data train.jsonl --beta2 fited", &["beta2", "\"fited\"", "expected a finite number"]),
        ("--data train.jsonl --constraint nothing.json", &["--constraint nothing.json", "No such file"]),
        (
            "--data train.jsonl --judge base --agreement-field x",
            &["--judge", "--agreement-field", "cannot be used"],
        ),
        ("--data train.jsonl --eval-data test.jsonl", &["--eval-data", "nothing is evaluated"]),
        ("--data train.jsonl --constraint learned --beta2 fitted", &["--beta2 has no effect on learned"]),
        ("--data train.jsonl --collective-timeout 5", &["--collective-timeout has no effect"]),
        ("--data train.jsonl --judge base --lanes 4", &["--lanes has no effect", "with --judge"]),
        ("--data train.jsonl --temperature --random-init", &["--random-init has no effect", "--temperature"]),
        (
            "--data train.jsonl --temperature --eval-split 0.5",
            &["--eval-split", "--temperature fits to all of --data"],
        ),
        ("--data one.jsonl", &["all 5 pairs fall into one of 5 folds", "several prompts"]),
    ];
    for (arguments, parts) in cases {
        world.refuses(&format!("calibrate --model base {arguments} --output bound.json"), parts)?;
    }
    world.refuses(
        "calibrate --model base --data train.jsonl --output base",
        &["--output base", "is a folder"],
    )?;
    ensure!(!world.path("bound.json").exists(), "a constraint was written");
    Ok(())
}

/// Protects: the fitted temperature minimises the loss on its pairs. The scaled model is an ordinary folder
/// whose scores are the old ones divided by the temperature, in the same order, with the predicted losses.
#[test]
fn a_temperature_divides_the_head() -> Result<()> {
    let world = World::new()?;
    let noisy: String = world
        .lines("test.jsonl")?
        .into_iter()
        .enumerate()
        .map(|(at, mut pair)| {
            if at % 4 == 0 {
                let (chosen, rejected) = (pair["chosen"].clone(), pair["rejected"].clone());
                (pair["chosen"], pair["rejected"]) = (rejected, chosen);
            }
            pair.to_string() + "\n"
        })
        .collect();
    world.write("noisy.jsonl", &noisy)?;
    fs::create_dir(world.path("base/additional_chat_templates"))?;
    world.write("base/additional_chat_templates/rag.jinja", "{{ documents }}")?;
    world.run("reward --model base --data train.jsonl --max-steps 30 --learning-rate 1e-3 --output rm")?;
    let calibrate = "calibrate --temperature --model rm --data noisy.jsonl --bootstrap 100";
    let result = json_of(&world.run(&format!("{calibrate} --output scaled --json"))?)?;
    let temperature = result["scaled"]["temperature"].as_f64().context("temperature")?;
    let margins = |model: &str| -> Result<Vec<(f64, f64)>> {
        world.run(&format!("score --model {model} --data noisy.jsonl --output {model}.jsonl"))?;
        let score = |line: &Value, key: &str| line[key].as_f64().context("a score");
        let of = |line: &Value| Ok((score(line, "chosen_score")?, score(line, "rejected_score")?));
        world.lines(&format!("{model}.jsonl"))?.iter().map(of).collect()
    };
    let (before, after) = (margins("rm")?, margins("scaled")?);
    ensure!(before.len() == 60);
    for ((a, b), (x, y)) in before.iter().zip(&after) {
        ensure!((a / temperature - x).abs() < 1e-5 * (1.0 + x.abs()), "{a} / {temperature} is not {x}");
        ensure!((b / temperature - y).abs() < 1e-5 * (1.0 + y.abs()), "{b} / {temperature} is not {y}");
    }
    let loss = |by: f64| -> f64 {
        before.iter().map(|(a, b)| (1.0 + (-(a - b) / by).exp()).ln()).sum::<f64>() / before.len() as f64
    };
    ensure!(loss(temperature) < loss(temperature * 1.01) && loss(temperature) < loss(temperature / 1.01));
    ensure!((loss(1.0) - result["plain"]["log_loss"]["value"].as_f64().context("loss")?).abs() < 1e-6);
    let eval =
        |model: &str| json_of(&world.run(&format!("eval reward --model {model} --data noisy.jsonl --json"))?);
    let (first, second) = (eval("rm")?, eval("scaled")?);
    ensure!(
        (second["log_loss"].as_f64().context("loss")? - loss(temperature)).abs() < 1e-5,
        "{}",
        second["log_loss"]
    );
    ensure!(first["accuracy"]["value"] == second["accuracy"]["value"], "scaling changed the accuracy");
    // The same folds of the same prompts give the same figures at any scale.
    let scaled = |report: &Value| report["scaled"]["log_loss"]["value"].as_f64().context("scaled");
    ensure!(
        (scaled(&first)? - scaled(&second)?).abs() < 1e-6,
        "{} and {}",
        first["scaled"],
        second["scaled"]
    );
    ensure!(
        (scaled(&first)? - result["scaled"]["log_loss"]["value"].as_f64().context("a loss")?).abs() < 1e-9
    );
    ensure!((second["scaled"]["temperature"].as_f64().context("temperature")? - 1.0).abs() < 1e-4);
    let config = json_of(&String::from_utf8(world.read("scaled/config.json")?)?)?;
    ensure!(
        config["pcrm"]["temperature"]["value"] == temperature && config["pcrm"]["constraint"].is_null(),
        "{config}"
    );
    // The range of training is in the units of the new scores.
    let unscaled = json_of(&String::from_utf8(world.read("rm/config.json")?)?)?;
    for name in ["mean", "std", "low", "high"] {
        let of = |config: &Value| config["pcrm"]["scores"][name].as_f64().context("a range");
        let (old, new) = (of(&unscaled)?, of(&config)?);
        ensure!((old / temperature - new).abs() < 1e-9 * (1.0 + new.abs()), "{name}: {old} became {new}");
    }
    ensure!(world.read("scaled/additional_chat_templates/rag.jinja")? == b"{{ documents }}");
    let card = String::from_utf8(world.read("scaled/README.md")?)?;
    ensure!(card.contains("divided by a temperature") && card.contains(&format!("{temperature}")), "{card}");
    world.refuses(&format!("{calibrate} --output scaled"), &["already holds a model"])?;
    world.refuses(
        &format!("{calibrate} --output new --constraint edit"),
        &["--temperature", "--constraint"],
    )?;
    Ok(())
}

/// Protects: with flipped labels, `--label-smoothing estimate` finds a share above 0, trains with it and
/// records it. A resumed run and a run given that number train the same model.
#[test]
fn a_share_of_wrong_labels_is_estimated() -> Result<()> {
    let world = World::new()?;
    let flipped: String = world
        .lines("train.jsonl")?
        .into_iter()
        .enumerate()
        .map(|(at, mut pair)| {
            if at % 5 == 0 {
                let (chosen, rejected) = (pair["chosen"].clone(), pair["rejected"].clone());
                (pair["chosen"], pair["rejected"]) = (rejected, chosen);
            }
            pair.to_string() + "\n"
        })
        .collect();
    world.write("flipped.jsonl", &flipped)?;
    let steps = "--max-steps 20 --batch 8 --learning-rate 2e-3 --loss robust";
    let reward = format!("reward --model base --data flipped.jsonl {steps}");
    world.run(&format!("{reward} --label-smoothing estimate --save-every 10 --output rm"))?;
    let config = json_of(&String::from_utf8(world.read("rm/config.json")?)?)?;
    let found = &config["pcrm"]["wrong_labels"];
    let share = found["share"].as_f64().context("share")?;
    ensure!(share > 0.02 && share < 0.45, "{found}");
    ensure!(found["likelihood_ratio"].as_f64().context("ratio")? > 0.0, "{found}");
    world.run(&format!("{reward} --label-smoothing {share} --output given"))?;
    let weights = |run: &str| world.read(&format!("{run}/model.safetensors"));
    ensure!(
        weights("rm")? == weights("given")?,
        "the estimated share and the same number given as an option train different models"
    );
    let before = weights("rm")?;
    world.run(&format!("{reward} --label-smoothing estimate --save-every 10 --output rm --resume"))?;
    ensure!(weights("rm")? == before, "the resumed run ends with other weights");
    world.refuses(
        &format!("{reward} --label-smoothing 0.1 --output rm --resume"),
        &["--label-smoothing was", "estimate"],
    )?;

    // A policy's judges are reward models over its base, with their own learning rate.
    let dpo =
        "dpo --model base --random-init --data flipped.jsonl[:120] --max-steps 30 --batch 8 --loss cdpo";
    world.run(&format!("{dpo} --label-smoothing estimate --save-every 30 --output policy"))?;
    let config = json_of(&String::from_utf8(world.read("policy/config.json")?)?)?;
    let share = config["pcrm"]["wrong_labels"]["share"].as_f64().context("share")?;
    ensure!(config["pcrm"]["loss"]["label-smoothing"] == share, "{config:#}");
    world.run(&format!("{dpo} --label-smoothing {share} --output told"))?;
    ensure!(weights("policy")? == weights("told")?, "the same share trains another policy");
    world.refuses(
        "online-dpo --model base --random-init --data flipped.jsonl --reward length --loss cdpo \
         --label-smoothing estimate --output online",
        &["--label-smoothing", "no pairs before its first step"],
    )
}
