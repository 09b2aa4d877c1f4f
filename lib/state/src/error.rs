use std::fmt;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A query that failed, or a row that breaks an invariant.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Postgres refused or could not be reached.
    #[error("{operation}")]
    Query {
        /// Bare verb phrase.
        operation: &'static str,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// The schema could not be brought up to date.
    #[error("migrate the state database")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// A row that no version of Dagwright writes.
    #[error("row {row} of table {table} has an invalid {column}: {problem}")]
    InvalidRow {
        /// Table.
        table: &'static str,
        /// Column.
        column: &'static str,
        /// Key of the row.
        row: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A transition found more or fewer rows than its lock promised.
    #[error("{operation} changed {changed} rows of {expected}")]
    RowCount {
        /// Bare verb phrase.
        operation: &'static str,
        /// What the lock promised.
        expected: u64,
        /// What happened.
        changed: u64,
    },
    /// A later leader took over: this process must write nothing more.
    #[error("the leader epoch {held} is over, epoch {current} writes now")]
    StaleLeader {
        /// Ours.
        held: i64,
        /// The one that writes.
        current: i64,
    },
    /// Neither this process nor anybody else finished the migration in time.
    #[error("another process has held the migration lock of the state database for {seconds} s")]
    MigrationLock {
        /// How long we waited.
        seconds: u64,
    },
}

impl Error {
    /// Stable class for metric labels and problem codes.
    #[must_use]
    pub fn category(&self) -> &'static str {
        match self {
            Self::Query {
                source:
                    sqlx::Error::PoolTimedOut
                    | sqlx::Error::Io(_)
                    | sqlx::Error::PoolClosed
                    | sqlx::Error::WorkerCrashed,
                ..
            } => "unavailable",
            Self::Query { source: sqlx::Error::Database(error), .. } => {
                error.code().map_or("query", |code| category(&code))
            }
            Self::Query { .. } => "query",
            Self::Migrate(_) | Self::MigrationLock { .. } => "migrate",
            Self::InvalidRow { .. } => "invalid_row",
            Self::RowCount { .. } => "row_count",
            Self::StaleLeader { .. } => "stale_leader",
        }
    }

    pub(crate) fn invalid(
        table: &'static str,
        column: &'static str,
        row: impl fmt::Display,
        problem: impl fmt::Display,
    ) -> Self {
        Self::InvalidRow { table, column, row: row.to_string(), problem: problem.to_string() }
    }
}

/// What an SQLSTATE means for the caller.
fn category(code: &str) -> &'static str {
    const LOCK_NOT_AVAILABLE: &str = "55P03";
    match code.get(..2) {
        // Connections, transactions that stood in each other's way, too little of something.
        Some("08" | "40" | "53") => "unavailable",
        // Postgres shuts down, crashed, or starts.
        Some("57") if code.starts_with("57P0") => "unavailable",
        _ if code == LOCK_NOT_AVAILABLE => "busy",
        // A statement that took too long among them: what makes it slow may be one of its rows.
        _ => "query",
    }
}

/// Names the operation of a failed query.
pub(crate) trait During<T> {
    fn during(self, operation: &'static str) -> Result<T>;
}

impl<T> During<T> for Result<T, sqlx::Error> {
    fn during(self, operation: &'static str) -> Result<T> {
        self.map_err(|source| Error::Query { operation, source })
    }
}

/// Asserts that a statement changed exactly the rows that its lock promised.
pub(crate) fn expect_rows(operation: &'static str, expected: u64, changed: u64) -> Result<()> {
    if changed == expected { Ok(()) } else { Err(Error::RowCount { operation, expected, changed }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_by_itself_is_told_from_what_lies_in_the_rows() {
        let known = [
            ("57P01", "unavailable"),
            ("57P03", "unavailable"),
            ("08006", "unavailable"),
            ("40001", "unavailable"),
            ("40P01", "unavailable"),
            ("53300", "unavailable"),
            ("55P03", "busy"),
            ("57014", "query"),
            ("23P01", "query"),
            ("22021", "query"),
            ("5", "query"),
        ];
        for (code, wanted) in known {
            assert_eq!(category(code), wanted, "{code}");
        }
    }
}
