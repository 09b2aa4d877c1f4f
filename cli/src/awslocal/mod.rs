//! AWS of the local stack: who may do what, and how a process comes by its role.
//!
//! The endpoint enforces IAM, so that a policy that is too narrow fails here and not first in production. What
//! stands in for the platform's Terraform is [`bootstrap`]; what stands in for the task's and pod's credential
//! sources is [`CredentialsEndpoint`]. The root key lives in these two alone: a process that holds it would make every
//! denial test pass or fail for the wrong reason.

mod bootstrap;
mod credentials;
mod policy;

pub use bootstrap::{BootstrapConfig, Bootstrapped, bootstrap};
pub use credentials::CredentialsEndpoint;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;

/// Account of everything in the local endpoint.
pub const ACCOUNT: &str = "000000000000";

/// What our own processes call the installation unless told otherwise; part of every secret's name.
const CLUSTER: &str = "local";

/// Region of the local stack.
pub const REGION: &str = "us-east-1";

/// The endpoint knows no secret of root: the key alone is all-powerful.
fn root_config(endpoint: &str, region: &str) -> SdkConfig {
    let root = Credentials::new("test", "test", None, None, "root of the local endpoint");
    config(endpoint, region, root)
}

fn config(endpoint: &str, region: &str, credentials: Credentials) -> SdkConfig {
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(region.to_owned()))
        .endpoint_url(endpoint)
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .build()
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
