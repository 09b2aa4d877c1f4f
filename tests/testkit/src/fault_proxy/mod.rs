//! A reverse HTTP proxy that misbehaves on demand, before a JSON-RPC node or before AWS.
//!
//! It keeps bytes and `Host` (AWS signatures cover them). Rules are set while it runs, through [`FaultControl`] in the same
//! process or over HTTP (see [`control`]); each counts how often it struck, so that a test can wait for a fault to have
//! happened instead of hoping that it did. Without rules nothing changes on the way.

pub mod control;
mod forward;
mod lies;
mod rules;
mod serve;

pub use control::FaultControl;
pub use lies::Lie;
pub use rules::{AwsMatch, Fault, Match, RpcMatch, Rule, RuleId};
pub use serve::{FaultProxy, RpcFaultProxy};

#[cfg(test)]
mod tests;
