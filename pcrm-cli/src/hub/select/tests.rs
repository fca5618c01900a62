//! Files chosen from the lists of repositories.

use super::*;

fn list(files: &[&str]) -> Vec<String> {
    files.iter().map(|file| (*file).to_owned()).collect()
}

#[test]
fn splits_follow_from_names() {
    for (file, name) in [
        ("train.jsonl", Some("train")),
        ("data/train-00000-of-00002.parquet", Some("train")),
        ("data/train_prefs-00000-of-00001-a4b2c5.parquet", Some("train_prefs")),
        ("helpful-base/test.jsonl.gz", Some("test")),
        ("semi-hard.json.zst", Some("semi-hard")),
        ("default/train/0000.parquet", Some("train")),
        ("testing/part-1.jsonl", Some("test")),
        ("votes.csv", Some("votes")),
        ("train/0.ndjson.gz", Some("train")),
        ("test/train.jsonl", Some("train")),
        ("train/test_prefs.jsonl", Some("test_prefs")),
        ("train_data/0000.parquet", Some("train")),
        ("eval-2/train-data/0000.parquet", Some("train")),
        ("train/train-test/a.jsonl", Some("train")),
        ("contrasting/a.jsonl", Some("a")),
        ("README.md", None),
        (".jsonl", None),
    ] {
        assert_eq!(split(file), name, "{file}");
    }
}

#[test]
fn a_part_is_a_file_a_folder_or_a_split() -> Result<()> {
    let hh = list(&[
        ".gitattributes",
        "a/test.jsonl.gz",
        "a/train.jsonl.gz",
        "b/test.jsonl.gz",
        "b/train.jsonl.gz",
        "dataset_infos.json",
    ]);
    let train = list(&["a/train.jsonl.gz", "b/train.jsonl.gz"]);
    assert_eq!(data_files(&hh, &[], None)?, train);
    assert_eq!(data_files(&hh, &[], Some("train"))?, train);
    assert_eq!(data_files(&hh, &[], Some("a"))?, list(&["a/test.jsonl.gz", "a/train.jsonl.gz"]));
    assert_eq!(data_files(&hh, &[], Some("b/test"))?, list(&["b/test.jsonl.gz"]));
    assert_eq!(data_files(&hh, &[], Some("b/test.jsonl.gz"))?, list(&["b/test.jsonl.gz"]));
    let error = data_files(&hh, &[], Some("validation")).unwrap_err().to_string();
    assert!(error.contains("test, train"), "{error}");
    Ok(())
}

#[test]
fn one_of_several_splits_must_be_named() -> Result<()> {
    let files = list(&["data/test_prefs-00000-of-00001.parquet", "data/train_prefs-00000-of-00001.parquet"]);
    let error = data_files(&files, &[], None).unwrap_err().to_string();
    assert!(error.contains("test_prefs, train_prefs"), "{error}");
    assert_eq!(data_files(&files, &[], Some("train_prefs"))?, files[1..]);
    assert_eq!(data_files(&files[..1], &[], None)?, files[..1]);
    assert!(data_files(&list(&["README.md"]), &[], None).is_err());
    Ok(())
}

#[test]
fn of_a_model_only_what_is_read_is_fetched() -> Result<()> {
    let single =
        list(&["README.md", "config.json", "model.safetensors", "pytorch_model.bin", "tokenizer.json"]);
    let wanted = list(&["config.json", "tokenizer.json"]);
    assert_eq!(model_files(&single, Weights::Read)?, wanted);
    assert_eq!(weight_files(&single, Path::new("none"))?, list(&["model.safetensors"]));

    let mut sharded = wanted.clone();
    sharded.extend(list(&["consolidated.safetensors", "m-1.safetensors", "m-2.safetensors", INDEX]));
    assert!(model_files(&sharded, Weights::Read)?.contains(&INDEX.to_owned()));
    assert_eq!(model_files(&sharded, Weights::Drawn)?, wanted);
    let folder = tempfile::tempdir()?;
    let index = r#"{"weight_map": {"a": "m-2.safetensors", "b": "m-1.safetensors", "c": "m-2.safetensors"}}"#;
    fs::write(folder.path().join(INDEX), index)?;
    assert_eq!(weight_files(&sharded, folder.path())?, list(&["m-1.safetensors", "m-2.safetensors"]));
    sharded.retain(|file| file != "m-2.safetensors");
    assert!(weight_files(&sharded, folder.path()).is_err());
    assert!(weight_files(&wanted, folder.path()).is_err());
    Ok(())
}
