//! What a task asks for, read and checked before anything is fetched. Pure.

use std::ops::Range;

use dagwright_contracts::tasks::{EvmIngestConfig, Work};
use dagwright_core::range::BlockRange;
use dagwright_evm::{OutputKind, Profile, profile};
use serde::Deserialize as _;

use super::super::{OperatorError, Reason};

/// Blocks per batch: two calls each. More would make answers large and failures dear.
const BLOCKS_PER_BATCH: u64 = 4;

/// A checked task.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) config: EvmIngestConfig,
    pub(super) profile: &'static Profile,
    pub(super) range: BlockRange,
    /// One per output of the task, in the same order.
    pub(super) kinds: Vec<OutputKind>,
}

impl Plan {
    pub(super) fn read(work: &Work) -> Result<Self, OperatorError> {
        let invalid = |message: String| OperatorError::new(Reason::InvalidConfig, message);
        let config = EvmIngestConfig::deserialize(&work.config)
            .map_err(|error| invalid(format!("the config of {} cannot be read: {error}", work.subject)))?;
        let profile = profile(&config.profile).ok_or_else(|| {
            invalid(format!("chain profile \"{}\" is not known to this worker", config.profile))
        })?;
        let kinds = work.outputs.iter().map(|output| {
            let kind: OutputKind = output.name.parse().map_err(|error| invalid(format!("{error}")))?;
            if kind == OutputKind::Traces {
                return Err(invalid(
                    "output traces is not supported yet: leave it out of the stream's outputs".into(),
                ));
            }
            Ok(kind)
        });
        let kinds: Vec<_> = kinds.collect::<Result<_, _>>()?;
        if kinds.is_empty() {
            return Err(invalid(format!("{} has no outputs", work.subject)));
        }
        Ok(Self { config, profile, range: work.range, kinds })
    }

    /// The range in pieces, in order.
    pub(super) fn batches(&self) -> Vec<Range<u64>> {
        let step = usize::try_from(BLOCKS_PER_BATCH).expect("a small constant");
        let starts = (self.range.start()..self.range.end()).step_by(step);
        starts.map(|start| start..self.range.end().min(start.saturating_add(BLOCKS_PER_BATCH))).collect()
    }
}

#[cfg(test)]
mod tests {
    use dagwright_contracts::tasks::Output;
    use dagwright_core::ids::VersionId;
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    fn work(config: serde_json::Value, outputs: &[&str]) -> Work {
        let output = |name: &&str| Output {
            name: (*name).into(),
            version: VersionId(Uuid::nil()),
            bucket: "b".into(),
            prefix: "p/".into(),
        };
        Work {
            namespace: "demo".into(),
            subject: "ChainSync demo/local stream core".into(),
            operator: "evm_ingest".into(),
            semantics: 1,
            config,
            range: BlockRange::new(10, 19).unwrap(),
            outputs: outputs.iter().map(output).collect(),
            avoid_providers: vec![],
        }
    }

    fn config() -> serde_json::Value {
        json!({"chainId": 1, "profile": "ethereum", "verification": "Required", "rpcPool": "mainnet"})
    }

    #[test]
    fn a_range_is_cut_into_batches_without_gap_or_overlap() {
        let plan = Plan::read(&work(config(), &["blocks", "logs"])).unwrap();
        assert_eq!(plan.batches(), vec![10..14, 14..18, 18..19]);
        assert_eq!(plan.kinds[1], OutputKind::Logs);
    }

    #[test]
    fn what_makes_no_sense_is_refused_for_good() {
        let mut unknown = config();
        unknown["profile"] = "atlantis".into();
        for (work, text) in [
            (work(json!({}), &["blocks"]), "cannot be read"),
            (work(unknown, &["blocks"]), "chain profile \"atlantis\""),
            (work(config(), &["uncles"]), "unknown output kind"),
            (work(config(), &["traces"]), "not supported yet"),
            (work(config(), &[]), "has no outputs"),
        ] {
            let error = Plan::read(&work).unwrap_err();
            assert!(error.message.contains(text) && !error.retryable, "{error}");
        }
    }
}
