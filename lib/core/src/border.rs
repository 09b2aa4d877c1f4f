//! Ranges that touch must link: the parent hash of the upper one's first block is the hash of the lower one's last block.

use std::collections::HashMap;

/// Hashes of a range's ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Parent hash of the first block.
    pub first_parent_hash: Vec<u8>,
    /// Hash of the last block.
    pub last_hash: Vec<u8>,
}

/// Where two ranges do not link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fork {
    /// First height of the upper range.
    pub height: u64,
    /// Hash of the block below, as the lower range has it.
    pub below_hash: Vec<u8>,
    /// Hash of the block below, as the upper range has it.
    pub above_parent_hash: Vec<u8>,
}

/// Compares a range `[start, end)` with its neighbours that are committed. No neighbour means nothing to compare yet.
#[must_use]
pub fn check(start: u64, end: u64, ends: &Ends, below: Option<&Ends>, above: Option<&Ends>) -> Vec<Fork> {
    let lower = below.map(|b| (start, &b.last_hash, &ends.first_parent_hash));
    let upper = above.map(|a| (end, &ends.last_hash, &a.first_parent_hash));
    let borders = [lower, upper].into_iter().flatten();
    let forks = borders.filter(|(_, below, parent)| below != parent);
    forks
        .map(|(height, below, parent)| Fork {
            height,
            below_hash: below.clone(),
            above_parent_hash: parent.clone(),
        })
        .collect()
}

/// The ends of ranges of one dataset version, committed ones and those that are about to join them: ranges that commit together
/// are each other's neighbours too.
#[derive(Clone, Debug, Default)]
pub struct Borders {
    by_start: HashMap<u64, Ends>,
    by_end: HashMap<u64, Ends>,
}

impl Borders {
    /// Enters a range `[start, end)`.
    pub fn enter(&mut self, start: u64, end: u64, ends: &Ends) {
        self.by_start.insert(start, ends.clone());
        self.by_end.insert(end, ends.clone());
    }

    /// Where a range does not link with those that were entered.
    #[must_use]
    pub fn forks(&self, start: u64, end: u64, ends: &Ends) -> Vec<Fork> {
        check(start, end, ends, self.by_end.get(&start), self.by_start.get(&end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_commit_together_are_neighbours_too() {
        let mut borders = Borders::default();
        borders.enter(10, 20, &ends(1, 2));
        assert_eq!(borders.forks(20, 30, &ends(2, 3)), []);
        assert_eq!(borders.forks(0, 10, &ends(0, 1)), []);
        assert_eq!(borders.forks(30, 40, &ends(7, 8)), [], "they do not touch");
        let heights = |forks: Vec<Fork>| forks.iter().map(|f| f.height).collect::<Vec<_>>();
        assert_eq!(heights(borders.forks(20, 30, &ends(9, 3))), [20]);
        borders.enter(30, 40, &ends(3, 4));
        assert_eq!(heights(borders.forks(20, 30, &ends(9, 8))), [20, 30]);
    }

    fn ends(parent: u8, last: u8) -> Ends {
        Ends { first_parent_hash: vec![parent], last_hash: vec![last] }
    }

    #[test]
    fn neighbours_link_or_fork_on_either_side() {
        let mine = ends(1, 2);
        assert_eq!(check(10, 20, &mine, None, None), []);
        assert_eq!(check(10, 20, &mine, Some(&ends(0, 1)), Some(&ends(2, 3))), []);
        let forks = check(10, 20, &mine, Some(&ends(0, 9)), Some(&ends(8, 3)));
        let heights: Vec<_> =
            forks.iter().map(|f| (f.height, f.below_hash[0], f.above_parent_hash[0])).collect();
        assert_eq!(heights, [(10, 9, 1), (20, 2, 8)]);
    }
}
