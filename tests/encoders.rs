//! Encoders that compute on a backend: hidden states and sentence vectors against transformers and
//! sentence-transformers.
//!
//! The data and the script that made them are in `golden/encoders` and `golden/sentence`.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use pcrm_core::constraint::Priors;
use pcrm_core::encoder;
use pcrm_core::model::{Bert, Rows};
use pcrm_core::registry::{self, BackendPlugin};
use pcrm_core::{Backend, DType, Engine, Packed};
use serde_json::{Value, json};

use crate::subject::{Subject, every_backend, every_backend_with_bf16};
use crate::support::beside;

fn read(name: &str) -> Result<Value> {
    Ok(serde_json::from_str(&fs::read_to_string(beside("golden").join(name))?)?)
}

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().into_iter().flatten().filter_map(Value::as_f64).map(|x| x as f32).collect()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().into_iter().flatten().filter_map(Value::as_u64).map(|x| x as u32).collect()
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Returns priors that open this subject's backend on its device.
fn priors(subject: &Subject, dtype: DType) -> Result<Priors> {
    let plugin = registry::find::<BackendPlugin>(subject.name())?;
    let mut priors = Priors::default();
    priors.engine = Some(Engine { open: plugin.open, place: subject.device().into(), dtype });
    Ok(priors)
}

