use super::*;

/// Protects: a narrow terminal drops the last figures as a whole and never cuts a word.
#[test]
fn figures_fit_or_are_left_out() {
    let parts = ["loss 1.0431", "acc 0.60", "39447 tok/s"].map(str::to_owned);
    assert_eq!(fitting(&parts, 80), "loss 1.0431 acc 0.60 39447 tok/s");
    assert_eq!(fitting(&parts, 31), "loss 1.0431 acc 0.60");
    assert_eq!(fitting(&parts, 3), "loss 1.0431");
}
