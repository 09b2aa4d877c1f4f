//! The benchmarks by name. Each is a file; to add one, add its line here.

use futures::future::LocalBoxFuture;

use crate::{b1, b2, b3, b4, b5, report::Measurement, rig::Rig};

/// Runs and says what came of it.
type Run = for<'a> fn(&'a Rig) -> LocalBoxFuture<'a, anyhow::Result<Vec<Measurement>>>;

/// One benchmark.
pub(crate) struct Benchmark {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) run: Run,
}

/// In the order in which `all` runs them: B3 and B5 use what B1 measured.
pub(crate) const ALL: [Benchmark; 5] = [
    Benchmark { name: "B1", about: "trivial tasks end to end", run: |rig| Box::pin(b1::run(rig)) },
    Benchmark { name: "B2", about: "commit to start of the next task", run: |rig| Box::pin(b2::run(rig)) },
    Benchmark { name: "B3", about: "B1 among old and queued tasks", run: |rig| Box::pin(b3::run(rig)) },
    Benchmark { name: "B4", about: "objects applied by the thousand", run: |rig| Box::pin(b4::run(rig)) },
    Benchmark { name: "B5", about: "B1 beside dbos and graphile_worker", run: |rig| Box::pin(b5::run(rig)) },
];

/// The benchmarks that were asked for.
///
/// # Errors
/// When a name is none.
pub(crate) fn select(names: &[String]) -> anyhow::Result<Vec<&'static Benchmark>> {
    if names.iter().any(|name| name.eq_ignore_ascii_case("all")) {
        return Ok(ALL.iter().collect());
    }
    let find = |name: &String| {
        ALL.iter().find(|b| b.name.eq_ignore_ascii_case(name)).ok_or_else(|| {
            let known: Vec<_> = ALL.iter().map(|b| format!("{} ({})", b.name, b.about)).collect();
            anyhow::anyhow!("there is no benchmark {name}; there are {}, and all", known.join(", "))
        })
    };
    names.iter().map(find).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_any_case_and_unknown_ones_are_told_the_known() {
        let found = select(&["b2".into(), "B1".into()]).unwrap();
        assert_eq!(found.iter().map(|b| b.name).collect::<Vec<_>>(), ["B2", "B1"]);
        assert_eq!(select(&["b1".into(), "all".into()]).unwrap().len(), ALL.len());
        let error = select(&["B9".into()]).err().unwrap().to_string();
        assert!(error.contains("B9") && error.contains("B1 (trivial tasks end to end)"), "{error}");
    }
}
