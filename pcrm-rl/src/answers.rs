//! A ranked set as a tree of tokens: what all its answers share, then what each has of its own.

use pcrm_core::data::encode::EncodedPair;
use pcrm_core::data::preference::Verdict;

/// The distinct answers of a set's pairs.
#[derive(Debug, PartialEq)]
pub(crate) struct Answers {
    /// The tokens that all sequences begin with; may be empty.
    pub prompt: Vec<u32>,
    /// The rest of every sequence: never empty.
    pub own: Vec<Answer>,
    /// What each pair compares.
    pub compared: Vec<Compared>,
    /// Tokens of the longest sequence.
    pub longest: usize,
}

/// One answer.
#[derive(Debug, PartialEq)]
pub(crate) struct Answer {
    /// Its tokens after what all share.
    pub ids: Vec<u32>,
    /// How many of the set's answers are better. Answers that tie have the same number.
    pub losses: usize,
}

/// One pair of answers, by their numbers in the set.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Compared {
    pub chosen: usize,
    pub rejected: usize,
    /// How many tokens of both answers' own the two share.
    pub shared: usize,
}

impl Answers {
    /// The answers of these pairs, which must not be none. Sequences that are equal are one answer.
    pub fn of(pairs: &[EncodedPair]) -> Self {
        let mut sequences: Vec<Vec<u32>> = Vec::new();
        let mut number = |prompt: &[u32], answer: &[u32]| {
            let same = |ids: &Vec<u32>| ids.strip_prefix(prompt) == Some(answer);
            sequences.iter().position(same).unwrap_or_else(|| {
                sequences.push([prompt, answer].concat());
                sequences.len() - 1
            })
        };
        let numbered: Vec<(usize, usize)> = pairs
            .iter()
            .map(|pair| (number(&pair.prompt, &pair.chosen), number(&pair.prompt, &pair.rejected)))
            .collect();
        let cut = common(&sequences);
        let mut losses = vec![0; sequences.len()];
        for (pair, (chosen, rejected)) in pairs.iter().zip(&numbered) {
            losses[*rejected] += usize::from(pair.verdict == Verdict::Preferred && chosen != rejected);
        }
        let compared = |(pair, (chosen, rejected)): (&EncodedPair, (usize, usize))| Compared {
            chosen,
            rejected,
            shared: pair.prompt.len().saturating_sub(cut),
        };
        Self {
            compared: pairs.iter().zip(numbered).map(compared).collect(),
            longest: sequences.iter().map(Vec::len).max().unwrap_or(0),
            prompt: sequences.first().map_or(Vec::new(), |ids| ids[..cut].to_vec()),
            own: sequences
                .into_iter()
                .zip(losses)
                .map(|(mut ids, losses)| Answer { ids: ids.split_off(cut), losses })
                .collect(),
        }
    }

    /// Tokens of the tree.
    pub fn unique_tokens(&self) -> usize {
        self.prompt.len() + self.own.iter().map(|answer| answer.ids.len()).sum::<usize>()
    }
}

/// How many tokens all sequences begin with; each keeps a last one of its own to be scored.
fn common(sequences: &[Vec<u32>]) -> usize {
    let Some((first, rest)) = sequences.split_first() else { return 0 };
    rest.iter().fold(first.len().saturating_sub(1), |cut, ids| {
        let same = first.iter().zip(ids).take_while(|(left, right)| left == right).count();
        cut.min(same).min(ids.len().saturating_sub(1))
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use pcrm_core::data::preference::Origin;
    use pcrm_core::data::prompt_id::PairId;

    use super::*;

    fn pair(prompt: &[u32], chosen: &[u32], rejected: &[u32]) -> EncodedPair {
        EncodedPair {
            row: 0,
            origin: Origin { file: Arc::from(Path::new("x")), line: 1 },
            id: PairId::default(),
            prompt: prompt.to_vec(),
            chosen: chosen.to_vec(),
            rejected: rejected.to_vec(),
            margin: None,
            verdict: Verdict::Preferred,
            in_set: None,
            identity: 0,
            prompt_text: String::new(),
            chosen_text: String::new(),
            rejected_text: String::new(),
        }
    }

    /// Protects: pairs of a set part at different tokens; the tree parts at the first of them, and a comparison knows
    /// where its own two answers part. Answers 1 2 | 3 4, 1 2 | 3 5, 1 2 | 6.
    #[test]
    fn a_set_parts_where_the_first_two_answers_do() {
        let pairs =
            [pair(&[1, 2, 3], &[4], &[5]), pair(&[1, 2], &[3, 4], &[6]), pair(&[1, 2], &[3, 5], &[6])];
        let answers = Answers::of(&pairs);
        assert_eq!(answers.prompt, [1, 2]);
        let own: Vec<_> = answers.own.iter().map(|answer| (answer.ids.as_slice(), answer.losses)).collect();
        assert_eq!(own, [(&[3, 4][..], 0), (&[3, 5][..], 1), (&[6][..], 2)]);
        let compared = [(0, 1, 1), (0, 2, 0), (1, 2, 0)];
        let found: Vec<_> =
            answers.compared.iter().map(|pair| (pair.chosen, pair.rejected, pair.shared)).collect();
        assert_eq!(found, compared);
        assert_eq!((answers.unique_tokens(), answers.longest), (7, 4));
    }

    /// Protects: a pair that stands alone is what it was.
    #[test]
    fn a_single_pair_is_its_prompt_and_two_answers() {
        let answers = Answers::of(&[pair(&[1, 2], &[3, 4], &[5])]);
        assert_eq!(answers.prompt, [1, 2]);
        assert_eq!((&answers.own[0].ids[..], &answers.own[1].ids[..]), (&[3, 4][..], &[5][..]));
        assert_eq!(answers.compared, [Compared { chosen: 0, rejected: 1, shared: 0 }]);
    }
}
