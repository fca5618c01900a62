//! Replies, and what they cost.

use super::super::Budget;
use super::*;

/// Protects: a message without content is an empty reply, and a response without a message is a fault,
/// whose tokens are counted nevertheless.
#[test]
fn a_reply_without_content_is_empty() {
    let usage = json!({"prompt_tokens": 7, "completion_tokens": 2});
    let counted = Usage { calls: 1, input: 7, output: 2 };
    for (choice, words) in [
        (json!({"message": {"content": "A"}}), Some("A")),
        (json!({"message": {"content": null}, "finish_reason": "length"}), Some("")),
        (json!({"message": {"content": null, "refusal": "No."}}), Some("No.")),
        (json!({"text": "A"}), None),
    ] {
        let response = json!({"choices": [choice], "usage": usage}).to_string();
        let (found, usage) = said(&response);
        assert_eq!((found.ok().as_deref(), usage), (words, counted), "{response}");
    }
    assert_eq!(said("<html>").1, Usage::default());
}

/// Protects: every try of a request is charged, one without token counts at the most that it may cost,
/// and a retry reserves its cost again, so that the budget is not exceeded.
#[test]
fn retries_are_charged_and_reserved() {
    let purse = Purse::new(Budget { tokens: Some(250), ..Budget::default() });
    let most = Usage { calls: 1, input: 60, output: 40 };
    let (stop, failed) = (AtomicBool::new(false), AtomicBool::new(false));
    assert!(purse.hold(most));
    let request = Request {
        purse: &purse,
        most,
        holds: Cell::new(true),
        tokens: Cell::default(),
        spent: Cell::default(),
        stop: &stop,
        failed: &failed,
    };
    // A failed connection costs a call.
    assert!(request.may_retry());
    request.replied(Usage { calls: 1, input: 70, output: 5 });
    assert!(request.may_retry());
    request.replied(Usage::default());
    // 175 of 250 tokens are spent, so that another 100 could exceed the budget.
    assert!(!request.may_retry());
    request.pay();
    assert_eq!(request.spent.get(), Usage { calls: 3, input: 130, output: 45 });
    assert_eq!(purse.ended().as_deref(), Some("the budget of 250 tokens"));
}
