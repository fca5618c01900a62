//! Models and data by repository names, from a local hub.

mod configs;
mod environment;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::binary::{World, stderr};
use crate::support::beside;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const TOKEN: &str = "hf_secret";

/// Read access to a repository.
#[derive(Clone, Copy, PartialEq)]
enum Access {
    All,
    /// Anyone can list the files; reading them needs the token.
    Gated,
    /// Listing and reading need the token.
    Private,
}

struct Holding {
    access: Access,
    files: BTreeMap<String, Vec<u8>>,
}

/// Repositories by the paths of their pages: `org/name`, `datasets/org/name`.
type Holdings = BTreeMap<&'static str, Holding>;

/// False answers to a request for a file.
#[derive(Clone, Default)]
struct Lies {
    commit: Option<String>,
    etag: Option<String>,
    linked_etag: Option<String>,
    /// Sends this many bytes of a file and hangs up.
    breaks_off: Option<usize>,
    /// Redirects requests for files to this address.
    redirects: Option<String>,
}

/// A hub on the loopback interface that answers like `huggingface.co`, for a few repositories.
struct LocalHub {
    endpoint: String,
    seen: Arc<Mutex<Vec<String>>>,
}

impl LocalHub {
    fn start(holdings: Holdings) -> Result<Self> {
        Self::lying(holdings, Lies::default())
    }

    fn lying(holdings: Holdings, lies: Lies) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (holdings, log) = (Arc::new(holdings), Arc::clone(&seen));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (holdings, log, lies) = (Arc::clone(&holdings), Arc::clone(&log), lies.clone());
                // A client that disconnects is not an error of the hub.
                thread::spawn(move || serve(stream, &holdings, &lies, &log).ok());
            }
        });
        Ok(Self { endpoint, seen })
    }

    /// Returns the requested paths since the last call.
    fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn serve(stream: TcpStream, holdings: &Holdings, lies: &Lies, log: &Mutex<Vec<String>>) -> Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().context("a request")??;
    let path = first.split(' ').nth(1).context("a path")?.to_owned();
    let (mut start, mut end, mut known) = (0, usize::MAX, false);
    for line in lines {
        let line = line?.to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(range) = line.strip_prefix("range: bytes=") {
            let (from, to) = range.split_once('-').context("a range")?;
            (start, end) = (from.parse()?, to.parse().unwrap_or(usize::MAX));
        }
        known |= line == format!("authorization: bearer {TOKEN}");
    }
    log.lock().unwrap_or_else(PoisonError::into_inner).push(path.clone());
    let answer = answer(&path, known, holdings);
    let mut head = format!("HTTP/1.1 {}\r\nconnection: close\r\n", answer.status);
    let mut body = match answer.file {
        true => {
            let (total, end) = (answer.body.len(), end.min(answer.body.len() - 1));
            let usual = || pcrm_core::digest::text(&path)[..40].to_owned();
            let etag = lies.etag.clone().unwrap_or_else(usual);
            let commit = lies.commit.as_deref().unwrap_or(COMMIT);
            head += &format!("x-repo-commit: {commit}\r\netag: \"{etag}\"\r\n");
            if let Some(etag) = &lies.linked_etag {
                head += &format!("x-linked-etag: \"{etag}\"\r\n");
            }
            head += &format!("content-range: bytes {start}-{end}/{total}\r\n");
            &answer.body[start..=end]
        }
        false => &answer.body[..],
    };
    head += &format!("{}content-length: {}\r\n\r\n", answer.headers, body.len());
    match (&lies.redirects, lies.breaks_off) {
        (Some(place), _) if answer.file => {
            head = format!(
                "HTTP/1.1 302 Found\r\nconnection: close\r\nlocation: {place}\r\ncontent-length: 0\r\n\r\n"
            );
            body = &[];
        }
        (_, Some(bytes)) if answer.file && start == 0 => body = &body[..bytes.min(body.len())],
        _ => {}
    }
    let mut stream = stream;
    stream.write_all(head.as_bytes())?;
    Ok(stream.write_all(body)?)
}

