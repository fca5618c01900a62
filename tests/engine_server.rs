//! A server on the loopback interface that speaks vLLM's and SGLang's protocols, with this project's engine
//! behind them and faults on demand.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use pcrm_core::Device;
use pcrm_core::kernels::Filters;
use pcrm_core::registry::{self, BackendPlugin};
use pcrm_rl::rollout::source::request_seed;
use pcrm_rl::rollout::{Finish, Prompt, Sample, Sampling};
use serde_json::{Value, json};

use crate::engine_models::{Job, Models, Reply};

/// A fault of the answer to a request for samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// 429, with `Retry-After: 1`.
    TooMany,
    /// 500.
    Broken,
    /// No answer until the client has gone.
    Hang,
    /// An answer that is not JSON.
    Garbage,
    /// An answer of another version.
    WrongVersion,
    /// All adapters are lost before the request is read.
    LostAdapters,
    /// The weights have the first version.
    Stale,
}

/// A request for samples, with its time and its answer.
#[derive(Debug, Clone)]
pub struct Asked {
    pub at: Instant,
    pub fault: Option<Fault>,
    /// Seed and number of the draw; `None` for an unknown seed.
    pub draw: Option<(u64, u64)>,
    /// The version that the request names, or that the server has.
    pub version: String,
}

/// The server.
pub struct EngineServer {
    pub address: String,
    state: Arc<State>,
}

struct State {
    /// Faults by the number of the request for samples.
    faults: Mutex<HashMap<usize, Fault>>,
    /// A fault of all requests from this number on.
    from: Mutex<Option<(usize, Fault)>>,
    requests: AtomicUsize,
    asked: Mutex<Vec<Asked>>,
    /// Seeds of runs and numbers of prompts, by the seed of a request.
    draws: HashMap<u64, (u64, u64)>,
    /// Names of the loaded adapters.
    adapters: Mutex<Vec<String>>,
    most_adapters: usize,
    /// True if weights were sent by a path that is not absolute.
    relative: AtomicBool,
    jobs: Mutex<mpsc::Sender<(Job, mpsc::Sender<Reply>)>>,
}

impl EngineServer {
    /// Starts a server that computes on this backend and holds at most so many adapters. It knows the draws
    /// of these prompts in runs with this seed.
    pub fn new(backend: &str, prompts: &[Prompt], seed: u64, most_adapters: usize) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = format!("http://{}", listener.local_addr()?);
        let plugin = registry::all::<BackendPlugin>().into_iter().find(|plugin| plugin.name == backend);
        let plugin = plugin.with_context(|| backend.to_owned())?;
        let (to, from) = mpsc::channel::<(Job, mpsc::Sender<Reply>)>();
        thread::spawn(move || -> Result<()> {
            let mut models = Models::new((plugin.open)(Device::Cpu.into())?, most_adapters);
            for (job, to) in from {
                // The client may have gone.
                drop(to.send(models.done(job)));
            }
            Ok(())
        });
        // The seeds of rollouts after `made` updates, and the seed of evaluations.
        let of_rollout = |made: u64| seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (made + 1);
        let seeds: Vec<u64> = (0..64).map(of_rollout).chain([seed]).collect();
        let draws = seeds.iter().flat_map(|seed| {
            prompts.iter().map(|prompt| (request_seed(*seed, prompt.number), (*seed, prompt.number)))
        });
        let state = Arc::new(State {
            faults: Mutex::default(),
            from: Mutex::default(),
            requests: AtomicUsize::new(0),
            asked: Mutex::default(),
            draws: draws.collect(),
            adapters: Mutex::default(),
            most_adapters,
            relative: AtomicBool::new(false),
            jobs: Mutex::new(to),
        });
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                thread::spawn(move || state.serve(stream).ok());
            }
        });
        Ok(Self { address, state })
    }

    /// Sets a fault of the request for samples with this number.
    pub fn fault(&self, number: usize, fault: Fault) {
        self.state.faults.lock().unwrap().insert(number, fault);
    }

    /// Sets a fault of all requests for samples from this number on, or none.
    pub fn fault_from(&self, from: Option<(usize, Fault)>) {
        *self.state.from.lock().unwrap() = from;
    }

    /// Returns true if a request is to hang.
    pub fn hangs(&self) -> bool {
        self.state.faults.lock().unwrap().values().any(|fault| *fault == Fault::Hang)
    }

    /// Returns the requests for samples so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.state.asked.lock().unwrap().clone()
    }

    /// Returns the names of the adapters that are loaded.
    pub fn adapters(&self) -> Vec<String> {
        self.state.adapters.lock().unwrap().clone()
    }

    /// Fails if weights were sent by a path that another process might not find.
    pub fn check_paths(&self) -> Result<()> {
        ensure!(!self.state.relative.load(Ordering::SeqCst), "a path of weights was relative");
        Ok(())
    }
}

