//! The only process with a way out to JSON-RPC providers: named pools with limits, failover and cordons. It knows nothing
//! of what is done with the answers.
//!
//! [`rpc`] and [`pool::order`], [`pool::limiter`], [`pool::health`] decide, without any I/O; [`pool::provider`],
//! [`pool::upstream`] and [`background`] act. A provider is asked only after it said which chain it serves, and again after
//! every failure, because behind one URL there may be another node.

pub mod api;
pub mod background;
pub mod dispatcher;
pub mod gateway;
pub mod pool;
pub mod rpc;
