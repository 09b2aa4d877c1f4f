//! Setting rules while the proxy runs: in process, or over HTTP on an address of its own:
//! `POST /rules` (a [`Rule`] as JSON, answers its id), `GET /rules` (ids with hits), `DELETE /rules` or `DELETE /rules/ID`,
//! `POST /account` (an [`Account`]: from then on what AWS refuses is refused).

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    extract::{Path, State},
    routing::{delete, get, post},
};
use hyper::{Response, body::Bytes};
use serde_json::Value;
use tokio::sync::watch;

use super::aws::Deliveries;
use super::refusals::{Account, Refusals};
use super::rules::{Fault, Match, RpcMatch, Rule, RuleId, Subject};

/// Sets rules and reads counters.
#[derive(Clone)]
pub struct FaultControl {
    rules: Arc<Mutex<Rules>>,
    deliveries: Arc<Mutex<Deliveries>>,
    refusals: Arc<Mutex<Option<Refusals>>>,
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct Rules {
    next: u64,
    active: BTreeMap<u64, Active>,
    requests: u64,
    calls: BTreeMap<String, u64>,
}

struct Active {
    rule: Rule,
    seen: u64,
    hits: u64,
}

/// A fault that is to happen.
pub(super) struct Strike {
    pub(super) id: RuleId,
    pub(super) fault: Fault,
    pub(super) when: RpcMatch,
}

impl Default for FaultControl {
    fn default() -> Self {
        Self {
            rules: Arc::default(),
            deliveries: Arc::default(),
            refusals: Arc::default(),
            changed: watch::Sender::new(0),
        }
    }
}

impl FaultControl {
    /// Adds a rule behind the ones that are there.
    pub fn add(&self, rule: Rule) -> RuleId {
        let mut rules = self.lock();
        rules.next += 1;
        let id = rules.next;
        rules.active.insert(id, Active { rule, seen: 0, hits: 0 });
        RuleId(id)
    }

    /// Removes a rule and says how often it struck.
    pub fn remove(&self, id: RuleId) -> u64 {
        self.lock().active.remove(&id.0).map_or(0, |active| active.hits)
    }

    /// From now on refuses what AWS refuses.
    pub fn refuse_as_aws(&self, account: Account) {
        *self.refusals.lock().unwrap_or_else(PoisonError::into_inner) = Some(Refusals::new(account));
    }

    /// The refusal that AWS would answer.
    pub(super) fn refused(&self, subject: &Subject, request: &[u8]) -> Option<Response<Bytes>> {
        let refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        let refusal = refusals.as_ref()?.judge(subject, &super::aws::json_of(request), Instant::now())?;
        Some(refusal.response(subject))
    }

    /// A request was applied.
    pub(super) fn applied(&self, subject: &Subject, request: &[u8]) {
        if let Some(refusals) = self.refusals.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            refusals.learn(subject, &super::aws::json_of(request), Instant::now());
        }
    }

    /// Adds earlier deliveries to an answer of `ReceiveMessage`.
    pub(super) fn deliver_again(&self, queue: &Value, answer: &mut Value) -> u64 {
        self.deliveries.lock().unwrap_or_else(PoisonError::into_inner).again(queue, answer)
    }

    /// Removes all rules.
    pub fn clear(&self) {
        self.lock().active.clear();
    }

    /// How often a rule struck.
    #[must_use]
    pub fn hits(&self, id: RuleId) -> u64 {
        self.lock().active.get(&id.0).map_or(0, |active| active.hits)
    }

    /// HTTP requests so far.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.lock().requests
    }

    /// JSON-RPC calls of a method, or AWS operations of a name, so far.
    #[must_use]
    pub fn calls(&self, name: &str) -> u64 {
        self.lock().calls.get(name).copied().unwrap_or(0)
    }

    /// Waits until a rule struck `hits` times.
    ///
    /// # Errors
    /// When that takes longer than `timeout`.
    pub async fn wait_for_hits(&self, id: RuleId, hits: u64, timeout: Duration) -> anyhow::Result<()> {
        let mut changed = self.changed.subscribe();
        let waiting = async {
            while self.hits(id) < hits {
                if changed.changed().await.is_err() {
                    break;
                }
            }
        };
        tokio::time::timeout(timeout, waiting).await.map_err(|_| {
            anyhow::anyhow!("rule {} struck {} of {hits} times within {timeout:?}", id.0, self.hits(id))
        })
    }

    /// The control API.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/rules", get(list).post(add).delete(clear))
            .route("/rules/{id}", delete(remove))
            .route("/account", post(account))
            .with_state(self.clone())
    }

    /// Counts a request and finds what is to happen to it. What counts itself is a hit only when it happened ([`Self::told`]).
    pub(super) fn strike(&self, subject: &Subject) -> Option<Strike> {
        let mut rules = self.lock();
        rules.requests += 1;
        let names = subject.calls.iter().map(|(method, _)| method).chain(subject.operation.as_ref());
        for name in names {
            *rules.calls.entry(name.clone()).or_default() += 1;
        }
        let struck = rules.active.iter_mut().find_map(|(id, active)| {
            let Rule { when, then, skip, every, times } = &active.rule;
            if times.is_some_and(|times| active.hits >= times) || !when.matches(subject) {
                return None;
            }
            active.seen += 1;
            let due =
                active.seen.checked_sub(*skip).is_some_and(|n| n > 0 && n % every.unwrap_or(1).max(1) == 0);
            if !due {
                return None;
            }
            let fault = match then {
                Fault::LieInTurn(lies) => {
                    let turn = usize::try_from(active.seen).unwrap_or(0).checked_rem(lies.len())?;
                    Fault::Lie(lies[turn].clone())
                }
                other => other.clone(),
            };
            active.hits += u64::from(!fault.counts_itself());
            let when = match when {
                Match::Rpc(when) => when.clone(),
                Match::Any | Match::Aws(_) => RpcMatch::default(),
            };
            Some(Strike { id: RuleId(*id), fault, when })
        });
        drop(rules);
        self.changed.send_modify(|version| *version += 1);
        struck
    }

    /// A rule that counts itself struck so many calls.
    pub(super) fn told(&self, id: RuleId, calls: u64) {
        if let Some(active) = self.lock().active.get_mut(&id.0) {
            active.hits += calls;
        }
        self.changed.send_modify(|version| *version += 1);
    }

    fn lock(&self) -> MutexGuard<'_, Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn add(State(control): State<FaultControl>, Json(rule): Json<Rule>) -> Json<RuleId> {
    Json(control.add(rule))
}

async fn list(State(control): State<FaultControl>) -> Json<serde_json::Value> {
    let rules = control.lock();
    let rows = rules.active.iter().map(|(id, active)| {
        serde_json::json!({"id": id, "rule": active.rule, "seen": active.seen, "hits": active.hits})
    });
    Json(
        serde_json::json!({"rules": rows.collect::<Vec<_>>(), "requests": rules.requests, "calls": rules.calls}),
    )
}

async fn remove(State(control): State<FaultControl>, Path(id): Path<u64>) -> Json<serde_json::Value> {
    Json(serde_json::json!({ "hits": control.remove(RuleId(id)) }))
}

async fn account(State(control): State<FaultControl>, Json(account): Json<Account>) {
    control.refuse_as_aws(account);
}

async fn clear(State(control): State<FaultControl>) {
    control.clear();
}
