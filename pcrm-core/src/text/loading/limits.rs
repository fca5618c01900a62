//! Limits on tokenizer.json, checked before the tokenizers library reads it: a failed allocation aborts the
//! process and cannot be turned into an error.

use serde_json::Value;

use super::File;
use crate::model::folder;

/// The maximum number of bytes in an added token.
const LONGEST_TOKEN: usize = 4096;
/// The maximum number of bytes in all added tokens together.
const LONGEST_TOKENS: usize = 16 << 20;
/// The maximum number of pieces in a post-processor.
const MOST_PIECES: usize = 1000;
/// The maximum number of parts in a sequence of normalizers, decoders or post-processors.
const MOST_PARTS: usize = 100;
/// The maximum number of bytes that a byte of text may become.
const MOST_GROWTH: usize = 10_000;
/// The maximum number of bytes put before every text.
const LONGEST_PREFIX: usize = 1 << 20;
/// The maximum number of bytes that a text may become.
const LONGEST_TEXT: usize = 256 << 20;

/// An upper bound on how much a normalizer lengthens texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::text) struct Growth {
    /// The number of bytes that each byte may become.
    factor: usize,
    /// The number of bytes put before every text.
    prefix: usize,
}

impl Growth {
    /// No growth.
    pub const NONE: Self = Self { factor: 1, prefix: 0 };

    /// Refuses a text that could grow beyond 256 MiB.
    ///
    /// # Errors
    /// Fails with a message if the text could exceed the limit.
    pub fn check(self, text: &str) -> Result<(), String> {
        match text.len().saturating_mul(self.factor).saturating_add(self.prefix) {
            grown if grown <= LONGEST_TEXT => Ok(()),
            _ => Err(format!(
                "a text of {} bytes may become {} times as long in the tokenizer's normalizer; expected at \
                 most {} MiB",
                text.len(),
                self.factor,
                LONGEST_TEXT >> 20
            )),
        }
    }

    /// Returns the growth of a part of tokenizer.json: a normalizer or a decoder.
    fn of(part: &Value, depth: usize) -> Result<Self, String> {
        if depth > MOST_PARTS {
            return Err(format!("nests sequences more than {MOST_PARTS} deep"));
        }
        let mut all = Self::NONE;
        let parts = ["normalizers", "decoders"].iter().find_map(|key| part[*key].as_array());
        let parts = parts.map_or([].as_slice(), Vec::as_slice);
        if parts.len() > MOST_PARTS {
            return Err(format!("is a sequence of {}; expected at most {MOST_PARTS}", parts.len()));
        }
        for part in parts {
            let next = Self::of(part, depth + 1)?;
            all.factor = all.factor.saturating_mul(next.factor);
            all.prefix = all.prefix.saturating_mul(next.factor).saturating_add(next.prefix);
            all.within()?;
        }
        let length = |key: &str| part[key].as_str().map_or(0, str::len);
        match part["type"].as_str() {
            Some("Replace") => {
                // A regular expression may match a single byte, or the empty string.
                let pattern = part["pattern"]["String"].as_str();
                all.factor = match pattern.map_or(0, str::len) {
                    0 => length("content") + 1,
                    matched => length("content").div_ceil(matched).max(1),
                };
            }
            Some("Prepend") => all.prefix = length("prepend"),
            Some("Precompiled") => check_charsmap(part["precompiled_charsmap"].as_str().unwrap_or_default())?,
            _ => {}
        }
        all.within()?;
        Ok(all)
    }

    fn within(self) -> Result<(), String> {
        match self.factor <= MOST_GROWTH && self.prefix <= LONGEST_PREFIX {
            true => Ok(()),
            false => Err(format!(
                "makes texts {} times as long and puts {} bytes before them; expected at most {MOST_GROWTH} \
                 times and {LONGEST_PREFIX} bytes",
                self.factor, self.prefix
            )),
        }
    }
}

