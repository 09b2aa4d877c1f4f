//! Chaos on real processes: the whole local stack under a schedule that is a pure function of a seed, and a checker that
//! trusts none of the product's code. `docs/chaos.md` says how to run it and what it shows.

pub mod checker;
pub mod inject;
pub mod patience;
mod processes;
pub mod proxy;
pub mod report;
pub mod run;
pub mod schedule;
pub mod workload;