struct Answer {
    status: &'static str,
    headers: &'static str,
    body: Vec<u8>,
    file: bool,
}

fn answer(path: &str, known: bool, holdings: &Holdings) -> Answer {
    let plain = |status, headers| Answer { status, headers, body: b"{}".to_vec(), file: false };
    let absent = plain("404 Not Found", "x-error-code: RepoNotFound\r\n");
    let found = holdings.iter().find_map(|(name, holding)| {
        let listed = match name.strip_prefix("datasets/") {
            Some(name) => format!("/api/datasets/{name}/revision/"),
            None => format!("/api/models/{name}/revision/"),
        };
        let revision = path.strip_prefix(&listed).map(|revision| (revision.to_owned(), None));
        let file = path.strip_prefix(&format!("/{name}/resolve/")).and_then(|rest| rest.split_once('/'));
        let file = file.map(|(revision, file)| (revision.to_owned(), Some(file.to_owned())));
        revision.or(file).map(|asked| (holding, asked))
    });
    let Some((holding, (revision, file))) = found else { return absent };
    if ![COMMIT, "main"].contains(&revision.as_str()) {
        return plain("404 Not Found", "x-error-code: RevisionNotFound\r\n");
    }
    if !known && (holding.access == Access::Private || holding.access == Access::Gated && file.is_some()) {
        return plain("401 Unauthorized", "x-error-code: GatedRepo\r\n");
    }
    match file {
        None => {
            let siblings: Vec<_> = holding.files.keys().map(|file| json!({"rfilename": file})).collect();
            let body = json!({"sha": COMMIT, "siblings": siblings}).to_string().into_bytes();
            Answer { status: "200 OK", headers: "", body, file: false }
        }
        Some(file) => match holding.files.get(&file) {
            Some(body) => {
                Answer { status: "206 Partial Content", headers: "", body: body.clone(), file: true }
            }
            None => absent,
        },
    }
}

/// Starts a hub with the world's model and data under repository names.
fn hub_of(world: &World) -> Result<LocalHub> {
    hub_that(world, Lies::default())
}

/// Starts the same hub with false answers.
fn hub_that(world: &World, lies: Lies) -> Result<LocalHub> {
    let files = |names: &[(&str, &str)]| -> Result<BTreeMap<String, Vec<u8>>> {
        names.iter().map(|(file, stored)| Ok(((*file).to_owned(), world.read(stored)?))).collect()
    };
    let model = || {
        files(&[
            ("config.json", "base/config.json"),
            ("model.safetensors", "base/model.safetensors"),
            ("pytorch_model.bin", "base/model.safetensors"),
            ("tokenizer.json", "base/tokenizer.json"),
            ("tokenizer_config.json", "base/tokenizer_config.json"),
            ("chat_template.jinja", "base/chat_template.jinja"),
            ("README.md", "base/config.json"),
        ])
    };
    let data = files(&[
        ("README.md", "base/config.json"),
        ("data/train-00000-of-00001.jsonl", "train.jsonl"),
        ("data/test-00000-of-00001.jsonl", "test.jsonl"),
    ])?;
    let holdings = BTreeMap::from([
        ("acme/nano", Holding { access: Access::All, files: model()? }),
        ("acme/gated", Holding { access: Access::Gated, files: model()? }),
        ("acme/private", Holding { access: Access::Private, files: model()? }),
        ("datasets/acme/pairs", Holding { access: Access::All, files: data }),
    ]);
    LocalHub::lying(holdings, lies)
}

/// Variables of the user who runs the tests that would change where repositories come from.
pub const VARIABLES: [&str; 15] = [
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "HF_TOKEN_PATH",
    "HF_HUB_CACHE",
    "HUGGINGFACE_HUB_CACHE",
    "HF_HUB_OFFLINE",
    "TRANSFORMERS_OFFLINE",
    "http_proxy",
    "HTTP_PROXY",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "no_proxy",
    "NO_PROXY",
];

