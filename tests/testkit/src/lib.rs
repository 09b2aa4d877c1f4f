//! What tests share: a real control plane, and proxies that break connections between real parts.

pub mod aws_endpoint;
pub mod control_plane;
pub mod fault_proxy;
pub mod infrastructure;
pub mod rpc_pool;
pub mod tcp_proxy;
pub mod wait;
