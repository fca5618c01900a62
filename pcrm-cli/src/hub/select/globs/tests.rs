//! Patterns against lists of files.

use super::*;

fn found<'a>(pattern: &str, files: &[&'a str]) -> Vec<&'a str> {
    let pattern = Pattern::new("", pattern).unwrap();
    files.iter().copied().filter(|file| pattern.matches(file)).collect()
}

/// Protects: patterns match the files that fsspec's glob matches, and alternatives in addition.
#[test]
fn patterns_stand_for_the_files_that_fsspec_finds() {
    let files = ["a.jsonl", "b.jsonl", "d/a.jsonl", "d/e/a.jsonl", "d/e/x1.json", "train/0.json"];
    for (pattern, expected) in [
        ("a.jsonl", &["a.jsonl"][..]),
        ("./d//a.jsonl", &["d/a.jsonl"]),
        ("*", &["a.jsonl", "b.jsonl"]),
        ("*/*", &["d/a.jsonl", "train/0.json"]),
        ("**", &files),
        ("**/a.jsonl", &["a.jsonl", "d/a.jsonl", "d/e/a.jsonl"]),
        ("d/**", &["d/a.jsonl", "d/e/a.jsonl", "d/e/x1.json"]),
        ("d/**/*.json", &["d/e/x1.json"]),
        ("d/**/a.jsonl", &["d/a.jsonl", "d/e/a.jsonl"]),
        ("?.jsonl", &["a.jsonl", "b.jsonl"]),
        ("[!a].jsonl", &["b.jsonl"]),
        ("[a-b].jsonl", &["a.jsonl", "b.jsonl"]),
        ("**/x[0-9].json", &["d/e/x1.json"]),
        ("{b,d/a}.jsonl", &["b.jsonl", "d/a.jsonl"]),
        ("d", &[]),
        ("d/", &[]),
        ("?/a", &[]),
        ("{b.jsonl,d/**}", &["b.jsonl", "d/a.jsonl", "d/e/a.jsonl", "d/e/x1.json"]),
        ("d/{e/{x1,x2},a}.json{,l}", &["d/a.jsonl", "d/e/x1.json"]),
    ] {
        assert_eq!(found(pattern, &files), expected, "{pattern}");
    }
}

/// Protects: characters of names are matched as in Python's fnmatch, and an unclosed bracket matches itself.
#[test]
fn characters_of_names_are_matched_as_in_python() {
    let files = ["a-1", "a]1", "a[1", "a{b}", "a^1", "\u{e9}.json"];
    for (pattern, expected) in [
        ("a[-x]1", &["a-1"][..]),
        ("a[]x]1", &["a]1"]),
        ("a[!]x]1", &["a-1", "a[1", "a^1"]),
        ("a[^-]1", &["a-1", "a^1"]),
        ("a[1", &["a[1"]),
        ("a[9-0]1", &[]),
        ("a{b}", &["a{b}"]),
        ("a{b}{1,}", &["a{b}"]),
        ("?.json", &["\u{e9}.json"]),
        ("*1*", &["a-1", "a]1", "a[1", "a^1"]),
        ("*a*1", &["a-1", "a]1", "a[1", "a^1"]),
    ] {
        assert_eq!(found(pattern, &files), expected, "{pattern}");
    }
}

/// Protects: hidden files and special folders are read only if the pattern names them.
#[test]
fn hidden_files_must_be_named() {
    let files = [".h/a.json", "__m/a.json", "a/.b.json", "a/__b.json"];
    for (pattern, expected) in [
        ("**", &["a/__b.json"][..]),
        ("*/a.json", &[]),
        (".h/*", &[".h/a.json"]),
        (".*/*", &[".h/a.json"]),
        ("__m/*", &["__m/a.json"]),
        ("a/.*", &["a/.b.json"]),
    ] {
        assert_eq!(found(pattern, &files), expected, "{pattern}");
    }
}

/// Protects: no pattern names anything outside of the repository, and a malformed one is refused.
#[test]
fn bad_patterns_are_refused() {
    let said = |folder: &str, pattern: &str| match Pattern::new(folder, pattern) {
        Ok(_) => panic!("{folder:?} {pattern:?} is accepted"),
        Err(error) => error.to_string(),
    };
    for pattern in ["/etc/passwd", "../a.json", "a/../../b", "https://a.org/b.json", "zip://a::b.zip"] {
        assert!(said("", pattern).contains("not inside the repository"), "{pattern}");
    }
    assert!(said("../a", "b").contains("not inside the repository"));
    assert!(said("", "**.jsonl").contains("** within a name"));
    assert!(said("", &"a".repeat(5000)).contains("expected at most 1024"));
    assert!(said("", &"{a,b}".repeat(100)).contains("too many alternatives"));
    // No pattern takes long.
    let (pattern, file) = (Pattern::new("", &"**/*a*/".repeat(140)).unwrap(), "a/".repeat(2000));
    assert!(!pattern.matches(&format!("{file}b")));
}
