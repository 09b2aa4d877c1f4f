//! The CEL rules of all kinds, in one table: kind, path of the schema they sit at, rule, message.
//!
//! A path is written with `.` between properties and `[]` for the items of a list; the empty path is the object itself.
//! The messages are what a user reads from `kubectl apply`, behind the path of the field.

use crate::worker_pool::FARGATE_SIZES;

/// One rule.
pub(crate) struct Rule {
    pub(crate) kind: &'static str,
    pub(crate) path: &'static str,
    pub(crate) rule: String,
    pub(crate) message: String,
}

const UNIQUE: &str = "self.all(a, self.exists_one(b, b.name == a.name))";
const IMMUTABLE: &str = "self == oldSelf";

/// Every rule.
pub(crate) fn all() -> Vec<Rule> {
    let mut rules = names();
    rules.extend(immutables());
    rules.extend(durations());
    rules.extend(relations());
    rules
}

fn rule(kind: &'static str, path: &'static str, rule: &str, message: &str) -> Rule {
    Rule { kind, path, rule: rule.into(), message: message.into() }
}

fn names() -> Vec<Rule> {
    let mut rules: Vec<Rule> = ["Dag", "ChainSync", "WorkerPool", "RpcPool"]
        .into_iter()
        .map(|kind| {
            rule(
                kind,
                "",
                "self.metadata.name.size() <= 52 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
                "metadata.name must be a DNS label of at most 52 characters: lower-case letters, digits and -, beginning with a letter",
            )
        })
        .collect();
    rules.push(rule(
        "Dataset",
        "",
        "self.metadata.name.matches('^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$')",
        "metadata.name must be at most 40 characters: lower-case letters, digits and -, beginning with a letter, not ending with -",
    ));
    rules
}

fn immutables() -> Vec<Rule> {
    vec![
        rule("ChainSync", "spec.chain", IMMUTABLE, "chain cannot be changed: create another ChainSync"),
        rule("RpcPool", "spec.chain", IMMUTABLE, "chain cannot be changed: create another RpcPool"),
        rule("Dataset", "spec.schema", IMMUTABLE, "schema cannot be changed: create another Dataset"),
        rule("Dataset", "spec.storage", IMMUTABLE, "storage cannot be changed: create another Dataset"),
        rule(
            "Dataset",
            "spec",
            "has(self.partitioning) == has(oldSelf.partitioning) && (!has(self.partitioning) || self.partitioning == oldSelf.partitioning)",
            "partitioning cannot be changed: create another Dataset",
        ),
    ]
}

fn durations() -> Vec<Rule> {
    let table: &[(&'static str, &'static str, &str, &str)] = &[
        ("RpcPool", "spec.timeout", "100ms", "5m"),
        ("RpcPool", "spec.failover.cordonFor", "1s", "24h"),
        ("WorkerPool", "spec.stopTimeout", "2s", "120s"),
        ("WorkerPool", "spec.queue.lease", "10s", "1h"),
        ("WorkerPool", "spec.run.service.cooldown", "0s", "1h"),
        ("ChainSync", "spec.timeout", "1s", "11h"),
        ("ChainSync", "spec.retry.backoff", "100ms", "1h"),
        ("ChainSync", "spec.retry.maxBackoff", "1s", "24h"),
        ("Dag", "spec.keepWarm", "0s", "720h"),
        ("Dag", "spec.defaults.timeout", "1s", "11h"),
        ("Dag", "spec.defaults.retry.backoff", "100ms", "1h"),
        ("Dag", "spec.defaults.retry.maxBackoff", "1s", "24h"),
        ("Dag", "spec.jobs[].timeout", "1s", "11h"),
        ("Dag", "spec.jobs[].retry.backoff", "100ms", "1h"),
        ("Dag", "spec.jobs[].retry.maxBackoff", "1s", "24h"),
    ];
    let field = |path: &str| path.rsplit('.').next().unwrap_or(path).to_owned();
    table
        .iter()
        .map(|&(kind, path, least, most)| Rule {
            kind,
            path,
            rule: format!("duration(self) >= duration('{least}') && duration(self) <= duration('{most}')"),
            message: format!("{} must be from {least} to {most}", field(path)),
        })
        .collect()
}

fn relations() -> Vec<Rule> {
    let retry =
        "!has(self.backoff) || !has(self.maxBackoff) || duration(self.backoff) <= duration(self.maxBackoff)";
    let retry_message = "backoff must not be longer than maxBackoff";
    vec![
        rule("ChainSync", "spec.retry", retry, retry_message),
        rule("Dag", "spec.defaults.retry", retry, retry_message),
        rule("ChainSync", "spec.mode.fixedTarget", "self.from < self.to", "to must be above from: the range is [from, to)"),
        rule(
            "ChainSync",
            "spec.streams",
            "self.all(s, s.outputs.all(o, self.map(t, t.outputs.filter(p, p.datasetRef.name == o.datasetRef.name).size()).sum() == 1))",
            "a Dataset can be named by one output only",
        ),
        Rule {
            kind: "WorkerPool",
            path: "spec",
            rule: fargate_rule(),
            message: "cpu and memoryMiB are no pair that Fargate runs; for 512 units, for example, memoryMiB is 1024, 2048, 3072 or 4096"
                .into(),
        },
        rule("WorkerPool", "spec.run.service", "!has(self.min) || self.min <= self.max", "max must not be below min"),
        rule(
            "WorkerPool",
            "spec.capacity",
            "self.filter(c, has(c.base) && c.base > 0).size() <= 1",
            "only one capacity provider can have a base",
        ),
        rule(
            "WorkerPool",
            "spec.capacity",
            "self.size() == 0 || self.exists(c, !has(c.weight) || c.weight > 0)",
            "at least one capacity provider must have a weight above 0",
        ),
        rule("Dag", "spec.jobs", UNIQUE, "jobs must have unique names"),
        rule(
            "Dag",
            "spec.jobs[]",
            "(has(self.inputs) ? self.inputs.size() : 0) + (has(self.outputs) ? self.outputs.size() : 0) <= 8",
            "a job can have at most 8 inputs and outputs together",
        ),
        rule(
            "Dag",
            "spec.jobs[]",
            "!has(self.activation) || !has(self.activation.input) || (has(self.inputs) && self.inputs.size() > 0)",
            "activation by input needs at least one input",
        ),
        rule(
            "Dag",
            "spec.jobs[].inputs",
            "self.all(i, !has(i.from.job) || i.from.job.name != '')",
            "an input must name the job that it reads",
        ),
    ]
}

/// The Fargate table as one expression, so that schema and code cannot disagree.
fn fargate_rule() -> String {
    let mut pairs = vec!["(self.cpu == 256 && self.memoryMiB == 512)".to_owned()];
    pairs.extend(FARGATE_SIZES.iter().map(|(cpu, least, most, step)| {
        format!(
            "(self.cpu == {cpu} && self.memoryMiB >= {least} && self.memoryMiB <= {most} && self.memoryMiB % {step} == 0)"
        )
    }));
    pairs.join(" || ")
}
