//! From a provider's words to a verified bundle, or to a fault that names provider, block and field. Pure.

use dagwright_contracts::{gateway::VerificationFailure, tasks::Verification};
use dagwright_evm::{
    BlockReport, Level, Outcome, VerifiedBundle, VerifyRequest,
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
    Unproven { provider: String, message: String },
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
            Self::Unproven { provider, message } => OperatorError::new(
                Reason::Unverifiable,
                format!(
                    "{message} (from provider {provider} of RpcPool {pool}); set verification to Recorded to store it with its level"
                ),
            ),
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
        return Err(Fault::Unproven { provider: raw.provider.clone(), message: unproven(bundle.report()) });
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

fn unproven(report: &BlockReport) -> String {
    let reasons = report.checks.iter().filter_map(|result| match &result.outcome {
        Outcome::Unverifiable { reason } if result.check.guards_rows() => {
            Some(format!("{}: {reason}", result.check.as_str()))
        }
        _ => None,
    });
    format!("block {} cannot be proven: {}", report.number, reasons.collect::<Vec<_>>().join("; "))
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
