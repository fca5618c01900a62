//! Classes of unigram vocabularies: T5, XLM-RoBERTa, ALBERT and similar.

use serde_json::{Value, json};

use super::parts::{
    BLANK, bare, metaspace, precompiled, replace, replace_all, sequence_of_normalizers,
    sequence_of_pre_tokenizers, strip,
};
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

const T5_TOKENS: &[(&str, Option<&str>)] =
    &[("eos_token", Some("</s>")), ("unk_token", Some("<unk>")), ("pad_token", Some("<pad>"))];

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
        name: "T5Tokenizer",
        defaults: T5_TOKENS,
        prepare: sentinels,
        build: Build::Vocabulary(|_, file| words(file.pieces()?.unigram(2), file, metaspace("always", true))),
        finish: ends,
    },
    Class {
        name: "VideoPrismTokenizer",
        defaults: T5_TOKENS,
        prepare: sentinels,
        build: Build::Vocabulary(|_, file| words(file.pieces()?.unigram(2), file, metaspace("always", true))),
        finish: ended,
    },
    Class {
        name: "LasrTokenizer",
        defaults: T5_TOKENS,
        prepare: sentinels,
        build: Build::Vocabulary(|_, file| words(file.pieces()?.unigram(3), file, metaspace("always", true))),
        finish: ends,
    },
    Class {
        name: "PegasusTokenizer",
        defaults: &[
            ("pad_token", Some("<pad>")),
            ("eos_token", Some("</s>")),
            ("unk_token", Some("<unk>")),
            ("mask_token", Some("<mask_2>")),
        ],
        prepare: pegasus_tokens,
        build: Build::Vocabulary(|arguments, file| {
            let pieces = file.pieces()?;
            let unk = arguments.text("unk_token")?;
            let unk = pieces.neutral(&unk, 1).ok_or_else(|| {
                format!(
                    "tokenizer.json: {unk:?} is not a piece with score 0 after the first; the class needs it"
                )
            })?;
            let first = file.charsmap().map_or_else(|| replace_all(r"\n", " "), |map| precompiled(&map));
            let blanks = metaspace("always", true);
            whole(pieces.unigram(unk), vec![first, replace_all(" {2,}", " ")], blanks.clone(), blanks)
        }),
        finish: |built| built.dressed(&[], &["eos_token"]),
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

/// Returns a tokenizer with these parts.
fn whole(
    model: String,
    normalizers: Vec<Value>,
    pre_tokenizer: Value,
    decoder: Value,
) -> Result<Recipe, String> {
    Ok(Recipe { model, normalizer: sequence_of_normalizers(normalizers), pre_tokenizer, decoder })
}

/// Returns a tokenizer that first splits at blanks, and normalizes with the file's character map.
fn words(model: String, file: &File<'_>, blanks: Value) -> Result<Recipe, String> {
    Ok(Recipe {
        model,
        normalizer: file.charsmap().map_or(Value::Null, |map| precompiled(&map)),
        pre_tokenizer: sequence_of_pre_tokenizers(vec![bare("WhitespaceSplit"), blanks.clone()]),
        decoder: blanks,
    })
}

/// Returns marks for blanks, with one before the text if `add_prefix_space` is set.
fn blanks(arguments: &Arguments, otherwise: &str) -> Value {
    metaspace(if arguments.is_true("add_prefix_space", true) { "always" } else { otherwise }, true)
}

/// Adds normalizers that drop accents and case, and the file's character map.
fn accents(
    mut parts: Vec<Value>,
    arguments: &Arguments,
    file: &File<'_>,
    keeps: bool,
    lowers: bool,
) -> Vec<Value> {
    if !keeps {
        parts.extend([bare("NFKD"), bare("StripAccents")]);
    }
    if arguments.is_true("do_lower_case", lowers) {
        parts.push(bare("Lowercase"));
    }
    parts.extend(file.charsmap().map(|map| precompiled(&map)));
    parts
}

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

/// Returns a whole number from the arguments.
fn place(arguments: &Arguments, key: &str, default: usize) -> Result<usize, String> {
    match arguments.get(key) {
        None => Ok(default),
        Some(value) => value
            .as_u64()
            .and_then(|value| usize::try_from(value).ok())
            .ok_or_else(|| format!("{key} is {value}; expected a whole number")),
    }
}

/// Adds T5's sentinels: `<extra_id_0>` and so on.
fn sentinels(arguments: &mut Arguments) -> Result<(), String> {
    let count = place(arguments, "extra_ids", 100)?;
    let all = (0..count).map(|at| Value::from(format!("<extra_id_{at}>")));
    let mut tokens = arguments.list("additional_special_tokens")?;
    let own = tokens.iter().filter(|token| token.to_string().contains("<extra_id_")).count();
    if own == 0 {
        tokens.extend(all);
    } else if count > 0 && own != count {
        return Err(format!(
            "additional_special_tokens has {own} tokens of the form <extra_id_0>; expected {count}, the \
             number that extra_ids gives"
        ));
    }
    arguments.set("additional_special_tokens", tokens);
    Ok(())
}

/// Ends every text with `</s>`, by the id of the EOS.
fn ends(built: &Built<'_>) -> Result<Ending, String> {
    let id = built.id_of("eos_token").ok_or("eos_token is missing; the class adds it to every text")?;
    let end = "</s>".to_owned();
    let dressing =
        Dressing { before: Vec::new(), after: vec![end.clone()], ids: vec![(end, id)], pair: None };
    Ok(Ending { dressing: Some(dressing), ..Ending::default() })
}

/// Adds Pegasus's sentence mask and its `<unk_2>` and so on; the file's own tokens are dropped.
fn pegasus_tokens(arguments: &mut Arguments) -> Result<(), String> {
    let offset = place(arguments, "offset", 103)?;
    let sentence = match arguments.get("mask_token_sent") {
        None => Value::from("<mask_1>"),
        Some(token) => token.clone(),
    };
    let own = arguments.list("additional_special_tokens")?;
    let mut tokens = Vec::new();
    if !sentence.is_null() && !own.contains(&sentence) {
        tokens.push(sentence);
    }
    tokens.extend((2..offset).map(|at| Value::from(format!("<unk_{at}>"))));
    arguments.set("additional_special_tokens", tokens);
    Ok(())
}
