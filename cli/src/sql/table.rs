//! An answer as a table.

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table};
use dagwright_contracts::query::JsonResult;
use serde_json::Value;

/// Columns keep their full width: a hash that is cut is of no use to a person either.
pub(super) fn render(result: &JsonResult) -> Table {
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(result.columns.iter().map(|column| Cell::new(&column.name)));
    let numeric: Vec<bool> = result.columns.iter().map(|column| is_numeric(&column.data_type)).collect();
    for row in &result.rows {
        table.add_row(row.iter().zip(&numeric).map(|(value, numeric)| {
            let alignment = if *numeric { CellAlignment::Right } else { CellAlignment::Left };
            Cell::new(text(value)).set_alignment(alignment)
        }));
    }
    table
}

pub(super) fn footer(result: &JsonResult) -> String {
    let rows = match result.row_count {
        1 => "1 row".to_owned(),
        count => format!("{count} rows"),
    };
    match result.truncated {
        true => format!("{rows}, and more: raise --max-rows or ask for less"),
        false => rows,
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        // What a cell holds must not move the table or the terminal's cursor.
        Value::String(text) => text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect(),
        other => other.to_string(),
    }
}

/// Arrow's numeric types; wide integers and decimals come as strings but are numbers to the eye.
fn is_numeric(data_type: &str) -> bool {
    ["Int", "UInt", "Float", "Decimal"].iter().any(|prefix| data_type.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use dagwright_contracts::query::Column;
    use serde_json::json;

    fn answer(rows: Vec<Vec<Value>>, truncated: bool) -> JsonResult {
        let column = |name: &str, data_type: &str| Column { name: name.into(), data_type: data_type.into() };
        let columns = vec![column("chain", "Utf8"), column("blocks", "UInt64")];
        JsonResult { columns, row_count: rows.len() as u64, rows, truncated }
    }

    #[test]
    fn numbers_stand_right_and_nothing_is_null() {
        let rows = vec![vec![json!("local"), json!(512)], vec![Value::Null, json!("18000000")]];
        let expected = "\
┌───────┬──────────┐
│ chain ┆ blocks   │
╞═══════╪══════════╡
│ local ┆      512 │
│ NULL  ┆ 18000000 │
└───────┴──────────┘";
        assert_eq!(render(&answer(rows, false)).to_string(), expected);
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(text(&json!("a\u{1b}[2Jb")), "a\u{fffd}[2Jb");
    }

    #[test]
    fn the_footer_counts_and_warns() {
        assert_eq!(footer(&answer(vec![vec![json!("a"), json!(1)]], false)), "1 row");
        assert!(footer(&answer(Vec::new(), true)).starts_with("0 rows, and more"));
    }
}
