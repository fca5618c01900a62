//! Folders written by old and new releases of sentence-transformers, and unusable folders.

use std::fs;

use serde_json::{Value, json};

use super::*;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/sentence")
}

fn options(path: &Path) -> FolderOptions {
    FolderOptions { path: path.to_path_buf(), pooling: None, normalize: None, max_tokens: None }
}

/// Copies the golden folder without weights, with these files overwritten, or removed if null.
fn changed(files: &[(&str, Value)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let tiny = golden().join("tiny");
    fs::create_dir(folder.path().join("1_Pooling")).unwrap();
    for name in [
        "modules.json",
        "1_Pooling/config.json",
        "config.json",
        "config_sentence_transformers.json",
        "sentence_bert_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ] {
        fs::copy(tiny.join(name), folder.path().join(name)).unwrap();
    }
    for (name, content) in files {
        let path = folder.path().join(name);
        match content {
            Value::Null => fs::remove_file(path).unwrap(),
            content => fs::write(path, content.to_string()).unwrap(),
        }
    }
    folder
}

fn open(files: &[(&str, Value)]) -> SentenceFolder {
    SentenceFolder::open(&options(changed(files).path())).unwrap()
}

fn refusal(files: &[(&str, Value)]) -> String {
    let folder = changed(files);
    let error =
        SentenceFolder::open(&options(folder.path())).and_then(|folder| folder.pooling()).unwrap_err();
    error.to_string().replace(&format!("{}/", folder.path().display()), "")
}

fn read(name: &str) -> Value {
    serde_json::from_slice(&fs::read(golden().join(name)).unwrap()).unwrap()
}

/// Protects: ids equal those of transformers with truncation, whatever padding and truncation the file
/// configures.
#[test]
fn tokens_are_those_of_transformers() {
    let expected = read("expected.json");
    let texts: Vec<&str> =
        expected["texts"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
    let folder = SentenceFolder::open(&options(&golden().join("tiny"))).unwrap();
    assert_eq!(folder.max_tokens(), 24);
    assert_eq!(json!(folder.tokens(&texts).unwrap()), expected["ids"]);
}

/// Protects: configurations of old releases mean the same as those of new ones.
#[test]
fn old_layouts_are_read() {
    let flags =
        |mode: &str| json!({"word_embedding_dimension": 16, "pooling_mode_mean_tokens": false, mode: true});
    for (flag, pooling) in [
        ("pooling_mode_cls_token", Pooling::Cls),
        ("pooling_mode_mean_tokens", Pooling::Mean),
        ("pooling_mode_max_tokens", Pooling::Max),
        ("pooling_mode_lasttoken", Pooling::LastToken),
    ] {
        assert_eq!(open(&[("1_Pooling/config.json", flags(flag))]).pooling().unwrap(), pooling);
    }
    let module = |path: &str, class: &str| {
        json!({
            "path": path, "type": format!("sentence_transformers.models.{class}")
        })
    };
    let listed = json!([module("", "Transformer"), module("1_Pooling", "Pooling")]);
    let folder = open(&[
        ("modules.json", listed),
        ("sentence_bert_config.json", json!({"max_seq_length": 20, "do_lower_case": false})),
    ]);
    assert_eq!((folder.max_tokens(), folder.layout.normalize), (20, false));
}

/// Protects: the token limit from each possible source, and the option that overrides all of them.
#[test]
fn limits_come_from_settings_tokenizer_or_positions() {
    assert_eq!(open(&[("tokenizer_config.json", json!({}))]).max_tokens(), 32);
    assert_eq!(open(&[("tokenizer_config.json", json!({"model_max_length": 1e30}))]).max_tokens(), 32);
    // RoBERTa's first position is that after the padding token's id.
    let config = json!({"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1});
    assert_eq!(open(&[("tokenizer_config.json", json!({})), ("config.json", config)]).max_tokens(), 512);
    let none = [("tokenizer_config.json", json!({})), ("config.json", json!({}))];
    assert!(refusal(&none).contains("no limit of tokens: looked for max_seq_length"));
    let folder = changed(&none);
    let limited = FolderOptions { max_tokens: Some(5), ..options(folder.path()) };
    let folder = SentenceFolder::open(&limited).unwrap();
    assert_eq!(folder.tokens(&["the cat sat on the mat"]).unwrap()[0].len(), 5);
    let narrow = FolderOptions { max_tokens: Some(2), ..limited };
    let error = SentenceFolder::open(&FolderOptions { path: golden().join("tiny"), ..narrow }).unwrap_err();
    assert_eq!(
        error.to_string(),
        "max_tokens: found 2, expected more than the 2 special tokens of every text"
    );
}

/// Protects: the error for a folder without a pooling configuration lists the searched places, and options
/// replace it.
#[test]
fn a_folder_without_pooling_gets_advice() {
    let bare = [("modules.json", Value::Null), ("1_Pooling/config.json", Value::Null)];
    let error = refusal(&bare);
    assert!(error.contains("1_Pooling/config.json") && error.contains("\"pooling\": \"cls\""), "{error}");
    assert_eq!(open(&[("modules.json", Value::Null)]).pooling().unwrap(), Pooling::Mean);
    let folder = changed(&bare);
    let given =
        FolderOptions { pooling: Some(Pooling::Max), normalize: Some(true), ..options(folder.path()) };
    let folder = SentenceFolder::open(&given).unwrap();
    assert_eq!(folder.pooled(&[3.0, -1.0, 1.0, 4.0], 2).unwrap(), [0.6, 0.8]);
}

/// Protects: unsupported modules and poolings, which would give other vectors, are refused by name.
#[test]
fn what_is_not_served_is_named() {
    let module = |path: &str, class: &str| {
        json!({
            "path": path, "type": format!("sentence_transformers.models.{class}")
        })
    };
    let dense =
        json!([module("", "Transformer"), module("1_Pooling", "Pooling"), module("2_Dense", "Dense")]);
    let error = refusal(&[("modules.json", dense)]);
    assert!(
        error.starts_with("modules.json: module 2 is \"sentence_transformers.models.Dense\"; "),
        "{error}"
    );
    for (config, found) in [
        (json!({"pooling_mode": ["cls", "mean"]}), "cls and mean"),
        (json!({"pooling_mode": "weightedmean"}), "weightedmean"),
        (json!({"pooling_mode": 3}), "\"pooling_mode\": 3"),
        (json!({"pooling_mode_mean_tokens": true, "pooling_mode_max_tokens": true}), "mean and max"),
        (json!({"pooling_mode_mean_sqrt_len_tokens": true}), "mean_sqrt_len_tokens"),
        (json!({"pooling_mode_mean_tokens": false}), "none"),
    ] {
        assert_eq!(
            refusal(&[("1_Pooling/config.json", config)]),
            format!(
                "1_Pooling/config.json: found {found}, expected one pooling of cls, mean, max and lasttoken"
            )
        );
    }
    let error = SentenceFolder::open(&options(Path::new("nowhere"))).unwrap_err().to_string();
    assert_eq!(error, "nowhere: is not a folder; expected a sentence-transformers folder");
    assert!(refusal(&[("tokenizer.json", Value::Null)]).starts_with("tokenizer.json: not found; "));
    assert!(refusal(&[("modules.json", json!({"a": 1}))]).starts_with("modules.json: "));
}

/// Protects: modules outside the folder and settings of a wrong type are refused.
#[test]
fn modules_stay_inside_and_settings_have_types() {
    for path in ["../elsewhere", "/etc", "1_Pooling/../../elsewhere"] {
        let listed = json!([
            {"path": "", "type": "sentence_transformers.models.Transformer"},
            {"path": path, "type": "sentence_transformers.models.Pooling"},
        ]);
        let expected = format!("modules.json: module 1 has the path {path:?}; expected a subfolder");
        assert_eq!(refusal(&[("modules.json", listed)]), expected);
    }
    for (file, config, expected) in [
        (
            "1_Pooling/config.json",
            json!({"pooling_mode_mean_tokens": "true"}),
            "pooling_mode_mean_tokens is \"true\"; expected true or false",
        ),
        (
            "1_Pooling/config.json",
            json!({"pooling_mode_mean_tokens": true, "include_prompt": 0}),
            "include_prompt is 0; expected true or false",
        ),
        (
            "config_sentence_transformers.json",
            json!({"default_prompt_name": 3}),
            "default_prompt_name is 3; expected text or null",
        ),
    ] {
        assert_eq!(refusal(&[(file, config)]), format!("{file}: {expected}"));
    }
}

/// Protects: a default prompt is prepended to every text.
#[test]
fn the_default_prompt_is_put_before() {
    let prompts = |name: &str| json!({"default_prompt_name": name, "prompts": {"query": "the dog "}});
    let config = "config_sentence_transformers.json";
    let folder = open(&[(config, prompts("query"))]);
    let plain = open(&[]);
    assert_eq!(folder.tokens(&["runs"]).unwrap(), plain.tokens(&["the dog runs"]).unwrap());
    assert!(refusal(&[(config, prompts("passage"))]).starts_with("config_sentence_transformers.json: "));
}

/// Protects: everything that changes vectors changes the digest, and nothing else does.
#[test]
fn digests_follow_content() {
    let digest = |files: &[(&str, Value)]| open(files).digest(&[]).unwrap();
    let plain = digest(&[]);
    assert_eq!(plain, digest(&[]));
    assert_ne!(plain, digest(&[("1_Pooling/config.json", json!({"pooling_mode": "cls"}))]));
    assert_ne!(plain, digest(&[("sentence_bert_config.json", json!({"max_seq_length": 9}))]));
    assert_ne!(plain, digest(&[("sentence_bert_config.json", json!({"do_lower_case": true}))]));
    let tiny = golden().join("tiny");
    assert_ne!(plain, open(&[]).digest(&[tiny.join("config.json")]).unwrap());
}
