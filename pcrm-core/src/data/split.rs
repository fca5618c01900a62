//! Splitting data by prompt, so that no prompt is on both sides.

use std::collections::{HashMap, HashSet};

use sha2::{Digest, Sha256};

use super::preference::{AnswerSet, SourceSet};
use super::prompt_id::{PromptId, prompt_of};
use super::schema::Schema;
use crate::error::{Error, Result};

/// The sides of a split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// Places of the sets to train on, as they were given.
    pub train: Vec<usize>,
    /// Places of the sets that are held out.
    pub held_out: Vec<usize>,
    /// Prompts there are.
    pub prompts: usize,
    /// Prompts that are held out.
    pub held_out_prompts: usize,
}

/// Splits sets by prompt: of all prompts, the share `fraction` (one at least) is held out, whichever schemas
/// they are written in. The seed and the prompts alone decide which, not the order of the records.
///
/// Prompts of one record stay together, and with them every record that has one of them: the prompts of an
/// OpenAssistant tree, and sets of answers that were made of it. Such groups may take the share beyond
/// `fraction`.
///
/// # Errors
/// A fraction that is not between 0 and 1, fewer than two groups of prompts, and records whose prompts are
/// not marked.
pub fn split_by_prompt(sets: &[SourceSet], fraction: f64, seed: u64) -> Result<Split> {
    if !(fraction > 0.0 && fraction < 1.0) {
        return Err(Error::invalid("fraction", format!("{fraction}; expected a share between 0 and 1")));
    }
    let ids = sets.iter().map(id_of).collect::<Result<Vec<PromptId>>>()?;
    let groups = groups(sets, &ids);
    if groups.len() < 2 {
        let message = match ids.iter().collect::<HashSet<_>>().len() {
            0 | 1 => "all pairs have the same prompt; expected two prompts at least",
            _ => {
                "all prompts are in one record, or in records that share prompts; expected two groups at least"
            }
        };
        return Err(Error::invalid("data", message));
    }
    let drawn = |id: &PromptId| Sha256::digest(format!("{seed}\0{id}").as_bytes()).to_vec();
    // A group is drawn as its first prompt in the order that the seed gives.
    let mut drawn: Vec<(Vec<u8>, Vec<PromptId>)> =
        groups.into_iter().map(|group| (group.iter().map(drawn).min().unwrap_or_default(), group)).collect();
    drawn.sort();
    let prompts: usize = drawn.iter().map(|(_, group)| group.len()).sum();
    let wanted = ((prompts as f64 * fraction).round() as usize).max(1);
    let mut held = HashSet::new();
    for (_, group) in &drawn[..drawn.len() - 1] {
        if held.len() >= wanted {
            break;
        }
        held.extend(group.iter().copied());
    }
    let (held_out, train) = (0..sets.len()).partition(|at| held.contains(&ids[*at]));
    Ok(Split { train, held_out, prompts, held_out_prompts: held.len() })
}

/// Prompts that stay together, group by group.
fn groups(sets: &[SourceSet], ids: &[PromptId]) -> Vec<Vec<PromptId>> {
    let mut places: HashMap<PromptId, usize> = HashMap::new();
    let mut prompts: Vec<PromptId> = Vec::new();
    let mut above: Vec<usize> = Vec::new();
    let mut first_of_record: HashMap<usize, usize> = HashMap::new();
    for (set, id) in sets.iter().zip(ids) {
        let place = *places.entry(*id).or_insert_with(|| {
            prompts.push(*id);
            above.push(above.len());
            above.len() - 1
        });
        let first = *first_of_record.entry(set.record_number).or_insert(place);
        let (one, other) = (top(&mut above, first), top(&mut above, place));
        above[one] = other;
    }
    let mut groups: HashMap<usize, Vec<PromptId>> = HashMap::new();
    for (place, id) in prompts.iter().enumerate() {
        groups.entry(top(&mut above, place)).or_default().push(*id);
    }
    groups.into_values().collect()
}

/// The place that a group is known by; the way there gets shorter.
fn top(above: &mut [usize], mut place: usize) -> usize {
    while above[place] != place {
        above[place] = above[above[place]];
        place = above[place];
    }
    place
}

fn id_of(SourceSet { set, schema, .. }: &SourceSet) -> Result<PromptId> {
    let AnswerSet { origin, prompt, answers, .. } = set;
    let unmarked =
        |message: String| Error::Line { path: origin.file.to_path_buf(), line: origin.line, message };
    if *schema == Schema::OasstMessages {
        return Err(unmarked(
            "OpenAssistant messages are apart from their answers; expected pairs, as `pcrm data convert` makes of them"
                .to_owned(),
        ));
    }
    match prompt_of(prompt.as_ref(), &answers.iter().collect::<Vec<_>>()) {
        Ok(_) => Ok(PromptId::of(set)),
        Err(message) => Err(unmarked(format!(
            "{message}, so it cannot be kept on one side; expected a column for the prompt"
        ))),
    }
}

#[cfg(test)]
mod tests;
