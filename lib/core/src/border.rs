//! Ranges that touch must link: the parent hash of the upper one's first block is the hash of the lower one's last block.

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

#[cfg(test)]
mod tests {
    use super::*;

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
