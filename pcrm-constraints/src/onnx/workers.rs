//! Several copies of a graph that run batches beside each other: a batch of short texts is too little work for all cores.

use std::path::Path;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use pcrm_core::Result;

use super::graph::{Graph, Output};

/// The most copies: each holds the weights.
const MOST: usize = 4;

/// Copies of a graph.
pub struct Workers {
    graphs: Vec<Graph>,
}

impl Workers {
    /// Loads a graph as often as `threads` (`None`: one a core) allow, and shares the threads out.
    ///
    /// # Errors
    /// Those of [`Graph::load`].
    pub fn load(path: &Path, threads: Option<usize>) -> Result<Self> {
        let cores = || thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let threads = threads.unwrap_or_else(cores).max(1);
        let copies = threads.min(MOST);
        let graphs = (0..copies).map(|_| Graph::load(path, threads / copies)).collect::<Result<_>>()?;
        Ok(Self { graphs })
    }

    /// What the graph gives.
    pub fn output(&self) -> Output {
        self.graphs[0].output()
    }

    /// What `run` makes of each of `count` pieces of work, in their order; a copy that is free takes the next.
    ///
    /// # Errors
    /// The error of the first piece that has one.
    pub fn each<T: Send>(
        &mut self,
        count: usize,
        run: impl Fn(&mut Graph, usize) -> Result<T> + Sync,
    ) -> Result<Vec<T>> {
        let next = AtomicUsize::new(0);
        let done = Mutex::new(Vec::with_capacity(count));
        thread::scope(|scope| {
            for graph in &mut self.graphs {
                scope.spawn(|| {
                    loop {
                        let at = next.fetch_add(1, Ordering::Relaxed);
                        if at >= count {
                            break;
                        }
                        let made = run(graph, at);
                        // Nobody needs what comes after an error.
                        if made.is_err() {
                            next.store(count, Ordering::Relaxed);
                        }
                        done.lock().unwrap_or_else(PoisonError::into_inner).push((at, made));
                    }
                });
            }
        });
        let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        done.sort_unstable_by_key(|(at, _)| *at);
        done.into_iter().map(|(_, made)| made).collect()
    }
}
