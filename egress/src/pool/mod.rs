//! Named pools of providers, as the dispatcher's config describes them.

pub mod call;
pub mod health;
pub mod limiter;
pub mod order;
pub mod provider;
pub mod registry;
pub mod upstream;
