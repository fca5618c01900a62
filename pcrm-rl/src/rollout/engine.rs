//! Continuous batching: waiting prompts are admitted as samples end, and all active samples decode one token
//! per step.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use pcrm_core::kernels::{BLOCK, CachedRow};
use pcrm_core::model::{Decoder, KeyValueCache};

use super::admission::{Admitted, Waiting};
use super::blocks::Blocks;
use super::budget::Budget;
use super::results::Results;
use super::sequence::Active;
use super::{Prompt, Sample, Sampling, Stop, uniform};
use crate::error::{Error, Result};
use crate::options::refuse;

/// The counts of a run so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Prompts whose samples have all ended.
    pub prompts: usize,
    /// Samples that have ended.
    pub samples: usize,
    /// Samples that are decoding.
    pub active: usize,
    /// Prompt tokens computed, including recomputation for preempted samples.
    pub prompt_tokens: usize,
    /// Tokens sampled.
    pub sampled: usize,
    /// Decoding steps.
    pub steps: usize,
    /// Samples preempted from the cache, to be recomputed.
    pub preempted: usize,
}

/// An observer of a run.
pub trait Watch {
    /// Called when all samples of a prompt have ended. Prompts are delivered in order.
    ///
    /// # Errors
    /// An error ends the run.
    fn done(&mut self, prompt: usize, samples: Vec<Sample>) -> Result<()>;

    /// Called for every sampled token, with the index of its prompt and the number of its sample.
    fn token(&mut self, prompt: usize, sample: usize, id: u32) {
        let _ = (prompt, sample, id);
    }

    /// Called after every step. Breaking ends the run with [`Error::Interrupted`].
    fn step(&mut self, progress: &Progress) -> ControlFlow<()> {
        let _ = progress;
        ControlFlow::Continue(())
    }
}

/// A decoder of samples, with a cache that it reuses between runs.
#[derive(Debug)]
pub struct Engine {
    budget: Budget,
    cache: KeyValueCache,
}

/// The state of a run.
pub(super) struct EngineRun<'a> {
    pub decoder: &'a Decoder,
    pub prompts: &'a [Prompt],
    pub sampling: Sampling,
    pub stop: &'a Stop<'a>,
    pub budget: Budget,
    pub blocks: Blocks,
    pub waiting: VecDeque<Waiting>,
    pub active: Vec<Active>,
    pub results: Results,
    pub progress: Progress,
}

impl Engine {
    /// Allocates a cache for the keys and values of models of this shape.
    ///
    /// # Errors
    /// Fails if a limit is 0 or there is not enough memory.
    pub fn new(decoder: &Decoder, budget: Budget) -> Result<Self> {
        budget.check()?;
        Ok(Self { cache: decoder.cache(budget.blocks())?, budget })
    }

    /// Returns the limits of the cache and of a decoding step.
    pub fn budget(&self) -> Budget {
        self.budget
    }

    /// Samples `samples` answers to every prompt. `decoder` must have the shape that the engine was created
    /// for; it computes without history.
    ///
    /// # Errors
    /// Fails if a prompt is empty or does not fit with its answer into the cache or the model's positions, if
    /// a token is outside the vocabulary, if a log-probability is NaN, or if the run is interrupted.
    pub fn run(
        &mut self,
        decoder: &Decoder,
        prompts: &[Prompt],
        samples: usize,
        sampling: &Sampling,
        stop: &Stop<'_>,
        watch: &mut dyn Watch,
    ) -> Result<Progress> {
        sampling.check()?;
        self.check(decoder, prompts, sampling)?;
        let decoder = &decoder.cast_once()?;
        let waiting = (0..prompts.len()).map(|prompt| Waiting::whole(prompt, samples));
        let mut run = EngineRun {
            decoder,
            prompts,
            sampling: *sampling,
            stop,
            budget: self.budget,
            blocks: Blocks::new(self.budget.blocks()),
            waiting: if samples == 0 { VecDeque::new() } else { waiting.collect() },
            active: Vec::new(),
            results: Results::new(prompts.len(), samples),
            progress: Progress::default(),
        };
        while !(run.waiting.is_empty() && run.active.is_empty()) {
            while let Some(admitted) = Admitted::choose(&mut run) {
                run.prefill(admitted, &mut self.cache, watch)?;
            }
            run.deliver(watch)?;
            run.step(&mut self.cache, watch)?;
            run.deliver(watch)?;
            run.progress.active = run.active.len();
            if watch.step(&run.progress).is_break() {
                let (done, all) = (run.progress.prompts, prompts.len());
                return Err(Error::Interrupted(format!("stopped after {done} of {all} prompts")));
            }
        }
        Ok(run.progress)
    }

