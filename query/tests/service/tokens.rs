use axum::{Router, http::HeaderMap, routing::get};
use dagwright_query::auth::{Authenticator, KeySource};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::support::{AUDIENCE, ISSUER, Service, claims};

fn with(change: impl FnOnce(&mut Value)) -> Value {
    let mut claims = claims();
    change(&mut claims);
    claims
}

#[tokio::test]
async fn only_good_tokens_open_the_service() {
    let service = Service::start().await;
    let past = time::OffsetDateTime::now_utc().unix_timestamp() - 3600;
    let stranger =
        EncodingKey::from_ec_pem(rcgen::KeyPair::generate().unwrap().serialize_pem().as_bytes()).unwrap();
    let header = Header { kid: Some("k1".into()), ..Header::new(Algorithm::ES256) };
    let good = service.token();
    let unsigned = {
        let payload = good.split('.').nth(1).unwrap();
        format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{payload}.")
    };
    let symmetric =
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims(), &EncodingKey::from_secret(b"x"))
            .unwrap();
    let tampered = {
        let mut parts: Vec<&str> = good.split('.').collect();
        let other = service.sign(&with(|c| c["roles"] = json!(["admin"])));
        let payload = other.split('.').nth(1).unwrap().to_owned();
        parts[1] = &payload;
        parts.join(".")
    };
    for (what, token) in [
        ("expired", service.sign(&with(|c| c["exp"] = past.into()))),
        ("not yet valid", service.sign(&with(|c| c["nbf"] = (past + 7200).into()))),
        ("wrong audience", service.sign(&with(|c| c["aud"] = "other".into()))),
        ("wrong issuer", service.sign(&with(|c| c["iss"] = "https://evil.test".into()))),
        ("no expiry", service.sign(&with(|c| drop(c.as_object_mut().unwrap().remove("exp"))))),
        ("no subject", service.sign(&with(|c| drop(c.as_object_mut().unwrap().remove("sub"))))),
        ("another key", jsonwebtoken::encode(&header, &claims(), &stranger).unwrap()),
        ("unsigned", unsigned),
        ("symmetric", symmetric),
        ("tampered", tampered),
        ("garbage", "x.y.z".into()),
        ("empty", String::new()),
    ] {
        let response = service.post(&token, json!({"sql": "select 1"})).await;
        assert_eq!(response.status(), 401, "{what}");
        assert_eq!(response.headers()["www-authenticate"], "Bearer");
        let problem: Value = response.json().await.unwrap();
        assert_eq!(problem["code"], "Unauthenticated", "{what}");
    }
    assert_eq!(service.post(&good, json!({"sql": "select 1"})).await.status(), 200);
}

#[tokio::test]
async fn roles_and_namespaces_of_the_token_decide() {
    let service = Service::start().await;
    let admin = service.sign(&with(|c| c["roles"] = json!(["admin"])));
    let body = |sql: &str| json!({ "sql": sql });
    assert_eq!(service.post(&admin, body("select 1 from demo.salaries limit 1")).await.status(), 200);
    assert_eq!(service.post(&admin, body("select 1 from demo.local_blocks limit 1")).await.status(), 400);
    let elsewhere = service.sign(&with(|c| c["namespaces"] = json!(["other"])));
    assert_eq!(service.post(&elsewhere, body("select 1 from other.blocks limit 1")).await.status(), 200);
    assert_eq!(service.post(&elsewhere, body("select 1 from demo.local_blocks limit 1")).await.status(), 400);
    let nobody = service.sign(&with(|c| {
        c.as_object_mut().unwrap().remove("roles");
        c.as_object_mut().unwrap().remove("namespaces");
    }));
    assert_eq!(service.post(&nobody, body("select 1 from demo.local_blocks limit 1")).await.status(), 400);
    assert_eq!(service.post(&nobody, body("select 1")).await.status(), 200);
}

#[tokio::test]
async fn keys_come_from_a_url_as_well() {
    let service = Service::start().await;
    let keys = std::fs::read_to_string(service.folder.0.join("jwks.json")).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/jwks.json", listener.local_addr().unwrap());
    let issuer = Router::new().route("/jwks.json", get(move || async move { keys }));
    tokio::spawn(axum::serve(listener, issuer).into_future());

    let mut headers = HeaderMap::new();
    headers.insert("authorization", format!("bearer {}", service.token()).parse().unwrap());
    let with = |url: String| {
        Authenticator::new(
            KeySource::Url(url),
            reqwest::Client::builder().build().unwrap(),
            ISSUER.into(),
            AUDIENCE.into(),
        )
    };
    assert_eq!(with(url.clone()).caller(&headers).await.unwrap().subject, "ada");
    assert!(with(format!("{url}.gone")).caller(&headers).await.is_err());
}
