//! The reasons for giving a request no scores.

/// The refusal of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub kind: RefusalKind,
    pub message: String,
    /// The field of the body at fault.
    pub field: Option<String>,
}

/// The kinds of refusals. Each protocol maps them to statuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RefusalKind {
    /// The body is not JSON, or lacks a field.
    Malformed,
    /// A field has a wrong type or value, or a text is too long.
    Invalid,
    /// The request has nothing to score.
    Empty,
    /// The token is missing or wrong.
    Unauthorised,
    /// The path does not exist.
    NotFound,
    /// The model does not exist.
    NoModel,
    /// The path requires another method.
    Method,
    /// The body took too long to arrive.
    Slow,
    /// The body has too many bytes.
    TooLarge,
    /// The body is not declared as JSON.
    MediaType,
    /// The queue is full.
    Overloaded,
    /// The model failed.
    Failed,
    /// The server is stopping.
    Stopping,
}

impl Refusal {
    pub fn new(kind: RefusalKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), field: None }
    }

    /// Returns the refusal of a field with a wrong type or value.
    pub fn field(field: &str, message: impl std::fmt::Display) -> Self {
        Self {
            kind: RefusalKind::Invalid,
            message: format!("{field}: {message}"),
            field: Some(field.to_owned()),
        }
    }

    /// Returns the refusal for a missing field.
    pub fn missing(field: &str, expected: &str) -> Self {
        let message = format!("{field}: the field is missing; expected {expected}");
        Self { kind: RefusalKind::Malformed, message, field: Some(field.to_owned()) }
    }
}

impl RefusalKind {
    /// Returns the name of the kind in metrics and in TEI's `error_type`.
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

    /// Returns the status, unless the protocol has its own.
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
