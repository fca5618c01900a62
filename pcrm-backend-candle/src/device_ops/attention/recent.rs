//! The last plans made: all layers of a model attend in the same way, but for the last, which asks for fewer rows.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core as ct;
use pcrm_core::{Attention, Mask, SequenceTree};

use super::plan::{Limits, Plan, Sizes};

/// Two ways of attending over one batch.
const KEPT: usize = 2;

static RECENT: Mutex<Vec<(Key, Arc<Plan>)>> = Mutex::new(Vec::new());

/// All that a plan follows from.
struct Key {
    tree: SequenceTree,
    queries: Option<Vec<usize>>,
    mask: Mask,
    scale: f64,
    sizes: Sizes,
    device: ct::Device,
}

/// The plan of a batch, made anew where it is not one of the last.
pub(crate) fn plan(
    tree: &SequenceTree,
    how: &Attention<'_>,
    sizes: Sizes,
    device: &ct::Device,
) -> ct::Result<Arc<Plan>> {
    let mut recent = RECENT.lock().unwrap_or_else(PoisonError::into_inner);
    let found = recent.iter().find(|(key, _)| {
        key.sizes == sizes
            && (key.mask, key.scale) == (how.mask, how.scale)
            && key.queries.as_deref() == how.queries
            && key.tree == *tree
            && key.device.same_device(device)
    });
    if let Some((_, plan)) = found {
        return Ok(Arc::clone(plan));
    }
    let plan = Arc::new(Plan::new(tree, how, sizes, Limits::GPU, device)?);
    let key = Key {
        tree: tree.clone(),
        queries: how.queries.map(<[usize]>::to_vec),
        mask: how.mask,
        scale: how.scale,
        sizes,
        device: device.clone(),
    };
    if recent.len() >= KEPT {
        recent.remove(0);
    }
    recent.push((key, Arc::clone(&plan)));
    Ok(plan)
}
