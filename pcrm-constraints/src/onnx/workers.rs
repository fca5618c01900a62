//! Several copies of a graph that run batches in parallel: a batch of short texts cannot occupy all cores.

use std::path::Path;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use pcrm_core::Result;

use super::graph::{Graph, Output};

/// The maximum number of copies; each holds the weights.
const MOST: usize = 4;

/// A pool of copies of a graph.
pub struct Workers {
    graphs: Vec<Graph>,
}

impl Workers {
    /// Loads as many copies of a graph as `threads` (`None`: one per core) allow, and divides the threads
    /// among them.
    ///
    /// # Errors
    /// Fails as [`Graph::load`] does.
    pub fn load(path: &Path, threads: Option<usize>) -> Result<Self> {
        let cores = || thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let threads = threads.unwrap_or_else(cores).max(1);
        let copies = threads.min(MOST);
        let graphs = (0..copies).map(|_| Graph::load(path, threads / copies)).collect::<Result<_>>()?;
        Ok(Self { graphs })
    }

    /// Returns the kind of output of the graph.
    pub fn output(&self) -> Output {
        self.graphs[0].output()
    }

    /// Applies `run` to each of `count` work items and returns the results in order; an idle copy takes the
    /// next item.
    ///
    /// # Errors
    /// Returns the error of the first item that failed.
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
                        // After an error the remaining items are not needed.
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
