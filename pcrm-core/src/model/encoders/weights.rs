//! An encoder's weights, from the names of their file to layers on a device.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;

use crate::backend::Backend;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::host::HostTensor;
use crate::model::checkpoint::Checkpoint;
use crate::model::folder;
use crate::model::layers::{Embedding, Linear, Norm, Weight};
use crate::model::notes;

/// Tensors of older checkpoints that hold nothing learned.
const BUFFERS: [&str; 1] = ["position_ids"];

/// The tensors of a folder on their way to a device.
pub(in crate::model) struct EncoderWeights<'a> {
    checkpoint: Checkpoint,
    /// The prefix that every name of the body may have or lack.
    prefix: &'static str,
    used: RefCell<BTreeSet<String>>,
    backend: &'a dyn Backend,
    /// The type that they are held in.
    pub compute: DType,
    norm_eps: f64,
}

impl<'a> EncoderWeights<'a> {
    /// Reads the headers of a folder's weights.
    ///
    /// # Errors
    /// A missing or broken file.
    pub fn open(
        backend: &'a dyn Backend,
        dir: &Path,
        prefix: &'static str,
        compute: DType,
        norm_eps: f64,
    ) -> Result<Self> {
        let checkpoint = Checkpoint::open(dir)?;
        Ok(Self { checkpoint, prefix, used: RefCell::default(), backend, compute, norm_eps })
    }

    /// The values of a weight, under its name with or without the prefix.
    ///
    /// # Errors
    /// A weight that is missing or has another shape.
    pub fn take(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let refuse = |message: String| Err(Error::file(self.checkpoint.dir(), format!("{name} {message}")));
        let long = format!("{}{name}", self.prefix);
        let stored = if self.checkpoint.contains(name) { name } else { long.as_str() };
        match self.checkpoint.shape(stored) {
            Some(found) if found == shape => {
                let values = self.checkpoint.read(stored)?.into_f32();
                self.used.borrow_mut().insert(stored.to_owned());
                Ok(values)
            }
            Some(found) => refuse(format!("has shape {found:?}, expected {shape:?}")),
            None => match self.checkpoint.quantised() {
                Some(why) => refuse(format!("is missing from the weights; {why}")),
                None => refuse("is missing from the weights".to_owned()),
            },
        }
    }

    fn upload(&self, name: &str, shape: impl Into<Vec<usize>>, values: Vec<f32>) -> Result<Weight> {
        Ok(Weight::new(name, self.backend.upload(&HostTensor::f32(shape, values)?, self.compute)?))
    }

    /// A table `[rows, width]` of these values.
    pub fn table(&self, name: &str, shape: [usize; 2], values: Vec<f32>) -> Result<Embedding> {
        Ok(Embedding::new(self.upload(&format!("{name}.weight"), shape, values)?))
    }

    /// The embedding of this name.
    pub fn embedding(&self, name: &str, shape: [usize; 2]) -> Result<Embedding> {
        let values = self.take(&format!("{name}.weight"), &shape)?;
        self.table(name, shape, values)
    }

    /// A linear layer; of several names, layers that read the same, their outputs one after the other.
    pub fn linear(&self, names: &[String], [out, width]: [usize; 2], has_bias: bool) -> Result<Linear> {
        let (mut weight, mut bias) = (Vec::new(), Vec::new());
        for name in names {
            weight.extend(self.take(&format!("{name}.weight"), &[out, width])?);
            if has_bias {
                bias.extend(self.take(&format!("{name}.bias"), &[out])?);
            }
        }
        let (out, name) = (out * names.len(), names.join("+"));
        let bias = match has_bias {
            true => Some(self.upload(&format!("{name}.bias"), [out], bias)?),
            false => None,
        };
        Ok(Linear::new(self.upload(&format!("{name}.weight"), [out, width], weight)?, bias))
    }

    /// A layer norm, with or without a bias.
    pub fn norm(&self, name: &str, width: usize, has_bias: bool) -> Result<Norm> {
        // Checkpoints converted from TensorFlow have the older names.
        let part = |part: &str, older: &str| -> Result<_> {
            let values = self
                .take(&format!("{name}.{part}"), &[width])
                .or_else(|error| self.take(&format!("{name}.{older}"), &[width]).map_err(|_| error))?;
            self.upload(&format!("{name}.{part}"), [width], values)
        };
        let weight = part("weight", "gamma")?;
        match has_bias {
            true => Ok(Norm::layer(weight, part("bias", "beta")?, self.norm_eps)),
            false => Ok(Norm::unbiased(weight, self.norm_eps)),
        }
    }

    /// Logs the tensors that nothing has read.
    pub fn finish(self) {
        let used = self.used.into_inner();
        let is_unused =
            |name: &&str| !used.contains(*name) && !BUFFERS.iter().any(|buffer| name.ends_with(buffer));
        let unused: Vec<&str> = self.checkpoint.names().filter(is_unused).collect();
        if !unused.is_empty() {
            let (count, names) = (unused.len(), folder::some(&unused));
            notes::say(&format!("{count} tensors of the checkpoint are not used: {names}"));
        }
    }
}
