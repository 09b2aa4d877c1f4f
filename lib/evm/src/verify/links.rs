//! Parent links inside a range. Links across ranges are the dispatcher's: it alone sees both neighbours.

use alloy_primitives::B256;

use crate::json::Block;

/// The hashes by which a range attaches to its neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RangeEdges {
    pub first_parent_hash: B256,
    pub last_hash: B256,
}

/// Two blocks of a range that do not follow each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokenLink {
    /// There is nothing to link.
    #[error("the range holds no block")]
    Empty,
    /// A height is missing, doubled or out of order.
    #[error("block {expected} is missing: got block {got} in its place")]
    Gap { expected: u64, got: u64 },
    /// The parent hash is not the hash of the block before.
    #[error("block {number}: parentHash is {got}, but block {} has hash {expected}", number.saturating_sub(1))]
    Parent { number: u64, expected: B256, got: B256 },
    /// Total difficulty does not grow by the block's difficulty.
    #[error("block {number}: totalDifficulty does not follow from that of block {}", number.saturating_sub(1))]
    TotalDifficulty { number: u64 },
}

/// Checks that blocks follow each other without a gap and returns how the range attaches outside.
///
/// # Errors
/// The first pair that does not link.
pub fn verify_links<'a>(blocks: impl IntoIterator<Item = &'a Block>) -> Result<RangeEdges, BrokenLink> {
    let mut blocks = blocks.into_iter();
    let first = blocks.next().ok_or(BrokenLink::Empty)?;
    let mut last = first;
    for block in blocks {
        link(last, block)?;
        last = block;
    }
    Ok(RangeEdges { first_parent_hash: first.header.parent_hash, last_hash: last.header.hash })
}

fn link(before: &Block, block: &Block) -> Result<(), BrokenLink> {
    let (number, got) = (before.header.number.saturating_add(1), block.header.number);
    if number != got {
        return Err(BrokenLink::Gap { expected: number, got });
    }
    if block.header.parent_hash != before.header.hash {
        return Err(BrokenLink::Parent {
            number,
            expected: before.header.hash,
            got: block.header.parent_hash,
        });
    }
    if let (Some(sum), Some(total)) = (before.total_difficulty, block.total_difficulty)
        && sum.saturating_add(block.header.difficulty) != total
    {
        return Err(BrokenLink::TotalDifficulty { number });
    }
    Ok(())
}