    /// Refuses prompts that cannot be continued.
    fn check(&self, decoder: &Decoder, prompts: &[Prompt], sampling: &Sampling) -> Result<()> {
        let most = decoder.keeps_up_to().unwrap_or(usize::MAX);
        for (at, prompt) in prompts.iter().enumerate() {
            let tokens = prompt.ids.len() + sampling.max_tokens;
            let fault = if prompt.ids.is_empty() {
                "has no token; expected at least one to continue".to_owned()
            } else if tokens > most {
                format!(
                    "{} tokens and an answer of at most {} are more than the {most} positions of the model",
                    prompt.ids.len(),
                    sampling.max_tokens
                )
            } else if tokens.div_ceil(BLOCK) > self.budget.blocks() {
                format!(
                    "{} tokens and an answer of at most {} do not fit into a cache of {} tokens",
                    prompt.ids.len(),
                    sampling.max_tokens,
                    self.budget.cache_tokens
                )
            } else {
                continue;
            };
            return refuse("prompt", format!("{}: {fault}", at + 1));
        }
        Ok(())
    }
}

impl EngineRun<'_> {
    /// Decodes the next token of every active sample.
    fn step(&mut self, cache: &mut KeyValueCache, watch: &mut dyn Watch) -> Result<()> {
        self.grow();
        if self.active.is_empty() {
            return Ok(());
        }
        let last = |active: &Active| active.made.ids.last().copied().unwrap_or_default();
        let ids: Vec<u32> = self.active.iter().map(last).collect();
        let rows: Vec<CachedRow> = self
            .active
            .iter()
            .map(|active| CachedRow { position: active.position(), blocks: active.blocks.clone() })
            .collect();
        let hidden = self.decoder.step(&ids, &rows.into(), cache)?;
        self.progress.steps += 1;
        let active = std::mem::take(&mut self.active);
        self.active = self.draw(active, &hidden, watch)?;
        Ok(())
    }

    /// Draws a token for each of `active`, in the order of the rows of `hidden`, and returns those that
    /// continue.
    pub(super) fn draw(
        &mut self,
        active: Vec<Active>,
        hidden: &pcrm_core::Tensor,
        watch: &mut dyn Watch,
    ) -> Result<Vec<Active>> {
        let Sampling { filters, max_tokens, seed } = self.sampling;
        let number = |active: &Active| {
            let (prompt, position) = (self.prompts[active.prompt].number, active.made.ids.len() as u64);
            uniform(seed, prompt, active.sample as u64, position)
        };
        let uniforms: Vec<f64> = active.iter().map(number).collect();
        let sequences: Vec<Vec<u32>> = match filters.repetition_penalty == 1.0 {
            true => Vec::new(),
            false => {
                active.iter().map(|one| [&self.prompts[one.prompt].ids[..], &one.made.ids].concat()).collect()
            }
        };
        let tokens: Vec<&[u32]> = sequences.iter().map(Vec::as_slice).collect();
        let drawn = self.decoder.sample(hidden, filters, &uniforms, &tokens)?;
        let mut left = Vec::with_capacity(active.len());
        for (mut one, drawn) in active.into_iter().zip(drawn) {
            if !drawn.log_prob.is_finite() {
                let (prompt, position) = (one.prompt + 1, one.made.ids.len() + 1);
                let message =
                    format!("prompt {prompt}: the log-probability of token {position} is {}", drawn.log_prob);
                refuse("model", message)?;
            }
            one.made.push(drawn, filters);
            self.progress.sampled += 1;
            watch.token(one.prompt, one.sample, drawn.id);
            match self.stop.finish(&one.made.ids, max_tokens) {
                Some(finish) => {
                    self.blocks.release(&one.blocks);
                    self.progress.samples += 1;
                    self.results.add(one.prompt, one.sample, one.made.into_sample(finish));
                }
                None => left.push(one),
            }
        }
        Ok(left)
    }

    /// Allocates the block of the next position of every active sample. If there is none, the sample admitted
    /// last is preempted and recomputed later.
    fn grow(&mut self) {
        let mut at = 0;
        while at < self.active.len() {
            let needed = self.active[at].position() / BLOCK + 1;
            if self.active[at].blocks.len() >= needed {
                at += 1;
                continue;
            }
            match self.blocks.take(1) {
                Some(block) => self.active[at].blocks.push(block),
                None => {
                    if let Some(out) = self.active.pop() {
                        self.blocks.release(&out.blocks);
                        self.progress.preempted += 1;
                        self.waiting.push_front(Waiting::again(out));
                    }
                }
            }
        }
    }

    /// Delivers the prompts that are complete.
    fn deliver(&mut self, watch: &mut dyn Watch) -> Result<()> {
        while let Some((prompt, samples)) = self.results.next() {
            self.progress.prompts += 1;
            watch.done(prompt, samples)?;
        }
        Ok(())
    }
}
