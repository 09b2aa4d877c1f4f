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
