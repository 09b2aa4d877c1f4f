//! From the engine's errors to codes. The engine's text names files, settings and other people's values, so none of it
//! leaves; what a caller needs is rebuilt from his own SQL.

use super::{instance::InstanceError, output::OutputError, protocol::Failure};

pub(super) fn timeout() -> Failure {
    Failure::new(
        "QueryTimeout",
        "the query ran into its time limit; read less, or ask for a longer timeoutSeconds",
    )
}

/// The failure that `error` amounts to for the caller who wrote `sql`.
pub(super) fn explain(error: &OutputError, sql: &str) -> Failure {
    match error {
        OutputError::Engine(duckdb::Error::InvalidParameterCount(given, wanted)) => Failure::new(
            "InvalidParameter",
            format!("the query has {wanted} parameters, but params has {given} values"),
        ),
        OutputError::Engine(error) => from_text(&error.to_string(), sql),
        OutputError::Instance(InstanceError::Define { name, source }) => {
            match from_text(&source.to_string(), "") {
                known if matches!(known.code.as_str(), "MemoryLimit" | "QueryTimeout") => known,
                _ => Failure::new(
                    "ObjectUnavailable",
                    format!("the objects of dataset {name} could not be read"),
                ),
            }
        }
        OutputError::Instance(InstanceError::Empty(name)) => Failure::new(
            "DatasetEmpty",
            format!("dataset {name} has no committed data and no declared columns yet"),
        ),
        OutputError::Instance(_) => {
            Failure::new("EngineFailed", "the engine could not be locked to the query's objects")
        }
        OutputError::Arrow(_) => Failure::new(
            "UnsupportedResult",
            "a column of the result has a type that cannot be written; cast it",
        ),
        OutputError::Write(_) => Failure::new("ClientGone", "nobody reads the answer"),
    }
}

fn from_text(text: &str, sql: &str) -> Failure {
    let (code, detail) = match text {
        t if t.contains("Out of Memory") || t.contains("bad allocation") || t.contains("bad_alloc") => (
            "MemoryLimit",
            "the query needs more memory than one query may have; aggregate or filter earlier".into(),
        ),
        t if t.contains("INTERRUPT") => return timeout(),
        t if t.contains("HTTP") || t.contains("IO Error") => {
            ("ObjectUnavailable", "an object of the query's datasets could not be read".into())
        }
        t if t.contains("Binder Error") || t.contains("Catalog Error") || t.contains("Parser Error") => {
            ("InvalidQuery", binder_detail(t, sql))
        }
        t if t.contains("Conversion Error") => (
            "ConversionFailed",
            "a value cannot be converted to the type that the query asks for; try_cast gives NULL instead"
                .into(),
        ),
        t if t.contains("Out of Range Error") => {
            ("ValueOutOfRange", "a result does not fit its type; cast the operands to a wider one".into())
        }
        t if t.contains("Invalid Input Error") => (
            "InvalidQuery",
            "a function was given a value that it does not take, or parameters do not match".into(),
        ),
        _ => ("QueryFailed", "the engine could not run the query".into()),
    };
    Failure::new(code, detail)
}

/// Names that the engine complains about, if the caller wrote them himself.
fn binder_detail(text: &str, sql: &str) -> String {
    let (folded, mut named) = (sql.to_lowercase(), Vec::new());
    for name in text.split('"').skip(1).step_by(2).chain(quoted_call(text)) {
        let own = !name.is_empty() && name.len() <= 128 && folded.contains(&name.to_lowercase());
        if own && !named.contains(&name) {
            named.push(name);
        }
    }
    let first = text.lines().next().unwrap_or_default();
    match named.first() {
        Some(name)
            if first.contains("not found in FROM clause") || first.contains("does not have a column") =>
        {
            format!("column \"{name}\" does not exist in the relations that the query names")
        }
        Some(name) if first.contains("must appear in the GROUP BY") => {
            format!("column \"{name}\" must appear in GROUP BY or inside an aggregate")
        }
        Some(name) if first.contains("No function matches") => {
            format!("function {name} does not take arguments of these types")
        }
        Some(name) => format!("the query does not fit its relations; look at \"{name}\""),
        None => "the query does not fit its relations: check names, types and grouping".into(),
    }
}

/// `No function matches the given name and argument types 'abs(VARCHAR)'` quotes with apostrophes.
fn quoted_call(text: &str) -> Option<&str> {
    let rest = text.split_once("argument types '")?.1;
    rest.split_once('(').map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_from_the_callers_sql_come_back() {
        let text = "Binder Error: Referenced column \"nope\" not found in FROM clause!\nCandidate bindings: \"secret_column\"";
        let failure = from_text(text, "select nope from d.x");
        assert_eq!(failure.code, "InvalidQuery");
        assert_eq!(failure.detail, "column \"nope\" does not exist in the relations that the query names");
        let hidden = from_text(text, "select * from d.x");
        assert!(!hidden.detail.contains("secret"), "{}", hidden.detail);
    }

    #[test]
    fn codes_follow_the_kind_of_error() {
        for (text, code) in [
            ("Out of Memory Error: failed to allocate", "MemoryLimit"),
            ("INTERRUPT Error: Interrupted!", "QueryTimeout"),
            ("HTTP Error: HTTP GET error on 'http://127.0.0.1:1/x' (HTTP 404)", "ObjectUnavailable"),
            ("Conversion Error: Could not convert string 'secret' to INT32", "ConversionFailed"),
            ("FATAL Error: x", "QueryFailed"),
        ] {
            let failure = from_text(text, "");
            assert_eq!(failure.code, code);
            assert!(!failure.detail.contains("secret") && !failure.detail.contains("127.0.0.1"));
        }
    }
}
