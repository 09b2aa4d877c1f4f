//! The roles of the local stack and what each may do. `terraform/` declares the same for production.

use serde_json::{Value, json};

use super::{ACCOUNT, CLUSTER};

/// Names that the policies are about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope<'a> {
    pub(super) region: &'a str,
    pub(super) stack: &'a str,
    pub(super) bucket: &'a str,
    pub(super) cluster: &'a str,
    pub(super) log_group: &'a str,
}

/// A role: its short name, who may assume it, what it may do.
#[derive(Debug)]
pub(super) struct RoleSpec {
    pub(super) key: &'static str,
    pub(super) trust: Value,
    pub(super) policy: Value,
}

/// The dispatcher assumes it for a task, narrowed by a session policy to the task's own keys.
pub(super) const DATA: &str = "data";

impl Scope<'_> {
    pub(super) fn role_name(&self, key: &str) -> String {
        format!("dagwright-{}-{key}", self.stack)
    }

    pub(super) fn role_arn(&self, key: &str) -> String {
        format!("arn:aws:iam::{ACCOUNT}:role/{}", self.role_name(key))
    }

    /// Every role, each after the roles that it names.
    pub(super) fn roles(&self) -> Vec<RoleSpec> {
        let pods = json!({ "Service": "pods.eks.amazonaws.com" });
        let tasks = json!({ "Service": "ecs-tasks.amazonaws.com" });
        let role = |key, principal: &Value, statements: Vec<Value>| RoleSpec {
            key,
            trust: document(&[
                json!({ "Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole" }),
            ]),
            policy: document(&statements),
        };
        let dispatcher = json!({ "AWS": self.role_arn("dispatcher") });
        vec![
            role("controller", &pods, self.controller()),
            role("dispatcher", &pods, self.dispatcher()),
            role("query", &tasks, vec![allow(&["s3:GetObject"], &self.objects())]),
            role("rpc", &tasks, self.rpc()),
            role("worker-task", &tasks, self.worker()),
            role("worker-execution", &tasks, self.execution()),
            role(DATA, &dispatcher, vec![allow(&["s3:GetObject", "s3:PutObject"], &self.objects())]),
        ]
    }

    fn controller(&self) -> Vec<Value> {
        let any = ["*".to_owned()];
        let pass = [self.role_arn("worker-task"), self.role_arn("worker-execution")];
        vec![
            allow(&CONTROLLER_SQS, &self.queues()),
            // IAM knows no resource for listing, and a task definition's revision is in its ARN.
            allow(&CONTROLLER_ANY, &any),
            allow(&CONTROLLER_ECS, &self.services()),
            allow(&["iam:PassRole"], &pass),
            allow(&CONTROLLER_SECRETS, &self.secrets()),
        ]
    }

    fn dispatcher(&self) -> Vec<Value> {
        let bucket = [format!("arn:aws:s3:::{}", self.bucket)];
        let pass = [self.role_arn("worker-task"), self.role_arn("worker-execution")];
        let mut run = self.services();
        run.push(format!("arn:aws:ecs:{}:{ACCOUNT}:task-definition/dw-*", self.region));
        vec![
            allow(&DISPATCHER_SQS, &self.queues()),
            allow(&DEAD_LETTER_SQS, &[self.queue("dw-*-dlq")]),
            allow(&DISPATCHER_ECS, &run),
            allow(&["iam:PassRole"], &pass),
            allow(&["sts:AssumeRole"], &[self.role_arn(DATA)]),
            allow(&DISPATCHER_OBJECTS, &self.objects()),
            allow(&["s3:ListBucket"], &bucket),
        ]
    }

    fn worker(&self) -> Vec<Value> {
        let tasks = [format!("arn:aws:ecs:{}:{ACCOUNT}:task/{}/*", self.region, self.cluster)];
        vec![
            allow(&WORKER_SQS, &self.queues()),
            // Which the ECS agent asks with the task's own role.
            allow(&["ecs:UpdateTaskProtection", "ecs:GetTaskProtection"], &tasks),
        ]
    }

    /// RPC keys and no pool's token.
    fn rpc(&self) -> Vec<Value> {
        vec![allow(&READ_SECRET, &self.secrets()), deny(&READ_SECRET, &self.pool_tokens())]
    }

    /// Pools' tokens and no RPC key.
    fn execution(&self) -> Vec<Value> {
        let log_group = format!("arn:aws:logs:{}:{ACCOUNT}:log-group:{}:*", self.region, self.log_group);
        vec![
            allow(&READ_SECRET, &self.pool_tokens()),
            allow(&["logs:CreateLogStream", "logs:PutLogEvents"], &[log_group]),
        ]
    }

    fn queue(&self, name: &str) -> String {
        format!("arn:aws:sqs:{}:{ACCOUNT}:{name}", self.region)
    }

    fn queues(&self) -> Vec<String> {
        vec![self.queue("dw-*")]
    }

    fn secret(&self, name: &str) -> Vec<String> {
        vec![format!("arn:aws:secretsmanager:{}:{ACCOUNT}:secret:dagwright/{CLUSTER}/{name}", self.region)]
    }

    fn secrets(&self) -> Vec<String> {
        self.secret("*")
    }

    /// `{namespace}/pools/{pool}/token`, to whose ARNs Secrets Manager adds six characters. An RPC key's name,
    /// `{namespace}/{pool}/{provider}`, has one part less and never matches.
    fn pool_tokens(&self) -> Vec<String> {
        self.secret("*/pools/*/token-??????")
    }

    fn objects(&self) -> Vec<String> {
        vec![format!("arn:aws:s3:::{}/*", self.bucket)]
    }

    fn services(&self) -> Vec<String> {
        let within = |kind: &str, name: &str| format!("arn:aws:ecs:{}:{ACCOUNT}:{kind}/{name}", self.region);
        vec![
            within("cluster", self.cluster),
            within("service", &format!("{}/*", self.cluster)),
            within("task", &format!("{}/*", self.cluster)),
            // What IAM calls the resource of ListTasks, although Fargate has none.
            within("container-instance", &format!("{}/*", self.cluster)),
        ]
    }
}

