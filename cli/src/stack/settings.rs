//! What a stack decides once and keeps: its ports, passwords and keys, in one private file.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::parts::Parts;

/// Ports below the range from which the kernel takes those of outgoing connections: such a port can be had again
/// at the next start.
const PORTS: std::ops::Range<u16> = 18_000..32_000;

/// Everything that a supervisor needs to start a stack.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settings {
    pub name: String,
    pub dir: PathBuf,
    pub parts: Parts,
    /// Folder of our own binaries; without it only what they depend on is started.
    pub binaries: Option<PathBuf>,
    /// Folder with recorded answers of Ethereum mainnet.
    pub replay: Option<PathBuf>,
    /// A proxy that stands before the AWS endpoint for our own processes and tasks.
    #[serde(default)]
    pub aws_proxy: Option<PathBuf>,
    /// Further variables of our own processes and tasks.
    #[serde(default)]
    pub variables: BTreeMap<String, String>,
    /// The `dagwright` program.
    pub program: PathBuf,
    pub kept: Kept,
}

/// The part that survives restarts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Kept {
    pub ports: BTreeMap<String, u16>,
    /// Passwords of Postgres roles.
    pub passwords: BTreeMap<String, String>,
    /// Shared by dispatcher and RPC gateway.
    pub gateway_token: String,
    /// PKCS #8, PEM: signs the developer's token.
    pub token_key: String,
}

/// What is started beside what Dagwright depends on.
#[derive(Clone, Debug, Default)]
pub struct Programs {
    pub binaries: Option<PathBuf>,
    pub replay: Option<PathBuf>,
    pub aws_proxy: Option<PathBuf>,
    pub variables: BTreeMap<String, String>,
}

pub const REGION: &str = "us-east-1";
pub(super) const ISSUER: &str = "https://dagwright.local";
pub(super) const AUDIENCE: &str = "dagwright-query";
const FILE: &str = "stack.json";

const LISTENERS: [&str; 21] = [
    "etcd",
    "etcd-peer",
    "kube-apiserver",
    "kube-controller-manager",
    "postgres",
    "ministack",
    "aws-proxy",
    "aws-proxy-control",
    "credentials",
    "anvil",
    "mainnet-replay",
    "controller-0-admin",
    "controller-1-admin",
    "dispatcher-0",
    "dispatcher-0-admin",
    "dispatcher-1",
    "dispatcher-1-admin",
    "rpc",
    "rpc-admin",
    "query",
    "query-admin",
];

/// Roles of both databases, least privilege each.
pub const DATABASE_ROLES: [&str; 8] = [
    "postgres",
    "dagwright_migrate",
    "dagwright_controller",
    "dagwright_dispatcher",
    "dagwright_query",
    "dagwright_data_owner",
    "dagwright_data_writer",
    "dagwright_data_reader",
];

