//! Wire types of every HTTP API between Dagwright's processes, and the tokens that open them.
//!
//! JSON is camelCase, instants are RFC 3339, heights are integers, hashes are `0x` hex strings. A server ignores fields it
//! does not know, so that a newer client can talk to an older one during a roll-out.
#![warn(missing_docs)]

pub mod endpoints;
pub mod gateway;
pub mod message;
pub mod problem;
pub mod query;
pub mod tasks;
pub mod token;
pub mod workers;
