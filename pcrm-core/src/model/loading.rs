//! Loading of a Hugging Face folder as a decoder with heads on a device, one tensor at a time.

mod pool;
mod storage;

use std::path::Path;

use rayon::prelude::*;

pub use self::pool::WeightPool;
pub(super) use self::storage::held;
pub use self::storage::{LinearStorage, Loading, Precision};
use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::host::HostTensor;
use crate::memory;
use crate::model::adoption::{Adoption, Stored};
use crate::model::checkpoint::Checkpoint;
use crate::model::config::ModelConfig;
use crate::model::decoder::Decoder;
use crate::model::folder;
use crate::model::parameters::{Head, Parameter, SCORE, parameters};
use crate::model::quantised::untrained;
use crate::model::{notes, published};
use crate::params::Params;
use crate::quant::Quantisation;

/// The treatment of a folder without a score head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Headless {
    /// An error that names candidates.
    Refused,
    /// A head drawn from this seed.
    Drawn(u64),
    /// A head of zeros, which an adapter replaces.
    Given,
}

/// Reads a model from a folder.
///
/// # Errors
/// Fails if a file is missing or broken, if a parameter is missing or has another shape, if the family or a
/// key of `config.json` is not supported, and if the config has several labels.
pub(super) fn read_folder(
    dir: &Path,
    heads: &[Head],
    how: Loading<'_>,
    headless: Headless,
) -> Result<Decoder> {
    folder::check(dir)?;
    read(ModelConfig::from_dir(dir)?, &Checkpoint::open(dir)?, heads, how, headless)
}

/// Reads the tensors of a checkpoint into a model of this config.
///
/// # Errors
/// Fails as [`read_folder`] does.
pub(super) fn read(
    mut config: ModelConfig,
    checkpoint: &Checkpoint,
    heads: &[Head],
    how: Loading<'_>,
    headless: Headless,
) -> Result<Decoder> {
    if heads.contains(&Head::Language) && config.tied {
        let adoption = Adoption::new(&config, checkpoint)?;
        if !heads.contains(&Head::Score) {
            adoption.require_language()?;
        }
        config.tied = !adoption.has_own_language_head()?;
    }
    if heads.contains(&Head::Score) {
        published::check(&config, checkpoint.dir())?;
    }
    let mut adoption = Adoption::new(&config, checkpoint)?;
    let drawn = heads.contains(&Head::Score) && !adoption.has(SCORE);
    if let Some(labels) =
        config.labels.filter(|labels| *labels != 1 && !drawn && heads.contains(&Head::Score))
    {
        let message = format!("names {labels} labels; a reward model has one");
        return Err(Error::file(checkpoint.dir().join("config.json"), message));
    }
    let (missing, stored): (Vec<Parameter>, Vec<Parameter>) =
        parameters(&config, heads).into_iter().partition(|parameter| drawn && parameter.name == SCORE);
    let mut params = Params::default();
    for head in &missing {
        let host = match headless {
            Headless::Refused => return Err(Error::file(checkpoint.dir(), adoption.headless())),
            Headless::Drawn(seed) => {
                adoption.say_drawn(seed);
                head.random(seed)?
            }
            Headless::Given => HostTensor::f32([1, config.outer_width], vec![0.0; config.outer_width])?,
        };
        how.put(&mut params, &head.name, &host)?;
    }
    adoption.check(&stored)?;
    let found = adoption.quantisation(&stored);
    let how = accepting(how, found, checkpoint.dir())?;
    if let Some(pool) = how.pool {
        pool.lend(checkpoint.dir(), how, &stored, &mut params);
    }
    let (lent, read): (Vec<Parameter>, Vec<Parameter>) =
        stored.iter().cloned().partition(|parameter| params.holds(&parameter.name));
    weigh(&read, how, found)?;
    adoption.pass_over(&lent);
    adoption.take(&read, |parameter, host| how.put_stored(&mut params, parameter, host))?;
    adoption.finish();
    if let Some(pool) = how.pool {
        pool.keep(checkpoint.dir(), how, &stored, &params);
    }
    Decoder::new(config, params, heads, how.compute)
}

/// Returns the options for a checkpoint that is quantised by this method, or not at all.
///
/// # Errors
/// Fails if it is quantised and the model is to be trained in full.
fn accepting<'a>(how: Loading<'a>, found: Option<Quantisation>, dir: &Path) -> Result<Loading<'a>> {
    let Some(found) = found else { return Ok(how) };
    match how.linear {
        LinearStorage::AsStored if how.precision != Precision::Compute => {
            Err(Error::file(dir, untrained(found)))
        }
        LinearStorage::Quantised(wanted) => {
            if wanted != found {
                notes::say(&format!(
                    "the checkpoint is quantised already ({found}); it is not changed to {wanted}"
                ));
            }
            Ok(Loading { linear: LinearStorage::Kept, ..how })
        }
        LinearStorage::AsStored | LinearStorage::Kept | LinearStorage::Floats => Ok(how),
    }
}

/// Checks that parameters fit into free memory: all of them on the CPU, otherwise the largest, which passes
/// through the host.
///
/// # Errors
/// Fails if they do not.
fn weigh(list: &[Parameter], how: Loading<'_>, found: Option<Quantisation>) -> Result<()> {
    let bytes = |parameter: &Parameter| {
        let kept = found.filter(|_| parameter.linear && how.linear != LinearStorage::Floats);
        if let (Some(method), &[rows, columns]) = (how.method(parameter).or(kept), &parameter.shape[..]) {
            rows.checked_mul(columns)?;
            return Some(method.bytes([rows, columns]));
        }
        let held = match how.precision {
            Precision::Masters => DType::F32,
            Precision::Rounded => held(&parameter.name, &parameter.shape, DType::BF16),
            Precision::Compute => held(&parameter.name, &parameter.shape, how.compute),
        };
        let element = if held == DType::BF16 { 2 } else { 4 };
        parameter.shape.iter().try_fold(element, |bytes: u64, size| bytes.checked_mul(*size as u64))
    };
    let all = list.iter().map(bytes);
    match how.backend.device() {
        Device::Cpu => memory::require(
            "a model of this shape",
            all.into_iter().try_fold(0_u64, |sum, bytes| sum.checked_add(bytes?)),
        ),
        _ => list.iter().map(bytes).try_for_each(|bytes| memory::require("a parameter of this model", bytes)),
    }
}

/// Draws all parameters of a model from a seed.
///
/// # Errors
/// Fails if a standard deviation is not finite, and if the model does not fit into memory.
pub(super) fn random(config: ModelConfig, heads: &[Head], how: Loading<'_>, seed: u64) -> Result<Decoder> {
    let mut params = Params::default();
    let list = parameters(&config, heads);
    weigh(&list, how, None)?;
    // As many at once as threads, because all of them may not fit into memory.
    for part in list.chunks(rayon::current_num_threads().max(1)) {
        let drawn: Vec<_> = part.par_iter().map(|parameter| parameter.random(seed)).collect();
        for (parameter, values) in part.iter().zip(drawn) {
            how.put_stored(&mut params, parameter, Stored::Floats(values?))?;
        }
    }
    Decoder::new(config, params, heads, how.compute)
}
