//! `pcrm export`: folders to share, and uploads to a local hub.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::binary::{World, stderr};
use crate::hub::VARIABLES;
use crate::support::run_python;

const TOKEN: &str = "hf_secret";
/// Bytes of a part of a large file.
const PART: usize = 100_000;

/// The state of a hub that accepts uploads.
#[derive(Default)]
struct Stored {
    /// Requests, as method and path.
    requests: Vec<String>,
    /// Complete large files by SHA-256.
    objects: BTreeMap<String, Vec<u8>>,
    /// Parts of large files by SHA-256 and number.
    parts: BTreeMap<(String, usize), Vec<u8>>,
    /// Committed files.
    files: BTreeMap<String, Vec<u8>>,
    private: bool,
    /// Statuses to answer with, each once, by a part of the request's path.
    failures: Vec<(&'static str, u16)>,
    /// Statuses and messages that refuse to create the repository, each once.
    uncreated: Vec<(u16, &'static str)>,
    /// True if the repository is there.
    exists: bool,
    /// True to give every part of a large file its own address.
    in_parts: bool,
}

/// A hub on the loopback interface with the upload API of `huggingface.co`.
struct UploadHub {
    endpoint: String,
    stored: Arc<Mutex<Stored>>,
}

impl UploadHub {
    fn start(stored: Stored) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let stored = Arc::new(Mutex::new(stored));
        let (shared, address) = (Arc::clone(&stored), endpoint.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (stored, address) = (Arc::clone(&shared), address.clone());
                thread::spawn(move || serve(stream, &address, &stored).ok());
            }
        });
        Ok(Self { endpoint, stored })
    }

    fn stored(&self) -> MutexGuard<'_, Stored> {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn serve(stream: TcpStream, endpoint: &str, stored: &Mutex<Stored>) -> Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split(' ').map(str::to_owned);
    let (method, path) = (words.next().context("a method")?, words.next().context("a path")?);
    let (mut length, mut known) = (0, false);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        ensure!(!line.starts_with("transfer-encoding"), "a body without a length");
        length = line.strip_prefix("content-length: ").map_or(Ok(length), str::parse)?;
        known |= line == format!("authorization: bearer {TOKEN}");
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let (status, headers, answer) = {
        let mut stored = stored.lock().unwrap_or_else(PoisonError::into_inner);
        stored.requests.push(format!("{method} {path}"));
        let failure = stored.failures.iter().position(|(part, _)| path.contains(part));
        match failure.map(|at| stored.failures.remove(at)) {
            Some((_, status)) => (status, "retry-after: 0\r\n".to_owned(), json!({})),
            None if !known && !path.starts_with("/storage/") => {
                (401, String::new(), json!({"error": "Invalid credentials in Authorization header"}))
            }
            None if known && path.starts_with("/storage/") => {
                (400, String::new(), json!({"error": "a token for the storage"}))
            }
            None => answer(&mut stored, endpoint, &path, &body)?,
        }
    };
    let answer = answer.to_string();
    let head =
        format!("HTTP/1.1 {status} X\r\nconnection: close\r\n{headers}content-length: {}", answer.len());
    let mut stream = stream;
    Ok(stream.write_all(format!("{head}\r\n\r\n{answer}").as_bytes())?)
}

