//! The error type of this crate. Messages name the operation, the file, line, field or shape, and the
//! expectation.

use std::path::{Path, PathBuf};

use crate::dtype::DType;

/// Shorthand for this crate's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Errors below the trainers. A message is complete on its own: it includes the text of the cause, which
/// [`source`](std::error::Error::source) also returns as a value.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // ---- tensors and kernels ----
    /// An operation was given shapes it does not accept.
    #[error("{op}: {message} (shapes {shapes:?})")]
    Shape {
        /// The operation.
        op: &'static str,
        /// The expectation.
        message: String,
        /// The operands' shapes, in order.
        shapes: Vec<Vec<usize>>,
    },
    /// An operation was given an element type it does not accept.
    #[error("{op}: expected element type {expected}, found {found}")]
    DType {
        /// The operation.
        op: &'static str,
        /// The type found.
        found: DType,
        /// The accepted types.
        expected: &'static str,
    },
    /// Two operands belong to different backends.
    #[error("{op}: the operands belong to different backends ({left} and {right})")]
    MixedBackends {
        /// The operation.
        op: &'static str,
        /// The backend of the first operand.
        left: &'static str,
        /// The backend of the other operand.
        right: &'static str,
    },
    /// The backend's own library failed.
    #[error("{backend}: {op}: {cause}")]
    Backend {
        /// The backend.
        backend: &'static str,
        /// The operation.
        op: &'static str,
        /// The library's own error.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No gradient reached some trained parameters: the graph is cut somewhere.
    #[error("no gradient reached {}", names.join(", "))]
    MissingGradient {
        /// The parameters' names.
        names: Vec<String>,
    },
    /// A collective operation failed because not all processes of the run took part.
    #[error("{message}")]
    Collective {
        /// This process's rank, the failed rank if it is known, and the library's message.
        message: String,
    },

    // ---- plugins ----
    /// No plugin has this name.
    #[error("unknown {what} {name:?}; known: {}", known.join(", "))]
    UnknownPlugin {
        /// The kind of plugin.
        what: &'static str,
        /// The unknown name.
        name: String,
        /// All known names, sorted.
        known: Vec<&'static str>,
    },
    /// Two linked plugins have the same name.
    #[error("two {what} plugins are named {name:?}")]
    DuplicatePlugin {
        /// The kind of plugin.
        what: &'static str,
        /// The name.
        name: &'static str,
    },
    /// A plugin refused its configuration.
    #[error("{what} {name:?}: {message}")]
    Plugin {
        /// The kind of plugin.
        what: &'static str,
        /// The plugin's name.
        name: String,
        /// The fault and the expectation.
        message: String,
    },
    /// A plugin refused one of its pairs.
    #[error("{what} {name:?}: {message}")]
    Pair {
        /// The kind of plugin.
        what: &'static str,
        /// The plugin's name.
        name: String,
        /// The pair's position from 0.
        at: usize,
        /// The fault and the expectation; it calls the pair `pair N`.
        message: String,
    },
    /// A device, element type or option that this build or machine does not have.
    #[error("{0}")]
    Unsupported(String),

    /// A weight or moment to be saved is not finite: training has diverged.
    #[error("{name}: {count} of {of} numbers are NaN or infinite")]
    NotFinite {
        /// The weight or moment.
        name: String,
        /// The number of elements that are not finite.
        count: usize,
        /// The number of all elements.
        of: usize,
    },

    // ---- files ----
    /// Reading or writing failed.
    #[error("{}: {cause}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        #[source]
        cause: std::io::Error,
    },
    /// The content of a file is wrong.
    #[error("{}: {message}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The fault and the expectation.
        message: String,
    },
    /// One line of a data file is wrong.
    #[error("{}:{line}: {message}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line in the file, from 1.
        line: u64,
        /// The fault and the expectation.
        message: String,
    },
    /// A tokenizer or chat template failed.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// A tokenizer or chat template failed on one text; a caller that knows the record adds its name.
    #[error("tokenizer: {0}")]
    Text(String),
    /// An option or argument has an unusable value.
    #[error("{field}: {message}")]
    Invalid {
        /// The option or field.
        field: String,
        /// The found value and the expectation.
        message: String,
    },
}

impl Error {
    /// Creates an [`Error::Shape`].
    pub fn shape(op: &'static str, message: impl Into<String>, shapes: &[&[usize]]) -> Self {
        Self::Shape {
            op,
            message: message.into(),
            shapes: shapes.iter().map(|shape| shape.to_vec()).collect(),
        }
    }

    /// Creates an [`Error::Io`] at `path`, for use as `.map_err(Error::io(path))`.
    pub fn io(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |cause| Self::Io { path, cause }
    }

    /// Creates an [`Error::File`].
    pub fn file(path: impl AsRef<Path>, message: impl std::fmt::Display) -> Self {
        Self::File { path: path.as_ref().to_path_buf(), message: message.to_string() }
    }

    /// Creates an [`Error::Invalid`].
    pub fn invalid(field: impl Into<String>, message: impl std::fmt::Display) -> Self {
        Self::Invalid { field: field.into(), message: message.to_string() }
    }

    /// Creates an [`Error::Backend`], for use as `.map_err(Error::backend("candle", "matmul"))`.
    pub fn backend<E>(backend: &'static str, op: &'static str) -> impl FnOnce(E) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        move |cause| Self::Backend { backend, op, cause: cause.into() }
    }
}

/// Shortens a message that may quote long text, keeping its beginning and its end.
pub(crate) fn in_short(mut message: String) -> String {
    const LONGEST: usize = 800;
    if message.len() > LONGEST {
        let (head, tail) = (
            message.floor_char_boundary(LONGEST / 2),
            message.ceil_char_boundary(message.len() - LONGEST / 2),
        );
        message.replace_range(head..tail, " .. ");
    }
    message
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;
    use std::io;

    use super::*;

    /// Protects: the cause is available as a value and appears in the message.
    #[test]
    fn causes_are_sources() {
        let error = Error::io("a.json")(io::ErrorKind::PermissionDenied.into());
        let source = error.source().and_then(|source| source.downcast_ref::<io::Error>()).unwrap();
        assert_eq!(source.kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(error.to_string(), format!("a.json: {source}"));
        let error = Error::backend("candle", "matmul")("no memory");
        assert_eq!(error.source().unwrap().to_string(), "no memory");
        assert_eq!(error.to_string(), "candle: matmul: no memory");
    }
}
