//! The CEL rules of all kinds, in one table: kind, path of the schema they sit at, rule, message.
//!
//! A path is written with `.` between properties and `[]` for the items of a list; the empty path is the object itself.
//! The messages are what a user reads from `kubectl apply`, behind the path of the field.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::ValidationRule;

use crate::common::{GoDuration, ROLE_ARN};
use crate::dag::CRON;
use crate::dataset::SQL_TYPE;
use crate::rpc_pool::PLAIN_URL;
use crate::worker_pool::FARGATE_SIZES;

/// One rule.
pub(crate) struct Rule {
    pub(crate) kind: &'static str,
    pub(crate) path: &'static str,
    pub(crate) rule: String,
    pub(crate) message: String,
}

const UNIQUE: &str = "self.all(a, self.exists_one(b, b.name == a.name))";
const UNIQUE_VALUES: &str = "self.all(a, self.exists_one(b, b == a))";
const IMMUTABLE: &str = "self == oldSelf";

/// Every rule.
pub(crate) fn all() -> Vec<Rule> {
    let mut rules = names();
    rules.extend(immutables());
    rules.extend(durations());
    rules.extend(patterns());
    rules.extend(tables());
    rules.extend(relations());
    rules
}

/// The rule of a union. It counts, because `exists_one` over a list costs more than a schema with 200 jobs may spend.
pub(crate) fn exactly_one(keys: &[String]) -> ValidationRule {
    let counted: Vec<_> = keys.iter().map(|key| format!("(has(self.{key}) ? 1 : 0)")).collect();
    ValidationRule {
        rule: format!("{} == 1", counted.join(" + ")),
        message: Some(format!("set exactly one of: {}", keys.join(", "))),
        ..Default::default()
    }
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
            rule: format!(
                "self.matches('{}') && duration(self) >= duration('{least}') && duration(self) <= duration('{most}')",
                GoDuration::PATTERN
            ),
            message: format!("{} must be from {least} to {most}, written like 30s, 5m or 1h30m", field(path)),
        })
        .collect()
}

/// What to write, for patterns that do not read well themselves.
fn patterns() -> Vec<Rule> {
    let table: &[(&'static str, &'static str, &str, &str)] = &[
        (
            "Dataset",
            "spec.schema.columns[].type",
            SQL_TYPE,
            "type must be one of SQL in upper case, such as BIGINT, DECIMAL(38, 0), VARCHAR or VARCHAR[]",
        ),
        (
            "RpcPool",
            "spec.providers[].url.value",
            PLAIN_URL,
            "value must be an http or https URL without user name and password; a URL with a key belongs into a Secret, named by secretKeyRef",
        ),
        (
            "WorkerPool",
            "spec.roles.task",
            ROLE_ARN,
            "task must be the ARN of a role, such as arn:aws:iam::123456789012:role/worker",
        ),
        (
            "WorkerPool",
            "spec.roles.execution",
            ROLE_ARN,
            "execution must be the ARN of a role, such as arn:aws:iam::123456789012:role/execution",
        ),
        (
            "Dag",
            "spec.jobs[].activation.cron.schedule",
            CRON,
            "schedule must be five cron fields, such as 0 3 * * *",
        ),
    ];
    table
        .iter()
        .map(|&(kind, path, pattern, message)| {
            rule(kind, path, &format!("self.matches(r'{pattern}')"), message)
        })
        .collect()
}

/// What the parts of a Dataset ask of each other.
fn tables() -> Vec<Rule> {
    vec![
        rule("Dataset", "spec.uniqueKey", UNIQUE_VALUES, "uniqueKey must name each column once"),
        rule("Dataset", "spec.readRoles", UNIQUE_VALUES, "readRoles must name each role once"),
        rule(
            "Dataset",
            "spec",
            "!has(self.schema.columns) || !has(self.uniqueKey) || self.uniqueKey.all(k, self.schema.columns.exists(c, c.name == k))",
            "uniqueKey must name columns of schema.columns",
        ),
        rule(
            "Dataset",
            "spec",
            "!has(self.partitioning) || !has(self.partitioning.hash) || (has(self.uniqueKey) && self.uniqueKey.size() > 0)",
            "partitioning by hash needs a uniqueKey: its hash decides where a row goes",
        ),
    ]
}

fn relations() -> Vec<Rule> {
    // The defaults stand here too: 1h against a maxBackoff that was left out is a contradiction as well.
    let retry = "duration(has(self.backoff) ? self.backoff : '5s') <= duration(has(self.maxBackoff) ? self.maxBackoff : '10m')";
    let retry_message = "backoff (default 5s) must not be longer than maxBackoff (default 10m)";
    vec![
        rule("ChainSync", "spec.retry", retry, retry_message),
        rule("Dag", "spec.defaults.retry", retry, retry_message),
        rule("Dag", "spec.jobs[].retry", retry, retry_message),
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
            "spec.jobs[]",
            "!has(self.inputs) || self.inputs.all(i, !has(i.from.job) || i.from.job.name != self.name)",
            "a job cannot read its own output",
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