fn embed(configuration: &Value, texts: &[&str], priors: &Priors) -> Result<Vec<Vec<f32>>> {
    Ok(encoder::from_tagged(configuration.clone())?.open(texts, priors)?.embed(texts)?)
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// Protects: hidden states of every family match transformers, for texts packed into one batch and for first
/// tokens only.
#[test]
fn hidden_states_are_those_of_transformers() -> Result<()> {
    every_backend(|backend| {
        for family in ["bert", "distilbert", "roberta"] {
            let golden = read(&format!("encoders/{family}/states.json"))?;
            let model = Bert::load(backend, &beside("golden/encoders").join(family), DType::F32)?;
            let (mut batch, mut firsts, mut want) = (Packed::default(), Vec::new(), Vec::new());
            let mut want_firsts = Vec::new();
            let pairs = golden["ids"]
                .as_array()
                .into_iter()
                .flatten()
                .zip(golden["states"].as_array().into_iter().flatten());
            for (text, states) in pairs {
                firsts.push(batch.ids.len());
                batch.push(&ids(text), None)?;
                let states: Vec<Vec<f32>> = states.as_array().into_iter().flatten().map(floats).collect();
                want_firsts.extend(states.first().context("states")?.clone());
                want.extend(states.concat());
            }
            let all = model.forward(&batch, Rows::All)?.read()?.into_f32();
            backend.check_close(&format!("{family}, all states"), &all, &want, 5e-5)?;
            let some = model.forward(&batch, Rows::Only(&firsts))?.read()?.into_f32();
            backend.check_close(&format!("{family}, first states"), &some, &want_firsts, 5e-5)?;
        }
        Ok(())
    })
}

/// Protects: token ids and lengths outside the encoder's embeddings are refused and not read past the end.
#[test]
fn what_has_no_embedding_is_refused() -> Result<()> {
    every_backend(|backend| {
        let model = Bert::load(backend, &beside("golden/encoders/roberta"), DType::F32)?;
        for (ids, expected) in [
            (vec![40], "token id: 40 is outside the encoder's vocabulary of 40"),
            (vec![3; 33], "text: 33 tokens, expected at most 32"),
        ] {
            let mut batch = Packed::default();
            batch.push(&ids, None)?;
            let error = model.forward(&batch, Rows::All).err().map(|error| error.to_string());
            ensure!(error.as_deref() == Some(expected), "{error:?}");
        }
        Ok(())
    })
}

/// Protects: vectors of texts match sentence-transformers with each pooling.
#[test]
fn vectors_are_those_of_sentence_transformers() -> Result<()> {
    let golden = read("sentence/expected.json")?;
    let texts = texts(&golden["texts"]);
    let path = beside("golden/sentence/tiny");
    every_backend(|backend| {
        let priors = priors(backend, DType::F32)?;
        for (key, change) in [
            ("mean, normalized", json!({})),
            ("cls", json!({"pooling": "cls", "normalize": false})),
            ("max", json!({"pooling": "max", "normalize": false})),
            ("lasttoken", json!({"pooling": "lasttoken", "normalize": false})),
        ] {
            let mut configuration = json!({"kind": "bert", "path": path});
            configuration
                .as_object_mut()
                .context("an object")?
                .extend(change.as_object().cloned().unwrap_or_default());
            let got = embed(&configuration, &texts, &priors)?;
            let want = golden[key].as_array().context("vectors")?;
            for ((got, want), text) in got.iter().zip(want).zip(&texts) {
                backend.check_close(&format!("{key} of {text:?}"), got, &floats(want), 2e-5)?;
            }
        }
        Ok(())
    })
}

/// Protects: a text's vector does not depend on the rest of the batch, so cached vectors stay valid.
#[test]
fn vectors_do_not_depend_on_the_batch() -> Result<()> {
    let golden = read("sentence/expected.json")?;
    let texts = texts(&golden["texts"]);
    let bert = json!({"kind": "bert", "path": beside("golden/sentence/tiny")});
    let policy = json!({"kind": "policy", "model": beside("golden/encoders/policy")});
    every_backend(|backend| {
        let priors = priors(backend, DType::F32)?;
        for configuration in [&bert, &policy] {
            let together = embed(configuration, &texts, &priors)?;
            for (text, together) in texts.iter().zip(&together) {
                let alone = embed(configuration, &[text], &priors)?;
                backend.check_same(&format!("{text:?}"), &alone[0], together)?;
            }
        }
        Ok(())
    })
}

/// Protects: vectors in bf16 point in the same direction as those in f32.
#[test]
fn vectors_in_bf16_point_the_same_way() -> Result<()> {
    let golden = read("sentence/expected.json")?;
    let texts = texts(&golden["texts"]);
    let configuration = json!({"kind": "bert", "path": beside("golden/sentence/tiny")});
    every_backend_with_bf16(|backend| {
        let got = embed(&configuration, &texts, &priors(backend, DType::BF16)?)?;
        let want = golden["mean, normalized"].as_array().context("vectors")?;
        for ((got, want), text) in got.iter().zip(want).zip(&texts) {
            let cosine = cosine(got, &floats(want));
            ensure!(cosine > 0.999, "{text:?}: cosine {cosine}");
        }
        Ok(())
    })
}

/// Protects: a policy's pooled hidden states match transformers, with long texts cut to its positions.
#[test]
fn a_policys_states_are_those_of_transformers() -> Result<()> {
    let golden = read("encoders/policy/texts.json")?;
    let texts = texts(&golden["texts"]);
    let folder = beside("golden/encoders/policy");
    every_backend(|backend| {
        let mut priors = priors(backend, DType::F32)?;
        priors.model = Some(folder.clone());
        for pooling in ["mean", "last"] {
            let got = embed(&json!({"kind": "policy", "pooling": pooling}), &texts, &priors)?;
            for ((got, want), text) in
                got.iter().zip(golden[pooling].as_array().context("vectors")?).zip(&texts)
            {
                backend.check_close(&format!("{pooling} of {text:?}"), got, &floats(want), 2e-5)?;
            }
        }
        Ok(())
    })
}

/// Protects: the constraint saved with a trained model names the model before training, and opens without
/// being given it again.
#[test]
fn a_settled_policy_names_its_model() -> Result<()> {
    let subjects = crate::subject::subjects()?;
    let mut priors = priors(&subjects[0], DType::F32)?;
    let mut cosine = pcrm_core::constraint::parse(
        r#"{"kind": "combine", "of": [{"kind": "cosine", "encoder": "policy"}]}"#,
    )?;
    let refused = cosine.settle(&priors).err().map(|error| error.to_string()).unwrap_or_default();
    ensure!(refused.starts_with("encoder \"policy\": there is no model"), "{refused}");
    let folder = beside("golden/encoders/policy");
    priors.model = Some(folder.clone());
    cosine.settle(&priors)?;
    let kept = cosine.to_tagged()?;
    ensure!(
        kept["of"][0]["encoder"] == json!({"kind": "policy", "pooling": "mean", "model": folder}),
        "{kept}"
    );
    Ok(())
}

/// Protects: a missing backend, an unsupported element type and a missing folder are reported.
#[test]
fn what_is_missing_is_told() -> Result<()> {
    let bert = |path: PathBuf| json!({"kind": "bert", "path": path});
    let refusal = |configuration: &Value, priors: &Priors| {
        embed(configuration, &["a"], priors).err().map(|error| error.to_string()).unwrap_or_default()
    };
    let tiny = bert(beside("golden/sentence/tiny"));
    ensure!(refusal(&tiny, &Priors::default()).contains("there is no backend to compute on"));
    every_backend(|backend| {
        let error = refusal(&bert("nowhere".into()), &priors(backend, DType::F32)?);
        ensure!(
            error.ends_with("nowhere: is not a folder; expected a sentence-transformers folder"),
            "{error}"
        );
        let error = refusal(&bert(beside("golden/encoders/policy")), &priors(backend, DType::F32)?);
        ensure!(error.contains("no pooling configuration"), "{error}");
        let decoder = json!({"kind": "bert", "path": beside("golden/encoders/policy"), "pooling": "mean"});
        let error = refusal(&decoder, &priors(backend, DType::F32)?);
        ensure!(error.contains("model_type is \"llama\"; expected an encoder, one of bert, "), "{error}");
        if !backend.dtypes().contains(&DType::BF16) {
            let error = refusal(&tiny, &priors(backend, DType::BF16)?);
            ensure!(error.contains("cannot compute in bf16"), "{error}");
        }
        Ok(())
    })
}

/// Protects: a real encoder agrees with sentence-transformers, on every backend and through its ONNX graph.
#[test]
fn a_real_encoder_agrees_with_sentence_transformers() -> Result<()> {
    let Some(folder) = std::env::var_os("PCRM_ENCODER").map(PathBuf::from) else {
        println!("nothing checked: set PCRM_ENCODER to the folder of all-MiniLM-L6-v2");
        return Ok(());
    };
    let golden = read("encoders/minilm.json")?;
    let texts = texts(&golden["texts"]);
    let agree = |kind: &str, priors: &Priors| -> Result<()> {
        let got = embed(&json!({"kind": kind, "path": folder}), &texts, priors)?;
        for ((got, want), text) in
            got.iter().zip(golden["vectors"].as_array().context("vectors")?).zip(&texts)
        {
            let cosine = cosine(got, &floats(want));
            println!("{kind} {cosine:.7} {text:?}");
            ensure!(cosine >= 0.9999, "{kind}, {text:?}: cosine {cosine}");
        }
        Ok(())
    };
    every_backend(|backend| agree("bert", &priors(backend, DType::F32)?))?;
    match pcrm_constraints::onnx::library::environment() {
        Ok(_) => agree("onnx", &Priors::default()),
        Err(error) => {
            println!("onnx is not checked: {error}");
            Ok(())
        }
    }
}
