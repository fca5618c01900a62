//! Scores as JSON numbers.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Number, Value};

/// Returns a score as the shortest decimal that parses to the same f32, as `pcrm score` writes it, or null if
/// it is not finite.
pub fn number(score: f32) -> Value {
    if !score.is_finite() {
        return Value::Null;
    }
    score.to_string().parse::<Number>().map_or(Value::Null, Value::Number)
}

/// Returns σ of a score.
pub fn sigmoid(score: f32) -> f32 {
    (1.0 / (1.0 + (-f64::from(score)).exp())) as f32
}

/// Writes numbers as base64 of little-endian f32, the form of `encoding_format: base64`.
pub fn base64(scores: &[f32]) -> String {
    let bytes: Vec<u8> = scores.iter().flat_map(|score| score.to_le_bytes()).collect();
    STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: a score survives JSON bit for bit, and base64 equals Python's
    /// (`base64.b64encode(struct.pack("<f", x))`).
    #[test]
    fn numbers_survive() {
        for score in [0.1f32, -1.0e-8, 3.402_823_5e38, 1.0 / 3.0, -0.0, 1.5e20] {
            let text = number(score).to_string();
            let read: Value = serde_json::from_str(&text).unwrap();
            assert_eq!((read.as_f64().unwrap() as f32).to_bits(), score.to_bits(), "{text}");
        }
        assert_eq!(number(f32::NAN), Value::Null);
        assert_eq!(base64(&[1.5]), "AADAPw==");
        assert_eq!(base64(&[1.5, -2.0]), "AADAPwAAAMA=");
        assert_eq!(base64(&[1.5, -2.0, 0.25]), "AADAPwAAAMAAAIA+");
    }

    /// Protects: σ equals torch's values.
    #[test]
    fn sigmoids_are_torchs() {
        assert_eq!(sigmoid(0.0), 0.5);
        assert!((sigmoid(1.0) - 0.731_058_6).abs() < 1e-7);
        assert!((0.0..1e-30).contains(&sigmoid(-200.0)));
    }
}
