//! A `pcrm serve` process on a free port, and requests to it.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, ExitStatus};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use ureq::Agent;
use ureq::http::HeaderMap;

use crate::binary::{World, send};

/// A server that runs until it is stopped or dropped.
pub struct Server {
    child: Child,
    /// The standard error of the server, line by line.
    said: Mutex<Receiver<String>>,
    pub address: String,
    agent: Agent,
    token: Option<String>,
}

/// A reply: status, headers, body.
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Reply {
    /// Parses the body as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.text).with_context(|| format!("{} {:?}", self.status, self.text))
    }

    /// Returns the body of a reply whose status must be 200.
    pub fn ok(&self) -> Result<Value> {
        ensure!(self.status == 200, "{} {}", self.status, self.text);
        self.json()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

impl Server {
    /// Starts a server with these options and waits until it serves.
    pub fn start(world: &World, options: &str) -> Result<Self> {
        let mut command = world.command(&format!("serve --port 0 {options}"))?;
        command.env_remove("PCRM_API_KEY");
        let mut child = command.spawn()?;
        let said = lines(child.stderr.take().context("standard error")?);
        let until = Instant::now() + Duration::from_secs(120);
        let mut all = Vec::new();
        let address = loop {
            match said.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => match line.split_once(" on http") {
                    Some((_, rest)) if line.starts_with("serving") => break format!("http{rest}"),
                    _ => all.push(line),
                },
                Err(_) => bail!("the server does not serve: {}", all.join("\n")),
            }
        };
        let tls = ureq::tls::TlsConfig::builder().disable_verification(true).build();
        let config = Agent::config_builder().http_status_as_error(false).tls_config(tls);
        let agent = config.timeout_global(Some(Duration::from_secs(60))).build().new_agent();
        Ok(Self { child, said: Mutex::new(said), address, agent, token: None })
    }

    /// Sends this token with every request.
    pub fn with_token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    /// Returns the address as `host:port`.
    pub fn socket(&self) -> &str {
        self.address.split("//").nth(1).unwrap_or_default()
    }

    pub fn post(&self, path: &str, body: &Value) -> Result<Reply> {
        self.send(path, "application/json", body.to_string().as_bytes())
    }

    /// Sends a body of any content type.
    pub fn send(&self, path: &str, kind: &str, body: &[u8]) -> Result<Reply> {
        let mut request = self.agent.post(format!("{}{path}", self.address)).header("content-type", kind);
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        reply(request.send(body)?)
    }

    pub fn get(&self, path: &str) -> Result<Reply> {
        let mut request = self.agent.get(format!("{}{path}", self.address));
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        reply(request.call()?)
    }

    /// Returns the value of a metric, summed over its labels.
    pub fn metric(&self, name: &str) -> Result<f64> {
        let text = self.get("/metrics")?.text;
        let of = |line: &str| -> Option<f64> {
            let rest = line.strip_prefix(name)?;
            ensure_end(rest)?;
            rest.rsplit_once(' ')?.1.parse().ok()
        };
        Ok(text.lines().filter_map(of).sum())
    }

    /// Waits until a metric has a value.
    pub fn await_metric(&self, name: &str, value: f64) -> Result<()> {
        let until = Instant::now() + Duration::from_secs(60);
        while self.metric(name)? != value {
            ensure!(Instant::now() < until, "{name} is {}, expected {value}", self.metric(name)?);
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Sends a signal to the process.
    pub fn signal(&self, name: &str) -> Result<()> {
        send(name, &self.child)
    }

    /// Waits for a line that contains a text.
    pub fn hears(&self, text: &str) -> Result<String> {
        let until = Instant::now() + Duration::from_secs(60);
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let line = said.recv_timeout(until.saturating_duration_since(Instant::now()));
            let line = line.with_context(|| format!("the server did not print {text:?}"))?;
            if line.contains(text) {
                return Ok(line);
            }
        }
    }

    /// Waits for the end of the process.
    pub fn ended(&mut self) -> Result<ExitStatus> {
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            ensure!(Instant::now() < until, "the server did not stop");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Accepts the rest of a line after a metric's name only if labels or a value follow.
fn ensure_end(rest: &str) -> Option<()> {
    rest.starts_with(['{', ' ']).then_some(())
}

fn reply(mut response: ureq::http::Response<ureq::Body>) -> Result<Reply> {
    let mut text = String::new();
    response.body_mut().as_reader().read_to_string(&mut text)?;
    Ok(Reply { status: response.status().as_u16(), headers: response.headers().clone(), text })
}

fn lines(stderr: ChildStderr) -> Receiver<String> {
    let (say, said) = channel();
    std::thread::spawn(move || {
        BufReader::new(stderr).lines().map_while(Result::ok).for_each(|line| drop(say.send(line)));
    });
    said
}