/// Returns a `pcrm` command that uses this hub and a cache in the world.
fn command(world: &World, endpoint: &str, arguments: &str) -> Result<Command> {
    let mut command = world.command(arguments)?;
    for variable in VARIABLES {
        command.env_remove(variable);
    }
    command.env("HF_ENDPOINT", endpoint).env("HF_HOME", world.path("hf"));
    Ok(command)
}

fn done(output: &Output) -> Result<()> {
    ensure!(output.status.success(), "{}", stderr(output));
    Ok(())
}

fn check_refusal(mut command: Command, parts: &[&str]) -> Result<()> {
    let output = command.output()?;
    let message = stderr(&output);
    ensure!(!output.status.success() && !message.contains("panicked"), "{message}");
    for part in parts {
        ensure!(message.contains(part), "{message:?} does not contain {part:?}");
    }
    Ok(())
}

const SCORE: &str = "score --model acme/nano --data acme/pairs:test --output";

/// Protects: a repository is read like a folder; only the needed files are fetched, once; the cache works
/// without a hub.
#[test]
fn repositories_are_fetched_once_and_read_like_folders() -> Result<()> {
    let world = World::new()?;
    let hub = hub_of(&world)?;
    world.run("score --model base --data test.jsonl --output want.jsonl")?;
    let want = world.scored("want.jsonl")?;

    let output = command(&world, &hub.endpoint, &format!("{SCORE} first.jsonl"))?.output()?;
    done(&output)?;
    ensure!(world.scored("first.jsonl")? == want, "the scores differ from the folder's");
    let by = world.lines("first.jsonl")?[0]["scored_by"].clone();
    ensure!(by.as_str().is_some_and(|by| by.starts_with("pcrm:acme/nano@")), "{by}");
    let first = hub.requests();
    let asked = |part: &str| first.iter().filter(|path| path.contains(part)).count();
    ensure!(asked("/api/") == 2, "{first:?}");
    for file in ["config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja", "data/test-"] {
        ensure!(asked(file) > 0, "{file} was not requested: {first:?}");
    }
    ensure!(asked("datasets/acme/pairs/resolve") == 2 && asked("README.md") == 1, "{first:?}");
    for file in ["pytorch_model.bin", "data/train-"] {
        ensure!(asked(file) == 0, "{file} was requested: {first:?}");
    }
    let said = stderr(&output);
    ensure!(said.contains("fetching acme/nano/model.safetensors"), "{said}");

    done(&command(&world, &hub.endpoint, &format!("{SCORE} second.jsonl"))?.output()?)?;
    let second = hub.requests();
    let listings = ["/api/models/acme/nano/revision/main", "/api/datasets/acme/pairs/revision/main"];
    ensure!(second == listings, "{second:?}");

    done(
        &command(&world, &hub.endpoint, &format!("{SCORE} third.jsonl"))?
            .env("HF_HUB_OFFLINE", "1")
            .output()?,
    )?;
    ensure!(hub.requests().is_empty(), "requests were sent while offline");

    // No server listens at this address.
    let output = command(&world, "http://127.0.0.1:1", &format!("{SCORE} fourth.jsonl"))?.output()?;
    done(&output)?;
    ensure!(stderr(&output).contains("reading acme/nano from the cache"), "{}", stderr(&output));
    for name in ["second.jsonl", "third.jsonl", "fourth.jsonl"] {
        ensure!(world.scored(name)? == want, "{name} differs");
    }
    // The cache holds one of the two splits.
    let train = "score --model base --data acme/pairs:train";
    let mut offline = command(&world, &hub.endpoint, train)?;
    offline.env("HF_HUB_OFFLINE", "1");
    check_refusal(offline, &["acme/pairs:train", "HF_HUB_OFFLINE", "data/train-00000-of-00001.jsonl"])
}

