//! What the controller shows of moving things: counts and instants, read when a status is written.

mod chain_sync;
mod dataset;
mod pool;

pub use chain_sync::{ChainSyncProgress, StreamProblem, StreamProgress, chain_sync};
pub use dataset::{BorderConflict, DatasetProgress, dataset};
pub use pool::{PoolProgress, pool};