fn answer(stored: &mut Stored, endpoint: &str, path: &str, body: &[u8]) -> Result<(u16, String, Value)> {
    let fine = |value: Value| Ok((200, String::new(), value));
    let lines = || body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    if path == "/api/models/acme/rm" && stored.exists {
        return fine(json!({"id": "acme/rm"}));
    }
    if path == "/api/repos/create" && !stored.uncreated.is_empty() {
        let (status, message) = stored.uncreated.remove(0);
        return Ok((status, String::new(), json!({"error": message})));
    }
    if path == "/api/repos/create" {
        let asked: Value = serde_json::from_slice(body)?;
        ensure!(asked["name"] == "rm" && asked["organization"] == "acme", "{asked}");
        stored.private = asked["private"] == true;
        return fine(json!({"url": format!("{endpoint}/acme/rm")}));
    }
    if path == "/api/models/acme/rm/branch/trial" {
        return fine(json!({}));
    }
    if path.starts_with("/api/models/acme/rm/preupload/") {
        let asked: Value = serde_json::from_slice(body)?;
        let modes = asked["files"].as_array().into_iter().flatten().map(|file| {
            let large = file["path"].as_str().is_some_and(|path| path.ends_with(".safetensors"));
            let mode = if large { "lfs" } else { "regular" };
            json!({"path": file["path"], "uploadMode": mode, "shouldIgnore": false})
        });
        return fine(json!({"files": modes.collect::<Vec<_>>()}));
    }
    if path == "/acme/rm.git/info/lfs/objects/batch" {
        let asked: Value = serde_json::from_slice(body)?;
        let mut plans = Vec::new();
        for object in asked["objects"].as_array().into_iter().flatten() {
            let (oid, size) = (object["oid"].as_str().context("an oid")?, object["size"].as_u64());
            let mut plan = json!({"oid": oid, "size": size});
            if !stored.objects.contains_key(oid) {
                let (href, header) = match stored.in_parts {
                    false => (format!("{}/storage/{oid}/0", storage(endpoint)), json!({})),
                    true => {
                        let count = (size.unwrap_or(0) as usize).div_ceil(PART);
                        let mut header = json!({"chunk_size": PART.to_string()});
                        for part in 1..=count {
                            header[format!("{part:05}")] =
                                format!("{}/storage/{oid}/{part}", storage(endpoint)).into();
                        }
                        (format!("{endpoint}/join/{oid}"), header)
                    }
                };
                let verify = json!({"href": format!("{endpoint}/verify/{oid}")});
                plan["actions"] = json!({"upload": {"href": href, "header": header}, "verify": verify});
            }
            plans.push(plan);
        }
        return fine(json!({"objects": plans}));
    }
    if let Some((oid, part)) = path.strip_prefix("/storage/").and_then(|rest| rest.split_once('/')) {
        match part.parse()? {
            0 => drop(stored.objects.insert(oid.to_owned(), body.to_vec())),
            part => drop(stored.parts.insert((oid.to_owned(), part), body.to_vec())),
        }
        return Ok((200, format!("etag: \"part-{part}\"\r\n"), json!({})));
    }
    if let Some(oid) = path.strip_prefix("/join/") {
        let asked: Value = serde_json::from_slice(body)?;
        let mut whole = Vec::new();
        for part in asked["parts"].as_array().into_iter().flatten() {
            let number = part["partNumber"].as_u64().context("a part's number")? as usize;
            ensure!(part["etag"] == format!("\"part-{number}\""), "{part}");
            whole.extend(stored.parts.get(&(oid.to_owned(), number)).context("a part")?);
        }
        stored.objects.insert(oid.to_owned(), whole);
        return fine(json!({}));
    }
    if let Some(oid) = path.strip_prefix("/verify/") {
        ensure!(stored.objects.contains_key(oid), "{oid} is not complete");
        return fine(json!({}));
    }
    if path.starts_with("/api/models/acme/rm/commit/") {
        for line in lines() {
            let line: Value = serde_json::from_slice(line)?;
            let value = &line["value"];
            let name = || value["path"].as_str().map(str::to_owned).context("a path");
            match line["key"].as_str() {
                Some("file") => {
                    let text = value["content"].as_str().context("content")?;
                    stored.files.insert(name()?, base64_decoded(text)?);
                }
                Some("lfsFile") => {
                    let content = stored.objects.get(value["oid"].as_str().unwrap_or_default());
                    let content = content.context("an object that was not uploaded")?.clone();
                    stored.files.insert(name()?, content);
                }
                _ => ensure!(value["summary"] == "Upload model", "{line}"),
            }
        }
        return fine(json!({"success": true, "commitUrl": format!("{endpoint}/acme/rm/commit/0123abc")}));
    }
    Ok((404, String::new(), json!({"error": path})))
}

/// Returns the storage's address: the same machine under another name, so that it is a different host from
/// the hub.
fn storage(endpoint: &str) -> String {
    endpoint.replace("127.0.0.1", "localhost")
}

