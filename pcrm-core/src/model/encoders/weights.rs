//! Reads an encoder's weights by their names in the file and builds layers on a device.

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

/// Tensors in older checkpoints that are not learned.
const BUFFERS: [&str; 1] = ["position_ids"];

/// The weights of a folder, to be uploaded to a device.
pub(in crate::model) struct EncoderWeights<'a> {
    checkpoint: Checkpoint,
    /// The optional prefix of all names of the body.
    prefix: &'static str,
    used: RefCell<BTreeSet<String>>,
    backend: &'a dyn Backend,
    /// The type of the uploaded weights.
    pub compute: DType,
    norm_eps: f64,
}

impl<'a> EncoderWeights<'a> {
    /// Opens a folder and reads the headers of its weights.
    ///
    /// # Errors
    /// Fails if a file is missing or malformed.
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

    /// Returns the values of a weight, stored under its name with or without the prefix.
    ///
    /// # Errors
    /// Fails if a weight is missing or has another shape.
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

    /// Uploads these values as a table `[rows, width]`.
    pub fn table(&self, name: &str, shape: [usize; 2], values: Vec<f32>) -> Result<Embedding> {
        Ok(Embedding::new(self.upload(&format!("{name}.weight"), shape, values)?))
    }

    /// Reads the embedding of this name.
    pub fn embedding(&self, name: &str, shape: [usize; 2]) -> Result<Embedding> {
        let values = self.take(&format!("{name}.weight"), &shape)?;
        self.table(name, shape, values)
    }

    /// Reads a linear layer. Several names are layers with the same input, whose outputs are concatenated.
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

    /// Reads a layer norm, with or without a bias.
    pub fn norm(&self, name: &str, width: usize, has_bias: bool) -> Result<Norm> {
        // Checkpoints converted from TensorFlow use the older names.
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

    /// Logs the tensors that were not used.
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
