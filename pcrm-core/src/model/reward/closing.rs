//! The closing token, where some reward models read their scores.

use crate::error::{Error, Result};
use crate::tree::{Packed, Segment};

/// The scored rows, ascending, and for each requested row its index among them.
pub(super) struct Closed {
    pub ascending: Vec<usize>,
    pub order: Vec<u32>,
}

/// Appends a token after each of these rows that is not it.
///
/// # Errors
/// Fails if a row does not end a segment.
pub(super) fn closed(batch: &Packed, rows: &[usize], token: u32) -> Result<(Packed, Closed)> {
    let mut longer = batch.clone();
    let mut places = Vec::with_capacity(rows.len());
    for row in rows {
        if batch.ids.get(*row) == Some(&token) {
            places.push(*row);
            continue;
        }
        let ends = |segment: &Segment| segment.rows.end == row + 1;
        let segment = batch.tree.segments().iter().position(ends).ok_or_else(|| {
            let message =
                format!("row {row} does not end a sequence; this model scores whole sequences only");
            Error::invalid("reward_token_id", message)
        })?;
        places.push(longer.ids.len());
        longer.push(&[token], Some(segment))?;
    }
    let mut ascending = places.clone();
    ascending.sort_unstable();
    let order = places.iter().map(|place| ascending.partition_point(|other| other < place) as u32).collect();
    Ok((longer, Closed { ascending, order }))
}
