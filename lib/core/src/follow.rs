//! How far behind the head a stream follows.

/// `spec.mode.followHead.behind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behind {
    /// Up to the block that the chain calls finalized.
    Finalized,
    /// Up to the block that the chain calls safe.
    Safe,
    /// This many blocks behind the head.
    Blocks(u64),
}

/// Heights that a node reports; a chain without a tag reports none for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heights {
    /// Newest block.
    pub latest: Option<u64>,
    /// Newest safe block.
    pub safe: Option<u64>,
    /// Newest finalized block.
    pub finalized: Option<u64>,
}

/// The end (exclusive) of what is wanted now. It never goes down: a node that lags behind the one asked before, or a head
/// that was reorganised away, unwants nothing.
#[must_use]
pub fn target_end(current: u64, behind: Behind, heights: &Heights) -> u64 {
    let newest = match behind {
        Behind::Finalized => heights.finalized,
        Behind::Safe => heights.safe,
        Behind::Blocks(n) => heights.latest.and_then(|latest| latest.checked_sub(n)),
    };
    newest.map_or(current, |height| current.max(height.saturating_add(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEIGHTS: Heights = Heights { latest: Some(100), safe: Some(90), finalized: Some(80) };

    #[test]
    fn each_tag_has_its_own_target() {
        assert_eq!(target_end(0, Behind::Finalized, &HEIGHTS), 81);
        assert_eq!(target_end(0, Behind::Safe, &HEIGHTS), 91);
        assert_eq!(target_end(0, Behind::Blocks(0), &HEIGHTS), 101);
        assert_eq!(target_end(0, Behind::Blocks(64), &HEIGHTS), 37);
    }

    #[test]
    fn a_target_never_goes_down() {
        assert_eq!(target_end(95, Behind::Safe, &HEIGHTS), 95);
        assert_eq!(target_end(5, Behind::Safe, &Heights::default()), 5, "an unknown tag moves nothing");
        assert_eq!(target_end(7, Behind::Blocks(500), &HEIGHTS), 7, "a young chain has nothing that deep");
    }
}
