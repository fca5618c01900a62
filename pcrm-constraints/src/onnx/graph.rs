//! A sentence encoder's ONNX graph: its inputs and outputs by name, run on a rectangle of tokens.

use std::path::{Path, PathBuf};

use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::value::Tensor;
use pcrm_core::{Error, Result};

use super::library;

/// Paths in the transformer's folder where exporters put the graph.
const PLACES: [&str; 2] = ["model.onnx", "onnx/model.onnx"];
const IDS: &str = "input_ids";
const MASK: &str = "attention_mask";
const TYPES: &str = "token_type_ids";
/// Names of outputs with a vector per token or one per text, in order of preference.
const OUTPUTS: [(&str, Output); 3] = [
    ("last_hidden_state", Output::Tokens),
    ("token_embeddings", Output::Tokens),
    ("sentence_embedding", Output::Text),
];

/// The content of an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// \[texts, tokens, width\].
    Tokens,
    /// \[texts, width\]: the graph pools by itself.
    Text,
}

/// A loaded graph.
pub struct Graph {
    path: PathBuf,
    session: Session,
    inputs: Vec<&'static str>,
    output: (&'static str, Output),
}

impl Graph {
    /// Returns the path of the graph in a transformer's folder.
    ///
    /// # Errors
    /// Fails if there is no such file.
    pub fn find(folder: &Path) -> Result<PathBuf> {
        let found = PLACES.iter().map(|place| folder.join(place)).find(|path| path.is_file());
        found.ok_or_else(|| {
            let message = format!(
                "no ONNX graph: looked for {}; `scripts/sentence-encoder --export` creates one, and so does \
                 sentence-transformers with backend=\"onnx\"",
                PLACES.join(" and ")
            );
            Error::file(folder, message)
        })
    }

    /// Loads a graph that computes on this many threads.
    ///
    /// # Errors
    /// Fails without the library, if the file is not a graph, and if inputs or outputs do not have the names
    /// of a sentence encoder's.
    pub fn load(path: &Path, threads: usize) -> Result<Self> {
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
                "the graph's inputs are {}; expected {IDS} and optionally {MASK} and {TYPES}",
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

    /// Returns the kind of output that [`Graph::run`] computes.
    pub fn output(&self) -> Output {
        self.output.1
    }

    /// Runs texts of equal length; `take` gets each text's index, its numbers (of all its tokens, or of the
    /// text) and the width of a vector.
    ///
    /// # Errors
    /// Fails with the library's errors, with outputs of an unexpected shape, and with the errors of `take`.
    pub fn run(
        &mut self,
        texts: &[&[u32]],
        mut take: impl FnMut(usize, &[f32], usize) -> Result<()>,
    ) -> Result<()> {
        let tokens = texts.first().map_or(0, |ids| ids.len());
        let refuse =
            |error: ort::Error| Error::file(&self.path, format!("ONNX Runtime cannot run it: {error}"));
        let mut inputs = Vec::with_capacity(self.inputs.len());
        for &name in &self.inputs {
            let values: Vec<i64> = match name {
                IDS => texts.iter().flat_map(|ids| ids.iter().map(|&id| i64::from(id))).collect(),
                MASK => vec![1; texts.len() * tokens],
                _ => vec![0; texts.len() * tokens],
            };
            inputs.push((name, Tensor::from_array(([texts.len(), tokens], values)).map_err(refuse)?));
        }
        let outputs = self.session.run(inputs).map_err(refuse)?;
        let (name, kind) = self.output;
        let wrong = |message: String| Error::file(&self.path, format!("output {name}: {message}"));
        let value = outputs.get(name).ok_or_else(|| wrong("is missing".to_owned()))?;
        let (shape, numbers) = value.try_extract_tensor::<f32>().map_err(|error| wrong(error.to_string()))?;
        let lead = match kind {
            Output::Tokens => vec![texts.len() as i64, tokens as i64],
            Output::Text => vec![texts.len() as i64],
        };
        let width = match shape.split_last() {
            Some((width, begins)) if begins == lead && *width > 0 => *width as usize,
            _ => return Err(wrong(format!("has the shape {:?}, expected {lead:?} and a width", &shape[..]))),
        };
        let each = numbers.len() / texts.len().max(1);
        numbers.chunks_exact(each).enumerate().try_for_each(|(at, numbers)| take(at, numbers, width))
    }
}

fn configured(builder: SessionBuilder, threads: usize) -> ort::Result<SessionBuilder> {
    let builder = builder
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_intra_threads(threads)?
        .with_inter_threads(1)?;
    Ok(builder)
}
