//! A sentence encoder's graph: its inputs and outputs by name, and running it on a rectangle of tokens.

use std::path::{Path, PathBuf};

use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::value::Tensor;
use pcrm_core::{Error, Result};

use super::batches::Lengths;
use super::library;

/// Where exporters put the graph, in the transformer's folder.
const PLACES: [&str; 2] = ["model.onnx", "onnx/model.onnx"];
const IDS: &str = "input_ids";
const MASK: &str = "attention_mask";
const TYPES: &str = "token_type_ids";
/// Outputs with a vector for every token, and with one for the text, the best first.
const OUTPUTS: [(&str, Output); 3] = [
    ("last_hidden_state", Output::Tokens),
    ("token_embeddings", Output::Tokens),
    ("sentence_embedding", Output::Text),
];

/// What an output holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// \[texts, tokens, width\].
    Tokens,
    /// \[texts, width\]: the graph pools.
    Text,
}

/// A graph that is ready to run.
pub struct Graph {
    path: PathBuf,
    session: Session,
    inputs: Vec<&'static str>,
    output: (&'static str, Output),
}

impl Graph {
    /// The file of the graph in a transformer's folder.
    ///
    /// # Errors
    /// No such file.
    pub fn find(folder: &Path) -> Result<PathBuf> {
        let found = PLACES.iter().map(|place| folder.join(place)).find(|path| path.is_file());
        found.ok_or_else(|| {
            let message = format!(
                "no ONNX graph: looked for {}; `scripts/sentence-encoder` exports one, and so does \
                 sentence-transformers with backend=\"onnx\"",
                PLACES.join(" and ")
            );
            Error::file(folder, message)
        })
    }

    /// Loads a graph; `threads` is how many compute, `None`: a thread a core.
    ///
    /// # Errors
    /// No library, a file that is no graph, and inputs or outputs of other names than sentence encoders have.
    pub fn load(path: &Path, threads: Option<usize>) -> Result<Self> {
        let refuse = |error: ort::Error| Error::file(path, format!("ONNX Runtime cannot load it: {error}"));
        let builder =
            Session::builder(library::environment()?).and_then(|builder| configured(builder, threads));
        let session = builder.and_then(|mut builder| builder.commit_from_file(path)).map_err(refuse)?;
        let names = |outlets: &[ort::value::Outlet]| -> Vec<String> {
            outlets.iter().map(|outlet| outlet.name().to_owned()).collect()
        };
        let (found, outputs) = (names(session.inputs()), names(session.outputs()));
        let inputs = [IDS, MASK, TYPES].into_iter().filter(|name| found.iter().any(|found| found == name));
        let inputs: Vec<&str> = inputs.collect();
        if inputs.len() < found.len() || !inputs.contains(&IDS) {
            let message = format!(
                "the graph's inputs are {}; expected {IDS} and perhaps {MASK} and {TYPES}",
                found.join(", ")
            );
            return Err(Error::file(path, message));
        }
        let output = OUTPUTS.into_iter().find(|(name, _)| outputs.iter().any(|found| found == name));
        let output = output.ok_or_else(|| {
            let expected = OUTPUTS.map(|(name, _)| name).join(", ");
            let message =
                format!("the graph's outputs are {}; expected one of {expected}", outputs.join(", "));
            Error::file(path, message)
        })?;
        Ok(Self { path: path.to_path_buf(), session, inputs, output })
    }

    /// What [`Graph::run`] gives.
    pub fn output(&self) -> Output {
        self.output.1
    }

    /// Which texts it can be given together.
    pub fn lengths(&self) -> Lengths {
        if self.inputs.contains(&MASK) { Lengths::Mixed } else { Lengths::Equal }
    }

    /// Runs texts of ids, filled up to the longest; `take` gets the place of each text and its numbers, those of its
    /// own tokens where there are some for every token, and the width of a vector.
    ///
    /// # Errors
    /// What the library meets, outputs of another shape, and what `take` says.
    pub fn run(
        &mut self,
        texts: &[&[u32]],
        mut take: impl FnMut(usize, &[f32], usize) -> Result<()>,
    ) -> Result<()> {
        let longest = texts.iter().map(|ids| ids.len()).max().unwrap_or(0);
        let filled = |of: &dyn Fn(u32) -> i64| -> Vec<i64> {
            let rows = texts.iter().map(|ids| ids.iter().map(|&id| of(id)));
            rows.flat_map(|row| row.chain(std::iter::repeat(0)).take(longest)).collect()
        };
        let refuse =
            |error: ort::Error| Error::file(&self.path, format!("ONNX Runtime cannot run it: {error}"));
        let mut inputs = Vec::with_capacity(self.inputs.len());
        for &name in &self.inputs {
            let values = match name {
                IDS => filled(&i64::from),
                MASK => filled(&|_| 1),
                _ => vec![0; texts.len() * longest],
            };
            let tensor = Tensor::from_array(([texts.len(), longest], values)).map_err(refuse)?;
            inputs.push((name, tensor));
        }
        let outputs = self.session.run(inputs).map_err(refuse)?;
        let (name, kind) = self.output;
        let wrong = |message: String| Error::file(&self.path, format!("output {name}: {message}"));
        let value = outputs.get(name).ok_or_else(|| wrong("is missing".to_owned()))?;
        let (shape, numbers) = value.try_extract_tensor::<f32>().map_err(|error| wrong(error.to_string()))?;
        let (tokens, expected) = match kind {
            Output::Tokens => (longest, "texts, tokens, width"),
            Output::Text => (1, "texts, width"),
        };
        let lead = [texts.len() as i64, longest as i64];
        let lead = &lead[..if kind == Output::Tokens { 2 } else { 1 }];
        let width = match shape.split_at_checked(lead.len()) {
            Some((begins, &[width])) if begins == lead && width > 0 => width as usize,
            _ => {
                return Err(wrong(format!(
                    "has the shape {:?}, expected [{expected}], {lead:?} and a width",
                    &shape[..]
                )));
            }
        };
        for (at, (ids, numbers)) in texts.iter().zip(numbers.chunks_exact(tokens * width)).enumerate() {
            take(at, &numbers[..ids.len().min(tokens) * width], width)?;
        }
        Ok(())
    }
}

fn configured(builder: SessionBuilder, threads: Option<usize>) -> ort::Result<SessionBuilder> {
    let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let builder = builder
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_intra_threads(threads.unwrap_or_else(cores))?
        .with_inter_threads(1)?;
    Ok(builder)
}
