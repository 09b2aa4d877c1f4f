//! Work that one replica at a time should do, because two would only double its calls. Correctness never depends on it.

use sqlx::{Connection, PgConnection, PgPool, postgres::PgConnectOptions};

use crate::{Result, error::During};

/// The right to do one kind of work, held by a session of its own: it ends with the process or its connection.
pub struct Singleton {
    name: &'static str,
    options: PgConnectOptions,
    session: Option<PgConnection>,
    held: bool,
}

impl Singleton {
    /// The right named `name`; not held yet.
    #[must_use]
    pub fn new(pool: &PgPool, name: &'static str) -> Self {
        Self { name, options: pool.connect_options().as_ref().clone(), session: None, held: false }
    }

    /// Whether this process had the right when it last asked.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.held
    }

    /// Whether this process has the right now; tries to take it when it has not.
    ///
    /// # Errors
    /// When Postgres cannot be reached; the right is then lost.
    pub async fn hold(&mut self) -> Result<bool> {
        let outcome = self.ask().await;
        if outcome.is_err() {
            self.session = None;
        }
        self.held = matches!(outcome, Ok(true));
        outcome
    }

    async fn ask(&mut self) -> Result<bool> {
        if self.session.is_none() {
            let session = PgConnection::connect_with(&self.options).await;
            self.session = Some(session.during("connect for a singleton's lock")?);
            self.held = false;
        }
        let Some(session) = &mut self.session else { return Ok(false) };
        if self.held {
            session.ping().await.during("look after a singleton's lock")?;
            return Ok(true);
        }
        sqlx::query_scalar!(
            r#"SELECT pg_try_advisory_lock(hashtextextended('singleton ' || $1, 0)) AS "locked!""#,
            self.name
        )
        .fetch_one(session)
        .await
        .during("take a singleton's lock")
    }
}
