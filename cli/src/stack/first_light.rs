//! The example of a first run: applied, watched until both chains are synced, and queried.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, bail};
use dagwright_crds::{ChainSync, Dataset};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};

use super::settings::Settings;
use crate::load::{self, LoadConfig};
use crate::{kubernetes, sql};

/// The namespace of the example.
pub const NAMESPACE: &str = "demo";
/// Height of the local chain: its example reads [0, 512), and the head must lie beyond what it reads.
const BLOCKS: u64 = 540;
const POLL: Duration = Duration::from_millis(250);
/// Without any block committed for this long, something is stuck and the user should see why.
const PATIENCE: Duration = Duration::from_secs(300);

/// The controller writes moving numbers at most once a minute.
const SETTLE: Duration = Duration::from_secs(60);

const QUERIES: [&str; 2] = [
    "SELECT count(*) AS blocks, sum(gas_used) AS gas_used FROM demo.local_blocks",
    "SELECT b.block_number, count(*) AS transactions, count(*) FILTER (WHERE NOT t.success) AS reverted \
     FROM demo.mainnet_blocks b JOIN demo.mainnet_transactions t USING (block_number) GROUP BY 1",
];

/// Applies the example, brings the local chain to its height, and waits until every sync is done.
pub async fn run(settings: &Settings, workspace: &Path) -> anyhow::Result<()> {
    let client = kubernetes::client(&settings.kubeconfig()).await?;
    let bars = Bars::new();
    let load = async {
        let bar = bars.add("local node", BLOCKS);
        let config = LoadConfig { rpc_url: settings.url("anvil"), blocks: BLOCKS };
        let summary = load::run(config, |height| bar.set_position(height)).await?;
        bar.finish_with_message(format!(
            "{} transactions, {} transfers, {} reverts",
            summary.transactions, summary.transfers, summary.reverts
        ));
        anyhow::Ok(())
    };
    let objects = manifests(settings, &workspace.join("examples/first-light"))?;
    let (applied, ()) = tokio::try_join!(kubernetes::apply(&client, &objects), load)?;
    bars.say(&format!("applied {} objects of examples/first-light to namespace {NAMESPACE}", applied.len()));
    let synced = synced(&client, &bars).await?;
    counted(&client, &synced).await?;
    show(settings).await
}

/// The example's objects with the addresses of this stack filled in.
pub fn manifests(settings: &Settings, dir: &Path) -> anyhow::Result<Vec<kube::api::DynamicObject>> {
    let variables = super::commands::variables(settings)?;
    let entries = std::fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))?;
    let mut files: Vec<_> = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    let mut objects = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        let text =
            variables.iter().fold(text, |text, (name, value)| text.replace(&format!("${{{name}}}"), value));
        objects.extend(kubernetes::parse(&text).with_context(|| format!("read {}", file.display()))?);
    }
    Ok(objects)
}

/// Numbers in a Dataset's status follow its commits after some seconds; what is shown should be the end of them.
async fn counted(client: &Client, syncs: &[ChainSync]) -> anyhow::Result<()> {
    let wanted: BTreeMap<_, _> = syncs
        .iter()
        .flat_map(|sync| {
            sync.spec.streams.iter().flat_map(|stream| &stream.outputs).map(move |output| (sync, output))
        })
        .map(|(sync, output)| (output.dataset_ref.name.clone(), extent(sync).1))
        .collect();
    let api: Api<Dataset> = Api::namespaced(client.clone(), NAMESPACE);
    let mut tick = tokio::time::interval(POLL);
    let behind = async |name: &String, end: &u64| -> anyhow::Result<bool> {
        let dataset = api.get_opt(name).await.with_context(|| format!("get Dataset {name}"))?;
        let range = dataset.and_then(|dataset| dataset.status?.range);
        Ok(range.is_none_or(|range| u64::try_from(range.end).unwrap_or_default() < *end))
    };
    let all = async {
        for (name, end) in &wanted {
            while behind(name, end).await? {
                tick.tick().await;
            }
        }
        Ok(())
    };
    // Older numbers are no failure.
    tokio::time::timeout(SETTLE, all).await.unwrap_or(Ok(()))
}

async fn synced(client: &Client, bars: &Bars) -> anyhow::Result<Vec<ChainSync>> {
    let api: Api<ChainSync> = Api::namespaced(client.clone(), NAMESPACE);
    let mut lines: BTreeMap<String, ProgressBar> = BTreeMap::new();
    let mut tick = tokio::time::interval(POLL);
    let (mut last, mut since) = (0, tokio::time::Instant::now());
    loop {
        tick.tick().await;
        let syncs = api.list(&ListParams::default()).await.context("list the chain syncs")?.items;
        let mut committed = 0;
        for sync in &syncs {
            let (from, target, cursor) = extent(sync);
            let bar =
                lines.entry(sync.name_any()).or_insert_with(|| bars.add(&sync.name_any(), target - from));
            bar.set_position(cursor - from);
            committed += cursor - from;
            if is_synced(sync) && !bar.is_finished() {
                bar.finish_with_message("verified and committed");
            }
        }
        if !syncs.is_empty() && syncs.iter().all(is_synced) {
            return Ok(syncs);
        }
        if committed > last {
            (last, since) = (committed, tokio::time::Instant::now());
        }
        if since.elapsed() > PATIENCE {
            bail!("no block was committed for {} s\n{}", PATIENCE.as_secs(), problems(&syncs));
        }
    }
}

