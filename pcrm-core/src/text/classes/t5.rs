//! Classes of unigram vocabularies that number their mask tokens: T5, Pegasus and similar.

use serde_json::Value;

use super::parts::{metaspace, precompiled, replace_all};
use super::recipes::{place, whole, words};
use super::{Arguments, Build, Built, Class, Dressing, Ending, ended};

const T5_TOKENS: &[(&str, Option<&str>)] =
    &[("eos_token", Some("</s>")), ("unk_token", Some("<unk>")), ("pad_token", Some("<pad>"))];

pub(super) const CLASSES: &[Class] = &[
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
];

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
