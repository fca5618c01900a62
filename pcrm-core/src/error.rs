//! The error of this crate: what was being done, to which file, line, field or shape, and what was expected.

use std::path::{Path, PathBuf};

use crate::dtype::DType;

/// Shorthand for this crate's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong below the trainers. Messages are whole: causes stand in them, not behind them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // ---- tensors and kernels ----
    /// An operation was given shapes it does not accept.
    #[error("{op}: {message} (shapes {shapes:?})")]
    Shape {
        /// The operation.
        op: &'static str,
        /// What was expected.
        message: String,
        /// The operands' shapes, in order.
        shapes: Vec<Vec<usize>>,
    },
    /// An operation was given an element type it does not accept.
    #[error("{op}: element type {found} where {expected} is needed")]
    DType {
        /// The operation.
        op: &'static str,
        /// The type that came.
        found: DType,
        /// The types that serve.
        expected: &'static str,
    },
    /// A tensor of one backend met a tensor of another.
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
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Trained parameters that no gradient reached: the graph is cut somewhere.
    #[error("no gradient reached {}", names.join(", "))]
    MissingGradient {
        /// The parameters' names.
        names: Vec<String>,
    },

    // ---- plugins ----
    /// A name that no plugin carries.
    #[error("unknown {what} {name:?}; known: {}", known.join(", "))]
    UnknownPlugin {
        /// Which sort of plugin was looked for.
        what: &'static str,
        /// The name that was asked for.
        name: String,
        /// All names there are, sorted.
        known: Vec<&'static str>,
    },
    /// Two plugins of one name are compiled in.
    #[error("two {what} plugins are named {name:?}")]
    DuplicatePlugin {
        /// Which sort of plugin.
        what: &'static str,
        /// The name.
        name: &'static str,
    },
    /// A plugin refused its configuration.
    #[error("{what} {name:?}: {message}")]
    Plugin {
        /// Which sort of plugin.
        what: &'static str,
        /// The plugin's name.
        name: String,
        /// What is wrong, and what was expected.
        message: String,
    },
    /// A plugin refused one of the pairs that it was given.
    #[error("{what} {name:?}: {message}")]
    Pair {
        /// Which sort of plugin.
        what: &'static str,
        /// The plugin's name.
        name: String,
        /// The pair, counted from 0 among those that were given.
        at: usize,
        /// What is wrong, and what was expected; it calls the pair `pair N`.
        message: String,
    },
    /// A device, element type or option that this build or machine does not have.
    #[error("{0}")]
    Unsupported(String),

    // ---- files ----
    /// Reading or writing failed.
    #[error("{}: {cause}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        cause: std::io::Error,
    },
    /// A file was read but its content is wrong.
    #[error("{}: {message}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what was expected.
        message: String,
    },
    /// One line of a data file is wrong.
    #[error("{}:{line}: {message}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Its line, from 1.
        line: u64,
        /// What is wrong, and what was expected.
        message: String,
    },
    /// A tokenizer or chat template failed.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// An option or argument has a value that cannot be used.
    #[error("{field}: {message}")]
    Invalid {
        /// The option or field.
        field: String,
        /// The value that came and what was expected.
        message: String,
    },
}

impl Error {
    /// An [`Error::Shape`].
    pub fn shape(op: &'static str, message: impl Into<String>, shapes: &[&[usize]]) -> Self {
        Self::Shape {
            op,
            message: message.into(),
            shapes: shapes.iter().map(|shape| shape.to_vec()).collect(),
        }
    }

    /// An [`Error::Io`] at `path`; made to be used as `.map_err(Error::io(path))`.
    pub fn io(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |cause| Self::Io { path, cause }
    }

    /// An [`Error::File`].
    pub fn file(path: impl AsRef<Path>, message: impl std::fmt::Display) -> Self {
        Self::File { path: path.as_ref().to_path_buf(), message: message.to_string() }
    }

    /// An [`Error::Invalid`].
    pub fn invalid(field: impl Into<String>, message: impl std::fmt::Display) -> Self {
        Self::Invalid { field: field.into(), message: message.to_string() }
    }

    /// An [`Error::Backend`]; made to be used as `.map_err(Error::backend("candle", "matmul"))`.
    pub fn backend<E>(backend: &'static str, op: &'static str) -> impl FnOnce(E) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        move |cause| Self::Backend { backend, op, cause: cause.into() }
    }
}
