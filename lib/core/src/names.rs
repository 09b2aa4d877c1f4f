//! Names: of AWS resources, and of datasets in SQL.

use sha2::{Digest, Sha256};

/// The name of an AWS resource that belongs to one object: `dw-{8 hex of H(cluster, namespace, name)}-{name cut to 40}`.
#[must_use]
pub fn aws_name(cluster: &str, namespace: &str, name: &str) -> String {
    let hash = Sha256::digest(format!("{cluster}\0{namespace}\0{name}").as_bytes());
    let cut: String = name.chars().take(40).collect();
    format!("dw-{}-{cut}", hex::encode(&hash[..4]))
}

/// The SQL schema of a namespace: `-` becomes `_`; a reserved word, a leading digit or a schema of the engine gets `ns_` in front.
#[must_use]
pub fn sql_schema_name(namespace: &str) -> String {
    let name = namespace.replace('-', "_");
    let needs_prefix = name.starts_with(|c: char| c.is_ascii_digit())
        || name.starts_with("ns_")
        || RESERVED_WORDS.binary_search(&name.as_str()).is_ok()
        || ENGINE_SCHEMAS.contains(&name.as_str());
    if needs_prefix { format!("ns_{name}") } else { name }
}

/// The SQL table of a dataset: `-` becomes `_`. Dataset names cannot hold `_`, so the mapping loses nothing.
#[must_use]
pub fn sql_table_name(dataset: &str) -> String {
    dataset.replace('-', "_")
}

/// How a dataset is written in SQL: `schema.table`.
#[must_use]
pub fn sql_name(namespace: &str, dataset: &str) -> String {
    format!("{}.{}", sql_schema_name(namespace), sql_table_name(dataset))
}

/// Schemas and catalogs that the engine itself has; a namespace of that name must not shadow them.
const ENGINE_SCHEMAS: &[&str] =
    &["information_schema", "main", "memory", "pg", "pg_catalog", "public", "system", "temp"];

/// Keywords of the engine that a schema must not be named after without quotes, sorted. Frozen: adding a word renames the
/// schema of a namespace that users already query; the query service's tests compare it with the engine's own list.
#[rustfmt::skip]
const RESERVED_WORDS: &[&str] = &[
    "all", "analyse", "analyze", "and", "anti", "any", "array", "as", "asc", "asof", "asymmetric", "at", "authorization", "between",
    "bigint", "binary", "bit", "boolean", "both", "by", "case", "cast", "char", "character", "check", "coalesce", "collate", "collation",
    "column", "columns", "concurrently", "constraint", "create", "cross", "dec", "decimal", "default", "deferrable", "desc",
    "describe", "distinct", "do", "else", "end", "except", "exists", "extract", "false", "fetch", "float", "for", "foreign",
    "freeze", "from", "full", "generated", "glob", "group", "grouping", "grouping_id", "having", "ilike", "in", "initially", "inner",
    "inout", "int", "integer", "intersect", "interval", "into", "is", "isnull", "join", "lambda", "lateral", "leading", "left",
    "like", "limit", "map", "national", "natural", "nchar", "none", "not", "notnull", "null", "nullif", "numeric", "offset", "on",
    "only", "or", "order", "out", "outer", "overlaps", "overlay", "pivot", "pivot_longer", "pivot_wider", "placing", "position",
    "positional", "precision", "primary", "qualify", "real", "references", "returning", "right", "row", "select", "semi",
    "setof", "show", "similar", "smallint", "some", "struct", "substring", "summarize", "symmetric", "table", "tablesample",
    "then", "time", "timestamp", "to", "trailing", "treat", "trim", "true", "try_cast", "union", "unique", "unpack", "unpivot",
    "using", "values", "varchar", "variadic", "verbose", "when", "where", "window", "with", "xmlattributes", "xmlconcat",
    "xmlelement", "xmlexists", "xmlforest", "xmlnamespaces", "xmlparse", "xmlpi", "xmlroot", "xmlserialize", "xmltable",
];

/// The frozen list, for the test that compares it with the engine.
#[must_use]
pub fn reserved_words() -> &'static [&'static str] {
    RESERVED_WORDS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aws_names_differ_by_place_and_stay_short() {
        assert_ne!(aws_name("c", "a", "x"), aws_name("c", "b", "x"));
        assert_ne!(aws_name("c", "a", "x"), aws_name("d", "a", "x"));
        assert!(aws_name("c", "n", &"x".repeat(52)).len() <= 52);
    }

    #[test]
    fn namespaces_that_sql_would_misread_get_a_prefix() {
        for (namespace, schema) in [
            ("demo", "demo"),
            ("team-b", "team_b"),
            ("default", "ns_default"),
            ("main", "ns_main"),
            ("0x", "ns_0x"),
            ("ns-default", "ns_ns_default"),
            ("information-schema", "ns_information_schema"),
        ] {
            assert_eq!(sql_schema_name(namespace), schema);
        }
    }

    #[test]
    fn the_reserved_words_are_sorted() {
        assert!(RESERVED_WORDS.windows(2).all(|w| w[0] < w[1]));
    }
}
