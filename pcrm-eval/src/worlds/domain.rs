//! Worlds defined as data: prompts, the parts of an answer, the true worth of each line of a part, and the
//! labellers' extra liking for it.
//!
//! The true reward of an answer is the sum of the worths of its lines, in log-odds. A labeller sees that sum
//! plus the liking for each line and a term for the number of words. These extra terms are the confounds of a
//! world; the true reward does not contain them.

use std::collections::HashSet;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::alike::Strength;
use super::truth::sentences;

/// Worth of a line that the world does not know.
const UNKNOWN: f64 = -0.7;
/// Worth of a repeated line, or of one beyond the largest count of its part.
const REPEATED: f64 = -0.3;

/// A kind of task with its prompts, answers and rewards.
#[derive(Debug)]
pub struct Domain {
    /// Name.
    pub name: &'static str,
    /// One-sentence description of the reward and the confound.
    pub about: &'static str,
    /// Prompt in several wordings; `{0}` is the subject's name and `{1}`, `{2}`, … are its values.
    pub prompts: &'static [&'static str],
    /// Subjects: a name and values, the same number for each.
    pub subjects: &'static [&'static [&'static str]],
    /// Separator before the first line and between lines: a space or a line break.
    pub between: &'static str,
    /// Parts of an answer, in order.
    pub parts: &'static [Part],
    /// Increase of a labeller's log-odds per additional word.
    pub per_word: f64,
    /// Dependence of the labellers' certainty on the similarity of two answers.
    pub strength: Strength,
}

/// A part of an answer.
#[derive(Debug)]
pub struct Part {
    /// Possible numbers of lines.
    pub counts: &'static [usize],
    /// Worth of an answer without this part.
    pub missing: f64,
    /// Lines to draw from.
    pub lines: &'static [Line],
}

/// A line of an answer. Its text may contain `{0}`, `{1}`, … as prompts do, and `{x1}` for the value of
/// another subject.
#[derive(Debug)]
pub struct Line {
    /// Text.
    pub text: &'static str,
    /// Worth in log-odds.
    pub worth: f64,
    /// Labellers' liking beyond the worth, in log-odds.
    pub liked: f64,
    /// Relative frequency among the part's lines.
    pub weight: u32,
}

/// Creates a line.
pub(super) const fn line(text: &'static str, worth: f64, liked: f64, weight: u32) -> Line {
    Line { text, worth, liked, weight }
}

/// One prompt of a domain.
#[derive(Debug, Clone, Copy)]
pub struct Task {
    domain: &'static Domain,
    subject: usize,
    wording: usize,
}

/// An answer to a task: for each part, its lines as text with their index in the table.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    parts: Vec<Vec<(usize, String)>>,
}

impl Task {
    /// Returns every task of a domain, in a fixed order.
    pub fn all(domain: &'static Domain) -> Vec<Self> {
        let wordings = 0..domain.prompts.len();
        let of = |subject| wordings.clone().map(move |wording| Self { domain, subject, wording });
        (0..domain.subjects.len()).flat_map(of).collect()
    }

    /// Returns the text that a model sees before the answer.
    pub fn prompt(&self) -> String {
        self.filled(self.domain.prompts[self.wording])
    }

    /// Returns the true reward of a text as an answer, in log-odds, to tenths.
    ///
    /// For a generated answer this is the worth it was generated with. In other texts, written by policies,
    /// an unknown line costs 0.7. A repeated line, or one beyond the largest count of its part, costs 0.3, or
    /// its own cost if that is higher. A missing part that every generated answer has costs its `missing`
    /// worth.
    pub fn true_reward(&self, answer: &str) -> f64 {
        let mut counts = vec![0; self.domain.parts.len()];
        let mut said = HashSet::new();
        let mut sum = 0.0;
        for text in self.units(answer) {
            let Some((part, line)) = self.known(text) else {
                sum += UNKNOWN;
                continue;
            };
            counts[part] += 1;
            let room = self.domain.parts[part].counts.iter().max().copied().unwrap_or_default();
            let worth = self.domain.parts[part].lines[line].worth;
            let is_new = said.insert((part, line));
            sum += if is_new && counts[part] <= room { worth } else { worth.min(REPEATED) };
        }
        let absent = self.domain.parts.iter().zip(&counts).filter(|(_, count)| **count == 0);
        rounded(sum + absent.map(|(part, _)| part.missing).sum::<f64>())
    }

    /// Draws an answer.
    pub(super) fn draw(&self, rng: &mut ChaCha8Rng) -> Answer {
        Answer { parts: self.domain.parts.iter().map(|part| self.draw_part(part, rng)).collect() }
    }