fn base64_decoded(text: &str) -> Result<Vec<u8>> {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bits, mut held, mut out) = (0u32, 0, Vec::new());
    for byte in text.bytes().filter(|byte| *byte != b'=') {
        let six = alphabet.iter().position(|known| *known == byte).context("a letter of base64")?;
        (bits, held) = (bits << 6 | six as u32, held + 6);
        if held >= 8 {
            held -= 8;
            out.push((bits >> held & 0xff) as u8);
        }
    }
    Ok(out)
}

fn trained(world: &World) -> Result<()> {
    let train =
        "reward --model base --data train.jsonl --eval-split 0.2 --max-steps 4 --save-every 2 --batch 8";
    world.run(&format!("{train} --output rm")).map(drop)
}

fn push(world: &World, hub: &UploadHub, arguments: &str) -> Result<Command> {
    let mut command = world.command(&format!("export rm --push acme/rm {arguments}"))?;
    for variable in VARIABLES {
        command.env_remove(variable);
    }
    command.env("HF_ENDPOINT", &hub.endpoint).env("HF_HOME", world.path("hf")).env("HF_TOKEN", TOKEN);
    Ok(command)
}

fn succeeds(mut command: Command) -> Result<String> {
    let output = command.output()?;
    ensure!(output.status.success(), "{}", stderr(&output));
    Ok(stderr(&output) + &String::from_utf8(output.stdout)?)
}

fn refused(mut command: Command, parts: &[&str]) -> Result<()> {
    let output = command.output()?;
    let message = stderr(&output);
    ensure!(!output.status.success() && !message.contains("panicked"), "{message}");
    for part in parts {
        ensure!(message.contains(part), "{message:?} does not say {part:?}");
    }
    Ok(())
}