/// Start, end and cursor of the slowest stream.
fn extent(sync: &ChainSync) -> (u64, u64, u64) {
    let height = |height: i64| u64::try_from(height).unwrap_or_default();
    let dagwright_crds::chain_sync::Mode::FixedTarget(range) = &sync.spec.mode else { return (0, 0, 0) };
    let (from, to) = (height(range.from), height(range.to));
    let streams = sync.status.iter().flat_map(|status| &status.streams);
    let cursor = streams.map(|stream| height(stream.cursor)).min().unwrap_or(from);
    (from, to, cursor.clamp(from, to))
}

fn is_synced(sync: &ChainSync) -> bool {
    let conditions = sync.status.iter().flat_map(|status| &status.conditions);
    conditions.into_iter().any(|condition| condition.type_ == "Synced" && condition.status == "True")
}

fn problems(syncs: &[ChainSync]) -> String {
    let of = |sync: &ChainSync| {
        let status = sync.status.clone().unwrap_or_default();
        let conditions = status.conditions.into_iter().filter(|condition| condition.type_ != "Synced");
        let mut lines: Vec<_> = conditions
            .map(|condition| {
                format!(
                    "  {}={} {}: {}",
                    condition.type_, condition.status, condition.reason, condition.message
                )
            })
            .collect();
        lines.extend(
            status.problems.iter().map(|problem| format!("  {}: {}", problem.stream, problem.message)),
        );
        format!("ChainSync {}:\n{}", sync.name_any(), lines.join("\n"))
    };
    syncs.iter().map(of).collect::<Vec<_>>().join("\n")
}

async fn show(settings: &Settings) -> anyhow::Result<()> {
    println!();
    kubectl(settings, &["get", "dagwright", "-n", NAMESPACE])?;
    let token =
        super::commands::variables(settings)?.into_iter().find(|(name, _)| *name == "DAGWRIGHT_TOKEN");
    let token = token.map(|(_, token)| token).unwrap_or_default();
    for query in QUERIES {
        println!("\n$ dagwright sql \"{query}\"");
        sql::run(sql::SqlArgs::table(query, &settings.url("query"), &token)).await?;
    }
    Ok(())
}

fn kubectl(settings: &Settings, arguments: &[&str]) -> anyhow::Result<ExitStatus> {
    println!("$ kubectl {}", arguments.join(" "));
    Command::new(&settings.parts.kubectl)
        .args(arguments)
        .env("KUBECONFIG", settings.kubeconfig())
        .status()
        .context("run kubectl")
}

/// What a person does next.
pub fn print_how_to_go_on(settings: &Settings) {
    let stack = if settings.name == crate::paths::DEFAULT_STACK {
        String::new()
    } else {
        format!(" --stack {}", settings.name)
    };
    let lines = [
        (format!("eval \"$(./dev env{stack})\""), "variables and PATH for this shell"),
        ("kubectl get dagwright -A".to_owned(), "every resource"),
        ("kubectl explain chainsync.spec".to_owned(), "what a field means"),
        ("dagwright sql \"SELECT …\"".to_owned(), "ask the query service"),
        (format!("./dev ps{stack}"), "what runs, and where"),
        (format!("./dev logs{stack} dispatcher-0 -f"), "follow a log"),
        (format!("./dev down{stack}"), "stop everything"),
    ];
    println!("\nHow to go on:");
    for (command, what) in lines {
        println!("  {command:42} {what}");
    }
}

/// One bar per chain on a terminal; a line at each end elsewhere.
struct Bars {
    all: MultiProgress,
}

impl Bars {
    fn new() -> Self {
        Self { all: MultiProgress::with_draw_target(ProgressDrawTarget::stderr()) }
    }

    fn add(&self, name: &str, length: u64) -> ProgressBar {
        let bar = self.all.add(ProgressBar::new(length));
        bar.set_style(
            ProgressStyle::with_template("{prefix:12} [{bar:40}] {pos:>6}/{len} blocks {elapsed:>4} {msg}")
                .expect("the template is a constant that parses")
                .progress_chars("=> "),
        );
        bar.set_prefix(name.to_owned());
        bar
    }

    fn say(&self, text: &str) {
        if self.all.println(text).is_err() || self.all.is_hidden() {
            eprintln!("{text}");
        }
    }
}
