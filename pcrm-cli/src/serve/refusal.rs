//! Reasons why a request gets no scores.

/// A request that gets no scores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub kind: Kind,
    pub message: String,
    /// The field of the body that is at fault.
    pub field: Option<String>,
}

/// The kinds of refusals. A protocol has a status for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A body that is no JSON, or misses a field.
    Malformed,
    /// A field of a wrong type or value, a text that is too long.
    Invalid,
    /// Nothing to score.
    Empty,
    /// No token, or a wrong one.
    Unauthorised,
    /// A path that is not served.
    NotFound,
    /// A model that is not served.
    NoModel,
    /// A path that takes another method.
    Method,
    /// A body that took too long to arrive.
    Slow,
    /// A body of too many bytes.
    TooLarge,
    /// A body that is not said to be JSON.
    MediaType,
    /// The queue is full.
    Overloaded,
    /// The model failed.
    Failed,
    /// The server is stopping.
    Stopping,
}

impl Refusal {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), field: None }
    }

    /// A field that has a wrong type or value.
    pub fn field(field: &str, message: impl std::fmt::Display) -> Self {
        Self { kind: Kind::Invalid, message: format!("{field}: {message}"), field: Some(field.to_owned()) }
    }

    /// A field that is absent.
    pub fn missing(field: &str, expected: &str) -> Self {
        let message = format!("{field}: the field is missing; expected {expected}");
        Self { kind: Kind::Malformed, message, field: Some(field.to_owned()) }
    }
}

impl Kind {
    /// The name of the kind in metrics, and TEI's `error_type`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed | Self::Invalid | Self::TooLarge | Self::MediaType => "validation",
            Self::Empty => "empty",
            Self::Unauthorised => "unauthorized",
            Self::NotFound | Self::NoModel | Self::Method => "not_found",
            Self::Slow => "timeout",
            Self::Overloaded => "overloaded",
            Self::Failed => "backend",
            Self::Stopping => "unhealthy",
        }
    }

    /// The status where the protocol says nothing else.
    pub fn status(self) -> u16 {
        match self {
            Self::Malformed | Self::Invalid | Self::Empty => 400,
            Self::Unauthorised => 401,
            Self::NotFound | Self::NoModel => 404,
            Self::Method => 405,
            Self::Slow => 408,
            Self::TooLarge => 413,
            Self::MediaType => 415,
            Self::Overloaded => 429,
            Self::Failed => 500,
            Self::Stopping => 503,
        }
    }
}
