//! What a benchmark says: `{"machine": {…}, "results": [{"name", "value", "unit", "samples": [..]}]}`, or a table.

use serde::Serialize;

use crate::{machine::Machine, stats};

/// One number with the samples whose median it is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Measurement {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    pub(crate) samples: Vec<f64>,
}

impl Measurement {
    /// The median of samples; none without samples.
    pub(crate) fn median(name: impl Into<String>, unit: &'static str, samples: Vec<f64>) -> Option<Self> {
        Some(Self { name: name.into(), value: stats::median(&samples)?, unit, samples })
    }

    /// A number of its own.
    pub(crate) fn single(name: impl Into<String>, unit: &'static str, value: f64) -> Self {
        Self { name: name.into(), value, unit, samples: vec![value] }
    }
}

/// Everything that is printed.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) results: Vec<Measurement>,
}

impl Report {
    /// One JSON document.
    pub(crate) fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut table = comfy_table::Table::new();
        table.load_preset(comfy_table::presets::NOTHING);
        table.set_header(["result", "value", "unit", "samples"]);
        for m in &self.results {
            let shown: Vec<_> = m.samples.iter().take(5).map(|s| short(*s)).collect();
            let more = if m.samples.len() > 5 { " …" } else { "" };
            table.add_row([m.name.clone(), short(m.value), m.unit.to_owned(), shown.join(" ") + more]);
        }
        format!("{}\n{}\n", self.machine.text(), table.trim_fmt())
    }
}

/// Three digits that matter, or more.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "few digits, and never fewer than none"
)]
fn short(value: f64) -> String {
    match value.abs() {
        v if v > 0.0 && v < 1.0 => format!("{value:.*}", (2.0 - v.log10().floor()).min(9.0) as usize),
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_has_the_machine_and_the_results_and_nothing_else() {
        let results = vec![
            Measurement::median("dagwright tasks", "tasks/s", vec![3.0, 1.0, 2.0]).unwrap(),
            Measurement::single("B3 ratio to B1", "ratio", 0.95),
        ];
        let report = Report { machine: Machine::default(), results };
        let found: serde_json::Value = serde_json::from_str(&report.json().unwrap()).unwrap();
        assert_eq!(
            found["results"],
            json!([
                {"name": "dagwright tasks", "value": 2.0, "unit": "tasks/s", "samples": [3.0, 1.0, 2.0]},
                {"name": "B3 ratio to B1", "value": 0.95, "unit": "ratio", "samples": [0.95]},
            ])
        );
        let keys: Vec<_> = found.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["machine", "results"]);
    }

    #[test]
    fn small_numbers_keep_their_digits() {
        assert_eq!(
            [0.000_314_2, 0.95, 0.0, 2.5, 3699.4].map(short),
            ["0.000314", "0.950", "0", "2.50", "3699"]
        );
    }

    #[test]
    fn the_table_names_every_result_and_no_samples_make_none() {
        assert_eq!(Measurement::median("nothing", "s", vec![]), None);
        let results = vec![Measurement::single("B2 hot p99", "ms", 12.34)];
        let text = Report { machine: Machine::default(), results }.text();
        assert!(text.contains("B2 hot p99") && text.contains("12.3"), "{text}");
    }
}
