//! A tensor library, opened on a device.

/// A tensor library, opened on a device.
pub trait Backend: Send {}
