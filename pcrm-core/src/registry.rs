//! Plugins: constants that crates submit at link time, found by name.
//!
//! A crate registers with `inventory::submit!`; a crate that no source line of the final binary names is not
//! linked and its plugins vanish, so binaries say `use that_crate as _;`.

use crate::backend::{Backend, Place};
use crate::constraint::Constraint;
use crate::encoder::Encoder;
use crate::error::{Error, Result};
use crate::tagged::{Build, Tagged};

/// A sort of plugin: what [`find`] and [`all`] need to know of it.
pub trait Plugin: inventory::Collect {
    /// What this sort is called in messages: `backend`, `constraint`, `encoder`.
    const WHAT: &'static str;
    /// The name that selects the plugin.
    fn name(&self) -> &'static str;
    /// One line for listings.
    fn about(&self) -> &'static str;
}

/// A tensor library made available.
pub struct BackendPlugin {
    /// The name that `--backend` takes.
    pub name: &'static str,
    /// One line for `pcrm plugins`.
    pub about: &'static str,
    /// Opens the backend at a place, or says why it cannot.
    pub open: fn(Place) -> Result<Box<dyn Backend>>,
}

/// A prior constraint made available.
pub struct ConstraintPlugin {
    /// The `kind` that selects it.
    pub name: &'static str,
    /// One line for `pcrm plugins`.
    pub about: &'static str,
    /// Builds it from its configuration (the tagged object without its `kind`).
    pub build: Build<dyn Constraint>,
}

/// A sentence encoder made available.
pub struct EncoderPlugin {
    /// The `kind` that selects it.
    pub name: &'static str,
    /// One line for `pcrm plugins`.
    pub about: &'static str,
    /// Builds it from its configuration (the tagged object without its `kind`).
    pub build: Build<dyn Encoder>,
}

inventory::collect!(BackendPlugin);
inventory::collect!(ConstraintPlugin);
inventory::collect!(EncoderPlugin);

impl Plugin for BackendPlugin {
    const WHAT: &'static str = "backend";
    fn name(&self) -> &'static str {
        self.name
    }
    fn about(&self) -> &'static str {
        self.about
    }
}

impl Plugin for ConstraintPlugin {
    const WHAT: &'static str = "constraint";
    fn name(&self) -> &'static str {
        self.name
    }
    fn about(&self) -> &'static str {
        self.about
    }
}

impl Tagged for ConstraintPlugin {
    type Made = dyn Constraint;
    fn build(&self) -> Build<Self::Made> {
        self.build
    }
}

impl Plugin for EncoderPlugin {
    const WHAT: &'static str = "encoder";
    fn name(&self) -> &'static str {
        self.name
    }
    fn about(&self) -> &'static str {
        self.about
    }
}

impl Tagged for EncoderPlugin {
    type Made = dyn Encoder;
    fn build(&self) -> Build<Self::Made> {
        self.build
    }
}

/// All plugins of a sort, by name.
pub fn all<P: Plugin>() -> Vec<&'static P> {
    let mut plugins: Vec<&'static P> = inventory::iter::<P>.into_iter().collect();
    plugins.sort_by_key(|plugin| plugin.name());
    plugins
}

/// The plugin of this name.
///
/// # Errors
/// An unknown name (the error lists the known ones) and a name that two plugins carry.
pub fn find<P: Plugin>(name: &str) -> Result<&'static P> {
    let plugins = all::<P>();
    let mut matching = plugins.iter().filter(|plugin| plugin.name() == name);
    match (matching.next(), matching.next()) {
        (Some(plugin), None) => Ok(plugin),
        (Some(plugin), Some(_)) => Err(Error::DuplicatePlugin { what: P::WHAT, name: plugin.name() }),
        (None, _) => Err(Error::UnknownPlugin {
            what: P::WHAT,
            name: name.to_owned(),
            known: plugins.iter().map(|plugin| plugin.name()).collect(),
        }),
    }
}
