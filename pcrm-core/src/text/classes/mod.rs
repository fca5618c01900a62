//! Tokenizer classes of transformers 5 and how each loads a folder.
//!
//! Most classes take only the vocabulary and the merges from tokenizer.json and set normalizer,
//! pre-tokenizer, decoder, post-processor and special tokens themselves. A class is an entry of one of the
//! tables in this folder; [`choice`] selects the class of a folder. Classes without an entry are refused by
//! name.

mod byte_level;
mod choice;
mod parts;
mod recipes;
mod sentence_piece;
mod t5;
mod unigram;
mod word_piece;

use serde_json::Value;

pub(super) use self::choice::choose;
use super::loading::{Arguments, File, Named};

/// The class that uses tokenizer.json unchanged.
pub(super) const FROM_FILE: &str = "TokenizersBackend";

/// A tokenizer class.
pub(super) struct Class {
    /// The name of the class in transformers.
    pub name: &'static str,
    /// The special tokens that its constructor names, with their defaults if no file sets them.
    pub defaults: &'static [(&'static str, Option<&'static str>)],
    /// Changes the arguments before anything is built.
    pub prepare: fn(&mut Arguments) -> Result<(), String>,
    /// The source of the tokenizer.
    pub build: Build,
    /// The constructor's last steps, after tokens are added.
    pub finish: fn(&Built<'_>) -> Result<Ending, String>,
}

/// The source of a class's tokenizer.
pub(super) enum Build {
    /// The whole tokenizer.json, unchanged.
    File,
    /// Only the vocabulary.
    Vocabulary(fn(&Arguments, &File<'_>) -> Result<Recipe, String>),
}

/// The parts of a rebuilt tokenizer in the form of tokenizer.json; a null part is absent.
pub(super) struct Recipe {
    pub model: String,
    pub normalizer: Value,
    pub pre_tokenizer: Value,
    pub decoder: Value,
}

/// A tokenizer with its tokens added, as a class's last steps see it.
pub(super) struct Built<'a> {
    pub arguments: &'a Arguments,
    pub named: &'a [(String, Named)],
    /// True if tokenizer.json has no post-processor.
    pub is_bare: bool,
    pub id: &'a dyn Fn(&str) -> Option<u32>,
}

/// The result of a class's last steps.
#[derive(Default)]
pub(super) struct Ending {
    /// The special tokens added to every text; `None` leaves the post-processor unchanged.
    pub dressing: Option<Dressing>,
    /// True if `add_bos_token` and `add_eos_token` replace the post-processor.
    pub updates: bool,
    /// The mode of adding special tokens a second time.
    pub again: Again,
    /// A normalizer that replaces the one that tokens were added under.
    pub normalizer: Option<Value>,
    /// A special token whose text changes.
    pub renamed: Option<(&'static str, String)>,
    /// A text that the class treats in an unsupported way.
    pub refused: Option<String>,
}

/// The mode of adding special tokens a second time.
#[derive(Default, PartialEq, Eq)]
pub(super) enum Again {
    #[default]
    No,
    /// With their own flags.
    AsTheyAre,
    /// With the flags of a plain special token.
    Plain,
}

/// The special tokens added around every text.
#[derive(Default)]
pub(super) struct Dressing {
    pub before: Vec<String>,
    pub after: Vec<String>,
    /// The ids of the tokens; for a token that appears twice, the last one counts.
    pub ids: Vec<(String, u32)>,
    /// The tokens between the two texts of a pair, and the token type of the second text; `None` if pairs are
    /// joined without a separator.
    pub pair: Option<(Vec<String>, u32)>,
}

/// The separator between the two texts of a pair.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Parting {
    /// The tokens that end a text; the second text has type 1 (BERT).
    Once,
    /// The tokens that end a text, twice; all tokens have type 0 (RoBERTa).
    Twice,
}

impl Built<'_> {
    /// Returns the text of a special token; a missing one gives `None` as text, as in Python.
    fn text(&self, key: &str) -> String {
        self.token(key).map_or_else(|| "None".to_owned(), str::to_owned)
    }

