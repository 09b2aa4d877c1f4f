//! The gate: which SQL of a stranger may run at all, and over which datasets.
//!
//! DuckDB's own parser gives the tree (`json_serialize_sql` serialises a SELECT and nothing else), a default-deny walk reads
//! it, and what runs is the tree printed back, never the caller's text. Another parser would read FROM-first, dollar quotes or
//! lambdas differently, and each difference would be a hole. The gate runs in the engine's own process, before anything is
//! bound there: a parser that crashes takes down one query.

mod rules;
#[cfg(test)]
mod tests;
mod walk;

use std::collections::{BTreeSet, HashSet};

use duckdb::{Config, Connection};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use walk::{Found, Walker};

/// A dataset as SQL names it, lower case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DatasetName {
    pub schema: String,
    pub table: String,
}

impl std::fmt::Display for DatasetName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.schema, self.table)
    }
}

/// SQL that may run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// The text to execute.
    pub canonical: String,
    /// The datasets that it names.
    pub datasets: BTreeSet<DatasetName>,
    /// The functions that it calls, for the audit log.
    pub functions: BTreeSet<String>,
}

/// Why SQL may not run. Every text here is about the caller's own SQL; none comes from the engine but a syntax error's.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum Refusal {
    #[error("the SQL has {0} bytes; at most {max} are allowed", max = rules::MAX_SQL_BYTES)]
    TooLong(usize),
    #[error("{message}{}", position.map(|p| format!(" at character {p}")).unwrap_or_default())]
    Syntax { message: String, position: Option<usize> },
    #[error(
        "only one SELECT statement is allowed; to learn a dataset's columns ask GET /v1/datasets/{{name}}/schema"
    )]
    NotOneSelect,
    #[error("the query is too large: {0}")]
    TooComplex(&'static str),
    #[error("{0} is not available in queries")]
    Construct(String),
    #[error("\"{0}\" is no WITH entry in scope; write datasets as namespace.dataset, with _ for -")]
    Unqualified(String),
    #[error("dataset \"{0}\" does not exist or you may not read it")]
    UnknownDataset(String),
    #[error("a WITH entry must be named with letters, digits and _ only, not \"{0}\"")]
    CteName(String),
    #[error("function {0} is not available in queries")]
    Function(String),
    #[error("\"{0}\" cannot stand in FROM; unnest, range and generate_series can")]
    TableFunction(String),
    #[error("a literal argument of {function} is larger than {cap}")]
    LiteralTooLarge { function: String, cap: f64 },
    #[error("type \"{0}\" is not available in casts")]
    Type(String),
    #[error("the parser failed")]
    Parser,
}

impl Refusal {
    /// Stable, for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLong(_) | Self::TooComplex(_) | Self::LiteralTooLarge { .. } => "QueryTooLarge",
            Self::Syntax { .. } => "SyntaxError",
            Self::NotOneSelect => "NotOneSelect",
            Self::UnknownDataset(_) | Self::Unqualified(_) => "UnknownDataset",
            Self::Construct(_) | Self::CteName(_) | Self::TableFunction(_) => "ConstructNotAllowed",
            Self::Function(_) => "FunctionNotAllowed",
            Self::Type(_) => "TypeNotAllowed",
            Self::Parser => "EngineFailed",
        }
    }
}

/// A parser of its own: an engine instance without extensions, datasets or access to anything.
pub struct Gate {
    parser: Connection,
}

impl Gate {
    /// Opens and locks the parser's instance.
    ///
    /// # Errors
    /// When the engine cannot be opened.
    pub fn open() -> duckdb::Result<Self> {
        let config = Config::default()
            .with("autoinstall_known_extensions", "false")?
            .with("autoload_known_extensions", "false")?
            .with("allow_community_extensions", "false")?
            .with("memory_limit", "256MB")?
            .with("threads", "1")?;
        let parser = Connection::open_in_memory_with_flags(config)?;
        parser.execute_batch(
            "SET temp_directory=''; SET enable_external_access=false; SET disabled_filesystems='LocalFileSystem';
             SET lock_configuration=true;",
        )?;
        Ok(Self { parser })
    }

    /// Decides whether `sql` may run for a caller who sees `visible`.
    ///
    /// The canonical text is parsed and walked again, so that what is accepted is what will run. Equal trees cannot be asked
    /// for (VALUES gains a subquery per round), equal datasets can.
    ///
    /// # Errors
    /// A refusal with its reason.
    pub fn check(&self, sql: &str, visible: &HashSet<DatasetName>) -> Result<Accepted, Refusal> {
        if sql.len() > rules::MAX_SQL_BYTES {
            return Err(Refusal::TooLong(sql.len()));
        }
        let tree = self.parse(sql)?;
        let Found { datasets, functions } = Walker::new(visible).run(&tree.statement)?;
        let canonical = self.print(&tree.json)?;
        let again = Walker::new(visible).with_slack().run(&self.parse(&canonical)?.statement)?;
        if again.datasets != datasets {
            return Err(Refusal::Parser);
        }
        Ok(Accepted { canonical, datasets, functions })
    }

    fn parse(&self, sql: &str) -> Result<Tree, Refusal> {
        let query = "SELECT json_serialize_sql(?::VARCHAR)::VARCHAR";
        let json: String =
            self.parser.query_row(query, [sql], |row| row.get(0)).map_err(|_| Refusal::Parser)?;
        // Bounds the recursion of the reader, of the walk and of the value's destructor.
        if bracket_depth(&json) > rules::MAX_DEPTH {
            return Err(Refusal::TooComplex("it is nested too deeply"));
        }
        let mut reader = serde_json::Deserializer::from_str(&json);
        reader.disable_recursion_limit();
        let mut parsed = Value::deserialize(&mut reader).map_err(|_| Refusal::Parser)?;
        if parsed["error"] != Value::Bool(false) {
            return Err(parse_error(&parsed));
        }
        match parsed["statements"].as_array_mut().map(std::mem::take) {
            Some(mut statements) if statements.len() == 1 => {
                Ok(Tree { json, statement: statements.pop().unwrap_or_default() })
            }
            _ => Err(Refusal::NotOneSelect),
        }
    }

    fn print(&self, json: &str) -> Result<String, Refusal> {
        let query = "SELECT json_deserialize_sql(?::JSON)";
        self.parser.query_row(query, [json], |row| row.get(0)).map_err(|_| Refusal::Parser)
    }
}

struct Tree {
    json: String,
    statement: Value,
}

fn parse_error(parsed: &Value) -> Refusal {
    if parsed["error_type"] != "parser" {
        return Refusal::NotOneSelect;
    }
    let message = parsed["error_message"].as_str().unwrap_or("syntax error").to_owned();
    let position = parsed["position"].as_str().and_then(|p| p.parse::<usize>().ok());
    Refusal::Syntax { message, position: position.map(|p| p + 1) }
}

/// How deeply the brackets of a JSON text nest, strings skipped.
fn bracket_depth(json: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}
