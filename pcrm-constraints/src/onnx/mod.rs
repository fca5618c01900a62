//! The encoder `onnx`: a sentence-transformers folder with an ONNX graph, run by ONNX Runtime on the CPU.

mod batches;
mod graph;
pub mod library;
mod workers;

use std::path::{Path, PathBuf};

use pcrm_core::constraint::Priors;
use pcrm_core::encoder::{Embedder, Encoder};
use pcrm_core::registry::EncoderPlugin;
use pcrm_core::{Error, Result};
use serde::{Deserialize, Serialize};

use self::batches::batches;
use self::graph::{Graph, Output};
use self::workers::Workers;
use crate::sentence_folder::{FolderOptions, SentenceFolder};

/// A sentence encoder from its ONNX graph.
///
/// As data: `{"kind": "onnx", "path": "all-MiniLM-L6-v2"}` and the other fields of [`FolderOptions`]. The
/// graph, `model.onnx` or `onnx/model.onnx`, takes `input_ids` and optionally `attention_mask` and
/// `token_type_ids`; it outputs `last_hidden_state` or `token_embeddings`, which are pooled as the folder
/// specifies, or `sentence_embedding`.
///
/// Graphs take rectangles: texts with equal token counts are computed together, without padding. So a text's
/// vector depends on its batch by rounding at most, because the library picks its algorithms by size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Onnx {
    /// The folder, and overrides of its settings.
    pub folder: FolderOptions,
}

inventory::submit! {
    EncoderPlugin {
        name: "onnx",
        about: "a sentence-transformers folder with model.onnx, by ONNX Runtime",
        build: |data| Ok(Box::new(erased_serde::deserialize::<Onnx>(data)?)),
    }
}

impl Encoder for Onnx {
    fn kind(&self) -> &'static str {
        "onnx"
    }

    fn settle(&mut self, priors: &Priors) -> Result<()> {
        self.folder.path = priors.folder(&self.folder.path)?;
        Ok(())
    }

    fn open(&self, _texts: &[&str], priors: &Priors) -> Result<Box<dyn Embedder>> {
        let options = FolderOptions { path: priors.folder(&self.folder.path)?, ..self.folder.clone() };
        let folder = SentenceFolder::open(&options)?;
        let path = Graph::find(folder.transformer())?;
        let workers = Workers::load(&path, priors.engine.and_then(|engine| engine.place.threads))?;
        if workers.output() == Output::Tokens {
            folder.pooling()?;
        }
        let digest = format!("{} {}", folder.digest(&graph_files(&path)?)?, ort::info());
        Ok(Box::new(Opened { folder, workers, digest, tokens: 0 }))
    }
}

/// The maximum number of tokens in a batch, unless one text alone has more: enough to keep the cores busy, and
/// few enough for their caches.
const BUDGET: usize = 1024;

/// The maximum number of texts per call: enough to find some of equal length, and at most a few seconds' work.
const AT_ONCE: usize = 512;

struct Opened {
    folder: SentenceFolder,
    workers: Workers,
    digest: String,
    tokens: u64,
}

impl Embedder for Opened {
    fn digest(&self) -> Option<String> {
        Some(self.digest.clone())
    }

    fn at_once(&self) -> usize {
        AT_ONCE
    }

    fn embed(&mut self, texts: &[&str]) -> Result<Vec<Vec<f32>>> {
        let tokens = self.folder.tokens(texts)?;
        let lengths: Vec<usize> = tokens.iter().map(Vec::len).collect();
        self.tokens += lengths.iter().map(|&length| length as u64).sum::<u64>();
        let (order, ranges) = batches(&lengths, BUDGET);
        let (folder, pools) = (&self.folder, self.workers.output() == Output::Tokens);
        let run = |graph: &mut Graph, at: usize| {
            let batch = &order[ranges[at].clone()];
            let ids: Vec<&[u32]> = batch.iter().map(|&text| tokens[text].as_slice()).collect();
            let mut vectors = Vec::with_capacity(batch.len());
            graph.run(&ids, |_, numbers, width| {
                vectors.push(if pools {
                    folder.pooled(numbers, width)?
                } else {
                    folder.finished(numbers.to_vec())
                });
                Ok(())
            })?;
            Ok(vectors)
        };
        let computed = self.workers.each(ranges.len(), run)?;
        let mut vectors = vec![Vec::new(); texts.len()];
        for (range, batch) in ranges.into_iter().zip(computed) {
            order[range].iter().zip(batch).for_each(|(&text, vector)| vectors[text] = vector);
        }
        Ok(vectors)
    }

    fn tokens(&self) -> Option<u64> {
        Some(self.tokens)
    }
}

/// Returns the graph's files: the graph itself and files of external weights, such as `model.onnx_data`.
fn graph_files(path: &Path) -> Result<Vec<PathBuf>> {
    let (folder, name) = (path.parent().unwrap_or(path), path.file_name().unwrap_or_default().to_owned());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder))? {
        let entry = entry.map_err(Error::io(folder))?;
        let of_graph = entry.file_name().as_encoded_bytes().starts_with(name.as_encoded_bytes());
        if of_graph && entry.path().is_file() {
            files.push(entry.path());
        }
    }
    files.sort_unstable();
    Ok(files)
}

#[cfg(test)]
mod tests;
