//! What may be covered, and what is covered: the constraints take exactly what does not overlap (I10).

use std::collections::HashMap;

use sqlx::PgPool;
use uuid::Uuid;

use crate::support::{NAMESPACE, World, version};

/// A range of a version of a namespace.
type Covered = (&'static str, u128, i64, i64);

async fn add_version(db: &PgPool, namespace: &str, n: u128) {
    sqlx::query(
        "INSERT INTO dataset_versions (namespace, version, materialization, operator, semantics, output, column_schema)
         VALUES ($1, $2, decode(repeat('00', 32), 'hex'), 'evm_ingest', 1, 'blocks', 1) ON CONFLICT DO NOTHING",
    )
    .bind(namespace)
    .bind(version(n).0)
    .execute(db)
    .await
    .expect("insert a version");
}

/// Whether it was taken.
async fn cover(db: &PgPool, (namespace, n, start, end): Covered) -> bool {
    let taken = sqlx::query(
        "INSERT INTO partition_versions (namespace, version, range, content_hash, first_parent_hash, last_hash, rows, bytes,
                                         verification, task_id, attempt_id)
         VALUES ($1, $2, int8range($3, $4), '', '', '', 1, 1, 'verified', $5, $5) ON CONFLICT DO NOTHING",
    )
    .bind(namespace)
    .bind(version(n).0)
    .bind(start)
    .bind(end)
    .bind(Uuid::nil())
    .execute(db)
    .await
    .expect("insert a partition");
    taken.rows_affected() == 1
}

#[sqlx::test]
async fn what_overlaps_is_refused_and_nothing_else(db: PgPool) {
    let world = World::new(db).await;
    let namespaces = [NAMESPACE, "other"];
    for namespace in namespaces {
        for n in 0..3 {
            add_version(&world.db, namespace, n).await;
        }
    }
    let mut taken: HashMap<(&str, u128), Vec<(i64, i64)>> = HashMap::new();
    let (mut accepted, mut refused) = (0, 0);
    // A walk over heights in no order, with ranges from one block to many: multiplied by a prime, each number is met once.
    for n in 0..3000u128 {
        let place = i64::try_from(n * 1_103 % 3001).expect("small");
        let (namespace, n, length) = (namespaces[(n % 2) as usize], n % 3, 1 + (place * place) % 23);
        let (start, end) = (place * 7, place * 7 + length);
        let there = taken.entry((namespace, n)).or_default();
        let free = there.iter().all(|(from, to)| end <= *from || *to <= start);
        assert_eq!(
            cover(&world.db, (namespace, n, start, end)).await,
            free,
            "[{start}, {end}) of {namespace}'s version {n}"
        );
        if free {
            there.push((start, end));
            accepted += 1;
        } else {
            refused += 1;
        }
    }
    assert!(accepted > 300 && refused > 300, "{accepted} taken and {refused} refused: both have to be met");
}

#[sqlx::test]
async fn only_what_is_current_is_in_the_way(db: PgPool) {
    let world = World::new(db).await;
    assert!(cover(&world.db, (NAMESPACE, 0, 10, 20)).await);
    assert!(!cover(&world.db, (NAMESPACE, 0, 19, 30)).await);
    assert!(cover(&world.db, (NAMESPACE, 0, 20, 30)).await, "they touch");
    world.run("UPDATE partition_versions SET current = false WHERE lower(range) = 10").await;
    assert!(cover(&world.db, (NAMESPACE, 0, 15, 20)).await);
}

#[sqlx::test]
async fn heights_are_compared_exactly_up_to_the_highest(db: PgPool) {
    let world = World::new(db).await;
    let highest = 1 << 53;
    assert!(cover(&world.db, (NAMESPACE, 0, highest - 2, highest - 1)).await);
    assert!(cover(&world.db, (NAMESPACE, 0, highest - 1, highest)).await);
    assert!(!cover(&world.db, (NAMESPACE, 0, highest - 1, highest)).await);
    for range in ["'[9007199254740991,9007199254740993)'", "'[-1,1)'", "'(,5)'", "'[5,)'", "'empty'"] {
        let sql = format!(
            "INSERT INTO partition_versions (namespace, version, range, content_hash, first_parent_hash, last_hash, rows, bytes,
                                             verification, task_id, attempt_id)
             SELECT namespace, version, {range}, '', '', '', 1, 1, 'verified', task_id, attempt_id FROM partition_versions LIMIT 1"
        );
        let error = sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&world.db).await.expect_err(range);
        let refused = error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_check_violation);
        assert!(refused, "{range}: {error}");
    }
}