#[test]
fn a_run_is_trained_on_repositories() -> Result<()> {
    let world = World::new()?;
    let hub = hub_of(&world)?;
    let train = "reward --model acme/nano --data acme/pairs --eval-data acme/pairs:test --revision main \
                 --random-init --max-steps 2 --batch 4 --output rm";
    done(&command(&world, &hub.endpoint, train)?.output()?)?;
    let asked = hub.requests();
    ensure!(
        !asked.iter().any(|path| path.contains("safetensors")),
        "weights were fetched despite --random-init: {asked:?}"
    );
    let config = String::from_utf8(world.read("rm/config.toml")?)?;
    ensure!(config.contains("\"acme/nano\""), "config.toml lacks the repository's name: {config}");
    let manifest: serde_json::Value = serde_json::from_slice(&world.read("rm/manifest.json")?)?;
    ensure!(manifest["train_pairs"] == 240 && manifest["eval_pairs"] == 60, "{manifest}");
    ensure!(manifest["model"].as_str().is_some_and(|model| model.contains(COMMIT)), "{manifest}");
    Ok(())
}

/// Protects: data sets and standard input are converted and split like files of the same records.
#[test]
fn repositories_are_converted_and_split() -> Result<()> {
    let world = World::new()?;
    let hub = hub_of(&world)?;
    for (verb, output, made) in [
        ("convert --to question --output", "KIND.jsonl", "KIND.jsonl"),
        ("split --output-dir", "KIND", "KIND/train.jsonl"),
    ] {
        let run =
            |kind: &str, data: &str| format!("data {verb} {} --data {data}", output.replace("KIND", kind));
        world.run(&run("file", "test.jsonl[:40]"))?;
        let fetched = run("hub", "acme/pairs:test[:40] --data-revision main");
        done(&command(&world, &hub.endpoint, &fetched)?.output()?)?;
        done(&fed(world.command(&run("pipe", "- --limit 40"))?, &world.read("test.jsonl")?)?)?;
        let records = |kind: &str| world.read(&made.replace("KIND", kind));
        ensure!(records("file")? == records("hub")?, "{verb}: other records of the Hub");
        ensure!(records("file")? == records("pipe")?, "{verb}: other records of a pipe");
    }
    Ok(())
}

/// Runs a command with this text as its standard input.
fn fed(mut command: Command, input: &[u8]) -> Result<Output> {
    let mut child = command.stdin(Stdio::piped()).spawn()?;
    child.stdin.take().context("an input")?.write_all(input)?;
    Ok(child.wait_with_output()?)
}

/// Protects: an encoder can be a repository: its settings and weights are fetched, in one format only.
#[test]
fn encoders_are_repositories_too() -> Result<()> {
    let world = World::new()?;
    let tiny = beside("golden/sentence/tiny");
    let mut held =
        BTreeMap::from([("onnx/model.onnx".to_owned(), Vec::new()), ("README.md".to_owned(), Vec::new())]);
    for name in
        ["modules.json", "config.json", "tokenizer.json", "model.safetensors", "1_Pooling/config.json"]
    {
        held.insert(name.to_owned(), std::fs::read(tiny.join(name))?);
    }
    let hub =
        LocalHub::start(BTreeMap::from([("acme/encoder", Holding { access: Access::All, files: held })]))?;
    let inspect = "inspect --model base --data train.jsonl --no-measure --json --constraint";
    let constraint = r#"'{"kind": "cosine", "encoder": {"kind": "bert", "path": "acme/encoder"}}'"#;
    let output = command(&world, &hub.endpoint, &format!("{inspect} {constraint}"))?.output()?;
    let page: serde_json::Value = serde_json::from_slice(&output.stdout).with_context(|| stderr(&output))?;
    ensure!(page.to_string().contains("acme/encoder"), "{page}");
    let asked = hub.requests();
    ensure!(asked.iter().any(|path| path.contains("1_Pooling")), "{asked:?}");
    ensure!(!asked.iter().any(|path| path.contains("onnx") || path.contains("README")), "{asked:?}");
    let absent = constraint.replace("acme/encoder", "acme/absent");
    let output = command(&world, &hub.endpoint, &format!("{inspect} {absent}"))?.output()?;
    ensure!(stderr(&output).contains("encoder acme/absent: no such folder here"), "{}", stderr(&output));
    Ok(())
}

