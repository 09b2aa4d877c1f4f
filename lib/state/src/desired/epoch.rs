use dagwright_core::ids::ClusterId;
use sqlx::{PgConnection, PgPool, Postgres, Transaction};

use crate::{Error, Result, error::During};

/// The right to write desired state, as of one election.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    /// Name of the Lease.
    pub name: String,
    /// Rises with every election.
    pub epoch: i64,
}

impl Fence {
    /// Takes the next epoch. Call it once, right after winning the Lease; all fences taken before are stale from then on.
    ///
    /// # Errors
    /// When Postgres cannot be reached.
    pub async fn take(conn: &mut PgConnection, name: &str, holder: &str) -> Result<Self> {
        let epoch = sqlx::query_scalar!(
            "INSERT INTO leader_epochs (name, epoch, holder) VALUES ($1, 1, $2)
             ON CONFLICT (name) DO UPDATE
                SET epoch = leader_epochs.epoch + 1, holder = excluded.holder, taken_at = clock_timestamp()
             RETURNING epoch",
            name,
            holder
        )
        .fetch_one(conn)
        .await
        .during("take the leader epoch")?;
        Ok(Self { name: name.to_owned(), epoch })
    }

    /// Looks whether no later leader took over, for who only reads and speaks of what it read.
    ///
    /// # Errors
    /// [`Error::StaleLeader`] when a later epoch was taken; else when Postgres cannot be reached.
    pub async fn check(&self, conn: &mut PgConnection) -> Result<()> {
        let current = current_epoch(conn, &self.name).await?;
        if current == self.epoch { Ok(()) } else { Err(Error::StaleLeader { held: self.epoch, current }) }
    }

    /// Begins a transaction that is refused when a later leader took over, and that holds a later leader back until it ends.
    ///
    /// # Errors
    /// [`Error::StaleLeader`] when a later epoch was taken; else when Postgres cannot be reached.
    pub async fn begin(&self, pool: &PgPool) -> Result<Transaction<'static, Postgres>> {
        let mut tx = pool.begin().await.during("begin a fenced transaction")?;
        let current =
            sqlx::query_scalar!("SELECT epoch FROM leader_epochs WHERE name = $1 FOR SHARE", self.name)
                .fetch_optional(&mut *tx)
                .await
                .during("check the leader epoch")?;
        if current == Some(self.epoch) {
            Ok(tx)
        } else {
            Err(Error::StaleLeader { held: self.epoch, current: current.unwrap_or(0) })
        }
    }
}

/// The epoch that was taken last; 0 when there was none.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn current_epoch(conn: &mut PgConnection, name: &str) -> Result<i64> {
    let epoch = sqlx::query_scalar!("SELECT epoch FROM leader_epochs WHERE name = $1", name)
        .fetch_optional(conn)
        .await
        .during("read the leader epoch")?;
    Ok(epoch.unwrap_or(0))
}

/// The id of this installation.
///
/// # Errors
/// When Postgres cannot be reached.
pub async fn cluster_id(conn: &mut PgConnection) -> Result<ClusterId> {
    let id =
        sqlx::query_scalar!("SELECT id FROM cluster").fetch_one(conn).await.during("read the cluster id")?;
    Ok(ClusterId(id))
}
