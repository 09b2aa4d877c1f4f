//! From a provider's words to a verified bundle, or to a fault that names provider, block and field. Pure.

use dagwright_contracts::{gateway::VerificationFailure, tasks::Verification};
use dagwright_evm::{
    BlockReport, Doubt, Level, Outcome, VerifiedBundle, VerifyRequest,
    json::{decode_block, decode_receipts},
    verify::verify_links,
};

use super::{
    super::{OperatorError, Reason},
    fetch::RawBundle,
    plan::Plan,
};

/// Why a block is not written.
#[derive(Debug)]
pub(super) enum Fault {
    /// It contradicts itself or what was asked.
    Wrong(VerificationFailure),
    /// It cannot be proven, and proof is asked for.
    Unproven { provider: String, message: String, doubt: Doubt },
}

impl Fault {
    /// What the gateway is to hear.
    pub(super) fn report(&self) -> Option<&VerificationFailure> {
        match self {
            Self::Wrong(failure) => Some(failure),
            Self::Unproven { .. } => None,
        }
    }

    /// The metric label.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Wrong(_) => "failed",
            Self::Unproven { .. } => "unverifiable",
        }
    }

    pub(super) fn into_error(self, pool: &str) -> OperatorError {
        match self {
            Self::Wrong(VerificationFailure { provider, block, field, detail }) => {
                let message = format!(
                    "provider {provider} of RpcPool {pool} fed a wrong block {block}: {field}: {detail}"
                );
                OperatorError::new(Reason::VerificationFailed, message).blame(provider)
            }
            Self::Unproven { provider, message, doubt } => {
                let message = format!(
                    "{message} (from provider {provider} of RpcPool {pool}); set verification to Recorded to store it with its level"
                );
                let error = OperatorError::new(Reason::Unverifiable, message);
                match doubt {
                    Doubt::Chain => error,
                    // A shape of the answer's own, which costs that provider: unless all give it, another attempt can do better.
                    Doubt::Answer => error.retryable(true).blame(provider),
                }
            }
        }
    }
}

/// Verifies one block as the plan's profile and policy say.
pub(super) fn verify(plan: &Plan, raw: &RawBundle) -> Result<VerifiedBundle, Fault> {
    let wrong = |field: &str, detail: String| {
        Fault::Wrong(VerificationFailure {
            provider: raw.provider.clone(),
            block: raw.number,
            field: field.into(),
            detail,
        })
    };
    let block =
        decode_block(raw.block.get().as_bytes()).map_err(|error| wrong("block", crate::chain(&error)))?;
    let receipts = decode_receipts(raw.receipts.get().as_bytes())
        .map_err(|error| wrong("receipts", crate::chain(&error)))?;
    let bundle = VerifiedBundle::verify(plan.profile, block, receipts, VerifyRequest::by_number(raw.number))
        .map_err(|report| wrong(&failed_field(&report), report.summary()))?;
    if bundle.report().level() != Level::Verified && plan.config.verification == Verification::Required {
        let (message, doubt) = unproven(bundle.report());
        return Err(Fault::Unproven { provider: raw.provider.clone(), message, doubt });
    }
    Ok(bundle)
}

/// The first failed check with its field, such as `receipts_root.receiptsRoot`.
fn failed_field(report: &BlockReport) -> String {
    let failed = report.failures().next();
    failed.map_or_else(String::new, |result| match &result.outcome {
        Outcome::Failed { field, .. } => format!("{}.{field}", result.check.as_str()),
        Outcome::Verified | Outcome::Unverifiable { .. } => result.check.as_str().to_owned(),
    })
}

/// What is open, and whether another answer could close it: the chain itself decides when it doubts but one check.
fn unproven(report: &BlockReport) -> (String, Doubt) {
    let open = report.checks.iter().filter_map(|result| match &result.outcome {
        Outcome::Unverifiable { reason, doubt } if result.check.guards_rows() => {
            Some((format!("{}: {reason}", result.check.as_str()), *doubt))
        }
        _ => None,
    });
    let (reasons, doubts): (Vec<_>, Vec<_>) = open.unzip();
    let doubt = if doubts.contains(&Doubt::Chain) { Doubt::Chain } else { Doubt::Answer };
    (format!("block {} cannot be proven: {}", report.number, reasons.join("; ")), doubt)
}

