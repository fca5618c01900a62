//! The judges of the command line: their tagged data, questions and replies.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use pcrm_core::model::ScoringModel;
use pcrm_core::{digest, tagged};
use pcrm_eval::judging::Match;
use pcrm_rl::judge::{
    Asked, Budget, Judge, JudgePlugin, Kept, OpenJudge, Opening, Prices, Question, Reply, Usage, ask, parse,
};
use pcrm_rl::manifest::applied;
use pcrm_rl::reward_source::{ModelOptions, ModelReward, Place, RewardSource, Spec};
use serde_json::{Value, json};

use super::JudgeArgs;
use super::answers::{Field, Pairing};
use crate::hub::Weights;
use crate::interrupt::{self, Interrupted};
use crate::progress::{bar, say};
use crate::training::folder;

/// The settings of judges that do not affect their verdicts.
const PACE: [&str; 6] = ["api_key_env", "attempts", "backoff", "concurrency", "start_timeout", "timeout"];

/// All judges; the first one gives the win rates.
pub struct Panel {
    judges: Vec<Configured>,
}

/// A judge that is not yet open, with its data.
struct Configured {
    judge: Box<dyn OpenJudge>,
    data: Value,
}

/// The matches to be judged, with the options and kept replies.
pub struct Judging<'a> {
    /// The options.
    pub args: &'a JudgeArgs,
    /// The pairs of answers.
    pub field: &'a Field,
    /// Replies that were already paid for.
    pub kept: Kept,
}

/// The verdicts of one judge.
pub struct Verdicts {
    /// The judge's name.
    pub name: String,
    /// The digest of its settings.
    pub digest: String,
    /// The replies with the first policy's answer shown first, pairing by pairing.
    pub forward: Vec<Reply>,
    /// The replies in the other order; empty for a symmetric judge.
    pub backward: Vec<Reply>,
    /// Pairings whose answers are identical.
    pub identical: usize,
    /// The number of replies reused from earlier calls.
    pub kept: usize,
    /// The usage of the new replies.
    pub usage: Usage,
    /// The prices for the cost.
    pub prices: Option<Prices>,
}

impl Panel {
    /// Builds the judges from the options.
    ///
    /// # Errors
    /// Fails if the data of a judge are invalid.
    pub fn of(args: &JudgeArgs) -> Result<Self> {
        let named = std::iter::once(("--judge", &args.judge));
        let named = named.chain(args.against.iter().map(|text| ("--against", text)));
        let parsed =
            named.map(|(option, text)| Ok((option, parse(text).with_context(|| option.to_owned())?)));
        let parsed: Vec<(&str, Value)> = parsed.collect::<Result<_>>()?;
        args.service.check(&parsed.iter().map(|(_, data)| data).collect::<Vec<_>>())?;
        let mut judges = Vec::new();
        for (option, data) in parsed {
            for data in args.service.completed(data)? {
                judges.push(Configured::of(data).with_context(|| option.to_owned())?);
            }
        }
        if let Some(file) = &args.human {
            ensure!(file.is_file(), "--human {}: is not a file", file.display());
            let data = json!({ "kind": "replay", "file": file, "symmetric": true });
            judges.push(Configured::of(data).context("--human")?);
        }
        Ok(Self { judges })
    }

    /// Returns the digests of the judges' data, in their order.
    pub fn digests(&self) -> Vec<String> {
        self.judges.iter().map(Configured::digest).collect()
    }

    /// Returns the files of recorded verdicts.
    pub fn replayed(&self) -> impl Iterator<Item = &Path> {
        let replays = self.judges.iter().filter(|one| one.data["kind"] == "replay");
        replays.filter_map(|one| one.data["file"].as_str().map(Path::new))
    }

    /// Asks every judge about every match.
    ///
    /// # Errors
    /// Fails if a judge cannot be opened or cannot continue.
    pub fn judge(&mut self, judging: &mut Judging<'_>) -> Result<Vec<Verdicts>> {
        let mut all: Vec<Verdicts> = Vec::new();
        for one in &self.judges {
            let mut judge = judging.open(one.judge.as_ref())?;
            let mut verdicts = judging.ask(judge.as_mut(), one.digest())?;
            let taken = all.iter().filter(|other| other.name == verdicts.name).count();
            if taken > 0 {
                verdicts.name = format!("{} #{}", verdicts.name, taken + 1);
            }
            all.push(verdicts);
        }
        Ok(all)
    }
}

impl Configured {
    fn of(data: Value) -> Result<Self> {
        Ok(Self { judge: tagged::from_value::<JudgePlugin>(data.clone())?, data })
    }

    /// Returns the digest of the settings that determine the verdicts.
    fn digest(&self) -> String {
        let settings = self.data.as_object().into_iter().flatten();
        let sorted: BTreeMap<_, _> = settings.filter(|(key, _)| !PACE.contains(&key.as_str())).collect();
        digest::text(&json!(sorted).to_string())
    }
}

