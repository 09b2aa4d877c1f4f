//! Work that one replica at a time should do, because two would only double its calls. Correctness never depends on it.

use sqlx::{Connection, PgConnection, PgPool, postgres::PgConnectOptions};

use crate::{Result, error::During};

/// The right to do one kind of work, held by a session of its own: it ends with the process or its connection.
pub struct Singleton {
    name: &'static str,
    options: PgConnectOptions,
    held: Option<PgConnection>,
}

impl Singleton {
    /// The right named `name`; not held yet.
    #[must_use]
    pub fn new(pool: &PgPool, name: &'static str) -> Self {
        Self { name, options: pool.connect_options().as_ref().clone(), held: None }
    }

    /// Whether this process had the right when it last asked.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// Whether this process has the right now; tries to take it when it has not.
    ///
    /// # Errors
    /// When Postgres cannot be reached.
    pub async fn hold(&mut self) -> Result<bool> {
        if let Some(conn) = &mut self.held {
            if conn.ping().await.is_ok() {
                return Ok(true);
            }
            self.held = None;
        }
        let mut conn =
            PgConnection::connect_with(&self.options).await.during("connect for a singleton's lock")?;
        let locked = sqlx::query_scalar!(
            r#"SELECT pg_try_advisory_lock(hashtextextended('singleton ' || $1, 0)) AS "locked!""#,
            self.name
        )
        .fetch_one(&mut conn)
        .await
        .during("take a singleton's lock")?;
        if locked {
            self.held = Some(conn);
        }
        Ok(locked)
    }
}
