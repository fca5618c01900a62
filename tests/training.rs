//! Training runs with a tiny model and a planted preference: learning, saved files and refusals.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use pcrm_core::data::preference::Verdict;
use pcrm_core::model::RewardModel;
use pcrm_core::optim::AdamWConfig;
use pcrm_core::schedule::{Schedule, Shape};
use pcrm_core::{Backend, DType};
use pcrm_rl::batch::ScoreAt;
use pcrm_rl::loss::{LossConfig, Ranking, RankingForm, TieModel};
use pcrm_rl::metrics;
use pcrm_rl::objective::evaluate;
use pcrm_rl::objective::reward::RewardConfig;
use pcrm_rl::offline::{Final, Outcome, TrainerConfig, Warmup};
use pcrm_rl::order::{BatchSize, Order};
use pcrm_rl::pairs::Pairs;
use pcrm_rl::score::score_pairs;
use serde_json::{Value, json};
use tempfile::tempdir;

use crate::planted::{Bench, Watch, config, objective, pairs, reversed, reward, sets};
use crate::subject::every_backend;

/// Returns options with enough steps to learn the planted preference.
fn learning() -> TrainerConfig {
    TrainerConfig {
        epochs: 100.0,
        max_steps: Some(60),
        batch: BatchSize::Pairs(24),
        learning_rate: 2e-2,
        eval_every: None,
        save_every: None,
        ..config()
    }
}

fn scored(backend: &dyn Backend, dir: &Path, data: &Pairs) -> Result<Vec<f32>> {
    let model = RewardModel::load_to_train(backend, dir, DType::F32, 0)?;
    let sets: Vec<_> = data.sets.iter().collect();
    Ok(score_pairs(&model, &sets, 1000)?.into_iter().map(|(chosen, rejected)| chosen - rejected).collect())
}

/// Protects: under every compiled constraint, training learns the preference and ranks held-out pairs.
#[test]
fn the_planted_preference_is_learned_under_every_constraint() -> Result<()> {
    every_backend(|backend| {
        for constraint in [
            "none",
            "length_ratio",
            r#"{"kind": "fixed", "bound": 3}"#,
            r#"{"kind": "random", "low": 1, "high": 2}"#,
        ] {
            let dir = tempdir()?;
            let bench = Bench::new(learning(), pairs(240, 1, constraint)?, Some(pairs(100, 2, constraint)?));
            let (_, watch) = bench.finish(backend, dir.path())?;
            let (step, held_out, _) = watch.evaluations.last().context("no evaluation")?;
            ensure!(*step == 60 && held_out.get("accuracy") > Some(0.95), "{constraint}: {held_out:?}");
            ensure!(held_out.get("bound").is_some() == (constraint != "none"), "{constraint}: {held_out:?}");
            ensure!(
                held_out.get("constraint_loss") > Some(0.0) || constraint == "none",
                "{constraint}: {held_out:?}"
            );
        }
        Ok(())
    })
}

/// Protects: every ranking loss learns ranked sets with and without ties and ranks held-out sets; modelled
/// ties bring tied answers close to each other.
#[test]
fn ranked_sets_are_learned_by_pairs_and_whole_with_and_without_ties() -> Result<()> {
    every_backend(|backend| {
        for (ranking, ties) in [
            (Ranking::Pairs, TieModel::None),
            (Ranking::Pairs, TieModel::Davidson { nu: 1.0 }),
            (Ranking::Pairs, TieModel::RaoKupper { theta: 2.0 }),
            (Ranking::PlackettLuce, TieModel::None),
            (Ranking::PlackettLuce, TieModel::Davidson { nu: 1.0 }),
        ] {
            let what = format!("{ranking:?}, {ties:?}");
            let with_ties = ties != TieModel::None;
            let bound = r#"{"kind": "fixed", "bound": 4}"#;
            let (train, held_out) = (sets(60, 1, bound, with_ties)?, sets(30, 2, bound, true)?);
            let mut bench = Bench::new(learning(), train, None);
            bench.config.batch = BatchSize::Pairs(12);
            bench.reward.loss = LossConfig { ranking, ties, ..LossConfig::default() };
            let dir = tempdir()?;
            let (_, watch) = bench.finish(backend, dir.path())?;
            let last = watch.lines.last().context("no step")?;
            ensure!(
                last.metrics.get("constraint_loss") > Some(0.0) && watch.lines.len() == 60,
                "{what}: {last:?}"
            );
            let margins = scored(backend, dir.path(), &held_out)?;
            let of = |tied: bool| -> Vec<f32> {
                let pairs = held_out.pairs().zip(&margins);
                pairs
                    .filter(|(pair, _)| (pair.verdict == Verdict::Tied) == tied)
                    .map(|(_, margin)| *margin)
                    .collect()
            };
            let right = of(false).iter().filter(|margin| **margin > 0.0).count();
            ensure!(
                right * 100 >= 95 * of(false).len(),
                "{what}: only {right} of {} pairs are ranked correctly",
                of(false).len()
            );
            let tied = of(true).iter().map(|margin| margin.abs()).sum::<f32>() / of(true).len() as f32;
            ensure!(tied < 0.5, "{what}: tied answers are {tied} apart");
        }
        Ok(())
    })
}

