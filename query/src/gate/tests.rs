use std::collections::HashSet;

use serde_json::Value;

use super::{DatasetName, Gate, Refusal, rules};

fn visible() -> HashSet<DatasetName> {
    [("d", "x"), ("d", "events"), ("d", "users")]
        .map(|(schema, table)| DatasetName { schema: schema.into(), table: table.into() })
        .into()
}

fn check(sql: &str) -> Result<super::Accepted, Refusal> {
    Gate::open().unwrap().check(sql, &visible())
}

const ATTACKS: &str = include_str!("../../../tests/fixtures/sql/attacks.json");
const LEGITIMATE: &str = include_str!("../../../tests/fixtures/sql/legitimate.sql");
const HOSTILE: &str = include_str!("../../../tests/fixtures/sql/hostile.sql");

fn lines(file: &str) -> impl Iterator<Item = &str> {
    file.lines().filter(|line| !line.is_empty() && !line.starts_with("-- "))
}

#[test]
fn every_attack_is_refused() {
    let gate = Gate::open().unwrap();
    let attacks: Vec<Value> = serde_json::from_str(ATTACKS).unwrap();
    assert_eq!(attacks.len(), 101);
    for attack in &attacks {
        let sql = attack["sql"].as_str().unwrap();
        let refusal = gate.check(sql, &visible()).expect_err(sql);
        assert_ne!(refusal, Refusal::Parser, "{sql}");
    }
}

/// The canonical texts are golden: a new engine that reads or prints a query differently must be noticed.
/// `UPDATE_GOLDEN=1` writes the file anew.
#[test]
fn legitimate_queries_pass_and_print_as_they_did() {
    let gate = Gate::open().unwrap();
    let mut canonical = String::new();
    for sql in lines(LEGITIMATE) {
        let first = gate.check(sql, &visible()).unwrap_or_else(|e| panic!("{sql}: {e}"));
        let second =
            gate.check(&first.canonical, &visible()).unwrap_or_else(|e| panic!("{}: {e}", first.canonical));
        assert_eq!(first.datasets, second.datasets, "{sql}");
        canonical += &format!("{}\n", first.canonical);
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/sql/canonical.sql");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, &canonical).unwrap();
    }
    assert_eq!(canonical, std::fs::read_to_string(path).unwrap(), "UPDATE_GOLDEN=1 accepts the change");
}

#[test]
fn hostile_variants_are_refused() {
    let gate = Gate::open().unwrap();
    for sql in lines(HOSTILE) {
        let refusal = gate.check(sql, &visible()).expect_err(sql);
        assert_ne!(refusal, Refusal::Parser, "{sql}");
    }
}

#[test]
fn a_cte_sees_only_what_stands_before_it() {
    for sql in [
        "with a as (from duckdb_views), duckdb_views as (select 1) from a",
        "with duckdb_databases as (from duckdb_databases) from duckdb_databases",
        "with a as (from \"/etc/x.csv\"), \"/etc/x.csv\" as (select 1) from a",
        "with recursive r as (select * from r union all select 1) from r",
        "with recursive a as (from b), b as (select 1) from a",
        "select * from x, (with x as (select 1) select * from x)",
        "select * from (with x as (select 1) select 1), x",
        "with a as (with b as (select 1) from b) from b",
        "with recursive r as (select 1 x), s as (with recursive t as (from r union all from t, u) from t) from s",
    ] {
        let refusal = check(sql).expect_err(sql);
        assert_eq!(refusal.code(), "UnknownDataset", "{sql}: {refusal}");
    }
    for sql in [
        "with a as (select 1), b as (from a) from a, b",
        "with recursive r as (select 1 x union all select x+1 from r where x<5) from r",
        "with a as (select 1 x) select (select max(x) from a), (with b as (from a) select 1 from b)",
        "with a as (select 1) select 1 union all (with b as (from a) from b) order by (select 1 from a)",
        "with events as (from d.events) select count(*) from events, D.\"Events\" e",
    ] {
        check(sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
    }
}

#[test]
fn names_of_datasets_come_back_folded() {
    let accepted = check("select * from D.Events e join \"d\".users u using (id), d.EVENTS").unwrap();
    let names: Vec<String> = accepted.datasets.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["d.events", "d.users"]);
}

