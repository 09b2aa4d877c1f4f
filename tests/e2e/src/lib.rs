//! What the end-to-end tests share: the stack as a user has it, and checks that trust none of the product's own code.
//!
//! The stack is started by `dagwright up` when it does not run yet and stays up, so that a test can be repeated in seconds;
//! `./dev test` takes it down at the end. Scenarios break things that all of them use, so they run one at a time.

#![expect(clippy::panic, reason = "tests panic, they do not return errors")]
#![expect(clippy::needless_pass_by_value, reason = "`json!` values read best where they are made")]

pub mod checker;
pub mod manifests;
pub mod node;
pub mod processes;
pub mod stack;

pub use dagwright_testkit::wait::{wait_for, wait_for_within};
pub use stack::World;