/// Protects: incompatible losses and unsuitable data are refused before anything is written.
#[test]
fn losses_of_rankings_that_mean_nothing_are_refused() -> Result<()> {
    let whole = LossConfig { ranking: Ranking::PlackettLuce, ..LossConfig::default() };
    every_backend(|backend| {
        for (field, score_at, loss) in [
            ("tie-strength", ScoreAt::Last, LossConfig { ties: TieModel::Davidson { nu: 0.0 }, ..whole }),
            ("tie-strength", ScoreAt::Last, LossConfig { ties: TieModel::RaoKupper { theta: 1.0 }, ..whole }),
            ("ties", ScoreAt::Last, LossConfig { ties: TieModel::RaoKupper { theta: 2.0 }, ..whole }),
            ("score", ScoreAt::DivergentMean, whole),
            ("loss", ScoreAt::Last, LossConfig { form: RankingForm::Floor { floor: 0.0 }, ..whole }),
        ] {
            let dir = tempdir()?;
            let mut bench = Bench::new(config(), sets(4, 1, "none", false)?, None);
            bench.reward = RewardConfig { loss, score_at, ..reward() };
            let outcome = bench.run(backend, dir.path(), &mut Watch::default())?;
            let message = outcome.err().with_context(|| format!("{field} was accepted"))?.to_string();
            ensure!(message.starts_with(&format!("{field}: ")), "{message}");
            ensure!(fs::read_dir(dir.path())?.next().is_none(), "{field}: something was written");
        }
        let mut bench = Bench::new(config(), sets(4, 1, "none", false)?, None);
        bench.train.sets[1].comparisons[2].margin = Some(1.0);
        bench.reward = RewardConfig { loss: whole, ..RewardConfig::default() };
        let error = bench.run(backend, tempdir()?.path(), &mut Watch::default())?.err();
        let message = error.context("a margin was accepted")?.to_string();
        ensure!(message.starts_with("ignore-margin: is needed: planted.jsonl:6 "), "{message}");
        Ok(())
    })
}

