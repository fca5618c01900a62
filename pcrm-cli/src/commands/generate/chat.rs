//! `pcrm generate --chat`: a conversation with a model.

use std::io::{self, BufRead};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use pcrm_core::data::conversation::{Content, Message};
use pcrm_core::data::encode::encode_prompts;
use pcrm_core::data::prompts::Prompt as PromptRecord;
use pcrm_core::data::report::Origin;
use pcrm_rl::reward_source::AnswerTexts;
use pcrm_rl::rollout::{Engine, Progress, Sample, Watch, numbered};

use crate::generation::{Policy, SamplingArgs};
use crate::interrupt;
use crate::progress::say;
use crate::terminal;

/// Answers each line of standard input until it ends.
///
/// # Errors
/// Fails if the template refuses a conversation or the conversation exceeds the model's positions.
pub fn run(policy: &Policy, args: &SamplingArgs, seed: u64) -> Result<()> {
    let mut sampling = args.sampling(&policy.model, seed)?;
    let decode = |ids: &[u32]| policy.text(ids);
    let stop = policy.stop(args, &decode)?;
    let interrupted = interrupt::flag()?;
    let templated = policy.tokenizer.has_chat_template();
    say(match templated {
        true => "each line is a message; /clear starts a new conversation, Ctrl-D or /quit exits",
        false => "the model has no chat template: each line is a text to continue; Ctrl-D or /quit exits",
    });
    let mut engine = Engine::new(policy.model.decoder(), args.budget())?;
    let mut turns: Vec<Message> = Vec::new();
    for line in io::stdin().lock().lines() {
        let line = line.context("standard input")?;
        match line.trim() {
            "" => continue,
            "/quit" => break,
            "/clear" => {
                turns.clear();
                say("started a new conversation");
                continue;
            }
            _ => {}
        }
        let prompt = match templated {
            true => {
                turns.push(Message::new("user", line.as_str()));
                Content::Messages(turns.clone())
            }
            false => Content::Text(line.clone()),
        };
        let origin = Origin { file: std::path::Path::new("standard input").into(), line: 1, record: 1 };
        let asked = [PromptRecord { origin, prompt, columns: serde_json::Map::new() }];
        let (encoded, _) = encode_prompts(&asked, &policy.tokenizer, None)?;
        let prompts = numbered(encoded.into_iter().map(|prompt| prompt.ids));
        let mut talk = Talk {
            policy,
            stops: args.stops(),
            prompt: prompts[0].ids.clone(),
            shown: 0,
            ids: Vec::new(),
            answer: String::new(),
            interrupted,
            failure: None,
        };
        let ran = engine.run(policy.model.decoder(), &prompts, 1, &sampling, &stop, &mut talk);
        if let Some(failure) = talk.failure {
            return Err(failure);
        }
        terminal::result("\n")?;
        match ran {
            Err(pcrm_rl::Error::Interrupted(_)) => break,
            Err(error) if turns.len() > 1 => {
                turns.pop();
                say(&format!("{error}; /clear starts a new conversation"));
            }
            ran => {
                ran?;
                turns.push(Message::new("assistant", talk.answer.as_str()));
            }
        }
        // Repeating a message gives another answer.
        sampling.seed = sampling.seed.wrapping_add(1);
    }
    Ok(())
}

/// Prints an answer while it is sampled.
struct Talk<'a> {
    policy: &'a Policy,
    /// The strings that end answers, which are not printed.
    stops: &'a [String],
    prompt: Vec<u32>,
    /// The number of bytes already printed.
    shown: usize,
    ids: Vec<u32>,
    answer: String,
    interrupted: &'static AtomicBool,
    failure: Option<anyhow::Error>,
}

impl Watch for Talk<'_> {
    fn done(&mut self, _prompt: usize, samples: Vec<Sample>) -> pcrm_rl::Result<()> {
        match self.policy.texts(&self.prompt, &samples) {
            Ok(texts) => {
                self.answer = texts.into_iter().map(|texts| texts.completion).next().unwrap_or_default()
            }
            Err(error) => self.failure = Some(error),
        }
        let rest = self.answer.get(self.shown..).unwrap_or_default().to_owned();
        self.failure = self.failure.take().or_else(|| terminal::result(&rest).err());
        Ok(())
    }

    fn token(&mut self, _prompt: usize, _sample: usize, id: u32) {
        self.ids.push(id);
        let Ok(texts) = AnswerTexts::decode(&self.policy.tokenizer, &self.prompt, &self.ids) else { return };
        let text = texts.completion;
        // A character made of several tokens is complete with its last token.
        if text.ends_with(char::REPLACEMENT_CHARACTER) {
            return;
        }
        let end = printable(&text, self.stops);
        if let Some(piece) = text.get(self.shown..end) {
            self.failure = self.failure.take().or_else(|| terminal::result(piece).err());
            self.shown = end;
        }
    }

    fn step(&mut self, _progress: &Progress) -> ControlFlow<()> {
        match self.failure.is_some() || self.interrupted.load(Ordering::Relaxed) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
}

/// Returns the length of the text before its first stop string, or before an end that may begin one.
fn printable(text: &str, stops: &[String]) -> usize {
    let stops = || stops.iter().filter(|stop| !stop.is_empty());
    let complete = stops().filter_map(|stop| text.find(stop.as_str())).min();
    let may_begin = |at: &usize| stops().any(|stop| stop.starts_with(&text[*at..]));
    let begun = || text.char_indices().map(|(at, _)| at).find(may_begin);
    complete.or_else(begun).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: no part of a stop string is printed, whichever way tokens divide it.
    #[test]
    fn stop_strings_are_not_printed() {
        let stops = ["###".to_owned(), String::new(), "\nHuman:".to_owned()];
        for (text, shown) in [
            ("", ""),
            ("a b", "a b"),
            ("a#", "a"),
            ("a##", "a"),
            ("a#b", "a#b"),
            ("a###b", "a"),
            ("é\nHum", "é"),
            ("é\nHun", "é\nHun"),
            ("a\nHuman: b###", "a"),
        ] {
            assert_eq!(&text[..printable(text, &stops)], shown, "{text:?}");
        }
        assert_eq!(printable("a#", &[]), 2);
    }
}
