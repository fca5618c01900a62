use std::ffi::OsString;

use super::*;
use crate::command;

fn parsed(line: &str) -> Arguments {
    Arguments::parse(&command(), line.split_whitespace().map(OsString::from).collect()).unwrap()
}

fn needed(line: &str) -> Option<String> {
    need(&parsed(line).matches)
}

/// Protects: a command that computes on a backend of this program stays in it, and so does one that opens none.
#[cfg(feature = "candle")]
#[test]
fn commands_that_need_no_other_backend_stay() {
    for line in [
        "pcrm reward --model m --data d --output o",
        "pcrm reward --backend candle --model m --data d --output o",
        "pcrm quickstart",
        "pcrm merge adapter --output o",
        "pcrm data convert --data d --to question --output o",
        "pcrm constraint list",
        "pcrm report run --output o",
        "pcrm completions bash",
        // Each process that these commands start decides by itself.
        "pcrm launch -n 2 -- reward --backend tch --model m --data d --output o",
        "pcrm study recipe.toml --output o",
    ] {
        assert_eq!(needed(line), None, "{line}");
    }
}

/// Protects: commands for a backend that this program does not link go to the sibling, whether an option or a config
/// file names it.
#[test]
fn commands_that_need_another_backend_go() {
    for line in [
        "pcrm reward --backend tch --model m --data d --output o",
        "pcrm --quiet grpo --model m --data d --reward length --output o --backend=tch",
        "pcrm score --model m --data d --output o --backend tch",
        "pcrm bench gemm --backend tch",
        "pcrm constraint bounds --model m --data d --constraint fixed --output o --backend tch",
        "pcrm data world --output o --backend tch",
        "pcrm eval reward --model m --data d --backend tch",
    ] {
        assert_eq!(needed(line).as_deref(), Some("--backend tch"), "{line}");
    }
    assert_eq!(needed("pcrm bench gemm --backend torhc").as_deref(), Some("--backend torhc"));
    assert_eq!(needed("pcrm plugins").as_deref(), Some("pcrm plugins"));
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("run.toml");
    std::fs::write(&config, "backend = \"tch\"\nmodel = \"m\"\ndata = \"d\"\noutput = \"o\"\n").unwrap();
    let line = format!("pcrm reward --config {}", config.display());
    assert_eq!(needed(&line).as_deref(), Some("--backend tch"));
    // The file can be read again, and its options are not on the command line of the sibling.
    assert_eq!(parsed(&line).again(), line.split_whitespace().map(OsString::from).collect::<Vec<_>>());
}

/// Protects: a sibling takes over only from a program of its own version; programs that it starts run, and so do those
/// that a user starts.
#[test]
fn versions_of_siblings_agree() {
    let own = format!("{VERSION} 7");
    assert!(fits(None, 7).is_ok() && fits(Some(&own), 7).is_ok());
    let said = fits(Some("0.0.1 7"), 7).unwrap_err().to_string();
    assert!(
        said.contains(VERSION) && said.contains("of version 0.0.1; expected both of one build"),
        "{said}"
    );
    #[cfg(unix)]
    assert!(fits(Some("0.0.1 7"), 8).is_ok());
}
