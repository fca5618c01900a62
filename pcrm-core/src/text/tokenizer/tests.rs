//! Tokenizers of checkpoints compared with transformers.

use serde_json::{Value as Json, json};
use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use super::*;
use crate::text::special::SpecialTokens;

fn golden(name: &str) -> std::path::PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/text")).join(name)
}

fn read(path: &Path) -> Json {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Copies the golden tokenizer `plain` with some files replaced, or removed if null.
fn changed(files: &[(&str, Json)]) -> (tempfile::TempDir, Result<Tokenizer>) {
    let dir = tempfile::tempdir().unwrap();
    Tokenizer::from_dir(&golden("plain")).unwrap().save_to(dir.path()).unwrap();
    for (name, content) in files {
        let path = dir.path().join(name);
        match content {
            Json::Null => std::fs::remove_file(&path).unwrap(),
            content => std::fs::write(&path, content.to_string()).unwrap(),
        }
    }
    let tokenizer = Tokenizer::from_dir(dir.path());
    (dir, tokenizer)
}

fn texts(tokenizer: &Tokenizer) -> [Option<&str>; 3] {
    [tokenizer.bos(), tokenizer.eos(), tokenizer.pad()].map(|token| token.map(|token| token.text.as_str()))
}

/// Ids of texts equal those of transformers' `tokenizer(text)`; the file's padding and truncation are off.
#[test]
fn ids_are_those_of_transformers() {
    let cases = read(&golden("tokenize.json"));
    for case in cases.as_array().unwrap() {
        let tokenizer = Tokenizer::from_dir(&golden(case["tokenizer"].as_str().unwrap())).unwrap();
        let expected: Vec<u32> = serde_json::from_value(case["ids"].clone()).unwrap();
        let text = case["text"].as_str().unwrap();
        assert_eq!(tokenizer.encode(text).unwrap(), expected, "{case}");
    }
    assert!(cases.as_array().unwrap().len() == 21);
}

/// Protects: texts get the BOS of the post-processor regardless of how they begin, like `tokenizer(text)`.
#[test]
fn texts_get_the_bos_of_the_post_processor() {
    let tokenizer = Tokenizer::from_dir(&golden("bos")).unwrap();
    let bos = tokenizer.bos().unwrap().id;
    let hi = tokenizer.encode_rendered("Hi").unwrap();
    assert_eq!(tokenizer.encode("Hi").unwrap(), [vec![bos], hi.clone()].concat());
    assert_eq!(tokenizer.encode("<s>Hi").unwrap(), [vec![bos, bos], hi.clone()].concat());
    let plain = Tokenizer::from_dir(&golden("plain")).unwrap();
    assert_eq!(plain.encode("<s><s>Hi").unwrap(), [vec![bos, bos], hi].concat());
}

/// Protects: special tokens come from the file that takes precedence in transformers; the ids of the model's
/// configuration apply if no tokenizer file names one, but not in chat templates.
#[test]
fn special_tokens_are_found_wherever_they_are() {
    let object = json!({"eos_token": {"__type": "AddedToken", "content": "</s>"}, "bos_token": null});
    let (_dir, tokenizer) = changed(&[
        ("tokenizer_config.json", object),
        ("special_tokens_map.json", json!({"pad_token": {"content": "<pad>"}, "eos_token": "<s>"})),
    ]);
    assert_eq!(texts(&tokenizer.unwrap()), [None, Some("<s>"), Some("<pad>")]);

    let template = "[{{ bos_token }}|{{ eos_token }}|{{ pad_token }}]";
    let (_dir, tokenizer) = changed(&[
        ("tokenizer_config.json", json!({"bos_token": null, "chat_template": template})),
        ("chat_template.jinja", Json::Null),
        ("config.json", json!({"bos_token_id": 2, "eos_token_id": null})),
        ("generation_config.json", json!({"eos_token_id": [4, 0], "pad_token_id": 1})),
    ]);
    let tokenizer = tokenizer.unwrap();
    assert_eq!(texts(&tokenizer), [Some("<s>"), Some("<|im_end|>"), Some("<pad>")]);
    assert_eq!(tokenizer.eos().unwrap().id, 4);
    assert_eq!(tokenizer.render_chat(&[Message::new("user", "Hi")], false).unwrap(), "[||]");

    let (_dir, tokenizer) = changed(&[("tokenizer_config.json", Json::Null)]);
    assert_eq!(texts(&tokenizer.unwrap()), [None, None, None]);
    let (_dir, tokenizer) = changed(&[("tokenizer_config.json", json!({"eos_token": {"content": "</s>"}}))]);
    assert!(tokenizer.unwrap_err().to_string().contains("eos_token is {"));
}

/// Tokens that only the configuration adds are separate tokens with the ids of transformers.
#[test]
fn added_tokens_of_the_configuration_count() {
    let (_dir, tokenizer) = changed(&[(
        "tokenizer_config.json",
        json!({"eos_token": "<end>", "added_tokens_decoder": {
            "385": {"content": "<b>", "special": false}, "384": {"content": "<end>", "special": true}}}),
    )]);
    let tokenizer = tokenizer.unwrap();
    let ids = tokenizer.encode("<b><end>").unwrap();
    assert_eq!((ids.as_slice(), tokenizer.vocab_size()), ([385, 384].as_slice(), 386));
    assert_eq!(tokenizer.eos().unwrap().id, 384);
    assert_eq!(tokenizer.decode(&ids).unwrap(), "<b><end>");
    assert_eq!(tokenizer.decode_plain(&ids).unwrap(), "<b>");
}

/// Only the post-processor adds special tokens to a text: transformers 5 ignores `add_bos_token` beside a
/// tokenizer.json, with or without a post-processor.
#[test]
fn the_configuration_does_not_dress_texts() {
    let config =
        json!({"eos_token": "</s>", "bos_token": "<s>", "add_bos_token": true, "add_eos_token": true});
    let mut file = read(&golden("plain/tokenizer.json"));
    file["post_processor"] = Json::Null;
    let (_dir, tokenizer) = changed(&[("tokenizer_config.json", config), ("tokenizer.json", file)]);
    assert_eq!(tokenizer.unwrap().encode("Hi").unwrap(), [44, 77]);
}

/// The locations and formats of the template; an unusable one is an error only for conversations.
#[test]
fn chat_templates_are_found_wherever_they_stand() {
    let turns = [Message::new("user", "Hi")];
    let said =
        |tokenizer: &Tokenizer| tokenizer.render_chat(&turns, false).map_err(|error| error.to_string());
    let template = |name: &str, text: &str| json!({"name": name, "template": text});
    let named = |name: &str| json!({"chat_template": [template("tools", "T"), template(name, "D")]});
    let without_file = ("chat_template.jinja", Json::Null);

    let (_dir, tokenizer) = changed(&[("tokenizer_config.json", named("default")), without_file.clone()]);
    assert_eq!(said(&tokenizer.unwrap()), Ok("D".to_owned()));
    let (_dir, tokenizer) = changed(&[("tokenizer_config.json", named("default"))]);
    assert_eq!(said(&tokenizer.unwrap()), Ok("<|im_start|>user\nHi<|im_end|>\n".to_owned()), "the file wins");
    let (_dir, tokenizer) = changed(&[("tokenizer_config.json", named("rag")), without_file.clone()]);
    assert!(said(&tokenizer.unwrap()).unwrap_err().contains("tools, rag"));
    let (_dir, tokenizer) =
        changed(&[("tokenizer_config.json", json!({"chat_template": "{% if %}"})), without_file.clone()]);
    let tokenizer = tokenizer.unwrap();
    assert!(!tokenizer.has_chat_template());
    assert!(said(&tokenizer).unwrap_err().contains("chat_template:1"));
    let dict = json!({"chat_template": {"rag": "R", "default": "D"}});
    let (_dir, tokenizer) = changed(&[("tokenizer_config.json", dict), without_file.clone()]);
    assert_eq!(said(&tokenizer.unwrap()), Ok("D".to_owned()));
    let (_dir, tokenizer) = changed(&[("tokenizer_config.json", json!({})), without_file]);
    assert!(said(&tokenizer.unwrap()).unwrap_err().contains("has no chat template"));
}

/// Protects: saved files equal the files read, byte for byte, including vocabularies and additional
/// templates, but no weights or other files.
#[test]
fn files_are_saved_unchanged() {
    let (from, _) = changed(&[
        ("config.json", json!({"model_type": "llama"})),
        ("special_tokens_map.json", json!({"pad_token": "<pad>"})),
        ("README.md", json!("no")),
        ("vocab.json", json!({})),
        ("tokenizer_weights.safetensors", json!("no")),
    ]);
    for name in ["spiece.model", "tokenizer.model", "tekken.json", "source.spm", "cl100k.tiktoken"] {
        std::fs::write(from.path().join(name), [0xff, 0, 1]).unwrap();
    }
    std::fs::create_dir(from.path().join("additional_chat_templates")).unwrap();
    std::fs::write(from.path().join("additional_chat_templates/rag.jinja"), "R").unwrap();
    let tokenizer = Tokenizer::from_dir(from.path()).unwrap();
    let to = tempfile::tempdir().unwrap();
    let to = to.path().join("new/folder");
    tokenizer.save_to(&to).unwrap();
    let copied = tempfile::tempdir().unwrap();
    copy_files(from.path(), copied.path()).unwrap();
    let mut names: Vec<&str> = tokenizer.files().map(|(name, _)| name).collect();
    for name in &names {
        let [want, saved, copied] =
            [from.path(), &to, copied.path()].map(|dir| std::fs::read(dir.join(name)).unwrap());
        assert_eq!((&saved, &copied), (&want, &want), "{name}");
    }
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "additional_chat_templates/rag.jinja",
            "chat_template.jinja",
            "cl100k.tiktoken",
            "source.spm",
            "special_tokens_map.json",
            "spiece.model",
            "tekken.json",
            "tokenizer.json",
            "tokenizer.model",
            "tokenizer_config.json",
            "vocab.json"
        ]
    );
    assert!(!to.join("README.md").exists() && !to.join("config.json").exists());
}

