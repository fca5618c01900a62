//! The tree of a forward pass with its attention plans.

use std::any::Any;
use std::fmt::{self, Debug};
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use crate::tree::SequenceTree;

/// Plans that backends derive from the rows of a pass.
///
/// The layers of a model use few kinds of attention, so a plan (rows, tiles, indices on the device) is made
/// by the first layer that needs it and reused by the others and by their backward. Plans live as long as the
/// pass.
#[derive(Default)]
pub(super) struct Plans(Mutex<Vec<Kept>>);

/// A plan and its key, both of types defined by the backend.
struct Kept {
    key: Box<dyn Any + Send>,
    plan: Arc<dyn Any + Send + Sync>,
}

impl Plans {
    /// Returns the plan of this key, made by `make` if there is none.
    pub(super) fn plan<K, P, E>(&self, key: K, make: impl FnOnce() -> Result<P, E>) -> Result<Arc<P>, E>
    where
        K: PartialEq + Send + 'static,
        P: Send + Sync + 'static,
    {
        let mut plans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let same = plans.iter().filter(|kept| kept.key.downcast_ref::<K>() == Some(&key));
        if let Some(plan) = same.filter_map(|kept| Arc::clone(&kept.plan).downcast().ok()).next() {
            return Ok(plan);
        }
        let plan = Arc::new(make()?);
        plans.push(Kept { key: Box::new(key), plan: Arc::<P>::clone(&plan) });
        Ok(plan)
    }
}

/// A tree and the plans that backends derive from it.
#[derive(Default)]
pub struct PlannedTree {
    tree: SequenceTree,
    plans: Plans,
}

impl PlannedTree {
    /// Returns a tree without plans.
    pub fn new(tree: SequenceTree) -> Self {
        Self { tree, plans: Plans::default() }
    }

    /// Returns the plan of this key, made by `make` if there is none. The key holds everything that the plan
    /// depends on besides the tree.
    ///
    /// # Errors
    /// Fails as `make` does.
    pub fn plan<K, P, E>(&self, key: K, make: impl FnOnce() -> Result<P, E>) -> Result<Arc<P>, E>
    where
        K: PartialEq + Send + 'static,
        P: Send + Sync + 'static,
    {
        self.plans.plan(key, make)
    }
}

impl Deref for PlannedTree {
    type Target = SequenceTree;

    fn deref(&self) -> &SequenceTree {
        &self.tree
    }
}

impl From<SequenceTree> for PlannedTree {
    fn from(tree: SequenceTree) -> Self {
        Self::new(tree)
    }
}

impl Debug for PlannedTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tree.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: a plan is made once per key; other keys and other kinds of plans get their own.
    #[test]
    fn plans_are_made_once_for_each_key() {
        let tree = PlannedTree::default();
        let mut made = 0;
        let mut plan = |key: (u32, f64)| {
            let plan = tree.plan(key, || {
                made += 1;
                Ok::<_, ()>(made)
            });
            plan.map(|plan| *plan)
        };
        let numbers = [plan((1, 0.5)), plan((2, 0.5)), plan((1, 0.25)), plan((1, 0.5))];
        assert_eq!(numbers, [Ok(1), Ok(2), Ok(3), Ok(1)]);
        assert_eq!(tree.plan((1_u32, 0.5), || Ok::<_, ()>("text")).as_deref(), Ok(&"text"));
        assert_eq!(tree.plan(7_u8, || Err::<u8, _>("no")), Err("no"));
        assert_eq!(tree.plan(7_u8, || Ok::<u8, ()>(1)).as_deref(), Ok(&1));
    }
}
