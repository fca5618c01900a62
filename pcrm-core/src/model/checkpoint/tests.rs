use std::fs;

use safetensors::tensor::TensorView;

use super::*;

fn file(tensors: &[(&str, Dtype, usize)]) -> Vec<u8> {
    let bytes: Vec<Vec<u8>> =
        tensors.iter().map(|(_, dtype, count)| vec![0; count * dtype.bitsize() / 8]).collect();
    let views = tensors.iter().zip(&bytes).map(|((name, dtype, count), bytes)| {
        (*name, TensorView::new(*dtype, vec![*count], bytes).unwrap_or_else(|error| panic!("{error}")))
    });
    safetensors::serialize(views, None).unwrap_or_else(|error| panic!("{error}"))
}

fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
    for (name, bytes) in files {
        fs::write(dir.path().join(name), bytes).unwrap_or_else(|error| panic!("{error}"));
    }
    dir
}

/// Protects: tensors of any type load with a file and floats are usable; others are refused on use, by
/// name and type.
#[test]
fn only_tensors_that_are_used_must_be_floats() -> Result<()> {
    let others = [
        Dtype::BOOL,
        Dtype::U8,
        Dtype::I8,
        Dtype::I16,
        Dtype::U16,
        Dtype::I32,
        Dtype::U32,
        Dtype::I64,
        Dtype::U64,
        Dtype::F8_E4M3,
        Dtype::F8_E5M2,
        Dtype::F8_E8M0,
        Dtype::F4,
    ];
    for other in others {
        let bytes = file(&[("float", Dtype::F64, 3), ("half", Dtype::BF16, 2), ("other", other, 4)]);
        let dir = folder(&[(SINGLE, &bytes)]);
        let checkpoint = Checkpoint::open(dir.path())?;
        assert_eq!(checkpoint.names().collect::<Vec<_>>(), ["float", "half", "other"]);
        assert_eq!(checkpoint.read("float")?.to_f32(), [0.0; 3]);
        assert_eq!(checkpoint.read("half")?.shape(), [2]);
        let error = checkpoint.read("other").map(drop).map_err(|error| error.to_string()).unwrap_err();
        assert!(error.contains(&format!("other has elements of type {other:?}")), "{error}");
    }
    Ok(())
}

/// Protects: if two shards hold a tensor the index decides, and a tensor missing from its shard is
/// recorded.
#[test]
fn the_index_places_tensors() -> Result<()> {
    let (one, two) = (file(&[("a", Dtype::F32, 1)]), file(&[("a", Dtype::F32, 2), ("b", Dtype::F32, 1)]));
    let index = br#"{"weight_map": {"a": "1.safetensors", "b": "2.safetensors", "c": "2.safetensors"}}"#;
    let dir = folder(&[(INDEX, index), ("1.safetensors", &one), ("2.safetensors", &two)]);
    let checkpoint = Checkpoint::open(dir.path())?;
    assert_eq!(checkpoint.shape("a"), Some(&[1][..]));
    assert_eq!(checkpoint.astray("c"), Some("2.safetensors"));
    assert_eq!((checkpoint.astray("b"), checkpoint.contains("c")), (None, false));
    Ok(())
}

/// Protects: the digest is that of the tensors: the same in one file and in shards, and another one for another value,
/// name, type or shape.
#[test]
fn the_digest_is_that_of_the_tensors() -> Result<()> {
    let digest = |files: &[(&str, &[u8])]| -> Result<String> {
        let dir = folder(files);
        Checkpoint::open(dir.path())?.digest()
    };
    // More than one piece of a file.
    let large = 300_000;
    let mut whole = file(&[("a", Dtype::F32, 1), ("b", Dtype::F32, large)]);
    let want = digest(&[(SINGLE, &whole)])?;
    let (one, two) = (file(&[("a", Dtype::F32, 1)]), file(&[("b", Dtype::F32, large)]));
    let index = br#"{"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}"#;
    assert_eq!(digest(&[(INDEX, index), ("1.safetensors", &one), ("2.safetensors", &two)])?, want);
    for (name, dtype, count) in
        [("c", Dtype::F32, large), ("b", Dtype::I32, large), ("b", Dtype::F32, large + 1)]
    {
        let other = file(&[("a", Dtype::F32, 1), (name, dtype, count)]);
        assert_ne!(digest(&[(SINGLE, &other)])?, want, "{name} {dtype:?} {count}");
    }
    if let Some(last) = whole.last_mut() {
        *last = 1;
    }
    assert_ne!(digest(&[(SINGLE, &whole)])?, want);
    Ok(())
}

/// Protects: damaged files and files of another format are refused by name.
#[test]
fn damage_is_named() {
    let whole = file(&[("a", Dtype::F32, 9)]);
    for (bytes, said) in [
        (&whole[..whole.len() - 3], "not a whole safetensors file"),
        (&whole[..20], "not a whole safetensors file"),
        (&[&whole[..], b"more"].concat(), "not a whole safetensors file"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS"),
        (b"<!DOCTYPE html><title>404</title>", "HTML"),
        (b"abc", "not a whole safetensors file"),
    ] {
        let dir = folder(&[(SINGLE, bytes)]);
        let error = Checkpoint::open(dir.path()).map(drop).map_err(|error| error.to_string()).unwrap_err();
        assert!(error.contains(said) && error.contains(SINGLE), "{error}");
    }
    let dir = folder(&[("config.json", b"{}"), ("pytorch_model.bin", b"x")]);
    let error = Checkpoint::open(dir.path()).map(drop).map_err(|error| error.to_string()).unwrap_err();
    assert!(error.contains("found pytorch_model.bin"), "{error}");
    let index = br#"{"weight_map": {"a": "../x.safetensors"}}"#;
    let dir = folder(&[(INDEX, index)]);
    let error = Checkpoint::open(dir.path()).map(drop).map_err(|error| error.to_string()).unwrap_err();
    assert!(error.contains("weight_map.a"), "{error}");
}
