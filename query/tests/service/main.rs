//! The query service over real parts: engine processes, the object gateway, HTTP and signed tokens; objects lie in a folder.
#![allow(clippy::unwrap_used, clippy::panic, clippy::needless_pass_by_value)]

mod engine;
mod formats;
mod limits;
mod locked;
mod objects;
mod pinning;
#[expect(unreachable_pub, reason = "shared by the modules of this test binary")]
mod support;
mod tokens;