impl State {
    fn job(&self, job: Job) -> Reply {
        let (to, from) = mpsc::channel();
        let sent = self.jobs.lock().unwrap().send((job, to));
        sent.map_err(|_| (500, "the thread of the models has ended".to_owned()))?;
        from.recv().map_err(|_| (500, "the thread of the models has ended".to_owned()))?
    }

    fn serve(&self, mut stream: TcpStream) -> Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            if line.trim().is_empty() {
                break;
            }
            head += &line;
        }
        let path = head.split_whitespace().nth(1).context("a path")?.to_owned();
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let body: Value = serde_json::from_slice(&body)?;
        let (status, headers, text) = match path.as_str() {
            "/v1/completions" | "/generate" => match self.samples(&path, &body)? {
                Some(said) => said,
                None => return Ok(()),
            },
            _ => match self.weights(&path, &body)? {
                Ok(text) => (200, "", text),
                Err((status, message)) => (status, "", json!({ "error": message }).to_string()),
            },
        };
        let head = format!(
            "HTTP/1.1 {status} Status\r\n{headers}connection: close\r\ncontent-length: {}\r\n\r\n",
            text.len()
        );
        Ok(stream.write_all(format!("{head}{text}").as_bytes())?)
    }

    /// Answers a request about weights.
    fn weights(&self, path: &str, body: &Value) -> Result<Result<String, (u16, String)>> {
        let text =
            |name: &str| Ok::<_, anyhow::Error>(body[name].as_str().context(name.to_owned())?.to_owned());
        let seen = |path: &str| self.relative.fetch_or(!Path::new(path).is_absolute(), Ordering::SeqCst);
        let is_vllm = path.starts_with("/v1/");
        Ok(match path {
            "/v1/load_lora_adapter" | "/load_lora_adapter" => {
                let (name, path) = (text("lora_name")?, text("lora_path")?);
                seen(&path);
                self.job(Job::Load { name: name.clone(), path }).map(|_| {
                    let mut adapters = self.adapters.lock().unwrap();
                    adapters.push(name.clone());
                    assert!(adapters.len() <= self.most_adapters);
                    match is_vllm {
                        true => format!("Success: LoRA adapter '{name}' added successfully."),
                        false => json!({ "success": true, "loaded_adapters": {} }).to_string(),
                    }
                })
            }
            "/v1/unload_lora_adapter" | "/unload_lora_adapter" => {
                let name = text("lora_name")?;
                self.adapters.lock().unwrap().retain(|other| *other != name);
                self.job(Job::Unload { name: name.clone() })
                    .map(|_| format!("Success: LoRA adapter '{name}' removed successfully."))
            }
            "/update_weights_from_disk" => {
                let (path, version) = (text("model_path")?, text("weight_version")?);
                seen(&path);
                let done = self.job(Job::Update { path, version });
                done.map(|_| json!({ "success": true, "message": "", "num_paused_requests": 0 }).to_string())
            }
            other => bail!("{other}"),
        })
    }

    /// Answers a request for samples; `None` to close the connection without an answer.
    fn samples(&self, path: &str, body: &Value) -> Result<Option<(u16, &'static str, String)>> {
        let number = self.requests.fetch_add(1, Ordering::SeqCst);
        let from = *self.from.lock().unwrap();
        let later = from.filter(|(first, _)| number >= *first).map(|(_, fault)| fault);
        let fault = self.faults.lock().unwrap().remove(&number).or(later);
        let is_vllm = path == "/v1/completions";
        let (ids, samples, sampling, name) = match is_vllm {
            true => {
                (&body["prompt"], body["n"].as_u64().context("n")? as usize, body, body["model"].as_str())
            }
            false => {
                let all = body["input_ids"].as_array().context("input_ids")?;
                ensure!(all.iter().all(|ids| *ids == all[0]), "prompts of one request differ");
                (&all[0], all.len(), &body["sampling_params"][0], body["lora_path"].as_str())
            }
        };
        let [seed, most] = match is_vllm {
            true => ["seed", "max_tokens"],
            false => ["sampling_seed", "max_new_tokens"],
        };
        let seed = sampling[seed].as_u64().context("a seed")?;
        let numbers = |value: &Value| -> Result<Vec<u32>> { Ok(serde_json::from_value(value.clone())?) };
        let draw = self.draws.get(&seed).copied();
        let asked = |version: String| Asked { at: Instant::now(), fault, draw, version };
        let name = name.map(str::to_owned);
        match fault {
            Some(Fault::TooMany) => {
                self.asked.lock().unwrap().push(asked(String::new()));
                return Ok(Some((429, "retry-after: 1\r\n", "slow down".to_owned())));
            }
            Some(Fault::Broken) => return Ok(Some((500, "", "boom".to_owned()))),
            Some(Fault::Hang) => {
                self.asked.lock().unwrap().push(asked(String::new()));
                thread::sleep(Duration::from_secs(8));
                return Ok(None);
            }
            Some(Fault::Garbage) => return Ok(Some((200, "", "{\"choices\": [NaN".to_owned()))),
            Some(Fault::LostAdapters) => {
                self.adapters.lock().unwrap().clear();
                self.job(Job::Lose).map_err(|(_, message)| anyhow::anyhow!(message))?;
            }
            _ => {}
        }
        let (run, prompt) = draw.context("a known seed")?;
        let filters =
            Filters { temperature: sampling["temperature"].as_f64().context("T")?, ..Filters::default() };
        let job = Job::Generate {
            name,
            stale: fault == Some(Fault::Stale),
            prompt: Prompt { number: prompt, ids: numbers(ids)? },
            samples,
            sampling: Sampling {
                filters,
                max_tokens: sampling[most].as_u64().context("a limit")? as usize,
                seed: run,
            },
            ends: numbers(&sampling["stop_token_ids"])?,
        };
        Ok(Some(match self.job(job) {
            Ok((made, version)) => {
                self.asked.lock().unwrap().push(asked(version.clone()));
                let version =
                    if fault == Some(Fault::WrongVersion) { "policy-old-v0".into() } else { version };
                (200, "", if is_vllm { of_vllm(&made, &version) } else { of_sglang(&made, &version) })
            }
            // SGLang has no 404 for an unknown adapter.
            Err((404, message)) if !is_vllm => (400, "", format!("LoRA adapters are not loaded: {message}")),
            Err((status, message)) => (status, "", json!({ "error": { "message": message } }).to_string()),
        }))
    }
}

