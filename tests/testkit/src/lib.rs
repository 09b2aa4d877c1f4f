//! What tests share: a real control plane, and proxies that break connections between real parts.

pub mod control_plane;
pub mod fault_proxy;
pub mod rpc_pool;
