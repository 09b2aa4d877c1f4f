use dagwright_crds::{
    RpcPool, RpcPoolStatus,
    conditions::{HEALTHY, NO_HEALTHY_PROVIDER, NOT_REPORTED, PROVIDERS_DEGRADED, PROVIDERS_HEALTHY},
    rpc_pool::ProviderStatus,
};

use super::observe::Observed;
use crate::{
    engine::{Extra, OUTSIDE, Pass, RESYNC, Tri, Verdict},
    reconcile::{instant, place},
};

/// The providers as the gateway last reported them, in the order of the spec.
pub(super) fn of(pool: &RpcPool, seen: &Observed) -> RpcPoolStatus {
    let providers: Vec<_> = pool
        .spec
        .providers
        .iter()
        .map(|provider| match seen.health.iter().find(|h| h.provider == provider.name) {
            None => ProviderStatus {
                name: provider.name.clone(),
                state: "Unknown".into(),
                head: None,
                error_rate_percent: 0,
                message: None,
                since: None,
            },
            Some(health) => ProviderStatus {
                name: provider.name.clone(),
                state: health.state.clone(),
                head: health.head,
                error_rate_percent: percent(health.error_rate_percent),
                message: Some(health.message.chars().take(1024).collect()).filter(|m: &String| !m.is_empty()),
                since: instant(health.since),
            },
        })
        .collect();
    let healthy = providers.iter().filter(|p| p.state == "Healthy").count();
    RpcPoolStatus {
        healthy: Some(format!("{healthy}/{}", providers.len())),
        head: providers.iter().filter_map(|p| p.head).max(),
        providers,
        ..RpcPoolStatus::default()
    }
}

/// What the pool says of itself. Ready means that the gateway has what it needs; whether providers answer is Healthy.
pub(super) fn pass(pool: &RpcPool, seen: &Observed) -> Pass<RpcPoolStatus> {
    let (_, name) = place(pool);
    let status = of(pool, seen);
    let healthy = status.providers.iter().filter(|p| p.state == "Healthy").count();
    let known = status.providers.iter().filter(|p| p.state != "Unknown").count();
    let bad = |state: &str| {
        let of_state = status.providers.iter().filter(|p| p.state != state);
        of_state.map(|p| format!("{} {}", p.name, p.state)).collect::<Vec<_>>().join(", ")
    };
    let extra = if known == 0 {
        Extra::new(HEALTHY, Tri::Unknown, NOT_REPORTED, "the gateway has not asked the providers yet")
    } else if healthy == status.providers.len() {
        Extra::new(HEALTHY, Tri::True, PROVIDERS_HEALTHY, format!("all {healthy} providers answer"))
    } else if healthy > 0 {
        Extra::new(HEALTHY, Tri::True, PROVIDERS_DEGRADED, format!("not healthy: {}", bad("Healthy")))
    } else {
        Extra::new(
            HEALTHY,
            Tri::False,
            NO_HEALTHY_PROVIDER,
            format!("no provider answers: {}", bad("Healthy")),
        )
    };
    let message = format!("RpcPool {name} is known to the gateway");
    // A copy that is lost in Secrets Manager stops a provider; nobody tells us.
    let again = if seen.sources.is_empty() { RESYNC } else { OUTSIDE };
    Pass { status, extra: vec![extra], again, ..Pass::of(Verdict::Ready { message }) }
}

#[expect(clippy::cast_possible_truncation, reason = "clamped to 0..=100 before")]
fn percent(rate: f64) -> i64 {
    rate.clamp(0.0, 100.0).round() as i64
}
