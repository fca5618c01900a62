//! `pcrm calibrate --temperature`: divides a reward model's scores by one number, chosen to maximise the
//! likelihood of σ(Δ) on pairs the model was not trained on. The order of answers does not change.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use pcrm_core::data::encode::pairs;
use pcrm_core::data::preference::Verdict;
use pcrm_core::disk::FolderLock;
use pcrm_core::disk::whole::sweep_own;
use pcrm_core::folds::fold;
use pcrm_core::model::RewardModel;
use pcrm_core::text::Tokenizer;
use pcrm_eval::bootstrap::{Bootstrap, Clusters, Estimate};
use pcrm_eval::measure::Measure;
use pcrm_eval::temperature::Scaled;
use pcrm_rl::score::score_pairs;
use pcrm_rl::score_range::ScoreRange;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::CalibrateArgs;
use crate::card::{self, Card};
use crate::dataset::padding;
use crate::hub::Weights;
use crate::paragraph::paragraph;
use crate::progress::say;
use crate::report::{Fact, count, number};
use crate::terminal;
use crate::training::Encoded;
use crate::training::folder::name_of;
use crate::usage::usage;

/// The weight of the head to divide.
const HEAD: &str = "score.weight";

/// The losses of a model before and after division by a temperature.
#[derive(Debug, Serialize)]
struct Fitted {
    /// The number of pairs it was fitted to.
    pairs: usize,
    /// The number of prompts of these pairs.
    prompts: usize,
    /// The losses before.
    plain: Losses,
    /// The temperature, and the losses after temperatures fitted to the other folds of prompts.
    scaled: Scaled,
}

/// Losses with their intervals.
#[derive(Debug, Serialize)]
struct Losses {
    log_loss: Estimate,
    brier: Estimate,
    ece: Estimate,
}

/// Fits the temperature and writes the model.
///
/// # Errors
/// Fails if the folder holds no reward model or the model has no head of its own, if the pairs give no
/// temperature, or if the output folder holds a model.
pub fn run(args: &CalibrateArgs) -> Result<()> {
    usage(check(args))?;
    let training = &args.training;
    let dir = &*training.hub.model("--model", &training.model, Weights::Read)?;
    let at = || format!("--model {}", dir.display());
    let backend = training.machine.open()?;
    let model = RewardModel::load(backend.as_ref(), dir, training.machine.dtype).with_context(at)?;
    let mut tensors = model.tensors().with_context(at)?;
    ensure!(
        tensors.contains_key(HEAD),
        "--model {}: its head belongs to its base model; run `pcrm merge` first",
        dir.display()
    );
    let tokenizer = Tokenizer::from_dir(dir).with_context(at)?;
    let pad = padding(model.config(), &tokenizer);
    let max_length = usage(training.reading.training_length(model.config()))?;
    let Encoded { train: sets, sources, mut warnings, form, .. } =
        training.encoded(&tokenizer, pad, max_length)?;
    let micro_tokens = training.options()?.trainer.micro_tokens;
    let scores = score_pairs(&model, &sets.iter().collect::<Vec<_>>(), micro_tokens)?;
    let decided = pairs(&sets).zip(&scores).filter(|(pair, _)| pair.verdict != Verdict::Tied);
    let (mut margins, mut folds, mut prompts) = (Vec::new(), Vec::new(), Vec::new());
    let mut numbers = std::collections::HashMap::new();
    for (pair, (chosen, rejected)) in decided {
        let next = numbers.len();
        prompts.push(*numbers.entry(pair.id.prompt).or_insert(next));
        folds.push(fold(pair.id.prompt, args.evidence.folds));
        margins.push(f64::from(*chosen) - f64::from(*rejected));
    }
    let fitted = fit(args, &margins, &folds, &prompts)?;
    fitted.without_gain().into_iter().for_each(|text| warnings.add(text));
    let held = FolderLock::take(&args.output).context("--output")?;
    check_output(&args.output)?;
    sweep_own(&args.output)?;
    let temperature = fitted.scaled.temperature;
    if let Some(head) = tensors.get_mut(HEAD) {
        let scaled = head.to_f32().iter().map(|weight| (f64::from(*weight) / temperature) as f32).collect();
        *head = pcrm_core::HostTensor::f32(head.shape(), scaled)?;
    }
    model.restore(tensors)?;
    let model = model.with_config(|config| {
        let mut notes = config.raw.get("pcrm").and_then(Value::as_object).cloned().unwrap_or_default();
        config.raw.insert("pcrm".to_owned(), Value::Object(noted(&mut notes, temperature)));
    });
    tokenizer.save_to(&args.output)?;
    let files = sources.iter().flat_map(|source| &source.read.files);
    let card = Card {
        kind: card::ModelKind::Scaled,
        name: name_of(&args.output),
        base: card::repository(&training.model),
        begun_from: name_of(&training.model),
        license: card::license(dir),
        files: files
            .map(|file| format!("{}: {} of {} rows", name_of(&file.file), file.kept, file.rows))
            .collect(),
        training: vec![
            Fact::new("Temperature", format!("{temperature}")),
            Fact::new("Pairs it was fitted to", count(fitted.pairs as u64)),
        ],
        measures: measures(&fitted),
        form,
        scored_by_transformers: model.config().family.scored_by_transformers,
        own_class: model.decoder().adapters().is_none() && model.config().family.class_code().is_some(),
        ..Card::default()
    };
    card::write(&args.output, &card)?;
    // Written last: a folder with a config counts as a complete model.
    model.save(&args.output)?;
    held.still_there().context("--output")?;
    match args.json {
        true => terminal::result(&(serde_json::to_string_pretty(&fitted)? + "\n"))?,
        false => terminal::result(&text(&fitted))?,
    }
    say(&format!("{}: scores divided by {}, order unchanged", args.output.display(), number(temperature)));
    warnings.repeat();
    Ok(())
}

