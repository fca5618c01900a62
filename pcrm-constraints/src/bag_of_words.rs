//! The encoder `bag-of-words`: hashed tf-idf, without weights.

use std::collections::HashMap;

use pcrm_core::constraint::Priors;
use pcrm_core::encoder::{Embedder, Encoder};
use pcrm_core::registry::EncoderPlugin;
use pcrm_core::{Error, Result};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::number::Number;

/// Hashed tf-idf vectors of length 1: word w adds ±tf(w)·idf(w) to component h(w) mod `width`; h and the sign
/// come from XXH3 (Weinberger et al., arXiv 0902.2206, §2: signs keep inner products unbiased when words
/// collide).
///
/// tf is the count in the text; idf(w) = ln((1 + n)/(1 + n_w)) + 1 over the n distinct texts that are encoded
/// together, n_w of which contain w (scikit-learn's smoothed idf). So a vector depends on its data set. Words
/// are maximal runs of letters and digits, in lower case; in Chinese and Japanese, which have no blanks between
/// words, every Han character and every kana is a word of its own. A text without words gives zeros.
///
/// As data: `{"kind": "bag-of-words", "width": 1024}`, which is the default.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "BagOfWordsFields")]
pub struct BagOfWords {
    width: usize,
}

/// The largest width: 64 KiB per text.
const WIDEST: usize = 1 << 14;

impl BagOfWords {
    /// Creates the encoder with vectors of `width` numbers.
    ///
    /// # Errors
    /// Fails if the width is 0 or above 16384.
    pub fn new(width: usize) -> Result<Self> {
        match width {
            1..=WIDEST => Ok(Self { width }),
            _ => Err(Error::invalid(
                "width",
                format!("found {width}, expected a whole number from 1 to {WIDEST}"),
            )),
        }
    }

    /// Returns the length of a vector.
    pub fn width(&self) -> usize {
        self.width
    }
}

impl Default for BagOfWords {
    fn default() -> Self {
        Self { width: 1024 }
    }
}

inventory::submit! {
    EncoderPlugin {
        name: "bag-of-words",
        about: "hashed tf-idf of the words, without weights",
        build: |data| Ok(Box::new(erased_serde::deserialize::<BagOfWords>(data)?)),
    }
}

impl Encoder for BagOfWords {
    fn kind(&self) -> &'static str {
        "bag-of-words"
    }

    fn open(&self, texts: &[&str], _priors: &Priors) -> Result<Box<dyn Embedder>> {
        Ok(Box::new(Counted { width: self.width, texts: texts.len(), with: texts_with(texts) }))
    }
}

/// Word counts over the texts of one call.
struct Counted {
    width: usize,
    texts: usize,
    with: HashMap<u64, u32>,
}

impl Counted {
    fn vector(&self, text: &str) -> Vec<f32> {
        let mut counts = HashMap::new();
        words(text).for_each(|word| *counts.entry(word).or_insert(0_u32) += 1);
        // Sums of floats depend on their order, and a hash map's order differs from run to run.
        let mut counts: Vec<(u64, u32)> = counts.into_iter().collect();
        counts.sort_unstable();
        let mut vector = vec![0.0_f64; self.width];
        for (word, count) in counts {
            let with = self.with.get(&word).copied().unwrap_or(0);
            let idf = ((1 + self.texts) as f64 / f64::from(1 + with)).ln() + 1.0;
            let sign = if word >> 63 == 0 { 1.0 } else { -1.0 };
            vector[(word % self.width as u64) as usize] += sign * f64::from(count) * idf;
        }
        let norm = vector.iter().map(|x| x * x).sum::<f64>().sqrt();
        let scale = if norm > 0.0 { norm.recip() } else { 0.0 };
        vector.into_iter().map(|x| (x * scale) as f32).collect()
    }
}

impl Embedder for Counted {
    fn digest(&self) -> Option<String> {
        None
    }

    fn embed(&mut self, texts: &[&str]) -> Result<Vec<Vec<f32>>> {
        let counted = &*self;
        Ok(texts.par_iter().map(|text| counted.vector(text)).collect())
    }
}

/// Counts the texts that contain each word.
fn texts_with(texts: &[&str]) -> HashMap<u64, u32> {
    let count = |mut with: HashMap<u64, u32>, text: &&str| {
        let mut found: Vec<u64> = words(text).collect();
        found.sort_unstable();
        found.dedup();
        found.into_iter().for_each(|word| *with.entry(word).or_insert(0) += 1);
        with
    };
    texts.par_iter().fold(HashMap::new, count).reduce(HashMap::new, |mut left, right| {
        right.into_iter().for_each(|(word, count)| *left.entry(word).or_insert(0) += count);
        left
    })
}

/// Hashes a text's words, in order.
fn words(text: &str) -> impl Iterator<Item = u64> + '_ {
    text.split(|letter: char| !letter.is_alphanumeric())
        .flat_map(|run| run.split_inclusive(is_a_word))
        .flat_map(|part| {
            let last = part.char_indices().next_back().filter(|(_, letter)| is_a_word(*letter));
            let (before, own) = part.split_at(last.map_or(part.len(), |(at, _)| at));
            [before, own]
        })
        .filter(|word| !word.is_empty())
        .map(|word| xxh3_64(word.to_lowercase().as_bytes()))
}

