//! Block ranges: half-open `[start, end)` in code, inclusive in object names. Only this module converts.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A non-empty half-open range of block heights.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "RawRange")]
pub struct BlockRange {
    start: u64,
    end: u64,
}

#[derive(Deserialize)]
struct RawRange {
    start: u64,
    end: u64,
}

/// A range whose end does not lie behind its start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("range [{start}, {end}) is empty: its end must lie behind its start")]
pub struct EmptyRange {
    start: u64,
    end: u64,
}

impl TryFrom<RawRange> for BlockRange {
    type Error = EmptyRange;
    fn try_from(raw: RawRange) -> Result<Self, EmptyRange> {
        Self::try_new(raw.start, raw.end)
    }
}

impl BlockRange {
    /// The range `[start, end)`, or `None` when it would be empty.
    #[must_use]
    pub fn new(start: u64, end: u64) -> Option<Self> {
        (start < end).then_some(Self { start, end })
    }

    /// The range `[start, end)`.
    ///
    /// # Errors
    /// When it would be empty.
    pub fn try_new(start: u64, end: u64) -> Result<Self, EmptyRange> {
        Self::new(start, end).ok_or(EmptyRange { start, end })
    }

    /// First height inside.
    #[must_use]
    pub fn start(self) -> u64 {
        self.start
    }

    /// First height behind.
    #[must_use]
    pub fn end(self) -> u64 {
        self.end
    }

    /// Number of blocks; never zero.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a BlockRange is never empty")]
    pub fn len(self) -> u64 {
        self.end - self.start
    }

    /// Whether `height` lies inside.
    #[must_use]
    pub fn contains(self, height: u64) -> bool {
        (self.start..self.end).contains(&height)
    }

    /// Whether both share a block.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.start < other.end && other.start < self.end
    }

    /// The shared blocks.
    #[must_use]
    pub fn intersect(self, other: Self) -> Option<Self> {
        Self::new(self.start.max(other.start), self.end.min(other.end))
    }

    /// All heights, in order.
    pub fn heights(self) -> impl Iterator<Item = u64> {
        self.start..self.end
    }

    /// The name used in object keys: `{start}_{last}`, zero-padded to twelve digits so that keys sort, end **inclusive**.
    #[must_use]
    pub fn object_name(self) -> String {
        format!("{:012}_{:012}", self.start, self.end - 1)
    }
}

impl fmt::Display for BlockRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {})", self.start, self.end)
    }
}

impl fmt::Debug for BlockRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A set of heights as sorted, disjoint, non-touching ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeSet(Vec<BlockRange>);

impl RangeSet {
    /// The empty set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The ranges, sorted, disjoint and not touching.
    #[must_use]
    pub fn ranges(&self) -> &[BlockRange] {
        &self.0
    }

    /// Whether nothing is inside.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Number of heights.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        self.0.iter().map(|r| r.len()).sum()
    }

    /// Adds a range, joining it with what it overlaps or touches.
    pub fn insert(&mut self, range: BlockRange) {
        let first = self.0.partition_point(|r| r.end < range.start);
        let behind = self.0.partition_point(|r| r.start <= range.end);
        let mut joined = range;
        for old in &self.0[first..behind] {
            joined = BlockRange { start: joined.start.min(old.start), end: joined.end.max(old.end) };
        }
        self.0.splice(first..behind, [joined]);
    }

    /// What of `range` is not in the set, in order.
    #[must_use]
    pub fn gaps_in(&self, range: BlockRange) -> Vec<BlockRange> {
        let mut gaps = Vec::new();
        let mut at = range.start;
        for covered in self.0.iter().filter_map(|r| r.intersect(range)) {
            gaps.extend(BlockRange::new(at, covered.start));
            at = covered.end;
        }
        gaps.extend(BlockRange::new(at, range.end));
        gaps
    }

    /// The heights in both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let mut both = Self::new();
        for a in &self.0 {
            other.0.iter().filter_map(|b| a.intersect(*b)).for_each(|r| both.insert(r));
        }
        both
    }

    /// Whether every height of `other` is inside.
    #[must_use]
    pub fn contains_all(&self, other: &Self) -> bool {
        other.0.iter().all(|r| self.gaps_in(*r).is_empty())
    }

    /// The end of the contiguous piece that starts at or before `from`: a stream's cursor. `from` when nothing covers it.
    #[must_use]
    pub fn contiguous_end(&self, from: u64) -> u64 {
        self.0.iter().find(|r| r.contains(from)).map_or(from, |r| r.end)
    }
}

impl FromIterator<BlockRange> for RangeSet {
    fn from_iter<I: IntoIterator<Item = BlockRange>>(ranges: I) -> Self {
        let mut set = Self::new();
        ranges.into_iter().for_each(|r| set.insert(r));
        set
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn range() -> impl Strategy<Value = BlockRange> {
        (0u64..60, 1u64..12)
            .prop_map(|(start, len)| BlockRange::new(start, start + len).expect("len is at least 1"))
    }

    fn heights(ranges: &[BlockRange]) -> BTreeSet<u64> {
        ranges.iter().flat_map(|r| r.heights()).collect()
    }

    proptest! {
        #[test]
        fn a_set_holds_exactly_what_was_inserted(ranges in prop::collection::vec(range(), 0..12)) {
            let set: RangeSet = ranges.iter().copied().collect();
            prop_assert_eq!(heights(set.ranges()), heights(&ranges));
            prop_assert!(set.ranges().windows(2).all(|w| w[0].end() < w[1].start()), "sorted, disjoint, not touching");
        }

        #[test]
        fn gaps_and_coverage_split_a_range(ranges in prop::collection::vec(range(), 0..12), asked in range()) {
            let set: RangeSet = ranges.iter().copied().collect();
            let gaps = set.gaps_in(asked);
            let expected: BTreeSet<u64> = heights(&[asked]).difference(&heights(&ranges)).copied().collect();
            prop_assert_eq!(heights(&gaps), expected);
        }

        #[test]
        fn intersection_is_what_both_hold(a in prop::collection::vec(range(), 0..8), b in prop::collection::vec(range(), 0..8)) {
            let (left, right): (RangeSet, RangeSet) = (a.iter().copied().collect(), b.iter().copied().collect());
            let expected: BTreeSet<u64> = heights(&a).intersection(&heights(&b)).copied().collect();
            prop_assert_eq!(heights(left.intersection(&right).ranges()), expected);
        }

        #[test]
        fn the_cursor_is_the_first_missing_height(ranges in prop::collection::vec(range(), 0..12), from in 0u64..60) {
            let set: RangeSet = ranges.iter().copied().collect();
            let held = heights(&ranges);
            let expected = (from..).find(|h| !held.contains(h)).expect("the set is finite");
            prop_assert_eq!(set.contiguous_end(from), expected);
        }
    }

    #[test]
    fn object_names_are_inclusive_and_sort() {
        let name = |a, b| BlockRange::new(a, b).expect("not empty").object_name();
        assert_eq!(name(500, 600), "000000000500_000000000599");
        assert!(name(900, 1000) < name(1000, 1100));
    }
}