/// A folder without a tokenizer, and files of another format, are errors that name the file.
#[test]
fn missing_and_broken_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let missing = Tokenizer::from_dir(dir.path()).unwrap_err().to_string();
    assert!(missing.contains("tokenizer.json: not found; expected"), "{missing}");
    std::fs::write(dir.path().join("tokenizer.model"), "x").unwrap();
    let other = Tokenizer::from_dir(dir.path()).unwrap_err().to_string();
    assert!(other.contains("not found (the folder has tokenizer.model)"), "{other}");
    let nowhere = Tokenizer::from_dir(&dir.path().join("none")).unwrap_err().to_string();
    assert!(nowhere.contains("none: there is no such folder; expected"), "{nowhere}");
    let (_dir, broken) = changed(&[("tokenizer.json", json!({"model": 3}))]);
    assert!(broken.unwrap_err().to_string().contains("tokenizer.json: not a tokenizer"));
    for (content, expected) in [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 7\n", "is a Git LFS pointer"),
        ("\n<!DOCTYPE html><html>", "is a page of HTML"),
    ] {
        for name in ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"] {
            let (dir, _) = changed(&[]);
            std::fs::write(dir.path().join(name), content).unwrap();
            let said = Tokenizer::from_dir(dir.path()).unwrap_err().to_string();
            assert!(said.contains(&format!("{name}: {expected}")), "{said}");
        }
    }
    let (_dir, broken) = changed(&[("tokenizer_config.json", json!([]))]);
    assert!(broken.unwrap_err().to_string().contains("tokenizer_config.json: "));
}

