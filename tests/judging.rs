//! Policies judged pair by pair: a server with every kind of fault, a killed run, budgets, the other judges.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::binary::{World, stderr};

/// A key that must not appear in any file or message.
const KEY: &str = "sk-loopback-3141592653";

/// Faults of a server.
#[derive(Debug, Default)]
struct Faults {
    /// Answers some requests with 429, 500, another status, no JSON or half an answer, and one with silence once it
    /// is released.
    unruly: bool,
    /// Answers this many requests and no more.
    holds_after: Option<usize>,
}

/// A language model on the loopback interface. It prefers the answer with the higher number in it; if the
/// numbers differ by at most one, the answer that comes first.
struct Server {
    address: String,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    faults: Faults,
    requests: AtomicUsize,
    answered: AtomicUsize,
    released: AtomicBool,
    was_silent: AtomicBool,
    /// The number of answers to each request body.
    bodies: Mutex<HashMap<String, usize>>,
    /// The keys that the requests carried.
    keys: Mutex<Vec<String>>,
}

impl Server {
    fn new(faults: Faults) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = format!("http://{}/v1", listener.local_addr()?);
        let state = Arc::new(State { faults, ..State::default() });
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                thread::spawn(move || state.serve(stream).ok());
            }
        });
        Ok(Self { address, state })
    }

    fn answered(&self) -> usize {
        self.state.answered.load(Ordering::SeqCst)
    }

    /// Returns the number of answers to the most frequent request body.
    fn most_often(&self) -> usize {
        self.state.bodies.lock().unwrap().values().copied().max().unwrap_or(0)
    }
}

impl State {
    fn serve(&self, mut stream: TcpStream) -> Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            if let Some(value) = line.strip_prefix("authorization: Bearer ") {
                self.keys.lock().unwrap().push(value.trim().to_owned());
            }
            if line.trim().is_empty() {
                break;
            }
            head += &line;
        }
        ensure!(head.starts_with("POST /v1/chat/completions "), "{head}");
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let body = String::from_utf8(body)?;
        let number = self.requests.fetch_add(1, Ordering::SeqCst);
        let mut say = |status: &str, headers: &str, text: &str| {
            let length = text.len();
            let head = format!(
                "HTTP/1.1 {status}\r\n{headers}connection: close\r\ncontent-length: {length}\r\n\r\n"
            );
            stream.write_all(format!("{head}{text}").as_bytes())
        };
        if self.faults.unruly {
            match number % 23 {
                2 => {
                    return Ok(say(
                        "429 Too Many Requests",
                        "retry-after-ms: 3\r\n",
                        "{\"error\": \"slow down\"}",
                    )?);
                }
                5 => return Ok(say("429 Too Many Requests", "retry-after: 0\r\n", "")?),
                7 => return Ok(say("500 Internal Server Error", "", "boom")?),
                9 => return Ok(say("503 Service Unavailable", "", "")?),
                11 => return Ok(say("200 OK", "", "<html>a proxy</html>")?),
                13 => return Ok(say("200 OK", "", "{\"choices\": []}")?),
                15 => return Ok(()),
                17 if self.released.load(Ordering::SeqCst)
                    && !self.was_silent.swap(true, Ordering::SeqCst) =>
                {
                    thread::sleep(Duration::from_secs(60));
                    return Ok(());
                }
                19 => {
                    let half = "HTTP/1.1 200 OK\r\ncontent-length: 400\r\n\r\n{\"choices\": [{\"mess";
                    return Ok(stream.write_all(half.as_bytes())?);
                }
                _ => {}
            }
        }
        let words = reply(&serde_json::from_str(&body)?)?;
        {
            // The lock makes sure that no answer is counted after the hold.
            let mut bodies = self.bodies.lock().unwrap();
            let holds =
                self.faults.holds_after.is_some_and(|most| self.answered.load(Ordering::SeqCst) >= most);
            if holds && !self.released.load(Ordering::SeqCst) {
                drop(bodies);
                thread::sleep(Duration::from_secs(60));
                return Ok(());
            }
            *bodies.entry(body).or_default() += 1;
            self.answered.fetch_add(1, Ordering::SeqCst);
        }
        let answer = json!({"choices": [{"message": {"role": "assistant", "content": words}}],
                            "usage": {"prompt_tokens": 100, "completion_tokens": 2}});
        Ok(say("200 OK", "", &answer.to_string())?)
    }
}

