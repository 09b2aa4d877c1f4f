//! `dagwright evm record`.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail};
use clap::Args;
use dagwright_core::range::BlockRange;
use dagwright_evm::json;
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{json, value::RawValue};

use super::{
    client::{Answers, CONCURRENCY, Client},
    parse_range,
    recording::{CHAIN_FILE, Chain},
};

/// What to record.
#[derive(Debug, Args)]
pub struct RecordArgs {
    /// The provider to ask.
    #[arg(long, value_name = "URL")]
    rpc_url: String,
    /// Heights to record: first, and the one behind the last.
    #[arg(long, value_name = "A:B", value_parser = parse_range)]
    range: BlockRange,
    /// Where to write; created when missing.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

pub(super) async fn run(args: RecordArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.rpc_url)?;
    let chain_id = client.chain_id().await?;
    let ask = async |height: u64| one(&client, height).await.map(|answers| (height, answers));
    let mut blocks = stream::iter(args.range.start()..args.range.end()).map(ask).buffered(CONCURRENCY);
    let mut recorded = 0;
    while let Some((height, answers)) = blocks.try_next().await? {
        let directory = args.directory.join(height.to_string());
        std::fs::create_dir_all(&directory).with_context(|| format!("create {}", directory.display()))?;
        write(&directory.join("block.json"), answers.block.get())?;
        write(&directory.join("receipts.json"), answers.receipts.get())?;
        recorded += 1;
    }
    // Written last: a directory with it holds everything that it names.
    let chain = Chain { chain_id, range: Some([args.range.start(), args.range.end()]) };
    write(&args.directory.join(CHAIN_FILE), &serde_json::to_string_pretty(&chain)?)?;
    println!("recorded {recorded} blocks of chain {chain_id} in {}", args.directory.display());
    Ok(ExitCode::SUCCESS)
}

/// One block and its receipts, asked for by height and again by hash: a replay answers both from one file.
async fn one(client: &Client, height: u64) -> anyhow::Result<Answers> {
    let answers = client.answers(height).await?;
    let block = json::decode_block(answers.block.get().as_bytes())
        .with_context(|| format!("decode block {height}"))?;
    if block.header.number != height {
        bail!("asked for block {height}, the provider answered block {}", block.header.number);
    }
    let by_hash = client.call("eth_getBlockByHash", json!([block.header.hash, true])).await?;
    if !same_json(&by_hash, &answers.block)? {
        bail!(
            "block {height}: the provider answers differently by height and by hash {}: record again",
            block.header.hash
        );
    }
    Ok(answers)
}

fn same_json(one: &RawValue, two: &RawValue) -> anyhow::Result<bool> {
    let parse = |raw: &RawValue| serde_json::from_str::<serde_json::Value>(raw.get());
    Ok(parse(one)? == parse(two)?)
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
}
