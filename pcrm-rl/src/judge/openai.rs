//! `openai`: a language model behind OpenAI's `/chat/completions`, as served by OpenAI, vLLM, SGLang,
//! llama.cpp, `transformers serve`, `pcrm serve` and others.
//!
//! Connection errors, time-outs, 429, 5xx and malformed responses are retried after a pause that doubles or
//! that `Retry-After` sets; a malformed response is charged to the budget as a reply is. A request refused
//! for its content (400, 413, 422: too long, filtered) leaves its question without a verdict; any other
//! refusal (a wrong key, an unknown model) ends the run.

mod config;

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};

use pcrm_core::erased_serde;
use serde::de::Error as _;
use serde_json::{Value, json};

use self::config::Config;
use super::purse::Purse;
use super::{Judge, JudgePlugin, OpenJudge, Opening, Preference, Question, Reply, Take, Template, Usage};
use crate::error::{Error, Result};
use crate::transport::{Client, Connection, Failed, Watcher};

impl OpenJudge for Config {
    fn open(&self, with: &mut Opening<'_>) -> Result<Box<dyn Judge>> {
        let template = Template::open(&self.template).map_err(|message| Error::judge("openai", message))?;
        let name = format!("{} ({})", self.model, template.name());
        let key = self.key(with.api_key.as_ref()).map_err(|message| Error::judge(&name, message))?;
        let client = Client::new(Connection {
            url: format!("{}/chat/completions", self.base_url.trim_end_matches('/')),
            key,
            timeout: self.timeout,
            attempts: self.attempts,
            backoff: self.backoff,
        });
        Ok(Box::new(OpenAi { name, config: self.clone(), template, client, purse: Purse::new(with.budget) }))
    }
}

struct OpenAi {
    name: String,
    config: Config,
    template: Template,
    client: Client,
    purse: Purse,
}

/// A request in flight, with its reservation and its stop flags.
struct Request<'a> {
    purse: &'a Purse,
    /// The most that one try may cost.
    most: Usage,
    /// True while a try's cost is reserved.
    holds: Cell<bool>,
    /// Tokens of the current try; none unless the server replied.
    tokens: Cell<Usage>,
    /// Cost of all completed tries.
    spent: Cell<Usage>,
    stop: &'a AtomicBool,
    failed: &'a AtomicBool,
}

impl Request<'_> {
    /// Notes the tokens of a reply; one without counts costs the most that it may.
    fn replied(&self, usage: Usage) {
        let is_unknown = usage.input + usage.output == 0 && self.purse.counts_tokens();
        self.tokens.set(if is_unknown { self.most } else { usage });
    }

    /// Pays for the current try and releases its reservation.
    fn pay(&self) {
        if self.holds.replace(false) {
            let cost = Usage { calls: 1, ..self.tokens.take() };
            self.purse.pay(self.most, cost);
            let mut spent = self.spent.get();
            spent.add(cost);
            self.spent.set(spent);
        }
    }
}

impl Watcher for Request<'_> {
    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.failed.load(Ordering::Relaxed)
    }

    fn may_retry(&self) -> bool {
        self.pay();
        self.holds.set(self.purse.hold(self.most));
        self.holds.get()
    }
}

impl OpenAi {
    fn body(&self, question: &Question<'_>) -> Result<Value> {
        let messages = self
            .template
            .messages(question)
            .map_err(|message| Error::judge(&self.name, format!("{}: {message}", question.prompt.origin)))?;
        let mut body = json!({
            "model": self.config.model,
            "messages": messages,
            "temperature": self.config.temperature,
        });
        body[self.config.limit_field.as_str()] = self.config.max_tokens.into();
        for (name, value) in &self.config.extra {
            body[name.as_str()] = value.clone();
        }
        Ok(body)
    }

    /// Sends a question. Returns `Ok(None)` if stopped or the budget is spent.
    fn send(&self, body: &Value, stop: &AtomicBool, failed: &AtomicBool) -> Result<Option<Reply>, Failed> {
        // A token has at least one byte.
        let most = Usage { calls: 1, input: body.to_string().len() as u64, output: self.config.max_tokens };
        if !self.purse.hold(most) {
            return Ok(None);
        }
        let request = Request {
            purse: &self.purse,
            most,
            holds: Cell::new(true),
            tokens: Cell::default(),
            spent: Cell::default(),
            stop,
            failed,
        };
        let answer = self.client.post(body, &request, |text| {
            let (words, usage) = said(&text);
            request.replied(usage);
            words
        });
        request.pay();
        let usage = request.spent.get();
        match answer {
            Ok(text) => Ok(Some(Reply { verdict: self.read(&text), text: Some(text), usage })),
            Err(Failed::Stopped) => Ok(None),
            Err(Failed::Refused { status: Some(400 | 413 | 422), message }) => Ok(Some(Reply {
                verdict: Err(format!("the server refused the request: {message}")),
                text: None,
                usage,
            })),
            Err(failure) => Err(failure),
        }
    }
}