/// Protects: a bound limits margins: −ln σ(Δ) − ln σ(Δ* − Δ) is least at Δ*/2, so margins settle there, while
/// margins without a bound keep growing.
#[test]
fn margins_go_to_half_the_bound() -> Result<()> {
    every_backend(|backend| {
        let margins = |constraint: &str| -> Result<Vec<f32>> {
            let dir = tempdir()?;
            let bench = Bench::new(learning(), pairs(240, 1, constraint)?, None);
            bench.finish(backend, dir.path())?;
            scored(backend, dir.path(), &bench.train)
        };
        let mean = |margins: &[f32]| margins.iter().sum::<f32>() / margins.len() as f32;
        let bounded = margins(r#"{"kind": "fixed", "bound": 3}"#)?;
        let beyond = bounded.iter().filter(|margin| **margin > 3.0).count();
        ensure!(beyond * 50 <= bounded.len(), "{beyond} of {} margins are beyond the bound", bounded.len());
        ensure!((mean(&bounded) - 1.5).abs() < 0.15, "the mean margin is {}", mean(&bounded));
        let free = margins("none")?;
        ensure!(mean(&free) > 3.0, "without a bound the mean margin is {}", mean(&free));
        Ok(())
    })
}

/// Protects: every way to form batches runs, and uses each pair once per epoch.
#[test]
fn every_order_and_size_of_batches_uses_each_pair_once_an_epoch() -> Result<()> {
    let train = pairs(50, 1, "none")?;
    let an_epoch: u64 = train.pairs().map(|pair| pair.tokens() as u64).sum();
    every_backend(|backend| {
        for batch in [BatchSize::Pairs(8), BatchSize::Tokens(60)] {
            for order in [Order::Shuffled, Order::Bucketed, Order::File] {
                let what = format!("{batch:?}, {order:?}");
                let dir = tempdir()?;
                let config = TrainerConfig { batch, order, epochs: 2.0, max_steps: None, ..config() };
                let (outcome, watch) = Bench::new(config, train.clone(), None).finish(backend, dir.path())?;
                ensure!(matches!(outcome, Outcome::Finished { best: None, early: false, .. }), "{outcome:?}");
                let ends: Vec<(f64, u64)> = watch
                    .lines
                    .iter()
                    .map(|line| (line.epoch, line.num_tokens))
                    .filter(|at| at.0.fract() == 0.0)
                    .collect();
                ensure!(ends == [(1.0, an_epoch), (2.0, 2 * an_epoch)], "{what}: {ends:?}");
                if batch == BatchSize::Pairs(8) {
                    ensure!(watch.lines.len() == 14 && watch.begun == (0, 14), "{what}: {:?}", watch.begun);
                }
            }
        }
        Ok(())
    })
}

/// Protects: each step uses the rate of its schedule, with warm-up in steps or as a share of the run, and
/// `metrics.jsonl` has the requested lines.
#[test]
fn learning_rates_in_the_metrics_are_those_of_the_schedule() -> Result<()> {
    every_backend(|backend| {
        for (schedule, warmup, steps) in [
            (Shape::Constant, Warmup::Steps(0), 0),
            (Shape::Linear, Warmup::Steps(4), 4),
            (Shape::Cosine, Warmup::Ratio(0.15), 3), // ⌈0.15 · 14⌉
        ] {
            let dir = tempdir()?;
            let mut bench = Bench::usual()?;
            bench.config = TrainerConfig { schedule, warmup, log_every: 3, ..config() };
            bench.finish(backend, dir.path())?;
            let lines = metrics::read(&dir.path().join("metrics.jsonl"))?;
            let want = Schedule { peak: 1e-2, shape: schedule, warmup: steps, total: 14 };
            let rates: Vec<(u64, f64)> = lines
                .iter()
                .filter_map(|line| Some((line["step"].as_u64()?, line["learning_rate"].as_f64()?)))
                .collect();
            ensure!(rates.iter().map(|rate| rate.0).eq([3, 6, 9, 12, 14]), "{rates:?}");
            for (step, rate) in rates {
                let expected = want.rate(step - 1);
                ensure!(
                    (rate - expected).abs() <= 1e-15,
                    "{schedule:?}, step {step}: {rate}, expected {expected}"
                );
            }
            let evaluations = lines.iter().filter(|line| line["eval_loss"].is_f64());
            ensure!(evaluations.filter_map(|line| line["step"].as_u64()).eq([4, 8, 12, 14]), "{lines:?}");
        }
        Ok(())
    })
}

/// Protects: a line has the means of losses over the steps since the line before and the last step's gradient norm
/// and counters, as in transformers and TRL, also if the run was stopped and resumed between two lines.
#[test]
fn lines_are_means_over_their_steps() -> Result<()> {
    every_backend(|backend| {
        let lines = |log_every: u64, stop: Option<u64>| -> Result<Vec<Value>> {
            let (mut bench, dir) = (Bench::usual()?, tempdir()?);
            bench.config = TrainerConfig { log_every, ..config() };
            if let Some(step) = stop {
                bench.stopped_after(step, backend, dir.path())?;
            }
            bench.finish(backend, dir.path())?;
            let mut lines = metrics::read(&dir.path().join("metrics.jsonl"))?;
            lines.retain(|line| line["loss"].is_f64());
            lines.iter_mut().for_each(|line| line["tokens_per_second"] = Value::Null);
            Ok(lines)
        };
        let (every, third) = (lines(1, None)?, lines(3, None)?);
        ensure!((every.len(), third.len()) == (14, 5), "{} and {} lines", every.len(), third.len());
        for (at, line) in third.iter().enumerate() {
            let steps = &every[3 * at..every.len().min(3 * at + 3)];
            let of =
                |line: &Value, name: &str| line[name].as_f64().with_context(|| format!("{name}: {line}"));
            for name in ["loss", "accuracy"] {
                let all = steps.iter().map(|step| of(step, name)).collect::<Result<Vec<_>>>()?;
                let mean = all.iter().sum::<f64>() / all.len() as f64;
                ensure!((of(line, name)? - mean).abs() < 1e-12, "{line}: expected {name} {mean}");
            }
            let last = steps.last().context("no step")?;
            for name in ["step", "epoch", "grad_norm", "learning_rate", "num_tokens"] {
                ensure!(line[name] == last[name], "{line}: expected {name} {}", last[name]);
            }
        }
        for stop in [4, 6] {
            ensure!(lines(3, Some(stop))? == third, "the lines of a run stopped after step {stop} differ");
        }
        Ok(())
    })
}

/// Returns the error of a run that must not finish, and checks that step `intact` has the newest checkpoint.
fn complaint(bench: &Bench, backend: &dyn Backend, dir: &Path, intact: u64) -> Result<String> {
    let error =
        bench.run(backend, dir, &mut Watch::default())?.err().context("the run finished")?.to_string();
    let (path, state) = pcrm_rl::checkpoint::newest(dir)?.context("no checkpoint is left")?;
    ensure!(state.step == intact, "the newest checkpoint is {}", path.display());
    ensure!(!dir.join("model.safetensors").exists(), "a model was saved");
    Ok(error)
}

/// Protects: a loss or gradient that is NaN or infinite ends the run before the update, with the step and the
/// rows.
#[test]
fn a_loss_that_is_not_finite_stops_with_step_and_rows() -> Result<()> {
    every_backend(|backend| {
        let mut bench = Bench::usual()?;
        bench.config =
            TrainerConfig { order: Order::File, save_every: Some(1), eval_every: None, ..config() };
        bench.reward.ignore_margin = false;
        bench.train.sets[18].comparisons[0].margin = Some(f32::INFINITY);
        let dir = tempdir()?;
        let error = complaint(&bench, backend, dir.path(), 2)?;
        for expected in ["step 3:", "loss is inf", "planted.jsonl:17, ", "planted.jsonl:24;"] {
            ensure!(error.contains(expected), "{error}: lacks {expected:?}");
        }
        ensure!(!error.contains("planted.jsonl:16,") && !error.contains("planted.jsonl:25"), "{error}");
        bench.reward.ignore_margin = true; // unused margins do no harm
        bench.finish(backend, tempdir()?.path())?;
        // With huge weights, the scores of the second step are NaN or infinite.
        let adamw = AdamWConfig::default(); // no decay, which would exceed the weight itself
        bench.config = TrainerConfig { learning_rate: 1e30, warmup: Warmup::Steps(0), adamw, ..bench.config };
        let dir = tempdir()?;
        let error = complaint(&bench, backend, dir.path(), 1)?;
        ensure!(error.contains("step 2:") && error.contains("planted.jsonl:9, "), "{error}");
        Ok(())
    })
}

fn bytes(path: std::path::PathBuf) -> Result<Vec<u8>> {
    fs::read(&path).with_context(|| path.display().to_string())
}

/// Protects: a run that stops improving ends early; its best checkpoint outlives newer ones, and
/// `Final::Best` saves its weights as the model.
#[test]
fn patience_ends_a_run_and_the_best_weights_are_kept() -> Result<()> {
    every_backend(|backend| {
        for final_weights in [Final::Best, Final::Last] {
            let mut bench = Bench::usual()?;
            bench.eval = bench.eval.map(reversed); // the more the model learns, the worse the evaluation
            bench.config = TrainerConfig {
                max_steps: Some(40),
                epochs: 10.0,
                eval_every: Some(2),
                save_every: Some(1),
                keep: 1,
                patience: Some(3),
                final_weights,
                warmup: Warmup::Steps(0),
                ..config()
            };
            let dir = tempdir()?;
            let (outcome, watch) = bench.finish(backend, dir.path())?;
            let Outcome::Finished { steps, best: Some(best), early: true, saved } = outcome else {
                anyhow::bail!("{outcome:?}")
            };
            let losses: Vec<(u64, f64)> =
                watch.evaluations.iter().map(|seen| (seen.0, seen.1.loss())).collect();
            let least = losses.iter().copied().min_by(|a, b| a.1.total_cmp(&b.1)).context("no evaluation")?;
            ensure!((best.step, best.loss) == least, "{best:?} of {losses:?}");
            ensure!(
                steps == best.step + 3 * 2 && losses.len() as u64 == steps / 2,
                "{steps} steps, {losses:?}"
            );
            ensure!(pcrm_rl::checkpoint::steps(dir.path())? == [best.step, steps]);
            let wanted = if final_weights == Final::Best { best.step } else { steps };
            ensure!(saved == wanted, "step {saved} was announced, step {wanted} was saved");
            let kept = bytes(dir.path().join(format!("checkpoint-{wanted}/model.safetensors")))?;
            ensure!(bytes(dir.path().join("model.safetensors"))? == kept, "{final_weights:?}");
        }
        Ok(())
    })
}

/// Protects: the run's folder is a model in the layout of `transformers`, with the scores of the last
/// evaluation.
#[test]
fn the_saved_folder_is_the_model_that_was_evaluated() -> Result<()> {
    every_backend(|backend| {
        let (bench, dir) = (Bench::usual()?, tempdir()?);
        let (_, watch) = bench.finish(backend, dir.path())?;
        let (_, evaluated, _) = watch.evaluations.last().context("no evaluation")?;
        let eval = bench.eval.as_ref().context("no data")?;
        let loaded = RewardModel::load(backend, dir.path(), DType::F32)?;
        ensure!(
            evaluate(&objective(reward()), &loaded, eval, 64)?.summary() == *evaluated,
            "the saved model has other scores"
        );
        let checkpoint = scored(backend, &dir.path().join("checkpoint-14"), eval)?;
        ensure!(scored(backend, dir.path(), eval)? == checkpoint, "the checkpoint has other scores");
        let config: Value = serde_json::from_slice(&bytes(dir.path().join("config.json"))?)?;
        for (key, expected) in [
            ("num_labels", json!(1)),
            ("architectures", json!(["LlamaForSequenceClassification"])),
            ("pad_token_id", json!(31)),
            ("id2label", json!({"0": "LABEL_0"})),
        ] {
            ensure!(config[key] == expected, "{key} is {}", config[key]);
        }
        let tokenizer = bytes(crate::support::beside("golden/text/plain/tokenizer.json"))?;
        ensure!(bytes(dir.path().join("tokenizer.json"))? == tokenizer, "the tokenizer changed");
        Ok(())
    })
}

/// Protects: meaningless options are refused by name before anything is written.
#[test]
fn impossible_options_are_refused_by_name() -> Result<()> {
    every_backend(|backend| {
        let usual = Bench::usual()?;
        let none = Pairs::default();
        for (field, config, train) in [
            ("data", config(), &none),
            ("epochs", TrainerConfig { epochs: f64::NAN, ..config() }, &usual.train),
            ("learning-rate", TrainerConfig { learning_rate: -1.0, ..config() }, &usual.train),
            ("warmup-ratio", TrainerConfig { warmup: Warmup::Ratio(1.5), ..config() }, &usual.train),
        ] {
            let dir = tempdir()?;
            let bench = Bench::new(config, train.clone(), None);
            let outcome = bench.run(backend, dir.path(), &mut Watch::default())?;
            let message = outcome.err().with_context(|| format!("{field} was accepted"))?.to_string();
            ensure!(message.starts_with(&format!("{field}: ")), "{message}");
            ensure!(fs::read_dir(dir.path())?.next().is_none(), "{field}: something was written");
        }
        Ok(())
    })
}
