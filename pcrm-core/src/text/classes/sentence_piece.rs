//! Classes of SentencePiece's byte-pair encodings: Llama, Gemma and similar.

use serde_json::Value;

use super::parts::{
    BLANK, bare, metaspace, precompiled, replace, replace_all, sentence_decoder, sequence_of_decoders,
    sequence_of_normalizers, sequence_of_pre_tokenizers, split_at,
};
use super::{Again, Arguments, Build, Class, Ending, File, Recipe, ended, unchanged};
use crate::text::loading::Bpe;

const GEMMA_TOKENS: &[(&str, Option<&str>)] = &[
    ("unk_token", Some("<unk>")),
    ("bos_token", Some("<bos>")),
    ("eos_token", Some("<eos>")),
    ("pad_token", Some("<pad>")),
    ("mask_token", Some("<mask>")),
];

/// Tokens of Code Llama that its constructor names and adds.
const INFILLING: [(&str, &str); 5] = [
    ("prefix_token", "▁<PRE>"),
    ("middle_token", "▁<MID>"),
    ("suffix_token", "▁<SUF>"),
    ("eot_token", "▁<EOT>"),
    ("fill_token", "<FILL_ME>"),
];

pub(super) const CLASSES: &[Class] = &[
    Class {
        name: "LlamaTokenizer",
        defaults: &[("unk_token", Some("<unk>")), ("bos_token", Some("<s>")), ("eos_token", Some("</s>"))],
        prepare: unchanged,
        build: Build::Vocabulary(llama),
        finish: ended,
    },
    Class {
        name: "CodeLlamaTokenizer",
        defaults: &[
            ("unk_token", Some("<unk>")),
            ("bos_token", Some("<s>")),
            ("eos_token", Some("</s>")),
            (INFILLING[0].0, Some(INFILLING[0].1)),
            (INFILLING[1].0, Some(INFILLING[1].1)),
            (INFILLING[2].0, Some(INFILLING[2].1)),
            (INFILLING[3].0, Some(INFILLING[3].1)),
            (INFILLING[4].0, Some(INFILLING[4].1)),
        ],
        prepare: |arguments| {
            let mut tokens = arguments.list("additional_special_tokens")?;
            for (key, _) in INFILLING {
                tokens.extend(arguments.get(key).filter(|token| !token.is_null()).cloned());
            }
            arguments.set("additional_special_tokens", tokens);
            if !arguments.has("add_bos_token") {
                arguments.set("add_bos_token", true);
            }
            Ok(())
        },
        build: Build::Vocabulary(|arguments, file| {
            let scheme = if arguments.is_true_or_null("add_prefix_space", true) { "first" } else { "never" };
            let unk = Some(arguments.text("unk_token")?);
            let model = Bpe { unk, fuse_unk: true, byte_fallback: true, ..Bpe::default() };
            Ok(Recipe {
                model: file.bpe(&model)?,
                normalizer: Value::Null,
                pre_tokenizer: metaspace(scheme, false),
                decoder: sentence_decoder(true),
            })
        }),
        finish: |built| {
            let fill = built.arguments.named("fill_token")?;
            let refused = fill.map(|token| token.text().to_owned()).filter(|text| !text.is_empty());
            Ok(Ending { refused, ..Ending::default() })
        },
    },
    Class {
        name: "GemmaTokenizer",
        defaults: GEMMA_TOKENS,
        prepare: unchanged,
        build: Build::Vocabulary(gemma),
        finish: ended,
    },
    Class {
        name: "Siglip2Tokenizer",
        defaults: GEMMA_TOKENS,
        prepare: unchanged,
        build: Build::Vocabulary(gemma),
        finish: |_| {
            let normalizer = sequence_of_normalizers(vec![bare("Lowercase"), replace(" ", BLANK)]);
            Ok(Ending { normalizer: Some(normalizer), ..Ending::default() })
        },
    },
    Class {
        name: "ReformerTokenizer",
        defaults: &[("eos_token", Some("</s>")), ("unk_token", Some("<unk>"))],
        prepare: |arguments| {
            let tokens = arguments.list("additional_special_tokens")?;
            arguments.set("additional_special_tokens", tokens);
            Ok(())
        },
        build: Build::Vocabulary(|arguments, file| {
            let model = Bpe { unk: Some(arguments.text("unk_token")?), fuse_unk: true, ..Bpe::default() };
            let normalizer = file.charsmap().map_or(Value::Null, |map| {
                sequence_of_normalizers(vec![precompiled(&map), replace_all(" {2,}", " ")])
            });
            Ok(Recipe {
                model: file.bpe(&model)?,
                normalizer,
                pre_tokenizer: metaspace("always", true),
                decoder: metaspace("always", true),
            })
        }),
        finish: |_| Ok(Ending { again: Again::AsTheyAre, ..Ending::default() }),
    },
    Class {
        name: "Tipsv2Tokenizer",
        defaults: &[
            ("unk_token", Some("<unk>")),
            ("pad_token", Some("<pad>")),
            ("bos_token", None),
            ("eos_token", None),
        ],
        prepare: unchanged,
        build: Build::Vocabulary(|arguments, file| {
            let mut parts = Vec::new();
            if arguments.is_true("do_lower_case", true) {
                parts.push(bare("Lowercase"));
            }
            parts.extend(file.charsmap().map(|map| precompiled(&map)));
            let blanks = metaspace("always", true);
            Ok(Recipe {
                model: file.bpe(&Bpe { fuse_unk: true, byte_fallback: true, ..Bpe::default() })?,
                normalizer: sequence_of_normalizers(parts),
                pre_tokenizer: sequence_of_pre_tokenizers(vec![bare("WhitespaceSplit"), blanks.clone()]),
                decoder: sequence_of_decoders(vec![blanks, bare("ByteFallback"), bare("Fuse")]),
            })
        }),
        finish: ended,
    },
];

/// Puts a mark only before the text, or, if `legacy`, before every piece between special tokens.
fn llama(arguments: &Arguments, file: &File<'_>) -> Result<Recipe, String> {
    let prefix = arguments.is_true_or_null("add_prefix_space", true);
    let scheme = match (prefix, arguments.is_true("legacy", false)) {
        (false, _) => "never",
        (true, false) => "first",
        (true, true) => "always",
    };
    Ok(Recipe {
        model: file.bpe(&Bpe { fuse_unk: true, byte_fallback: true, ..Bpe::default() })?,
        normalizer: Value::Null,
        pre_tokenizer: metaspace(scheme, false),
        decoder: sentence_decoder(prefix),
    })
}

fn gemma(arguments: &Arguments, file: &File<'_>) -> Result<Recipe, String> {
    let unk = Some(arguments.text("unk_token")?);
    let model = Bpe { unk, fuse_unk: true, byte_fallback: true, ..Bpe::default() };
    Ok(Recipe {
        model: file.bpe(&model)?,
        normalizer: replace(" ", BLANK),
        pre_tokenizer: split_at(" ", "MergedWithPrevious"),
        decoder: sentence_decoder(false),
    })
}