    fn token(&self, key: &str) -> Option<&str> {
        self.named.iter().find(|(name, _)| name == key).map(|(_, token)| token.text())
    }

    /// Returns the id of a special token.
    fn id_of(&self, key: &str) -> Option<u32> {
        (self.id)(self.token(key)?)
    }

    /// Returns a dressing of special tokens, all of which must exist.
    fn dressed(&self, before: &[&str], after: &[&str]) -> Result<Ending, String> {
        let mut dressing = Dressing::default();
        for (keys, texts) in [(before, &mut dressing.before), (after, &mut dressing.after)] {
            for key in keys {
                let id = self
                    .id_of(key)
                    .ok_or_else(|| format!("{key} is missing; the class adds it to every text"))?;
                texts.push(self.text(key));
                dressing.ids.push((self.text(key), id));
            }
        }
        Ok(Ending { dressing: Some(dressing), ..Ending::default() })
    }

    /// Adds two special tokens, which must exist, to texts and to pairs of texts.
    fn dressed_pairs(&self, before: &str, after: &str, parting: Parting) -> Result<Ending, String> {
        Ok(self.dressed(&[before], &[after])?.parted(parting))
    }

    /// Adds `cls_token` before and `sep_token` after, with fallback ids for a vocabulary without them.
    fn classified(&self, cls: u32, sep: u32, parting: Parting) -> Ending {
        let (first, last) = (self.text("cls_token"), self.text("sep_token"));
        let ids = vec![
            (first.clone(), self.id_of("cls_token").unwrap_or(cls)),
            (last.clone(), self.id_of("sep_token").unwrap_or(sep)),
        ];
        let dressing = Dressing { before: vec![first], after: vec![last], ids, pair: None };
        Ending { dressing: Some(dressing), ..Ending::default() }.parted(parting)
    }
}

impl Ending {
    /// Adds the rule for pairs to the dressing.
    fn parted(mut self, parting: Parting) -> Self {
        if let Some(dressing) = &mut self.dressing {
            dressing.pair = Some(match parting {
                Parting::Once => (dressing.after.clone(), 1),
                Parting::Twice => ([dressing.after.clone(), dressing.after.clone()].concat(), 0),
            });
        }
        self
    }
}

/// Returns the entry of a class.
///
/// # Errors
/// Fails with a message that names the class if it has no entry.
pub(super) fn find(name: &str) -> Result<&'static Class, String> {
    let tables =
        [byte_level::CLASSES, sentence_piece::CLASSES, t5::CLASSES, unigram::CLASSES, word_piece::CLASSES];
    if let Some(class) =
        [&PLAIN, &PARAKEET].into_iter().chain(tables.into_iter().flatten()).find(|class| class.name == name)
    {
        return Ok(class);
    }
    Err(if choice::is_python(name) {
        format!(
            "transformers loads this tokenizer with its class {name}, which is written in Python and reads \
             no tokenizer.json; it is not served"
        )
    } else {
        format!("transformers loads this tokenizer with its class {name}, which is not served")
    })
}

/// Returns true for classes over bytes, whose tokenizer.json often splits texts differently than the class
/// does.
pub(super) fn is_byte_level(class: &Class) -> bool {
    byte_level::CLASSES.iter().any(|known| known.name == class.name)
}

const PLAIN: Class =
    Class { name: FROM_FILE, defaults: &[], prepare: unchanged, build: Build::File, finish: ended };

/// Differs from the plain class only in decoding.
const PARAKEET: Class = Class { name: "ParakeetTokenizer", ..PLAIN };

fn unchanged(_: &mut Arguments) -> Result<(), String> {
    Ok(())
}

fn ended(_: &Built<'_>) -> Result<Ending, String> {
    Ok(Ending::default())
}

#[cfg(test)]
mod tests;
