//! The store on a real Postgres, one database per test.

mod catalog;
mod claims;
mod commits;
mod explain;
mod history;
mod outbox;
mod planning;
mod ranges;
mod serving;
mod support;
mod tidy;
mod transitions;
mod unwanted;
mod workers;