/// Returns the verdict on a request in AlpacaEval's form, and no verdict for unspeakable prompts.
fn reply(body: &Value) -> Result<String> {
    let text = body["messages"].as_array().and_then(|all| all.last()).context("messages")?["content"].clone();
    let text = text.as_str().context("text")?;
    if text.contains("unspeakable") {
        return Ok("I would rather not say".to_owned());
    }
    let worth = |at: usize| -> Result<i64> {
        let part = text.split("worth ").nth(at).context("two answers")?;
        Ok(part.split_whitespace().next().context("a number")?.parse()?)
    };
    let (first, second) = (worth(1)?, worth(2)?);
    Ok(if (first - second).abs() <= 1 || first > second { "A" } else { "B" }.to_owned())
}

/// Writes answers to `count` prompts, whose worth depends on the policy and the prompt.
fn answers(world: &World, name: &str, count: usize, worth: impl Fn(usize) -> usize) -> Result<()> {
    let line = |at: usize| {
        let answer = format!("An answer worth {} .{}", worth(at), " word".repeat(worth(at) * 5 % 17));
        json!({"prompt": format!("Question {at}?"), "completion": answer, "sample": 0}).to_string() + "\n"
    };
    world.write(name, &(0..count).map(line).collect::<String>())
}

fn judge(server: &Server, more: &str) -> String {
    // A reply that is late is paid, and lost.
    let timeout = if server.state.faults.unruly { 10 } else { 60 };
    let config = json!({"kind": "openai", "model": "loop", "base_url": server.address, "timeout": timeout,
                        "backoff": 0.01, "attempts": 20, "concurrency": 4, "max_tokens": 8});
    format!("judge --answers a.jsonl b.jsonl --judge '{config}' --api-key {KEY} {more}")
}

fn figures(world: &World, folder: &str) -> Result<Value> {
    let result: Value = serde_json::from_slice(&world.read(&format!("{folder}/result.json"))?)?;
    let judge = &result["judges"][0];
    Ok(json!({"pairs": judge["pairs"], "position": judge["position"]}))
}

