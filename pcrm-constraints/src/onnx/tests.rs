//! Compares vectors with sentence-transformers', and checks refusals. Tests that run a graph need ONNX
//! Runtime; without it they print a note and are skipped.

use std::fs;

use pcrm_core::encoder::parse;
use serde_json::{Value, json};

use super::*;
use crate::embeddings::Embeddings;
use crate::pooling::Pooling;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/sentence")
}

fn runs() -> bool {
    let opened = library::environment();
    if let Err(error) = &opened {
        eprintln!("skipped: {error}");
    }
    opened.is_ok()
}

/// Copies the golden folder, with this graph or without one.
fn folder(graph: Option<&[u8]>) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("1_Pooling")).unwrap();
    for name in ["modules.json", "1_Pooling/config.json", "tokenizer.json", "tokenizer_config.json"] {
        fs::copy(golden().join("tiny").join(name), folder.path().join(name)).unwrap();
    }
    if let Some(graph) = graph {
        fs::write(folder.path().join("model.onnx"), graph).unwrap();
    }
    folder
}

fn with_graph(name: &str) -> tempfile::TempDir {
    folder(Some(&fs::read(golden().join("graphs").join(name)).unwrap()))
}

fn encoder(path: &Path) -> Onnx {
    Onnx {
        folder: FolderOptions { path: path.to_path_buf(), pooling: None, normalize: None, max_tokens: None },
    }
}

fn refusal(folder: &Path) -> String {
    let error = encoder(folder).open(&[], &Priors::default()).err().expect("it is refused");
    error.to_string().replace(&format!("{}/", folder.display()), "")
}

fn expected() -> (Value, Vec<String>) {
    let expected: Value = serde_json::from_slice(&fs::read(golden().join("expected.json")).unwrap()).unwrap();
    let texts = serde_json::from_value(expected["texts"].clone()).unwrap();
    (expected, texts)
}

fn furthest(left: &[Vec<f32>], right: &[Vec<f32>]) -> f32 {
    assert_eq!(left.len(), right.len());
    let apart = |(left, right): (&Vec<f32>, &Vec<f32>)| {
        assert_eq!(left.len(), right.len());
        left.iter().zip(right).map(|(left, right)| (left - right).abs()).fold(0.0, f32::max)
    };
    left.iter().zip(right).map(apart).fold(0.0, f32::max)
}

/// Protects: vectors equal those of sentence-transformers, with each pooling, for empty, truncated and uneven
/// texts.
#[test]
fn vectors_are_those_of_sentence_transformers() {
    if !runs() {
        return;
    }
    let (expected, texts) = expected();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    for (name, pooling) in [
        ("mean, normalized", None),
        ("cls", Some(Pooling::Cls)),
        ("max", Some(Pooling::Max)),
        ("lasttoken", Some(Pooling::LastToken)),
    ] {
        let path = golden().join("tiny");
        let normalize = pooling.map(|_| false);
        let encoder = Onnx { folder: FolderOptions { path, pooling, normalize, max_tokens: None } };
        let vectors = encoder.open(&texts, &Priors::default()).unwrap().embed(&texts).unwrap();
        let theirs: Vec<Vec<f32>> = serde_json::from_value(expected[name].clone()).unwrap();
        let apart = furthest(&vectors, &theirs);
        assert!(apart < 1e-5, "{name}: {apart}");
    }
}

/// Protects: a text's vector does not depend on the other texts of its batch, nor on their number.
#[test]
fn neighbours_change_nothing_but_rounding() {
    if !runs() {
        return;
    }
    let (_, texts) = expected();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let mut embedder = encoder(&golden().join("tiny")).open(&texts, &Priors::default()).unwrap();
    let together = embedder.embed(&texts).unwrap();
    assert_eq!(embedder.tokens(), Some(102));
    let alone: Vec<Vec<f32>> = texts.iter().map(|text| embedder.embed(&[*text]).unwrap().remove(0)).collect();
    let apart = furthest(&together, &alone);
    assert!(apart < 1e-5, "{apart}");
}