/// Checks that a block follows the one before. Each is consistent by itself, so that this is a fork or a reorg between two
/// answers: nobody is cordoned, but when both came from one provider the next attempt starts with another.
pub(super) fn link(
    before: Option<&VerifiedBundle>,
    bundle: &VerifiedBundle,
    provider_before: &str,
    provider: &str,
) -> Result<(), OperatorError> {
    let Some(before) = before else { return Ok(()) };
    let Err(broken) = verify_links([before.block(), bundle.block()]) else { return Ok(()) };
    let message = format!("{broken} (from providers {provider_before} and {provider})");
    let error = OperatorError::new(Reason::BrokenLink, message);
    Err(if provider_before == provider { error.blame(provider) } else { error })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use dagwright_contracts::tasks::EvmIngestConfig;
    use dagwright_core::range::BlockRange;
    use dagwright_evm::{OutputKind, profile};
    use serde_json::value::RawValue;

    use super::*;

    fn raw(chain: &str, number: u64) -> RawBundle {
        let folder =
            Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../tests/fixtures/evm/{chain}/{number}"));
        let read = |name: &str| -> Box<RawValue> {
            let answer: serde_json::Value =
                serde_json::from_str(&std::fs::read_to_string(folder.join(name)).unwrap()).unwrap();
            let result = answer.get("result").unwrap_or(&answer);
            serde_json::value::to_raw_value(result).unwrap()
        };
        RawBundle { number, provider: "p".into(), block: read("block.json"), receipts: read("receipts.json") }
    }

    fn plan(name: &str, verification: Verification) -> Plan {
        let config =
            EvmIngestConfig { chain_id: 1, profile: name.into(), verification, rpc_pool: "pool".into() };
        let range = BlockRange::new(0, 1).unwrap();
        Plan { config, profile: profile(name).unwrap(), range, kinds: vec![OutputKind::Blocks] }
    }

    #[test]
    fn a_true_block_passes_and_the_same_block_for_another_height_does_not() {
        let plan = plan("ethereum", Verification::Required);
        let mut bundle = raw("ethereum", 18_000_000);
        assert_eq!(verify(&plan, &bundle).unwrap().report().level(), Level::Verified);
        bundle.number += 1;
        let fault = verify(&plan, &bundle).unwrap_err();
        let failure = fault.report().unwrap();
        assert_eq!((failure.provider.as_str(), failure.block), ("p", 18_000_001));
        assert!(failure.field.starts_with("answer"), "{failure:?}");
        let error = fault.into_error("pool");
        assert_eq!((error.provider.as_deref(), error.retryable), (Some("p"), true));
    }

    #[test]
    fn what_cannot_be_decoded_is_the_providers_fault() {
        let plan = plan("ethereum", Verification::Required);
        let mut bundle = raw("ethereum", 18_000_000);
        bundle.receipts = RawValue::from_string("[null]".into()).unwrap();
        let error = verify(&plan, &bundle).unwrap_err().into_error("pool");
        assert_eq!(error.reason, Reason::VerificationFailed);
        assert!(error.message.contains("receipts"), "{error}");
    }

    #[test]
    fn what_nobody_can_prove_is_the_policys_to_judge() {
        let bundle = raw("cronos", 10_000);
        let kept = verify(&plan("cronos", Verification::Recorded), &bundle).unwrap();
        assert_eq!(kept.report().level(), Level::Unverifiable);
        let fault = verify(&plan("cronos", Verification::Required), &bundle).unwrap_err();
        assert!(fault.report().is_none(), "no provider is to blame");
        let error = fault.into_error("pool");
        assert_eq!((error.reason, error.retryable), (Reason::Unverifiable, false));
        assert!(error.message.contains("block 10000 cannot be proven: "), "{error}");
    }

    #[test]
    fn a_fork_between_two_blocks_blames_only_a_provider_that_contradicts_itself() {
        let plan = plan("ethereum", Verification::Required);
        let (old, new) =
            (verify(&plan, &raw("ethereum", 4_369_999)), verify(&plan, &raw("ethereum", 18_000_000)));
        let (old, new) = (old.unwrap(), new.unwrap());
        assert!(link(None, &new, "", "a").is_ok());
        let error = link(Some(&old), &new, "a", "a").unwrap_err();
        assert_eq!((error.reason, error.provider.as_deref()), (Reason::BrokenLink, Some("a")));
        assert_eq!(link(Some(&old), &new, "a", "b").unwrap_err().provider, None);
    }
}
