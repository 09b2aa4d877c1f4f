//! `dagwright-query`, and under the name `dagwright-query engine` the process that runs one query for it.

use clap::Parser;
use dagwright_query::{config::Config, engine, serve};

/// Runs one query for the service. Not for people: it speaks frames on its standard output.
#[derive(Parser)]
struct EngineCommand {
    #[command(flatten)]
    args: engine::EngineArgs,
}

fn main() -> anyhow::Result<()> {
    if std::env::args_os().nth(1).is_some_and(|arg| arg == "engine") {
        return engine::run(&EngineCommand::parse_from(std::env::args_os().skip(1)).args);
    }
    let config = Config::parse();
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(serve::run(config))
}
