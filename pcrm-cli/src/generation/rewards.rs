//! Reward sources of the command line: opening them, identifying them in a run's origins, and scoring sampled
//! answers.

use std::path::Path;

use anyhow::{Context, Result};
use pcrm_core::Backend;
use pcrm_core::data::prompts::Prompt;
use pcrm_core::model::{ScoringModel, WeightPool};
use pcrm_core::text::Tokenizer;
use pcrm_rl::manifest::applied;
use pcrm_rl::reward_source::{
    self, Answer, AnswerTexts, Answers, ModelOptions, ModelReward, Place, RewardSource, Rewards, Spec,
    Weighted,
};
use pcrm_rl::rollout::Sample;
use serde_json::{Value, json};

use crate::hub::{Hub, Weights};
use crate::machine::Machine;
use crate::training::folder;

/// Opens reward sources. `policy` is the tokenizer of the answers; saved models share the weights of `pool`.
///
/// # Errors
/// Fails, naming `option`, if a source is unknown or does not start, or a folder holds no reward model.
pub fn open(
    option: &str,
    specs: &[Spec],
    machine: &Machine,
    hub: &Hub,
    backend: &dyn Backend,
    policy: &Tokenizer,
    pool: &WeightPool,
) -> Result<Weighted> {
    let mut model = |path: &Path| -> pcrm_rl::Result<Box<dyn RewardSource>> {
        let failed = |error: anyhow::Error| {
            pcrm_rl::Error::from(pcrm_core::Error::invalid("model", format!("{error:#}")))
        };
        let dir = hub.model_or_adapter(option, path, Weights::Read).map_err(failed)?;
        let how = applied(backend, &dir, machine.dtype).sharing(Some(pool));
        let (model, own) = ScoringModel::open_as(&dir, how)?;
        let name = folder::name_of(path);
        Ok(Box::new(ModelReward::new(name, model, own, policy, ModelOptions::default())?))
    };
    reward_source::open(specs, &mut model).with_context(|| option.to_owned())
}

/// Returns the identity of the rewards in a run: for saved models, digests of their files.
///
/// # Errors
/// Fails if a file cannot be read.
pub fn identity(specs: &[Spec]) -> Result<Value> {
    let of = |spec: &Spec| -> Result<Value> {
        let mut tagged = spec.to_tagged();
        if let Place::Model(path) = &spec.place
            && path.exists()
        {
            tagged["path"] = json!(pcrm_core::digest::with_base(path)?);
        }
        Ok(tagged)
    };
    specs.iter().map(of).collect()
}

/// Scores the samples of a prompt from their texts.
///
/// # Errors
/// Fails if a source fails.
pub fn score(
    rewards: &mut Weighted,
    prompt: &Prompt,
    samples: &[Sample],
    texts: &[AnswerTexts],
) -> Result<Rewards> {
    let answer = |(sample, texts)| {
        let Sample { ids, finish, .. }: &Sample = sample;
        Answer { prompt, texts, completion_ids: ids, ended: finish.is_ended() }
    };
    let rows: Vec<Answer<'_>> = samples.iter().zip(texts).map(answer).collect();
    Ok(rewards.score(&Answers { step: 0, rows: &rows })?)
}
