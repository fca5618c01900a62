//! The trainer's own engine as a source.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use pcrm_core::model::LanguageModel;

use super::super::{Engine, Progress, Sample, Stop, Watch};
use super::{Pending, RolloutSource, SampleRequest, Sampled};
use crate::error::{Error, Result};
use crate::lanes::Lanes;

/// The trainer's own engine, which samples when it is waited for.
#[derive(Debug)]
pub struct Own<'a> {
    engine: Engine,
    stop: &'a Stop<'a>,
    policy: Option<(u64, LanguageModel)>,
}

impl<'a> Own<'a> {
    /// Creates a source from an engine and the stop conditions of answers.
    pub fn new(engine: Engine, stop: &'a Stop<'a>) -> Self {
        Self { engine, stop, policy: None }
    }

    /// Sets the policy, without other processes.
    pub fn with_policy(self, policy: &LanguageModel, version: u64) -> Self {
        Self { policy: Some((version, policy.clone())), ..self }
    }
}

/// An observer that collects samples and can end a run.
struct Collected<'a> {
    samples: Vec<Vec<Sample>>,
    interrupted: &'a AtomicBool,
}

impl Watch for Collected<'_> {
    fn done(&mut self, _prompt: usize, samples: Vec<Sample>) -> Result<()> {
        self.samples.push(samples);
        Ok(())
    }

    fn step(&mut self, _progress: &Progress) -> ControlFlow<()> {
        match self.interrupted.load(Ordering::Relaxed) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
}

impl RolloutSource for Own<'_> {
    fn name(&self) -> String {
        "own".to_owned()
    }

    fn publish(&mut self, policy: &LanguageModel, version: u64, _lanes: &Lanes) -> Result<()> {
        self.policy = Some((version, policy.clone()));
        Ok(())
    }

    fn begin(&mut self, ask: SampleRequest) -> Result<Pending> {
        Ok(Pending::Waiting(ask))
    }

    fn finish(&mut self, pending: Pending, interrupted: &AtomicBool) -> Sampled {
        let (Pending::Waiting(ask), Some((version, policy))) = (pending, &self.policy) else {
            return Err(Error::rollouts("own", "no policy was published"));
        };
        if ask.version != *version {
            let message = format!("was asked for version {} of the policy, and has {version}", ask.version);
            return Err(Error::rollouts("own", message));
        }
        let mut collected = Collected { samples: Vec::new(), interrupted };
        if !ask.prompts.is_empty() {
            let (decoder, SampleRequest { prompts, samples, sampling, .. }) = (policy.decoder(), &ask);
            self.engine.run(decoder, prompts, *samples, sampling, self.stop, &mut collected)?;
        }
        Ok(collected.samples)
    }
}
