//! `reward`: prefers the answer with the higher reward; `gold`: the one with the higher true reward in the
//! generated world.

use std::sync::atomic::{AtomicBool, Ordering};

use pcrm_core::data::conversation::Content;
use pcrm_core::data::prompts::Prompt;
use pcrm_core::erased_serde;
use serde::Deserialize;
use serde::de::Error as _;
use serde_json::json;

use super::{FIRST, Judge, JudgePlugin, OpenJudge, Opening, Question, Reply, SECOND, TIE, Take, Usage};
use crate::error::{Error, Result};
use crate::reward_source::{Answer, AnswerTexts, Answers, Place, Preparation, Spec, Weighted};

/// The maximum number of questions scored at once.
const AT_ONCE: usize = 64;

/// Configuration of rewards as a judge.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// One or several reward sources, whose weighted sum decides.
    reward: OneOrMore,
    /// Largest difference of rewards that counts as a tie.
    #[serde(default)]
    tie: f32,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    Many(Vec<Spec>),
    One(Spec),
}

/// Configuration of the generated world's truth.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Gold {}

struct RewardJudge {
    name: String,
    rewards: Weighted,
    tie: f32,
}

impl Config {
    fn specs(&self) -> &[Spec] {
        match &self.reward {
            OneOrMore::Many(specs) => specs,
            OneOrMore::One(spec) => std::slice::from_ref(spec),
        }
    }

    fn check(&self) -> Result<(), String> {
        if !(self.tie >= 0.0 && self.tie.is_finite()) {
            return Err(format!("tie is {}; expected a number, 0 or more", self.tie));
        }
        self.specs().iter().try_for_each(|spec| match &spec.place {
            Place::Tagged(tagged) => {
                let kind = tagged["kind"].as_str().unwrap_or_default();
                let counts = ["length", "overlong", "repetition"].contains(&kind);
                let in_text = ["words", "characters"].contains(&tagged["unit"].as_str().unwrap_or_default());
                match counts && !in_text {
                    // Answers in files are texts; they have no policy tokens.
                    true => {
                        Err(format!("{kind} counts tokens; expected \"unit\": \"words\" or \"characters\""))
                    }
                    false => Ok(()),
                }
            }
            Place::Model(_) => Ok(()),
        })
    }
}

impl OpenJudge for Config {
    fn open(&self, with: &mut Opening<'_>) -> Result<Box<dyn Judge>> {
        let rewards = (with.rewards)(self.specs())?;
        let names: Vec<&str> = rewards.weights().map(|(name, _)| name).collect();
        let name = format!("reward ({})", names.join(", "));
        Ok(Box::new(RewardJudge { name, rewards, tie: self.tie }))
    }
}

impl OpenJudge for Gold {
    fn open(&self, with: &mut Opening<'_>) -> Result<Box<dyn Judge>> {
        let spec = Spec::from_tagged(json!({ "kind": "world" }))?;
        Ok(Box::new(RewardJudge { name: "gold".to_owned(), rewards: (with.rewards)(&[spec])?, tie: 0.0 }))
    }
}

impl Judge for RewardJudge {
    fn name(&self) -> &str {
        &self.name
    }

    fn notes(&self) -> Vec<String> {
        self.rewards.notes()
    }

    fn is_symmetric(&self) -> bool {
        true
    }

    fn judge(&mut self, questions: &[Question<'_>], stop: &AtomicBool, take: &mut Take<'_>) -> Result<()> {
        let prompts: Vec<Prompt> = questions.iter().map(|question| question.prompt.clone()).collect();
        self.rewards.prepare(&Preparation { prompts: &prompts, logs: None })?;
        for (number, some) in questions.chunks(AT_ONCE).enumerate() {
            if stop.load(Ordering::Relaxed) {
                return Err(Error::Interrupted("stopped".to_owned()));
            }
            let texts: Vec<AnswerTexts> = some
                .iter()
                .flat_map(|question| {
                    [question.first, question.second].map(|answer| texts(question.prompt, answer))
                })
                .collect();
            let rows: Vec<Answer<'_>> = texts
                .iter()
                .enumerate()
                .map(|(at, texts)| Answer {
                    prompt: some[at / 2].prompt,
                    texts,
                    completion_ids: &[],
                    ended: true,
                })
                .collect();
            let total = self.rewards.score(&Answers { step: 0, rows: &rows })?.total;
            for (at, pair) in total.chunks(2).enumerate() {
                let verdict = match pair {
                    [Some(first), Some(second)] if (first - second).abs() <= self.tie => Ok(TIE),
                    [Some(first), Some(second)] if first > second => Ok(FIRST),
                    [Some(_), Some(_)] => Ok(SECOND),
                    _ => Err("an answer has no reward".to_owned()),
                };
                take(number * AT_ONCE + at, Reply { verdict, text: None, usage: Usage::default() })?;
            }
        }
        Ok(())
    }
}

/// Returns the texts of an answer; those of a conversation have one line per turn.
fn texts(prompt: &Prompt, answer: &str) -> AnswerTexts {
    let prompt = match &prompt.prompt {
        Content::Text(text) => text.clone(),
        Content::Messages(turns) => {
            turns.iter().map(|turn| format!("{}: {}\n", turn.role, turn.content)).collect()
        }
    };
    let sequence = format!("{prompt}{answer}");
    AnswerTexts { prompt, completion: answer.to_owned(), sequence }
}

fn build(data: &mut dyn erased_serde::Deserializer<'_>) -> erased_serde::Result<Box<dyn OpenJudge>> {
    let config: Config = erased_serde::deserialize(data)?;
    config.check().map_err(erased_serde::Error::custom)?;
    Ok(Box::new(config))
}

pcrm_core::inventory::submit! {
    JudgePlugin {
        name: "reward",
        about: "reward sources (reward: model:DIR, a rule, a server, ..): the higher reward is better; tie 0",
        build,
    }
}

pcrm_core::inventory::submit! {
    JudgePlugin {
        name: "gold",
        about: "the true reward of answers to questions of the generated world (pcrm quickstart)",
        build: |data| Ok(Box::new(erased_serde::deserialize::<Gold>(data)?)),
    }
}
