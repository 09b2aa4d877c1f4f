//! Conversions between Postgres types and those of `core`.

use std::ops::Bound;

use dagwright_core::range::BlockRange;
use sqlx::postgres::types::PgRange;

use crate::{Error, Result};

/// The block range of a row.
pub(crate) fn from_pg(
    table: &'static str,
    row: impl std::fmt::Display,
    range: &PgRange<i64>,
) -> Result<BlockRange> {
    let (start, end) = match (&range.start, &range.end) {
        (Bound::Included(start), Bound::Excluded(end)) => (*start, *end),
        _ => return Err(Error::invalid(table, "range", row, "not of the form [a, b)")),
    };
    let (start, end) = (height(table, &row, start)?, height(table, &row, end)?);
    BlockRange::try_new(start, end).map_err(|e| Error::invalid(table, "range", row, e))
}

/// Postgres counts in signed numbers; no chain reaches 2^63 blocks, so what lies above is one and the same: never.
pub(crate) fn height_to_pg(height: u64) -> i64 {
    i64::try_from(height).unwrap_or(i64::MAX)
}

fn height(table: &'static str, row: &impl std::fmt::Display, value: i64) -> Result<u64> {
    u64::try_from(value).map_err(|_| Error::invalid(table, "range", row, format!("negative height {value}")))
}

/// A count of a row, which CHECK constraints and our own writes keep from being negative.
pub(crate) fn count(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// As [`count`], for small columns.
pub(crate) fn small(value: i32) -> u32 {
    u32::try_from(value).unwrap_or(0)
}
