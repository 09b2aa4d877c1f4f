//! What the schema cannot say of a Dag: inputs name outputs that exist, and nothing waits for itself.

use std::collections::{BTreeMap, BTreeSet};

use dagwright_crds::{
    conditions::INVALID_SPEC,
    dag::{DagSpec, Job, Source},
};

use crate::engine::Stall;

/// Checks the wiring.
pub(super) fn wiring(spec: &DagSpec) -> Result<(), Stall> {
    let outputs: BTreeMap<&str, BTreeSet<&str>> = spec
        .jobs
        .iter()
        .map(|j| (j.name.as_str(), j.outputs.iter().map(|o| o.name.as_str()).collect()))
        .collect();
    for (n, job) in spec.jobs.iter().enumerate() {
        for (i, input) in job.inputs.iter().enumerate() {
            let Source::Job(from) = &input.from else { continue };
            let path = format!("spec.jobs[{n}].inputs[{i}].from.job");
            let Some(ports) = outputs.get(from.name.as_str()) else {
                return Err(invalid(format!("{path}.name: the Dag has no job {:?}", from.name)));
            };
            if !ports.contains(from.output.as_str()) {
                return Err(invalid(format!(
                    "{path}.output: job {:?} has no output {:?}",
                    from.name, from.output
                )));
            }
        }
        let pool = spec.defaults.as_ref().and_then(|d| d.worker_pool_ref.as_ref());
        if job.worker_pool_ref.is_none() && pool.is_none() {
            return Err(invalid(format!(
                "spec.jobs[{n}].workerPoolRef: neither the job nor spec.defaults names a WorkerPool"
            )));
        }
    }
    datasets_named_once(spec)?;
    match cycle(&spec.jobs) {
        Some(path) => Err(invalid(format!("spec.jobs: jobs wait for each other: {}", path.join(" <- ")))),
        None => Ok(()),
    }
}

fn invalid(message: String) -> Stall {
    Stall::new(INVALID_SPEC, message)
}

fn datasets_named_once(spec: &DagSpec) -> Result<(), Stall> {
    let mut seen = BTreeMap::new();
    for (n, job) in spec.jobs.iter().enumerate() {
        for (o, output) in job.outputs.iter().enumerate() {
            let Some(dataset) = &output.dataset_ref else { continue };
            if let Some(first) = seen.insert(&dataset.name, job.name.as_str()) {
                return Err(invalid(format!(
                    "spec.jobs[{n}].outputs[{o}].datasetRef: Dataset {:?} is written by job {first:?} already",
                    dataset.name
                )));
            }
        }
    }
    Ok(())
}

/// Jobs that wait for each other, the first repeated at the end.
fn cycle(jobs: &[Job]) -> Option<Vec<String>> {
    let reads: BTreeMap<&str, Vec<&str>> = jobs
        .iter()
        .map(|job| {
            let sources = job.inputs.iter().filter_map(|i| match &i.from {
                Source::Job(from) => Some(from.name.as_str()),
                Source::DatasetRef(_) => None,
            });
            (job.name.as_str(), sources.collect())
        })
        .collect();
    let mut done = BTreeSet::new();
    for start in reads.keys() {
        let mut path = vec![*start];
        let mut open = vec![reads[start].iter()];
        while let Some(next) = open.last_mut() {
            match next.next() {
                Some(job) if done.contains(job) => {}
                Some(job) => {
                    if let Some(at) = path.iter().position(|p| p == job) {
                        let mut names: Vec<String> = path[at..].iter().map(|p| (*p).to_owned()).collect();
                        names.push((*job).to_owned());
                        return Some(names);
                    }
                    let Some(sources) = reads.get(job) else { continue };
                    path.push(job);
                    open.push(sources.iter());
                }
                None => {
                    open.pop();
                    done.extend(path.pop());
                }
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn job(name: &str, reads: &[&str]) -> Value {
        let inputs: Vec<_> = reads
            .iter()
            .map(|r| json!({ "name": format!("i{r}"), "from": { "job": { "name": r, "output": "out" } } }))
            .collect();
        json!({ "name": name, "operator": "sql_transform", "inputs": inputs, "outputs": [{ "name": "out" }] })
    }

    fn check(jobs: &[Value]) -> Result<(), String> {
        let spec = json!({ "defaults": { "workerPoolRef": { "name": "p" } }, "jobs": jobs });
        wiring(&serde_json::from_value(spec).unwrap()).map_err(|s| s.message)
    }

    #[test]
    fn a_diamond_is_fine_and_cycles_are_named() {
        assert_eq!(
            check(&[job("a", &[]), job("b", &["a"]), job("c", &["a"]), job("d", &["b", "c"])]),
            Ok(())
        );
        let error = check(&[job("a", &["c"]), job("b", &["a"]), job("c", &["b"])]).unwrap_err();
        assert_eq!(error, "spec.jobs: jobs wait for each other: a <- c <- b <- a");
        assert_eq!(check(&[job("a", &["a"])]).unwrap_err(), "spec.jobs: jobs wait for each other: a <- a");
    }

    #[test]
    fn unknown_references_are_named_by_path() {
        let error = check(&[job("a", &[]), job("b", &["x"])]).unwrap_err();
        assert_eq!(error, "spec.jobs[1].inputs[0].from.job.name: the Dag has no job \"x\"");
        let mut reader = job("b", &["a"]);
        reader["inputs"][0]["from"]["job"]["output"] = json!("nope");
        let error = check(&[job("a", &[]), reader]).unwrap_err();
        assert_eq!(error, "spec.jobs[1].inputs[0].from.job.output: job \"a\" has no output \"nope\"");
    }
}
