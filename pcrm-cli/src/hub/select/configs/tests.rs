//! Files chosen by the configs of cards.

use super::*;
use crate::hub::select::data_files;

fn list(files: &[&str]) -> Vec<String> {
    files.iter().map(|file| (*file).to_owned()).collect()
}

fn config(name: &str, splits: &[(&str, &[&str])]) -> Config {
    let splits = splits.iter().map(|(name, patterns)| ((*name).to_owned(), list(patterns))).collect();
    Config { name: name.to_owned(), default: false, folder: String::new(), splits: Some(splits) }
}

fn repository() -> Vec<String> {
    list(&[
        ".hidden.jsonl",
        "README.md",
        "code/a.jsonl",
        "code/b.jsonl",
        "code/dataset_info.json",
        "more/test.jsonl",
        "more/train.jsonl",
        "test.jsonl",
        "train.jsonl",
    ])
}

/// Protects: the card's splits take precedence over those implied by names, and the default config over the others.
#[test]
fn splits_of_the_card_go_first() -> Result<()> {
    let all = repository();
    let main =
        Config { default: true, ..config("main", &[("train", &["code/*"]), ("test", &["train.jsonl"])]) };
    let more = Config { folder: "./more/".to_owned(), splits: None, ..config("more", &[]) };
    let code = config("code", &[("eval", &["code/b.jsonl"])]);
    let configs = [more, main, code];
    let code = list(&["code/a.jsonl", "code/b.jsonl"]);
    for (part, expected) in [
        (None, code.clone()),
        (Some("train"), code.clone()),
        (Some("test"), list(&["train.jsonl"])),
        (Some("main"), code.clone()),
        (Some("main/test"), list(&["train.jsonl"])),
        (Some("more"), list(&["more/train.jsonl"])),
        (Some("more/test"), list(&["more/test.jsonl"])),
        // A config takes precedence over a folder of its name, and a file over both.
        (Some("code"), list(&["code/b.jsonl"])),
        (Some("code/a.jsonl"), list(&["code/a.jsonl"])),
        (Some("test.jsonl"), list(&["test.jsonl"])),
    ] {
        assert_eq!(data_files(&all, &configs, part)?, expected, "{part:?}");
    }
    let said = data_files(&all, &configs, Some("eval")).unwrap_err().to_string();
    assert!(
        said.contains("\"eval\" is not a split") && said.contains("main (train, test), code (eval)"),
        "{said}"
    );
    assert_eq!(data_files(&all, &configs[1..2], Some("code/"))?, code);
    Ok(())
}

/// Protects: the default config is the marked one, the one named default, or the only one; otherwise one must be
/// named.
#[test]
fn one_of_several_configs_must_be_named() -> Result<()> {
    let all = repository();
    let train = |name: &str, file: &str| config(name, &[("train", &[file])]);
    let (a, b) = (train("a", "code/a.jsonl"), train("b", "code/b.jsonl"));
    assert_eq!(data_files(&all, std::slice::from_ref(&b), None)?, list(&["code/b.jsonl"]));
    let named = Config { name: "default".to_owned(), ..b.clone() };
    assert_eq!(data_files(&all, &[a.clone(), named.clone()], None)?, list(&["code/b.jsonl"]));
    let marked = Config { default: true, ..a.clone() };
    for configs in [[a.clone(), b.clone()], [marked, named]] {
        let said = data_files(&all, &configs, None).unwrap_err().to_string();
        let names = format!("name one of {}, {} (org/name:config", configs[0].name, configs[1].name);
        assert!(said.contains("no single default") && said.contains(&names), "{said}");
        assert_eq!(data_files(&all, &configs, Some("a"))?, list(&["code/a.jsonl"]));
    }
    // Both have such a split.
    assert!(data_files(&all, &[a, b], Some("train")).is_err());
    Ok(())
}

/// Protects: without `train`, a split must be named if there are several.
#[test]
fn one_of_several_splits_of_a_config_must_be_named() -> Result<()> {
    let all = repository();
    let two = config("two", &[("train_sft", &["train.jsonl"]), ("test_sft", &["test.jsonl"])]);
    let one = Config { default: true, ..config("one", &[("evaluation", &["test.jsonl"])]) };
    assert_eq!(data_files(&all, std::slice::from_ref(&one), None)?, list(&["test.jsonl"]));
    let said = data_files(&all, std::slice::from_ref(&two), None).unwrap_err().to_string();
    assert!(said.contains("name one of train_sft, test_sft (org/name:train_sft)"), "{said}");
    let said = data_files(&all, &[one, two], Some("two")).unwrap_err().to_string();
    assert!(said.contains("name one of two/train_sft, two/test_sft (org/name:two/train_sft)"), "{said}");
    Ok(())
}

/// Protects: files are in the order of the patterns, each once, and only data files; a path without a file is an error.
#[test]
fn patterns_give_data_files_once() -> Result<()> {
    let all = repository();
    let of = |patterns: &[&str]| {
        data_files(&all, &[config("main", &[("train", patterns)])], None)
            .map_err(|error| format!("{error:#}"))
    };
    assert_eq!(of(&["train.jsonl", "*.jsonl"]), Ok(list(&["train.jsonl", "test.jsonl"])));
    assert_eq!(of(&["code/*", "none/*"]), Ok(list(&["code/a.jsonl", "code/b.jsonl"])));
    assert_eq!(of(&["code/dataset_info.json"]), Ok(list(&["code/dataset_info.json"])));
    let place = "the split train of the config main in the data set's card";
    for (patterns, said) in [
        (&["code/*", "none.jsonl"][..], "no data file is named \"none.jsonl\""),
        (&["code"], "no data file is named \"code\""),
        (&["README.md"], "no data file is named \"README.md\""),
        (&["none/*", "no.*"], "no data file is one of none/*, no.*"),
        (&["../*"], "not inside the repository"),
        (&[], "no data file is one of nothing"),
    ] {
        let error = of(patterns).unwrap_err();
        assert!(error.contains(place) && error.contains(said), "{error}");
    }
    Ok(())
}
