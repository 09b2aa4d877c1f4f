//! Condition types and reasons: constants, and one table that says of each reason what it means and what to do.

/// Spec accepted, references resolved, AWS resources work, nothing needs a human.
pub const READY: &str = "Ready";
/// The controller has work for this generation. Present only while true.
pub const RECONCILING: &str = "Reconciling";
/// A human must act. Present only while true.
pub const STALLED: &str = "Stalled";
/// ChainSync: the target is reached, or followed closely.
pub const SYNCED: &str = "Synced";
/// `spec.suspend` is true.
pub const SUSPENDED: &str = "Suspended";
/// WorkerPool: queue and dead-letter queue are as wanted.
pub const QUEUE_READY: &str = "QueueReady";
/// WorkerPool: task definition and service are as wanted, and workers start.
pub const SERVICE_READY: &str = "ServiceReady";
/// RpcPool: at least one provider answers.
pub const HEALTHY: &str = "Healthy";
/// Dataset: a version is served to readers.
pub const SERVING: &str = "Serving";

macro_rules! reasons {
    ($($(#[$doc:meta])* $const:ident = $name:literal, $means:literal, $do_:literal;)*) => {
        $($(#[$doc])* #[doc = $means] pub const $const: &str = $name;)*

        /// Every reason: name, what it means, what to do.
        pub const REASONS: &[(&str, &str, &str)] = &[$(($name, $means, $do_)),*];
    };
}

reasons! {
    SUCCEEDED = "Succeeded", "Everything is as the spec wants it.", "Nothing.";
    PROGRESSING = "Progressing", "The controller works on this generation.", "Wait; it takes seconds.";
    PROGRESSING_WITH_RETRY = "ProgressingWithRetry", "A step failed and is tried again with growing waits.", "Read the message; act if it stays.";
    INVALID_SPEC = "InvalidSpec", "The spec contradicts itself in a way that the schema cannot refuse.", "Correct the field that the message names.";
    DEPENDENCY_MISSING = "DependencyMissing", "An object that the spec names does not exist.", "Create it, or correct the reference; it is noticed at once.";
    PRODUCER_CONFLICT = "ProducerConflict", "Another object already produces this Dataset.", "Remove the output from one of the two; the other takes over at once.";
    SCHEMA_MISMATCH = "SchemaMismatch", "The Dataset's schema is not what the output writes.", "Point the output at a Dataset with that schema.";
    CHAIN_MISMATCH = "ChainMismatch", "The RpcPool serves another chain than the ChainSync reads.", "Reference an RpcPool of the same chain id.";
    PROFILE_UNKNOWN = "ProfileUnknown", "The chain profile is not known to this version.", "Use one of the profiles that the message lists.";
    SEMANTICS_UNKNOWN = "SemanticsUnknown", "The operator semantics are not among those that this version ships.", "Name one that the message lists.";
    NO_NETWORK = "NoNetwork", "Neither the spec nor the controller's defaults name subnets and security groups.", "Set spec.network, or the controller's default network.";
    NO_ROLES = "NoRoles", "Neither the spec nor the controller's defaults name task and execution roles.", "Set spec.roles, or the controller's default roles.";
    ROLE_NOT_ALLOWED = "RoleNotAllowed", "The namespace's workers may not act as the task role that the spec names.", "Name an allowed role, or have the namespace's roles added to the controller's --allowed-task-roles.";
    NO_CLUSTER = "NoCluster", "The ECS cluster of this installation does not exist.", "Create it (Terraform owns it), or correct the controller's setting.";
    NOT_OWNED = "NotOwned", "An AWS resource of the wanted name belongs to another owner.", "Remove the foreign resource, or rename the object.";
    SECRET_MISSING = "SecretMissing", "A Secret or its key does not exist.", "Create it, or correct the reference.";
    SECRET_NOT_LABELLED = "SecretNotLabelled", "The Secret lacks the label that permits reading it.", "Label the Secret as the message says.";
    FORBIDDEN = "Forbidden", "AWS refused a call of the controller.", "Grant the right that the message names.";
    REFUSED = "Refused", "AWS refused a call that cannot succeed as it is.", "Read AWS's words in the message; correct the spec or what it names.";
    START_FAILED = "StartFailed", "ECS could not start workers; it is tried again with growing waits, of five minutes at most.", "Read ECS's words in the message: correct the image, the network or the right that they name; lacking capacity comes back by itself.";
    STORAGE_NOT_AVAILABLE = "StorageNotAvailable", "This version cannot keep data in the storage that the spec names.", "Use storage: {s3: {}}.";
    ENGINE_NOT_AVAILABLE = "EngineNotAvailable", "This version accepts Dags but does not run them yet.", "Keep the manifest; an upgrade will run it.";
    UNDECODABLE = "Undecodable", "The object does not fit the types of this version.", "Correct the field that the message names, or upgrade the controller.";
    TASKS_FAILED = "TasksFailed", "Tasks are out of attempts; others go on.", "Read status.problems, remove the cause, then edit the object, or suspend and resume it: failed tasks start over.";
    FORK_AT_BORDER = "ForkAtBorder", "Two neighbouring ranges do not link and no quorum decided which one is right.", "Check the providers; refetch the range that is wrong.";
    OBJECT_MISSING = "ObjectMissing", "A committed object is gone from the bucket.", "Restore it, or backfill the range with mode Refetch.";
    IN_USE = "InUse", "The object is to be deleted but others still use it.", "Remove what the message names; deletion then goes on by itself.";
    SUSPENDED_BY_SPEC = "SuspendedBySpec", "spec.suspend is true.", "Set spec.suspend to false to go on.";
    CATCHING_UP = "CatchingUp", "The target is not reached yet.", "Wait; status shows the progress.";
    TARGET_REACHED = "TargetReached", "All wanted ranges are committed.", "Nothing.";
    FOLLOWING = "Following", "Every stream is close to its follow target.", "Nothing.";
    NOTHING_SERVED = "NothingServed", "No version is served yet.", "Wait for the producer, or name one.";
    VERSION_SERVED = "VersionServed", "A version is served to readers.", "Nothing.";
    NOT_REPORTED = "NotReported", "The gateway has not reported yet.", "Wait; if it stays, look at the RPC gateway.";
    PROVIDERS_HEALTHY = "ProvidersHealthy", "All providers answer.", "Nothing.";
    PROVIDERS_DEGRADED = "ProvidersDegraded", "Some providers do not answer or are cordoned.", "Read status.providers.";
    NO_HEALTHY_PROVIDER = "NoHealthyProvider", "No provider answers.", "Check the URLs, the keys and the limits in status.providers.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_camel_case_and_unique() {
        let mut seen = std::collections::BTreeSet::new();
        for (name, means, remedy) in REASONS {
            assert!(seen.insert(name), "{name} twice");
            assert!(
                name.chars().next().is_some_and(char::is_uppercase)
                    && name.chars().all(char::is_alphanumeric),
                "{name}"
            );
            assert!(name.len() <= 128 && means.ends_with('.') && remedy.ends_with('.'), "{name}");
        }
    }
}
