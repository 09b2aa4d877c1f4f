//! What every binary shares with the people who run it: flags, logs, metrics, traces, health, shutdown, error answers.
//!
//! A binary's `main` reads: parse flags, [`init`], make a [`Health`], [`admin::spawn`], work until [`shutdown::token`] is cancelled.
#![warn(missing_docs)]

pub mod admin;
mod args;
mod health;
mod http;
mod init;
pub mod shutdown;

pub use args::{CommonArgs, ListenArgs, LogFormat};
pub use health::{Check, Health};
pub use http::{Rejection, trace_layer};
pub use init::{InitError, Telemetry, init};
