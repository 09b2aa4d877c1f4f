
pub mod fault_proxy;
pub mod rpc_pool;
