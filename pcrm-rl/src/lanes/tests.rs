use super::*;

/// Protects: every lane gets items in turn, and the first items go to different processes.
#[test]
fn few_items_are_spread() {
    assert_eq!(dealing(&(0..8)), [0, 4, 2, 6, 1, 5, 3, 7]);
    assert_eq!(dealing(&(0..2)), [0, 1]);
    for lanes in [1, 3, 6, 12] {
        let mut all = dealing(&(0..lanes));
        all.sort_unstable();
        assert!(all.into_iter().eq(0..lanes));
    }
}

/// Protects: the nodes of all processes cover all lanes once and in order, also if a process's lanes are
/// not a complete subtree.
#[test]
fn every_lane_is_in_one_node() {
    for (lanes, world) in [(2, 2), (8, 1), (8, 2), (8, 8), (6, 3), (12, 4), (9, 3)] {
        let mut all = Vec::new();
        for (rank, found) in subtrees(lanes, world).into_iter().enumerate() {
            assert!(lanes & (lanes - 1) != 0 || found.len() == 1, "{lanes} lanes, rank {rank}: {found:?}");
            all.extend(found.into_iter().flatten());
        }
        assert!(all.into_iter().eq(0..lanes), "{lanes} lanes of {world}");
    }
}
