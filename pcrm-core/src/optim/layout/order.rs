//! The order of exchanging the chunks of a layout, as a backward pass completes them.

use std::cmp::Reverse;

use super::{CHUNK, Place};

/// The modules above the layers. A head of another name is exchanged late, with the embeddings.
const HEADS: [&str; 3] = ["score", "lm_head", "embed_out"];

/// Returns the numbers of all chunks, in the order of their gradients' completion by a usual backward pass:
/// heads, layers from the last to the first, and then what belongs to no layer. A chunk follows all parameters
/// that it holds a part of.
pub(super) fn exchanged(places: &[Place], chunks: usize) -> Vec<usize> {
    let mut ready: Vec<&Place> = places.iter().collect();
    ready.sort_by_key(|place| turn(&place.name));
    // Padding comes last.
    let mut turns = vec![usize::MAX; chunks];
    for (turn, Place { range, .. }) in ready.into_iter().enumerate() {
        turns[range.start / CHUNK..range.end.div_ceil(CHUNK)].fill(turn);
    }
    let mut order: Vec<usize> = (0..chunks).collect();
    order.sort_by_key(|chunk| turns[*chunk]);
    order
}

/// Returns a sort key of parameters.
fn turn(name: &str) -> (u8, Reverse<usize>) {
    let layer = name.split('.').find_map(|part| part.parse().ok());
    match layer {
        Some(layer) => (1, Reverse(layer)),
        None if name.split('.').any(|part| HEADS.contains(&part)) => (0, Reverse(0)),
        None => (2, Reverse(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: &str, start: usize, end: usize) -> Place {
        Place { name: name.into(), shape: vec![end - start], range: start..end, buckets: Vec::new() }
    }

    /// Protects: the last layer comes first, by number and not by digits, a chunk waits for all its
    /// parameters, and padding is last. Otherwise a bucket would wait for the end of the backward pass.
    #[test]
    fn chunks_follow_the_backward_pass() {
        let names = ["model.embed.weight", "model.layers.10.a", "model.layers.2.a", "score.weight"];
        let places: Vec<Place> = names
            .into_iter()
            .enumerate()
            .map(|(at, name)| place(name, 2 * at * CHUNK, 2 * (at + 1) * CHUNK))
            .collect();
        assert_eq!(exchanged(&places, 9), [6, 7, 2, 3, 4, 5, 0, 1, 8]);
        let shared = [place("h.1.a", 0, CHUNK + 64), place("h.10.a", CHUNK + 64, 3 * CHUNK)];
        assert_eq!(exchanged(&shared, 3), [2, 0, 1]);
    }
}