/// Protects: 500 comparisons through a faulty server, killed halfway and resumed, give the figures of a
/// faultless server, and no answered call is repeated. The key is in no file and no message.
#[test]
fn killed_runs_repeat_no_paid_call() -> Result<()> {
    let world = World::new()?;
    answers(&world, "a.jsonl", 250, |at| at * 7 % 13)?;
    answers(&world, "b.jsonl", 250, |at| at * 5 % 11)?;
    let calm = Server::new(Faults::default())?;
    let shown = world.run(&judge(&calm, "--cache calm --output calm-run"))?;
    ensure!(shown.contains("a : b") && shown.contains("500 verdicts"), "{shown}");
    // Identical answers are ties without a call.
    let result: Value = serde_json::from_slice(&world.read("calm-run/result.json")?)?;
    let identical = result["judges"][0]["replies"]["identical"].as_u64().context("identical")? as usize;
    ensure!(calm.answered() == 500 - 2 * identical && calm.most_often() == 1, "{}", calm.answered());

    let unruly = Server::new(Faults { unruly: true, holds_after: Some(200) })?;
    let command = judge(&unruly, "--cache kept --output run");
    let mut killed = world.command(&command)?.spawn()?;
    let kept = world.path("kept/verdicts.jsonl");
    let began = Instant::now();
    while std::fs::read(&kept).map_or(0, |text| text.iter().filter(|byte| **byte == b'\n').count()) < 200 {
        ensure!(began.elapsed() < Duration::from_secs(120) && killed.try_wait()?.is_none(), "no 200 replies");
        thread::sleep(Duration::from_millis(5));
    }
    // `kill` sends SIGKILL.
    killed.kill()?;
    killed.wait()?;
    ensure!(unruly.answered() == 200, "{}", unruly.answered());
    // Simulates a kill in the middle of a line.
    let mut torn = std::fs::read(&kept)?;
    torn.extend(b"{\"key\": \"ab");
    std::fs::write(&kept, torn)?;
    unruly.state.released.store(true, Ordering::SeqCst);
    let output = world.command(&command)?.output()?;
    ensure!(output.status.success(), "{}", stderr(&output));
    ensure!(unruly.most_often() == 1, "a paid call was repeated");
    ensure!(unruly.answered() == calm.answered(), "{} and {}", unruly.answered(), calm.answered());
    ensure!(
        unruly.state.requests.load(Ordering::SeqCst) > unruly.answered() + 50,
        "the server had too few faults"
    );
    ensure!(unruly.state.was_silent.load(Ordering::SeqCst), "the server was never silent");
    ensure!(figures(&world, "run")? == figures(&world, "calm-run")?, "the figures differ");

    // A further run makes no calls.
    world.run(&judge(&unruly, "--cache kept --output run"))?;
    ensure!(unruly.answered() == calm.answered());
    let mut keys = unruly.state.keys.lock().unwrap().clone();
    keys.dedup();
    ensure!(keys == [KEY], "{keys:?}");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &stderr(&output);
    ensure!(said.contains("are cached") && !said.contains(KEY), "{said}");
    let everything = files(&world.path(""))?;
    ensure!(everything.len() > 8);
    for path in everything {
        let bytes = std::fs::read(&path)?;
        ensure!(
            !bytes.windows(KEY.len()).any(|part| part == KEY.as_bytes()),
            "the key is in {}",
            path.display()
        );
    }
    Ok(())
}

/// Returns all files below a folder.
fn files(dir: &std::path::Path) -> Result<Vec<std::path::PathBuf>> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() { all.extend(files(&path)?) } else { all.push(path) }
    }
    Ok(all)
}

/// Protects: no budget is exceeded, paid answers are kept, and the same command continues from them; a wrong
/// key ends the run at once.
#[test]
fn budgets_end_a_run_that_goes_on_later() -> Result<()> {
    let world = World::new()?;
    answers(&world, "a.jsonl", 30, |at| 3 + at % 2)?;
    answers(&world, "b.jsonl", 30, |at| 9 + at % 3)?;
    let server = Server::new(Faults::default())?;
    let run = |more: &str| judge(&server, &format!("--cache kept {more}"));
    world.refuses(
        &run("--max-calls 20"),
        &[
            "the budget of 20 calls is spent; 20 of 60 verdicts are complete",
            "rerun the same command to continue",
        ],
    )?;
    ensure!(server.state.requests.load(Ordering::SeqCst) == 20);
    // A call takes 102 tokens; a call in flight reserves about 1400.
    world.refuses(&run("--max-spent-tokens 3000"), &["the budget of 3000 tokens is spent"])?;
    let bought = server.answered();
    ensure!((21..=49).contains(&bought), "{bought}");
    world.refuses(
        &run("--max-cost 0.002 --input-price 1 --output-price 1"),
        &["the budget of 0.002 in money is spent"],
    )?;
    let result: Value = serde_json::from_str(&world.run(&run("--json --input-price 10 --output-price 30"))?)?;
    ensure!(server.answered() == 60 && server.most_often() == 1, "{}", server.answered());
    let replies = &result["judges"][0]["replies"];
    let calls = replies["usage"]["calls"].as_u64().context("calls")?;
    let cost = replies["cost"].as_f64().context("cost")?;
    ensure!((cost - calls as f64 * (1000.0 + 60.0) / 1e6).abs() < 1e-12, "{replies}");
    ensure!(replies["kept"].as_u64().context("kept")? + calls == 60, "{replies}");
    // Every b is worth at least 5 more, so it wins every match.
    ensure!(result["judges"][0]["pairs"][0]["win_rate"]["rate"]["value"] == 0.0, "{result}");

    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut buffer = [0; 65536];
            let _ = stream.read(&mut buffer);
            let text = "{\"error\": \"invalid key\"}";
            let head = format!(
                "HTTP/1.1 401 Unauthorized\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                text.len()
            );
            let _ = stream.write_all(format!("{head}{text}").as_bytes());
        }
    });
    let refused = format!(
        "judge --answers a.jsonl b.jsonl --judge openai:x --judge-url http://{address}/v1 --cache other \
         --api-key {KEY}"
    );
    let said = world.fails(&refused)?;
    ensure!(
        said.contains("401 Unauthorized") && said.contains("0 of 60 verdicts") && !said.contains(KEY),
        "{said}"
    );
    // Only a transient failure is worth repeating the command.
    let again = "rerun the same command";
    ensure!(!said.contains(again), "{said}");
    let gone = json!({"kind": "openai", "model": "x", "base_url": "http://127.0.0.1:1/v1", "attempts": 1});
    world.refuses(
        &format!("judge --answers a.jsonl b.jsonl --judge '{gone}' --cache other"),
        &["after 1 try; 0 of 60 verdicts are complete", again],
    )?;
    let said = world.fails("judge --answers a.jsonl b.jsonl --judge gold")?;
    ensure!(said.contains("is not a prompt of a generated world") && !said.contains(again), "{said}");
    Ok(())
}

