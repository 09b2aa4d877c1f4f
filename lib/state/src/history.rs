//! The days of history: partitions of `task_history`, `attempts` and `events`, made ahead and dropped by age.
//!
//! Nothing reads history to decide anything but whether a call was delivered before; a completion that is repeated after its day was
//! dropped is answered as stale, which changes nothing (I1).

use sqlx::PgConnection;
use time::Duration;

use crate::{Result, error::During};

/// The tables of history. Each has its days made and dropped in a transaction of its own.
pub const TABLES: [&str; 3] = ["task_history", "attempts", "events"];

/// Makes a table's partitions of today (UTC, by the clock of Postgres) and of `ahead` days to come; rows that the default partition
/// caught move over. Returns the names of the new ones.
///
/// # Errors
/// When Postgres cannot be reached; of the category `busy`, when the table is in use: nobody is kept waiting behind, the next try may
/// have more luck.
pub async fn prepare(conn: &mut PgConnection, table: &str, ahead: u32) -> Result<Vec<String>> {
    sqlx::query_scalar!(
        r#"SELECT p AS "name!" FROM generate_series(0, $2::int) AS n
           CROSS JOIN LATERAL history_prepare($1, (clock_timestamp() AT TIME ZONE 'UTC')::date + n) AS p"#,
        table,
        crate::task_rows::signed(ahead)
    )
    .fetch_all(conn)
    .await
    .during("make history's next days")
}

/// Drops a table's days that ended longer ago than `age`. Returns the names of their partitions.
///
/// # Errors
/// As [`prepare`].
pub async fn drop_older(conn: &mut PgConnection, table: &str, age: Duration) -> Result<Vec<String>> {
    sqlx::query_scalar!(
        r#"SELECT p AS "name!"
           FROM history_drop($1, ((clock_timestamp() - make_interval(secs => $2)) AT TIME ZONE 'UTC')::date) AS p"#,
        table,
        age.as_seconds_f64()
    )
    .fetch_all(conn)
    .await
    .during("drop history's old days")
}
