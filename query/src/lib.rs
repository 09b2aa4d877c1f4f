//! The query service: a stranger's SQL over exactly the committed data that he may read.
//!
//! Layers, none trusted alone: a gate over DuckDB's own parse tree ([`gate`]), a locked engine in a process of its own
//! without credentials ([`engine`]), a loopback gateway that hands out exactly the pinned objects ([`objects`]), a token and
//! read roles ([`auth`], [`catalog`]), and a deadline with SIGKILL ([`pool`], [`api`]).

pub mod api;
pub mod auth;
pub mod catalog;
pub mod config;
pub mod engine;
pub mod gate;
pub mod objects;
pub mod pool;
pub mod serve;
