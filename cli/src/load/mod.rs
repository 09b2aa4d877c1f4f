//! Life for the local chain: the same blocks, to the hash, on every machine.
//!
//! A first run needs a chain with something on it, and tests need to know what. So every transaction is a pure function of its block
//! number ([`script`]), and blocks are mined one by one at fixed times. After a crash the load goes on where the chain ends.

mod rpc;
mod script;

use std::path::Path;

use anyhow::{Context, bail};
use serde_json::{Value, json};

use rpc::{Rpc, quantity};
use script::{Action, Script, Target, Transaction};

/// Chain id of the local chain.
pub const CHAIN_ID: u64 = 31_337;

/// When block 0 was, in seconds of the epoch; every block comes [`BLOCK_SECONDS`] later.
pub const GENESIS_TIMESTAMP: u64 = 1_700_000_000;

/// Ethereum's own rhythm.
pub const BLOCK_SECONDS: u64 = 12;

/// safe is this far behind the head, finalized twice as far: small, so that a chain of hundreds of blocks has both.
pub const SLOTS_IN_AN_EPOCH: u64 = 4;

/// Arguments for `anvil`: nothing is left to the machine or the moment. With `state` the chain outlives the process, if that ends by a
/// signal it can handle.
#[must_use]
pub fn anvil_args(port: u16, state: Option<&Path>) -> Vec<String> {
    let mut args: Vec<String> =
        vec!["--host".into(), "127.0.0.1".into(), "--no-mining".into(), "--quiet".into()];
    // By fee, transactions of one block would change places when the base fee moves.
    args.extend(["--order".into(), "fifo".into()]);
    let mut number = |flag: &str, value: u64| args.extend([flag.to_owned(), value.to_string()]);
    number("--port", port.into());
    number("--chain-id", CHAIN_ID);
    number("--timestamp", GENESIS_TIMESTAMP);
    number("--slots-in-an-epoch", SLOTS_IN_AN_EPOCH);
    number("--accounts", script::ACCOUNTS);
    if let Some(state) = state {
        args.extend(["--state".to_owned(), state.display().to_string()]);
    }
    args
}

/// What to load, and where.
#[derive(Clone, Debug)]
pub struct LoadConfig {
    /// The node, started with [`anvil_args`].
    pub rpc_url: String,
    /// How high the chain shall be: its last block is this one.
    pub blocks: u64,
}

/// What is on the chain after the load, whoever put it there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadSummary {
    /// Height of the scripted chain.
    pub blocks: u64,
    /// All of them, with those that reverted.
    pub transactions: u64,
    /// Contracts created.
    pub deployments: u64,
    /// ERC-20 transfers that succeeded.
    pub transfers: u64,
    /// Transactions that reverted.
    pub reverts: u64,
    /// Hash of the last scripted block.
    pub head_hash: String,
}

/// Brings the chain to `blocks`; `progress` is told every height. A chain that is as high already is left alone.
pub async fn run(config: LoadConfig, progress: impl Fn(u64)) -> anyhow::Result<LoadSummary> {
    let rpc = Rpc::new(config.rpc_url.clone())?;
    let loaded = load(&rpc, config.blocks, progress).await;
    loaded.with_context(|| format!("load the local chain at {}", config.rpc_url))
}

async fn load(rpc: &Rpc, blocks: u64, progress: impl Fn(u64)) -> anyhow::Result<LoadSummary> {
    let accounts: Vec<String> = rpc.call("eth_accounts", json!([])).await?;
    if accounts.len() < usize::try_from(script::ACCOUNTS)? {
        bail!("the node has {} unlocked accounts, the load needs {}", accounts.len(), script::ACCOUNTS);
    }
    let head = rpc.height().await?;
    progress(head.min(blocks));
    if head < blocks {
        // A load that was cut short may have left half a block in the pool.
        rpc.call::<Value>("anvil_dropAllTransactions", json!([])).await?;
    }
    let mut script = Script::default();
    let mut contracts = Contracts::default();
    for number in 1..=blocks {
        let transactions = script.block(number);
        if number > head {
            mine(rpc, number, &transactions, &accounts, &contracts).await?;
            progress(number);
        }
        contracts.learn(rpc, number, &transactions).await?;
    }
    check_nonces(rpc, &script, &accounts, head.max(blocks) == blocks).await?;
    let hash = rpc.block_hash(blocks).await?;
    Ok(LoadSummary { head_hash: hash, ..script.summary() })
}