/// Protects: a graph that pools needs no pooling configuration, and works without a mask because nothing is
/// padded.
#[test]
fn a_graph_may_pool_by_itself() {
    if !runs() {
        return;
    }
    let folder = with_graph("pooled.onnx");
    fs::remove_file(folder.path().join("1_Pooling/config.json")).unwrap();
    fs::remove_file(folder.path().join("modules.json")).unwrap();
    let (expected, texts) = expected();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let vectors = encoder(folder.path()).open(&texts, &Priors::default()).unwrap().embed(&texts).unwrap();
    let ids: Vec<Vec<u32>> = serde_json::from_value(expected["ids"].clone()).unwrap();
    let by_hand: Vec<Vec<f32>> =
        ids.iter().map(|ids| vec![*ids.iter().max().unwrap() as f32, ids.len() as f32]).collect();
    assert_eq!(vectors, by_hand);
}

/// Protects: everything that determines vectors is in the digest, which is the cache key.
#[test]
fn another_graph_is_another_encoder() {
    if !runs() {
        return;
    }
    let digest = |path: &Path| encoder(path).open(&[], &Priors::default()).unwrap().digest().unwrap();
    let (tiny, nan) = (golden().join("tiny"), with_graph("nan.onnx"));
    assert_eq!(digest(&tiny), digest(&tiny));
    assert_ne!(digest(&tiny), digest(nan.path()));
    let before = digest(nan.path());
    fs::write(nan.path().join("model.onnx_data"), "weights").unwrap();
    assert_ne!(before, digest(nan.path()));
}

/// Protects: unusable folders and configurations are refused, by file or field, before the library is loaded.
#[test]
fn folders_without_what_is_needed_are_refused() {
    let error = refusal(folder(None).path());
    assert!(error.contains("no ONNX graph: looked for model.onnx and onnx/model.onnx"), "{error}");
    let error = refusal(&golden().join("nowhere"));
    assert!(error.ends_with("nowhere: is not a folder; expected a sentence-transformers folder"), "{error}");
    let error = parse("onnx").unwrap_err().to_string();
    assert_eq!(error, "encoder \"onnx\": missing field `path`");
    let error = parse(r#"{"kind": "onnx", "path": "a", "pooling": "sum"}"#).unwrap_err().to_string();
    assert!(
        error.contains("unknown variant `sum`, expected one of `cls`, `mean`, `max`, `lasttoken`"),
        "{error}"
    );
    let encoder = parse(r#"{"kind": "onnx", "path": "a", "pooling": "lasttoken"}"#).unwrap();
    assert_eq!(encoder.to_tagged().unwrap(), json!({"kind": "onnx", "path": "a", "pooling": "lasttoken"}));
}

/// Protects: damaged and unsuitable graphs are refused with the finding.
#[test]
fn graphs_that_do_not_serve_are_refused() {
    if !runs() {
        return;
    }
    let whole = fs::read(golden().join("tiny/model.onnx")).unwrap();
    for graph in [&whole[..whole.len() / 2], &whole[..0], b"no graph at all"] {
        let error = refusal(folder(Some(graph)).path());
        assert!(error.starts_with("model.onnx: ONNX Runtime cannot load it: "), "{error}");
    }
    assert_eq!(
        refusal(with_graph("inputs.onnx").path()),
        "model.onnx: the graph's inputs are input_ids, pixels; expected input_ids and optionally \
         attention_mask and token_type_ids"
    );
    assert_eq!(
        refusal(with_graph("outputs.onnx").path()),
        "model.onnx: the graph's outputs are logits; expected one of last_hidden_state, token_embeddings, \
         sentence_embedding"
    );
    let folder = with_graph("nan.onnx");
    fs::remove_file(folder.path().join("modules.json")).unwrap();
    fs::remove_dir_all(folder.path().join("1_Pooling")).unwrap();
    let error = refusal(folder.path());
    assert!(error.contains("no pooling configuration: looked for"), "{error}");
}

/// Protects: non-finite numbers, which would corrupt bounds, are refused with their text, as are wrong output
/// shapes.
#[test]
fn outputs_that_are_no_vectors_are_refused() {
    if !runs() {
        return;
    }
    let refusal = |name: &str| {
        let folder = with_graph(name);
        let error =
            Embeddings::compute(&encoder(folder.path()), ["the cat"], &Priors::default()).unwrap_err();
        error.to_string().replace(&format!("{}/", folder.path().display()), "")
    };
    assert_eq!(
        refusal("nan.onnx"),
        "encoder \"onnx\": gave NaN at place 0 of the vector for \"the cat\", expected finite numbers"
    );
    assert_eq!(
        refusal("shape.onnx"),
        "model.onnx: output last_hidden_state: has the shape [1, 4], expected [1, 4] and a width"
    );
}
