//! Who may call what.

use dagwright_contracts::{problem::Problem, tasks::Offer};
use reqwest::StatusCode;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::support::{
    GATEWAY_TOKEN, OTHER_TOKEN, Replica, Setup, TOKEN, add_job, client, count, fence, install,
};

async fn problem(answer: reqwest::Response) -> (StatusCode, String) {
    let status = answer.status();
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let problem: Problem = answer.json().await.unwrap();
    assert_eq!(problem.status, status.as_u16());
    (status, problem.code)
}

#[sqlx::test(migrations = "../lib/state/migrations")]
async fn an_unknown_or_expired_token_opens_nothing(db: PgPool) {
    install(&db).await;
    let replica = Replica::start(&db, &Setup::default()).await;
    let body = json!({"workerId": uuid::Uuid::nil()});
    for token in ["dwp_nobody", GATEWAY_TOKEN] {
        let answer = replica.post(token, "/v1/tasks:claim", &body).await;
        assert_eq!(problem(answer).await, (StatusCode::UNAUTHORIZED, "Unauthorized".into()));
    }
    let bare = client().post(format!("{}/v1/tasks:claim", replica.url)).json(&body).send().await.unwrap();
    assert_eq!(bare.status(), StatusCode::UNAUTHORIZED);
    sqlx::query("UPDATE pool_tokens SET expires_at = clock_timestamp()").execute(&db).await.unwrap();
    let answer = replica.post(TOKEN, "/v1/tasks:claim", &body).await;
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    let config =
        client().get(format!("{}/v1/gateway/config", replica.url)).bearer_auth(TOKEN).send().await.unwrap();
    assert_eq!(config.status(), StatusCode::UNAUTHORIZED, "a pool is not the gateway");
}

#[sqlx::test(migrations = "../lib/state/migrations")]
async fn a_task_of_another_pool_is_refused_and_nothing_is_applied(db: PgPool) {
    install(&db).await;
    add_job(&db).await;
    let replica = Replica::start(&db, &Setup::default()).await;
    let lease = replica.claim_one().await;
    let fence = fence(&lease.fence);
    let with = |more: Value| {
        let mut row = fence.clone();
        row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        row
    };
    let offer = Offer { task_id: lease.fence.task_id, attempt: 1 };
    let calls = [
        ("/v1/tasks:claim", json!({"workerId": uuid::Uuid::nil(), "offered": [offer], "maxFurther": 5})),
        ("/v1/tasks:heartbeat", json!({"workerId": uuid::Uuid::nil(), "beats": [fence]})),
        ("/v1/tasks:complete", json!({"completions": [with(json!({"partitions": []}))]})),
        (
            "/v1/tasks:fail",
            json!({"failures": [with(json!({"message": "m", "reason": "r", "retryable": false}))]}),
        ),
        ("/v1/tasks:release", json!({"leases": [fence]})),
        ("/v1/tasks:credentials", fence.clone()),
    ];
    for (route, body) in calls {
        let answer = replica.post(OTHER_TOKEN, route, &body).await;
        assert_eq!(problem(answer).await, (StatusCode::FORBIDDEN, "WrongPool".into()), "{route}");
    }
    assert_eq!(count(&db, "SELECT count(*) FROM tasks WHERE state = 'Running' AND attempt = 1").await, 1);
}

#[sqlx::test(migrations = "../lib/state/migrations")]
async fn bad_bodies_and_unknown_routes_are_problems(db: PgPool) {
    install(&db).await;
    let replica = Replica::start(&db, &Setup::default()).await;
    let answer = replica.post(TOKEN, "/v1/tasks:claim", &json!({"workerId": 7})).await;
    assert_eq!(problem(answer).await, (StatusCode::UNPROCESSABLE_ENTITY, "InvalidBody".into()));
    let answer = replica.post(TOKEN, "/v1/tasks:steal", &json!({})).await;
    assert_eq!(problem(answer).await, (StatusCode::NOT_FOUND, "NotFound".into()));
    let beat =
        json!({"taskId": uuid::Uuid::nil(), "attemptId": uuid::Uuid::nil(), "leaseToken": uuid::Uuid::nil()});
    let many = json!({"workerId": uuid::Uuid::nil(), "beats": vec![beat; 501]});
    let answer = replica.post(TOKEN, "/v1/tasks:heartbeat", &many).await;
    assert_eq!(problem(answer).await, (StatusCode::PAYLOAD_TOO_LARGE, "TooManyRows".into()));
}

#[sqlx::test(migrations = "../lib/state/migrations")]
async fn the_gateway_learns_of_every_change_and_reports_back(db: PgPool) {
    install(&db).await;
    let replica = Replica::start(&db, &Setup::default()).await;
    let read = async |revision: Option<i64>| -> Value {
        let known = revision.map(|r| format!("?revision={r}")).unwrap_or_default();
        let call =
            client().get(format!("{}/v1/gateway/config{known}", replica.url)).bearer_auth(GATEWAY_TOKEN);
        call.send().await.unwrap().error_for_status().unwrap().json().await.unwrap()
    };
    let first = read(None).await;
    assert_eq!(
        (first["callers"].as_array().unwrap().len(), first["pools"].as_array().unwrap().len()),
        (2, 0)
    );
    let pool = json!({"namespace": "demo", "name": "chain", "chainId": 1, "providers": [], "timeoutMs": 1000,
                      "cordonOnVerificationFailure": true, "cordonSeconds": 60});
    let (waiting, ()) = tokio::join!(read(first["revision"].as_i64()), async {
        let sql = "INSERT INTO rpc_pools (rpc_pool_id, namespace, name, chain_id, config, generation)
                   VALUES (gen_random_uuid(), 'demo', 'chain', 1, $1, 1)";
        sqlx::query(sql).bind(pool.clone()).execute(&db).await.unwrap();
    });
    assert_eq!(waiting["pools"], json!([pool]));
    assert_ne!(waiting["revision"], first["revision"]);

    let provider = |pool: &str| {
        json!({"namespace": "demo", "pool": pool, "provider": "a", "state": "Cordoned", "head": 5, "errorRatePercent": 1.5,
               "message": "fed a wrong root", "since": "2026-01-01T00:00:00Z"})
    };
    let report = json!({"providers": [provider("chain"), provider("gone")]});
    let answer = replica.post(GATEWAY_TOKEN, "/v1/gateway/health", &report).await;
    assert!(answer.status().is_success());
    let sql =
        "SELECT count(*) FROM rpc_provider_health WHERE state = 'Cordoned' AND head = 5 AND pool = 'chain'";
    assert_eq!(count(&db, sql).await, 1);
    assert_eq!(
        count(&db, "SELECT count(*) FROM rpc_provider_health").await,
        1,
        "a pool that is gone stays gone"
    );
}
