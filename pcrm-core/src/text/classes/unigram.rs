//! Classes of unigram vocabularies: XLM-RoBERTa, ALBERT and similar.

use serde_json::{Value, json};

use super::parts::{
    BLANK, bare, metaspace, precompiled, replace, replace_all, sequence_of_pre_tokenizers, strip,
};
use super::recipes::{accents, blanks, place, whole, words};
use super::{
    Again, Arguments, Build, Built, Class, Dressing, Ending, File, Parting, Recipe, ended, unchanged,
};
use crate::text::loading::Token;

const ALBERT_TOKENS: &[(&str, Option<&str>)] = &[
    ("bos_token", Some("[CLS]")),
    ("eos_token", Some("[SEP]")),
    ("unk_token", Some("<unk>")),
    ("sep_token", Some("[SEP]")),
    ("pad_token", Some("<pad>")),
    ("cls_token", Some("[CLS]")),
    ("mask_token", Some("[MASK]")),
];

const ROBERTA_TOKENS: &[(&str, Option<&str>)] = &[
    ("bos_token", Some("<s>")),
    ("eos_token", Some("</s>")),
    ("sep_token", Some("</s>")),
    ("cls_token", Some("<s>")),
    ("unk_token", Some("<unk>")),
    ("pad_token", Some("<pad>")),
    ("mask_token", Some("<mask>")),
];

pub(super) const CLASSES: &[Class] = &[
    Class {
        name: "AlbertTokenizer",
        defaults: ALBERT_TOKENS,
        prepare: unchanged,
        build: Build::Vocabulary(albert),
        finish: albert_ends,
    },
    // The class inherits ALBERT's constructor, so the file is used unchanged.
    Class {
        name: "FNetTokenizer",
        defaults: ALBERT_TOKENS,
        prepare: unchanged,
        build: Build::File,
        finish: ended,
    },
    Class {
        name: "BarthezTokenizer",
        defaults: ROBERTA_TOKENS,
        prepare: lenient_mask,
        build: Build::Vocabulary(|arguments, file| {
            let parts = vec![replace_all(r"\s{2,}|[\n\r\t]", " "), bare("NFC"), strip(false, true)];
            let blanks = blanks(arguments, "never");
            whole(file.pieces()?.unigram(3), parts, blanks.clone(), blanks)
        }),
        finish: ended,
    },
    Class {
        name: "CamembertTokenizer",
        defaults: ROBERTA_TOKENS,
        prepare: |arguments| {
            arguments.flagged("mask_token", Token { lstrip: Some(true), special: true, ..Token::default() });
            if arguments.get("additional_special_tokens").is_none_or(Value::is_null) {
                arguments
                    .set("additional_special_tokens", json!(["<s>NOTUSED", "</s>NOTUSED", "<unk>NOTUSED"]));
            }
            Ok(())
        },
        build: Build::Vocabulary(|arguments, file| {
            let pieces = file.pieces()?;
            let unk = arguments.text("unk_token")?;
            let unk = pieces.scores.iter().position(|(piece, _)| *piece == unk).unwrap_or(0);
            words(pieces.unigram(unk), file, blanks(arguments, "never"))
        }),
        finish: |built| built.dressed_pairs("bos_token", "eos_token", Parting::Twice),
    },
    Class {
        name: "BigBirdTokenizer",
        defaults: &[
            ("unk_token", Some("<unk>")),
            ("bos_token", Some("<s>")),
            ("eos_token", Some("</s>")),
            ("pad_token", Some("<pad>")),
            ("sep_token", Some("[SEP]")),
            ("mask_token", Some("[MASK]")),
            ("cls_token", Some("[CLS]")),
        ],
        prepare: |arguments| {
            for key in ["bos_token", "eos_token", "unk_token", "pad_token", "cls_token", "sep_token"] {
                arguments
                    .flagged(key, Token { lstrip: Some(false), rstrip: Some(false), ..Token::default() });
            }
            lenient_mask(arguments)
        },
        build: Build::Vocabulary(|arguments, file| {
            let pieces = file.pieces()?;
            let unk = pieces.neutral(&arguments.text("unk_token")?, 0).unwrap_or(100);
            let blanks = blanks(arguments, "never");
            let parts = vec![strip(false, false), replace_all(" {2,}", BLANK)];
            whole(pieces.unigram(unk), parts, blanks.clone(), blanks)
        }),
        finish: |built| built.dressed(&["cls_token"], &["sep_token"]),
    },
    Class {
        name: "DebertaV2Tokenizer",
        defaults: &[
            ("bos_token", Some("[CLS]")),
            ("eos_token", Some("[SEP]")),
            ("unk_token", Some("[UNK]")),
            ("sep_token", Some("[SEP]")),
            ("pad_token", Some("[PAD]")),
            ("cls_token", Some("[CLS]")),
            ("mask_token", Some("[MASK]")),
        ],
        prepare: unchanged,
        build: Build::Vocabulary(deberta_v2),
        finish: |built| Ok(built.classified(0, 0, Parting::Once)),
    },
    Class {
        name: "RemBertTokenizer",
        defaults: ALBERT_TOKENS,
        prepare: unchanged,
        build: Build::Vocabulary(|arguments, file| {
            let parts = vec![replace("``", "\""), replace("''", "\""), replace_all(" {2,}", " ")];
            let parts = accents(parts, arguments, file, arguments.is_true("keep_accents", true), false);
            let blanks = blanks(arguments, "never");
            whole(file.pieces()?.unigram(2), parts, blanks.clone(), blanks)
        }),
        finish: |built| {
            let ending = built.dressed(&["cls_token"], &["sep_token"])?;
            Ok(Ending { again: Again::AsTheyAre, ..ending })
        },
    },
    Class {
        name: "XGLMTokenizer",
        defaults: &[
            ("bos_token", Some("<s>")),
            ("eos_token", Some("</s>")),
            ("sep_token", Some("</s>")),
            ("cls_token", Some("<s>")),
            ("unk_token", Some("<unk>")),
            ("pad_token", Some("<pad>")),
        ],
        prepare: |arguments| {
            let mut tokens = arguments.list("additional_special_tokens")?;
            let words: Vec<Value> = (0..7).map(|at| Value::from(format!("<madeupword{at}>"))).collect();
            let new: Vec<Value> = words.into_iter().filter(|word| !tokens.contains(word)).collect();
            tokens.extend(new);
            arguments.set("additional_special_tokens", tokens);
            Ok(())
        },
        build: Build::Vocabulary(|arguments, file| {
            let mut parts: Vec<Value> = file.charsmap().map(|map| precompiled(&map)).into_iter().collect();
            parts.push(replace_all(" {2,}", " "));
            let blanks = blanks(arguments, "never");
            whole(file.pieces()?.unigram(3), parts, blanks.clone(), blanks)
        }),
        finish: |built| {
            if built.id_of("bos_token").is_none() {
                return Err("bos_token is missing; the class needs it".to_owned());
            }
            built.dressed(&["eos_token"], &[])
        },
    },
    Class {
        name: "XLMRobertaTokenizer",
        defaults: ROBERTA_TOKENS,
        prepare: unchanged,
        build: Build::Vocabulary(|arguments, file| {
            words(file.pieces()?.unigram(3), file, blanks(arguments, "never"))
        }),
        finish: |built| built.dressed_pairs("bos_token", "eos_token", Parting::Twice),
    },
    Class {
        name: "XLNetTokenizer",
        defaults: &[
            ("bos_token", Some("<s>")),
            ("eos_token", Some("</s>")),
            ("unk_token", Some("<unk>")),
            ("sep_token", Some("<sep>")),
            ("pad_token", Some("<pad>")),
            ("cls_token", Some("<cls>")),
            ("mask_token", Some("<mask>")),
        ],
        prepare: |arguments| {
            if arguments.get("additional_special_tokens").is_none_or(Value::is_null) {
                arguments.set("additional_special_tokens", json!(["<eop>", "<eod>"]));
            }
            lenient_mask(arguments)
        },
        build: Build::Vocabulary(|arguments, file| {
            let parts = vec![replace("``", "\""), replace("''", "\"")];
            let parts = accents(parts, arguments, file, false, false);
            let blanks = metaspace("always", true);
            let split = sequence_of_pre_tokenizers(vec![bare("WhitespaceSplit"), blanks.clone()]);
            whole(file.pieces()?.unigram(place(arguments, "unk_id", 0)?), parts, split, blanks)
        }),
        finish: |built| built.dressed(&[], &["sep_token", "cls_token"]),
    },
];

