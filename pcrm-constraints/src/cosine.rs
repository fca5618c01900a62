//! The cosine constraint: answers with similar meaning get a tight bound.

use pcrm_core::constraint::{Constraint, PairView, Priors};
use pcrm_core::encoder::{self, Encoder};
use pcrm_core::registry::ConstraintPlugin;
use pcrm_core::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::bag_of_words::BagOfWords;
use crate::bound::Hyperbola;
use crate::embeddings::Embeddings;
use crate::number::Number;

/// Δ* = β1 / (s + β2) + β3 with s a similarity of the answers' sentence embeddings (arXiv 2404.00978, §4.1).
///
/// As data: `{"kind": "cosine", "encoder": "bag-of-words", "similarity": "raw", "text": "answer", "beta1":
/// 20, "beta2": 0.001, "beta3": -15}`, which are the defaults. `encoder` is a name or a tagged object.
/// `preset` gives the other fields the defaults of the published code: `paper` (reward models: `angular`, β =
/// (20, 0.001, −15)) or `paper-dpo` (`raw`, β = (30, 0.001, −25)); it is stored as the resulting fields.
#[derive(Debug, Serialize, Deserialize)]
#[serde(try_from = "CosineFields")]
pub struct Cosine {
    /// The sentence encoder.
    #[serde(serialize_with = "tagged")]
    pub encoder: Box<dyn Encoder>,
    /// The map from the cosine to s.
    pub similarity: Similarity,
    /// The encoded text.
    pub text: Encoded,
    /// The map from s to Δ*.
    #[serde(flatten)]
    pub map: Hyperbola,
}

/// The map from the cosine c of two embeddings to a similarity in \[0, 1\]. Angles above 90° count as 90°.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Similarity {
    /// s = max(0, c).
    #[default]
    Raw,
    /// s = (π − arccos(max(0, c))) / π, from ½ to 1.
    Angular,
}

/// The part of a pair that is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Encoded {
    /// Each answer alone.
    #[default]
    Answer,
    /// The prompt followed by each answer.
    PromptAndAnswer,
}

impl Similarity {
    /// Computes s from a cosine.
    pub fn of(self, cosine: f64) -> f64 {
        // max(0, NaN) would be 0, but finite embeddings give no NaN.
        let cosine = cosine.clamp(0.0, 1.0);
        match self {
            Self::Raw => cosine,
            Self::Angular => 1.0 - cosine.acos() / std::f64::consts::PI,
        }
    }
}

impl Cosine {
    fn similarity_of_each(&self, pairs: &[PairView<'_>], priors: &Priors) -> Result<Vec<f64>> {
        let texts: Vec<[String; 2]> = pairs
            .iter()
            .map(|pair| match self.text {
                Encoded::Answer => [pair.chosen.to_owned(), pair.rejected.to_owned()],
                Encoded::PromptAndAnswer => {
                    [pair.chosen, pair.rejected].map(|answer| pair.prompt.to_owned() + answer)
                }
            })
            .collect();
        let embeddings =
            Embeddings::compute(self.encoder.as_ref(), texts.iter().flatten().map(String::as_str), priors)?;
        Ok(texts
            .iter()
            .map(|[chosen, rejected]| self.similarity.of(embeddings.cosine(chosen, rejected)))
            .collect())
    }
}

inventory::submit! {
    ConstraintPlugin {
        name: "cosine",
        about: "bound from the cosine of the answers' sentence embeddings: beta1/(s + beta2) + beta3",
        build: |data| Ok(Box::new(erased_serde::deserialize::<Cosine>(data)?)),
    }
}

impl Constraint for Cosine {
    fn kind(&self) -> &'static str {
        "cosine"
    }

    fn settle(&mut self, priors: &Priors) -> Result<()> {
        self.encoder.settle(priors)
    }

