//! Admission of waiting prompts and their prefill.
//!
//! The full blocks of a prompt are shared by its samples. Each sample keeps the remaining prompt tokens in a
//! block of its own, which its answer continues. So the block of a position follows from the position.

use pcrm_core::kernels::BLOCK;
use pcrm_core::model::{Filled, KeyValueCache, Rows};
use pcrm_core::tree::Packed;
use pcrm_core::{HostTensor, Tensor};

use super::engine::{EngineRun, Watch};
use super::sequence::{Active, Made};
use crate::error::Result;

/// Samples of a prompt that are not in the cache.
#[derive(Debug)]
pub(super) struct Waiting {
    /// Index of the prompt.
    prompt: usize,
    /// Samples, with their tokens so far.
    samples: Vec<(usize, Made)>,
}

impl Waiting {
    /// Creates an entry for all samples of a prompt, none of which has begun.
    pub fn whole(prompt: usize, samples: usize) -> Self {
        Self { prompt, samples: (0..samples).map(|sample| (sample, Made::default())).collect() }
    }

    /// Creates an entry for a preempted sample.
    pub fn again(out: Active) -> Self {
        Self { prompt: out.prompt, samples: vec![(out.sample, out.made)] }
    }
}

/// Admitted samples, with their blocks allocated.
#[derive(Debug)]
pub(super) struct Admitted {
    /// Groups by prompt.
    groups: Vec<Group>,
}

#[derive(Debug)]
struct Group {
    /// Number of full blocks of the prompt, which its samples share.
    shared: usize,
    samples: Vec<Active>,
}

impl Admitted {
    /// Admits prompts from the front of the queue while there are blocks, rows and tokens for them.
    pub fn choose(run: &mut EngineRun<'_>) -> Option<Self> {
        let mut groups = Vec::new();
        let (mut tokens, mut rows) = (0, run.active.len());
        // Keep some blocks free for samples that are decoding.
        let reserve = run.active.len() / 4;
        while let Some(waiting) = run.waiting.front_mut() {
            let prompt = run.prompts[waiting.prompt].ids.len();
            if !groups.is_empty() && tokens + prompt > run.budget.prefill_tokens {
                break;
            }
            let shared = prompt / BLOCK;
            // Include the block of the next token's position, so that an admitted sample can decode.
            let own = |made: &Made| (prompt + made.ids.len()) / BLOCK + 1 - shared;
            let room = run.blocks.free().saturating_sub(if rows == 0 { 0 } else { reserve });
            let (mut count, mut needed) = (0, shared);
            for (_, made) in &waiting.samples {
                if needed + own(made) > room || rows + count >= run.budget.rows {
                    break;
                }
                needed += own(made);
                count += 1;
            }
            if count == 0 {
                break;
            }
            let mut take = |readers: usize| run.blocks.take(readers as u32);
            let Some(prefix) = (0..shared).map(|_| take(count)).collect::<Option<Vec<u32>>>() else { break };
            let entering: Vec<(usize, Made)> = waiting.samples.drain(..count).collect();
            let mut samples = Vec::with_capacity(count);
            for (sample, made) in entering {
                let mut blocks = prefix.clone();
                blocks.extend((0..own(&made)).map_while(|_| take(1)));
                tokens += made.ids.len();
                samples.push(Active { prompt: waiting.prompt, sample, prompt_tokens: prompt, blocks, made });
            }
            tokens += prompt;
            rows += count;
            groups.push(Group { shared, samples });
            if waiting.samples.is_empty() {
                run.waiting.pop_front();
            }
        }
        (!groups.is_empty()).then_some(Self { groups })
    }
}

impl EngineRun<'_> {
    /// Computes the admitted prompts, with the tokens that samples already have, caches their keys and
    /// values, and draws the next token of every sample.
    pub(super) fn prefill(
        &mut self,
        admitted: Admitted,
        cache: &mut KeyValueCache,
        watch: &mut dyn Watch,
    ) -> Result<()> {
        let mut batch = Packed::default();
        let mut kept: Vec<(usize, u32)> = Vec::new();
        let mut lasts = Vec::new(); // one per sample
        let mut entered = Vec::new();
        for Group { shared, samples } in admitted.groups {
            let Some(first) = samples.first() else { continue };
            let prompt = &self.prompts[first.prompt].ids;
            let start = batch.ids.len();
            let segment = batch.push(prompt, None)?;
            for position in 0..prompt.len() {
                let readers = if position / BLOCK < shared { &samples[..1] } else { &samples[..] };
                kept.extend(readers.iter().map(|sample| (start + position, slot(sample, position))));
            }
            for sample in &samples {
                let begun = batch.ids.len();
                if !sample.made.ids.is_empty() {
                    batch.push(&sample.made.ids, Some(segment))?;
                }
                for (at, row) in (begun..batch.ids.len()).enumerate() {
                    kept.push((row, slot(sample, prompt.len() + at)));
                }
                let none_yet = sample.made.ids.is_empty();
                lasts.push(if none_yet { start + prompt.len() - 1 } else { batch.ids.len() - 1 });
            }
            entered.extend(samples);
        }
        self.progress.prompt_tokens += batch.ids.len();
        let mut wanted = lasts.clone();
        wanted.sort_unstable();
        wanted.dedup();
        let (rows, slots) = kept.into_iter().unzip();
        let hidden = self.decoder.prefill(&batch, Rows::Only(&wanted), cache, &Filled { rows, slots })?;
        let places = lasts.iter().map(|last| wanted.partition_point(|row| row < last) as u32).collect();
        let hidden = spread(&hidden, places)?;
        let left = self.draw(entered, &hidden, watch)?;
        self.active.extend(left);
        Ok(())
    }
}

/// Returns the cache slot of a position of a sample.
fn slot(sample: &Active, position: usize) -> u32 {
    sample.blocks[position / BLOCK] * BLOCK as u32 + (position % BLOCK) as u32
}

/// Returns one row per sample; samples of one prompt share their row.
fn spread(hidden: &Tensor, places: Vec<u32>) -> Result<Tensor> {
    let index = hidden.constant(&HostTensor::indices(places))?;
    Ok(hidden.index_select(0, &index)?)
}
