//! Classes of byte-pair encodings over bytes or words: GPT-2 and similar.

use serde_json::{Value, json};

use super::parts::{
    bare, byte_level, replace_all, sequence_of_normalizers, sequence_of_pre_tokenizers, split, split_at,
};
use super::{
    Again, Arguments, Build, Built, Class, Dressing, Ending, File, Parting, Recipe, ended, unchanged,
};
use crate::text::loading::{Bpe, Token};

const END_OF_TEXT: Option<&str> = Some("<|endoftext|>");

const QWEN2: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);

const QWEN3_5: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}",
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);

const CLIP: &str =
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// A literal text, not a pattern, because Nougat's class passes it as such.
const NOUGAT: &str = r###"[\(\)\[\]\{\}]|([!\"#\$%\&'\*\+,\-\./:;<=>\?\\\^_`\|\~])\1*"###;

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
        name: "GPT2Tokenizer",
        defaults: &[
            ("unk_token", END_OF_TEXT),
            ("bos_token", END_OF_TEXT),
            ("eos_token", END_OF_TEXT),
            ("pad_token", None),
        ],
        prepare: unchanged,
        build: Build::Vocabulary(gpt2),
        finish: ended,
    },
    Class {
        name: "CodeGenTokenizer",
        defaults: &[
            ("unk_token", END_OF_TEXT),
            ("bos_token", END_OF_TEXT),
            ("eos_token", END_OF_TEXT),
            ("pad_token", None),
        ],
        prepare: unchanged,
        build: Build::Vocabulary(gpt2),
        finish: ended,
    },
    Class {
        name: "GPTNeoXTokenizer",
        defaults: &[
            ("unk_token", END_OF_TEXT),
            ("bos_token", END_OF_TEXT),
            ("eos_token", END_OF_TEXT),
            ("pad_token", Some("<|padding|>")),
        ],
        prepare: unchanged,
        build: Build::Vocabulary(|arguments, file| {
            arguments.flag("trim_offsets", true)?;
            Ok(Recipe { normalizer: bare("NFC"), ..gpt2(arguments, file)? })
        }),
        finish: |_| Ok(Ending { updates: true, ..Ending::default() }),
    },
    Class {
        name: "Qwen2Tokenizer",
        defaults: QWEN_TOKENS,
        prepare: unchanged,
        build: Build::Vocabulary(|arguments, file| qwen(arguments, file, QWEN2)),
        finish: |_| Ok(Ending { again: Again::Plain, ..Ending::default() }),
    },
    Class {
        name: "Qwen3_5Tokenizer",
        defaults: QWEN_TOKENS,
        prepare: unchanged,
        build: Build::Vocabulary(|arguments, file| qwen(arguments, file, QWEN3_5)),
        finish: ended,
    },
    Class {
        name: "CohereTokenizer",
        defaults: &[
            ("unk_token", Some("<UNK>")),
            ("bos_token", Some("<BOS_TOKEN>")),
            ("eos_token", Some("<|END_OF_TURN_TOKEN|>")),
            ("pad_token", Some("<PAD>")),
            ("cls_token", Some("<CLS>")),
            ("sep_token", Some("<SEP>")),
            ("mask_token", Some("<MASK_TOKEN>")),
        ],
        prepare: unchanged,
        build: Build::Vocabulary(|arguments, file| {
            let bytes = byte_level(arguments.flag("add_prefix_space", false)?, true);
            let digits = json!({"type": "Digits", "individual_digits": true});
            Ok(Recipe {
                normalizer: bare("NFC"),
                pre_tokenizer: sequence_of_pre_tokenizers(vec![digits, bytes.clone()]),
                decoder: bytes,
                ..gpt2(arguments, file)?
            })
        }),
        finish: |_| Ok(Ending { again: Again::AsTheyAre, ..Ending::default() }),
    },
    Class {
        name: "RobertaTokenizer",
        defaults: ROBERTA_TOKENS,
        prepare: unchanged,
        build: Build::Vocabulary(|arguments, file| {
            arguments.flag("trim_offsets", true)?;
            gpt2(arguments, file)
        }),
        finish: |built| built.dressed_pairs("cls_token", "sep_token", Parting::Twice),
    },
    Class {
        name: "BlenderbotTokenizer",
        defaults: ROBERTA_TOKENS,
        prepare: |arguments| {
            let flags = Token {
                lstrip: Some(true),
                rstrip: Some(false),
                normalized: Some(false),
                ..Token::default()
            };
            arguments.flagged("mask_token", flags);
            Ok(())
        },
        build: Build::Vocabulary(|arguments, file| {
            bytes(file, byte_level(arguments.flag("add_prefix_space", true)?, true))
        }),
        finish: ended,
    },
    Class {
        name: "DebertaTokenizer",
        defaults: &[
            ("bos_token", Some("[CLS]")),
            ("eos_token", Some("[SEP]")),
            ("sep_token", Some("[SEP]")),
            ("cls_token", Some("[CLS]")),
            ("unk_token", Some("[UNK]")),
            ("pad_token", Some("[PAD]")),
            ("mask_token", Some("[MASK]")),
        ],
        prepare: unchanged,
        build: Build::Vocabulary(gpt2),
        finish: |built| built.dressed(&["cls_token"], &["sep_token"]),
    },
    Class {
        name: "CLIPTokenizer",
        defaults: &[
            ("unk_token", END_OF_TEXT),
            ("bos_token", Some("<|startoftext|>")),
            ("eos_token", END_OF_TEXT),
            ("pad_token", END_OF_TEXT),
        ],
        prepare: unchanged,
        build: Build::Vocabulary(|arguments, file| {
            let parts = vec![bare("NFC"), replace_all(r"\s+", " "), bare("Lowercase")];
            let split = split(CLIP, "Removed", true);
            Ok(Recipe {
                model: words(arguments, file)?,
                normalizer: sequence_of_normalizers(parts),
                pre_tokenizer: sequence_of_pre_tokenizers(vec![split, byte_level(false, true)]),
                decoder: byte_level(true, true),
            })
        }),
        finish: |built: &Built<'_>| built.dressed(&["bos_token"], &["eos_token"]),
    },
    Class {
        name: "NougatTokenizer",
        defaults: &[
            ("unk_token", Some("<unk>")),
            ("bos_token", Some("<s>")),
            ("eos_token", Some("</s>")),
            ("pad_token", Some("<pad>")),
        ],
        prepare: unchanged,
        build: Build::Vocabulary(|_, file| {
            let parts = vec![
                split_at("SPL1T-TH1S-Pl3A5E", "Removed"),
                json!({"type": "Digits", "individual_digits": true}),
                split_at(NOUGAT, "Isolated"),
                split_at("\n", "Isolated"),
                byte_level(false, true),
            ];
            let parts = sequence_of_pre_tokenizers(parts);
            Ok(Recipe { normalizer: bare("NFKC"), ..bytes(file, parts)? })
        }),
        finish: |built| built.dressed(&["bos_token"], &["eos_token"]),
    },
    Class {
        name: "OpenAIGPTTokenizer",
        defaults: &[("unk_token", Some("<unk>"))],
        prepare: unchanged,
        build: Build::Vocabulary(|arguments, file| {
            Ok(Recipe {
                model: words(arguments, file)?,
                normalizer: json!({"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                    "strip_accents": null, "lowercase": true}),
                pre_tokenizer: bare("BertPreTokenizer"),
                decoder: json!({"type": "BPEDecoder", "suffix": "</w>"}),
            })
        }),
        finish: ended,
    },
    Class {
        name: "HerbertTokenizer",
        defaults: &[
            ("cls_token", Some("<s>")),
            ("unk_token", Some("<unk>")),
            ("pad_token", Some("<pad>")),
            ("mask_token", Some("<mask>")),
            ("sep_token", Some("</s>")),
        ],
        prepare: unchanged,
        build: Build::Vocabulary(|arguments, file| {
            let model =
                Bpe { unk: Some(arguments.text("unk_token")?), suffix: Some("</w>"), ..Bpe::default() };
            Ok(Recipe {
                model: file.bpe(&model)?,
                normalizer: json!({"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                    "strip_accents": false, "lowercase": false}),
                pre_tokenizer: bare("BertPreTokenizer"),
                decoder: json!({"type": "BPEDecoder", "suffix": "</w>"}),
            })
        }),
        // The class hard-codes these ids, regardless of the vocabulary and the token names.
        finish: |built| {
            built.dressed(&["cls_token"], &["sep_token"])?;
            let (first, last) = ("cls".to_owned(), "sep".to_owned());
            let ids = vec![(first.clone(), 0), (last.clone(), 2)];
            let dressing = Some(Dressing { before: vec![first], after: vec![last], ids, pair: None });
            Ok(Ending { dressing, ..Ending::default() })
        },
    },
];

const QWEN_TOKENS: &[(&str, Option<&str>)] = &[
    ("unk_token", END_OF_TEXT),
    ("bos_token", None),
    ("eos_token", END_OF_TEXT),
    ("pad_token", END_OF_TEXT),
];

/// Returns a byte-pair encoding over bytes.
fn bytes(file: &File<'_>, pre_tokenizer: Value) -> Result<Recipe, String> {
    let model = Bpe { prefix: Some(""), suffix: Some(""), ..Bpe::default() };
    Ok(Recipe {
        model: file.bpe(&model)?,
        normalizer: Value::Null,
        pre_tokenizer,
        decoder: byte_level(true, true),
    })
}

/// Returns an encoding over bytes, split as in GPT-2.
fn gpt2(arguments: &Arguments, file: &File<'_>) -> Result<Recipe, String> {
    bytes(file, byte_level(arguments.flag("add_prefix_space", false)?, true))
}

/// Returns an encoding over bytes, split by a pattern.
fn qwen(arguments: &Arguments, file: &File<'_>, pattern: &str) -> Result<Recipe, String> {
    let bytes_of = byte_level(arguments.flag_or_null("add_prefix_space", false)?, false);
    let parts = sequence_of_pre_tokenizers(vec![split(pattern, "Isolated", false), bytes_of]);
    Ok(Recipe { normalizer: bare("NFC"), ..bytes(file, parts)? })
}

/// Returns a byte-pair encoding over words, with an unknown token.
fn words(arguments: &Arguments, file: &File<'_>) -> Result<String, String> {
    let unk = Some(arguments.text("unk_token")?);
    file.bpe(&Bpe { unk, prefix: Some(""), suffix: Some("</w>"), ..Bpe::default() })
}
