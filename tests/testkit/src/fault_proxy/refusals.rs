//! What AWS refuses and the emulator takes: with these on, code that only works on the emulator fails here.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use hyper::{Response, body::Bytes};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{aws, rules::Subject};

/// How long the name of a deleted queue cannot be used again.
const QUEUE_NAME_BLOCKED: Duration = Duration::from_secs(60);
const RUN_TASK_MOST: u64 = 10;

/// What is known of the account.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Account {
    /// Clusters that exist; with none given, every cluster is known. `CreateCluster` adds to them.
    pub clusters: BTreeSet<String>,
}

/// Decides what AWS would refuse. Time is an argument.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    account: Account,
    deleted: BTreeMap<String, Instant>,
    /// Task definition families that need a network.
    awsvpc: BTreeSet<String>,
}

/// Why AWS says no.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: &'static str,
    pub(super) message: String,
}

fn refusal(code: &'static str, message: impl Into<String>) -> Option<Refusal> {
    Some(Refusal { code, message: message.into() })
}

impl Refusals {
    pub(super) fn new(account: Account) -> Self {
        Self { account, ..Self::default() }
    }

    /// Judges a request before it is passed on.
    pub(super) fn judge(&self, subject: &Subject, request: &Value, now: Instant) -> Option<Refusal> {
        match (subject.service.as_deref()?, subject.operation.as_deref()?) {
            ("sqs", "CreateQueue") => self.judge_queue(request, now),
            ("ecs", operation) => self.judge_ecs(operation, request),
            _ => None,
        }
    }

    fn judge_queue(&self, request: &Value, now: Instant) -> Option<Refusal> {
        let deleted = self.deleted.get(request["QueueName"].as_str()?)?;
        if now.duration_since(*deleted) >= QUEUE_NAME_BLOCKED {
            return None;
        }
        refusal(
            "com.amazonaws.sqs#QueueDeletedRecently",
            "You must wait 60 seconds after deleting a queue before you can create another with the same name.",
        )
    }

    fn judge_ecs(&self, operation: &str, request: &Value) -> Option<Refusal> {
        const OF_A_CLUSTER: [&str; 10] = [
            "RunTask",
            "StartTask",
            "StopTask",
            "ListTasks",
            "DescribeTasks",
            "CreateService",
            "UpdateService",
            "DeleteService",
            "DescribeServices",
            "UpdateTaskProtection",
        ];
        if OF_A_CLUSTER.contains(&operation)
            && !self.knows_cluster(request["cluster"].as_str().unwrap_or("default"))
        {
            return refusal("ClusterNotFoundException", "Cluster not found.");
        }
        if operation == "RunTask" && request["count"].as_u64().is_some_and(|count| count > RUN_TASK_MOST) {
            return refusal("InvalidParameterException", "count should be less than or equal to 10.");
        }
        let starts = matches!(operation, "RunTask" | "CreateService");
        if starts && self.needs_network(request) && !has_subnets(request) {
            return refusal(
                "InvalidParameterException",
                "Network Configuration must be provided when networkMode 'awsvpc' is specified.",
            );
        }
        None
    }

    fn knows_cluster(&self, name: &str) -> bool {
        let known = &self.account.clusters;
        known.is_empty() || known.contains(name.rsplit('/').next().unwrap_or(name))
    }

    fn needs_network(&self, request: &Value) -> bool {
        let fargate = request["launchType"] == "FARGATE"
            || request["capacityProviderStrategy"].as_array().is_some_and(|all| {
                all.iter().any(|one| {
                    one["capacityProvider"].as_str().is_some_and(|name| name.starts_with("FARGATE"))
                })
            });
        fargate || request["taskDefinition"].as_str().is_some_and(|name| self.awsvpc.contains(family(name)))
    }

    /// Learns from a request that was applied.
    pub(super) fn learn(&mut self, subject: &Subject, request: &Value, now: Instant) {
        match subject.operation.as_deref() {
            Some("DeleteQueue") => {
                let name = request["QueueUrl"].as_str().and_then(|url| url.rsplit('/').next());
                self.deleted.extend(name.map(|name| (name.to_owned(), now)));
            }
            Some("RegisterTaskDefinition") if request["networkMode"] == "awsvpc" => {
                self.awsvpc.extend(request["family"].as_str().map(str::to_owned));
            }
            Some("CreateCluster") if !self.account.clusters.is_empty() => {
                self.account.clusters.extend(request["clusterName"].as_str().map(str::to_owned));
            }
            _ => {}
        }
    }
}

impl Refusal {
    pub(super) fn response(&self, subject: &Subject) -> Response<Bytes> {
        aws::error(subject, 400, self.code, &self.message)
    }
}

fn has_subnets(request: &Value) -> bool {
    request["networkConfiguration"]["awsvpcConfiguration"]["subnets"]
        .as_array()
        .is_some_and(|all| !all.is_empty())
}

/// `family` of `family:revision`, or of an ARN that ends so.
fn family(name: &str) -> &str {
    let name = name.rsplit('/').next().unwrap_or(name);
    name.split(':').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn subject(service: &str, operation: &str) -> Subject {
        Subject { service: Some(service.into()), operation: Some(operation.into()), ..Subject::default() }
    }

    #[test]
    fn a_queue_name_is_blocked_for_a_minute() {
        let (mut refusals, start) = (Refusals::default(), Instant::now());
        let (create, name) = (subject("sqs", "CreateQueue"), json!({ "QueueName": "q" }));
        assert_eq!(refusals.judge(&create, &name, start), None);
        refusals.learn(
            &subject("sqs", "DeleteQueue"),
            &json!({ "QueueUrl": "http://host/000000000000/q" }),
            start,
        );
        let soon = refusals.judge(&create, &name, start + Duration::from_secs(59)).unwrap();
        assert!(soon.code.ends_with("QueueDeletedRecently"));
        assert_eq!(refusals.judge(&create, &json!({ "QueueName": "other" }), start), None);
        assert_eq!(refusals.judge(&create, &name, start + Duration::from_secs(60)), None);
    }

    #[test]
    fn ecs_wants_a_network_a_known_cluster_and_ten_tasks_at_most() {
        let mut refusals = Refusals::new(Account { clusters: ["known".to_owned()].into() });
        let code = |refusals: &Refusals, operation, request: &Value| {
            refusals.judge(&subject("ecs", operation), request, Instant::now()).map(|refusal| refusal.code)
        };
        let network = json!({ "awsvpcConfiguration": { "subnets": ["subnet-1"] } });
        let mut run = json!({ "cluster": "known", "launchType": "FARGATE", "networkConfiguration": network, "count": 10 });
        assert_eq!(code(&refusals, "RunTask", &run), None);
        run["count"] = json!(11);
        assert_eq!(code(&refusals, "RunTask", &run), Some("InvalidParameterException"));
        let bare =
            json!({ "cluster": "known", "taskDefinition": "arn:aws:ecs:r:0:task-definition/worker:3" });
        assert_eq!(code(&refusals, "CreateService", &bare), None);
        let definition = json!({ "family": "worker", "networkMode": "awsvpc" });
        refusals.learn(&subject("ecs", "RegisterTaskDefinition"), &definition, Instant::now());
        assert_eq!(code(&refusals, "CreateService", &bare), Some("InvalidParameterException"));
        let elsewhere = json!({ "cluster": "arn:aws:ecs:r:0:cluster/unknown" });
        assert_eq!(code(&refusals, "ListTasks", &elsewhere), Some("ClusterNotFoundException"));
    }
}
