//! Folders of every class compared with transformers; `tests/golden/text/make_classes.py` generates the
//! numbers.

use std::path::Path;

use serde_json::{Value as Json, json};

use crate::data::conversation::Message;
use crate::text::Tokenizer;

fn golden(name: &str) -> Json {
    let dir = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/text"));
    serde_json::from_slice(&std::fs::read(dir.join(name)).unwrap()).unwrap()
}

/// Loads the folder of a case.
fn loaded(case: &Json) -> crate::Result<Tokenizer> {
    let dir = tempfile::tempdir().unwrap();
    let mut base = golden(&format!("bases/{}.json", case["base"].as_str().unwrap()));
    for (key, value) in case["patch"].as_object().into_iter().flatten() {
        base[key] = value.clone();
    }
    std::fs::write(dir.path().join("tokenizer.json"), base.to_string()).unwrap();
    for (name, content) in case["files"].as_object().unwrap() {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content.as_str().map_or_else(|| content.to_string(), str::to_owned)).unwrap();
    }
    Tokenizer::from_dir(dir.path())
}

/// Protects: the class of every folder and the ids of every text, with and without special tokens, and of
/// conversations equal those of transformers; unsupported classes are refused by name.
#[test]
fn folders_give_the_ids_of_transformers() {
    let all = golden("classes.json");
    let texts: Vec<String> = serde_json::from_value(all["texts"].clone()).unwrap();
    let turns: Vec<Vec<Message>> = serde_json::from_value(all["conversations"].clone()).unwrap();
    let (mut wrong, mut served) = (Vec::new(), 0);
    for case in all["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let tokenizer = match loaded(case) {
            Ok(tokenizer) => tokenizer,
            Err(error) => {
                let class = case["class"].as_str().unwrap_or_default();
                let named = case["refused"] == true && error.to_string().contains(class);
                if !named && case["error"].is_null() {
                    wrong.push(format!("{name}: {error}"));
                }
                continue;
            }
        };
        served += 1;
        if case["refused"] == true || case["class"] != tokenizer.class() {
            wrong.push(format!("{name}: {} instead of {}", tokenizer.class(), case["class"]));
        }
        let rendered = |turns: &Vec<Message>| {
            tokenizer.render_chat(turns, false).and_then(|text| tokenizer.encode_rendered(&text))
        };
        let ours = [
            ("texts", texts.iter().map(|text| tokenizer.encode(text)).collect::<Vec<_>>()),
            ("bare", texts.iter().map(|text| tokenizer.encode_rendered(text)).collect()),
            ("conversations", turns.iter().map(rendered).collect()),
        ];
        for (part, ours) in ours {
            for (at, ids) in ours.into_iter().enumerate() {
                let ids = ids.map_or(Json::Null, |ids| json!(ids));
                if ids != case[part][at] {
                    wrong.push(format!("{name}: {part} {at}: {ids} instead of {}", case[part][at]));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(served, 276);
}

/// Protects: a text that Code Llama's class would fill in is refused, and others are accepted.
#[test]
fn infilling_is_refused() {
    let config = json!({"tokenizer_class": "CodeLlamaTokenizer"});
    let case = json!({"base": "sentence", "files": {"tokenizer_config.json": config}});
    let tokenizer = loaded(&case).unwrap();
    let said = tokenizer.encode("def f(): <FILL_ME>").unwrap_err().to_string();
    assert!(said.contains("\"<FILL_ME>\", which the class CodeLlamaTokenizer fills in"), "{said}");
    assert!(tokenizer.encode("def f(): pass").is_ok());
}

/// Protects: settings of a type that the class does not accept are refused by name; transformers also fails
/// on them.
#[test]
fn settings_of_another_type_are_refused() {
    let gpt2 = json!("GPT2Tokenizer");
    for (settings, expected) in [
        (
            json!({"tokenizer_class": gpt2, "add_prefix_space": 1}),
            "add_prefix_space is 1; expected true or false",
        ),
        (
            json!({"tokenizer_class": 3}),
            "tokenizer_class of tokenizer_config.json: is 3; expected a class name",
        ),
        (json!({"pad_token": 3}), "pad_token is 3; expected text or a token"),
        (json!({"extra_special_tokens": "x"}), "extra_special_tokens is \"x\"; expected a list of tokens"),
        (
            json!({"extra_special_tokens": [{"content": "x"}]}),
            "extra_special_tokens is {\"content\":\"x\"}; expected text or",
        ),
        (
            json!({"added_tokens_decoder": {"x": {"content": "y"}}}),
            "added_tokens_decoder: \"x\" is not an id",
        ),
        (
            json!({"added_tokens_decoder": {"7": {"content": 1}}}),
            "added_tokens_decoder: 7: \"content\" is 1; expected text",
        ),
        (json!({"split_special_tokens": null}), "split_special_tokens is null; expected true or false"),
        (json!({"truncation_side": "middle"}), "truncation_side is \"middle\"; expected left or right"),
        (
            json!({"tokenizer_class": "Mine", "auto_map": {"AutoTokenizer": ["m.Mine", null]}}),
            "auto_map: names a tokenizer class in the folder's own Python code",
        ),
        (json!({"tokenizer_class": "XLMRobertaTokenizer"}), "the class needs a unigram model"),
    ] {
        let case = json!({"base": "bytes", "files": {"tokenizer_config.json": settings}});
        let said = loaded(&case).unwrap_err().to_string();
        assert!(said.contains(expected), "{said}");
    }
    let case = json!({"base": "bytes", "files": {"config.json": {"tokenizer_class": "Mine"}}});
    let said = loaded(&case).unwrap_err().to_string();
    assert!(said.contains("tokenizer_class of config.json: transformers has no class \"Mine\""), "{said}");
}

/// Protects: `fix_mistral_regex` splits words at changes of case, only in large vocabularies of old Mistral
/// checkpoints.
#[test]
fn mistrals_pattern_is_mended_where_transformers_mends_it() {
    let mut vocab = serde_json::Map::new();
    for text in ["A", "B", "a", "b", "Ab", "aB"] {
        vocab.insert(text.to_owned(), json!(vocab.len()));
    }
    for at in vocab.len()..100_001 {
        vocab.insert(format!("<{at}>"), json!(at));
    }
    let patch = json!({
        "model": {"type": "BPE", "vocab": vocab, "merges": [["A", "b"], ["a", "B"]]},
        "added_tokens": [],
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"String": "-"}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}
        ]},
    });
    let ids = |settings: Json, config: Json| {
        let files = json!({"tokenizer_config.json": settings, "config.json": config});
        loaded(&json!({"base": "bytes", "patch": patch, "files": files})).unwrap().encode("aB").unwrap()
    };
    let (fix, mistral) = (json!({"fix_mistral_regex": true}), json!({"model_type": "mistral"}));
    assert_eq!(ids(fix.clone(), mistral.clone()), [2, 1]);
    assert_eq!(ids(json!({}), mistral), [5]);
    assert_eq!(ids(fix.clone(), json!({"model_type": "mistral", "transformers_version": "5.1.0"})), [5]);
    assert_eq!(ids(fix, json!({"model_type": "llama"})), [5]);
}
