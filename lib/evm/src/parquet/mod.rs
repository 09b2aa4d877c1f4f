//! Deterministic Parquet: the same verified blocks give the same bytes, whoever answered and whenever.
//!
//! So there is no wall clock, host or provider in a file, and no column holds a value that a provider may choose freely:
//! what no root covers is recomputed or left out (`totalDifficulty`). Names follow cryo's where the meaning is the same.

mod blocks;
mod content;
mod logs;
mod nested;
mod table;
mod transactions;

use std::{collections::BTreeSet, sync::Arc};

use ::parquet::{
    arrow::{ArrowWriter, arrow_writer::ArrowWriterOptions},
    basic::{Compression, ZstdLevel},
    errors::ParquetError,
    file::{
        metadata::KeyValue,
        properties::{EnabledStatistics, WriterProperties},
    },
};
use arrow::{datatypes::Schema, error::ArrowError};
use bytes::Bytes;
use dagwright_core::range::BlockRange;
use sha2::{Digest, Sha256};

use crate::{
    EVM_INGEST_SEMANTICS, Level, OutputKind, Profile, VerifiedBundle,
    verify::{BrokenLink, Outcome, RangeEdges, VERIFIER_VERSION, verify_links},
};
use content::ContentHasher;
use table::{Columns, OutOfRange};

/// Rows per row group. It bounds what a writer and a reader hold at once; transactions average some 500 bytes.
const ROW_GROUP_ROWS: usize = 65_536;
/// Rows turned into arrays at once.
const BATCH_ROWS: usize = 8_192;
/// What all files of a range share.
#[derive(Debug, Clone, Copy)]
pub struct EncodeContext<'a> {
    pub chain_id: u64,
    pub profile: &'a Profile,
    pub range: BlockRange,
}

/// One Parquet file.
#[derive(Debug, Clone)]
pub struct EncodedFile {
    pub kind: OutputKind,
    pub bytes: Bytes,
    pub rows: u64,
    /// Hash of the rows, independent of compression, row groups and writer: equal content, equal hash.
    pub content_hash: [u8; 32],
    /// Hash of the bytes, as S3 checks it.
    pub sha256: [u8; 32],
    /// The lowest level among the blocks.
    pub level: Level,
    /// How the range attaches to its neighbours.
    pub edges: RangeEdges,
}

/// Why a file could not be written.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The kind is named in the API but cannot be produced yet.
    #[error("output kind {0} is not supported yet: leave it out of the stream's outputs")]
    Unsupported(OutputKind),
    /// The blocks are not the ones of the range.
    #[error("range [{}, {}) needs {} blocks from {}, got {got} blocks from {first:?}", range.start(), range.end(), range.end() - range.start(), range.start())]
    NotTheRange { range: BlockRange, got: usize, first: Option<u64> },
    /// Blocks of the range do not follow each other.
    #[error("link the blocks of the range")]
    Link(#[source] BrokenLink),
    /// A value does not fit its column. Never truncated.
    #[error("write {kind}")]
    Value {
        kind: OutputKind,
        #[source]
        source: OutOfRange,
    },
    /// The arrays do not fit the schema.
    #[error("build {kind} rows")]
    Arrow {
        kind: OutputKind,
        #[source]
        source: ArrowError,
    },
    /// The Parquet writer refused.
    #[error("write {kind} as Parquet")]
    Parquet {
        kind: OutputKind,
        #[source]
        source: ParquetError,
    },
}

/// Version of a kind's columns. It enters the materialisation hash; raise it with every change of a column.
#[must_use]
pub fn column_schema_version(kind: OutputKind) -> u32 {
    match kind {
        OutputKind::Blocks | OutputKind::Transactions | OutputKind::Logs | OutputKind::Traces => 1,
    }
}

/// The columns of a kind.
///
/// # Errors
/// For kinds that are not supported yet.
pub fn schema(kind: OutputKind) -> Result<Schema, EncodeError> {
    match kind {
        OutputKind::Blocks => Ok(blocks::columns().schema()),
        OutputKind::Transactions => Ok(transactions::columns().schema()),
        OutputKind::Logs => Ok(logs::columns().schema()),
        OutputKind::Traces => Err(EncodeError::Unsupported(kind)),
    }
}

/// Writes one output of a range. No rows is a valid file.
///
/// # Errors
/// When the kind is not supported, or the bundles are not exactly the blocks of the range, each following the one before.
pub fn encode(
    kind: OutputKind,
    ctx: &EncodeContext<'_>,
    bundles: &[VerifiedBundle],
) -> Result<EncodedFile, EncodeError> {
    let first = bundles.first().map(|bundle| bundle.block().header.number);
    let wanted = ctx.range.end() - ctx.range.start();
    if first != Some(ctx.range.start()) || bundles.len() as u64 != wanted {
        return Err(EncodeError::NotTheRange { range: ctx.range, got: bundles.len(), first });
    }
    let edges = verify_links(bundles.iter().map(VerifiedBundle::block)).map_err(EncodeError::Link)?;
    let meta = Meta { kind, ctx, edges, first_hash: bundles.first().map(|b| b.block().header.hash), bundles };
    match kind {
        OutputKind::Blocks => write(&meta, &blocks::columns(), &blocks::rows(ctx, bundles)),
        OutputKind::Transactions => write(&meta, &transactions::columns(), &transactions::rows(ctx, bundles)),
        OutputKind::Logs => write(&meta, &logs::columns(), &logs::rows(ctx, bundles)),
        OutputKind::Traces => Err(EncodeError::Unsupported(kind)),
    }
}

