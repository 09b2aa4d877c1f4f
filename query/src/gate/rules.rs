//! What the gate lets through, as data. Everything that is not written here is refused.

use std::{collections::HashSet, sync::OnceLock};

/// Bytes of SQL text at most.
pub(super) const MAX_SQL_BYTES: usize = 64 * 1024;
/// Typed nodes of a tree at most. The canonical text may hold a few more than the caller's: see [`super::Gate::check`].
pub(super) const MAX_NODES: usize = 2_000;
/// Nesting of the tree at most, arrays and objects both counted.
pub(super) const MAX_DEPTH: usize = 400;
/// Table references after each common table expression is replaced by its own: 20 chained self-joins run for minutes.
pub(super) const MAX_TABLE_REFS: u64 = 32;
/// Set operations at most: 20,000 `UNION ALL` run for minutes.
pub(super) const MAX_SET_OPERATIONS: usize = 200;
/// Largest literal given to a function that makes that many characters or list elements.
pub(super) const MAX_REPETITIONS: f64 = 1_000_000.0;
/// Largest literal bound of a series; a series is streamed when it stands in FROM, so more is harmless there than in a list.
pub(super) const MAX_SERIES: f64 = 10_000_000.0;

/// Types of nodes that a tree may hold.
#[rustfmt::skip]
const NODES: &[&str] = &[
    "SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE",
    // Table references.
    "BASE_TABLE", "SUBQUERY", "JOIN", "EXPRESSION_LIST", "EMPTY", "PIVOT", "TABLE_FUNCTION",
    // Modifiers.
    "LIMIT_MODIFIER", "LIMIT_PERCENT_MODIFIER", "ORDER_MODIFIER", "DISTINCT_MODIFIER",
    // Expressions.
    "VALUE_CONSTANT", "COLUMN_REF", "STAR", "FUNCTION", "OPERATOR_CAST", "CASE_EXPR", "VALUE_PARAMETER", "COLLATE",
    "LAMBDA", "COMPARE_EQUAL", "COMPARE_NOTEQUAL", "COMPARE_LESSTHAN", "COMPARE_GREATERTHAN",
    "COMPARE_LESSTHANOREQUALTO", "COMPARE_GREATERTHANOREQUALTO", "COMPARE_DISTINCT_FROM", "COMPARE_NOT_DISTINCT_FROM",
    "COMPARE_IN", "COMPARE_NOT_IN", "COMPARE_BETWEEN", "COMPARE_NOT_BETWEEN", "CONJUNCTION_AND", "CONJUNCTION_OR",
    "OPERATOR_NOT", "OPERATOR_IS_NULL", "OPERATOR_IS_NOT_NULL", "OPERATOR_COALESCE", "OPERATOR_NULLIF", "OPERATOR_TRY",
    "OPERATOR_UNPACK", "ARRAY_EXTRACT", "ARRAY_SLICE", "ARRAY_CONSTRUCTOR", "STRUCT_EXTRACT", "ARROW",
    "GROUPING_FUNCTION", "POSITIONAL_REFERENCE",
    "WINDOW_AGGREGATE", "WINDOW_RANK", "WINDOW_RANK_DENSE", "WINDOW_NTILE", "WINDOW_PERCENT_RANK", "WINDOW_CUME_DIST",
    "WINDOW_ROW_NUMBER", "WINDOW_FIRST_VALUE", "WINDOW_LAST_VALUE", "WINDOW_LEAD", "WINDOW_LAG", "WINDOW_NTH_VALUE",
    "WINDOW_FILL",
    // Orders.
    "ORDER_DEFAULT", "ASCENDING", "DESCENDING", "ORDER_ASCENDING", "ORDER_DESCENDING",
    // Type infos.
    "DECIMAL_TYPE_INFO", "LIST_TYPE_INFO", "STRUCT_TYPE_INFO", "UNBOUND_TYPE_INFO", "ARRAY_TYPE_INFO", "STRING_TYPE_INFO",
];

/// Functions that may stand in FROM.
const TABLE_FUNCTIONS: &[&str] = &["generate_series", "range", "unnest"];

/// Types that a cast may name, as the parser writes their ids or as a user writes an alias.
#[rustfmt::skip]
const TYPES: &[&str] = &[
    "int", "integer", "int4", "int8", "int2", "bigint", "smallint", "tinyint", "hugeint", "uhugeint", "uint8", "ubigint",
    "uinteger", "usmallint", "utinyint", "double", "float", "real", "float4", "float8", "decimal", "numeric", "varchar",
    "text", "string", "char", "bpchar", "boolean", "bool", "date", "time", "timestamp", "timestamptz",
    "timestamp with time zone", "datetime", "interval", "uuid", "blob", "bytea", "json", "bit", "timestamp_s",
    "timestamp_ms", "timestamp_ns", "time with time zone", "timetz",
];

/// Aggregates by string: `list_aggregate(x, 'name')` and its other names.
const BY_NAME: &[&str] = &["aggregate", "array_aggr", "array_aggregate", "list_aggr", "list_aggregate"];

/// Functions whose literal arguments say how much they make.
const REPEATING: &[&str] = &["array_resize", "list_resize", "lpad", "repeat", "rpad"];

/// Functions that make a series between literal bounds.
const SERIES: &[&str] = &["generate_series", "range"];

pub(super) fn node_allowed(kind: &str) -> bool {
    static SET: OnceLock<HashSet<&'static str>> = OnceLock::new();
    SET.get_or_init(|| NODES.iter().copied().collect()).contains(kind)
}

pub(super) fn function_allowed(name: &str) -> bool {
    static SET: OnceLock<HashSet<&'static str>> = OnceLock::new();
    SET.get_or_init(|| names(include_str!("functions.txt")).collect()).contains(name)
}

pub(super) fn table_function_allowed(name: &str) -> bool {
    TABLE_FUNCTIONS.contains(&name)
}

pub(super) fn type_allowed(name: &str) -> bool {
    let name = name.to_lowercase();
    TYPES.contains(&name.as_str()) || TYPES.contains(&name.replace('_', " ").as_str())
}

pub(super) fn calls_by_name(name: &str) -> bool {
    BY_NAME.contains(&name)
}

/// The largest literal that `name` may be given, if it matters.
pub(super) fn literal_cap(name: &str) -> Option<f64> {
    match name {
        _ if REPEATING.contains(&name) => Some(MAX_REPETITIONS),
        _ if SERIES.contains(&name) => Some(MAX_SERIES),
        _ => None,
    }
}

/// Collations compose with dots: `nocase.noaccent`, `de`. Anything longer would be looked up in catalogs.
pub(super) fn collation_allowed(collation: &str) -> bool {
    collation.to_lowercase().split('.').all(|part| {
        matches!(part, "binary" | "c" | "nfc" | "noaccent" | "nocase" | "posix")
            || (matches!(part.len(), 2 | 3 | 5) && part.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
    })
}

/// The names of a list file: one a line, `#` begins a comment line.
fn names(file: &'static str) -> impl Iterator<Item = &'static str> {
    file.lines().filter(|line| !line.is_empty() && !line.starts_with("# "))
}

/// Both frozen lists, for the comparison with the engine.
#[cfg(test)]
pub(super) fn frozen_functions() -> (Vec<&'static str>, Vec<&'static str>) {
    (names(include_str!("functions.txt")).collect(), names(include_str!("functions_refused.txt")).collect())
}
