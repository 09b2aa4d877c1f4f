//! EVM chain data, without any I/O: decode JSON-RPC answers loosely, prove what the chain's profile lets us prove, and write
//! the result as deterministic Parquet.
//!
//! The order of use is [`json`] → [`verify`] → [`parquet`]. Answers are decoded into our own structs and not into strict
//! transaction types, because one unknown transaction type must not make a whole block unreadable; what a type cannot prove
//! is then reported per check as *unverifiable* with its reason. [`profile`] holds what differs between chains, as data.

pub mod encode;
pub mod json;
pub mod output;
pub mod parquet;
pub mod profile;
pub mod verify;

pub use output::{OutputKind, UnknownOutputKind};
pub use profile::{Profile, profile};
pub use verify::{
    Asked, BlockReport, Check, Doubt, Level, Outcome, VerifiedBundle, VerifyRequest, verify_block,
};

/// Semantics of the `evm_ingest` operator: raised only when the rows it writes for the same chain data change.
/// It enters the materialisation hash, so raising it rebuilds every dataset of the operator.
pub const EVM_INGEST_SEMANTICS: u32 = 1;
