//! The pure heart of Dagwright: ids, names, ranges, hashing, planning and state machines.
//!
//! **Invariant:** nothing here does I/O, reads a clock or draws random numbers. Time comes in as `now`, randomness as a
//! value. That is why every decision of the system can be tested in microseconds and replayed from a log line.
#![warn(missing_docs)]

pub mod backoff;
pub mod border;
pub mod cutover;
pub mod follow;
pub mod ids;
pub mod materialization;
pub mod names;
pub mod objects;
pub mod plan;
pub mod range;
pub mod scale;
pub mod task;
