//! A reverse HTTP proxy that misbehaves on demand, before a JSON-RPC node or before AWS.
//!
//! It keeps bytes and `Host` (AWS signatures cover them). Rules are set while it runs, through [`FaultControl`] in the same
//! process or over HTTP (see [`control`]); each counts how often it struck, so that a test can wait for a fault to have
//! happened instead of hoping that it did. Without rules nothing changes on the way, unless it is told to refuse what AWS refuses
//! and the emulator takes ([`FaultControl::refuse_as_aws`]).

mod aws;
pub mod control;
mod forward;
mod lies;
mod refusals;
mod rules;
mod serve;

pub use control::FaultControl;
pub use lies::Lie;
pub use refusals::Account;
pub use rules::{AwsMatch, Fault, Match, RpcMatch, Rule, RuleId};
pub use serve::{FaultProxy, RpcFaultProxy};

#[cfg(test)]
mod tests;
