//! The `dagwright` command: the local stack, SQL from a terminal, and the chain tools.
//!
//! The stack is a library so that the end-to-end tests start exactly what a developer starts.

pub mod args;
pub mod awslocal;
pub mod build;
pub mod evm;
pub mod fargate;
pub mod kubernetes;
pub mod load;
pub mod parts;
pub mod paths;
pub mod sql;
pub mod stack;