#[test]
fn size_is_bounded() {
    let chain: String =
        (1..20).map(|i| format!(", c{i} as (select * from c{} a, c{} b)", i - 1, i - 1)).collect();
    for (sql, what) in [
        (format!("select '{}'", "x".repeat(70_000)), "text"),
        (format!("select 1{}", " and 1".repeat(9_000)), "chain of ANDs"),
        (format!("select 1{}", " union all select 1".repeat(400)), "set operations"),
        (format!("select {}1{}", "abs(".repeat(240), ")".repeat(240)), "nested calls"),
        (format!("select {}1", "- ".repeat(20_000)), "signs"),
        (format!("select [{}]", "1,".repeat(5_000)), "list"),
        (format!("select {}{}", "[".repeat(5_000), "]".repeat(5_000)), "nested lists"),
        (format!("with c0 as (select 1 x){chain} select count(*) from c19"), "CTE bomb"),
        (format!("select * from d.events{}", ", d.events".repeat(32)), "tables"),
    ] {
        let refusal = check(&sql).expect_err(what);
        assert!(
            matches!(refusal.code(), "QueryTooLarge" | "SyntaxError" | "NotOneSelect"),
            "{what}: {refusal}"
        );
    }
    check(&format!("select * from d.events{}", ", d.events".repeat(31))).unwrap();
}

#[test]
fn syntax_errors_say_where() {
    let refusal = check("select 1 frm d.x where").unwrap_err();
    assert_eq!(refusal.code(), "SyntaxError");
    assert!(refusal.to_string().contains("at character"), "{refusal}");
}

#[test]
fn the_function_lists_name_every_function_of_the_engine() {
    let gate = Gate::open().unwrap();
    let query = "SELECT DISTINCT function_name FROM duckdb_functions()
        WHERE function_type IN ('scalar', 'aggregate', 'macro', 'window')";
    let mut statement = gate.parser.prepare(query).unwrap();
    let engine: HashSet<String> =
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let (allowed, refused) = rules::frozen_functions();
    let both: HashSet<&str> = allowed.iter().chain(&refused).copied().collect();
    assert_eq!(both.len(), allowed.len() + refused.len(), "a name stands in both lists or twice");
    // The parser's own construct, which the catalog does not list.
    let listed: HashSet<String> = both.iter().filter(|n| **n != "unnest").map(ToString::to_string).collect();
    let undecided: Vec<_> = engine.difference(&listed).collect();
    let gone: Vec<_> = listed.difference(&engine).collect();
    assert!(undecided.is_empty() && gone.is_empty(), "undecided {undecided:?}, gone {gone:?}");
}

#[test]
fn the_reserved_words_are_the_engines() {
    let gate = Gate::open().unwrap();
    let query = "SELECT keyword_name FROM duckdb_keywords() WHERE keyword_category <> 'unreserved'";
    let mut statement = gate.parser.prepare(query).unwrap();
    let engine: HashSet<String> =
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let frozen: HashSet<String> =
        dagwright_core::names::reserved_words().iter().map(ToString::to_string).collect();
    let missing: Vec<_> = engine.difference(&frozen).collect();
    let extra: Vec<_> = frozen.difference(&engine).collect();
    assert!(missing.is_empty() && extra.is_empty(), "missing {missing:?}, not reserved {extra:?}");
}

mod generated {
    use proptest::prelude::*;

    use super::{super::Gate, visible};

    fn expression() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            Just("id".to_owned()),
            Just("kind".to_owned()),
            any::<i32>().prop_map(|n| n.to_string()),
            "[a-z']{0,6}".prop_map(|s| format!("'{}'", s.replace('\'', "''"))),
        ];
        leaf.prop_recursive(4, 24, 3, |inner| {
            prop_oneof![
                (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} = {b})")),
                (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("coalesce({a}, {b})")),
                inner.clone().prop_map(|a| format!("CAST({a} AS VARCHAR)")),
                inner.clone().prop_map(|a| format!("[{a}, {a}][1]")),
                (inner.clone(), inner).prop_map(|(a, b)| format!("CASE WHEN {a} IS NULL THEN {b} END")),
            ]
        })
    }

    fn select() -> impl Strategy<Value = String> {
        let source = prop_oneof![
            Just("d.events".to_owned()),
            Just("D.users u".to_owned()),
            Just("d.events a JOIN d.users b USING (id)".to_owned()),
            Just("(VALUES (1), (2)) v(id)".to_owned()),
            Just("range(3) r(id)".to_owned()),
        ];
        (expression(), source, expression())
            .prop_map(|(e, s, w)| format!("SELECT {e} FROM {s} WHERE {w} LIMIT 3"))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_canonical_text_is_accepted_and_names_the_same_datasets(sql in select(), wrap in any::<bool>()) {
            let sql = if wrap { format!("WITH q AS ({sql}) SELECT * FROM q") } else { sql };
            let gate = Gate::open().unwrap();
            let first = gate.check(&sql, &visible()).unwrap();
            let second = gate.check(&first.canonical, &visible()).unwrap();
            prop_assert_eq!(first.datasets, second.datasets);
        }
    }
}