fn names(world: &World, folder: &str) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(world.path(folder))? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Protects: an exported folder gives the run's scores in pcrm and in transformers; it contains only the
/// model and a card with the evaluation's figures and without local paths.
#[test]
fn an_exported_run_is_the_model_alone() -> Result<()> {
    let world = World::new()?;
    trained(&world)?;
    // Name the base model's folder as transformers does.
    let config = String::from_utf8(world.read("rm/config.json")?)?;
    let local = world.path("base").display().to_string();
    let config = config.replacen('{', &format!("{{\"_name_or_path\": {},", json!(local)), 1);
    world.write("rm/config.json", &config)?;
    let said = stderr(&world.command("export rm --output out/rm")?.output()?);
    for part in
        ["checkpoint-4", "metrics.jsonl", "manifest.json", "tensorboard", "report.html", "config.toml"]
    {
        ensure!(said.contains(part), "{part} is not listed as left out: {said}");
    }
    let expected = [
        "README.md",
        "chat_template.jinja",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    ensure!(names(&world, "out/rm")? == expected, "{:?}", names(&world, "out/rm")?);
    for name in expected {
        let text = String::from_utf8_lossy(&world.read(&format!("out/rm/{name}"))?).into_owned();
        ensure!(!text.contains(world.path("").to_str().context("UTF-8")?), "{name} has a local path");
        ensure!(!text.contains("_name_or_path"), "{name} names the local base model");
    }
    let card = String::from_utf8(world.read("out/rm/README.md")?)?;
    ensure!(!card.contains("base_model") && !card.contains("report.html"), "{card}");
    ensure!(!card.contains("pcrm model card"), "the card has the hash of the run's own: {card}");
    let lines = world.lines("rm/metrics.jsonl")?;
    let last = lines.iter().rev().find_map(|line| line["eval_accuracy"].as_f64()).context("an evaluation")?;
    let figure =
        format!("    - type: accuracy\n      name: \"Pairwise accuracy\"\n      value: {}\n", json!(last));
    ensure!(card.contains("model-index:\n- name: \"rm\"\n") && card.contains(&figure), "{figure} {card}");

    world.run("score --model rm --data test.jsonl --output want.jsonl")?;
    world.run("score --model out/rm --data test.jsonl --output got.jsonl")?;
    ensure!(world.scored("want.jsonl")? == world.scored("got.jsonl")?, "the export scores otherwise");
    world.refuses("export rm --output out/rm", &["--output out/rm", "exists already"])?;
    let (folder, texts, scores) = (world.path("out/rm"), world.path("test.jsonl"), world.path("want.jsonl"));
    run_python(
        "golden/exporting/same_scores.py",
        &[folder.as_os_str(), texts.as_os_str(), scores.as_os_str()],
    )?;
    Ok(())
}

/// Protects: an adapter is exported without its base model and names the base model's repository; a local
/// base model is not named.
#[test]
fn an_exported_adapter_names_its_base_on_the_hub() -> Result<()> {
    let world = World::new()?;
    world.run("reward --model base --data train.jsonl --max-steps 2 --batch 8 --lora-r 4 --output rm")?;
    let said = stderr(&world.command("export rm --output local")?.output()?);
    ensure!(said.contains("--base-model ORG/NAME"), "{said}");
    let config: Value = serde_json::from_slice(&world.read("local/adapter_config.json")?)?;
    ensure!(config["base_model_name_or_path"].is_null(), "{config}");
    world.run("export rm --output named --base-model acme/nano")?;
    let config: Value = serde_json::from_slice(&world.read("named/adapter_config.json")?)?;
    ensure!(config["base_model_name_or_path"] == "acme/nano", "{config}");
    let card = String::from_utf8(world.read("named/README.md")?)?;
    for line in ["base_model: \"acme/nano\"\n", "base_model_relation: adapter\n", "library_name: peft\n"] {
        ensure!(card.contains(line), "{line} {card}");
    }
    ensure!(!names(&world, "named")?.iter().any(|name| name == "config.json"), "the base is there");
    ensure!(world.read("named/adapter_model.safetensors")? == world.read("rm/adapter_model.safetensors")?);
    world.run("merge named --base base --output got")?;
    world.run("merge rm --output want")?;
    ensure!(world.read("got/model.safetensors")? == world.read("want/model.safetensors")?);
    Ok(())
}

/// Protects: only a finished run is exported. A run without a model, a checkpoint, a continued run and
/// weights that are not finite are refused.
#[test]
fn unfinished_runs_are_refused() -> Result<()> {
    let world = World::new()?;
    trained(&world)?;
    world.refuses("export rm/checkpoint-4 --output out", &["is a checkpoint"])?;
    world.refuses("export nowhere --output out", &["nowhere", "no such folder"])?;
    world.refuses("export rm", &["--output DIR, --push ORG/NAME or --dry-run"])?;
    world.refuses("export rm --output out --push rm", &["--push rm", "ORG/NAME"])?;
    let weights = world.read("rm/model.safetensors")?;
    let stale = world.path("rm/checkpoint-2/model.safetensors");
    std::fs::copy(stale, world.path("rm/model.safetensors"))?;
    world.refuses("export rm --output out", &["was continued and is not finished", "--resume"])?;
    let mut broken = weights.clone();
    let end = broken.len();
    broken[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(world.path("rm/model.safetensors"), &broken)?;
    world.refuses("export rm --output out", &["holds NaN", "finite"])?;
    std::fs::write(world.path("rm/model.safetensors"), &weights)?;
    std::fs::rename(world.path("rm/config.json"), world.path("config.json"))?;
    world.refuses("export rm --output out", &["is not finished", "after step 4"])?;
    ensure!(!world.path("out").exists(), "a refused export left a folder");
    Ok(())
}

/// Protects: an upload is the exported folder, byte for byte, in one commit; only the hub gets the token.
#[test]
fn a_pushed_run_is_the_exported_folder() -> Result<()> {
    let world = World::new()?;
    trained(&world)?;
    world.run("export rm --output out")?;
    for in_parts in [false, true] {
        let hub = UploadHub::start(Stored { in_parts, ..Stored::default() })?;
        let said = succeeds(push(&world, &hub, "--private --revision trial")?)?;
        ensure!(said.contains("/acme/rm/commit/0123abc"), "{said}");
        let stored = hub.stored();
        ensure!(stored.private, "the repository is not private");
        ensure!(
            stored.files.keys().cloned().collect::<Vec<_>>() == names(&world, "out")?,
            "{:?}",
            stored.files.keys()
        );
        for (name, content) in &stored.files {
            ensure!(*content == world.read(&format!("out/{name}"))?, "{name} differs");
        }
        let commits = stored.requests.iter().filter(|path| path.ends_with("/commit/trial")).count();
        ensure!(commits == 1, "{:?}", stored.requests);
    }
    Ok(())
}

/// Protects: an upload continues after a busy or failing server, and sends no large file twice.
#[test]
fn an_upload_is_resumed() -> Result<()> {
    let world = World::new()?;
    trained(&world)?;
    let failures =
        vec![("/create", 503), ("/preupload/", 429), ("/batch", 500), ("/storage/", 500), ("/commit/", 429)];
    let hub = UploadHub::start(Stored { failures, in_parts: true, ..Stored::default() })?;
    let said = succeeds(push(&world, &hub, "")?)?;
    ensure!(said.contains("trying again"), "{said}");
    ensure!(hub.stored().failures.is_empty() && hub.stored().files.contains_key("model.safetensors"));

    // The commit fails permanently after the large file is stored; the next attempt sends the rest.
    let failures = vec![("/commit/", 409)];
    let hub = UploadHub::start(Stored { failures, ..Stored::default() })?;
    refused(push(&world, &hub, "")?, &["committing", "status 409"])?;
    ensure!(hub.stored().files.is_empty() && hub.stored().objects.len() == 1);
    hub.stored().requests.clear();
    succeeds(push(&world, &hub, "")?)?;
    let stored = hub.stored();
    ensure!(!stored.requests.iter().any(|path| path.contains("/storage/")), "{:?}", stored.requests);
    ensure!(stored.files["model.safetensors"] == world.read("rm/model.safetensors")?);
    Ok(())
}

/// Protects: a token that may write to one existing repository, and create none, uploads to it. A refusal counts if
/// the repository cannot be read, and a busy Hub is asked again.
#[test]
fn an_existing_repository_need_not_be_created() -> Result<()> {
    let world = World::new()?;
    trained(&world)?;
    let looked = "GET /api/models/acme/rm".to_owned();
    let rights = "You don't have the rights to create a model under the namespace \"acme\"";
    for (status, message) in [(401, "no scope"), (402, "pay"), (403, rights), (409, "You already created it")]
    {
        let uncreated = vec![(status, message)];
        let hub = UploadHub::start(Stored { uncreated, exists: true, ..Stored::default() })?;
        succeeds(push(&world, &hub, "")?)?;
        let stored = hub.stored();
        ensure!(stored.files.contains_key("model.safetensors"), "{status}: {:?}", stored.requests);
        ensure!(stored.requests.contains(&looked) == (status != 409), "{status}: {:?}", stored.requests);
    }
    let hub = UploadHub::start(Stored { uncreated: vec![(403, rights)], ..Stored::default() })?;
    refused(push(&world, &hub, "")?, &["refuses to write to acme/rm", "status 403", rights])?;
    let asked = hub.stored().requests.clone();
    ensure!(asked == ["POST /api/repos/create", &looked], "{asked:?}");

    let busy = (409, "Cannot create repo: another conflicting operation is in progress");
    let hub = UploadHub::start(Stored { uncreated: vec![busy, busy], ..Stored::default() })?;
    let said = succeeds(push(&world, &hub, "")?)?;
    ensure!(said.contains("another conflicting operation is in progress; trying again"), "{said}");
    let stored = hub.stored();
    let created = stored.requests.iter().filter(|request| request.ends_with("/api/repos/create")).count();
    ensure!(created == 3 && stored.files.contains_key("model.safetensors"), "{:?}", stored.requests);
    Ok(())
}

/// Protects: a dry run sends nothing; the message for a missing or wrong token explains where to get one.
#[test]
fn nothing_is_sent_without_leave() -> Result<()> {
    let world = World::new()?;
    trained(&world)?;
    let hub = UploadHub::start(Stored::default())?;
    let said = succeeds(push(&world, &hub, "--dry-run --output out")?)?;
    ensure!(said.contains("model.safetensors") && said.contains("6 files"), "{said}");
    ensure!(hub.stored().requests.is_empty() && !world.path("out").exists(), "a dry run did something");
    let mut missing = push(&world, &hub, "")?;
    missing.env_remove("HF_TOKEN");
    refused(missing, &["no token for http://127.0.0.1", "HF_TOKEN", "write access"])?;
    ensure!(hub.stored().requests.is_empty(), "requests without a token");
    let mut wrong = push(&world, &hub, "")?;
    wrong.env("HF_TOKEN", "hf_other");
    refused(wrong, &["does not accept the token", "401", "Invalid credentials", "/settings/tokens"])?;
    ensure!(hub.stored().files.is_empty());
    Ok(())
}

/// Protects: named chat templates are shared with the tokenizer.
#[test]
fn named_chat_templates_are_shared() -> Result<()> {
    let world = World::new()?;
    let template = "additional_chat_templates/rag.jinja";
    std::fs::create_dir(world.path("base/additional_chat_templates"))?;
    world.write(&format!("base/{template}"), "{{ documents }}")?;
    trained(&world)?;
    world.run("export rm --output out")?;
    for folder in ["rm", "out"] {
        ensure!(world.read(&format!("{folder}/{template}"))? == b"{{ documents }}", "{folder}");
    }
    Ok(())
}

/// Protects: the class that a reward model brings is in the run's folder, on its card, and shared with it.
#[test]
fn the_class_of_a_reward_model_is_shared() -> Result<()> {
    let world = World::new()?;
    let config = String::from_utf8(world.read("base/config.json")?)?.replace("\"llama\"", "\"granite\"");
    world.write("base/config.json", &config)?;
    trained(&world)?;
    world.run("export rm --output out")?;
    for folder in ["rm", "out"] {
        let text = |name: &str| -> Result<String> {
            Ok(String::from_utf8(world.read(&format!("{folder}/{name}"))?)?)
        };
        let class = "GraniteForSequenceClassification";
        ensure!(text("modeling_reward.py")?.contains(&format!("\nclass {class}(")), "{folder}");
        ensure!(text("config.json")?.contains(&format!("\"modeling_reward.{class}\"")), "{folder}");
        let card = text("README.md")?;
        ensure!(
            card.contains("trust_remote_code=True") && card.contains("library_name: transformers"),
            "{card}"
        );
    }
    Ok(())
}

/// Protects: the repositories that a run started from become the card's base model and data.
#[test]
fn origins_on_the_hub_are_named() -> Result<()> {
    let world = World::new()?;
    let base = "hf/hub/models--acme--nano/snapshots/0123abc";
    let data = "hf/hub/datasets--acme--pairs/snapshots/4567def";
    std::fs::create_dir_all(world.path(data))?;
    std::fs::create_dir_all(world.path(base).parent().context("a folder")?)?;
    std::fs::rename(world.path("base"), world.path(base))?;
    std::fs::rename(world.path("train.jsonl"), world.path(&format!("{data}/train.jsonl")))?;
    let train =
        format!("reward --model {base} --data {data}/train.jsonl --eval-split 0.2 --max-steps 2 --batch 8");
    world.run(&format!("{train} --output rm"))?;
    world.run("export rm --output out")?;
    // An adapter names the commit of its base, which another branch or a later one may not hold.
    world.run(&format!("{train} --lora-r 2 --output adapter"))?;
    world.run("export adapter --output shared")?;
    let config: Value = serde_json::from_slice(&world.read("shared/adapter_config.json")?)?;
    ensure!(config["base_model_name_or_path"] == "acme/nano" && config["revision"] == "0123abc", "{config}");
    let card = String::from_utf8(world.read("out/README.md")?)?;
    for line in [
        "base_model: \"acme/nano\"\n",
        "datasets:\n- \"acme/pairs\"\n",
        "name: \"held-out part of acme/pairs\"\n",
    ] {
        ensure!(card.contains(line), "{line} {card}");
    }
    Ok(())
}
