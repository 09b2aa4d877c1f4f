use dagwright_aws::{
    services::{Capacity, Network},
    task_definitions::TaskDefinitionState,
};
use dagwright_core::ids::PoolId;

use super::*;
use crate::reconcile::worker_pool::validate::Container;

fn wanted() -> Wanted {
    Wanted {
        pool_id: PoolId(uuid::Uuid::nil()),
        namespace: "demo".into(),
        name: "ingest".into(),
        generation: 1,
        aws_name: "dw-1-ingest".into(),
        secret_name: "s".into(),
        cluster: "c".into(),
        owner: "me".into(),
        slots: 4,
        run: json!({}),
        service_count: Some(0),
        lease_seconds: 60,
        max_receive_count: 5,
        network: Network { subnets: vec!["b".into(), "a".into()], ..Network::default() },
        capacity: vec![Capacity { provider: "FARGATE".into(), weight: 1, base: 0 }],
        container: Container {
            image: "image".into(),
            cpu: 256,
            memory_mib: 512,
            ephemeral_storage_gib: None,
            architecture: "X86_64",
            stop_timeout_seconds: 60,
            task_role_arn: "t".into(),
            execution_role_arn: "e".into(),
            environment: BTreeMap::new(),
            logs: None,
        },
    }
}

/// A world that does what it is told: deciding and applying must come to rest, and then nothing more is to be done.
fn apply(seen: &mut Observed, actions: Vec<Action>) {
    for action in actions {
        match action {
            Action::CreateQueue { name, attributes } => {
                let state = QueueState {
                    url: format!("url/{name}"),
                    arn: format!("arn:{name}"),
                    attributes,
                    tags: BTreeMap::new(),
                };
                if name.ends_with("-dlq") {
                    seen.dead_letters = Some(state);
                } else {
                    seen.queue = Some(state);
                }
            }
            Action::SetQueueAttributes { attributes, .. } => {
                seen.queue.as_mut().unwrap().attributes.extend(attributes);
            }
            Action::RotateToken { .. } => {
                let tags = BTreeMap::from([(TOKEN_TAG.to_owned(), "aa".to_owned())]);
                seen.secret = Some(SecretState { arn: "arn:s".into(), version: Some("1".into()), tags });
                seen.token_known = true;
            }
            Action::Register(d) => {
                let revision = seen.task_definition.as_ref().map_or(1, |d| d.arn.len());
                seen.task_definition =
                    Some(TaskDefinitionState { arn: "r".repeat(revision + 1), labels: d.labels });
            }
            Action::DeleteService { .. } => seen.service = None,
            Action::CreateService(s) | Action::UpdateService(s) => {
                seen.service = Some(ServiceState {
                    arn: "svc".into(),
                    life: Life::Active,
                    task_definition_arn: s.task_definition_arn,
                    network: Network { subnets: vec!["a".into(), "b".into()], ..s.network },
                    capacity: s.capacity,
                    tags: s.tags,
                    desired: 7,
                    running: 7,
                });
            }
        }
    }
}

fn settle(wanted: &Wanted, seen: &mut Observed) -> Vec<&'static str> {
    let mut done = vec![];
    for _ in 0..10 {
        let plan = decide(wanted, seen);
        if plan.actions.is_empty() {
            return done;
        }
        done.extend(plan.actions.iter().map(Action::name));
        apply(seen, plan.actions);
    }
    panic!("never at rest: {done:?}");
}

#[test]
fn a_new_pool_is_made_in_order_and_then_left_alone() {
    let mut seen = Observed::default();
    let done = settle(&wanted(), &mut seen);
    assert_eq!(
        done,
        ["create queue", "write pool token", "create queue", "register task definition", "create service"]
    );
    assert!(settle(&wanted(), &mut seen).is_empty());
}

#[test]
fn only_what_workers_are_started_with_makes_a_revision() {
    let mut seen = Observed::default();
    settle(&wanted(), &mut seen);
    let longer = Wanted { lease_seconds: 90, slots: 9, generation: 5, ..wanted() };
    assert_eq!(settle(&longer, &mut seen), ["set attributes of queue"]);
    let mut other = longer.clone();
    other.container.image = "other".into();
    assert_eq!(settle(&other, &mut seen), ["register task definition", "update service"]);
}

#[test]
fn drift_is_corrected_but_never_the_desired_count() {
    let mut seen = Observed::default();
    settle(&wanted(), &mut seen);
    seen.service.as_mut().unwrap().desired = 3;
    assert!(settle(&wanted(), &mut seen).is_empty());
    seen.queue.as_mut().unwrap().attributes.insert("VisibilityTimeout".into(), "1".into());
    let redrive = json!({ "maxReceiveCount": 5, "deadLetterTargetArn": "arn:dw-1-ingest-dlq" }).to_string();
    seen.queue.as_mut().unwrap().attributes.insert("RedrivePolicy".into(), redrive);
    let plan = decide(&wanted(), &seen);
    let [Action::SetQueueAttributes { attributes, .. }] = &plan.actions[..] else { panic!("{plan:?}") };
    assert_eq!(attributes.len(), 1, "the redrive policy means the same: {attributes:?}");
}

#[test]
fn a_lost_token_is_written_again_and_workers_are_replaced() {
    let mut seen = Observed::default();
    settle(&wanted(), &mut seen);
    seen.token_known = false;
    assert_eq!(decide(&wanted(), &seen).actions, [Action::RotateToken { exists: true }]);
}

#[test]
fn a_draining_service_is_waited_for() {
    let mut seen = Observed::default();
    settle(&wanted(), &mut seen);
    seen.service.as_mut().unwrap().life = Life::Draining;
    let plan = decide(&wanted(), &seen);
    assert!(plan.actions.is_empty() && plan.waiting.is_some());
}

#[test]
fn a_pool_that_runs_single_tasks_has_no_service_and_gives_up_the_one_it_had() {
    let mut seen = Observed::default();
    let single = Wanted { service_count: None, ..wanted() };
    settle(&single, &mut seen);
    assert!(seen.task_definition.is_some() && seen.service.is_none());
    settle(&wanted(), &mut seen);
    assert!(seen.service.is_some());
    let expected = [Action::DeleteService { name: "dw-1-ingest".into() }];
    assert_eq!(decide(&single, &seen).actions, expected);
}