#[test]
fn a_folder_of_the_name_goes_before() -> Result<()> {
    let world = World::new()?;
    let hub = hub_of(&world)?;
    std::fs::create_dir(world.path("acme"))?;
    std::fs::rename(world.path("base"), world.path("acme/nano"))?;
    done(&command(&world, &hub.endpoint, "score --model acme/nano --data test.jsonl")?.output()?)?;
    ensure!(hub.requests().is_empty(), "the hub received a request");
    Ok(())
}

#[test]
fn what_cannot_be_had_is_told_with_all_that_was_tried() -> Result<()> {
    let world = World::new()?;
    let hub = hub_of(&world)?;
    let score =
        |model: &str| command(&world, &hub.endpoint, &format!("score --model {model} --data test.jsonl"));
    let here = "no such folder here";
    check_refusal(score("acme/absent")?, &["--model acme/absent", here, &hub.endpoint, "404"])?;
    check_refusal(score("acme/private")?, &["--model acme/private", here, &hub.endpoint, "401", "HF_TOKEN"])?;
    let gated = ["--model acme/gated", "of acme/gated", &hub.endpoint, "may not be read", "HF_TOKEN"];
    check_refusal(score("acme/gated")?, &gated)?;
    check_refusal(score("acme/nano --revision v9")?, &["acme/nano", &hub.endpoint, "no revision v9"])?;
    check_refusal(score("acme/pairs")?, &["acme/pairs", "no model"])?;
    for model in ["acme/gated", "acme/private"] {
        done(&score(model)?.env("HF_TOKEN", TOKEN).output()?)?;
    }
    let mut offline = score("acme/nano")?;
    offline.env("HF_HUB_OFFLINE", "1");
    check_refusal(offline, &["--model acme/nano", here, "HF_HUB_OFFLINE", "hf/hub"])?;
    let nobody = command(&world, "http://127.0.0.1:1", "score --model acme/nano --data test.jsonl")?;
    check_refusal(nobody, &["--model acme/nano", here, "http://127.0.0.1:1", "hf/hub"])?;

    let data = |data: &str| command(&world, &hub.endpoint, &format!("score --model base --data {data}"));
    check_refusal(data("acme/pairs:dev")?, &["--data acme/pairs:dev", "no such file here", "test, train"])?;
    check_refusal(data("acme/absent")?, &["--data acme/absent", &hub.endpoint, "no data set"])?;
    hub.requests();
    check_refusal(data("acme/absent.jsonl")?, &["acme/absent.jsonl"])?;
    ensure!(hub.requests().is_empty(), "a misspelt file was requested from the hub");
    Ok(())
}

/// Returns every file and link below a folder, by path and content.
fn all_below(folder: &std::path::Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut all = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(at) = folders.pop() {
        for entry in std::fs::read_dir(at)? {
            let path = entry?.path();
            match path.symlink_metadata()?.is_dir() {
                true => folders.push(path),
                false => {
                    let content = std::fs::read(&path).unwrap_or_default();
                    all.insert(path.strip_prefix(folder)?.display().to_string(), content);
                }
            }
        }
    }
    Ok(all)
}

