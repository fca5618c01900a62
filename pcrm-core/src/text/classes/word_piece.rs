//! Classes of WordPiece vocabularies: BERT and similar.

use serde_json::{Value, json};

use super::parts::bare;
use super::{Arguments, Build, Built, Class, Dressing, Ending, File, Parting, Recipe, unchanged};
use crate::text::loading::Token;

const BERT_TOKENS: &[(&str, Option<&str>)] = &[
    ("unk_token", Some("[UNK]")),
    ("sep_token", Some("[SEP]")),
    ("pad_token", Some("[PAD]")),
    ("cls_token", Some("[CLS]")),
    ("mask_token", Some("[MASK]")),
];

const BERT: Class = Class {
    name: "BertTokenizer",
    defaults: BERT_TOKENS,
    prepare: unchanged,
    build: Build::Vocabulary(|arguments, file| {
        words(arguments, file, true, arguments.flag("do_lower_case", true)?)
    }),
    finish: |built| Ok(built.classified(2, 3, Parting::Once)),
};

/// A class that inherits BERT's constructor, so the file is used unchanged.
const BERT_OF_FILE: Class = Class { build: Build::File, ..BERT };

/// The constructors of DPR consume `do_lower_case`. The meaning of the names with `Fast` depends on the
/// modules that transformers has loaded before, so they have no entry.
const DPR: Class =
    Class { build: Build::Vocabulary(|arguments, file| words(arguments, file, true, true)), ..BERT };

pub(super) const CLASSES: &[Class] = &[
    BERT,
    Class { name: "DistilBertTokenizer", ..BERT },
    Class { name: "ConvBertTokenizer", ..BERT_OF_FILE },
    Class { name: "DPRContextEncoderTokenizer", ..DPR },
    Class { name: "DPRQuestionEncoderTokenizer", ..DPR },
    Class { name: "DPRReaderTokenizer", ..DPR },
    Class {
        name: "MPNetTokenizer",
        defaults: &[
            ("bos_token", Some("<s>")),
            ("eos_token", Some("</s>")),
            ("sep_token", Some("</s>")),
            ("cls_token", Some("<s>")),
            ("unk_token", Some("[UNK]")),
            ("pad_token", Some("<pad>")),
            ("mask_token", Some("<mask>")),
        ],
        prepare: |arguments| {
            for key in ["bos_token", "eos_token", "sep_token", "cls_token", "unk_token", "pad_token"] {
                arguments
                    .flagged(key, Token { lstrip: Some(false), rstrip: Some(false), ..Token::default() });
            }
            let mask = Token { lstrip: Some(true), rstrip: Some(false), ..Token::default() };
            arguments.flagged("mask_token", mask);
            Ok(())
        },
        build: BERT.build,
        finish: |built| Ok(built.classified(0, 2, Parting::Twice)),
    },
    Class {
        name: "FunnelTokenizer",
        defaults: &[
            ("unk_token", Some("<unk>")),
            ("sep_token", Some("<sep>")),
            ("pad_token", Some("<pad>")),
            ("cls_token", Some("<cls>")),
            ("mask_token", Some("<mask>")),
            ("bos_token", Some("<s>")),
            ("eos_token", Some("</s>")),
        ],
        prepare: unchanged,
        build: Build::Vocabulary(|arguments, file| {
            words(
                arguments,
                file,
                arguments.flag("clean_text", true)?,
                arguments.flag("do_lower_case", true)?,
            )
        }),
        finish: |built| built.dressed(&["cls_token"], &["sep_token"]),
    },
    Class {
        name: "SplinterTokenizer",
        defaults: &[
            ("unk_token", Some("[UNK]")),
            ("sep_token", Some("[SEP]")),
            ("pad_token", Some("[PAD]")),
            ("cls_token", Some("[CLS]")),
            ("mask_token", Some("[MASK]")),
            ("question_token", Some(QUESTION)),
        ],
        prepare: unchanged,
        build: BERT.build,
        finish: splinter,
    },
];

const QUESTION: &str = "[QUESTION]";

/// Renames the question token as Splinter's constructor does, regardless of the files.
fn splinter(built: &Built<'_>) -> Result<Ending, String> {
    let question = built.arguments.text("question_token")?;
    let renamed = Some(("question_token", question.clone()));
    let (Some(cls), Some(sep)) = (built.id_of("cls_token"), built.id_of("sep_token")) else {
        return Ok(Ending { renamed, ..Ending::default() });
    };
    for token in [question.as_str(), "."] {
        if (built.id)(token).is_none() {
            return Err(format!("{token:?} is not a token of the vocabulary; the class needs it"));
        }
    }
    let (first, last) = (built.text("cls_token"), built.text("sep_token"));
    let ids = vec![(first.clone(), cls), (last.clone(), sep)];
    let dressing = Some(Dressing { before: vec![first], after: vec![last], ids, pair: None });
    Ok(Ending { dressing, renamed, ..Ending::default() })
}

/// Splits words and punctuation into pieces of the vocabulary.
fn words(arguments: &Arguments, file: &File<'_>, clean: bool, lower: bool) -> Result<Recipe, String> {
    let strip_accents = match arguments.get("strip_accents") {
        None | Some(Value::Null) => Value::Null,
        Some(_) => Value::from(arguments.flag("strip_accents", false)?),
    };
    Ok(Recipe {
        model: file.word_piece(&arguments.text("unk_token")?)?,
        normalizer: json!({
            "type": "BertNormalizer",
            "clean_text": clean,
            "handle_chinese_chars": arguments.flag("tokenize_chinese_chars", true)?,
            "strip_accents": strip_accents,
            "lowercase": lower,
        }),
        pre_tokenizer: bare("BertPreTokenizer"),
        decoder: json!({"type": "WordPiece", "prefix": "##", "cleanup": true}),
    })
}
