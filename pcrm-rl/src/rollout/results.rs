//! Samples that have ended, delivered in the order of their prompts.

use super::Sample;

/// The samples of every prompt that has not been delivered.
#[derive(Debug)]
pub(super) struct Results {
    /// By prompt and sample.
    ended: Vec<Vec<Option<Sample>>>,
    /// The next prompt to deliver.
    next: usize,
}

impl Results {
    pub fn new(prompts: usize, samples: usize) -> Self {
        Self { ended: vec![vec![None; samples]; prompts], next: 0 }
    }

    pub fn add(&mut self, prompt: usize, number: usize, sample: Sample) {
        self.ended[prompt][number] = Some(sample);
    }

    /// Takes the next prompt, if all its samples have ended.
    pub fn next(&mut self) -> Option<(usize, Vec<Sample>)> {
        let samples = self.ended.get_mut(self.next)?;
        if samples.iter().any(Option::is_none) {
            return None;
        }
        self.next += 1;
        Some((self.next - 1, std::mem::take(samples).into_iter().flatten().collect()))
    }
}