async fn mine(
    rpc: &Rpc,
    number: u64,
    transactions: &[Transaction],
    accounts: &[String],
    contracts: &Contracts,
) -> anyhow::Result<()> {
    for transaction in transactions {
        let body = contracts.request(transaction, accounts)?;
        let sent = rpc.call::<String>("eth_sendTransaction", json!([body])).await;
        sent.with_context(|| format!("send a transaction of block {number}"))?;
    }
    let at = GENESIS_TIMESTAMP + number * BLOCK_SECONDS;
    rpc.call::<Value>("evm_mine", json!([quantity(at)]))
        .await
        .with_context(|| format!("mine block {number}"))?;
    Ok(())
}

/// A chain with other transactions than ours would have other nonces. Once others went on from our last block, only more are possible.
async fn check_nonces(
    rpc: &Rpc,
    script: &Script,
    accounts: &[String],
    ours_alone: bool,
) -> anyhow::Result<()> {
    for (account, planned) in accounts.iter().zip(script.nonces()) {
        let found = rpc.number("eth_getTransactionCount", json!([account, "latest"])).await?;
        if found < planned || (ours_alone && found != planned) {
            bail!(
                "account {account} sent {found} transactions where the script has {planned}: the chain was {FOREIGN}"
            );
        }
    }
    Ok(())
}

const FOREIGN: &str = "loaded by something else; remove its state file and start again";

/// Addresses of what the script deployed, read from the chain.
#[derive(Debug, Default)]
struct Contracts {
    token: Option<String>,
    log_shapes: Option<String>,
}

impl Contracts {
    async fn learn(&mut self, rpc: &Rpc, number: u64, transactions: &[Transaction]) -> anyhow::Result<()> {
        let slot = match transactions.first().map(|t| &t.action) {
            Some(Action::DeployToken) if self.token.is_none() => &mut self.token,
            Some(Action::DeployLogShapes) if self.log_shapes.is_none() => &mut self.log_shapes,
            _ => return Ok(()),
        };
        let receipts: Vec<Value> = rpc.call("eth_getBlockReceipts", json!([quantity(number)])).await?;
        let address = receipts.first().and_then(|receipt| receipt["contractAddress"].as_str());
        let foreign = || format!("block {number} deploys no contract: the chain was {FOREIGN}");
        *slot = Some(address.with_context(foreign)?.to_owned());
        Ok(())
    }

    fn request(&self, transaction: &Transaction, accounts: &[String]) -> anyhow::Result<Value> {
        let account = |index: u64| -> anyhow::Result<&str> {
            let found = usize::try_from(index).ok().and_then(|index| accounts.get(index));
            found.map(String::as_str).with_context(|| format!("the node has no account {index}"))
        };
        let mut body = transaction.fees();
        body["from"] = account(transaction.from)?.into();
        body["nonce"] = quantity(transaction.nonce).into();
        match transaction.target() {
            Target::Create => {}
            Target::Account(index) => body["to"] = account(index)?.into(),
            Target::Token => body["to"] = self.token.clone().context("no token is deployed yet")?.into(),
            Target::LogShapes => {
                body["to"] = self.log_shapes.clone().context("no LogShapes is deployed yet")?.into();
            }
        }
        body["data"] = transaction.data(account)?.into();
        body["value"] = quantity(transaction.value()).into();
        Ok(body)
    }
}

#[cfg(test)]
mod tests;
