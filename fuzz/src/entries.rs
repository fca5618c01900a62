//! Fuzz entries: each parser, from a user's bytes to a result or a clear error. Tests run the same functions.

use std::path::{Path, PathBuf};

use pcrm_core::constraint;
use pcrm_core::data::columns::Columns;
use pcrm_core::data::conversation::Message;
use pcrm_core::data::convert::{TARGETS, convert};
use pcrm_core::data::overlap::overlap;
use pcrm_core::data::preference::{ReadOptions, Ties, load_preferences, load_sources};
use pcrm_core::data::records::Records;
use pcrm_core::data::schema::Schema;
use pcrm_core::data::split::split_by_prompt;
use pcrm_core::data::texts::load_rows;
use pcrm_core::model::{Checkpoint, ModelConfig, weights};
use pcrm_core::text::{ChatTemplate, Tokenizer};
use pcrm_core::{Error, Result};
use pcrm_rl::checkpoint::State;
use pcrm_rl::fingerprint::Fingerprint;
use pcrm_rl::metrics::MetricsFile;
use pcrm_rl::{checkpoint, metrics};
use serde_json::{Map, Value};

/// A temporary folder with one file.
struct World {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

impl World {
    fn new(name: &str, bytes: &[u8]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).expect("a temporary file");
        Self { _dir: dir, path }
    }

    fn dir(&self) -> &Path {
        self.path.parent().expect("a file in a folder")
    }
}

/// Checks that an error names the file and is short enough to read in a terminal.
fn check<T>(result: Result<T>, file: &Path) -> Result<T> {
    if let Err(error) = &result {
        let said = error.to_string();
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let names_file = said.contains(&*name) || !matches!(error, Error::File { .. } | Error::Line { .. });
        assert!(names_file, "an error that does not name {name}: {said}");
        assert!(said.len() < 4000, "an error of {} bytes", said.len());
    }
    result
}

/// Reads a file of any container and format as records; none is longer than the limit.
pub fn records(bytes: &[u8]) {
    const LIMIT: usize = 1 << 14;
    let world = World::new("data", bytes);
    let Ok(records) = check(Records::open_with(&world.path, LIMIT), &world.path) else { return };
    for record in records {
        if let Ok((number, _)) = check(record, &world.path) {
            assert!(number > 0, "records are numbered from 1");
        }
    }
}

/// Reads records as preferences under every schema, converts them to every other, splits them and compares them
/// with themselves.
pub fn preferences(bytes: &[u8]) {
    let world = World::new("data", bytes);
    let paths = [world.path.clone()];
    let _ = check(load_preferences(&paths, ReadOptions::default()), &world.path);
    let _ = check(load_rows(&paths, ReadOptions::default()), &world.path);
    let columns = Columns::default();
    let keep = ReadOptions { ties: Ties::Keep, ..ReadOptions::default() };
    if let Ok((sources, report)) = check(load_sources(&paths, keep), &world.path) {
        let pairs: usize = sources.iter().map(|source| source.set.comparisons.len()).sum();
        assert_eq!(report.kept, pairs, "the report counts what was kept");
        for (source, pair) in
            sources.iter().flat_map(|source| source.set.pairs().map(move |pair| (source, pair)))
        {
            for to in TARGETS {
                if let Ok((record, _)) = convert(source, pair, to, &columns) {
                    assert!(
                        Schema::of_pair(&record).is_ok_and(|found| to.admits(found)),
                        "{record:?} as {to}"
                    );
                }
            }
        }
        let _ = split_by_prompt(&sources, 0.5, 0);
        let sets: Vec<_> = sources.into_iter().map(|source| source.set).collect();
        assert_eq!(overlap(&sets, &sets).shared_pairs, pairs);
    }
    for schema in Schema::ALL {
        let columns = Columns::of(Some(schema));
        let _ = check(load_rows(&paths, ReadOptions { columns, ..ReadOptions::default() }), &world.path);
    }
}