/// A tokenizer created in memory equals one read from its own files.
#[test]
fn made_tokenizers_survive_saving() {
    let vocab =
        [("a", 0), ("b", 1), ("ab", 2), ("</s>", 3)].map(|(text, id): (&str, u32)| (text.to_owned(), id));
    let model =
        BPE::builder().vocab_and_merges(vocab, vec![("a".to_owned(), "b".to_owned())]).build().unwrap();
    let mut hf = HfTokenizer::new(model);
    hf.with_pre_tokenizer(Some(ByteLevel::default().add_prefix_space(false)));
    hf.with_decoder(Some(ByteLevel::default()));
    let special = SpecialTokens { eos: Some("</s>".to_owned()), ..SpecialTokens::default() };
    let made =
        Tokenizer::from_parts(&hf, &special, Some("{{ messages[0].content }}{{ eos_token }}")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    made.save_to(dir.path()).unwrap();
    let read = Tokenizer::from_dir(dir.path()).unwrap();
    for tokenizer in [made, read] {
        let text = tokenizer.render_chat(&[Message::new("user", "aba")], false).unwrap();
        assert_eq!(text, "aba</s>");
        assert_eq!(tokenizer.encode(&text).unwrap(), [2, 0, 3]);
        assert_eq!(tokenizer.vocab_size(), 4);
        assert_eq!(tokenizer.eos(), Some(&SpecialToken { text: "</s>".to_owned(), id: 3 }));
    }
}

/// Real vocabularies compared with ids from the original library, if this machine has them.
#[test]
fn real_vocabularies_agree() {
    let Some(data) = crate::data::shared_data() else { return };
    let cases = read(&data.join("tokenizer_golden_llamacpp/hh_helpful_first20_token_ids.json"));
    for (key, folder) in [("neox20b", "tokenizer_neox20b"), ("minimind", "tokenizer_minimind")] {
        let tokenizer = Tokenizer::from_dir(&data.join(folder)).unwrap();
        for case in cases.as_array().unwrap() {
            let expected: Vec<u32> = serde_json::from_value(case[key].clone()).unwrap();
            assert_eq!(
                tokenizer.encode_rendered(case["text"].as_str().unwrap()).unwrap(),
                expected,
                "{folder}"
            );
        }
    }
    let minimind = Tokenizer::from_dir(&data.join("tokenizer_minimind")).unwrap();
    assert_eq!(texts(&minimind), [Some("<|im_start|>"), Some("<|im_end|>"), Some("<|endoftext|>")]);
    let chat = minimind.render_chat(&[Message::new("user", "Hi")], true).unwrap();
    assert!(chat.contains("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"), "{chat}");
    let stories = Tokenizer::from_dir(&data.join("ckpt_stories260k")).unwrap();
    assert_eq!(stories.vocab_size(), 512);
    assert_eq!(texts(&stories), [Some("<s>"), Some("</s>"), None]);
}

/// llama.cpp's test strings for two vocabularies: spaces, scripts, numbers, emoji; one line of ids per
/// string.
#[test]
fn llama_cpps_vectors_agree() {
    let Some(data) = crate::data::shared_data() else { return };
    let gpt2 = data.join("tokenizer_gpt2");
    let file = |name: &str| gpt2.join(name).to_str().unwrap().to_owned();
    let mut hf = HfTokenizer::new(BPE::from_file(&file("vocab.json"), &file("merges.txt")).build().unwrap());
    hf.with_pre_tokenizer(Some(ByteLevel::default().add_prefix_space(false)));
    let gpt2 = Tokenizer::from_parts(&hf, &SpecialTokens::default(), None).unwrap();
    let neox = Tokenizer::from_dir(&data.join("tokenizer_neox20b")).unwrap();
    // MPT uses GPT-NeoX's tokenizer.
    for (name, tokenizer) in [("gpt-2", gpt2), ("mpt", neox)] {
        let read = |ending: &str| {
            std::fs::read_to_string(data.join(format!("tokenizer_golden_llamacpp/{name}.{ending}"))).unwrap()
        };
        let (strings, ids) = (read("inp"), read("out"));
        let strings: Vec<&str> = strings.split("\n__ggml_vocab_test__\n").collect();
        let mut checked = 0;
        for (text, line) in strings.iter().zip(ids.lines()) {
            let expected: Vec<u32> = line.split_whitespace().map(|id| id.parse().unwrap()).collect();
            assert_eq!(tokenizer.encode_rendered(text).unwrap(), expected, "{name} on {text:?}");
            checked += 1;
        }
        assert!(
            checked > 40 && ids.lines().count() == checked,
            "{name}: {checked} of {}",
            ids.lines().count()
        );
    }
}
