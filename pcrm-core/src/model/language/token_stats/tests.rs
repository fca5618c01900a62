use super::*;

/// Protects: repeated rows in any order are computed once and mapped back.
#[test]
fn rows_are_computed_once() {
    assert_eq!(distinct(&[4, 2, 4, 9]), (vec![2, 4, 9], vec![1, 0, 1, 2]));
    assert_eq!(distinct(&[]), (vec![], vec![]));
}