/// Parses a response: its text, or the reason why it has none, and its token counts.
fn said(text: &str) -> (Result<String, String>, Usage) {
    let value: Value = match serde_json::from_str(text) {
        Ok(value) => value,
        Err(error) => {
            let text = crate::transport::cut(text);
            return (Err(format!("the response is not valid JSON: {error}: {text}")), Usage::default());
        }
    };
    let message = &value["choices"][0]["message"];
    let words = match (&message["content"], &message["refusal"]) {
        (Value::String(words), _) => Ok(words.clone()),
        // A refusal is the model's reply; it contains no verdict.
        (Value::Null, Value::String(refusal)) => Ok(refusal.clone()),
        // A reply that was filtered, or cut off in its reasoning, has no content; another try would be the same.
        (Value::Null, _) if message.is_object() => Ok(String::new()),
        _ => {
            let text = crate::transport::cut(text);
            Err(format!("the answer has no choices[0].message.content: {text}"))
        }
    };
    let count = |name: &str| value["usage"][name].as_u64().unwrap_or(0);
    (words, Usage { calls: 1, input: count("prompt_tokens"), output: count("completion_tokens") })
}

impl Judge for OpenAi {
    fn name(&self) -> &str {
        &self.name
    }

    fn content(&self, question: &Question<'_>) -> Result<Option<Value>> {
        Ok(Some(json!({ "url": self.config.base_url, "body": self.body(question)? })))
    }

    fn read(&self, text: &str) -> Result<Preference, String> {
        self.template.read(text)
    }

    fn judge(&mut self, questions: &[Question<'_>], stop: &AtomicBool, take: &mut Take<'_>) -> Result<()> {
        let this = &*self;
        let bodies: Vec<Value> =
            questions.iter().map(|question| this.body(question)).collect::<Result<_>>()?;
        let (next, failed, fault) = (AtomicUsize::new(0), AtomicBool::new(false), Mutex::new(None));
        let (to, from) = mpsc::channel();
        let work = |to: mpsc::Sender<(usize, Reply)>| {
            while !failed.load(Ordering::Relaxed) && !stop.load(Ordering::Relaxed) {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(body) = bodies.get(at) else { return };
                match this.send(body, stop, &failed) {
                    // The receiver may be gone; it reports its own error.
                    Ok(Some(reply)) => drop(to.send((at, reply))),
                    Ok(None) => return,
                    Err(failure) => {
                        fault.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
                        failed.store(true, Ordering::Relaxed);
                    }
                }
            }
        };
        let taken = std::thread::scope(|scope| {
            for _ in 0..this.config.concurrency.min(bodies.len()) {
                let to = to.clone();
                scope.spawn(|| work(to));
            }
            drop(to);
            let mut taken = Ok(());
            // Take replies in flight even after one could not be kept: they are paid for.
            for (at, reply) in from {
                let kept = take(at, reply);
                if kept.is_err() {
                    failed.store(true, Ordering::Relaxed);
                }
                taken = taken.and(kept);
            }
            taken
        });
        taken?;
        if let Some(failure) = fault.into_inner().unwrap_or_else(PoisonError::into_inner) {
            let message = format!("{}: {failure}", this.config.base_url);
            return Err(match failure {
                Failed::Refused { .. } => Error::judge(&this.name, message),
                Failed::Tried { .. } | Failed::Stopped => Error::unfinished(&this.name, message),
            });
        }
        if stop.load(Ordering::Relaxed) {
            return Err(Error::Interrupted("stopped".to_owned()));
        }
        match this.purse.ended() {
            Some(limit) => Err(Error::unfinished(&this.name, format!("{limit} is spent"))),
            None => Ok(()),
        }
    }
}

fn build(data: &mut dyn erased_serde::Deserializer<'_>) -> erased_serde::Result<Box<dyn OpenJudge>> {
    let config: Config = erased_serde::deserialize(data)?;
    config.check().map_err(erased_serde::Error::custom)?;
    Ok(Box::new(config))
}

pcrm_core::inventory::submit! {
    JudgePlugin {
        name: "openai",
        about: "a language model (model) of a server (base_url) of OpenAI's protocol; template, temperature, \
             ..",
        build,
    }
}

#[cfg(test)]
mod tests;
