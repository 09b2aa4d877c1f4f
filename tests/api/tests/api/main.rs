//! What a user meets at the API server: admission, `kubectl explain`, columns, ownership, kstatus.

mod admission;
mod columns;
mod examples;
mod explain;
mod fixtures;
mod kstatus;
mod ownership;
mod server;
