//! What the supervisor tells the other commands: one file, replaced whole on every change.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;

const FILE: &str = "status.json";
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// The state of a stack.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    pub supervisor: u32,
    pub phase: Phase,
    /// In order of their start.
    pub processes: Vec<Process>,
}

/// How far a supervisor is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    Starting(String),
    Ready,
    Failed(String),
    Stopping,
}

/// A process of a stack.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Process {
    pub name: String,
    pub pid: Option<u32>,
    pub address: String,
    pub probe: Probe,
    /// How often it ended by itself and was started again.
    pub restarts: u32,
}

/// How one asks a process whether it works.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Probe {
    /// The URL answers 2xx.
    Http(String),
    /// The address accepts a connection.
    Tcp(String),
    /// `/readyz` of the API server that this kubeconfig names answers.
    Kubernetes(PathBuf),
}

impl Probe {
    /// Asks once.
    pub async fn passes(&self) -> bool {
        let ask = async {
            match self {
                Self::Http(url) => http_ok(url).await,
                Self::Tcp(address) => TcpStream::connect(address).await.is_ok(),
                Self::Kubernetes(kubeconfig) => crate::kubernetes::is_ready(kubeconfig).await,
            }
        };
        tokio::time::timeout(PROBE_TIMEOUT, ask).await.unwrap_or(false)
    }
}

async fn http_ok(url: &str) -> bool {
    let client = reqwest::Client::builder().timeout(PROBE_TIMEOUT).no_proxy().build();
    let Ok(client) = client else { return false };
    client.get(url).send().await.is_ok_and(|answer| answer.status().is_success())
}

impl Status {
    /// The newest status of a stack, whether or not its supervisor still lives.
    pub fn load(dir: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(dir.join(FILE)).ok()?).ok()
    }
}

/// The supervisor's side of the file.
#[derive(Debug)]
pub(crate) struct Board {
    path: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    phase: Phase,
    order: Vec<String>,
    processes: BTreeMap<String, Process>,
}

impl Board {
    pub(crate) fn new(dir: &Path) -> Self {
        let inner =
            Inner { phase: Phase::Starting(String::new()), order: vec![], processes: BTreeMap::new() };
        Self { path: dir.join(FILE), inner: Mutex::new(inner) }
    }

    pub(crate) fn phase(&self, phase: Phase) {
        self.change(|inner| inner.phase = phase);
    }

    pub(crate) fn add(&self, process: Process) {
        self.change(|inner| {
            if !inner.processes.contains_key(&process.name) {
                inner.order.push(process.name.clone());
            }
            inner.processes.insert(process.name.clone(), process);
        });
    }

    pub(crate) fn update(&self, name: &str, change: impl FnOnce(&mut Process)) {
        self.change(|inner| {
            if let Some(process) = inner.processes.get_mut(name) {
                change(process);
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut Inner)) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut inner);
        let status = Status {
            supervisor: std::process::id(),
            phase: inner.phase.clone(),
            processes: inner.order.iter().filter_map(|name| inner.processes.get(name)).cloned().collect(),
        };
        // The file is for people and their commands; a full disk shows in the processes themselves.
        let Ok(text) = serde_json::to_vec_pretty(&status) else { return };
        let partial = self.path.with_extension("partial");
        if let Err(error) = fs::write(&partial, text).and_then(|()| fs::rename(&partial, &self.path)) {
            tracing::warn!(path = %self.path.display(), %error, "status was not written");
        }
    }
}
