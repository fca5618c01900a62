//! `pcrm quickstart`: shows, in a world with a known true reward, how constraints change reward models and
//! the policies trained with them.

mod folder;
mod measure;
mod page;
mod policies;
mod progress;
mod show;
mod training;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::{Args, Command};
use pcrm_core::data::encode::{EncodeOptions, EncodedSet, Padding, encode_sets};
use pcrm_core::data::preference::{Strictness, load_preferences};
use pcrm_core::model::ModelConfig;
use pcrm_core::text::Tokenizer;
use pcrm_eval::worlds::World;
use serde::Serialize;
use serde_json::json;

use crate::interrupt;
use crate::machine::Machine;
use crate::numbers::{real, whole};
use crate::paragraph::paragraph;
use crate::progress::{quiet, say};
use crate::usage::usage;
use crate::{report, terminal, untrained};
use folder::Folder;
use measure::{MeasuredModel, Measures};
use progress::ModelProgress;
use training::Course;

/// The models: their names and constraints.
const MODELS: [(&str, &str); 3] = [
    ("none", "none"),
    ("length_ratio", r#"{"kind": "length_ratio", "beta1": 20, "beta2": 0.001, "beta3": -15}"#),
    ("fixed", r#"{"kind": "fixed", "bound": 3}"#),
];

/// The explanation of the table's last column and unusual rows.
const LEGEND: &str = "labellers: a model whose margins are the log-odds of the labellers' own preferences. \
                      By truth: compared with the order of the true rewards. Expects right: the mean of \
                      σ(|margin|).";

/// Options of `pcrm quickstart`.
#[derive(Debug, Args)]
#[command(
    after_long_help = "It takes 5 to 11 minutes on two cores; with --policies none about half a minute.\n\n\
                       Examples:\n  pcrm quickstart\n  pcrm quickstart --policies none\n  \
                       pcrm quickstart --seed 1 --output runs/quickstart-1"
)]
pub struct QuickstartArgs {
    /// Write the data, the models and the report to this folder
    #[arg(long, value_name = "DIR", default_value = "runs/quickstart")]
    output: PathBuf,
    /// Train on N generated pairs and hold out a third as many
    #[arg(long, value_name = "N", default_value_t = 2400, value_parser = whole::<usize>)]
    pairs: usize,
    /// Make X passes over the pairs
    #[arg(long, value_name = "X", default_value_t = 5.0, value_parser = real)]
    epochs: f64,
    /// Then train policies with PPO and DPO, with and without bounds: in five worlds (full), in a small one
    /// as a smoke test (quick), or not at all (none)
    #[arg(long, value_name = "SIZE", default_value = "full")]
    policies: policies::Size,
    #[command(flatten)]
    machine: Machine,
}

#[derive(Serialize)]
struct Report<'a> {
    seed: u64,
    train_pairs: usize,
    test_pairs: usize,
    epochs: f64,
    models: &'a [MeasuredModel],
    labellers: &'a Measures,
}

/// Generates the world, trains the models and prints them side by side, then trains policies with the
/// program's own commands.
///
/// # Errors
/// Fails if an option is invalid, the folder is not a quickstart's, training fails or Ctrl-C interrupts.
pub fn run(args: &QuickstartArgs, command: &Command) -> Result<()> {
    terminal::result(&play(args, Some(command), interrupt::flag()?, quiet())?)
}

impl QuickstartArgs {
    fn check(&self) -> Result<()> {
        ensure!(self.pairs >= 30, "--pairs {}: expected at least 30", self.pairs);
        let passes = self.epochs > 0.0 && self.epochs.is_finite();
        ensure!(passes, "--epochs {}: expected a positive number", self.epochs);
        Ok(())
    }
}

