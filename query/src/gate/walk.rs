//! The walk over the parse tree: default deny, names resolved where they stand.
//!
//! A common table expression sees its earlier siblings and what encloses it, itself only in the recursive arm. Whatever the
//! walk takes for a CTE but the engine does not is looked up in the engine's catalog, so the two must agree exactly.

use std::collections::{BTreeSet, HashSet};

use serde_json::{Map, Value};

use super::{
    DatasetName, Refusal,
    rules::{self, MAX_DEPTH, MAX_NODES, MAX_SET_OPERATIONS, MAX_TABLE_REFS},
};

type Node = Map<String, Value>;

/// What a walk found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) datasets: BTreeSet<DatasetName>,
    pub(super) functions: BTreeSet<String>,
}

/// A CTE in scope and how many tables one reference to it stands for.
struct Cte {
    name: String,
    table_refs: u64,
}

pub(super) struct Walker<'a> {
    visible: &'a HashSet<DatasetName>,
    scope: Vec<Cte>,
    depth: usize,
    nodes: usize,
    node_limit: usize,
    set_operations: usize,
    /// Table references of the query that is being walked, CTEs expanded.
    table_refs: u64,
    found: Found,
}

impl<'a> Walker<'a> {
    pub(super) fn new(visible: &'a HashSet<DatasetName>) -> Self {
        Self {
            visible,
            scope: Vec::new(),
            depth: 0,
            nodes: 0,
            node_limit: MAX_NODES,
            set_operations: 0,
            table_refs: 0,
            found: Found::default(),
        }
    }

    /// Printing a tree adds a few nodes, such as a subquery around VALUES; the second walk must not refuse for that.
    pub(super) fn with_slack(mut self) -> Self {
        self.node_limit = 2 * MAX_NODES;
        self
    }

    pub(super) fn run(mut self, statement: &Value) -> Result<Found, Refusal> {
        self.value(statement)?;
        Ok(self.found)
    }

