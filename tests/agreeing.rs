//! The options, data, base model and folder that the processes of a run must have in common.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use pcrm_core::collective::Joined;
use pcrm_core::disk::shared;
use pcrm_core::registry::{self, BackendPlugin};
use pcrm_core::{Backend, Collective, Device};
use pcrm_rl::agreement::same_inputs;
use pcrm_rl::fingerprint::{self, Fingerprint};
use pcrm_rl::lanes::Lanes;
use pcrm_rl::objective::reward::RewardConfig;
use pcrm_rl::offline::{Final, TrainerConfig};
use serde_json::json;
use tempfile::tempdir;

use crate::hall::together;
use crate::planted::{Bench, Watch};

fn open(plugin: &BackendPlugin, collective: &Arc<dyn Collective>) -> Result<Joined<dyn Backend>> {
    Ok(Joined { collective: Arc::clone(collective), backend: (plugin.open)(Device::Cpu.into())? })
}

/// The options and inputs of a process.
#[derive(Clone)]
struct Inputs {
    trainer: TrainerConfig,
    print: Fingerprint,
}

impl Inputs {
    fn usual() -> Self {
        let trainer = TrainerConfig { lanes: 3, ..TrainerConfig::default() };
        let mut print = fingerprint::of(&trainer, &RewardConfig::default());
        print.insert("data".to_owned(), json!(["a".repeat(64)]));
        print.insert("model".to_owned(), json!("b".repeat(64)));
        Self { trainer, print }
    }
}

/// Returns the message that refuses each of three processes; the last one has other inputs.
fn refusals(change: impl Fn(&mut Inputs) + Sync) -> Result<Vec<Option<String>>> {
    let plugin = registry::all::<BackendPlugin>().into_iter().next().context("a backend")?;
    let (said, _) = together(3, |collective| {
        let mut own = Inputs::usual();
        if collective.rank() == 2 {
            change(&mut own);
        }
        let lanes = Lanes::of_processes(&open(plugin, &collective)?);
        Ok(same_inputs(&lanes, &own.print, &own.trainer).err().map(|error| error.to_string()))
    })?;
    Ok(said)
}

/// Protects: if a process has other data, another base model or other options, all processes are refused with a message
/// that names the process and the difference. Equal processes are accepted, and so are differences in options that only
/// the first process reads.
#[test]
fn processes_with_other_inputs_are_refused() -> Result<()> {
    type Change = fn(&mut Inputs);
    let changes: [(Change, &str); 7] = [
        (|own| drop(own.print.insert("data".into(), json!(["c".repeat(64)]))), "--data has other content"),
        (|own| drop(own.print.insert("model".into(), json!("c".repeat(64)))), "--model has other content"),
        (
            |own| drop(own.print.insert("learning-rate".into(), json!(0.5))),
            "--learning-rate is 0.0001 for rank 0 and 0.5 for rank 2",
        ),
        (
            |own| drop(own.print.insert("lora".into(), json!("r"))),
            "--lora is unset for rank 0 and r for rank 2",
        ),
        (|own| own.trainer.save_every = Some(7), "--save-every is 100 for rank 0 and 7 for rank 2"),
        (
            |own| own.trainer.final_weights = Final::Best,
            "--final-weights is last for rank 0 and best for rank 2",
        ),
        (|own| own.trainer.bucket_bytes = 1, "--bucket-bytes is "),
    ];
    for (change, expected) in changes {
        for said in refusals(change)? {
            let said = said.with_context(|| format!("{expected}: a process is not refused"))?;
            let begins = format!("rank 2 differs from rank 0: {expected}");
            ensure!(said.starts_with(&begins) && said.contains("expected the same options"), "{said}");
        }
    }
    ensure!(refusals(|_| {})?.iter().all(Option::is_none), "equal processes are refused");
    ensure!(
        refusals(|own| own.trainer.log_every = 9)?.iter().all(Option::is_none),
        "--log-every is compared"
    );
    Ok(())
}

/// Protects: a run whose processes differ ends on all of them before anything is written.
#[test]
fn a_run_of_processes_that_differ_writes_nothing() -> Result<()> {
    type Change = fn(&mut Bench);
    let changes: [(Change, &str); 2] = [
        (|bench| bench.data = "older", "--data is planted for rank 0 and older for rank 1"),
        (|bench| bench.config.learning_rate = 0.5, "--learning-rate is 0.01 for rank 0 and 0.5 for rank 1"),
    ];
    for plugin in registry::all::<BackendPlugin>() {
        for (change, expected) in changes {
            let dir = tempdir()?;
            let (said, _) = together(2, |collective| {
                let backend = open(plugin, &collective)?;
                let mut bench = Bench::usual()?;
                bench.config.lanes = 2;
                if collective.rank() == 1 {
                    change(&mut bench);
                }
                let refused = bench.run(&backend, dir.path(), &mut Watch::default())?.err();
                Ok(refused.context("the run began")?.to_string())
            })?;
            ensure!(said.iter().all(|said| said.contains(expected)), "{}: {said:?}", plugin.name);
            ensure!(fs::read_dir(dir.path())?.next().is_none(), "{}: the folder is not empty", plugin.name);
        }
    }
    Ok(())
}

/// Protects: a folder that a process does not share is refused on all processes, naming the rank of that process. A
/// folder that all share is accepted, however often it is checked, and no file stays there.
#[test]
fn a_folder_that_is_not_shared_is_found() -> Result<()> {
    let (first, other) = (tempdir()?, tempdir()?);
    let check = |of: &(dyn Fn(usize) -> &'static str + Sync)| -> Result<Vec<Option<String>>> {
        let (said, _) = together(3, |collective| {
            let dir = match of(collective.rank()) {
                "first" => first.path().to_path_buf(),
                "other" => other.path().to_path_buf(),
                name => Path::new(name).to_path_buf(),
            };
            Ok(shared::check(collective.as_ref(), &dir).err().map(|error| error.to_string()))
        })?;
        Ok(said)
    };
    for _ in 0..20 {
        ensure!(check(&|_| "first")?.iter().all(Option::is_none), "a shared folder is refused");
    }
    for elsewhere in ["other", "/absent/of/this/name"] {
        for said in check(&|rank| if rank == 1 { elsewhere } else { "first" })? {
            let said = said.context("a process is not refused")?;
            ensure!(said.contains("not seen by rank 1; expected one folder"), "{said}");
        }
    }
    for dir in [&first, &other] {
        ensure!(fs::read_dir(dir.path())?.next().is_none(), "a file stays in the folder");
    }
    Ok(())
}
