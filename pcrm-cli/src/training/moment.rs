//! The moment that the chat templates of a run see as now.

use std::path::Path;

use anyhow::{Context, Result};
use pcrm_core::collective::Collective;
use pcrm_core::text::moment;
use pcrm_rl::manifest;
use serde_json::Value;

/// The name of the moment in a run's fingerprint.
const NAME: &str = "template-time";

/// Fixes the moment: the resumed run's, or the present one; all processes of a run take the first process's.
///
/// # Errors
/// Fails if the record of the run to resume is damaged, or if a process is gone.
pub fn fix(collective: &dyn Collective, dir: &Path, resume: bool) -> Result<()> {
    let own = if collective.is_first() { own(dir, resume)? } else { String::new() };
    let of_all = collective.gather(own.as_bytes())?;
    let first = of_all.first().context("no process has a moment")?;
    moment::fix(&String::from_utf8_lossy(first)).with_context(|| dir.display().to_string())?;
    Ok(())
}

fn own(dir: &Path, resume: bool) -> Result<String> {
    let recorded = if resume { manifest::recorded(dir, NAME)? } else { None };
    Ok(match recorded {
        Some(Value::String(moment)) => moment,
        _ => moment::now(),
    })
}

/// Returns the entry of the fingerprint of a run that renders its data before its first step: none if no template
/// asked for the moment.
pub fn asked() -> Option<(String, Value)> {
    moment::asked().map(entry)
}

/// Returns the entry of the fingerprint of a run that renders texts in its steps: none if no template can ask for
/// the moment.
pub fn mentioned() -> Option<(String, Value)> {
    moment::mentioned().map(entry)
}

fn entry(moment: String) -> (String, Value) {
    (NAME.to_owned(), Value::String(moment))
}

#[cfg(test)]
mod tests {
    use pcrm_core::text::ChatTemplate;
    use pcrm_core::{Error, Tensor};

    use super::*;

    /// The second of two processes; the first is elsewhere, with another clock.
    #[derive(Debug)]
    struct Second;

    const FIRST: &str = "2024-03-01T00:30:05+05:30";

    impl Collective for Second {
        fn rank(&self) -> usize {
            1
        }

        fn world(&self) -> usize {
            2
        }

        fn all_to_all(&self, _parts: &Tensor) -> pcrm_core::Result<Tensor> {
            Err(Error::invalid("all_to_all", "is not expected"))
        }

        fn all_gather(&self, _own: &Tensor) -> pcrm_core::Result<Tensor> {
            Err(Error::invalid("all_gather", "is not expected"))
        }

        fn gather(&self, own: &[u8]) -> pcrm_core::Result<Vec<Vec<u8>>> {
            Ok(vec![FIRST.as_bytes().to_vec(), own.to_vec()])
        }

        fn leave(&self, _reason: &str) {}

        fn sent(&self) -> u64 {
            0
        }
    }

    /// Protects: every process renders with the moment of the first, and only texts of the run ask for it.
    #[test]
    fn processes_share_a_moment() {
        let dir = tempfile::tempdir().unwrap();
        fix(&Second, dir.path(), true).unwrap();
        let template = ChatTemplate::new("{{ strftime_now('%F %T') }}").unwrap();
        let render = || template.render(&[], false, &[]).unwrap();
        assert_eq!(moment::aside(render), "2024-03-01 00:30:05");
        assert_eq!(asked(), None);
        assert_eq!(render(), "2024-03-01 00:30:05");
        assert_eq!(asked(), Some((NAME.to_owned(), FIRST.into())));
        assert_eq!(mentioned(), asked());
    }
}