fn check(args: &CalibrateArgs) -> Result<()> {
    ensure!(
        !args.output.is_file(),
        "--output {}: is a file; expected a folder with --temperature",
        args.output.display()
    );
    ensure!(
        args.report.is_none(),
        "--report: --temperature writes no page; run `pcrm eval reward` on the model it writes"
    );
    check_output(&args.output)
}

/// Refuses a folder that holds a model.
fn check_output(dir: &Path) -> Result<()> {
    let taken = ["config.json", "adapter_config.json"].iter().any(|name| dir.join(name).exists());
    ensure!(!taken, "--output {}: already holds a model", dir.display());
    Ok(())
}

fn fit(args: &CalibrateArgs, margins: &[f64], folds: &[usize], prompts: &[usize]) -> Result<Fitted> {
    let clusters = Clusters::of(prompts);
    let bootstrap = Bootstrap {
        resamples: args.evidence.bootstrap,
        seed: args.training.machine.seed,
        level: args.evidence.level,
    };
    let plain = |measure: Measure| -> Result<Estimate> {
        let of = |positions: &[usize]| {
            measure.of(&positions.iter().map(|at| margins[*at]).collect::<Vec<_>>()).map(Some)
        };
        bootstrap.estimate(&clusters, of)?.context("no pairs")
    };
    let scaled = Scaled::of(margins, folds, &clusters, &bootstrap)?.context(
        "no temperature fits: in some fold of prompts the model orders every pair as labelled, or its \
         margins do not favour the preferred answers; use more held-out pairs or a better model",
    )?;
    Ok(Fitted {
        pairs: margins.len(),
        prompts: clusters.len(),
        plain: Losses {
            log_loss: plain(Measure::LogLoss)?,
            brier: plain(Measure::Brier)?,
            ece: plain(Measure::Ece)?,
        },
        scaled,
    })
}

/// Returns the notes of a scaled model. The range of scores is divided too, and the constraint moves under
/// `temperature`, since its bounds apply to unscaled scores.
fn noted(notes: &mut Map<String, Value>, temperature: f64) -> Map<String, Value> {
    let before = notes.get("temperature").and_then(|notes| notes["value"].as_f64()).unwrap_or(1.0);
    let constraint = notes.shift_remove("constraint");
    let constraint = constraint.or_else(|| notes.get("temperature")?.get("constraint").cloned());
    notes.insert("temperature".to_owned(), json!({"value": before * temperature, "constraint": constraint}));
    ScoreRange::divide_noted(notes, temperature);
    notes.clone()
}

