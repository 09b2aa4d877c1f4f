use std::collections::BTreeMap;

use dagwright_aws::{
    queues::QueueState,
    secrets::SecretState,
    services::{Life, Service, ServiceState},
    task_definitions::TaskDefinition,
};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{observe::Observed, validate::Wanted};
use crate::context::OWNER_TAG;

/// Docker label: hash of everything that a worker is started with.
pub(super) const CONTENT_LABEL: &str = "dagwright.dev/content";
/// Tag on the token's secret: hash of the token, as the state stores it.
pub(super) const TOKEN_TAG: &str = "dagwright.dev/token-sha256";
/// Two weeks, the longest that SQS keeps a message: a poison message waits for a person.
const DEAD_LETTER_RETENTION: &str = "1209600";

/// One thing to do, with everything that it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    CreateQueue {
        name: String,
        attributes: BTreeMap<String, String>,
    },
    SetQueueAttributes {
        url: String,
        attributes: BTreeMap<String, String>,
    },
    /// A new token; `exists` tells whether the secret is there.
    RotateToken {
        exists: bool,
    },
    Register(Box<TaskDefinition>),
    CreateService(Box<Service>),
    UpdateService(Box<Service>),
    /// The pool runs single tasks now.
    DeleteService {
        name: String,
    },
}

impl Action {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::CreateQueue { .. } => "create queue",
            Self::SetQueueAttributes { .. } => "set attributes of queue",
            Self::RotateToken { .. } => "write pool token",
            Self::Register(_) => "register task definition",
            Self::CreateService(_) => "create service",
            Self::UpdateService(_) => "update service",
            Self::DeleteService { .. } => "delete service",
        }
    }

    /// Whether it mends something that was there, as against making it.
    pub(super) fn corrects(&self) -> bool {
        matches!(self, Self::SetQueueAttributes { .. } | Self::UpdateService(_))
    }
}

/// What to do now, and what is waited for when that is nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) actions: Vec<Action>,
    pub(super) waiting: Option<String>,
}

/// What can be done with what there is; what needs the result comes in the next round.
pub(super) fn decide(wanted: &Wanted, seen: &Observed) -> Plan {
    let mut plan = Plan::default();
    queue(&mut plan, wanted.dead_letter_name(), seen.dead_letters.as_ref(), dead_letter_attributes());
    if let Some(dead_letters) = &seen.dead_letters {
        queue(
            &mut plan,
            wanted.aws_name.clone(),
            seen.queue.as_ref(),
            queue_attributes(wanted, &dead_letters.arn),
        );
    }
    if !seen.token_known {
        plan.actions.push(Action::RotateToken { exists: seen.secret.is_some() });
    }
    let (Some(queue), Some(secret), true) = (&seen.queue, &seen.secret, seen.token_known) else {
        return plan;
    };
    let definition = task_definition(wanted, queue, secret);
    let current = seen.task_definition.as_ref();
    match current.filter(|d| d.labels.get(CONTENT_LABEL) == definition.labels.get(CONTENT_LABEL)) {
        None => plan.actions.push(Action::Register(Box::new(definition))),
        Some(current) if wanted.service_count.is_some() => {
            service(&mut plan, wanted, seen.service.as_ref(), &current.arn);
        }
        Some(_) => no_service(&mut plan, wanted, seen.service.as_ref()),
    }
    plan
}

fn queue(plan: &mut Plan, name: String, seen: Option<&QueueState>, attributes: BTreeMap<String, String>) {
    match seen {
        None => plan.actions.push(Action::CreateQueue { name, attributes }),
        Some(queue) => {
            let differs = |(k, v): &(String, String)| !same(k, queue.attributes.get(k), v);
            let attributes: BTreeMap<_, _> = attributes.into_iter().filter(differs).collect();
            if !attributes.is_empty() {
                plan.actions.push(Action::SetQueueAttributes { url: queue.url.clone(), attributes });
            }
        }
    }
}

/// A redrive policy is JSON, which comes back with other spaces and with numbers as text or not.
fn same(key: &str, seen: Option<&String>, wanted: &str) -> bool {
    let Some(seen) = seen else { return false };
    if key != "RedrivePolicy" {
        return seen == wanted;
    }
    let read = |text: &str| {
        let value: serde_json::Value = serde_json::from_str(text).ok()?;
        let text = |v: &serde_json::Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
        Some((text(value.get("deadLetterTargetArn")?), text(value.get("maxReceiveCount")?)))
    };
    read(seen) == read(wanted)
}

