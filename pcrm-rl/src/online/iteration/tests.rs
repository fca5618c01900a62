use super::nth_part;

/// Protects: a rollout of any size gives as many updates as the options say, and every item is in one.
#[test]
fn every_update_has_items() {
    for (count, parts) in [(8, 2), (5, 4), (3, 3), (1, 2), (2, 5)] {
        let items: Vec<usize> = (0..count).collect();
        let of: Vec<&[usize]> = (0..parts).map(|number| nth_part(&items, number, parts)).collect();
        assert!(of.iter().all(|part| !part.is_empty()), "{of:?}");
        assert!(items.iter().all(|item| of.iter().any(|part| part.contains(item))), "{of:?}");
    }
}