/// Checks the parts of tokenizer.json; returns the growth of texts in its normalizer.
///
/// # Errors
/// Fails with a message that names the part, its value and the limit.
pub(super) fn check(file: &File<'_>) -> Result<Growth, String> {
    let mut all = 0;
    for token in &file.added_tokens {
        let length = token["content"].as_str().map_or(0, str::len);
        all += length;
        if length > LONGEST_TOKEN || all > LONGEST_TOKENS {
            return Err(format!(
                "tokenizer.json: added_tokens: a token has {length} bytes, all so far {all}; expected at \
                 most {LONGEST_TOKEN} of one and {LONGEST_TOKENS} of all"
            ));
        }
    }
    let at = |part: &'static str| move |message: String| format!("tokenizer.json: the {part} {message}");
    check_processor(&file.post_processor, 0).map_err(at("post_processor"))?;
    Growth::of(&file.decoder, 0).map_err(at("decoder"))?;
    Growth::of(&file.normalizer, 0).map_err(at("normalizer"))
}

/// Checks a post-processor: the library looks up every piece without a check that it exists, and writes a
/// text as often as it is named.
fn check_processor(part: &Value, depth: usize) -> Result<(), String> {
    if depth > MOST_PARTS {
        return Err(format!("nests sequences more than {MOST_PARTS} deep"));
    }
    if let Some(parts) = part["processors"].as_array() {
        if parts.len() > MOST_PARTS {
            return Err(format!("is a sequence of {}; expected at most {MOST_PARTS}", parts.len()));
        }
        parts.iter().try_for_each(|part| check_processor(part, depth + 1))?;
    }
    if part["type"] != "TemplateProcessing" {
        return Ok(());
    }
    let names = check_template(part, "single")?;
    if names != ["A"] {
        return Err(format!("writes the texts [{}] in \"single\"; expected A, once", folder::some(&names)));
    }
    // A form that is never used may lack a text.
    let names = check_template(part, "pair")?;
    if ["A", "B"].iter().any(|text| names.iter().filter(|name| *name == text).count() > 1) {
        return Err(format!(
            "writes the texts [{}] in \"pair\"; expected A and B, once",
            folder::some(&names)
        ));
    }
    Ok(())
}

/// Checks that the pieces of a template are few and that their tokens exist; returns the names of its texts.
fn check_template<'a>(part: &'a Value, form: &str) -> Result<Vec<&'a str>, String> {
    let pieces = part[form].as_array().map_or([].as_slice(), Vec::as_slice);
    if pieces.len() > MOST_PIECES {
        return Err(format!("has {} pieces in {form:?}; expected at most {MOST_PIECES}", pieces.len()));
    }
    for piece in pieces {
        let Some(name) = piece["SpecialToken"]["id"].as_str() else { continue };
        let Some(token) = part["special_tokens"].get(name) else {
            return Err(format!("names the token {name:?} in {form:?}; expected one of its special_tokens"));
        };
        let ids = token["ids"].as_array().map_or(0, Vec::len);
        if ids > MOST_PIECES {
            return Err(format!("has the token {name:?} with {ids} ids; expected at most {MOST_PIECES}"));
        }
    }
    let texts = pieces.iter().filter_map(|piece| piece.get("Sequence"));
    Ok(texts.map(|text| text["id"].as_str().unwrap_or("?")).collect())
}