    fn bounds(&self, pairs: &[PairView<'_>], priors: &Priors) -> Result<Vec<f32>> {
        Ok(self.similarity_of_each(pairs, priors)?.into_iter().map(|s| self.map.at(s)).collect())
    }

    fn similarities(&self, pairs: &[PairView<'_>], priors: &Priors) -> Result<Option<Vec<f32>>> {
        Ok(Some(self.similarity_of_each(pairs, priors)?.into_iter().map(|s| s as f32).collect()))
    }

    fn reads_margins(&self) -> bool {
        false
    }

    fn formula(&self) -> Option<&'static str> {
        Some(match self.similarity {
            Similarity::Raw => {
                "Δ* = beta1/(s + beta2) + beta3, s = max(0, c), c the cosine of the embeddings"
            }
            Similarity::Angular => {
                "Δ* = beta1/(s + beta2) + beta3, s = 1 - arccos(max(0, c))/π from 1/2 to 1, c the cosine of \
                 the embeddings"
            }
        })
    }

    fn parameters(&self) -> &'static [(&'static str, &'static str)] {
        &[
            ("encoder", "the sentence encoder: pcrm plugins lists them"),
            ("similarity", "map from the cosine to s: raw or angular"),
            ("text", "the encoded text: answer, or prompt-and-answer"),
            Hyperbola::PARAMETERS[0],
            Hyperbola::PARAMETERS[1],
            Hyperbola::PARAMETERS[2],
        ]
    }

    fn bound_at(&self, s: f64) -> Option<f32> {
        Some(self.map.at(s))
    }
}

/// Settings of the published code.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Preset {
    Paper,
    PaperDpo,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CosineFields {
    preset: Option<Preset>,
    encoder: Option<Value>,
    similarity: Option<Similarity>,
    text: Option<Encoded>,
    #[serde(default)]
    beta1: Number,
    #[serde(default)]
    beta2: Number,
    #[serde(default)]
    beta3: Number,
}

impl TryFrom<CosineFields> for Cosine {
    type Error = Error;

    fn try_from(fields: CosineFields) -> Result<Self> {
        let (similarity, map) = match fields.preset {
            None => (Similarity::default(), Hyperbola::default()),
            Some(Preset::Paper) => (Similarity::Angular, Hyperbola::default()),
            Some(Preset::PaperDpo) => (Similarity::Raw, Hyperbola::new(30.0, 0.001, -25.0)?),
        };
        Ok(Self {
            encoder: match fields.encoder {
                Some(encoder) => encoder::from_tagged(encoder)?,
                None => Box::new(BagOfWords::default()),
            },
            similarity: fields.similarity.unwrap_or(similarity),
            text: fields.text.unwrap_or_default(),
            map: Hyperbola::new(
                fields.beta1.finite("beta1", map.beta1())?,
                fields.beta2.finite("beta2", map.beta2())?,
                fields.beta3.finite("beta3", map.beta3())?,
            )?,
        })
    }
}

// serde's `serialize_with` gives a reference to the field, which is a box.
#[allow(clippy::borrowed_box)]
fn tagged<S: serde::Serializer>(encoder: &Box<dyn Encoder>, serializer: S) -> Result<S::Ok, S::Error> {
    encoder.to_tagged().map_err(serde::ser::Error::custom)?.serialize(serializer)
}

#[cfg(test)]
mod tests {
    use pcrm_core::constraint::{from_tagged, parse};
    use serde_json::json;

    use super::*;
    use crate::testing::pair_of_lengths;

