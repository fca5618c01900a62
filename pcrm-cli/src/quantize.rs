//! The option that quantises a model on loading, shared by commands that train adapters, score and generate.

use std::path::Path;
use std::str::FromStr;

use clap::Args;
use pcrm_core::quant::Quantisation;
use pcrm_rl::manifest;

use crate::progress::say;

/// The storage of a frozen model's linear layers.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct QuantizeArgs {
    /// Quantise the frozen linear layers of the model on loading, as bitsandbytes does: nf4, nf4-double (with
    /// double quantisation), int8 or none [default: none; for an adapter trained by pcrm, as in training]
    #[arg(long, value_name = "TYPE")]
    quantize: Option<Storage>,
    /// Same as --quantize nf4
    #[arg(long, conflicts_with = "quantize")]
    load_in_4bit: bool,
    /// Same as --quantize int8
    #[arg(long, conflicts_with_all = ["quantize", "load_in_4bit"])]
    load_in_8bit: bool,
}

/// A method, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Storage(Option<Quantisation>);

impl FromStr for Storage {
    type Err = pcrm_core::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "none" => Ok(Self(None)),
            _ => text.parse().map(|method| Self(Some(method))),
        }
    }
}

impl QuantizeArgs {
    /// Returns the method; `None`: the model is stored as it is.
    fn method(self) -> Option<Quantisation> {
        match (self.load_in_4bit, self.load_in_8bit) {
            (true, _) => Some(Quantisation::Nf4),
            (_, true) => Some(Quantisation::Int8),
            _ => self.quantize.and_then(|storage| storage.0),
        }
    }

    /// Returns true if an option is given.
    pub fn is_given(self) -> bool {
        self.quantize.is_some() || self.load_in_4bit || self.load_in_8bit
    }

    /// Returns the given method, or `other` if no option is given.
    pub fn given_or(self, other: impl FnOnce() -> Option<Quantisation>) -> Option<Quantisation> {
        match self.is_given() {
            true => self.method(),
            false => other(),
        }
    }

    /// Returns the method for a model to apply: the given one, or the one that the adapter in this folder was
    /// trained with.
    pub fn for_model(self, dir: &Path) -> Option<Quantisation> {
        self.given_or(|| {
            let method = manifest::quantisation(dir)?;
            let name = dir.display();
            say(&format!(
                "{name}: its base is quantised to {method}, as in training; --quantize changes that"
            ));
            Some(method)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::Command;

    use super::*;

    /// Protects: whatever the order of fields, the options are listed with the adapters they quantise the base of, or
    /// with the machine.
    #[test]
    fn the_options_have_a_fitting_heading() {
        fn check(command: &Command) -> usize {
            let found = command.get_arguments().find(|arg| arg.get_long() == Some("load-in-8bit"));
            let heading = found.map(|arg| arg.get_help_heading());
            assert!(matches!(heading, None | Some(Some("LoRA" | "Machine"))), "{}", command.get_name());
            usize::from(found.is_some()) + command.get_subcommands().map(check).sum::<usize>()
        }
        assert!(check(&crate::command()) > 10);
    }

    /// Protects: an adapter's manifest names the method, an option overrides it, and a full model has none.
    #[test]
    fn adapters_are_applied_as_they_were_trained() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let manifest = serde_json::json!({"fingerprint": {"quantize": "nf4-double"}});
        fs::write(dir.path().join(manifest::FILE), manifest.to_string())?;
        let plain = QuantizeArgs::default();
        assert_eq!(plain.for_model(dir.path()), None);
        fs::write(dir.path().join("adapter_config.json"), "{}")?;
        assert_eq!(plain.for_model(dir.path()), Some(Quantisation::Nf4Double));
        let given = |text: &str| -> anyhow::Result<QuantizeArgs> {
            Ok(QuantizeArgs { quantize: Some(text.parse()?), ..plain })
        };
        assert_eq!(given("none")?.for_model(dir.path()), None);
        assert_eq!(given("int8")?.for_model(dir.path()), Some(Quantisation::Int8));
        assert_eq!(
            QuantizeArgs { load_in_4bit: true, ..plain }.for_model(dir.path()),
            Some(Quantisation::Nf4)
        );
        assert!(given("fp4").is_err());
        // The notes that travel with the adapter come first.
        fs::write(dir.path().join("pcrm.json"), r#"{"quantize": "int8"}"#)?;
        assert_eq!(plain.for_model(dir.path()), Some(Quantisation::Int8));
        Ok(())
    }
}