/// Checks that a compiled character map contains the trie whose length its first four bytes declare, because
/// the library allocates that length.
fn check_charsmap(base64: &str) -> Result<(), String> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let digits: Option<Vec<u8>> = base64.bytes().take(6).map(digit).collect();
    let digits = digits.filter(|digits| digits.len() == 6);
    let digits = digits.ok_or("has a precompiled_charsmap that is not base64 of at least 4 bytes")?;
    // Of these 36 bits, the first 32 are the length, lowest byte first.
    let bits = digits.iter().fold(0_u64, |bits, digit| bits << 6 | u64::from(*digit)) >> 4;
    let announced = u64::from((bits as u32).swap_bytes());
    let there = base64.trim_end_matches('=').len() as u64 * 3 / 4;
    match announced.checked_add(4).is_some_and(|needed| needed <= there) {
        true => Ok(()),
        false => Err(format!(
            "has a precompiled_charsmap of {there} bytes that declares {announced} more; expected a complete \
             one"
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(part: Value) -> Result<Growth, String> {
        let text = json!({"model": {"vocab": {}}})
            .as_object()
            .into_iter()
            .flatten()
            .chain(part.as_object().into_iter().flatten())
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect::<serde_json::Map<_, _>>();
        let text = serde_json::to_string(&text).map_err(|error| error.to_string())?;
        check(&serde_json::from_str(&text).map_err(|error| error.to_string())?)
    }

    fn template(single: Value, pair: Value) -> Value {
        json!({"post_processor": {"type": "Sequence", "processors": [{"type": "TemplateProcessing",
            "single": single, "pair": pair, "special_tokens": {"X": {"id": "X", "ids": [0], "tokens": ["a"]}}}]}})
    }

    /// Protects: parts of real tokenizers pass, with their growth.
    #[test]
    fn real_parts_pass() {
        let text = |id: &str| json!({"Sequence": {"id": id, "type_id": 0}});
        let x = json!({"SpecialToken": {"id": "X", "type_id": 0}});
        let replace = |pattern: Value, content: &str| {
            json!({
                "type": "Replace", "pattern": pattern, "content": content
            })
        };
        let llama = json!({"type": "Sequence", "normalizers":
            [{"type": "Prepend", "prepend": "▁"}, replace(json!({"String": " "}), "▁")]});
        assert_eq!(read(json!({"normalizer": llama})), Ok(Growth { factor: 3, prefix: 9 }));
        let albert = json!({"type": "Sequence", "normalizers":
            [replace(json!({"String": "``"}), "\""), replace(json!({"Regex": " {2,}"}), " "), {"type": "NFKD"}]});
        assert_eq!(read(json!({"normalizer": albert})), Ok(Growth { factor: 2, prefix: 0 }));
        assert_eq!(
            read(template(json!([x, text("A"), x]), json!([x, text("A"), x, text("B")]))),
            Ok(Growth::NONE)
        );
        // A trie of 4 bytes and an empty string: 04 00 00 00, 00 00 00 00, 00.
        let charsmap = json!({"normalizer": {"type": "Precompiled", "precompiled_charsmap": "BAAAAAAAAAAA"}});
        assert_eq!(read(charsmap), Ok(Growth::NONE));
        assert!(Growth { factor: 3, prefix: 9 }.check("text").is_ok());
    }

    /// Protects: a part that would exhaust memory or panic in the library is refused by name.
    #[test]
    fn bombs_are_refused() {
        let replace = json!({"type": "Replace", "pattern": {"String": "a"}, "content": "a".repeat(1000)});
        let prepend = json!({"type": "Prepend", "prepend": "a".repeat(1 << 20)});
        let text = |id: &str| json!({"Sequence": {"id": id, "type_id": 0}});
        let [a, b] = ["A", "B"].map(text);
        let y = json!({"SpecialToken": {"id": "Y", "type_id": 0}});
        for (part, said) in [
            (
                json!({"normalizer": {"type": "Sequence", "normalizers": vec![&replace; 6]}}),
                "1000000 times as long",
            ),
            (
                json!({"normalizer": {"type": "Sequence", "normalizers": vec![&prepend; 50]}}),
                "puts 2097152 bytes",
            ),
            (
                json!({"normalizer": {"type": "Sequence", "normalizers": vec![json!({}); 101]}}),
                "a sequence of 101",
            ),
            (
                json!({"decoder": {"type": "Sequence", "decoders": vec![&replace; 6]}}),
                "the decoder makes texts",
            ),
            (json!({"added_tokens": [{"content": "a".repeat(50_000_000)}]}), "a token has 50000000 bytes"),
            (template(json!(vec![&a; 100_000]), json!([])), "has 100000 pieces"),
            (template(json!([a, a]), json!([])), "writes the texts [A, A] in \"single\""),
            (template(json!([a]), json!(vec![&a; 100_000])), "has 100000 pieces in \"pair\""),
            (template(json!([a]), json!([a, b, b])), "writes the texts [A, B, B] in \"pair\""),
            (template(json!([b]), json!([])), "writes the texts [B] in \"single\""),
            (template(json!([y, a]), json!([])), "names the token \"Y\" in \"single\""),
            (
                json!({"normalizer": {"type": "Precompiled", "precompiled_charsmap": "/////w=="}}),
                "declares 4294967295 more",
            ),
            (json!({"normalizer": {"type": "Precompiled", "precompiled_charsmap": "!"}}), "not base64"),
        ] {
            let error = read(part).unwrap_err();
            assert!(
                error.contains(said) && error.starts_with("tokenizer.json: ") && error.len() < 400,
                "{error}"
            );
        }
        let long = "a".repeat(30 << 20);
        assert!(Growth { factor: 10, prefix: 0 }.check(&long).is_err());
    }
}