    fn value(&mut self, value: &Value) -> Result<(), Refusal> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Refusal::TooComplex("it is nested too deeply"));
        }
        let result = match value {
            Value::Array(items) => items.iter().try_for_each(|item| self.value(item)),
            Value::Object(node) => self.node(node),
            _ => Ok(()),
        };
        self.depth -= 1;
        result
    }

    fn node(&mut self, node: &Node) -> Result<(), Refusal> {
        let kind = node.get("type").and_then(Value::as_str);
        if let Some(kind) = kind {
            self.admit(kind)?;
        } else if node.contains_key("class") {
            return Err(Refusal::Construct("an expression without a type".into()));
        }
        match kind {
            Some("VALUE_CONSTANT") => return Ok(()),
            Some("TABLE_FUNCTION") => return self.table_function(node),
            Some("RECURSIVE_CTE_NODE") => {
                return Err(Refusal::Construct("a recursive query outside of a WITH RECURSIVE entry".into()));
            }
            Some("CTE_NODE") => return Err(Refusal::Construct("CTE_NODE".into())),
            Some("BASE_TABLE") => self.base_table(node)?,
            Some("FUNCTION") => self.function(node)?,
            Some(window) if window.starts_with("WINDOW_") => self.function(node)?,
            Some("COLLATE") => check_collation(text(node, "collation"))?,
            Some("PIVOT") => check_pivot(node)?,
            Some("UNBOUND_TYPE_INFO") => check_type_info(node)?,
            _ => {}
        }
        let outer = self.scope.len();
        self.enter_ctes(node)?;
        let result = self.children(node);
        self.scope.truncate(outer);
        result
    }

    fn admit(&mut self, kind: &str) -> Result<(), Refusal> {
        if !rules::node_allowed(kind) {
            return Err(Refusal::Construct(kind.to_lowercase()));
        }
        self.nodes += 1;
        if self.nodes > self.node_limit {
            return Err(Refusal::TooComplex("it has too many expressions"));
        }
        if kind == "SET_OPERATION_NODE" {
            self.set_operations += 1;
            if self.set_operations > MAX_SET_OPERATIONS {
                return Err(Refusal::TooComplex("it has too many set operations"));
            }
        }
        Ok(())
    }

    fn children(&mut self, node: &Node) -> Result<(), Refusal> {
        for (key, child) in node {
            match key.as_str() {
                "cast_type" => check_cast(child)?,
                "cte_map" => {}
                _ => self.value(child)?,
            }
        }
        Ok(())
    }

    /// Walks the entries of a WITH in source order, each pushed only after its own query was walked.
    fn enter_ctes(&mut self, node: &Node) -> Result<(), Refusal> {
        let Some(map) = node.get("cte_map") else { return Ok(()) };
        let entries = map.get("map").and_then(Value::as_array).ok_or_else(|| malformed("cte_map"))?;
        for entry in entries {
            let name = entry.get("key").and_then(Value::as_str).unwrap_or_default().to_lowercase();
            if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
                return Err(Refusal::CteName(name));
            }
            let body =
                entry.get("value").and_then(Value::as_object).ok_or_else(|| malformed("WITH entry"))?;
            let before = std::mem::take(&mut self.table_refs);
            self.cte_body(&name, body)?;
            let table_refs = std::mem::replace(&mut self.table_refs, before).max(1);
            self.scope.push(Cte { name, table_refs });
        }
        Ok(())
    }

    fn cte_body(&mut self, name: &str, body: &Node) -> Result<(), Refusal> {
        let query = body.get("query").and_then(|q| q.get("node")).and_then(Value::as_object);
        let query = query.ok_or_else(|| malformed("WITH entry"))?;
        for (key, child) in body {
            if key != "query" {
                self.value(child)?;
            }
        }
        if text(query, "type") == "RECURSIVE_CTE_NODE" {
            return self.recursive(name, query);
        }
        self.depth += 1;
        let result = self.node(query);
        self.depth -= 1;
        result
    }

    /// Only the right arm of a recursive CTE sees the CTE itself.
    fn recursive(&mut self, name: &str, query: &Node) -> Result<(), Refusal> {
        self.admit("RECURSIVE_CTE_NODE")?;
        let own = query.get("cte_map").and_then(|m| m.get("map")).and_then(Value::as_array);
        if !text(query, "cte_name").eq_ignore_ascii_case(name) || own.is_some_and(|own| !own.is_empty()) {
            return Err(malformed("WITH RECURSIVE entry"));
        }
        for (key, child) in query {
            if key != "right" && key != "cte_map" {
                self.value(child)?;
            }
        }
        self.scope.push(Cte { name: name.to_owned(), table_refs: 1 });
        let result = self.value(query.get("right").unwrap_or(&Value::Null));
        self.scope.pop();
        result
    }

    fn base_table(&mut self, node: &Node) -> Result<(), Refusal> {
        if !node.get("at_clause").is_none_or(Value::is_null) {
            return Err(Refusal::Construct("an AT clause".into()));
        }
        let (catalog, schema, table) =
            (text(node, "catalog_name"), text(node, "schema_name"), text(node, "table_name"));
        if catalog.is_empty() && schema.is_empty() {
            let cte = self.scope.iter().rev().find(|cte| cte.name == table.to_lowercase());
            let refs = cte.map(|cte| cte.table_refs).ok_or_else(|| Refusal::Unqualified(table.to_owned()))?;
            return self.count_tables(refs);
        }
        let dataset = DatasetName { schema: schema.to_lowercase(), table: table.to_lowercase() };
        if !catalog.is_empty() || !self.visible.contains(&dataset) {
            let parts = [catalog, schema, table].into_iter().filter(|part| !part.is_empty());
            return Err(Refusal::UnknownDataset(parts.collect::<Vec<_>>().join(".")));
        }
        self.found.datasets.insert(dataset);
        self.count_tables(1)
    }

    fn count_tables(&mut self, refs: u64) -> Result<(), Refusal> {
        self.table_refs = self.table_refs.saturating_add(refs);
        if self.table_refs > MAX_TABLE_REFS {
            return Err(Refusal::TooComplex("it reads too many tables, counting each use of a WITH entry"));
        }
        Ok(())
    }

    fn function(&mut self, node: &Node) -> Result<(), Refusal> {
        let name = text(node, "function_name").to_lowercase();
        if !(matches!(text(node, "schema"), "" | "main") && text(node, "catalog").is_empty()) {
            return Err(Refusal::Function(format!("{}.{name}", text(node, "schema"))));
        }
        if !rules::function_allowed(&name)
            || node.get("export_state").is_some_and(|v| v == &Value::Bool(true))
        {
            return Err(Refusal::Function(name));
        }
        let arguments = node.get("children").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        check_arguments(&name, arguments)?;
        self.found.functions.insert(name);
        Ok(())
    }

    fn table_function(&mut self, node: &Node) -> Result<(), Refusal> {
        let call =
            node.get("function").and_then(Value::as_object).ok_or_else(|| malformed("table function"))?;
        let name = text(call, "function_name").to_lowercase();
        if text(call, "type") != "FUNCTION" || !rules::table_function_allowed(&name) {
            return Err(Refusal::TableFunction(name));
        }
        self.count_tables(1)?;
        self.children(node)
    }
}

