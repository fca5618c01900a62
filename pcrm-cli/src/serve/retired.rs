//! Models that a reload replaced, until nothing uses them.
//!
//! The thread that computes drops them: a GPU's memory can be freed only on a thread that has the GPU's context,
//! and safely only after the work that the same thread gave to the GPU.

use std::sync::Arc;

use super::model::Model;

/// The replaced models.
#[derive(Default)]
pub struct Retired(Vec<Arc<Model>>);

impl Retired {
    pub fn add(&mut self, model: Arc<Model>) {
        self.0.push(model);
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes the models that nothing else uses. No other thread can use them again.
    pub fn unused(&mut self) -> Vec<Arc<Model>> {
        self.0.extract_if(.., |model| Arc::strong_count(model) == 1).collect()
    }
}