impl Fitted {
    /// Returns a warning unless scaling lowers the log loss on pairs that the temperature was not fitted to.
    fn without_gain(&self) -> Option<String> {
        let (before, after) = (self.plain.log_loss.value, self.scaled.log_loss.value);
        let helps = after < before;
        (!helps).then(|| {
            format!(
                "scaling does not help on held-out pairs: log loss {} before, {} after",
                number(before),
                number(after)
            )
        })
    }
}

fn measures(fitted: &Fitted) -> Vec<Fact> {
    let ends = |estimate: &Estimate| {
        estimate.interval.map_or_else(String::new, |interval| {
            format!("{} to {}", number(interval.low()), number(interval.high()))
        })
    };
    let fact =
        |name: &str, estimate: &Estimate| Fact::new(name, number(estimate.value)).with_note(ends(estimate));
    let (plain, scaled) = (&fitted.plain, &fitted.scaled);
    vec![
        fact("Log loss before", &plain.log_loss),
        fact("Log loss after", &scaled.log_loss),
        fact("Brier score before", &plain.brier),
        fact("Brier score after", &scaled.brier),
        fact("Calibration error before", &plain.ece),
        fact("Calibration error after", &scaled.ece),
    ]
}

fn text(fitted: &Fitted) -> String {
    let mut text = paragraph(
        "",
        &format!(
            "Temperature {} on {} pairs of {} prompts. Losses after scaling are measured on prompts that the \
             temperature was not fitted to.",
            number(fitted.scaled.temperature),
            count(fitted.pairs as u64),
            count(fitted.prompts as u64)
        ),
    );
    for fact in measures(fitted) {
        let interval = if fact.note.is_empty() { String::new() } else { format!("  ({})", fact.note) };
        text.push_str(&format!("  {:<26}{:>7}{interval}\n", fact.name, fact.value));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: a temperature that does not lower the loss on held-out pairs is reported, with both losses; one that
    /// does is not.
    #[test]
    fn a_temperature_without_gain_is_reported() {
        let estimate = |value| Estimate { value, interval: None };
        let fitted = |before, after| {
            let other = estimate(0.5);
            Fitted {
                pairs: 9,
                prompts: 9,
                plain: Losses { log_loss: estimate(before), brier: other, ece: other },
                scaled: Scaled { temperature: 2.0, log_loss: estimate(after), brier: other, ece: other },
            }
        };
        let said = fitted(0.69, 0.7).without_gain().unwrap_or_default();
        let (before, after) = (number(0.69), number(0.7));
        let expected = format!("does not help on held-out pairs: log loss {before} before, {after} after");
        assert!(said.contains(&expected), "{said}");
        assert!(fitted(0.69, 0.69).without_gain().is_some());
        assert_eq!(fitted(0.7, 0.69).without_gain(), None);
    }

    /// Protects: the notes of a scaled model are in the units of its scores: the range of training is divided,
    /// a second time too, and the constraint and all other notes keep their numbers.
    #[test]
    fn notes_are_in_units_of_scaled_scores() {
        let scores = |by: f64| {
            json!({
                "count": 9, "mean": -8.0 / by, "std": 2.0 / by, "low": -16.0 / by, "high": 4.0 / by,
                "largest_bound": 12.0 / by,
            })
        };
        let constraint = json!({"kind": "fixed", "bound": 12.0});
        let before = json!({"constraint": constraint, "max_length": 256, "scores": scores(1.0)});
        let scaled = |notes: &Value, temperature: f64| {
            Value::Object(noted(&mut notes.as_object().cloned().unwrap_or_default(), temperature))
        };
        let after = |by: f64| {
            let temperature = json!({"value": by, "constraint": constraint});
            json!({"max_length": 256, "scores": scores(by), "temperature": temperature})
        };
        let once = scaled(&before, 4.0);
        assert_eq!(once, after(4.0));
        assert_eq!(scaled(&once, 0.5), after(2.0));
        let bare = json!({"value": 4.0, "constraint": null});
        assert_eq!(scaled(&json!({}), 4.0), json!({"temperature": bare}));
    }
}
