use super::*;

/// Two layers, an embedding and a head; sizes fill neither chunks nor the alignment, and one matrix spans
/// several buckets.
fn shapes() -> Vec<(&'static str, Vec<usize>)> {
    vec![
        ("embed.weight", vec![700, 61]),
        ("layers.0.norm.weight", vec![61]),
        ("layers.0.up.weight", vec![129, 61]),
        ("layers.1.norm.weight", vec![61]),
        ("layers.1.up.weight", vec![129, 61]),
        ("score.weight", vec![1, 61]),
    ]
}

fn elements(layout: &Layout, positions: Range<usize>) -> Vec<Option<(usize, usize)>> {
    let of = |piece: Piece| match piece {
        Piece::Of(place, range) => range.map(|at| Some((place, at))).collect::<Vec<_>>(),
        Piece::Zeros(count) => vec![None; count],
    };
    layout.pieces(positions).into_iter().flat_map(of).collect()
}

/// Protects: whatever the number of slices and the size of buckets, every element of every parameter is
/// exchanged once, slices are equal parts of every bucket, and the concatenation of all slices is found again.
#[test]
fn every_element_is_in_one_slice() {
    let sizes: Vec<usize> = shapes().iter().map(|(_, shape)| shape.iter().product()).collect();
    for slices in [1, 2, 3, 8] {
        for bytes in [1, 3 * 4 * CHUNK, usize::MAX] {
            let layout = Layout::of(&shapes(), slices, bytes);
            let each = slice_of(sizes.iter().copied(), slices);
            let all: Vec<Vec<_>> = (0..slices)
                .map(|slice| layout.parts(slice).flat_map(|part| elements(&layout, part)).collect())
                .collect();
            assert!(all.iter().all(|slice| slice.len() == each), "{slices} slices, {bytes} bytes");
            let gathered = all.concat();
            let chunks = layout.gathered().iter().flat_map(|at| &gathered[at * CHUNK..(at + 1) * CHUNK]);
            let found: Vec<_> = chunks.flatten().copied().collect();
            let expected = layout.places().iter().enumerate();
            let expected: Vec<_> = expected
                .flat_map(|(at, place)| (0..place.size()).map(move |element| (at, element)))
                .collect();
            assert_eq!(found, expected, "{slices} slices, {bytes} bytes");
            for (slice, elements) in all.iter().enumerate() {
                let runs = layout.runs(slice);
                assert_eq!(runs.iter().map(|(run, _)| run.len()).sum::<usize>(), each);
                let mut next = 0;
                for (run, matrices) in runs {
                    assert_eq!((run.start, run.start % ALIGNED, run.end % ALIGNED), (next, 0, 0));
                    next = run.end;
                    let held = elements[run].iter().flatten();
                    held.for_each(|(at, _)| assert_eq!(layout.places()[*at].shape.len() == 2, matrices));
                }
            }
        }
    }
}

/// Protects: a bucket has the given size and names what it waits for: those of the last layer come first and
/// need nothing of the layers below. One process has one bucket, in the order of the vector.
#[test]
fn buckets_follow_the_backward_pass() {
    let matrix = || vec![4, CHUNK];
    let names = ["embed.weight", "layers.0.up.weight", "layers.1.up.weight"];
    let shapes = names.map(|name| (name, matrix()));
    let layout = Layout::of(&shapes, 2, 2 * 4 * CHUNK + 1);
    assert!(layout.buckets().iter().all(|bucket| bucket.positions.len() == 2));
    let places: Vec<&[usize]> = layout.buckets().iter().map(|bucket| bucket.places.as_slice()).collect();
    assert_eq!(places, [[2], [2], [1], [1], [0], [0]]);
    let alone = Layout::of(&shapes, 1, 1);
    assert!(alone.order.iter().copied().eq(0..12));
    assert_eq!(alone.buckets().len(), 1);
    assert_eq!(alone.buckets()[0].places, [0, 1, 2]);
}