    fn pair<'a>(prompt: &'a str, chosen: &'a str, rejected: &'a str) -> PairView<'a> {
        PairView { prompt, chosen, rejected, ..pair_of_lengths(1, &[1], &[2]) }
    }

    /// Protects: s of a cosine against Python's `math.acos`, at the ends and just beyond them.
    #[test]
    fn similarity_of_a_cosine() {
        for (cosine, raw, angular) in [
            (1.0, 1.0, 1.0),
            (1.0 + 1e-12, 1.0, 1.0),
            (0.5, 0.5, 0.666_666_666_666_666_7),
            (0.1, 0.1, 0.531_884_280_429_259_8),
            (0.0, 0.0, 0.5),
            (-0.7, 0.0, 0.5),
        ] {
            assert!((Similarity::Raw.of(cosine) - raw).abs() < 1e-12, "{cosine}");
            assert!((Similarity::Angular.of(cosine) - angular).abs() < 1e-12, "{cosine}");
        }
    }

    /// Protects: equal answers get the tightest bound, answers without a common word the loosest, and the
    /// prompt counts if requested.
    #[test]
    fn bounds_follow_the_words() {
        let pairs = [
            pair("how? ", "go left", "Go left!"),
            pair("how? ", "go left", "go right"),
            pair("how? ", "go left", "never"),
        ];
        let alone = parse("cosine").unwrap();
        let s = alone.similarities(&pairs, &Priors::default()).unwrap().unwrap();
        assert_eq!((s[0], s[2]), (1.0, 0.0));
        assert!(s[1] > 0.1 && s[1] < 0.9, "{s:?}");
        let map = Hyperbola::default();
        let bounds = alone.checked_bounds(&pairs, &Priors::default()).unwrap();
        assert_eq!(bounds[0], map.at(1.0));
        assert_eq!(bounds[2], map.at(0.0));
        let with_prompt = parse(r#"{"kind": "cosine", "text": "prompt-and-answer"}"#).unwrap();
        let with_prompt = with_prompt.similarities(&pairs, &Priors::default()).unwrap().unwrap();
        assert!(with_prompt[2] > 0.0 && with_prompt[1] > s[1], "{with_prompt:?} {s:?}");
    }

    /// Protects: defaults, presets, fields that override them, and that the stored form means the same.
    #[test]
    fn presets_are_resolved() {
        let resolved = |value| from_tagged(value).unwrap().to_tagged().unwrap();
        let all = |similarity: &str, beta: [f64; 3]| {
            json!({
                "kind": "cosine", "encoder": {"kind": "bag-of-words", "width": 1024}, "similarity": similarity,
                "text": "answer", "beta1": beta[0], "beta2": beta[1], "beta3": beta[2],
            })
        };
        assert_eq!(resolved(json!({"kind": "cosine"})), all("raw", [20.0, 0.001, -15.0]));
        let paper = resolved(json!({"kind": "cosine", "preset": "paper", "encoder": "bag-of-words"}));
        assert_eq!(paper, all("angular", [20.0, 0.001, -15.0]));
        let dpo = resolved(json!({"kind": "cosine", "preset": "paper-dpo"}));
        assert_eq!(dpo, all("raw", [30.0, 0.001, -25.0]));
        let mixed = json!({"kind": "cosine", "preset": "paper-dpo", "similarity": "angular", "beta3": -20});
        assert_eq!(resolved(mixed), all("angular", [30.0, 0.001, -20.0]));
        assert_eq!(resolved(paper.clone()), paper);
    }

    /// Protects: wrong values are refused while parsing, and errors about unknown names list the known ones.
    #[test]
    fn refuses_by_name() {
        let refusal =
            |fields: &str| parse(&format!(r#"{{"kind": "cosine", {fields}}}"#)).unwrap_err().to_string();
        for (fields, expected) in [
            (r#""encoder": "bert2""#, "unknown encoder \"bert2\"; known: bag-of-words, bert, onnx, policy"),
            (
                r#""encoder": {"width": 3}"#,
                "no \"kind\" in {\"width\":3}; known kinds: bag-of-words, bert, onnx, policy",
            ),
            (r#""encoder": 3"#, "expected an object with \"kind\", found 3"),
            (r#""similarity": "angle""#, "unknown variant `angle`, expected `raw` or `angular`"),
            (r#""preset": "papers""#, "unknown variant `papers`, expected `paper` or `paper-dpo`"),
            (r#""beta3": -40"#, "at s = 1 "),
            (r#""beta1": null"#, "beta1: found null"),
            (r#""texts": 1"#, "unknown field `texts`"),
        ] {
            let error = refusal(fields);
            assert!(error.starts_with("constraint \"cosine\": ") && error.contains(expected), "{error}");
        }
    }
}