// AWS authorises a batch as the single call; the local endpoint by the batch's own name.
const WORKER_SQS: [&str; 6] = [
    "sqs:ReceiveMessage",
    "sqs:DeleteMessage",
    "sqs:DeleteMessageBatch",
    "sqs:ChangeMessageVisibility",
    "sqs:ChangeMessageVisibilityBatch",
    "sqs:GetQueueAttributes",
];

const DISPATCHER_SQS: [&str; 4] =
    ["sqs:SendMessage", "sqs:SendMessageBatch", "sqs:GetQueueAttributes", "sqs:GetQueueUrl"];

const DEAD_LETTER_SQS: [&str; 3] = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:DeleteMessageBatch"];

// The controller's are the calls of `lib/aws`: what it does not call, it may not. It writes secrets and cannot read one.
const CONTROLLER_SQS: [&str; 7] = [
    "sqs:CreateQueue",
    "sqs:DeleteQueue",
    "sqs:GetQueueUrl",
    "sqs:GetQueueAttributes",
    "sqs:SetQueueAttributes",
    "sqs:TagQueue",
    "sqs:ListQueueTags",
];

const CONTROLLER_ANY: [&str; 8] = [
    // The local endpoint does not see which clusters it is asked about.
    "ecs:DescribeClusters",
    "secretsmanager:ListSecrets",
    "ecs:ListTaskDefinitionFamilies",
    "ecs:RegisterTaskDefinition",
    "ecs:DeregisterTaskDefinition",
    "ecs:DescribeTaskDefinition",
    "ecs:ListTaskDefinitions",
    "ecs:TagResource",
];

const CONTROLLER_ECS: [&str; 7] = [
    "ecs:CreateService",
    "ecs:UpdateService",
    "ecs:DeleteService",
    "ecs:DescribeServices",
    // Single tasks of a pool that goes.
    "ecs:ListTasks",
    "ecs:DescribeTasks",
    "ecs:StopTask",
];

const READ_SECRET: [&str; 1] = ["secretsmanager:GetSecretValue"];

const CONTROLLER_SECRETS: [&str; 5] = [
    "secretsmanager:CreateSecret",
    "secretsmanager:PutSecretValue",
    "secretsmanager:DeleteSecret",
    "secretsmanager:DescribeSecret",
    "secretsmanager:TagResource",
];

const DISPATCHER_ECS: [&str; 7] = [
    "ecs:UpdateService",
    "ecs:DescribeServices",
    "ecs:RunTask",
    "ecs:ListTasks",
    "ecs:DescribeTasks",
    // Of workers that said that they are drained.
    "ecs:StopTask",
    // RunTask gives tasks the tags of their definition.
    "ecs:TagResource",
];

/// Delete is the sweeper's; a HEAD is a GetObject to IAM.
const DISPATCHER_OBJECTS: [&str; 3] = ["s3:GetObject", "s3:GetObjectAttributes", "s3:DeleteObject"];

fn document(statements: &[Value]) -> Value {
    json!({ "Version": "2012-10-17", "Statement": statements })
}

fn deny(actions: &[&str], resources: &[String]) -> Value {
    json!({ "Effect": "Deny", "Action": actions, "Resource": resources })
}

fn allow(actions: &[&str], resources: &[String]) -> Value {
    json!({ "Effect": "Allow", "Action": actions, "Resource": resources })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_role_holds_a_wildcard_action_or_another_stacks_bucket() {
        let scope = Scope {
            region: "us-east-1",
            stack: "s",
            bucket: "dagwright-data-s",
            cluster: "c",
            log_group: "g",
        };
        for role in scope.roles() {
            let text = role.policy.to_string();
            assert!(!text.contains(":*\"") || role.key == "worker-execution", "{}: {text}", role.key);
            assert!(!text.contains("arn:aws:s3:::*"), "{}: {text}", role.key);
            assert!(!text.contains(":secret:dagwright/*"), "{}: {text}", role.key);
        }
    }
}