/// Protects: no answer of a hub becomes a path. Existing files stay unchanged, nothing is written outside the
/// cache, and the cache holds nothing that could be read as a model.
#[test]
fn no_header_of_a_hub_becomes_a_path() -> Result<()> {
    let world = World::new()?;
    std::fs::write(world.path("authorized_keys"), "original")?;
    let (target, before) = (world.path("authorized_keys"), all_below(&world.path(""))?);
    let target = target.to_str().context("a path of UTF-8")?;
    let etag = |etag: &str| Lies { etag: Some(etag.to_owned()), ..Lies::default() };
    let linked = |etag: &str| Lies { linked_etag: Some(etag.to_owned()), ..Lies::default() };
    let commit = |commit: &str| Lies { commit: Some(commit.to_owned()), ..Lies::default() };
    let redirects = |place: &str| Lies { redirects: Some(place.to_owned()), ..Lies::default() };
    for (lies, said) in [
        (etag(target), "expected letters and digits"),
        (etag("../../../../evil.json"), "expected letters and digits"),
        (etag(".."), "expected letters and digits"),
        (linked(target), "expected letters and digits"),
        (linked(&"ab".repeat(32)), "expected that of its etag"),
        (commit(target), "expected 0123456789abcdef"),
        (commit("../../../../evil"), "expected 0123456789abcdef"),
        (commit(&"f".repeat(40)), "expected 0123456789abcdef"),
        (commit(""), "expected 0123456789abcdef"),
        (redirects("file:///etc/passwd"), "a redirection to \"file:///etc/passwd\""),
        (redirects("/acme/nano/resolve/main/config.json"), "more than 10 redirections"),
    ] {
        let hub = hub_that(&world, lies)?;
        let score = command(&world, &hub.endpoint, "score --model acme/nano --data test.jsonl")?;
        check_refusal(score, &[" of acme/nano on ", said])?;
        let mut after = all_below(&world.path(""))?;
        after.retain(|path, _| {
            !(path.starts_with("hf/hub/models--acme--nano/.pcrm/") && path.ends_with(".lock"))
        });
        ensure!(after == before, "{said}: {:?}", after.keys().collect::<Vec<_>>());
    }
    Ok(())
}

/// Protects: a requested commit is the one that is fetched, and a revision cannot be a path.
#[test]
fn the_commit_is_the_one_asked_for() -> Result<()> {
    let world = World::new()?;
    let hub = hub_of(&world)?;
    let score = |revision: &str| {
        command(
            &world,
            &hub.endpoint,
            &format!("score --model acme/nano --data test.jsonl --revision {revision}"),
        )
    };
    done(&score(COMMIT)?.output()?)?;
    check_refusal(score("../../evil")?, &["\"../../evil\" is not a revision"])?;
    check_refusal(score("/tmp/evil")?, &["is not a revision"])
}

/// Protects: an interrupted download leaves no file, and the next try continues where it broke off.
#[test]
fn a_broken_download_is_taken_up() -> Result<()> {
    let world = World::new()?;
    let holdings = || -> Result<Holdings> {
        let names = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"];
        let files = names.iter().map(|name| Ok(((*name).to_owned(), world.read(&format!("base/{name}"))?)));
        Ok(BTreeMap::from([(
            "acme/nano",
            Holding { access: Access::All, files: files.collect::<Result<_>>()? },
        )]))
    };
    world.run("score --model base --data test.jsonl --output want.jsonl")?;
    let breaking = LocalHub::lying(holdings()?, Lies { breaks_off: Some(100), ..Lies::default() })?;
    let score = "score --model acme/nano --data test.jsonl --output got.jsonl";
    check_refusal(command(&world, &breaking.endpoint, score)?, &[" of acme/nano on "])?;
    ensure!(
        !world.path(&format!("hf/hub/models--acme--nano/snapshots/{COMMIT}/config.json")).exists(),
        "a partial file is in the cache"
    );
    let whole = LocalHub::start(holdings()?)?;
    done(&command(&world, &whole.endpoint, score)?.output()?)?;
    ensure!(
        world.scored("got.jsonl")? == world.scored("want.jsonl")?,
        "the continued download differs from the file"
    );
    Ok(())
}

/// Protects: a warning is printed before plain http to another machine.
#[test]
fn plain_http_is_warned_of() -> Result<()> {
    let world = World::new()?;
    // This address is reserved for documentation, and the proxy is a local port without a server.
    let mut score = command(&world, "http://192.0.2.1:9", "score --model acme/nano --data test.jsonl")?;
    score.env("HF_TOKEN", TOKEN).env("ALL_PROXY", "http://127.0.0.1:1");
    check_refusal(score, &["over plain http", "the token is not sent", "gives no answer"])
}