    /// Returns the same answer with one part drawn again.
    pub(super) fn revised(&self, answer: &Answer, rng: &mut ChaCha8Rng) -> Answer {
        let mut revised = answer.clone();
        let at = rng.random_range(0..self.domain.parts.len());
        revised.parts[at] = self.draw_part(&self.domain.parts[at], rng);
        revised
    }

    /// Returns the text of an answer, starting with the separator from the prompt.
    pub(super) fn text(&self, answer: &Answer) -> String {
        let lines = answer.parts.iter().flatten();
        lines.map(|(_, text)| format!("{}{text}", self.domain.between)).collect()
    }

    /// Returns the true reward of a drawn answer and the labellers' additional liking.
    pub(super) fn worth_and_liking(&self, answer: &Answer) -> (f64, f64) {
        let lines = answer.parts.iter().zip(self.domain.parts);
        let lines = lines.flat_map(|(said, part)| said.iter().map(|(at, _)| &part.lines[*at]));
        let (worth, liked) = lines.fold((0.0, 0.0), |(a, b), line| (a + line.worth, b + line.liked));
        let words = self.text(answer).split_whitespace().count() as f64;
        (rounded(worth), liked + self.domain.per_word * words)
    }

    fn draw_part(&self, part: &Part, rng: &mut ChaCha8Rng) -> Vec<(usize, String)> {
        let mut left: Vec<usize> = (0..part.lines.len()).collect();
        let count = part.counts[rng.random_range(0..part.counts.len())];
        let mut drawn = Vec::new();
        for _ in 0..count.min(part.lines.len()) {
            let weights: u32 = left.iter().map(|at| part.lines[*at].weight).sum();
            let mut ticket = rng.random_range(0..weights.max(1));
            let chosen = left.iter().position(|at| {
                let weight = part.lines[*at].weight;
                let hit = ticket < weight;
                ticket = ticket.saturating_sub(weight);
                hit
            });
            let at = left.remove(chosen.unwrap_or(0));
            drawn.push((at, self.written(part.lines[at].text, rng)));
        }
        drawn
    }

    /// Returns a line's text for this subject; `{x1}` becomes the value of another subject, drawn at random.
    fn written(&self, text: &str, rng: &mut ChaCha8Rng) -> String {
        let Some((slot, place)) = foreign(text) else { return self.filled(text) };
        let values = self.foreign_values(place);
        let value = values[rng.random_range(0..values.len())];
        self.filled(&text.replace(&slot, value))
    }

    /// Returns the values at a position that other subjects have and this one does not.
    fn foreign_values(&self, place: usize) -> Vec<&'static str> {
        let own = self.domain.subjects[self.subject][place];
        let all = self.domain.subjects.iter().map(|subject| subject[place]);
        all.filter(|value| *value != own).collect()
    }

    fn filled(&self, text: &str) -> String {
        let values = self.domain.subjects[self.subject].iter().enumerate();
        let filled =
            values.fold(text.to_owned(), |text, (at, value)| text.replace(&format!("{{{at}}}"), value));
        capitalised_where_prose(&filled, self.domain.between)
    }

    /// Splits an answer into lines or sentences.
    fn units<'a>(&self, answer: &'a str) -> Vec<&'a str> {
        match self.domain.between {
            "\n" => answer.lines().map(str::trim).filter(|line| !line.is_empty()).collect(),
            _ => sentences(answer),
        }
    }

    /// Returns the part and line that match a text.
    fn known(&self, text: &str) -> Option<(usize, usize)> {
        let parts = self.domain.parts.iter().enumerate();
        let mut lines =
            parts.flat_map(|(at, part)| part.lines.iter().enumerate().map(move |(to, line)| (at, to, line)));
        lines.find(|(_, _, line)| self.is(line.text, text)).map(|(part, line, _)| (part, line))
    }

    fn is(&self, template: &str, text: &str) -> bool {
        match foreign(template) {
            None => self.filled(template).trim() == text,
            Some((slot, place)) => self
                .foreign_values(place)
                .into_iter()
                .any(|value| self.filled(&template.replace(&slot, value)).trim() == text),
        }
    }
}

/// Returns the slot of another subject's value in a template, and the value's position.
fn foreign(template: &str) -> Option<(String, usize)> {
    let start = template.find("{x")?;
    let place = template[start + 2..].chars().next()?.to_digit(10)?;
    Some((format!("{{x{place}}}"), place as usize))
}

/// Capitalises the first letter of a sentence; leaves lines of code unchanged.
fn capitalised_where_prose(text: &str, between: &str) -> String {
    if between == "\n" { text.to_owned() } else { super::grammar::capitalised(text) }
}

/// Rounds to tenths, so that equal rewards are equal in binary, and turns −0 into 0.
fn rounded(worth: f64) -> f64 {
    (worth * 10.0).round() / 10.0 + 0.0
}