impl Settings {
    /// Reads the settings of a stack that was started before, or makes new ones, and writes them down.
    pub fn prepare(name: &str, dir: &Path, parts: Parts, programs: Programs) -> anyhow::Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        let kept = match Self::load(dir) {
            Ok(previous) => previous.kept.with_free_ports()?,
            Err(_) => Kept::generate()?,
        };
        let settings = Self {
            name: name.to_owned(),
            dir: dir.to_owned(),
            parts,
            binaries: programs.binaries,
            replay: programs.replay,
            aws_proxy: programs.aws_proxy,
            variables: programs.variables,
            program: crate::paths::program()?.to_owned(),
            kept,
        };
        let text = serde_json::to_vec_pretty(&settings).context("serialise the stack's settings")?;
        write_private(&dir.join(FILE), &text)?;
        Ok(settings)
    }

    /// The settings of a stack that was started before.
    pub fn load(dir: &Path) -> anyhow::Result<Self> {
        let path = dir.join(FILE);
        let text =
            fs::read(&path).with_context(|| format!("read {}: was the stack started?", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("parse {}", path.display()))
    }

    /// Loopback address of a listener.
    pub fn address(&self, listener: &str) -> SocketAddr {
        let port = self.kept.ports.get(listener).copied().unwrap_or_default();
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    }

    /// HTTP base URL of a listener.
    pub fn url(&self, listener: &str) -> String {
        format!("http://{}", self.address(listener))
    }

    /// Where our own processes and tasks find AWS.
    pub fn aws_url(&self) -> String {
        self.url(if self.aws_proxy.is_some() { "aws-proxy" } else { "ministack" })
    }

    /// Connection string of a role for a database.
    pub fn database_url(&self, role: &str, database: &str) -> String {
        let password = self.kept.passwords.get(role).map_or("", String::as_str);
        format!("postgres://{role}:{password}@{}/{database}", self.address("postgres"))
    }

    /// Both dispatchers, as their clients take them.
    pub fn dispatcher_urls(&self) -> String {
        format!("{},{}", self.url("dispatcher-0"), self.url("dispatcher-1"))
    }

    pub fn bucket(&self) -> String {
        format!("dagwright-data-{}", self.name)
    }

    pub fn logs(&self) -> PathBuf {
        self.dir.join("logs")
    }

    pub fn run_dir(&self) -> PathBuf {
        self.dir.join("run")
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.join("kubernetes/admin.kubeconfig")
    }

    pub fn controller_kubeconfig(&self) -> PathBuf {
        self.dir.join("kubernetes/controller.kubeconfig")
    }
}

impl Kept {
    fn generate() -> anyhow::Result<Self> {
        let key =
            rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).context("generate the token key")?;
        let kept = Self {
            ports: BTreeMap::new(),
            passwords: DATABASE_ROLES.map(|role| (role.to_owned(), secret())).into(),
            gateway_token: secret(),
            token_key: key.serialize_pem(),
        };
        kept.with_free_ports()
    }

    /// Keeps every port that is still free, so that addresses in a developer's shell stay right.
    fn with_free_ports(mut self) -> anyhow::Result<Self> {
        let mut ports = BTreeMap::new();
        for listener in LISTENERS {
            let remembered = self.ports.get(listener).copied().filter(|port| is_free(*port));
            let port = match remembered {
                Some(port) => port,
                None => free_port(&ports)?,
            };
            ports.insert(listener.to_owned(), port);
        }
        self.ports = ports;
        Ok(self)
    }
}

fn free_port(taken: &BTreeMap<String, u16>) -> anyhow::Result<u16> {
    let mut rng = rand::rng();
    for _ in 0..1_000 {
        let port = rng.random_range(PORTS);
        if is_free(port) && !taken.values().any(|other| *other == port) {
            return Ok(port);
        }
    }
    bail!("no free port between {} and {} on 127.0.0.1", PORTS.start, PORTS.end)
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

fn secret() -> String {
    hex::encode(rand::rng().random::<[u8; 24]>())
}

/// Writes a file that only its owner can read.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let partial = path.with_extension("partial");
    let mut options = fs::OpenOptions::new();
    let mut file = options
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&partial)
        .with_context(|| format!("create {}", partial.display()))?;
    file.write_all(content).with_context(|| format!("write {}", partial.display()))?;
    fs::rename(&partial, path).with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_start_keeps_free_ports_and_replaces_taken_ones() {
        let first = Kept::generate().unwrap();
        let blocker = TcpListener::bind((Ipv4Addr::LOCALHOST, first.ports["postgres"])).unwrap();
        let second = first.clone().with_free_ports().unwrap();
        assert_eq!(second.ports["etcd"], first.ports["etcd"]);
        assert_ne!(second.ports["postgres"], blocker.local_addr().unwrap().port());
        let mut distinct: Vec<_> = second.ports.values().collect();
        distinct.sort();
        distinct.dedup();
        assert_eq!(distinct.len(), second.ports.len());
    }
}