impl Judging<'_> {
    fn open(&self, judge: &dyn OpenJudge) -> Result<Box<dyn Judge>> {
        let args = self.args;
        let mut rewards = |specs: &[Spec]| {
            let failed = |error: anyhow::Error| {
                pcrm_rl::Error::from(pcrm_core::Error::invalid("judge", format!("{error:#}")))
            };
            // Rules need no backend; it is opened only for saved models.
            let backend = match specs.iter().any(|spec| matches!(spec.place, Place::Model(_))) {
                true => Some(args.machine.open().map_err(failed)?),
                false => None,
            };
            let mut model = |path: &Path| -> pcrm_rl::Result<Box<dyn RewardSource>> {
                let dir = args.hub.model_or_adapter("--judge", path, Weights::Read).map_err(failed)?;
                let Some(backend) = &backend else {
                    return Err(pcrm_core::Error::invalid("judge", "no backend is open").into());
                };
                let (model, own) =
                    ScoringModel::open_as(&dir, applied(backend.as_ref(), &dir, args.machine.dtype))?;
                let policy = own.clone();
                let name = folder::name_of(path);
                Ok(Box::new(ModelReward::new(name, model, own, &policy, ModelOptions::default())?))
            };
            pcrm_rl::reward_source::open(specs, &mut model)
        };
        let service = &args.service;
        let budget = Budget {
            calls: service.max_calls,
            tokens: service.max_spent_tokens,
            cost: service.max_cost,
            prices: service.prices().unwrap_or_default(),
        };
        let mut opening = Opening { api_key: service.key(), budget, rewards: &mut rewards };
        let judge = judge.open(&mut opening)?;
        judge.notes().iter().for_each(|note| say(note));
        Ok(judge)
    }

    fn ask(&mut self, judge: &mut dyn Judge, digest: String) -> Result<Verdicts> {
        let (name, is_symmetric) = (judge.name().to_owned(), judge.is_symmetric());
        let pairings = &self.field.pairings;
        let mut questions: Vec<Question<'_>> = Vec::new();
        for pairing in pairings {
            let question = self.field.question(pairing);
            questions.push(question);
            if !is_symmetric {
                questions.push(Question { first: question.second, second: question.first, ..question });
            }
        }
        let bar = bar(questions.len() as u64, "verdicts");
        let stop = interrupt::flag()?;
        let asked =
            ask(judge, &questions, Some(&mut self.kept), stop, &mut |done| bar.set_position(done as u64));
        bar.finish_and_clear();
        let Asked { replies, identical, kept, usage } = asked.map_err(|error| match error {
            pcrm_rl::Error::Interrupted(message) => anyhow::Error::from(Interrupted {
                message: format!("{name}: {message}; rerun the same command to continue"),
            }),
            error @ pcrm_rl::Error::Unfinished { .. } => {
                anyhow::Error::from(error).context("rerun the same command to continue from the kept replies")
            }
            // The same command would be refused again.
            error => error.into(),
        })?;
        if kept > 0 {
            say(&format!("{name}: {kept} of {} replies are cached", replies.len()));
        }
        let each = if is_symmetric { 1 } else { 2 };
        let of = |order: usize| replies.iter().skip(order).step_by(each).cloned().collect::<Vec<_>>();
        Ok(Verdicts {
            name,
            digest,
            forward: of(0),
            backward: if is_symmetric { Vec::new() } else { of(1) },
            identical: identical / each,
            kept,
            usage,
            prices: self.args.service.prices(),
        })
    }
}

impl Field {
    /// Returns a pairing as a question, the first policy's answer first.
    pub fn question(&self, pairing: &Pairing) -> Question<'_> {
        Question {
            prompt: &self.prompts[pairing.prompt],
            first: self.answer(pairing.a, pairing.row_a),
            second: self.answer(pairing.b, pairing.row_b),
        }
    }
}

impl Verdicts {
    /// Returns the matches. A match that lacks a verdict in one of its orders has none, since a single order
    /// would favour a position.
    pub fn matches(&self, field: &Field) -> Vec<Match> {
        let of = |(at, pairing): (usize, &Pairing)| {
            let Question { first, second, .. } = field.question(pairing);
            let forward = self.forward[at].verdict.as_ref().ok().copied();
            let backward = self.backward.get(at).map(|reply| reply.verdict.as_ref().ok().map(|p| 1.0 - p));
            let (forward, backward) = match (forward, backward) {
                (forward, None) => (forward, None),
                (Some(forward), Some(Some(backward))) => (Some(forward), Some(backward)),
                _ => (None, None),
            };
            Match {
                prompt: pairing.prompt,
                a: pairing.a,
                b: pairing.b,
                forward,
                backward,
                length_a: first.chars().count(),
                length_b: second.chars().count(),
            }
        };
        field.pairings.iter().enumerate().map(of).collect()
    }

    /// Returns all replies with their pairing and whether the first policy's answer was shown first.
    pub fn replies(&self) -> impl Iterator<Item = (usize, bool, &Reply)> {
        let forward = self.forward.iter().enumerate().map(|(at, reply)| (at, true, reply));
        forward.chain(self.backward.iter().enumerate().map(|(at, reply)| (at, false, reply)))
    }
}