/// Protects: a reply without a verdict is counted and shown, and its match counts for neither side; several
/// templates can judge, and their agreement with each other and with people is measured.
#[test]
fn replies_without_a_verdict_are_no_ties() -> Result<()> {
    let world = World::new()?;
    answers(&world, "a.jsonl", 40, |at| 3 + at % 9)?;
    answers(&world, "b.jsonl", 40, |at| 3 + at * 3 % 7)?;
    let line = |worth: usize| {
        json!({"prompt": "An unspeakable question?", "completion": format!("x worth {worth} y")}).to_string()
            + "\n"
    };
    for (name, worth) in [("a.jsonl", 9), ("b.jsonl", 1)] {
        let text = String::from_utf8(world.read(name)?)? + &line(worth);
        world.write(name, &text)?;
    }
    world.write(
        "own.toml",
        "verdict = \"choice\"\nuser = \"Q: {{ question }}\\nFirst: {{ first }}\\nSecond: {{ second }}\"\n",
    )?;
    let server = Server::new(Faults::default())?;
    let people: String = (0..20)
        .map(|at| {
            let of = |worth: usize| format!("An answer worth {worth} .{}", " word".repeat(worth * 5 % 17));
            let (a, b) = (3 + at % 9, 3 + at * 3 % 7);
            let verdict = if a > b {
                "second"
            } else if a < b {
                "first"
            } else {
                "tie"
            };
            // People saw the answers in the other order.
            json!({"prompt": format!("Question {at}?"), "first": of(b), "second": of(a), "verdict": verdict})
                .to_string()
                + "\n"
        })
        .collect();
    world.write("people.jsonl", &people)?;
    let command = format!(
        "judge --answers a.jsonl b.jsonl --judge openai:loop --judge-url {} --template alpaca_eval \
         --template own.toml --human people.jsonl --cache kept --output run --json",
        server.address
    );
    let result: Value = serde_json::from_str(&world.run(&command)?)?;
    let first = &result["judges"][0];
    ensure!(first["name"] == "loop (alpaca_eval)" && result["judges"][1]["name"] == "loop (own)", "{result}");
    let rate = &first["pairs"][0]["win_rate"];
    ensure!(rate["matches"] == 40 && rate["without_verdict"] == 1, "{rate}");
    let replies = &first["replies"];
    ensure!(
        replies["without_verdict"] == 2 && replies["examples"][0]["reply"] == "I would rather not say",
        "{replies}"
    );
    ensure!(
        replies["examples"][0]["prompt"].as_str().is_some_and(|place| place.ends_with("a.jsonl:41")),
        "{replies}"
    );
    let agreement = result["agreement"].as_array().context("agreement")?;
    ensure!(agreement.len() == 3, "{agreement:?}");
    // One model with two templates agrees with itself; people see a difference of one, which the model calls
    // a tie.
    ensure!(agreement[0]["agreement"]["kappa"]["value"] == 1.0, "{}", agreement[0]);
    let identical = (0..20).filter(|at| at % 9 == at * 3 % 7).count();
    ensure!(identical > 0 && agreement[1]["agreement"]["matches"] == 20 - identical, "{}", agreement[1]);
    let with_people = agreement[1]["agreement"]["kappa"]["value"].as_f64().context("kappa")?;
    ensure!((0.2..1.0).contains(&with_people), "{with_people}");
    // Replayed verdicts give the same figures without a server.
    let replay = json!({"kind": "replay", "file": "run/verdicts.jsonl", "judge": "loop (alpaca_eval)"});
    let again = world.run(&format!("judge --answers a.jsonl b.jsonl --judge '{replay}' --json"))?;
    let again: Value = serde_json::from_str(&again)?;
    ensure!(again["judges"][0]["pairs"] == first["pairs"], "{again}");
    ensure!(again["judges"][0]["position"] == first["position"], "{again}");
    world.refuses(
        "judge --answers a.jsonl b.jsonl --judge replay:run/verdicts.jsonl",
        &["several judges", "loop (alpaca_eval)"],
    )?;
    Ok(())
}

