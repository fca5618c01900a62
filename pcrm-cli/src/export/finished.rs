//! Checks that a folder holds the model of a finished run.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use pcrm_core::HostTensor;
use pcrm_core::model::lora::peft::AdapterFolder;
use pcrm_core::model::{Checkpoint, folder, weights};
use pcrm_rl::checkpoint;

use super::{ADAPTER, CONFIG};

/// Returns the step of the weights in the folder, if its checkpoints record it.
///
/// # Errors
/// Fails if the folder contains no model, is a checkpoint, belongs to a run that was continued and not
/// finished, or has a weight that is not finite.
pub fn check(run: &Path) -> Result<Option<u64>> {
    ensure!(run.is_dir(), "{}: no such folder; expected the folder of a finished run", run.display());
    let place = || run.display().to_string();
    ensure!(
        !run.join("state.json").exists() || !run.join("optimizer.safetensors").exists(),
        "{}: is a checkpoint; expected the folder of the finished run that it belongs to",
        run.display()
    );
    let adapter = AdapterFolder::is_alone(run);
    let steps = checkpoint::steps(run)?;
    if let (false, Some(last)) = (adapter || run.join(CONFIG).exists(), steps.last()) {
        bail!(
            "{}: the run is not finished (its last checkpoint is after step {last}); rerun its command with \
             --resume",
            run.display()
        );
    }
    if !adapter {
        folder::check(run).with_context(place)?;
    }
    finite(run, adapter)?;
    let file = if adapter { ADAPTER } else { weights::SINGLE };
    if steps.is_empty() || !run.join(file).exists() {
        return Ok(None);
    }
    match checkpoint::step_of(run, file)? {
        Some(step) => Ok(Some(step)),
        None => bail!(
            "{}: {file} holds the weights of none of the run's checkpoints (the last is after step {}): the \
             run was continued and is not finished; rerun its command with --resume",
            run.display(),
            steps.last().copied().unwrap_or_default()
        ),
    }
}

/// Refuses weights that are not finite.
fn finite(run: &Path, adapter: bool) -> Result<()> {
    let refuse = |name: &str, tensor: &HostTensor| -> Result<()> {
        let values = tensor.to_f32();
        match values.iter().find(|value| !value.is_finite()) {
            Some(value) => bail!("{}: {name} holds {value}; expected finite weights", run.display()),
            None => Ok(()),
        }
    };
    if adapter {
        let path = run.join(ADAPTER);
        ensure!(fs::exists(&path)?, "{}: not found", path.display());
        let tensors = weights::load_file(&path)?;
        return tensors.iter().try_for_each(|(name, tensor)| refuse(name, tensor));
    }
    let whole = Checkpoint::open(run)?;
    let names: Vec<String> = whole.names().map(str::to_owned).collect();
    names.iter().try_for_each(|name| refuse(name, &whole.read(name)?))
}
