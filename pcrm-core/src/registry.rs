//! Plugins: constants that crates submit at link time, looked up by name.
//!
//! A crate registers with `inventory::submit!`; a crate that no source line of the final binary mentions is
//! not linked and its plugins disappear, so binaries contain `use that_crate as _;`.

use std::sync::Arc;

use crate::backend::{Backend, Place};
use crate::collective::{Collective, Meeting};
use crate::constraint::Constraint;
use crate::encoder::Encoder;
use crate::error::{Error, Result, in_short};
use crate::tagged::{Build, Tagged};

/// A kind of plugin, for [`find`] and [`all`].
pub trait Plugin: inventory::Collect {
    /// The name of this kind in messages: `backend`, `constraint`, `encoder`.
    const WHAT: &'static str;
    /// Returns the name that selects the plugin.
    fn name(&self) -> &'static str;
    /// Returns one line for listings.
    fn about(&self) -> &'static str;
}

/// A registered tensor library.
pub struct BackendPlugin {
    /// The name that `--backend` takes.
    pub name: &'static str,
    /// One line for `pcrm plugins`.
    pub about: &'static str,
    /// Opens the backend at a place; fails with a reason if it cannot.
    pub open: fn(Place) -> Result<Box<dyn Backend>>,
}

/// A registered exchange between the processes of a run, for the tensors of one backend.
pub struct CollectivePlugin {
    /// The name of the backend.
    pub name: &'static str,
    /// One line for listings.
    pub about: &'static str,
    /// Joins the other processes; fails with a reason if they do not appear.
    pub join: fn(&Meeting) -> Result<Arc<dyn Collective>>,
}

/// A registered prior constraint.
pub struct ConstraintPlugin {
    /// The `kind` that selects it.
    pub name: &'static str,
    /// One line for `pcrm plugins`.
    pub about: &'static str,
    /// Builds it from its configuration (the tagged object without its `kind`).
    pub build: Build<dyn Constraint>,
}

/// A registered sentence encoder.
pub struct EncoderPlugin {
    /// The `kind` that selects it.
    pub name: &'static str,
    /// One line for `pcrm plugins`.
    pub about: &'static str,
    /// Builds it from its configuration (the tagged object without its `kind`).
    pub build: Build<dyn Encoder>,
}

inventory::collect!(BackendPlugin);
inventory::collect!(CollectivePlugin);
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

impl Plugin for CollectivePlugin {
    const WHAT: &'static str = "collective";
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

/// Returns all plugins of a kind, sorted by name.
pub fn all<P: Plugin>() -> Vec<&'static P> {
    let mut plugins: Vec<&'static P> = inventory::iter::<P>.into_iter().collect();
    plugins.sort_by_key(|plugin| plugin.name());
    plugins
}

/// Returns the plugin of this name.
///
/// # Errors
/// Fails if the name is unknown (the error lists the known ones) or two plugins share it.
pub fn find<P: Plugin>(name: &str) -> Result<&'static P> {
    let plugins = all::<P>();
    let mut matching = plugins.iter().filter(|plugin| plugin.name() == name);
    match (matching.next(), matching.next()) {
        (Some(plugin), None) => Ok(plugin),
        (Some(plugin), Some(_)) => Err(Error::DuplicatePlugin { what: P::WHAT, name: plugin.name() }),
        (None, _) => Err(Error::UnknownPlugin {
            what: P::WHAT,
            name: in_short(name.to_owned()),
            known: plugins.iter().map(|plugin| plugin.name()).collect(),
        }),
    }
}
