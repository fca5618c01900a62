//! Worlds written as data: what is asked, the parts of an answer, what each line of a part is worth, and what labellers
//! like beside it.
//!
//! The true reward of an answer is the sum of what its lines are worth, in log-odds. A labeller sees that sum and, beside it,
//! what each line is liked for and the number of words: these are a world's confounds, and the true reward has none of
//! them.

use std::collections::HashSet;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::alike::Strength;
use super::truth::sentences;

/// A line that the world does not know.
const UNKNOWN: f64 = -0.7;
/// A line said again, or one more than a part has room for.
const REPEATED: f64 = -0.3;

/// A kind of task, and how its answers are made, worth and liked.
#[derive(Debug)]
pub struct Domain {
    /// Its name.
    pub name: &'static str,
    /// Its reward and its confound, in a sentence.
    pub about: &'static str,
    /// The prompt in several wordings; `{0}` is the subject's name and `{1}`, `{2}`, .. are its values.
    pub prompts: &'static [&'static str],
    /// The subjects: a name and values, as many for each.
    pub subjects: &'static [&'static [&'static str]],
    /// Between two lines of an answer, and before the first: a space or a line break.
    pub between: &'static str,
    /// The parts of an answer, in order.
    pub parts: &'static [Part],
    /// The rise of a labeller's log-odds with every word that an answer is longer.
    pub per_word: f64,
    /// How the labellers' certainty depends on how alike two answers are.
    pub strength: Strength,
}

/// A part of an answer.
#[derive(Debug)]
pub struct Part {
    /// How many lines it has: drawn from these.
    pub counts: &'static [usize],
    /// The worth of an answer's not having it at all.
    pub missing: f64,
    /// The lines to draw from.
    pub lines: &'static [Line],
}

/// A line of an answer. Its text takes `{0}`, `{1}`, .. as prompts do, and `{x1}` as the value of another subject.
#[derive(Debug)]
pub struct Line {
    /// The text.
    pub text: &'static str,
    /// What it is worth, in log-odds.
    pub worth: f64,
    /// What labellers like it for beyond its worth, in log-odds.
    pub liked: f64,
    /// How often it is drawn, against the part's other lines.
    pub weight: u32,
}

/// Makes a line of a table.
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

/// An answer to a task: the lines of every part, as text and by their place in the table.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    parts: Vec<Vec<(usize, String)>>,
}

impl Task {
    /// Every task of a domain, in a fixed order.
    pub fn all(domain: &'static Domain) -> Vec<Self> {
        let wordings = 0..domain.prompts.len();
        let of = |subject| wordings.clone().map(move |wording| Self { domain, subject, wording });
        (0..domain.subjects.len()).flat_map(of).collect()
    }

    /// The text that a model sees before the answer.
    pub fn prompt(&self) -> String {
        self.filled(self.domain.prompts[self.wording])
    }

    /// Returns the true reward of a text as an answer, in log-odds, to tenths.
    ///
    /// Of a generated answer this is the worth that it was made with. In other texts, which policies write, a line that the
    /// world does not know costs 0.7; one that is said again, or beyond what a part has room for, costs 0.3 or what it
    /// costs anyhow; and a part that no answer goes without costs what its absence does.
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

    /// The same answer with one part drawn again.
    pub(super) fn revised(&self, answer: &Answer, rng: &mut ChaCha8Rng) -> Answer {
        let mut revised = answer.clone();
        let at = rng.random_range(0..self.domain.parts.len());
        revised.parts[at] = self.draw_part(&self.domain.parts[at], rng);
        revised
    }

    /// The text of an answer, beginning with what separates it from the prompt.
    pub(super) fn text(&self, answer: &Answer) -> String {
        let lines = answer.parts.iter().flatten();
        lines.map(|(_, text)| format!("{}{text}", self.domain.between)).collect()
    }

    /// The true reward of a drawn answer and what labellers like it for beside that.
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

    /// A line's text for this subject; `{x1}` becomes the value of another subject, drawn at random.
    fn written(&self, text: &str, rng: &mut ChaCha8Rng) -> String {
        let Some((slot, place)) = foreign(text) else { return self.filled(text) };
        let values = self.foreign_values(place);
        let value = values[rng.random_range(0..values.len())];
        self.filled(&text.replace(&slot, value))
    }

    /// The values at a place that other subjects have and this one has not.
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

    /// The lines or sentences of an answer.
    fn units<'a>(&self, answer: &'a str) -> Vec<&'a str> {
        match self.domain.between {
            "\n" => answer.lines().map(str::trim).filter(|line| !line.is_empty()).collect(),
            _ => sentences(answer),
        }
    }

    /// The part and the line that a text is.
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

/// The slot of another subject's value in a template, and the value's place.
fn foreign(template: &str) -> Option<(String, usize)> {
    let start = template.find("{x")?;
    let place = template[start + 2..].chars().next()?.to_digit(10)?;
    Some((format!("{{x{place}}}"), place as usize))
}

/// Sentences begin with a capital; lines of code are as they are.
fn capitalised_where_prose(text: &str, between: &str) -> String {
    if between == "\n" { text.to_owned() } else { super::grammar::capitalised(text) }
}

/// Rounds a sum of tenths to tenths, so that equal rewards are equal in binary, and makes a plain zero of a negative one.
fn rounded(worth: f64) -> f64 {
    (worth * 10.0).round() / 10.0 + 0.0
}