struct Meta<'a> {
    kind: OutputKind,
    ctx: &'a EncodeContext<'a>,
    edges: RangeEdges,
    first_hash: Option<alloy_primitives::B256>,
    bundles: &'a [VerifiedBundle],
}

fn write<T>(meta: &Meta<'_>, columns: &Columns<T>, rows: &[T]) -> Result<EncodedFile, EncodeError> {
    let kind = meta.kind;
    let parquet = |source| EncodeError::Parquet { kind, source };
    let schema = Arc::new(columns.schema());
    let options =
        ArrowWriterOptions::new().with_properties(properties(columns)).with_skip_arrow_metadata(true);
    let mut writer =
        ArrowWriter::try_new_with_options(Vec::new(), Arc::clone(&schema), options).map_err(parquet)?;
    let mut content = ContentHasher::new(kind.as_str(), column_schema_version(kind), &schema);
    for chunk in rows.chunks(BATCH_ROWS) {
        let arrays = columns.arrays(chunk).map_err(|source| EncodeError::Value { kind, source })?;
        let batch = arrow::array::RecordBatch::try_new(Arc::clone(&schema), arrays)
            .map_err(|source| EncodeError::Arrow { kind, source })?;
        content.update(&batch).map_err(|source| EncodeError::Arrow { kind, source })?;
        writer.write(&batch).map_err(parquet)?;
    }
    let content_hash = content.finish();
    let level = meta.bundles.iter().map(|bundle| bundle.report().level()).min().unwrap_or(Level::Verified);
    for (key, value) in metadata(meta, rows.len(), level, &content_hash) {
        writer.append_key_value_metadata(KeyValue::new(format!("dagwright.{key}"), value));
    }
    let bytes = writer.into_inner().map_err(parquet)?;
    let sha256 = Sha256::digest(&bytes).into();
    let rows = rows.len() as u64;
    Ok(EncodedFile { kind, bytes: bytes.into(), rows, content_hash, sha256, level, edges: meta.edges })
}

/// No bloom filters, though look-ups by hash and address ask for them: DuckDB up to 1.5.5 hashes the text of a BLOB
/// constant and not its bytes, so a filter makes equality silently drop rows that exist (duckdb/duckdb#23053, fixed by
/// #23829 after 1.5.5). Add them, on transaction_hash, address and topic0, once the pinned engine has the fix.
fn properties<T>(columns: &Columns<T>) -> WriterProperties {
    let zstd = Compression::ZSTD(ZstdLevel::try_new(3).expect("3 is a zstd level"));
    WriterProperties::builder()
        .set_created_by(format!("dagwright-evm semantics {EVM_INGEST_SEMANTICS}"))
        .set_compression(zstd)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_sorting_columns(Some(columns.sorting()))
        .build()
}

fn metadata(
    meta: &Meta<'_>,
    rows: usize,
    level: Level,
    content_hash: &[u8; 32],
) -> Vec<(&'static str, String)> {
    let (ctx, range) = (meta.ctx, meta.ctx.range);
    let unproven: BTreeSet<&str> = meta.bundles.iter().flat_map(unverifiable_checks).collect();
    vec![
        ("kind", meta.kind.to_string()),
        ("schema_version", column_schema_version(meta.kind).to_string()),
        ("chain_id", ctx.chain_id.to_string()),
        ("profile", ctx.profile.name.to_owned()),
        ("profile_semantics", ctx.profile.semantics.to_string()),
        ("operator_semantics", EVM_INGEST_SEMANTICS.to_string()),
        ("verifier_version", VERIFIER_VERSION.to_string()),
        ("range_start", range.start().to_string()),
        ("range_end", range.end().to_string()),
        ("first_block_hash", meta.first_hash.map_or_else(String::new, |hash| hash.to_string())),
        ("first_parent_hash", meta.edges.first_parent_hash.to_string()),
        ("last_block_hash", meta.edges.last_hash.to_string()),
        ("rows", rows.to_string()),
        ("verification", level.as_str().to_owned()),
        ("unverifiable_checks", unproven.into_iter().collect::<Vec<_>>().join(",")),
        ("content_hash", hex::encode(content_hash)),
    ]
}

fn unverifiable_checks(bundle: &VerifiedBundle) -> impl Iterator<Item = &'static str> {
    let checks = bundle.report().checks.iter();
    checks
        .filter(|result| matches!(result.outcome, Outcome::Unverifiable { .. }))
        .map(|result| result.check.as_str())
}