/// Runs the quickstart and returns the text to print. Policies need the program's command line.
fn play(args: &QuickstartArgs, command: Option<&Command>, stop: &AtomicBool, quiet: bool) -> Result<String> {
    let began = Instant::now();
    usage(args.check())?;
    let backend = args.machine.open()?;
    let seed = args.machine.seed;
    let settings = json!({"seed": seed, "pairs": args.pairs, "epochs": args.epochs});
    let folder = Folder::claim(&args.output, &MODELS.map(|(name, _)| name), &settings)?;
    let world = World::new(seed, args.pairs);
    folder.write_world(&world)?;
    let texts = || world.train.iter().flat_map(|pair| [&pair.prompt, &pair.chosen, &pair.rejected]);
    let tokenizer = untrained::write(&*backend, texts().map(String::as_str), seed, &folder.base())?;
    let padding = Padding::of(&ModelConfig::from_dir(&folder.base())?, &tokenizer).id;
    let encoded = |path: &Path| encoded(path, &tokenizer, padding);
    let (train, test) = (encoded(&folder.train())?, encoded(&folder.test())?);
    if !quiet {
        terminal::message(&introduction(args, &world));
    }
    let course = Course {
        backend: &*backend,
        base: &folder.base(),
        tokenizer: &tokenizer,
        train: &train,
        test: &test,
        seed,
        epochs: args.epochs,
        stop,
    };
    let held_out: Vec<_> = test.iter().map(|set| world.test[set.row].clone()).collect();
    let (mut models, mut lengths) = (Vec::new(), Vec::new());
    for (name, constraint) in MODELS {
        let trained = course
            .follow(constraint, &folder.model(name), &mut ModelProgress::new(name, quiet))
            .with_context(|| name.to_owned())?;
        lengths.clone_from(&trained.scores);
        models.push(MeasuredModel::new(name, trained, &held_out)?);
    }
    let labellers = Measures::of_labellers(&lengths, &held_out)?;
    let report = Report {
        seed,
        train_pairs: train.len(),
        test_pairs: test.len(),
        epochs: args.epochs,
        models: &models,
        labellers: &labellers,
    };
    folder.write_report(&report)?;
    let page = || page::document(&models, &labellers, LEGEND);
    report::write(&folder.page(), page());
    folder.still_there()?;
    let mut text = show::table(&models, &labellers);
    text.push_str(&paragraph("", LEGEND));
    let mut reading = show::reading(&models, &labellers).into_iter();
    let mut first: Vec<String> = reading.next().into_iter().collect();
    text.extend(reading.map(|said| paragraph("* ", &said)));
    if let (Some(command), false) = (command, args.policies == policies::Size::None) {
        say(&format!("{:.0} s so far; training policies next", began.elapsed().as_secs_f64()));
        let played = policies::play(args.policies, &folder, command)?;
        report::write(&folder.page(), page().map(|page| policies::beside(page, &played)));
        folder.still_there()?;
        first.extend(policies::learned(&played));
        text.push_str(&policies::text(&played));
    }
    let seconds = began.elapsed().as_secs_f64();
    let mut all = format!("\n{} held-out pairs, {seconds:.0} s in all\n", test.len());
    all.extend(first.iter().map(|said| paragraph("", said)));
    all.push_str(&text);
    all.push_str(&next(&folder, &args.output));
    Ok(all)
}

fn encoded(path: &Path, tokenizer: &Tokenizer, padding: Option<u32>) -> Result<Vec<EncodedSet>> {
    let (sets, _) = load_preferences(&[path.to_path_buf()], Strictness::Refuse)?;
    Ok(encode_sets(&sets, tokenizer, &EncodeOptions::new(padding))?.0)
}

fn introduction(args: &QuickstartArgs, world: &World) -> String {
    let about = format!(
        "A small world of questions and answers with a known true reward and noisy labels that favour \
         length: {} training pairs, {} held out, in {}. {} reward models learn from the same pairs in the \
         same order, starting from the same weights; only the constraint differs.",
        world.train.len(),
        world.test.len(),
        args.output.display(),
        MODELS.len()
    );
    let mut text = paragraph("", &about);
    if let Some(pair) = world.train.first() {
        text.push_str(&format!("\n{}\n", pair.prompt.lines().next().unwrap_or_default()));
        text.push_str(&paragraph("  preferred: ", &pair.chosen));
        text.push_str(&paragraph("      other: ", &pair.rejected));
        let (chosen, rejected, p) = (pair.true_chosen, pair.true_rejected, pair.preference_probability);
        text.push_str(&format!(
            "  true rewards {chosen:.1} and {rejected:.1}: preferred with probability {:.0} %\n",
            100.0 * p
        ));
    }
    text
}

fn next(folder: &Folder, output: &Path) -> String {
    let model = MODELS[1].0;
    let shown = |path: PathBuf| quoted(&path);
    format!(
        "\nReport: {}\nNext:\n  pcrm eval reward --model {} \\\n    --data {}\n  \
         pcrm reward --model {} \\\n    --data {} \\\n    --constraint {model} --output {}\n",
        shown(folder.page()),
        shown(folder.model(model)),
        shown(folder.test()),
        shown(folder.base()),
        shown(folder.train()),
        shown(output.with_file_name("mine"))
    )
}

/// Quotes a path for the shell.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |letter: char| letter.is_alphanumeric() || "/._-+:@%,=".contains(letter);
    match text.chars().all(plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests;
