//! Who asks: a JWT of the installation's identity provider.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use axum::http::{HeaderMap, StatusCode, header};
use dagwright_telemetry::Rejection;
use jsonwebtoken::{
    Algorithm, DecodingKey, Validation,
    errors::ErrorKind,
    jwk::{Jwk, JwkSet},
};
use serde::Deserialize;
use tokio::sync::RwLock;

/// What a token says about its bearer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Caller {
    #[serde(rename = "sub")]
    pub subject: String,
    #[serde(default)]
    pub roles: Vec<String>,
    /// `*` stands for every namespace; no namespace can have that name.
    #[serde(default)]
    pub namespaces: Vec<String>,
}

impl Caller {
    /// Whether the token opens a namespace. A dataset of it still asks for one of its read roles.
    #[must_use]
    pub fn opens(&self, namespace: &str) -> bool {
        self.namespaces.iter().any(|granted| granted == "*" || granted == namespace)
    }
}

/// Where the issuer's public keys are.
#[derive(Clone, Debug)]
pub enum KeySource {
    File(PathBuf),
    Url(String),
}

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("read the key set {path}")]
    Read {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("fetch the key set {url}")]
    Fetch {
        url: String,
        #[source]
        source: reqwest::Error,
    },
    #[error("parse the key set {from}")]
    Parse {
        from: String,
        #[source]
        source: serde_json::Error,
    },
}

/// Signatures that are accepted; everything symmetric or `none` is not.
const ALGORITHMS: &[Algorithm] = &[Algorithm::ES256, Algorithm::RS256, Algorithm::EdDSA];

/// Clocks of issuer and service may differ by this much.
const LEEWAY_SECONDS: u64 = 30;

/// Keys are looked for again at most this often when a token names one that is not known, so that tokens of nobody do not
/// become requests to the issuer.
const RELOAD_AFTER: Duration = Duration::from_secs(10);

pub struct Authenticator {
    source: KeySource,
    http: reqwest::Client,
    issuer: String,
    audience: String,
    keys: RwLock<Keys>,
}

#[derive(Default)]
struct Keys {
    set: Option<JwkSet>,
    loaded: Option<Instant>,
}

impl Authenticator {
    #[must_use]
    pub fn new(source: KeySource, http: reqwest::Client, issuer: String, audience: String) -> Self {
        Self { source, http, issuer, audience, keys: RwLock::default() }
    }

    /// Loads the keys now.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn load(&self) -> Result<(), KeyError> {
        let mut keys = self.keys.write().await;
        keys.loaded = Some(Instant::now());
        keys.set = Some(self.read_keys().await?);
        Ok(())
    }

    /// The caller of a request.
    ///
    /// # Errors
    /// 401 with why, in words that help an honest caller.
    pub async fn caller(&self, headers: &HeaderMap) -> Result<Caller, Rejection> {
        let header = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = header
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let Some((_, token)) = token else {
            return Err(rejected("send `Authorization: Bearer` with a token of the identity provider"));
        };
        let token = token.trim();
        let header = jsonwebtoken::decode_header(token).map_err(|_| rejected("the token is not a JWT"))?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err(rejected("the token is not signed with ES256, RS256 or EdDSA"));
        }
        let key = self
            .key(header.kid.as_deref())
            .await
            .ok_or_else(|| rejected("the token's key is not in the issuer's key set"))?;
        let claims = jsonwebtoken::decode::<Caller>(token, &key, &self.validation(header.alg));
        Ok(claims.map_err(|error| rejected(why(error.kind())))?.claims)
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&[&self.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.validate_nbf = true;
        validation.leeway = LEEWAY_SECONDS;
        validation
    }

    async fn key(&self, kid: Option<&str>) -> Option<DecodingKey> {
        if let Some(key) = find(self.keys.read().await.set.as_ref(), kid) {
            return Some(key);
        }
        let stale = self.keys.read().await.loaded.is_none_or(|loaded| loaded.elapsed() >= RELOAD_AFTER);
        if stale && let Err(error) = self.load().await {
            tracing::warn!(error = &error as &dyn std::error::Error, "key set could not be loaded");
        }
        find(self.keys.read().await.set.as_ref(), kid)
    }

    async fn read_keys(&self) -> Result<JwkSet, KeyError> {
        let (from, bytes) = match &self.source {
            KeySource::File(path) => {
                let name = path.display().to_string();
                let read = tokio::fs::read(path).await;
                (name.clone(), read.map_err(|source| KeyError::Read { path: name, source })?)
            }
            KeySource::Url(url) => {
                let fetch = async { self.http.get(url).send().await?.error_for_status()?.bytes().await };
                (
                    url.clone(),
                    fetch.await.map_err(|source| KeyError::Fetch { url: url.clone(), source })?.to_vec(),
                )
            }
        };
        serde_json::from_slice(&bytes).map_err(|source| KeyError::Parse { from, source })
    }
}

/// A token without `kid` is accepted when there is no choice to make.
fn find(set: Option<&JwkSet>, kid: Option<&str>) -> Option<DecodingKey> {
    let keys = &set?.keys;
    let jwk: &Jwk = match kid {
        Some(kid) => keys.iter().find(|key| key.common.key_id.as_deref() == Some(kid))?,
        None if keys.len() == 1 => keys.first()?,
        None => return None,
    };
    DecodingKey::from_jwk(jwk).ok()
}

fn why(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::ExpiredSignature => "the token has expired; get a new one",
        ErrorKind::ImmatureSignature => "the token is not valid yet",
        ErrorKind::InvalidAudience => "the token is meant for another service",
        ErrorKind::InvalidIssuer => "the token comes from another issuer",
        ErrorKind::MissingRequiredClaim(_) => "the token lacks one of exp, iss, aud and sub",
        _ => "the token's signature or claims are not valid",
    }
}

fn rejected(why: &str) -> Rejection {
    Rejection::new(StatusCode::UNAUTHORIZED, "Unauthenticated", "the request carries no valid token", why)
}
