//! Weights that bitsandbytes has quantised, as `transformers` saves them.
//!
//! 4 bits: `NAME.weight` holds the codes, and `NAME.weight.absmax`, `.quant_map`, `.nested_absmax`,
//! `.nested_quant_map` and `.quant_state.bitsandbytes__nf4` (JSON as bytes) the rest. 8 bits: `NAME.weight` is
//! I8, `NAME.SCB` has the scales of rows, and `NAME.weight_format` is 0 (row-major). Both are `[out, in]`, even
//! for families whose files have the transposed matrix.

use serde::Deserialize;

use super::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::quant::{HostMatrix, Nested, Quantisation, Scales, bytes_table, pairs};

/// The largest block that bitsandbytes makes.
const LARGEST_BLOCK: usize = 4096;

/// The content of `.quant_state.bitsandbytes__nf4`.
#[derive(Debug, Deserialize)]
struct State {
    blocksize: usize,
    shape: Vec<usize>,
    nested_blocksize: Option<usize>,
    nested_offset: Option<f32>,
}

/// A quantised weight of a checkpoint.
#[derive(Debug, Clone, Copy)]
pub(super) struct Quantised<'a> {
    checkpoint: &'a Checkpoint,
    /// The name of the weight.
    name: &'a str,
    method: Quantisation,
}

impl<'a> Quantised<'a> {
    /// Finds the quantised weight of this name; `None` if the weight is not quantised by bitsandbytes.
    pub fn find(checkpoint: &'a Checkpoint, name: &'a str) -> Option<Self> {
        let has = |part: &str| checkpoint.contains(&format!("{name}.{part}"));
        let method = match (has("quant_state.bitsandbytes__nf4"), has("nested_absmax")) {
            (true, false) => Quantisation::Nf4,
            (true, true) => Quantisation::Nf4Double,
            (false, _) if checkpoint.contains(&scales_of(name)?) => Quantisation::Int8,
            _ => return None,
        };
        Some(Self { checkpoint, name, method })
    }

    /// Returns the method.
    pub fn method(&self) -> Quantisation {
        self.method
    }

    /// Lists the names of all tensors that belong to the weight.
    pub fn names(&self) -> Vec<String> {
        let lead = format!("{}.", self.name);
        let others = [scales_of(self.name), format_of(self.name)];
        let own = |name: &&str| {
            *name == self.name
                || name.starts_with(&lead)
                || others.iter().flatten().any(|other| other == name)
        };
        self.checkpoint.names().filter(own).map(str::to_owned).collect()
    }

    /// Reads the weight, which must have this shape, `[out, in]`.
    ///
    /// # Errors
    /// Fails if a tensor is missing, has another size, or cannot be read, and if a value is not supported.
    pub fn read(&self, shape: &[usize]) -> Result<HostMatrix> {
        let [rows, columns] = *shape else {
            return Err(self.error(format!("is quantised; expected shape {shape:?} as floats")));
        };
        match self.method {
            Quantisation::Int8 => self.read_int8([rows, columns]),
            Quantisation::Nf4 | Quantisation::Nf4Double => self.read_nf4([rows, columns]),
        }
    }

    fn read_nf4(&self, shape: [usize; 2]) -> Result<HostMatrix> {
        let part = |part: &str| format!("{}.{part}", self.name);
        let named = part("quant_state.bitsandbytes__nf4");
        let state: State = serde_json::from_slice(&self.checkpoint.bytes(&named)?)
            .map_err(|error| self.error(format!(".quant_state.bitsandbytes__nf4: {error}")))?;
        if state.shape != shape {
            return Err(self.error(format!("has shape {:?}, expected {shape:?}", state.shape)));
        }
        let size = shape.iter().product::<usize>();
        let block = self.block(state.blocksize)?;
        let codes = self.sized("", self.checkpoint.bytes(self.name)?, size.div_ceil(2))?;
        let floats = |end: &str, length: usize| {
            self.sized(end, self.checkpoint.read(&part(&end[1..]))?.into_f32(), length)
        };
        let mut values = [0.0; 16];
        values.copy_from_slice(&floats(".quant_map", 16)?);
        let blocks = size.div_ceil(block);
        let scales = match self.method == Quantisation::Nf4Double {
            false => Scales::Plain(floats(".absmax", blocks)?),
            true => {
                let (Some(block), Some(offset)) = (state.nested_blocksize, state.nested_offset) else {
                    return Err(self.error("lacks nested_blocksize or nested_offset in its quant_state"));
                };
                let block = self.block(block)?;
                Scales::Nested(Nested {
                    codes: self.sized(".absmax", self.checkpoint.bytes(&part("absmax"))?, blocks)?,
                    table: floats(".nested_quant_map", 256)?,
                    block,
                    scales: floats(".nested_absmax", blocks.div_ceil(block))?,
                    offset,
                })
            }
        };
        Ok(HostMatrix { method: self.method, shape, codes, table: pairs(&values), block, scales })
    }

    fn read_int8(&self, shape: [usize; 2]) -> Result<HostMatrix> {
        if let Some(name) = format_of(self.name).filter(|name| self.checkpoint.contains(name)) {
            let format = self.checkpoint.bytes(&name)?;
            if format.iter().any(|byte| *byte != 0) {
                return Err(
                    self.error(format!("has weight_format {format:?}; only 0 (row-major) is supported"))
                );
            }
        }
        let found = self.checkpoint.shape(self.name).unwrap_or_default();
        if found != shape {
            return Err(self.error(format!("has shape {found:?}, expected {shape:?}")));
        }
        let codes = self.sized("", self.checkpoint.bytes(self.name)?, shape.iter().product())?;
        let scales = self.checkpoint.read(&scales_of(self.name).unwrap_or_default())?.into_f32();
        let scales = Scales::Plain(self.sized(" (its SCB)", scales, shape[0])?);
        let (method, block) = (self.method, shape[1].max(1));
        Ok(HostMatrix { method, shape, codes, table: bytes_table(), block, scales })
    }

    fn block(&self, block: usize) -> Result<usize> {
        match block.is_power_of_two() && (2..=LARGEST_BLOCK).contains(&block) {
            true => Ok(block),
            false => Err(self.error(format!(
                "has blocks of {block} in its quant_state; expected a power of two up to {LARGEST_BLOCK}"
            ))),
        }
    }

    /// Returns the elements if there are as many as expected.
    fn sized<T>(&self, end: &str, values: Vec<T>, length: usize) -> Result<Vec<T>> {
        match values.len() == length {
            true => Ok(values),
            false => Err(self.error(format!("{end} has {} elements, expected {length}", values.len()))),
        }
    }

    fn error(&self, message: impl AsRef<str>) -> Error {
        let message = message.as_ref();
        let space = if message.starts_with(['.', ' ']) { "" } else { " " };
        Error::file(self.checkpoint.dir(), format!("{}{space}{message}", self.name))
    }
}

/// Returns the name of an 8-bit weight's scales.
fn scales_of(name: &str) -> Option<String> {
    name.strip_suffix(".weight").map(|module| format!("{module}.SCB"))
}

/// Returns the name of an 8-bit weight's format.
fn format_of(name: &str) -> Option<String> {
    name.strip_suffix(".weight").map(|module| format!("{module}.weight_format"))
}
