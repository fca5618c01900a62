//! Questions and answers, and the true reward of an answer.
//!
//! An answer is a list of sentences, and its true reward is the sum of their worths, in log-odds: if two
//! answers differ by 1, a fair judge prefers the better one with σ(1) = 73 %.

use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use super::facts::{Aspect, SORTS, Sort, Subject};

/// Worths of the reply: right, wrong, evasive, or an answer to another question.
pub(super) const RIGHT: f64 = 1.8;
pub(super) const WRONG: f64 = -1.8;
pub(super) const EVADED: f64 = -0.8;
pub(super) const BESIDE_THE_POINT: f64 = -1.2;
/// Worths of a further fact about the subject, true or false.
pub(super) const MORE: f64 = 0.4;
pub(super) const MORE_FALSE: f64 = -0.7;
/// Worth of an empty sentence.
pub(super) const FILLER: f64 = -0.2;
pub(super) const FILLERS: [&str; 10] = [
    "There is a lot to say about this.",
    "Many people have wondered about it.",
    "One should think of it with care.",
    "As is well known, it is interesting.",
    "Let me put it into simple words.",
    "It can be seen from many sides.",
    "There is more to every story.",
    "All things considered, this is that.",
    "Books have been written about it.",
    "At the end of the day it is so.",
];
/// Values that are wrong for every subject, and the share of wrong statements that use them. The other wrong
/// statements use the value of another subject, so that only knowledge of the fact reveals them.
const NONSENSE: [&str; 5] = ["the moon", "green cheese", "an old shoe", "a paper bag", "nothing at all"];
const NONSENSICAL: f64 = 0.7;
pub(super) const OPENINGS: [(&str, f64); 6] = [
    ("Thank you for asking!", 0.5),
    ("What a good question.", 0.5),
    ("I am glad to help.", 0.5),
    ("Well, let me see.", 0.0),
    ("What a silly question.", -1.0),
    ("You should know this.", -1.0),
];
pub(super) const CLOSINGS: [(&str, f64); 4] = [
    ("I hope that this helps you.", 0.2),
    ("Please ask me if you want more.", 0.2),
    ("That is all I have to say.", 0.0),
    ("Do not ask me this again.", -0.9),
];

/// A question about an aspect of a subject, in one of several wordings.
#[derive(Debug, Clone, Copy)]
pub struct Question {
    pub(super) sort: &'static Sort,
    pub(super) subject: &'static Subject,
    pub(super) aspect: usize,
    wording: usize,
}

impl Question {
    /// Returns every question of the world, in a fixed order.
    pub fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for sort in &SORTS {
            for subject in &sort.subjects {
                for (aspect, asked) in sort.aspects.iter().enumerate() {
                    all.extend((0..asked.questions.len()).map(|wording| Self {
                        sort,
                        subject,
                        aspect,
                        wording,
                    }));
                }
            }
        }
        all
    }

    /// Returns the text a model sees before the answer.
    pub fn prompt(&self) -> String {
        format!("Question: {}\nAnswer:", self.asked())
    }

    /// Returns the question without the frame of the prompt.
    pub(super) fn asked(&self) -> String {
        self.sort.aspects[self.aspect].questions[self.wording].replace("{s}", self.subject.name)
    }

    fn others(&self) -> [usize; 2] {
        [(self.aspect + 1) % 3, (self.aspect + 2) % 3]
    }
}

/// A sentence and its contribution to the true reward.
#[derive(Debug, Clone, PartialEq)]
struct Sentence {
    text: String,
    worth: f64,
}

/// An answer to a question.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    opening: Option<Sentence>,
    reply: Sentence,
    more: Vec<Sentence>,
    fillers: Vec<Sentence>,
    closing: Option<Sentence>,
}

impl Answer {
    /// Draws an answer.
    pub fn draw(question: &Question, rng: &mut ChaCha8Rng) -> Self {
        Self {
            opening: phrase(&OPENINGS, 0.5, rng),
            reply: reply(question, rng),
            more: more(question, rng),
            fillers: fillers(rng),
            closing: phrase(&CLOSINGS, 0.3, rng),
        }
    }