fn reason(sample: &Sample) -> &'static str {
    if sample.finish == Finish::Length { "length" } else { "stop" }
}

fn of_vllm(made: &[Sample], version: &str) -> String {
    let choice = |(index, sample): (usize, &Sample)| {
        let log_probs: Vec<f64> = sample.log_probs.iter().map(|number| f64::from(*number)).collect();
        json!({
            "index": index,
            "text": "..",
            "finish_reason": reason(sample),
            "stop_reason": null,
            "token_ids": sample.ids,
            "logprobs": { "token_logprobs": log_probs, "tokens": [], "top_logprobs": [], "text_offset": [] },
        })
    };
    let choices: Vec<Value> = made.iter().enumerate().map(choice).collect();
    json!({ "id": "cmpl-1", "object": "text_completion", "model": version, "choices": choices }).to_string()
}

fn of_sglang(made: &[Sample], version: &str) -> String {
    let answer = |sample: &Sample| {
        let pair = |(id, number): (&u32, &f32)| json!([f64::from(*number), id, null]);
        let pairs: Vec<Value> = sample.ids.iter().zip(&sample.log_probs).map(pair).collect();
        json!({
            "text": "..",
            "output_ids": sample.ids,
            "meta_info": {
                "weight_version": version,
                "finish_reason": { "type": reason(sample) },
                "output_token_logprobs": pairs,
            },
        })
    };
    Value::Array(made.iter().map(answer).collect()).to_string()
}
