//! Bearer tokens of pools and services. Only hashes are stored; a token is shown once, to the one who carries it.

use sha2::{Digest, Sha256};

/// The prefix of a WorkerPool's token, so that a leaked one is recognised by secret scanners.
pub const POOL_TOKEN_PREFIX: &str = "dwp_";

/// Makes a pool token from 32 random bytes drawn by the caller.
#[must_use]
pub fn pool_token(random: [u8; 32]) -> String {
    format!("{POOL_TOKEN_PREFIX}{}", hex::encode(random))
}

/// What is stored of a token.
#[must_use]
pub fn token_hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// The token of an `Authorization: Bearer …` header.
#[must_use]
pub fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty()).then(|| token.trim())
}

/// A bearer token in memory: it is never printed, and it compares by hash, so that time tells nothing of it.
#[derive(Clone)]
pub struct BearerToken(String);

/// A token that is empty or holds what an HTTP header cannot carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a token must be 8 or more visible ASCII characters without spaces")]
pub struct BadToken;

impl std::str::FromStr for BearerToken {
    type Err = BadToken;

    fn from_str(token: &str) -> Result<Self, BadToken> {
        let token = token.trim();
        (token.len() >= 8 && token.bytes().all(|b| b.is_ascii_graphic()))
            .then(|| Self(token.to_owned()))
            .ok_or(BadToken)
    }
}

impl BearerToken {
    /// The token itself, for the `Authorization` header.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What is compared and stored.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        token_hash(&self.0)
    }
}

impl std::fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BearerToken(…)")
    }
}