/// Returns true for Han characters and kana, which are written without blanks between words.
fn is_a_word(letter: char) -> bool {
    matches!(letter,
        '\u{3005}'..='\u{3007}' // iteration mark, closing mark, zero
        | '\u{3021}'..='\u{3029}' | '\u{3038}'..='\u{303b}' // numerals, vertical iteration mark
        | '\u{3041}'..='\u{30ff}' | '\u{31f0}'..='\u{31ff}' | '\u{ff66}'..='\u{ff9f}' // kana
        | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' // Han
        | '\u{1aff0}'..='\u{1b16f}' // rare kana
        | '\u{20000}'..='\u{3ffff}' // rare Han
    )
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BagOfWordsFields {
    #[serde(default)]
    width: Number,
}

impl TryFrom<BagOfWordsFields> for BagOfWords {
    type Error = Error;

    fn try_from(fields: BagOfWordsFields) -> Result<Self> {
        let width = fields.width.whole("width", Self::default().width as u64)?;
        Self::new(usize::try_from(width).unwrap_or(usize::MAX))
    }
}

#[cfg(test)]
mod tests {
    use pcrm_core::encoder::parse;

    use super::*;

    fn embed(width: usize, texts: &[&str]) -> Vec<Vec<f32>> {
        let mut embedder = BagOfWords::new(width).unwrap().open(texts, &Priors::default()).unwrap();
        embedder.embed(texts).unwrap()
    }

    fn dot(a: &[f32], b: &[f32]) -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum()
    }

    /// Protects: tf, idf and the norm, against scikit-learn's formula computed with Python's `math`; at this
    /// width no words collide, so the inner products are exactly those of tf-idf.
    #[test]
    fn inner_products_are_those_of_tf_idf() {
        let vectors = embed(16384, &["the cat sat", "The cat, the dog", "a mouse"]);
        // idf: the, cat ln(4/3) + 1; others ln(4/2) + 1.
        let (common, rare) = ((4.0_f64 / 3.0).ln() + 1.0, 2.0_f64.ln() + 1.0);
        let first = (2.0 * common * common + rare * rare).sqrt();
        let second = (4.0 * common * common + common * common + rare * rare).sqrt();
        let expected = 3.0 * common * common / (first * second);
        assert!((dot(&vectors[0], &vectors[1]) - expected).abs() < 1e-6);
        assert_eq!(dot(&vectors[0], &vectors[2]), 0.0);
        assert!(vectors.iter().all(|vector| (dot(vector, vector) - 1.0).abs() < 1e-6));
    }

    /// Protects: texts of Han characters and kana are alike if they share characters, and all other texts have
    /// the runs of letters and digits as words, Korean with its blanks included.
    #[test]
    fn characters_without_blanks_are_words() {
        let of = |text: &str| words(text).collect::<Vec<_>>();
        let hashes = |parts: &[&str]| parts.iter().map(|part| xxh3_64(part.as_bytes())).collect::<Vec<_>>();
        for (text, parts) in [
            ("我喜欢茶。", &["我", "喜", "欢", "茶"][..]),
            ("Rustで書く、カー", &["rust", "で", "書", "く", "カ", "ー"]),
            ("第3章abc", &["第", "3", "章", "abc"]),
            ("\u{20000}𠮷", &["\u{20000}", "𠮷"]),
            ("한국어 문장", &["한국어", "문장"]),
            ("Größe x2, don't", &["größe", "x2", "don", "t"]),
            ("สวัสดี", &["สวัสดี"]),
        ] {
            assert_eq!(of(text), hashes(parts), "{text}");
        }
        let vectors = embed(16384, &["我每天早上喝一杯茶", "我每天早上喝一杯咖啡", "今日は雨です"]);
        assert!(dot(&vectors[0], &vectors[1]) > 0.6);
        assert!(dot(&vectors[0], &vectors[2]).abs() < 0.2);
    }

    /// Protects: a text without words gives zeros rather than NaN, and colliding words still give a finite
    /// vector.
    #[test]
    fn corner_cases_stay_finite() {
        let vectors = embed(1, &["", "?! ...", "two words", "Ünïcode 漢字"]);
        assert_eq!(vectors[0], [0.0]);
        assert_eq!(vectors[1], [0.0]);
        assert!(vectors.iter().flatten().all(|x| x.is_finite()));
    }

    /// Protects: unusable widths are refused by name.
    #[test]
    fn refuses_widths() {
        let refusal = |text: &str| parse(text).unwrap_err().to_string();
        for (text, found) in
            [("0", "0"), ("16385", "16385"), ("2.5", "2.5"), ("\"8\"", "\"8\""), ("-1", "-1")]
        {
            let error = refusal(&format!(r#"{{"kind": "bag-of-words", "width": {text}}}"#));
            assert!(
                error.starts_with(&format!("encoder \"bag-of-words\": width: found {found}, ")),
                "{error}"
            );
        }
        assert_eq!(
            refusal("bag-of-wrods"),
            "unknown encoder \"bag-of-wrods\"; known: bag-of-words, bert, onnx, policy"
        );
    }
}
