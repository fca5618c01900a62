//! Collects finished samples and delivers them in the order of their prompts.

use super::Sample;

/// The samples of the prompts not delivered yet.
#[derive(Debug)]
pub(super) struct Results {
    /// Samples by prompt and number.
    ended: Vec<Vec<Option<Sample>>>,
    /// Next prompt to deliver.
    next: usize,
}

impl Results {
    pub fn new(prompts: usize, samples: usize) -> Self {
        Self { ended: vec![vec![None; samples]; prompts], next: 0 }
    }

    pub fn add(&mut self, prompt: usize, number: usize, sample: Sample) {
        self.ended[prompt][number] = Some(sample);
    }

    /// Takes the next prompt if all its samples have ended.
    pub fn next(&mut self) -> Option<(usize, Vec<Sample>)> {
        let samples = self.ended.get_mut(self.next)?;
        if samples.iter().any(Option::is_none) {
            return None;
        }
        self.next += 1;
        Some((self.next - 1, std::mem::take(samples).into_iter().flatten().collect()))
    }
}
