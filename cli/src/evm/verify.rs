//! `dagwright evm verify`.

use std::{io::Write, path::PathBuf, process::ExitCode};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use dagwright_core::range::BlockRange;
use dagwright_evm::{
    Asked, BlockReport, Outcome, Profile, VerifyRequest,
    json::{self, Block},
    profile::{self, PROFILES},
    verify::{SenderCheck, verify_links},
    verify_block,
};
use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;

use super::{
    client::{CONCURRENCY, Client},
    parse_range,
};

/// What to verify.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The chain's profile: what its hashes and roots can prove. Needed with --block; with --rpc-url the chain id tells.
    #[arg(long, value_name = "NAME", required_unless_present = "rpc_url")]
    chain: Option<String>,
    /// A block with full transactions, as eth_getBlockByNumber answers it.
    #[arg(long, value_name = "FILE", required_unless_present = "rpc_url", conflicts_with = "rpc_url")]
    block: Option<PathBuf>,
    /// The receipts of that block, as eth_getBlockReceipts answers them. Without them, less can be proven.
    #[arg(long, value_name = "FILE", requires = "block")]
    receipts: Option<PathBuf>,
    /// A provider to ask.
    #[arg(long, value_name = "URL", requires = "range")]
    rpc_url: Option<String>,
    /// Heights to ask for: first, and the one behind the last.
    #[arg(long, value_name = "A:B", value_parser = parse_range, requires = "rpc_url")]
    range: Option<BlockRange>,
    /// Recover the sender of one in so many transactions. It is the one slow check.
    #[arg(long, value_name = "N", default_value_t = 1)]
    sample_senders: u64,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// One line per block and check.
    Text,
    /// One JSON object per block and check.
    Json,
}

#[derive(Serialize)]
struct Line<'a> {
    block: u64,
    hash: String,
    check: &'a str,
    #[serde(flatten)]
    outcome: &'a Outcome,
}

/// What all lines so far amount to.
struct Verdict {
    format: Format,
    failed: bool,
    unverifiable: bool,
}

pub(super) async fn run(args: VerifyArgs) -> anyhow::Result<ExitCode> {
    let mut verdict = Verdict { format: args.format, failed: false, unverifiable: false };
    match (&args.rpc_url, args.range, &args.block) {
        (Some(url), Some(range), _) => verify_range(&args, url, range, &mut verdict).await?,
        (_, _, Some(block)) => verify_files(&args, block, &mut verdict)?,
        _ => bail!("nothing to verify: give --block, or --rpc-url with --range"),
    }
    Ok(verdict.exit_code())
}

fn verify_files(args: &VerifyArgs, block: &PathBuf, verdict: &mut Verdict) -> anyhow::Result<()> {
    let profile = named_profile(args.chain.as_deref().unwrap_or_default())?;
    let read = |path: &PathBuf| std::fs::read(path).with_context(|| format!("read {}", path.display()));
    let decoded = json::decode_block(&read(block)?).with_context(|| format!("decode {}", block.display()))?;
    let receipts = match &args.receipts {
        None => None,
        Some(path) => {
            Some(json::decode_receipts(&read(path)?).with_context(|| format!("decode {}", path.display()))?)
        }
    };
    let request = request(args, Asked::Unknown);
    verdict.report(&verify_block(profile, &decoded, receipts.as_deref(), request))
}

async fn verify_range(
    args: &VerifyArgs,
    url: &str,
    range: BlockRange,
    verdict: &mut Verdict,
) -> anyhow::Result<()> {
    let client = Client::new(url)?;
    let profile = match &args.chain {
        Some(name) => named_profile(name)?,
        None => profile_of(client.chain_id().await?),
    };
    let ask = async |height: u64| client.answers(height).await.map(|answers| (height, answers));
    let mut answers = stream::iter(range.start()..range.end()).map(ask).buffered(CONCURRENCY);
    let mut before: Option<Block> = None;
    while let Some((height, answers)) = answers.try_next().await? {
        let decode = || format!("decode block {height}");
        let block = json::decode_block(answers.block.get().as_bytes()).with_context(decode)?;
        let receipts = json::decode_receipts(answers.receipts.get().as_bytes()).with_context(decode)?;
        let report = verify_block(profile, &block, Some(&receipts), request(args, Asked::Number(height)));
        verdict.report(&report)?;
        if let Some(before) = &before {
            verdict.line(&report, "parent_link", &link(before, &block))?;
        }
        before = Some(block);
    }
    Ok(())
}

fn link(before: &Block, block: &Block) -> Outcome {
    match verify_links([before, block]) {
        Ok(_) => Outcome::Verified,
        Err(broken) => Outcome::Failed {
            field: "parentHash".to_owned(),
            expected: before.header.hash.to_string(),
            got: format!("{} ({broken})", block.header.parent_hash),
        },
    }
}

fn request(args: &VerifyArgs, asked: Asked) -> VerifyRequest {
    let senders = match args.sample_senders {
        0 | 1 => SenderCheck::All,
        classes => SenderCheck::OneIn(classes),
    };
    VerifyRequest { asked, senders }
}

fn named_profile(name: &str) -> anyhow::Result<&'static Profile> {
    match profile::profile(name) {
        Some(profile) => Ok(profile),
        None => {
            let known: Vec<_> = profile::profile_names().collect();
            bail!("unknown chain profile {name:?}: expected one of {}", known.join(", "))
        }
    }
}

fn profile_of(chain_id: u64) -> &'static Profile {
    let known = PROFILES.iter().find(|profile| profile.chain_ids.contains(&chain_id));
    known.or_else(|| profile::profile("generic")).unwrap_or(&PROFILES[0])
}

impl Verdict {
    fn report(&mut self, report: &BlockReport) -> anyhow::Result<()> {
        report.checks.iter().try_for_each(|result| self.line(report, result.check.as_str(), &result.outcome))
    }

    fn line(&mut self, report: &BlockReport, check: &str, outcome: &Outcome) -> anyhow::Result<()> {
        match outcome {
            Outcome::Verified => {}
            Outcome::Unverifiable { .. } => self.unverifiable = true,
            Outcome::Failed { .. } => self.failed = true,
        }
        let mut out = std::io::stdout().lock();
        let written = match self.format {
            Format::Text => writeln!(out, "block {} {check} {outcome}", report.number),
            Format::Json => {
                let line = Line { block: report.number, hash: report.hash.to_string(), check, outcome };
                writeln!(out, "{}", serde_json::to_string(&line)?)
            }
        };
        written.context("write to standard output")
    }

    fn exit_code(&self) -> ExitCode {
        match (self.failed, self.unverifiable) {
            (true, _) => ExitCode::from(1),
            (false, true) => ExitCode::from(3),
            (false, false) => ExitCode::SUCCESS,
        }
    }
}