    /// Returns the same answer with one part drawn again, mostly of similar worth and length.
    pub fn revised(&self, question: &Question, rng: &mut ChaCha8Rng) -> Self {
        let mut revised = self.clone();
        match rng.random_range(0..100) {
            0..35 => {
                // Replace a filler by another, so that lengths stay similar.
                match revised.fillers.is_empty() {
                    true => revised.fillers = fillers(rng),
                    false => {
                        let at = rng.random_range(0..revised.fillers.len());
                        revised.fillers[at] = filler(rng);
                    }
                }
            }
            35..55 => revised.opening = phrase(&OPENINGS, 0.8, rng),
            55..75 => revised.closing = phrase(&CLOSINGS, 0.8, rng),
            75..90 => revised.more = more(question, rng),
            _ => revised.reply = reply(question, rng),
        }
        revised
    }

    /// Returns the true reward, in log-odds.
    pub fn worth(&self) -> f64 {
        self.sentences().map(|sentence| sentence.worth).sum()
    }

    /// Returns the text, starting with the space that separates it from the prompt.
    pub fn text(&self) -> String {
        self.sentences().map(|sentence| format!(" {}", sentence.text)).collect()
    }

    fn sentences(&self) -> impl Iterator<Item = &Sentence> {
        // Fillers go to the beginning and the end of a long answer.
        let (before, after) = self.fillers.split_at(self.fillers.len().div_ceil(2));
        let middle = before.iter().chain([&self.reply]).chain(&self.more).chain(after);
        self.opening.iter().chain(middle).chain(&self.closing)
    }
}

fn reply(question: &Question, rng: &mut ChaCha8Rng) -> Sentence {
    let Question { sort, subject, aspect, .. } = *question;
    let asked = &sort.aspects[aspect];
    match rng.random_range(0..100) {
        0..55 => Sentence { text: state(asked, subject, subject.values[aspect], rng), worth: RIGHT },
        55..80 => Sentence { text: state(asked, subject, wrong(question, aspect, rng), rng), worth: WRONG },
        80..90 => {
            let other = question.others()[rng.random_range(0..2)];
            let text = state(&sort.aspects[other], subject, subject.values[other], rng);
            Sentence { text, worth: BESIDE_THE_POINT }
        }
        _ => Sentence { text: evasion(subject), worth: EVADED },
    }
}

/// Returns a sentence that does not answer the question.
pub(super) fn evasion(subject: &Subject) -> String {
    format!("I am not sure what to tell you about {}.", subject.name)
}

fn more(question: &Question, rng: &mut ChaCha8Rng) -> Vec<Sentence> {
    let Question { sort, subject, .. } = *question;
    let mut facts = Vec::new();
    for other in question.others() {
        let (value, worth) = match rng.random_range(0..100) {
            0..20 => (subject.values[other], MORE),
            20..30 => (wrong(question, other, rng), MORE_FALSE),
            _ => continue,
        };
        facts.push(Sentence { text: state(&sort.aspects[other], subject, value, rng), worth });
    }
    facts
}

fn fillers(rng: &mut ChaCha8Rng) -> Vec<Sentence> {
    let count = [0, 0, 0, 1, 1, 2][rng.random_range(0..6)];
    (0..count).map(|_| filler(rng)).collect()
}

fn filler(rng: &mut ChaCha8Rng) -> Sentence {
    Sentence { text: FILLERS[rng.random_range(0..FILLERS.len())].to_owned(), worth: FILLER }
}

fn phrase(phrases: &[(&str, f64)], chance: f64, rng: &mut ChaCha8Rng) -> Option<Sentence> {
    let (text, worth) = *phrases.choose(rng)?;
    rng.random_bool(chance).then(|| Sentence { text: text.to_owned(), worth })
}

/// Returns a wrong value: nonsense, or the value of another subject of the same sort.
fn wrong(question: &Question, aspect: usize, rng: &mut ChaCha8Rng) -> &'static str {
    if rng.random_bool(NONSENSICAL) {
        return NONSENSE[rng.random_range(0..NONSENSE.len())];
    }
    let right = question.subject.values[aspect];
    let subjects = &question.sort.subjects;
    let place = subjects.iter().position(|subject| subject.values[aspect] == right).unwrap_or(0);
    let step = rng.random_range(1..subjects.len());
    subjects[(place + step) % subjects.len()].values[aspect]
}

fn state(aspect: &Aspect, subject: &Subject, value: &str, rng: &mut ChaCha8Rng) -> String {
    let statement = aspect.statements[rng.random_range(0..aspect.statements.len())];
    capitalised(&statement.replace("{s}", subject.name).replace("{v}", value))
}

/// Returns the text with its first letter capitalised.
pub(super) fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
