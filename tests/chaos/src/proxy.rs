//! The proxy before AWS, through its control API.

use anyhow::Context as _;
use dagwright_testkit::fault_proxy::{Account, Fault, Rule, RuleId};
use serde_json::Value;

use crate::schedule::{AwsFault, Service};

/// Sets rules.
#[derive(Clone, Debug)]
pub struct Proxy {
    http: reqwest::Client,
    url: String,
}

impl Proxy {
    #[must_use]
    pub fn new(http: reqwest::Client, url: &str) -> Self {
        Self { http, url: url.to_owned() }
    }

    /// Adds a rule.
    ///
    /// # Errors
    /// When the proxy does not answer.
    pub async fn add(&self, rule: &Rule) -> anyhow::Result<RuleId> {
        let sent = self.http.post(format!("{}/rules", self.url)).json(rule).send().await;
        Ok(sent.context("set a fault rule")?.error_for_status()?.json().await?)
    }

    /// Removes a rule; how often it struck.
    ///
    /// # Errors
    /// When the proxy does not answer.
    pub async fn remove(&self, id: RuleId) -> anyhow::Result<u64> {
        let sent = self.http.delete(format!("{}/rules/{}", self.url, id.0)).send().await;
        let answer: Value = sent.context("remove a fault rule")?.error_for_status()?.json().await?;
        Ok(answer["hits"].as_u64().unwrap_or(0))
    }

    /// Removes all rules.
    ///
    /// # Errors
    /// When the proxy does not answer.
    pub async fn clear(&self) -> anyhow::Result<()> {
        self.http.delete(format!("{}/rules", self.url)).send().await.context("clear the fault rules")?;
        Ok(())
    }

    /// From now on what AWS refuses is refused.
    ///
    /// # Errors
    /// When the proxy does not answer.
    pub async fn refuse_as_aws(&self, clusters: &[&str]) -> anyhow::Result<()> {
        let account = Account { clusters: clusters.iter().map(|name| (*name).to_owned()).collect() };
        let sent = self.http.post(format!("{}/account", self.url)).json(&account).send().await;
        sent.context("describe the account to the fault proxy")?.error_for_status()?;
        Ok(())
    }
}

/// The rules that make a service fail in a way.
#[must_use]
pub fn rules(service: Service, how: AwsFault) -> Vec<Rule> {
    let of_service = |fault: Fault| Rule::always(fault).on_service(name(service));
    let on = |operations: &[&str], fault: &Fault| -> Vec<Rule> {
        operations.iter().map(|operation| Rule::always(fault.clone()).on_aws(operation)).collect()
    };
    match how {
        AwsFault::Outage => vec![of_service(Fault::Reset)],
        AwsFault::Silence => vec![of_service(Fault::Hang)],
        AwsFault::Latency { milliseconds } => vec![of_service(Fault::Delay { milliseconds })],
        AwsFault::Throttling { every } => vec![of_service(throttled(service)).every(every)],
        AwsFault::Errors { every } => vec![of_service(failed(service)).every(every)],
        AwsFault::DroppedAnswers { every } => vec![of_service(Fault::DropAnswer).every(every)],
        AwsFault::Truncation { every } => vec![of_service(Fault::Truncate { after: 20 }).every(every)],
        AwsFault::Redelivery => on(&["ReceiveMessage"], &Fault::Redeliver),
        AwsFault::LateDelivery { milliseconds } => {
            on(&["ReceiveMessage"], &Fault::DelayDelivery { milliseconds })
        }
        AwsFault::HeldDeletes { milliseconds } => {
            on(&["DeleteMessage", "DeleteMessageBatch"], &Fault::HoldDelete { milliseconds })
        }
        AwsFault::PartialBatches => {
            let batches = ["SendMessageBatch", "DeleteMessageBatch", "ChangeMessageVisibilityBatch"];
            on(&batches, &Fault::PartialBatch)
        }
        AwsFault::NoCapacity => {
            let reason = "Capacity is unavailable at this time. Please try again later or in a different availability zone";
            let mut rules = on(&["RunTask"], &Fault::TaskFailures { reason: reason.into() });
            let refused = error(400, "ServiceQuotaExceededException", reason);
            rules.extend(on(&["CreateService", "UpdateService"], &refused));
            rules
        }
    }
}

fn name(service: Service) -> &'static str {
    match service {
        Service::Sqs => "sqs",
        Service::S3 => "s3",
        Service::Sts => "sts",
        Service::Ecs => "ecs",
    }
}

fn error(status: u16, code: &str, message: &str) -> Fault {
    Fault::AwsError { status, code: code.into(), message: message.into() }
}

/// The codes that each service uses.
fn throttled(service: Service) -> Fault {
    match service {
        Service::Sqs => error(400, "com.amazonaws.sqs#RequestThrottled", "The request was throttled."),
        Service::S3 => error(503, "SlowDown", "Please reduce your request rate."),
        Service::Sts => error(400, "Throttling", "Rate exceeded"),
        Service::Ecs => error(400, "ThrottlingException", "Rate exceeded"),
    }
}

fn failed(service: Service) -> Fault {
    match service {
        Service::Sqs => error(500, "com.amazonaws.sqs#InternalError", "We encountered an internal error."),
        Service::S3 => error(500, "InternalError", "We encountered an internal error. Please try again."),
        Service::Sts => error(503, "ServiceUnavailable", "The service is unavailable."),
        Service::Ecs => error(500, "ServerException", "Service Unavailable. Please try again later."),
    }
}
