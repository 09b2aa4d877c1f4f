//! When a candidate may replace what is served: readers never see a height go down (I11).

use crate::range::RangeSet;

/// One dataset of an owner: what is served, and what would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatasetCoverage {
    /// Coverage of the served version that is not stale; none before the first cutover.
    pub served: Option<RangeSet>,
    /// Coverage of the candidate that is not stale.
    pub candidate: RangeSet,
}

/// Whether all datasets of an owner can flip together, in the snapshot that these coverages come from.
#[must_use]
pub fn ready(datasets: &[DatasetCoverage]) -> bool {
    datasets.iter().all(|d| d.served.as_ref().is_none_or(|served| d.candidate.contains_all(served)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::range::BlockRange;

    fn set(ranges: &[(u64, u64)]) -> RangeSet {
        ranges.iter().map(|(a, b)| BlockRange::new(*a, *b).expect("not empty")).collect()
    }

    #[test]
    fn a_first_version_is_served_at_once_and_a_next_one_when_it_covers() {
        let first = DatasetCoverage { served: None, candidate: set(&[]) };
        let behind = DatasetCoverage { served: Some(set(&[(0, 10)])), candidate: set(&[(0, 9)]) };
        let even = DatasetCoverage { served: Some(set(&[(0, 10)])), candidate: set(&[(0, 5), (5, 12)]) };
        assert!(ready(std::slice::from_ref(&first)));
        assert!(!ready(&[first.clone(), behind.clone()]), "one that lags holds all back");
        assert!(ready(&[first, even]));
        assert!(!ready(&[behind]));
    }
}
