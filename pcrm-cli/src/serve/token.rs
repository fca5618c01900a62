//! The bearer tokens of clients.

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use pcrm_core::digest;

use super::refusal::{Refusal, RefusalKind};

/// The tokens that give access; without any, everyone has access.
#[derive(Debug, Clone, Default)]
pub struct AccessTokens {
    /// Digests have equal lengths, and comparing them takes a time that reveals nothing of the token.
    digests: Vec<String>,
}

impl AccessTokens {
    pub fn new(tokens: &[String]) -> Self {
        Self { digests: tokens.iter().map(|token| digest::text(token)).collect() }
    }

    pub fn is_empty(&self) -> bool {
        self.digests.is_empty()
    }

    /// Refuses a request without a valid token.
    ///
    /// # Errors
    /// Fails if the token is missing or wrong.
    pub fn check(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        if self.is_empty() {
            return Ok(());
        }
        let refusal = |message: &str| Err(Refusal::new(RefusalKind::Unauthorised, message));
        let Some(header) = headers.get(AUTHORIZATION) else {
            return refusal("no token; expected the header `Authorization: Bearer TOKEN`");
        };
        let given = header.to_str().ok().and_then(|text| text.split_once(' '));
        match given {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
                let given = digest::text(token.trim());
                // Folded over all bytes, so that the time does not reveal where they differ.
                let same = |known: &String| {
                    known.bytes().zip(given.bytes()).fold(0, |all, (a, b)| all | (a ^ b)) == 0
                };
                if self.digests.iter().any(same) {
                    Ok(())
                } else {
                    refusal("the token is not valid for this server")
                }
            }
            _ => refusal("the Authorization header is malformed; expected `Bearer TOKEN`"),
        }
    }
}
