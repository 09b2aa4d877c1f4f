//! The dispatcher on a real Postgres: its API over HTTP, its loops against AWS over the wire, two replicas side by side.
//! A database per test.
#![expect(clippy::unwrap_used, reason = "a test panics with what went wrong")]

mod auth;
mod credentials;
mod follow;
mod life;
mod overload;
mod planning;
mod queue_down;
mod rights;
mod sets;
mod silence;
mod support;
mod sweep;
mod waiting;
mod workers;