/// Renders a conversation, given as JSON after a NUL byte, with a chat template.
pub fn chat_template(bytes: &[u8]) {
    let mut parts = bytes.splitn(2, |byte| *byte == 0);
    let source = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    let messages: Vec<Message> = parts
        .next()
        .and_then(|json| serde_json::from_slice(json).ok())
        .unwrap_or_else(|| vec![Message::new("user", "q")]);
    let Ok(template) = ChatTemplate::new(&source) else { return };
    let special = [("bos_token".to_owned(), "<s>".to_owned()), ("eos_token".to_owned(), "</s>".to_owned())];
    let _ = template.render(&messages, true, &special);
}

/// Reads a tokenizer.json and encodes and decodes a text.
pub fn tokenizer(bytes: &[u8]) {
    let world = World::new("tokenizer.json", bytes);
    if let Ok(tokenizer) = check(Tokenizer::from_dir(world.dir()), &world.path)
        && let Ok(ids) = tokenizer.encode("It's <s>naïve</s>  \u{1F642}\n")
    {
        let _ = tokenizer.decode(&ids);
    }
}

/// Reads a tokenizer_config.json beside a tokenizer.
pub fn tokenizer_config(tokenizer: &[u8], bytes: &[u8]) {
    let world = World::new("tokenizer_config.json", bytes);
    std::fs::write(world.dir().join("tokenizer.json"), tokenizer).expect("a temporary file");
    if let Ok(tokenizer) = Tokenizer::from_dir(world.dir()) {
        let _ = tokenizer.encode("It's <s>naïve</s>");
        let _ = tokenizer.render_chat(&[Message::new("user", "q")], true);
    }
}

/// Reads a model's config.json.
pub fn config(bytes: &[u8]) {
    let world = World::new("config.json", bytes);
    let _ = check(ModelConfig::from_dir(world.dir()), &world.path);
    if let Ok(raw) = serde_json::from_slice::<Map<String, Value>>(bytes) {
        let _ = check(ModelConfig::from_json(raw, &world.path), &world.path);
    }
}

/// Reads a safetensors file, and an index of several.
pub fn safetensors(bytes: &[u8]) {
    let world = World::new("model.safetensors", bytes);
    let _ = check(weights::load_file(&world.path), &world.path);
    let index = World::new("model.safetensors.index.json", bytes);
    let _ = Checkpoint::open(index.dir());
}

/// Reads a constraint, and reads back the JSON that it writes.
pub fn constraint(bytes: &[u8]) {
    let Ok(value) = serde_json::from_slice::<Value>(bytes) else { return };
    match constraint::from_tagged(value) {
        Ok(made) => {
            let tagged = made.to_tagged().expect("a serializable constraint");
            let again = constraint::from_tagged(tagged.clone()).and_then(|again| again.to_tagged());
            assert_eq!(again.ok(), Some(tagged), "a constraint changed in a round trip");
        }
        Err(error) => {
            assert!(error.to_string().len() < 4000, "an error of {} bytes", error.to_string().len())
        }
    }
}

/// Reads the state.json of a checkpoint whose other files are empty.
pub fn checkpoint(bytes: &[u8]) {
    let world = World::new("run", b"");
    let run = world.dir();
    let dir = checkpoint::folder(run, 3);
    std::fs::create_dir(&dir).expect("a folder");
    for name in ["config.json", "model.safetensors", "optimizer.safetensors"] {
        std::fs::write(dir.join(name), b"").expect("a temporary file");
    }
    std::fs::write(dir.join("state.json"), bytes).expect("a temporary file");
    if let Ok(Some((found, state))) = checkpoint::newest(run) {
        assert_eq!(found, dir);
        let _ = state.fingerprint == Fingerprint::default();
    }
}

/// Reads a whole metrics.jsonl, and reopens it to append.
pub fn metrics(bytes: &[u8]) {
    let world = World::new("metrics.jsonl", bytes);
    let _ = metrics::read(&world.path);
    let state = State { step: 5, evaluation_owed: bytes.len().is_multiple_of(2), ..State::default() };
    if let Ok(mut file) = MetricsFile::open(&world.path, &state) {
        file.line(&serde_json::json!({"step": 5, "loss": 0.5})).expect("a line");
        let lines = metrics::read(&world.path).expect("readable lines");
        assert!(lines.iter().all(|line| line["step"].as_u64().is_some_and(|step| step <= 5)));
    }
}
