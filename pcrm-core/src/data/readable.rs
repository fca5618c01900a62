//! Prompts and answers for people and sentence encoders: templates in the prompt, none in the answers.

use std::sync::Arc;

use super::conversation::{Content, Message};
use super::encode::Texts;
use crate::text::Tokenizer;

/// An answer and its whole rendered text, including the prompt.
type Sequence<'a> = (&'a Content, &'a str);

/// Separates the prompt of a set from its answers. Comparisons share the texts they have in common.
///
/// An explicit prompt is used unchanged. Turns common to the start of the answers belong to the prompt. The
/// chat template renders it with its generation prompt if all sequences begin with that text, otherwise
/// without; if neither fits, the prompt is the common beginning of the sequences. A text that contains its
/// prompt is cut by [`implicit_prompt`].
pub(super) struct Readable<'a> {
    prompt: Option<&'a Content>,
    tokenizer: &'a Tokenizer,
    /// The explicit prompt, if it is text.
    explicit: Option<Arc<str>>,
    /// Conversation prompts rendered so far.
    rendered: Vec<Chat>,
    /// Texts of answers, by index and cut.
    answers: Vec<(u32, Cut, Arc<str>)>,
}

/// A conversation's prompt as rendered by the template.
struct Chat {
    /// The turns of the answers that belong to the prompt.
    turns: Vec<Message>,
    /// The text with and without the generation prompt, if the template accepts the turns.
    prompts: [Option<Arc<str>>; 2],
}

/// The start of the part of an answer that does not belong to its prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// A byte offset in a text.
    Byte(usize),
    /// A turn index in a conversation.
    Turn(usize),
}

impl<'a> Readable<'a> {
    /// Creates a reader of answers to this prompt.
    pub(super) fn new(prompt: Option<&'a Content>, tokenizer: &'a Tokenizer) -> Self {
        let explicit = prompt.and_then(text_of).map(Arc::from);
        Self { prompt, tokenizer, explicit, rendered: Vec::new(), answers: Vec::new() }
    }

