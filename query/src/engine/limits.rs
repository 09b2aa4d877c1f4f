//! What the kernel takes from an engine process, for what the engine's own limits do not hold: vectors and list functions
//! bypass `memory_limit`, and some functions look at no interrupt.

use nix::sys::{
    prctl,
    resource::{Resource, UsageWho, getrusage, setrlimit},
};

use super::instance::Resources;

/// Address space beyond the engine's own limit: the library, the extension, stacks and what bypasses the limit.
const SPARE_MIB: u64 = 500;

/// Bounds the process before it opens an engine.
///
/// # Errors
/// When the kernel refuses a limit.
pub(super) fn bound_process(resources: Resources) -> nix::Result<()> {
    prctl::set_no_new_privs()?;
    // No core dump, no ptrace by a process of the same user: memory holds a stranger's rows.
    prctl::set_dumpable(false)?;
    let address_space = (2 * resources.memory_mib + SPARE_MIB) << 20;
    setrlimit(Resource::RLIMIT_AS, address_space, address_space)?;
    setrlimit(Resource::RLIMIT_FSIZE, 0, 0)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    setrlimit(Resource::RLIMIT_NOFILE, 256, 256)
}

/// Bounds processor time once the query's own deadline is known. The kernel kills at it.
///
/// # Errors
/// When the kernel refuses the limit.
pub(super) fn bound_cpu(resources: Resources, deadline_ms: u64) -> nix::Result<()> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let spent = usage.user_time().tv_sec() + usage.system_time().tv_sec();
    let wall = deadline_ms / 1000 + 2;
    let cpu = u64::try_from(spent).unwrap_or(0) + wall * u64::from(resources.threads.max(1)) + 1;
    setrlimit(Resource::RLIMIT_CPU, cpu, cpu)
}