fn albert(arguments: &Arguments, file: &File<'_>) -> Result<Recipe, String> {
    let parts = vec![replace("``", "\""), replace("''", "\"")];
    let parts = accents(parts, arguments, file, arguments.is_true("keep_accents", false), true);
    let pieces = file.pieces()?;
    for key in ["cls_token", "sep_token"] {
        let text = arguments.text(key)?;
        if !pieces.scores.iter().any(|(piece, _)| *piece == text) {
            return Err(format!(
                "tokenizer.json: {key} {text:?} is not a piece of the vocabulary; the class needs it"
            ));
        }
    }
    let blanks = blanks(arguments, "never");
    let split = sequence_of_pre_tokenizers(vec![bare("WhitespaceSplit"), blanks.clone()]);
    whole(pieces.unigram(1), parts, split, blanks)
}

/// Returns ALBERT's end marks if the file has none, under BERT's names regardless of the token texts.
fn albert_ends(built: &Built<'_>) -> Result<Ending, String> {
    let mut ending = Ending::default();
    if let (true, Some(cls), Some(sep)) = (built.is_bare, built.id_of("cls_token"), built.id_of("sep_token"))
    {
        let (first, last) = ("[CLS]".to_owned(), "[SEP]".to_owned());
        let ids = vec![(first.clone(), cls), (last.clone(), sep)];
        ending.dressing = Some(Dressing { before: vec![first], after: vec![last], ids, pair: None });
    }
    Ok(ending)
}

fn deberta_v2(arguments: &Arguments, file: &File<'_>) -> Result<Recipe, String> {
    let pieces = file.pieces()?;
    let unk = match pieces.neutral(&arguments.text("unk_token")?, 0) {
        Some(unk) => unk,
        None => place(arguments, "unk_id", 1)?,
    };
    let mut parts = Vec::new();
    if arguments.is_true("do_lower_case", false) {
        parts.push(bare("Lowercase"));
    }
    parts.extend([replace_all(r"\s{2,}|[\n\r\t]", " "), bare("NFC"), strip(false, true)]);
    let blanks = blanks(arguments, "first");
    let mut split = Vec::new();
    if arguments.is_true("split_by_punct", false) {
        split.push(json!({"type": "Punctuation", "behavior": "Isolated"}));
    }
    split.push(blanks.clone());
    whole(pieces.unigram(unk), parts, sequence_of_pre_tokenizers(split), blanks)
}

/// Makes the mask token absorb blanks before it.
fn lenient_mask(arguments: &mut Arguments) -> Result<(), String> {
    arguments.flagged("mask_token", Token { lstrip: Some(true), rstrip: Some(false), ..Token::default() });
    Ok(())
}
