//! The developer's identity: a key of the stack's own, its JWKS for the query service, and a token.

use anyhow::Context;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;
use serde_json::json;
use time::{Duration, OffsetDateTime};

use super::settings::{AUDIENCE, ISSUER};

const KEY_ID: &str = "local";
/// Long enough that a shell left open over a holiday still works.
const VALID: Duration = Duration::days(30);

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: &'a str,
    iat: i64,
    exp: i64,
    roles: &'a [&'a str],
    namespaces: &'a [&'a str],
}

/// Signs the token of a person.
pub fn sign(
    key_pem: &str,
    subject: &str,
    roles: &[&str],
    namespaces: &[&str],
    now: OffsetDateTime,
) -> anyhow::Result<String> {
    let claims = Claims {
        iss: ISSUER,
        aud: AUDIENCE,
        sub: subject,
        iat: now.unix_timestamp(),
        exp: (now + VALID).unix_timestamp(),
        roles,
        namespaces,
    };
    let key = EncodingKey::from_ec_pem(key_pem.as_bytes()).context("read the token key")?;
    let header = Header { kid: Some(KEY_ID.to_owned()), ..Header::new(Algorithm::ES256) };
    jsonwebtoken::encode(&header, &claims, &key).context("sign the token")
}

/// The public half, as an identity provider would publish it.
pub(super) fn jwks(key_pem: &str) -> anyhow::Result<String> {
    let key = rcgen::KeyPair::from_pem(key_pem).context("read the token key")?;
    // An uncompressed point: a marker byte, then both coordinates.
    let point = key.public_key_raw();
    let (x, y) = point.get(1..).filter(|p| p.len() == 64).context("the token key is not P-256")?.split_at(32);
    let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let key = json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": KEY_ID, "x": encode(x), "y": encode(y)});
    Ok(json!({ "keys": [key] }).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonwebtoken::{DecodingKey, Validation, jwk::JwkSet};

    #[test]
    fn the_published_key_verifies_the_token() {
        let pem = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap().serialize_pem();
        let token = sign(&pem, "dev", &["analyst"], &["demo"], OffsetDateTime::now_utc()).unwrap();
        let set: JwkSet = serde_json::from_str(&jwks(&pem).unwrap()).unwrap();
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_audience(&[AUDIENCE]);
        validation.set_issuer(&[ISSUER]);
        let key = DecodingKey::from_jwk(set.find(KEY_ID).unwrap()).unwrap();
        let claims = jsonwebtoken::decode::<serde_json::Value>(&token, &key, &validation).unwrap().claims;
        assert_eq!(claims["namespaces"][0], "demo");
    }
}