fn dead_letter_attributes() -> BTreeMap<String, String> {
    BTreeMap::from([("MessageRetentionPeriod".to_owned(), DEAD_LETTER_RETENTION.to_owned())])
}

fn queue_attributes(wanted: &Wanted, dead_letter_arn: &str) -> BTreeMap<String, String> {
    let redrive = json!({ "deadLetterTargetArn": dead_letter_arn, "maxReceiveCount": wanted.max_receive_count.to_string() });
    BTreeMap::from([
        // Visibility is the lease: the heartbeat extends both.
        ("VisibilityTimeout".to_owned(), wanted.lease_seconds.to_string()),
        ("ReceiveMessageWaitTimeSeconds".to_owned(), "20".to_owned()),
        ("RedrivePolicy".to_owned(), redrive.to_string()),
    ])
}

fn task_definition(wanted: &Wanted, queue: &QueueState, secret: &SecretState) -> TaskDefinition {
    let container = &wanted.container;
    let mut environment = container.environment.clone();
    environment.insert("DAGWRIGHT_QUEUE_URL".into(), queue.url.clone());
    let mut definition = TaskDefinition {
        family: wanted.aws_name.clone(),
        image: container.image.clone(),
        cpu: container.cpu,
        memory_mib: container.memory_mib,
        ephemeral_storage_gib: container.ephemeral_storage_gib,
        architecture: container.architecture.into(),
        stop_timeout_seconds: container.stop_timeout_seconds,
        environment,
        secrets: BTreeMap::from([("DAGWRIGHT_POOL_TOKEN".to_owned(), secret.arn.clone())]),
        task_role_arn: container.task_role_arn.clone(),
        execution_role_arn: container.execution_role_arn.clone(),
        logs: container.logs.clone(),
        labels: BTreeMap::new(),
        tags: BTreeMap::from([(OWNER_TAG.to_owned(), wanted.owner.clone())]),
    };
    // A new token makes a new revision: ECS reads secrets when a worker starts.
    let token = secret.tags.get(TOKEN_TAG).cloned().unwrap_or_default();
    let content = Sha256::digest(format!("{definition:?}{token}").as_bytes());
    definition.labels.insert(CONTENT_LABEL.into(), hex::encode(&content[..16]));
    definition
}

fn service(plan: &mut Plan, wanted: &Wanted, seen: Option<&ServiceState>, task_definition_arn: &str) {
    let service = Service {
        name: wanted.aws_name.clone(),
        task_definition_arn: task_definition_arn.to_owned(),
        network: wanted.network.clone(),
        capacity: wanted.capacity.clone(),
        tags: BTreeMap::from([(OWNER_TAG.to_owned(), wanted.owner.clone())]),
    };
    match seen {
        None => plan.actions.push(Action::CreateService(Box::new(service))),
        Some(s) if s.life == Life::Draining => {
            plan.waiting = Some("the old service's last workers stop".into());
        }
        Some(s) if differs(s, &service) => plan.actions.push(Action::UpdateService(Box::new(service))),
        Some(_) => {}
    }
}

/// Its workers get SIGTERM and hand back what they hold; single tasks take over.
fn no_service(plan: &mut Plan, wanted: &Wanted, seen: Option<&ServiceState>) {
    if seen.is_some_and(|s| s.life == Life::Active) {
        plan.actions.push(Action::DeleteService { name: wanted.aws_name.clone() });
    }
}

fn differs(seen: &ServiceState, wanted: &Service) -> bool {
    let sorted = |mut list: Vec<String>| {
        list.sort();
        list
    };
    let mut shares = (seen.capacity.clone(), wanted.capacity.clone());
    shares.0.sort();
    shares.1.sort();
    seen.task_definition_arn != wanted.task_definition_arn
        || shares.0 != shares.1
        || sorted(seen.network.subnets.clone()) != sorted(wanted.network.subnets.clone())
        || sorted(seen.network.security_groups.clone()) != sorted(wanted.network.security_groups.clone())
        || seen.network.assign_public_ip != wanted.network.assign_public_ip
}

#[cfg(test)]
mod tests;
