//! Spending a budget from several threads: a request in flight reserves the most that it may cost, so that no
//! limit is exceeded.

use std::sync::{Condvar, Mutex, PoisonError};

use super::budget::{Budget, Usage};

/// A budget that several threads spend from.
pub(super) struct Purse {
    budget: Budget,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    spent: Usage,
    held: Usage,
    empty: Option<String>,
}

impl Purse {
    pub(super) fn new(budget: Budget) -> Self {
        Self { budget, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Reserves the maximum cost of a request; returns false if the budget is too small. Waits while requests
    /// in flight may cost less than they reserve.
    pub(super) fn hold(&self, most: Usage) -> bool {
        let mut state = self.lock();
        loop {
            let mut with = state.spent;
            with.add(most);
            if state.empty.is_some() {
                return false;
            }
            if let Some(limit) = self.passed(with) {
                state.empty = Some(limit);
                self.changed.notify_all();
                return false;
            }
            with.add(state.held);
            if self.passed(with).is_none() {
                state.held.add(most);
                return true;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Releases the reservation and records the cost of a request.
    pub(super) fn pay(&self, most: Usage, cost: Usage) {
        let mut state = self.lock();
        state.held.calls = state.held.calls.saturating_sub(most.calls);
        state.held.input = state.held.input.saturating_sub(most.input);
        state.held.output = state.held.output.saturating_sub(most.output);
        state.spent.add(cost);
        self.changed.notify_all();
    }

    /// Returns a description of the limit that was reached; `None` before that.
    pub(super) fn ended(&self) -> Option<String> {
        self.lock().empty.clone()
    }

    /// Returns true if tokens are limited, directly or by their cost.
    pub(super) fn counts_tokens(&self) -> bool {
        self.budget.tokens.is_some() || self.budget.cost.is_some()
    }

    fn passed(&self, usage: Usage) -> Option<String> {
        let tokens = usage.input + usage.output;
        let cost = usage.cost(self.budget.prices);
        if let Some(most) = self.budget.calls.filter(|most| usage.calls > *most) {
            return Some(format!("the budget of {most} calls"));
        }
        if let Some(most) = self.budget.tokens.filter(|most| tokens > *most) {
            return Some(format!("the budget of {most} tokens"));
        }
        self.budget.cost.filter(|most| cost > *most).map(|most| format!("the budget of {most} in money"))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::budget::Prices;
    use super::*;

    /// Protects: no limit is exceeded, not even by concurrent requests, and the message names the limit.
    #[test]
    fn no_limit_is_passed() {
        let one = |input, output| Usage { calls: 1, input, output };
        let prices = Prices { input: 2.0, output: 10.0 };
        for (budget, paid) in [
            (Budget { calls: Some(10), ..Budget::default() }, 10),
            (Budget { tokens: Some(1000), ..Budget::default() }, 8),
            (Budget { cost: Some(0.004), prices, ..Budget::default() }, 8),
        ] {
            let purse = Purse::new(budget);
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        while purse.hold(one(100, 50)) {
                            std::thread::sleep(std::time::Duration::from_millis(1));
                            purse.pay(one(100, 50), one(100, 20));
                        }
                    });
                }
            });
            let spent = purse.lock().spent;
            assert!(spent.calls >= paid - 2 && purse.passed(spent).is_none(), "{budget:?}: {spent:?}");
            assert!(purse.ended().unwrap().starts_with("the budget of "));
        }
        assert_eq!(Usage { calls: 1, input: 500_000, output: 100_000 }.cost(prices), 2.0);
    }
}