/// Protects: rewards, the generated world's truth and programs can judge; leagues; policies sampled on the
/// spot.
#[test]
fn judges_of_other_kinds() -> Result<()> {
    let world = World::new()?;
    for (name, shift) in [("a.jsonl", 0), ("b.jsonl", 2), ("c.jsonl", 4)] {
        answers(&world, name, 60, |at| (at * (shift + 3) + shift) % 17)?;
    }
    let reward = json!({"kind": "reward", "reward": {"kind": "length", "per_unit": 1, "unit": "words"}});
    let command = format!("judge --answers a.jsonl b.jsonl c.jsonl --judge '{reward}'");
    let result: Value = serde_json::from_str(&world.run(&format!("{command} --json"))?)?;
    let judge = &result["judges"][0];
    ensure!(judge["pairs"].as_array().map(Vec::len) == Some(3) && judge["position"].is_null(), "{judge}");
    let standings = judge["league"]["standings"].as_array().context("league")?;
    let sum: f64 = standings.iter().filter_map(|one| one["rating"]["value"].as_f64()).sum();
    ensure!(standings.len() == 3 && sum.abs() < 1e-9, "{standings:?}");
    let shown = world.run(&command)?;
    ensure!(shown.contains("Elo") && shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
    world.refuses(
        "judge --answers a.jsonl b.jsonl --judge '{\"kind\": \"reward\", \"reward\": \"repetition\"}'",
        &["repetition counts tokens"],
    )?;
    world
        .refuses("judge --answers a.jsonl b.jsonl --judge gold", &["is not a prompt of a generated world"])?;

    // A judge that always prefers the first answer.
    let first = "echo \"{\\\"ready\\\": true}\"; n=0; while IFS= read -r line; do \
                 echo \"{\\\"id\\\": $n, \\\"verdict\\\": \\\"first\\\"}\"; n=$((n+1)); done";
    if cfg!(unix) {
        let program = json!({"kind": "command", "command": first});
        let json =
            world.run(&format!("judge --answers a.jsonl b.jsonl --judge '{program}' --cache kept --json"))?;
        let judge = &serde_json::from_str::<Value>(&json)?["judges"][0];
        let position = &judge["position"];
        ensure!(
            position["first"] == position["matches"].as_u64().map(|all| all - 4).context("matches")?
                || position["consistent"].as_u64().context("consistent")? < 8,
            "{position}"
        );
        ensure!(judge["pairs"][0]["win_rate"]["rate"]["value"] == 0.5, "{judge}");
    }

    world.run(
        "sft --model base --random-init --data train.jsonl --epochs 2 --learning-rate 1e-2 --output policy",
    )?;
    world.run("sft --model base --random-init --data train.jsonl --max-steps 2 --output raw")?;
    let sampled = format!(
        "judge --model one=policy --model two=policy --model raw --data test.jsonl --limit 8 --max-tokens 6 \
         --judge '{reward}' --output judged"
    );
    let json: Value = serde_json::from_str(&world.run(&format!("{sampled} --json"))?)?;
    // The same model with the same seed gives the same answers.
    ensure!(world.read("judged/answers/one.jsonl")? == world.read("judged/answers/two.jsonl")?);
    ensure!(json["judges"][0]["pairs"][0]["win_rate"]["ties"] == 8, "{json}");
    ensure!(json["judges"][0]["pairs"][1]["win_rate"]["matches"] == 8, "{json}");
    let page = String::from_utf8(world.read("judged/report.html")?)?;
    ensure!(
        page.contains("Judged: one, two, raw") && !page.contains("http://") || page.contains("www.w3.org"),
        "page"
    );
    world.run(&sampled)?;
    world.refuses(&sampled.replace("--max-tokens 6", "--max-tokens 7"), &["name another --output"])?;
    Ok(())
}

/// Protects: answers with replacement characters in a file are valid text, and a reward model judges them.
#[test]
fn replacement_characters_are_judged() -> Result<()> {
    let world = World::new()?;
    for (name, text) in [("a", "the sea \u{fffd} good"), ("b", "a road \u{fffd}\u{fffd}")] {
        let line =
            |at: usize| json!({"prompt": format!("Question {at}?"), "completion": format!("{text} {at}")});
        let lines: Vec<String> = (0..6).map(|at| line(at).to_string()).collect();
        world.write(&format!("{name}.jsonl"), &lines.join("\n"))?;
    }
    let judge = json!({"kind": "reward", "reward": "model:base"});
    let found = world.run(&format!("judge --answers a.jsonl b.jsonl --judge '{judge}' --json"))?;
    let found: Value = serde_json::from_str(&found)?;
    let rate = &found["judges"][0]["pairs"][0]["win_rate"];
    ensure!(rate["matches"] == 6 && rate["without_verdict"] == 0, "{rate}");
    Ok(())
}

/// Protects: unusable requests are refused before any call, with the file, the line and the expected value.
#[test]
fn what_cannot_be_judged_is_refused() -> Result<()> {
    let world = World::new()?;
    answers(&world, "a.jsonl", 3, |at| at)?;
    answers(&world, "b.jsonl", 3, |at| at + 1)?;
    world.write("none.jsonl", "{\"prompt\": \"q\", \"text\": \"x\"}\n")?;
    world.write("other.jsonl", "{\"prompt\": \"Another?\", \"output\": \"x\"}\n")?;
    let with = |rest: &str| format!("judge --answers a.jsonl {rest}");
    for (arguments, parts) in [
        (with("--judge gold"), &["1 policies to compare", "at least two"][..]),
        (with("none.jsonl --judge gold"), &["none.jsonl:1", "no answer", "completion"][..]),
        (with("other.jsonl --judge gold"), &["no prompt is answered in all of", "other.jsonl"][..]),
        (with("a.jsonl --judge gold"), &["two policies are named \"a\"", "--answers one="][..]),
        (with("b.jsonl --judge magic"), &["magic", "command, gold, openai, replay, reward"][..]),
        (with("b.jsonl --judge magic:x"), &["expected gold, reward:SOURCE"][..]),
        (with("b.jsonl --judge openai"), &["no model", "OPENAI_MODEL"][..]),
        (with("b.jsonl --judge openai:x --template nowhere"), &["nowhere", "alpaca_eval, dialogue"][..]),
        (with("b.jsonl --judge openai:x --max-cost 1"), &["--input-price"][..]),
        (
            with("b.jsonl --judge openai:x --judge-url http://example.com/v1 --api-key k"),
            &["unencrypted"][..],
        ),
        (with("b.jsonl --judge gold --data test.jsonl"), &["have no effect without --model"][..]),
        (with("b.jsonl --judge gold --max-prompt 9"), &["--max-prompt has no effect without --model"][..]),
        (with("b.jsonl --judge gold --prompt-field q"), &["--prompt-field has no effect"][..]),
        (with("b.jsonl --judge gold --temperature 0.5"), &["--temperature has no effect"][..]),
        (with("b.jsonl --judge gold --template mt_bench"), &["--template has no effect", "openai"][..]),
        (with("b.jsonl --judge gold --judge-model x"), &["--judge-model has no effect"][..]),
        (with("b.jsonl --judge gold --max-calls 5"), &["--max-calls has no effect", "openai"][..]),
        (with("b.jsonl --judge openai:x --judge-model y"), &["names its own model"][..]),
        (
            "judge --model m1/final --model m2/final --data test.jsonl --judge gold --output out".to_owned(),
            &["two policies are named \"final\"", "--model one="][..],
        ),
        (
            with("b.jsonl --judge replay:none.jsonl"),
            &["none.jsonl:1", "missing field", "\"verdict\": \"first\"}"][..],
        ),
    ] {
        world.refuses(&arguments, parts)?;
    }
    Ok(())
}

/// Protects: an edited program judges again instead of giving its earlier verdicts, and an unchanged one is
/// not asked twice. A judge that always prefers the first answer is described so.
#[cfg(unix)]
#[test]
fn an_edited_program_judges_again() -> Result<()> {
    let world = World::new()?;
    // No two answers are identical.
    answers(&world, "a.jsonl", 12, |at| 3 + at)?;
    answers(&world, "b.jsonl", 12, |at| 40 + at)?;
    let program = |verdict: &str| {
        format!(
            "echo '{{\"ready\": true}}'; n=0; while IFS= read -r line; do echo x >> asked; \
             echo \"{{\\\"id\\\": $n, \\\"verdict\\\": {verdict}}}\"; n=$((n+1)); done\n"
        )
    };
    let asked = || std::fs::read(world.path("asked")).map_or(0, |text| text.len() / 2);
    let command = "judge --answers a.jsonl b.jsonl --judge 'command:sh judge.sh' --cache kept --json";
    let run = || -> Result<Value> {
        Ok(serde_json::from_str::<Value>(&world.run(command)?)?["judges"][0]["position"]["preference"].take())
    };
    world.write("judge.sh", &program("1"))?;
    ensure!(run()?["value"] == 1.0 && asked() == 24, "{}", asked());
    let shown = world.run(&command.replace(" --json", ""))?;
    let shown = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    ensure!(asked() == 24 && shown.contains("it always favours the answer shown first"), "{shown}");
    world.write("judge.sh", &program("0"))?;
    ensure!(run()?["value"] == 0.0 && asked() == 48, "{}", asked());
    world.write("judge.sh", &program("1"))?;
    ensure!(run()?["value"] == 1.0 && asked() == 48, "{}", asked());
    Ok(())
}

/// Protects: `--output` replaces only the result of the same policies and judges, never recorded verdicts
/// that are being replayed, verdicts of another origin or the cache.
#[test]
fn an_earlier_judging_is_not_replaced_by_another() -> Result<()> {
    let world = World::new()?;
    for (name, shift) in [("a.jsonl", 0), ("b.jsonl", 2), ("c.jsonl", 4)] {
        answers(&world, name, 20, |at| (at * (shift + 3) + shift) % 17)?;
    }
    let reward = |more: &str| {
        let length = json!({"kind": "length", "per_unit": 1, "unit": "words"});
        format!("'{}'", json!({"kind": "reward", "reward": length, "tie": more.len()}))
    };
    let judge = |files: &str, judge: &str, output: &str| {
        format!("judge --answers {files} --judge {judge} --bootstrap 50 --output {output}")
    };
    world.run(&judge("a.jsonl b.jsonl", &reward(""), "run"))?;
    let before = world.read("run/verdicts.jsonl")?;
    for (command, part) in [
        (judge("a.jsonl b.jsonl", &reward("x"), "run"), "of a, b by reward (length), with other judges"),
        (judge("a.jsonl c.jsonl", &reward(""), "run"), "with other policies"),
        (judge("one=a.jsonl b.jsonl", &reward(""), "run"), "with other policies"),
        (judge("a.jsonl b.jsonl", "replay:run/verdicts.jsonl", "run"), "is replayed"),
        (judge("a.jsonl b.jsonl", &reward(""), "run") + " --human run/verdicts.jsonl", "is replayed"),
        (judge("a.jsonl b.jsonl", &reward(""), "kept") + " --cache kept", "is the folder of --cache"),
    ] {
        world.refuses(&command, &["--output", part, "name another folder"])?;
    }
    std::fs::create_dir_all(world.path("kept"))?;
    world.write("kept/verdicts.jsonl", "{}\n")?;
    world.refuses(&judge("a.jsonl b.jsonl", &reward(""), "kept"), &["verdicts.jsonl of another origin"])?;
    ensure!(world.read("run/verdicts.jsonl")? == before && world.read("kept/verdicts.jsonl")? == b"{}\n");
    world.run(&(judge("a.jsonl ./b.jsonl", &reward(""), "./run") + " --seed 3"))?;
    ensure!(world.read("run/verdicts.jsonl")? == before, "the same judging differs");
    world.run(&judge("a.jsonl b.jsonl", "replay:run/verdicts.jsonl", "again"))?;
    Ok(())
}

/// Protects: if a pair of policies has no verdict at all, its matches are counted among those that are not.
#[test]
fn pairs_without_any_verdict_are_counted() -> Result<()> {
    let world = World::new()?;
    for (name, worth) in [("a.jsonl", 1), ("b.jsonl", 20), ("c.jsonl", 40)] {
        answers(&world, name, 8, |at| at + worth)?;
    }
    let length = json!({"kind": "length", "per_unit": 1, "unit": "characters"});
    let reward = json!({"kind": "reward", "reward": length});
    world.run(&format!("judge --answers a.jsonl b.jsonl --judge '{reward}' --output two"))?;
    let shown = world.run("judge --answers a.jsonl b.jsonl c.jsonl --judge replay:two/verdicts.jsonl")?;
    let shown = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    ensure!(shown.contains("32 of 48 replies have no verdict; their 16 matches are not counted"), "{shown}");
    Ok(())
}

/// Protects: a server's reply without content, as of a filter, is a reply without a verdict: it is sent once,
/// counted and kept, and the run continues.
#[test]
fn replies_without_content_do_not_end_a_run() -> Result<()> {
    let world = World::new()?;
    answers(&world, "a.jsonl", 8, |at| 3 + at)?;
    answers(&world, "b.jsonl", 8, |at| 40 + at)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let requests = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&requests);
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let Ok(copy) = stream.try_clone() else { continue };
            let (mut reader, mut length) = (BufReader::new(copy), 0);
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).is_err() || line.trim().is_empty() {
                    break;
                }
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap_or(0);
                }
            }
            let mut body = vec![0; length];
            let _ = reader.read_exact(&mut body);
            let content = if counter.fetch_add(1, Ordering::SeqCst) < 2 { Value::Null } else { json!("A") };
            let choice =
                json!({"message": {"role": "assistant", "content": content}, "finish_reason": "length"});
            let text = json!({"choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 1}});
            let text = text.to_string();
            let length = text.len();
            let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
            let _ = stream.write_all(format!("{head}{text}").as_bytes());
        }
    });
    let command = format!(
        "judge --answers a.jsonl b.jsonl --judge openai:x --judge-url http://{address}/v1 --cache kept \
         --concurrency 1 --json"
    );
    for calls in [16, 0] {
        let result: Value = serde_json::from_str(&world.run(&command)?)?;
        let replies = &result["judges"][0]["replies"];
        ensure!(replies["usage"]["calls"] == calls && replies["usage"]["input"] == 9 * calls, "{replies}");
        ensure!(replies["without_verdict"] == 2, "{replies}");
        ensure!(requests.load(Ordering::SeqCst) == 16);
    }
    Ok(())
}