    /// Returns the texts of two answers, which have the given indices in the set.
    pub(super) fn texts(&mut self, numbers: [u32; 2], two: [Sequence<'_>; 2]) -> Texts {
        let (prompt, cut) = self.prompt(&two);
        let [chosen, rejected] = [0, 1].map(|at| self.answer(numbers[at], two[at].0, cut));
        Texts { prompt, chosen, rejected }
    }

    /// Returns the prompt of some answers with templates applied, and the cut that separates it from each of
    /// them.
    pub(super) fn prompt(&mut self, answers: &[Sequence<'_>]) -> (Arc<str>, Cut) {
        let turns: Option<Vec<&[Message]>> = answers.iter().map(|(answer, _)| turns_of(answer)).collect();
        if let Some(turns) = turns {
            let shared = same_turns(&turns);
            let turns = turns.first().map_or(&[][..], |first| &first[..shared]);
            return (self.chat(turns, answers), Cut::Turn(shared));
        }
        let texts: Option<Vec<&str>> = answers.iter().map(|(answer, _)| text_of(answer)).collect();
        match (&self.explicit, texts) {
            (Some(prompt), _) => (prompt.clone(), Cut::Byte(0)),
            (None, Some(texts)) => {
                let cut = implicit_prompt(&texts);
                (texts.first().map_or("", |first| &first[..cut]).into(), Cut::Byte(cut))
            }
            (None, None) => ("".into(), Cut::Byte(0)),
        }
    }

    /// Renders a conversation's prompt, including the `turns` taken from the answers.
    fn chat(&mut self, turns: &[Message], answers: &[Sequence<'_>]) -> Arc<str> {
        let at = self.rendered.iter().position(|known| known.turns == turns).unwrap_or_else(|| {
            let mut before = self.prompt.and_then(turns_of).unwrap_or_default().to_vec();
            before.extend_from_slice(turns);
            // Some templates refuse a prompt alone.
            let prompts = [true, false]
                .map(|generation| self.tokenizer.render_chat(&before, generation).ok().map(Arc::from));
            self.rendered.push(Chat { turns: turns.to_vec(), prompts });
            self.rendered.len() - 1
        });
        // Some templates render a prompt alone differently than within the whole.
        let begins = |text: &&Arc<str>| answers.iter().all(|(_, whole)| whole.starts_with(&***text));
        match self.rendered[at].prompts.iter().flatten().find(begins) {
            Some(prompt) => prompt.clone(),
            None => {
                let wholes: Vec<&str> = answers.iter().map(|(_, whole)| *whole).collect();
                wholes.first().map_or("", |first| &first[..shared_text(&wholes)]).into()
            }
        }
    }

    /// Returns the text of an answer without its prompt; turns are joined by blank lines.
    fn answer(&mut self, number: u32, answer: &Content, cut: Cut) -> Arc<str> {
        let known = self.answers.iter().find(|(other, at, _)| *other == number && *at == cut);
        if let Some((_, _, text)) = known {
            return text.clone();
        }
        let said = |turns: &[Message]| {
            turns.iter().map(|turn| turn.content.as_str()).collect::<Vec<_>>().join("\n\n")
        };
        let text: Arc<str> = match (answer, cut) {
            (Content::Text(text), Cut::Byte(at)) => text[at..].into(),
            (Content::Text(text), Cut::Turn(_)) => text.as_str().into(),
            (Content::Messages(turns), Cut::Turn(at)) => said(&turns[at..]).into(),
            (Content::Messages(turns), Cut::Byte(_)) => said(turns).into(),
        };
        self.answers.push((number, cut, text.clone()));
        text
    }
}

fn turns_of(content: &Content) -> Option<&[Message]> {
    match content {
        Content::Messages(turns) => Some(turns),
        Content::Text(_) => None,
    }
}

fn text_of(content: &Content) -> Option<&str> {
    match content {
        Content::Text(text) => Some(text),
        Content::Messages(_) => None,
    }
}

/// Returns the number of equal turns at the start of all answers, up to a whole answer.
fn same_turns(answers: &[&[Message]]) -> usize {
    let Some((first, others)) = answers.split_first() else { return 0 };
    others.iter().fold(first.len(), |most, turns| {
        first.iter().zip(*turns).take(most).take_while(|(left, right)| left == right).count()
    })
}

/// Returns the end of the prompt in texts that all contain it: after their last common speaker mark, or,
/// without marks, where they first differ. The space before an answer belongs to the answer, as in TRL.
pub(super) fn implicit_prompt(texts: &[&str]) -> usize {
    const MARK: &str = "\n\nAssistant:";
    let Some(first) = texts.first() else { return 0 };
    let shared = shared_text(texts);
    if let Some(at) = first[..shared].rfind(MARK) {
        return at + MARK.len();
    }
    if first[..shared].ends_with(' ') { shared - 1 } else { shared }
}

/// Returns the length in bytes of the longest common prefix of all texts that ends between characters.
fn shared_text(texts: &[&str]) -> usize {
    let Some((first, others)) = texts.split_first() else { return 0 };
    others.iter().fold(first.len(), |most, other| {
        first[..most]
            .char_indices()
            .zip(other.chars())
            .find(|((_, left), right)| left != right)
            .map_or(most.min(other.len()), |((at, _), _)| at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Dialogues are cut after the speaker's mark even if the answers begin alike; other texts where they
    /// differ.
    #[test]
    fn implicit_prompts_are_found() {
        let cut = |left: &str, right: &str| left[..implicit_prompt(&[left, right])].to_owned();
        assert_eq!(
            cut("\n\nHuman: q\n\nAssistant: I do", "\n\nHuman: q\n\nAssistant: I am"),
            "\n\nHuman: q\n\nAssistant:"
        );
        assert_eq!(cut("the sky is blue", "the sky is green"), "the sky is");
        assert_eq!(cut("añb", "añc"), "añ");
        assert_eq!(cut("same", "same and more"), "same");
        assert_eq!(cut("é", "è"), "");
    }
}
