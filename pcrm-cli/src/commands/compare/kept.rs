//! The measures of a run, stored in its folder, so that a later call does not measure it again.

use std::path::Path;

use anyhow::{Result, ensure};
use pcrm_core::disk::sealed;
use pcrm_rl::fingerprint::Fingerprint;
use serde_json::json;

use crate::comparison::RunMeasures;

/// The file of a run's measures, in its folder.
const MEASURED: &str = "measured.json";

/// Returns the measures in a folder, or `None` if there are none; refuses those of a run with other options or data,
/// and those against another column of known probabilities. The column does not affect the weights, so it is not part
/// of the run's own identity.
///
/// # Errors
/// Fails with the first option that differs, or if the file cannot be read or does not match its own hash.
pub fn read(
    dir: &Path,
    question: &Fingerprint,
    probability_field: Option<&str>,
) -> Result<Option<RunMeasures>> {
    let path = dir.join(MEASURED);
    if !path.exists() {
        return Ok(None);
    }
    let (measured, _): (RunMeasures, _) = sealed::read(&path)?;
    measured.answers(question, dir)?;
    ensure!(
        measured.probability_field.as_deref() == probability_field,
        "{}: was measured with another --probability-field ({}, now {}); name another --output",
        dir.display(),
        json!(measured.probability_field),
        json!(probability_field)
    );
    Ok(Some(measured))
}

/// Writes the measures to a run's folder.
///
/// # Errors
/// Fails if the file cannot be written.
pub fn write(measured: &RunMeasures, dir: &Path) -> Result<()> {
    Ok(sealed::write(&dir.join(MEASURED), measured)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: measures against one column of probabilities are not taken for those against another or none,
    /// and measures from before the column was recorded still count as made without one.
    #[test]
    fn another_column_is_another_question() {
        let dir = tempfile::tempdir().unwrap();
        let old = json!({
            "label": "none", "seed": 3, "constraint": {"kind": "none"}, "question": {"data": "a"},
            "pairs": 7, "measures": {"accuracy": 0.1},
        });
        let mut measured: RunMeasures = serde_json::from_value(old.clone()).unwrap();
        let question = measured.question.clone();
        let found = |field: Option<&str>| read(dir.path(), &question, field);
        assert_eq!(found(None).unwrap(), None);
        sealed::write(&dir.path().join(MEASURED), &old).unwrap();
        assert_eq!(found(None).unwrap().as_ref(), Some(&measured));
        measured.probability_field = Some("p".to_owned());
        write(&measured, dir.path()).unwrap();
        assert_eq!(found(Some("p")).unwrap().as_ref(), Some(&measured));
        for (other, shown) in [(Some("q"), "(\"p\", now \"q\")"), (None, "(\"p\", now null)")] {
            let refused = found(other).unwrap_err().to_string();
            assert!(refused.contains(&format!("another --probability-field {shown}; name")), "{refused}");
        }
    }
}