fn text<'n>(node: &'n Node, key: &str) -> &'n str {
    node.get(key).and_then(Value::as_str).unwrap_or("")
}

fn malformed(what: &str) -> Refusal {
    Refusal::Construct(format!("a {what} of a shape that this service does not know"))
}

fn check_arguments(name: &str, arguments: &[Value]) -> Result<(), Refusal> {
    if rules::calls_by_name(name) {
        let called = arguments
            .get(1)
            .filter(|a| a["type"] == "VALUE_CONSTANT")
            .and_then(|a| a["value"]["value"].as_str());
        match called {
            Some(called) if rules::function_allowed(&called.to_lowercase()) => {}
            _ => return Err(Refusal::Function(format!("{name} with anything but the name of an aggregate"))),
        }
    }
    let Some(cap) = rules::literal_cap(name) else { return Ok(()) };
    if arguments.iter().filter_map(literal).any(|n| n.abs() > cap) {
        return Err(Refusal::LiteralTooLarge { function: name.to_owned(), cap });
    }
    Ok(())
}

/// The number that an argument spells, through casts and signs.
fn literal(argument: &Value) -> Option<f64> {
    match argument["type"].as_str()? {
        "VALUE_CONSTANT" => match &argument["value"]["value"] {
            Value::Number(n) => n.as_f64(),
            Value::String(s) => s.trim().parse().ok(),
            // Numbers beyond 64 bits are objects here; nothing legitimate repeats that often.
            Value::Object(_) => Some(f64::INFINITY),
            _ => None,
        },
        "OPERATOR_CAST" => literal(&argument["child"]),
        "FUNCTION" => match argument["children"].as_array()?.as_slice() {
            [only] => literal(only),
            [a, b] => match argument["function_name"].as_str()? {
                "*" => Some(literal(a)? * literal(b)?),
                "+" | "-" => Some(literal(a)?.abs() + literal(b)?.abs()),
                "^" | "**" | "pow" | "power" => Some(literal(a)?.powf(literal(b)?)),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    }
}

fn check_collation(collation: &str) -> Result<(), Refusal> {
    if rules::collation_allowed(collation) {
        Ok(())
    } else {
        Err(Refusal::Construct(format!("collation {collation}")))
    }
}

/// `FOR x IN name` would look up a type in the catalogs.
fn check_pivot(node: &Node) -> Result<(), Refusal> {
    let pivots = node.get("pivots").and_then(Value::as_array);
    let by_enum =
        pivots.into_iter().flatten().any(|p| p["pivot_enum"].as_str().is_some_and(|name| !name.is_empty()));
    if by_enum { Err(Refusal::Construct("PIVOT over an enum type".into())) } else { Ok(()) }
}

/// A cast may name only built-in types: a user type is looked up in attached catalogs.
fn check_cast(cast: &Value) -> Result<(), Refusal> {
    let id = cast["id"].as_str().unwrap_or_default();
    let composite = matches!(id, "UNBOUND" | "DECIMAL" | "LIST" | "STRUCT" | "ARRAY" | "MAP");
    if !composite && !rules::type_allowed(id) {
        return Err(Refusal::Type(id.to_lowercase()));
    }
    match &cast["type_info"] {
        Value::Null => Ok(()),
        Value::Object(info) => check_type_info(info),
        _ => Err(malformed("cast")),
    }
}

fn check_type_info(info: &Node) -> Result<(), Refusal> {
    match text(info, "type") {
        "UNBOUND_TYPE_INFO" => {
            let qualified = !text(info, "catalog").is_empty() || !text(info, "schema").is_empty();
            let modified =
                info.get("user_type_modifiers").and_then(Value::as_array).is_some_and(|m| !m.is_empty());
            let name = text(info, "name");
            if qualified || modified || !rules::type_allowed(name) {
                return Err(Refusal::Type(name.to_lowercase()));
            }
            Ok(())
        }
        "DECIMAL_TYPE_INFO" | "STRING_TYPE_INFO" => Ok(()),
        "LIST_TYPE_INFO" | "ARRAY_TYPE_INFO" => check_cast(info.get("child_type").unwrap_or(&Value::Null)),
        "STRUCT_TYPE_INFO" => {
            let fields = info.get("child_types").and_then(Value::as_array);
            fields.into_iter().flatten().try_for_each(|field| check_cast(&field["second"]))
        }
        other => Err(Refusal::Type(other.to_lowercase())),
    }
}
