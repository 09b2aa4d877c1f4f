//! The two control-plane processes: the controller turns Kubernetes objects into desired state and AWS resources; the
//! dispatcher turns desired state into tasks and serves workers. They share nothing but the state database.

pub mod context;
pub mod dispatch;
pub mod engine;
pub mod error;
pub mod leader;
pub mod progress;
pub mod reconcile;
pub mod references;
pub mod roles;
pub mod run;
pub mod settings;
pub mod watch;
