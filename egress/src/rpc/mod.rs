//! JSON-RPC as the gateway needs it: what a request asks, and what an answer means. Pure.

pub mod answer;
pub mod error;
pub mod method;
pub mod request;
