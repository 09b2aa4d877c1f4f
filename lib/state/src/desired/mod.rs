//! What the controller wants: pools, RPC pools, datasets, jobs and wants.
//!
//! Only the controller writes here, and only through [`Fence::begin`]: a transaction that holds its epoch against every
//! later leader. A write of a controller that lost its Lease is refused by Postgres, whatever that controller believes.

pub mod chain_syncs;
pub mod datasets;
mod epoch;
pub mod intents;
pub mod pools;
pub mod progress;
pub mod rpc_pools;

pub use epoch::{Fence, cluster_id, current_epoch};
