//! Stopped, killed and damaged runs end like undisturbed ones, or refuse and name the reason.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use pcrm_core::Backend;
use pcrm_core::schedule::Shape;
use pcrm_rl::offline::{Final, Outcome};
use pcrm_rl::{checkpoint, metrics};
use serde_json::Value;
use tempfile::tempdir;

use crate::planted::{Bench, Watch, reversed};
use crate::subject::every_backend;

/// The result of a finished run, without anything that depends on the clock.
#[derive(PartialEq)]
struct Left {
    outcome: Outcome,
    files: Vec<(&'static str, Vec<u8>)>,
    lines: Vec<Value>,
}

fn left(outcome: Outcome, dir: &Path) -> Result<Left> {
    let mut lines = metrics::read(&dir.join("metrics.jsonl"))?;
    lines.iter_mut().filter_map(Value::as_object_mut).for_each(|line| {
        line.shift_remove("tokens_per_second");
    });
    let names = [
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        "checkpoint-14/model.safetensors",
        "checkpoint-14/optimizer.safetensors",
        "checkpoint-14/state.json",
    ];
    let read = |name: &'static str| Ok((name, fs::read(dir.join(name)).with_context(|| name.to_owned())?));
    Ok(Left { outcome, files: names.into_iter().map(read).collect::<Result<_>>()?, lines })
}

fn finished(bench: &Bench, backend: &dyn Backend, dir: &Path) -> Result<Left> {
    left(bench.finish(backend, dir)?.0, dir)
}

fn check_same(got: &Left, want: &Left) -> Result<()> {
    ensure!(got.outcome == want.outcome, "{:?}, expected {:?}", got.outcome, want.outcome);
    for (line, expected) in got.lines.iter().zip(&want.lines) {
        ensure!(line == expected, "metrics.jsonl: {line}, expected {expected}");
    }
    ensure!(got.lines.len() == want.lines.len(), "{} lines, expected {}", got.lines.len(), want.lines.len());
    for ((name, got), (_, want)) in got.files.iter().zip(&want.files) {
        ensure!(got == want, "{name} differs");
    }
    Ok(())
}

fn names(dir: &Path) -> Result<Vec<String>> {
    let name = |entry: std::io::Result<fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into_owned());
    let mut names = fs::read_dir(dir)?.map(name).collect::<Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

/// Protects: stopping and resuming changes no bit: after the first step, where an evaluation (4, 8, 12), a
/// checkpoint (5, 10) or the end of an epoch (8) is due, and at the last step.
#[test]
fn a_stopped_run_ends_with_the_bits_of_an_unbroken_one() -> Result<()> {
    every_backend(|backend| {
        let mut bench = Bench::usual()?;
        bench.config.final_weights = Final::Best;
        let unbroken = tempdir()?;
        let want = finished(&bench, backend, unbroken.path())?;
        for steps in [1, 4, 5, 8, 13] {
            let dir = tempdir()?;
            bench.stopped_after(steps, backend, dir.path())?;
            let got = finished(&bench, backend, dir.path())?;
            check_same(&got, &want).with_context(|| format!("stopped after {steps} steps"))?;
        }
        let dir = tempdir()?; // stopped twice, the second time at the step of the first
        bench.stopped_after(4, backend, dir.path())?;
        bench.stopped_after(5, backend, dir.path())?;
        check_same(&finished(&bench, backend, dir.path())?, &want).context("stopped twice")?;
        let dir = tempdir()?;
        let outcome = bench.run(backend, dir.path(), &mut Watch::stopping(14))??;
        check_same(&left(outcome, dir.path())?, &want).context("stopped at the last step")?;
        // A finished run that is started again takes no step and leaves the same result.
        check_same(&finished(&bench, backend, dir.path())?, &want).context("begun again")
    })
}

/// Protects: scheduled bounds depend only on the step: a run stopped anywhere ends with the same bits.
#[test]
fn a_scheduled_run_ends_with_the_bits_of_an_unbroken_one() -> Result<()> {
    every_backend(|backend| {
        let bench =
            Bench::under(r#"{"kind": "schedule", "of": {"kind": "fixed", "bound": 0.5}, "from": 3}"#)?;
        let unbroken = tempdir()?;
        let want = finished(&bench, backend, unbroken.path())?;
        for steps in [1, 5, 8] {
            let dir = tempdir()?;
            bench.stopped_after(steps, backend, dir.path())?;
            check_same(&finished(&bench, backend, dir.path())?, &want)
                .with_context(|| format!("stopped after {steps} steps"))?;
        }
        Ok(())
    })
}

/// Protects: files that a killed process left after its last checkpoint (lines of metrics, a truncated line,
/// a half-written folder, an old folder about to be removed) are neither used nor kept.
#[test]
fn a_killed_run_goes_on_from_its_last_checkpoint() -> Result<()> {
    every_backend(|backend| {
        let bench = Bench::usual()?;
        let (unbroken, dir) = (tempdir()?, tempdir()?);
        let want = finished(&bench, backend, unbroken.path())?;
        bench.stopped_after(7, backend, dir.path())?;
        let path = dir.path().join("metrics.jsonl");
        let later = "{\"step\":8,\"loss\":9.0}\n{\"step\":8,\"eval_loss\":0.0}\n{\"step\":9,\"lo";
        fs::write(&path, fs::read_to_string(&path)? + later)?;
        for (folder, file) in
            [(".checkpoint-8-abc", "model.safetensors"), (".old-checkpoint-5", "state.json")]
        {
            fs::create_dir(dir.path().join(folder))?;
            fs::write(dir.path().join(folder).join(file), b"half of it")?;
        }
        check_same(&finished(&bench, backend, dir.path())?, &want)?;
        let left = names(dir.path())?;
        ensure!(left.iter().all(|name| !name.starts_with('.')), "{left:?}");
        // Stopped where an evaluation is due, and killed after that evaluation was written.
        let dir = tempdir()?;
        bench.stopped_after(8, backend, dir.path())?;
        let path = dir.path().join("metrics.jsonl");
        fs::write(&path, fs::read_to_string(&path)? + "{\"step\":8,\"eval_loss\":0.0}\n")?;
        check_same(&finished(&bench, backend, dir.path())?, &want).context("evaluated twice")
    })
}

/// Protects: a run that is killed while it replaces its only checkpoint continues from that checkpoint, whether the new
/// one already has its name or not, and has the bits of an unbroken run.
#[test]
fn a_run_killed_as_it_replaces_a_checkpoint_goes_on_from_it() -> Result<()> {
    every_backend(|backend| {
        let bench = Bench::usual()?;
        let (unbroken, dir) = (tempdir()?, tempdir()?);
        let want = finished(&bench, backend, unbroken.path())?;
        bench.stopped_after(4, backend, dir.path())?;
        let path = |name: &str| dir.path().join(name);
        fs::rename(path("checkpoint-4"), path(".replaced-checkpoint-4"))?;
        fs::create_dir(path(".checkpoint-4-abc"))?;
        fs::write(path(".checkpoint-4-abc/state.json"), b"half of it")?;
        let (outcome, watch) = bench.finish(backend, dir.path())?;
        ensure!(watch.begun.0 == 4, "the run began after step {}", watch.begun.0);
        check_same(&left(outcome, dir.path())?, &want)?;
        // The new one has its name, and the old one is partly removed.
        let dir = tempdir()?;
        let path = |name: &str| dir.path().join(name);
        bench.stopped_after(4, backend, dir.path())?;
        fs::create_dir(path(".replaced-checkpoint-4"))?;
        fs::write(path(".replaced-checkpoint-4/state.json"), b"half of it")?;
        let (outcome, watch) = bench.finish(backend, dir.path())?;
        ensure!(watch.begun.0 == 4, "the run began after step {}", watch.begun.0);
        check_same(&left(outcome, dir.path())?, &want)?;
        let left = names(dir.path())?;
        ensure!(left.iter().all(|name| !name.starts_with('.')), "{left:?}");
        Ok(())
    })
}

type Harm = fn(&Path) -> Result<()>;

/// Damage to a checkpoint by a disk, with the file that the error must name.
const HARMS: [(&str, Harm); 4] = [
    ("model.safetensors", |dir| {
        let path = dir.join("model.safetensors");
        let mut bytes = fs::read(&path)?;
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        Ok(fs::write(path, bytes)?)
    }),
    ("optimizer.safetensors", |dir| {
        let file = fs::OpenOptions::new().write(true).open(dir.join("optimizer.safetensors"))?;
        Ok(file.set_len(file.metadata()?.len() / 2)?)
    }),
    ("state.json", |dir| Ok(fs::write(dir.join("state.json"), b"")?)),
    ("optimizer.safetensors", |dir| Ok(fs::remove_file(dir.join("optimizer.safetensors"))?)),
];

/// Protects: a damaged newest checkpoint costs steps but no bit, and never makes the run delete a good one.
#[test]
fn a_broken_checkpoint_is_passed_over_for_an_older_one() -> Result<()> {
    every_backend(|backend| {
        let mut bench = Bench::usual()?;
        let unbroken = tempdir()?;
        let want = finished(&bench, backend, unbroken.path())?;
        for (name, harm) in HARMS {
            let dir = tempdir()?;
            bench.config.keep = 3;
            bench.stopped_after(11, backend, dir.path())?;
            harm(&dir.path().join("checkpoint-11"))?;
            // From here on the run keeps one checkpoint: step 10's, not the damaged one after it.
            bench.config.keep = 1;
            let mut watch = Watch::stopping(10);
            bench.config.save_every = Some(9);
            fs::remove_dir_all(dir.path().join("checkpoint-10"))?;
            bench.run(backend, dir.path(), &mut watch)??;
            ensure!(watch.begun.0 < 10, "{name}: resumed from step {}", watch.begun.0);
            ensure!(dir.path().join("checkpoint-10").exists(), "{name}: {:?}", names(dir.path())?);
            bench.config.save_every = Some(5);
            check_same(&finished(&bench, backend, dir.path())?, &want).context(name)?;
        }
        Ok(())
    })
}

/// Protects: no changed bit of a state and no renamed checkpoint goes unnoticed; an older intact one is used
/// instead. A state without a hash, from an older version, is read.
#[test]
fn a_state_is_what_was_written_or_passed_over() -> Result<()> {
    every_backend(|backend| {
        let (mut bench, dir) = (Bench::usual()?, tempdir()?);
        bench.config.keep = 3;
        bench.stopped_after(11, backend, dir.path())?;
        let newest = || -> Result<u64> { Ok(checkpoint::newest(dir.path())?.context("none")?.1.step) };
        let path = dir.path().join("checkpoint-11/state.json");
        let bytes = fs::read(&path)?;
        for bit in (0..8 * bytes.len()).step_by(7) {
            let mut harmed = bytes.clone();
            harmed[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, harmed)?;
            ensure!(newest()? == 10, "bit {bit} changed unnoticed");
        }
        let mut state: Value = serde_json::from_slice(&bytes)?;
        state.as_object_mut().context("an object")?.shift_remove("hash");
        fs::write(&path, state.to_string())?;
        ensure!(newest()? == 11, "a state without a hash is refused");
        state["unknown"] = Value::Null;
        fs::write(&path, state.to_string())?;
        ensure!(newest()? == 10, "an unknown field is accepted");
        fs::write(&path, &bytes)?;
        fs::rename(dir.path().join("checkpoint-11"), dir.path().join("checkpoint-13"))?;
        ensure!(newest()? == 10, "the state of step 11 is accepted as that of step 13");
        Ok(())
    })
}

/// Protects: if no checkpoint is intact, the run does not start over but names every damaged file.
#[test]
fn broken_checkpoints_alone_are_an_error_that_names_them() -> Result<()> {
    every_backend(|backend| {
        let (bench, dir) = (Bench::usual()?, tempdir()?);
        bench.stopped_after(6, backend, dir.path())?;
        let steps: Vec<String> =
            names(dir.path())?.into_iter().filter(|name| name.starts_with("checkpoint-")).collect();
        ensure!(steps.len() >= 2, "{steps:?}");
        for (step, (_, harm)) in steps.iter().zip(HARMS) {
            harm(&dir.path().join(step))?;
        }
        let error = bench
            .run(backend, dir.path(), &mut Watch::default())?
            .err()
            .context("the run continued")?
            .to_string();
        for (step, (file, _)) in steps.iter().zip(HARMS) {
            let path = dir.path().join(step).join(file);
            ensure!(error.contains(&path.display().to_string()), "{error}: does not name {step}/{file}");
        }
        Ok(())
    })
}

/// Protects: a checkpoint of other options or data is refused with the old and the new value.
#[test]
fn going_on_with_other_options_or_data_is_refused() -> Result<()> {
    every_backend(|backend| {
        let (mut bench, dir) = (Bench::usual()?, tempdir()?);
        bench.stopped_after(2, backend, dir.path())?;
        let before = names(dir.path())?;
        bench.config.learning_rate = 5e-3;
        bench.data = "other";
        let error = bench
            .run(backend, dir.path(), &mut Watch::default())?
            .err()
            .context("the run continued")?
            .to_string();
        for expected in [
            "checkpoint-2",
            "--data was planted and is now other",
            "--learning-rate was 0.01 and is now 0.005",
        ] {
            ensure!(error.contains(expected), "{error}: lacks {expected:?}");
        }
        ensure!(names(dir.path())? == before, "the folder changed");
        Ok(())
    })
}

/// Protects: a finished run under a constant learning rate can be extended with the bits of a longer run, but
/// not shortened below its steps.
#[test]
fn a_constant_run_is_extended_with_the_bits_of_a_longer_one() -> Result<()> {
    every_backend(|backend| {
        let (mut bench, unbroken, dir) = (Bench::usual()?, tempdir()?, tempdir()?);
        bench.config.schedule = Shape::Constant;
        bench.finish(backend, unbroken.path())?;
        bench.config.max_steps = Some(9);
        bench.finish(backend, dir.path())?;
        bench.config.max_steps = Some(14);
        let (_, watch) = bench.finish(backend, dir.path())?;
        ensure!(watch.begun == (9, 14), "{:?}", watch.begun);
        for name in ["model.safetensors", "checkpoint-14/optimizer.safetensors"] {
            let read = |dir: &Path| fs::read(dir.join(name)).with_context(|| name.to_owned());
            ensure!(read(dir.path())? == read(unbroken.path())?, "{name} differs");
        }
        bench.config.max_steps = Some(6);
        let error =
            bench.run(backend, dir.path(), &mut Watch::default())?.err().context("the run was shortened")?;
        ensure!(error.to_string().contains("has made 14 steps"), "{error}");
        Ok(())
    })
}

/// Protects: a run whose steps depend on its length is not extended, and the message shows another way to
/// train further.
#[test]
fn a_run_whose_steps_depend_on_its_length_is_not_extended() -> Result<()> {
    every_backend(|backend| {
        let scheduled = r#"{"kind": "schedule", "of": {"kind": "fixed", "bound": 0.5}, "from": 3}"#;
        for (constraint, schedule, reason) in
            [("none", Shape::Cosine, "--schedule"), (scheduled, Shape::Constant, "the constraint's bounds")]
        {
            let (mut bench, dir) = (Bench::under(constraint)?, tempdir()?);
            bench.config.schedule = schedule;
            bench.finish(backend, dir.path())?;
            bench.config.max_steps = Some(15);
            let error = bench
                .run(backend, dir.path(), &mut Watch::default())?
                .err()
                .context("the run was extended")?;
            for expected in ["--max-steps was 14 and is now 15", reason, "--model"] {
                ensure!(error.to_string().contains(expected), "{error}: lacks {expected:?}");
            }
        }
        Ok(())
    })
}

/// Protects: damaged best weights are not saved as the model.
#[test]
fn a_broken_best_checkpoint_is_an_error() -> Result<()> {
    every_backend(|backend| {
        let (mut bench, dir) = (Bench::usual()?, tempdir()?);
        bench.config.final_weights = Final::Best;
        bench.eval = bench.eval.map(reversed); // the more the model learns, the worse the evaluation
        let (outcome, _) = bench.finish(backend, dir.path())?;
        let Outcome::Finished { best: Some(best), steps, .. } = outcome else { anyhow::bail!("{outcome:?}") };
        ensure!(best.step < steps, "the last step is the best");
        let broken = dir.path().join(format!("checkpoint-{}", best.step));
        HARMS[0].1(&broken)?;
        let error = bench
            .run(backend, dir.path(), &mut Watch::default())?
            .err()
            .context("the damaged weights were used")?
            .to_string();
        let path = broken.join("model.safetensors").display().to_string();
        ensure!(error.contains(&path) && error.contains("corrupt"), "{error}");
        Ok(())
    })
}
