//! The critic of PPO: its options, and its initial model.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use pcrm_core::model::RewardModel;
use pcrm_core::model::lora::peft::{AdapterFolder, tokenizer_dir};
use pcrm_core::text::Tokenizer;
use pcrm_core::{Backend, digest};
use pcrm_rl::manifest;
use pcrm_rl::reward_source::{Place, Spec, has_same_tokens};
use pcrm_rl::train::Base;
use serde_json::{Value, json};

use crate::hub::{Hub, Weights};
use crate::numbers::real;

/// Options of the critic.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Critic")]
pub struct CriticArgs {
    /// Start the critic from: reward (the reward model), policy (the policy with a zero head), or a folder
    /// [default: reward if it has the policy's tokens, else policy]
    #[arg(long, value_name = "MODEL")]
    pub critic: Option<String>,
    /// Set the peak learning rate of the critic [default: --learning-rate]
    #[arg(long, value_name = "RATE", value_parser = real)]
    pub critic_learning_rate: Option<f64>,
}

/// The initial model of a critic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A reward model, or the critic of another run.
    Folder(PathBuf),
    /// The policy with a head of zeros.
    Policy,
}

impl CriticArgs {
    /// Returns the initial model, fetching its files from the Hub if needed.
    ///
    /// # Errors
    /// Fails if the requested reward model does not exist or its tokens differ from the policy's.
    pub fn origin(&self, rewards: &[Spec], policy: &Tokenizer, hub: &Hub) -> Result<Origin> {
        let models = || {
            rewards.iter().filter_map(|spec| match &spec.place {
                Place::Model(path) => Some(path),
                Place::Tagged(_) => None,
            })
        };
        let fits = |dir: &Path| -> Result<bool> {
            Ok(has_same_tokens(&Tokenizer::from_dir(&tokenizer_dir(dir)?)?, policy))
        };
        match self.critic.as_deref() {
            Some("policy") => Ok(Origin::Policy),
            Some("") => bail!("--critic: is empty; expected reward, policy or a folder"),
            None => match models().next() {
                Some(path) => {
                    let dir = hub.model_or_adapter("--reward", path, Weights::Read)?;
                    Ok(if fits(&dir)? { Origin::Folder(dir) } else { Origin::Policy })
                }
                None => Ok(Origin::Policy),
            },
            Some(given) => {
                let path = match given {
                    "reward" => models().next().context("--critic reward: no --reward is a model")?.clone(),
                    folder => PathBuf::from(folder),
                };
                let dir = hub.model_or_adapter("--critic", &path, Weights::Read)?;
                ensure!(
                    fits(&dir)?,
                    "--critic {given}: its tokenizer differs from the policy's, whose tokens a critic reads; \
                     expected a model with the policy's tokenizer, or --critic policy"
                );
                Ok(Origin::Folder(dir))
            }
        }
    }
}

impl Origin {
    /// Opens the critic, with adapters if the policy has them. If the folder holds a reward adapter, training
    /// continues that adapter and its head. Frozen weights are shared with the policy and the reward model
    /// where they are the same.
    ///
    /// # Errors
    /// Fails if a file cannot be read, the folder has no head, or the policy is an adapter.
    pub fn open(&self, policy: &Base, backend: &dyn Backend) -> Result<RewardModel> {
        match self {
            Self::Folder(dir) if AdapterFolder::is_alone(dir) => {
                let how = manifest::applied(backend, dir, policy.dtype).sharing(policy.pool.as_deref());
                let critic = RewardModel::load_adapter(dir, None, how, policy.seed)
                    .with_context(|| format!("--critic {}", dir.display()))?;
                Ok(critic.checkpointing(policy.checkpointing))
            }
            Self::Folder(dir) => {
                RewardModel::check_head(dir).with_context(|| format!("--critic {}", dir.display()))?;
                let base = Base { dir: dir.clone(), random_init: false, ..headless(policy) };
                base.open(backend).with_context(|| format!("--critic {}", dir.display()))
            }
            Self::Policy => {
                ensure!(
                    !AdapterFolder::is_alone(&policy.dir),
                    "--critic policy: --model is an adapter; use --critic with a folder, or merge --model \
                     with `pcrm merge`"
                );
                Ok(headless(policy).open(backend)?.with_head_of_zeros()?)
            }
        }
    }

    /// Returns the identity of the critic's origin: a digest of its folder, or its name.
    ///
    /// # Errors
    /// Fails if a file cannot be read.
    pub fn identity(&self) -> Result<Value> {
        Ok(match self {
            Self::Folder(dir) => json!(digest::with_base(dir)?),
            Self::Policy => json!("policy"),
        })
    }

    /// Returns a description of the origin.
    pub fn name(&self) -> String {
        match self {
            Self::Folder(dir) => dir.display().to_string(),
            Self::Policy => "the policy, with a head of zeros".to_owned(),
        }
    }
}

/// Returns the policy's base for a critic, which has no language-model head that its embedding could be tied to.
fn headless(policy: &Base) -> Base {
    let mut base = policy.clone();
    if let Some(lora) = &mut base.lora {
        lora.ensure_weight_tying = false;
    }
    base
}

#[cfg(test)]
mod tests {
    use pcrm_core::DType;
    use pcrm_core::model::LoraConfig;

    use super::*;

    /// Protects: a policy that trains its tied embedding has a critic, for which the key of PEFT is refused.
    #[test]
    fn a_critic_ties_nothing() {
        let saved = Some(vec!["embed_tokens".to_owned()]);
        let lora = LoraConfig { modules_to_save: saved, ensure_weight_tying: true, ..LoraConfig::default() };
        let mut policy = Base::new(PathBuf::from("policy"), DType::F32, 1);
        policy.lora = Some(lora.clone());
        let expected = LoraConfig { ensure_weight_tying: false, ..lora };
        assert_eq!(headless(&policy).lora, Some(expected));
    }
}
