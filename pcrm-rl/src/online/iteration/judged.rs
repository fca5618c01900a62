//! A rollout with everything that an update needs, and the limits that it may have reached.

use pcrm_core::model::LanguageModel;

use super::Training;
use crate::error::Result;
use crate::metrics::Metrics;
use crate::online::config::Algorithm;
use crate::online::rollout::Rollout;
use crate::online::tree::Tree;

impl Training<'_> {
    /// Returns the trees of a rollout with everything that an update needs: log-probabilities before it,
    /// those of the reference, the critic's values, and the credit of every answer.
    pub(super) fn judged(
        &mut self,
        policy: &LanguageModel,
        rollout: &Rollout,
        metrics: &mut Metrics,
    ) -> Result<Vec<Tree>> {
        let (roller, config) = (&self.roller, self.config);
        let mut trees = roller.bare(self.train, &rollout.items, rollout.samples.clone());
        if let Algorithm::OnlineDpo(config) = &config.algorithm {
            roller.pair_up(config, self.train, rollout, &mut trees, metrics)?;
        }
        let temperature = self.update.temperature();
        let as_sampled = self.exact && temperature == config.sampling.filters.temperature;
        let one_pass = config.updates() == 1 && !config.algorithm.needs_critic();
        if as_sampled {
            for answer in trees.iter_mut().flat_map(|tree| &mut tree.answers) {
                answer.old_log_probs = Some(answer.sampled.clone());
            }
        } else if !one_pass || self.exact || !config.rollouts.source.is_own() {
            let mut old = roller.log_probs(policy, &trees, temperature)?.into_iter();
            for answer in trees.iter_mut().flat_map(|tree| &mut tree.answers) {
                answer.old_log_probs = old.next();
            }
        }
        if config.rollouts.compares_rollouts() {
            self.compare(policy, &trees)?;
        }
        if let Some(reference) = roller.reference {
            let mut numbers = roller.log_probs(reference, &trees, temperature)?.into_iter();
            for answer in trees.iter_mut().flat_map(|tree| &mut tree.answers) {
                answer.reference = numbers.next();
            }
        }
        let critic = self.critic.as_ref().map(|critic| &critic.learner.model);
        let kl = roller.credit(rollout, &mut trees, critic, self.steering.kl(), metrics)?;
        if let Some(kl) = kl {
            self.steering.rolled_out(kl, rollout.samples.iter().map(Vec::len).sum());
        }
        self.halted = self.reached(rollout, kl);
        Ok(trees)
    }

    /// Returns a description of the limit that this rollout has reached; `None` if none.
    fn reached(&self, rollout: &Rollout, kl: Option<f64>) -> Option<String> {
        if let (Some(most), Some(kl)) = (self.config.stop_kl, kl.filter(|kl| Some(*kl) > self.config.stop_kl))
        {
            return Some(format!(
                "the policy is {kl:.2} nats per answer from its reference, more than --stop-kl {most}"
            ));
        }
        let most = self.config.stop_score?;
        let scores: Vec<f64> =
            rollout.scored.rewards.total.iter().flatten().map(|of| f64::from(*of)).collect();
        let mean = scores.iter().sum::<f64>() / scores.len() as f64;
        (mean > most).then(|| format!("the mean reward is {mean:.4}, more than --stop-score {most}"))
    }
}
