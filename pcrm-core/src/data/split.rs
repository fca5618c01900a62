//! Splits data by prompt, so that no prompt is on both sides.

use std::collections::{HashMap, HashSet};

use sha2::{Digest, Sha256};

use super::preference::{AnswerSet, SourceSet};
use super::prompt_id::{PromptId, prompt_of};
use super::schema::Schema;
use crate::error::{Error, Result};

/// The two sides of a split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// Indices of the training sets.
    pub train: Vec<usize>,
    /// Indices of the held-out sets.
    pub held_out: Vec<usize>,
    /// The number of prompts.
    pub prompts: usize,
    /// The number of held-out prompts.
    pub held_out_prompts: usize,
}

/// Splits sets by prompt: holds out the share `fraction` of all prompts, at least one, regardless of their
/// schemas. The choice depends on the seed and the prompts only, not on the order of the records.
///
/// Prompts of one record stay together with every record that has one of them: for example the prompts of an
/// OpenAssistant tree and the sets of answers made from it. Such groups may make the share exceed `fraction`.
///
/// # Errors
/// Fails if the fraction is not between 0 and 1, if there are fewer than two groups of prompts, or if a
/// record does not mark where its prompt ends.
pub fn split_by_prompt(sets: &[SourceSet], fraction: f64, seed: u64) -> Result<Split> {
    if !(fraction > 0.0 && fraction < 1.0) {
        return Err(Error::invalid("fraction", format!("{fraction}; expected a share between 0 and 1")));
    }
    let ids = sets.iter().map(id_of).collect::<Result<Vec<PromptId>>>()?;
    let groups = groups(sets, &ids);
    if groups.len() < 2 {
        let message = match ids.iter().collect::<HashSet<_>>().len() {
            0 | 1 => "all pairs have the same prompt; expected at least two prompts",
            _ => {
                "all prompts are in one record, or in records that share prompts; expected at least two \
                 groups"
            }
        };
        return Err(Error::invalid("data", message));
    }
    let drawn = |id: &PromptId| Sha256::digest(format!("{seed}\0{id}").as_bytes()).to_vec();
    // Groups are drawn in the order of their first prompts, which the seed determines.
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

/// Groups the prompts that must stay together.
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

/// Returns the representative of a group, and shortens the path to it.
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
            "OpenAssistant messages are not grouped with their answers; expected pairs, as written by `pcrm \
             data convert`"
                .to_owned(),
        ));
    }
    match prompt_of(prompt.as_ref(), &answers.iter().collect::<Vec<_>>()) {
        Ok(_) => Ok(PromptId::of(set)),
        Err(message) => {
            Err(unmarked(format!("{message}, so it cannot be kept on one side; expected a prompt column")))
        }
    }
}

#[cfg(test)]
mod tests;
