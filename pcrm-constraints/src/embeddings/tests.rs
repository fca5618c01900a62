//! Each text is encoded once, and vectors from the disk equal the computed ones.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use pcrm_core::constraint::Progress;
use pcrm_core::encoder::Embedder;
use serde::Serialize;

use super::*;

/// An encoder whose vectors are a text's length and first letter, and which counts its calls.
#[derive(Debug, Default, Clone, Serialize)]
struct Counting {
    #[serde(skip)]
    asked: Arc<AtomicUsize>,
    #[serde(skip)]
    digest: &'static str,
}

impl Counting {
    fn asked(&self) -> usize {
        self.asked.swap(0, Ordering::Relaxed)
    }
}

impl Encoder for Counting {
    fn kind(&self) -> &'static str {
        "counting"
    }

    fn open(&self, _: &[&str], _: &Priors) -> Result<Box<dyn Embedder>> {
        Ok(Box::new(self.clone()))
    }
}

impl Embedder for Counting {
    fn digest(&self) -> Option<String> {
        Some(self.digest.to_owned())
    }

    fn embed(&mut self, texts: &[&str]) -> Result<Vec<Vec<f32>>> {
        self.asked.fetch_add(texts.len(), Ordering::Relaxed);
        let vector = |text: &&str| match *text {
            "nan" => vec![1.0, f32::NAN],
            "wide" => vec![1.0; 3],
            text => vec![text.len() as f32, text.bytes().next().map_or(0.0, f32::from)],
        };
        Ok(texts.iter().map(vector).collect())
    }
}

fn kept_in(folder: &std::path::Path) -> Priors {
    let mut priors = Priors::default();
    priors.cache = Some(folder.to_path_buf());
    priors
}

fn only_file(folder: &std::path::Path) -> PathBuf {
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files.remove(0)
}

/// Protects: a second run computes nothing, even for other data that share texts; another encoder shares
/// nothing.
#[test]
fn a_second_run_computes_what_is_new() {
    let folder = tempfile::tempdir().unwrap();
    let priors = kept_in(folder.path());
    let encoder = Counting { digest: "a", ..Counting::default() };
    let first = Embeddings::compute(&encoder, ["aa", "b", "aa", "c"], &priors).unwrap();
    assert_eq!(encoder.asked(), 3);
    let again = Embeddings::compute(&encoder, ["c", "aa"], &priors).unwrap();
    assert_eq!(encoder.asked(), 0);
    assert_eq!(again.cosine("aa", "c"), first.cosine("aa", "c"));
    Embeddings::compute(&encoder, ["c", "new"], &priors).unwrap();
    assert_eq!(encoder.asked(), 1);
    let other = Counting { digest: "b", ..Counting::default() };
    Embeddings::compute(&other, ["c"], &priors).unwrap();
    assert_eq!(other.asked(), 1);
}

/// Protects: a truncated or changed file is recomputed and then complete again.
#[test]
fn a_damaged_file_is_computed_anew() {
    let folder = tempfile::tempdir().unwrap();
    let priors = kept_in(folder.path());
    let encoder = Counting::default();
    let compute = || Embeddings::compute(&encoder, ["aa", "b"], &priors).unwrap();
    compute();
    encoder.asked();
    let path = only_file(folder.path());
    let whole = fs::read(&path).unwrap();
    let mut damaged: Vec<Vec<u8>> = (0..whole.len()).map(|length| whole[..length].to_vec()).collect();
    damaged.extend((0..whole.len()).map(|at| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        bytes
    }));
    for bytes in damaged {
        fs::write(&path, bytes).unwrap();
        compute();
        assert_eq!(encoder.asked(), 2);
        assert_eq!(fs::read(&path).unwrap(), whole);
    }
    compute();
    assert_eq!(encoder.asked(), 0);
}

/// Protects: unusable vectors are refused with their text, and are not cached.
#[test]
fn unusable_vectors_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let priors = kept_in(folder.path());
    let refusal =
        |text| Embeddings::compute(&Counting::default(), ["longest", text], &priors).unwrap_err().to_string();
    assert_eq!(
        refusal("nan"),
        "encoder \"counting\": gave NaN at place 1 of the vector for \"nan\", expected finite numbers"
    );
    assert_eq!(refusal("wide"), "encoder \"counting\": gave 3 numbers for \"wide\", expected 2");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// Protects: cosines, including those of zero vectors.
#[test]
fn cosines_of_all_sorts() {
    let vectors =
        [("x", vec![3.0, 0.0]), ("y", vec![1.0, 1.0]), ("back", vec![-2.0, 0.0]), ("zero", vec![0.0, 0.0])];
    let embeddings = Embeddings { vectors: HashMap::from(vectors) };
    assert!((embeddings.cosine("x", "y") - 0.5_f64.sqrt()).abs() < 1e-15);
    assert_eq!(embeddings.cosine("x", "back"), -1.0);
    assert_eq!(embeddings.cosine("zero", "x"), 0.0);
    assert_eq!(embeddings.cosine("zero", "zero"), 1.0);
}

#[derive(Debug, Default)]
struct Heard(Mutex<Vec<(u64, u64)>>);

impl Progress for Heard {
    fn at(&self, _: &str, done: u64, total: u64) {
        self.0.lock().unwrap().push((done, total));
    }
}

/// Protects: progress counts texts and ends with all of them.
#[test]
fn progress_is_told() {
    let heard = Arc::new(Heard::default());
    let mut priors = Priors::default();
    priors.progress = Some(heard.clone());
    let texts: Vec<String> = (0..150).map(|at| format!("text {at}")).collect();
    Embeddings::compute(&Counting::default(), texts.iter().map(String::as_str), &priors).unwrap();
    assert_eq!(*heard.0.lock().unwrap(), [(64, 150), (128, 150), (150, 150)]);
}
