//! The engine process: one query, then the end.
//!
//! A process per query because a kill must hit one query only, and because what a stranger's SQL breaks is then thrown away.
//! Started with an empty environment in a process group of its own, it holds no credential and no connection but its pipes
//! and the loopback object gateway.

mod failure;
pub mod instance;
mod limits;
pub mod output;
pub mod protocol;

use std::{
    collections::HashSet,
    io::{self, BufRead, Read as _, Write},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use duckdb::{Connection, types::Value};

use crate::gate::Gate;
use instance::Resources;
use protocol::{Failure, Frame, Gated, Job, Outcome, Run};

/// Flags of the hidden subcommand `engine`; the service writes them.
#[derive(Debug, clap::Args)]
pub struct EngineArgs {
    /// Directory that holds `httpfs.duckdb_extension`.
    #[arg(long)]
    pub extension_dir: PathBuf,
    /// Memory of the engine in MiB.
    #[arg(long)]
    pub memory_mib: u64,
    /// Threads of the engine.
    #[arg(long)]
    pub threads: u32,
}

/// Serves one query on stdin and stdout.
///
/// # Errors
/// When the process cannot be set up; a query's own failure is a frame.
pub fn run(args: &EngineArgs) -> anyhow::Result<()> {
    let resources = Resources { memory_mib: args.memory_mib, threads: args.threads };
    limits::bound_process(resources)?;
    // What a panic says may hold a stranger's data.
    std::panic::set_hook(Box::new(|_| {}));
    let gate = Gate::open()?;
    let connection = instance::open_blank(&args.extension_dir, resources)?;
    let mut out = io::stdout().lock();
    Frame::Ready.write(&mut out)?;
    let mut input = io::stdin().lock();
    let Some(job) = read_line::<Job>(&mut input)? else { return Ok(()) };
    let canonical = match check(gate, &job) {
        Ok(gated) => {
            let canonical = gated.canonical.clone();
            Frame::Gated(gated).write(&mut out)?;
            canonical
        }
        Err(failure) => return Ok(Frame::Failed(failure).write(&mut out)?),
    };
    let Some(run) = read_line::<Run>(&mut input)? else { return Ok(()) };
    drop(input);
    exit_with_the_service();
    limits::bound_cpu(resources, run.deadline_ms)?;
    let last = match execute(&connection, &canonical, &job.sql, &run, &mut out) {
        Ok(outcome) => Frame::Done(outcome),
        Err(failure) => Frame::Failed(failure),
    };
    last.write(&mut out)?;
    // Tearing an engine down costs time and answers nobody.
    std::process::exit(0)
}

fn read_line<T: serde::de::DeserializeOwned>(input: &mut impl BufRead) -> anyhow::Result<Option<T>> {
    let mut line = String::new();
    if input.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    Ok(Some(serde_json::from_str(&line)?))
}

/// The service holds our stdin open for as long as it wants an answer; when it dies, so do we.
fn exit_with_the_service() {
    std::thread::spawn(|| {
        let mut byte = [0];
        let _ = io::stdin().read(&mut byte);
        std::process::exit(3);
    });
}

/// Stack of the gate's thread: the tree's recursion is bounded, but by frames of unknown size in the engine's parser.
const GATE_STACK: usize = 32 << 20;

fn check(gate: Gate, job: &Job) -> Result<Gated, Failure> {
    let visible: HashSet<_> = job.visible.iter().cloned().collect();
    let verdict = std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().stack_size(GATE_STACK);
        let thread = builder.spawn_scoped(scope, move || gate.check(&job.sql, &visible)).ok()?;
        thread.join().ok()
    });
    match verdict {
        Some(Ok(a)) => Ok(Gated { canonical: a.canonical, datasets: a.datasets, functions: a.functions }),
        Some(Err(refusal)) => Err(Failure::new(refusal.code(), refusal.to_string())),
        None => Err(Failure::new("EngineFailed", "the engine failed while it read the query")),
    }
}

fn execute(
    connection: &Connection,
    canonical: &str,
    original: &str,
    run: &Run,
    out: &mut impl Write,
) -> Result<Outcome, Failure> {
    let interrupted = interrupt_at_deadline(connection, run.deadline_ms);
    let attempt = || -> Result<Outcome, output::OutputError> {
        instance::bind_and_lock(connection, &run.datasets)?;
        let mut statement = connection.prepare(canonical)?;
        // The handle is dropped at once: its iterator panics on an error, `step` returns it.
        let _ = statement.stream_arrow(duckdb::params_from_iter(params(&run.params)))?;
        let caps = output::Caps { rows: run.max_rows, bytes: run.max_bytes };
        output::write(&statement, run.format, caps, out)
    };
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(attempt));
    match result {
        Ok(Ok(outcome)) => Ok(outcome),
        _ if interrupted.load(Ordering::SeqCst) => Err(failure::timeout()),
        Ok(Err(error)) => Err(failure::explain(&error, original)),
        Err(_) => Err(Failure::new("EngineFailed", "the engine failed while it ran the query")),
    }
}

fn interrupt_at_deadline(connection: &Connection, deadline_ms: u64) -> Arc<AtomicBool> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let (handle, flag) = (connection.interrupt_handle(), interrupted.clone());
    std::thread::spawn(move || {
        std::thread::park_timeout(Duration::from_millis(deadline_ms));
        flag.store(true, Ordering::SeqCst);
        handle.interrupt();
    });
    interrupted
}

/// The service has checked that each is a scalar.
fn params(values: &[serde_json::Value]) -> Vec<Value> {
    let convert = |value: &serde_json::Value| match value {
        serde_json::Value::Bool(b) => Value::Boolean(*b),
        serde_json::Value::Number(n) => match (n.as_i64(), n.as_u64()) {
            (Some(i), _) => Value::BigInt(i),
            (None, Some(u)) => Value::UBigInt(u),
            (None, None) => Value::Double(n.as_f64().unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(s) => Value::Text(s.clone()),
        _ => Value::Null,
    };
    values.iter().map(convert).collect()
}
