//! The ends of texts written by a policy, so that they are scored at the position the model was trained on.

use pcrm_core::data::conversation::Message;
use pcrm_core::text::Tokenizer;

/// The text around answers in the model's template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    bos: Option<String>,
    /// Tokens that may end a text without belonging to the answer: padding and EOS.
    ends: Vec<String>,
    eos: Option<String>,
    template: Option<Template>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Template {
    /// The text before an answer: `<|im_start|>assistant\n`.
    opening: String,
    /// The text after an answer: `<|im_end|>\n`.
    closing: String,
    /// True if the template itself adds the BOS.
    has_bos: bool,
}

/// A text with its proper end, ready to be tokenised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    pub text: String,
    /// True if the text has all its special tokens, so that the tokenizer must add none.
    pub is_whole: bool,
}

impl Ending {
    /// Extracts the ending from a tokenizer's template.
    pub fn of(tokenizer: &Tokenizer) -> Self {
        let text = |token: Option<&pcrm_core::text::SpecialToken>| token.map(|token| token.text.clone());
        let (bos, eos) = (text(tokenizer.bos()), text(tokenizer.eos()));
        let ends = [text(tokenizer.pad()), eos.clone()].into_iter().flatten().filter(|end| !end.is_empty());
        let template = Template::of(tokenizer, bos.as_deref());
        Self { ends: ends.collect(), bos, eos, template }
    }

    /// Returns true if a text begins with the BOS, so that no other one may be added.
    pub fn has_bos(&self, text: &str) -> bool {
        self.bos.as_deref().is_some_and(|bos| !bos.is_empty() && text.starts_with(bos))
    }

    /// Ends a text of prompt and answer as in training: a conversation in the model's own template ends as
    /// the template ends an answer, any other text with the EOS. Previous endings and padding are removed
    /// first.
    pub fn end(&self, text: &str) -> Ended {
        let template = self.template.as_ref().filter(|template| text.contains(&template.opening));
        let closing = template.map(|template| template.closing.as_str()).unwrap_or_default();
        let mut kept = text;
        while let Some(shorter) = self.shorter(kept, closing) {
            kept = shorter;
        }
        let has_bos = self.has_bos(kept);
        match template {
            Some(template) => {
                let bos = match (&self.bos, template.has_bos && !has_bos) {
                    (Some(bos), true) => bos.as_str(),
                    _ => "",
                };
                Ended { text: format!("{bos}{kept}{closing}"), is_whole: true }
            }
            None => {
                let eos = self.eos.as_deref().unwrap_or_default();
                Ended { text: format!("{kept}{eos}"), is_whole: has_bos }
            }
        }
    }

    /// Removes one token from the end.
    fn shorter<'a>(&self, text: &'a str, closing: &str) -> Option<&'a str> {
        let ends = self.ends.iter().map(String::as_str).chain([closing, closing.trim_end()]);
        ends.filter(|end| !end.is_empty()).find_map(|end| text.strip_suffix(end))
    }
}

impl Template {
    fn of(tokenizer: &Tokenizer, bos: Option<&str>) -> Option<Self> {
        const QUESTION: &str = "a question";
        const ANSWER: &str = "an answer 7361";
        let turns = [Message::new("user", QUESTION), Message::new("assistant", ANSWER)];
        let asked = tokenizer.render_chat(&turns[..1], false).ok()?;
        let asking = tokenizer.render_chat(&turns[..1], true).ok()?;
        let whole = tokenizer.render_chat(&turns, false).ok()?;
        let (before, closing) = whole.rsplit_once(ANSWER)?;
        // Even a template without a generation prompt has text before an answer.
        let opening = match asking.strip_prefix(&asked).filter(|opening| !opening.trim().is_empty()) {
            Some(opening) => opening,
            None => before.rsplit_once(QUESTION)?.1,
        };
        let opening = opening.trim_end();
        (!opening.is_empty()).then(|| Self {
            opening: opening.to_owned(),
            closing: closing.to_owned(),
            has_bos: bos.is_some_and(|bos| !bos.is_empty() && whole.starts_with(bos)),
        })
    }
}
