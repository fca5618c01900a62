//! Tokenizer classes of transformers 5: what each makes of a folder.
//!
//! Most classes take nothing but the vocabulary and the merges from tokenizer.json and set normalizer,
//! pre-tokenizer, decoder, post-processor and special tokens themselves. A class is an entry of one of the
//! tables in this folder; [`choice`] decides which one a folder gets. Classes without an entry are refused by
//! name.

mod byte_level;
mod choice;
mod parts;
mod sentence_piece;
mod unigram;
mod word_piece;

use serde_json::Value;

pub(super) use self::choice::choose;
use super::loading::{Arguments, File, Named};

/// The class that takes tokenizer.json as it is.
pub(super) const FROM_FILE: &str = "TokenizersBackend";

/// A tokenizer class.
pub(super) struct Class {
    /// Its name in transformers.
    pub name: &'static str,
    /// The special tokens that its constructor names, with their values where no file sets them.
    pub defaults: &'static [(&'static str, Option<&'static str>)],
    /// Changes arguments before anything is built.
    pub prepare: fn(&mut Arguments) -> Result<(), String>,
    /// The way the tokenizer is built.
    pub build: Build,
    /// The constructor's last steps, after tokens are added.
    pub finish: fn(&Built<'_>) -> Result<Ending, String>,
}

/// Where a class takes its tokenizer from.
pub(super) enum Build {
    /// tokenizer.json as it is.
    File,
    /// The vocabulary alone.
    Vocabulary(fn(&Arguments, &File<'_>) -> Result<Recipe, String>),
}

/// The parts of a rebuilt tokenizer, in the form of tokenizer.json; a part that is null is absent.
pub(super) struct Recipe {
    pub model: String,
    pub normalizer: Value,
    pub pre_tokenizer: Value,
    pub decoder: Value,
}

/// A tokenizer whose tokens are added, as a class's last steps see it.
pub(super) struct Built<'a> {
    pub arguments: &'a Arguments,
    pub named: &'a [(String, Named)],
    /// Whether tokenizer.json has no post-processor.
    pub is_bare: bool,
    pub id: &'a dyn Fn(&str) -> Option<u32>,
}

/// A class's last steps.
#[derive(Default)]
pub(super) struct Ending {
    /// The special tokens that every text gets; `None` leaves the post-processor as it is.
    pub dressing: Option<Dressing>,
    /// Whether the post-processor becomes the one of `add_bos_token` and `add_eos_token`.
    pub updates: bool,
    /// Whether special tokens are added once more, and how.
    pub again: Again,
    /// A normalizer in place of the one that tokens were added under.
    pub normalizer: Option<Value>,
    /// A special token that gets another text.
    pub renamed: Option<(&'static str, String)>,
    /// A text that the class treats in a way that is not served.
    pub refused: Option<String>,
}

/// Whether special tokens are added once more.
#[derive(Default, PartialEq, Eq)]
pub(super) enum Again {
    #[default]
    No,
    /// With the flags that they have.
    AsTheyAre,
    /// With the flags of a plain special token.
    Plain,
}

/// The special tokens around every text.
#[derive(Default)]
pub(super) struct Dressing {
    pub before: Vec<String>,
    pub after: Vec<String>,
    /// Their ids; of a token that stands twice, the last counts.
    pub ids: Vec<(String, u32)>,
}

impl Built<'_> {
    /// The text of a special token, `None` where there is none, as Python writes it.
    fn text(&self, key: &str) -> String {
        self.token(key).map_or_else(|| "None".to_owned(), str::to_owned)
    }

    fn token(&self, key: &str) -> Option<&str> {
        self.named.iter().find(|(name, _)| name == key).map(|(_, token)| token.text())
    }

    /// The id of a special token.
    fn id_of(&self, key: &str) -> Option<u32> {
        (self.id)(self.token(key)?)
    }

    /// A dressing of special tokens that must all be there.
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

    /// `cls_token` before and `sep_token` after, with ids for a vocabulary without.
    fn classified(&self, cls: u32, sep: u32) -> Ending {
        let (first, last) = (self.text("cls_token"), self.text("sep_token"));
        let ids = vec![
            (first.clone(), self.id_of("cls_token").unwrap_or(cls)),
            (last.clone(), self.id_of("sep_token").unwrap_or(sep)),
        ];
        let dressing = Dressing { before: vec![first], after: vec![last], ids };
        Ending { dressing: Some(dressing), ..Ending::default() }
    }
}

/// The entry of a class.
///
/// # Errors
/// A text that names the class, where it has none.
pub(super) fn find(name: &str) -> Result<&'static Class, String> {
    let tables = [byte_level::CLASSES, sentence_piece::CLASSES, unigram::CLASSES, word_piece::CLASSES];
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

/// Whether a class is one of those over bytes, where a file's own way of splitting is as likely as the
/// class's.
pub(super) fn is_byte_level(class: &Class) -> bool {
    byte_level::CLASSES.iter().any(|known| known.name == class.name)
}

const PLAIN: Class =
    Class { name: FROM_FILE, defaults: &[], prepare: unchanged, build: Build::File, finish: ended };

/// Differs from the plain class in decoding alone.
const PARAKEET: Class = Class { name: "ParakeetTokenizer", ..PLAIN };

fn unchanged(_: &mut Arguments) -> Result<(), String> {
    Ok(())
}

fn ended(_: &Built<'_>) -> Result<Ending, String> {
    Ok(Ending::default())
}

#[cfg(test)]
mod tests;
