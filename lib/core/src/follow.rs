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

impl Heights {
    /// The highest block that the node speaks of.
    fn highest(&self) -> Option<u64> {
        self.latest.max(self.safe).max(self.finalized)
    }
}

/// Blocks that a chain may have made beyond what time explains: the head that is known may be some passes old.
const SLACK: u64 = 64;

/// Blocks per second that are believed at once. The fastest chains make four.
const BLOCKS_PER_SECOND: u64 = 10;

/// A node that nobody can contradict must be this far behind before it takes anything back: behind one URL there may be many
/// nodes, of which some lag.
const LAG: u64 = 64;

/// The head that was seen last, and how long ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeenHead {
    /// Height.
    pub height: u64,
    /// Seconds since.
    pub seconds_ago: u64,
}

/// Who answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answers {
    /// One provider; another may be asked.
    First(Heights),
    /// Two different providers.
    Two(Heights, Heights),
    /// One provider; there is no other that answers.
    Only(Heights),
}

/// What becomes of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It stays.
    Keep,
    /// More is wanted: up to this end (exclusive).
    Raise(u64),
    /// Less is there than was believed: nothing uncovered from this end (exclusive) on is wanted.
    Lower(u64),
    /// The answer is worth nothing without a second provider's.
    Ask,
}

/// Moves the end (exclusive) of what is wanted. One provider's word is enough for what time explains. For a leap, the lower of two
/// words counts: one that lies, or has left the chain, moves no target. For a way back, the higher of two words counts: one that
/// lags, or a head that was reorganised away, unwants nothing.
#[must_use]
pub fn step(current: u64, behind: Behind, seen: Option<SeenHead>, answers: &Answers) -> Step {
    let (first, second) = match answers {
        Answers::First(heights) | Answers::Only(heights) => (heights, None),
        Answers::Two(first, second) => (first, Some(second)),
    };
    let Some(end) = wanted_end(behind, first) else { return Step::Keep };
    let others = second.and_then(|heights| wanted_end(behind, heights));
    match (answers, others) {
        (_, _) if end > current && explained(seen, first) => Step::Raise(end),
        (Answers::First(_), _) if end != current => Step::Ask,
        (Answers::Two(..), Some(other)) if end.min(other) > current => Step::Raise(end.min(other)),
        (Answers::Two(..), Some(other)) if end.max(other) < current => Step::Lower(end.max(other)),
        (Answers::Only(_), _) if end > current => Step::Raise(end),
        (Answers::Only(_), _) if end.saturating_add(LAG) < current => Step::Lower(end),
        (Answers::First(_) | Answers::Two(..) | Answers::Only(_), _) => Step::Keep,
    }
}

fn wanted_end(behind: Behind, heights: &Heights) -> Option<u64> {
    let newest = match behind {
        Behind::Finalized => heights.finalized,
        Behind::Safe => heights.safe,
        Behind::Blocks(n) => heights.latest.and_then(|latest| latest.checked_sub(n)),
    };
    newest.map(|height| height.saturating_add(1))
}

/// Whether the time since the last head explains the new one.
fn explained(seen: Option<SeenHead>, heights: &Heights) -> bool {
    let (Some(seen), Some(highest)) = (seen, heights.highest()) else { return false };
    let made = seen.seconds_ago.saturating_mul(BLOCKS_PER_SECOND).saturating_add(SLACK);
    highest <= seen.height.saturating_add(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEIGHTS: Heights = Heights { latest: Some(100), safe: Some(90), finalized: Some(80) };
    const SEEN: Option<SeenHead> = Some(SeenHead { height: 98, seconds_ago: 3 });

    fn latest(height: u64) -> Heights {
        Heights { latest: Some(height), ..Heights::default() }
    }

    fn at_head(current: u64, answers: Answers) -> Step {
        step(current, Behind::Blocks(0), SEEN, &answers)
    }

    #[test]
    fn each_tag_has_its_own_target() {
        let raised = |behind| step(0, behind, SEEN, &Answers::First(HEIGHTS));
        assert_eq!(raised(Behind::Finalized), Step::Raise(81));
        assert_eq!(raised(Behind::Safe), Step::Raise(91));
        assert_eq!(raised(Behind::Blocks(0)), Step::Raise(101));
        assert_eq!(raised(Behind::Blocks(64)), Step::Raise(37));
    }

    #[test]
    fn what_is_not_known_moves_nothing() {
        let unknown = Answers::First(Heights::default());
        assert_eq!(step(5, Behind::Safe, SEEN, &unknown), Step::Keep);
        let young = Answers::First(HEIGHTS);
        assert_eq!(step(7, Behind::Blocks(500), SEEN, &young), Step::Keep, "nothing is that deep yet");
        assert_eq!(at_head(101, Answers::First(HEIGHTS)), Step::Keep, "no news");
    }

    #[test]
    fn one_provider_that_leaps_moves_no_target() {
        let lie = latest(1_000_000_000);
        assert_eq!(at_head(99, Answers::First(lie)), Step::Ask);
        assert_eq!(at_head(99, Answers::Two(lie, latest(100))), Step::Raise(101), "the lower word counts");
        assert_eq!(at_head(99, Answers::Two(lie, latest(97))), Step::Keep);
        assert_eq!(
            at_head(99, Answers::Two(lie, Heights::default())),
            Step::Keep,
            "silence confirms nothing"
        );
        let far = Heights { finalized: Some(1_000_000_000), ..HEIGHTS };
        assert_eq!(step(99, Behind::Finalized, SEEN, &Answers::First(far)), Step::Ask);
    }

    #[test]
    fn a_leap_that_two_agree_on_or_nobody_can_gainsay_is_taken() {
        assert_eq!(at_head(99, Answers::Two(latest(5000), latest(4999))), Step::Raise(5000));
        assert_eq!(at_head(99, Answers::Only(latest(5000))), Step::Raise(5001));
        let first_sight = step(0, Behind::Blocks(0), None, &Answers::First(latest(20)));
        assert_eq!(first_sight, Step::Ask, "no head was seen yet");
    }

    #[test]
    fn time_explains_a_long_way() {
        let hour = Some(SeenHead { height: 100, seconds_ago: 3600 });
        let heights = Answers::First(latest(30_000));
        assert_eq!(step(101, Behind::Blocks(0), hour, &heights), Step::Raise(30_001));
    }

    #[test]
    fn a_target_that_a_lie_raised_comes_down_again() {
        assert_eq!(at_head(9_000, Answers::First(latest(100))), Step::Ask);
        assert_eq!(at_head(9_000, Answers::Two(latest(100), latest(99))), Step::Lower(101));
        assert_eq!(at_head(9_000, Answers::Only(latest(100))), Step::Lower(101));
    }

    #[test]
    fn a_node_that_lags_unwants_nothing() {
        assert_eq!(at_head(101, Answers::Two(latest(90), latest(100))), Step::Keep);
        assert_eq!(at_head(101, Answers::Two(latest(90), Heights::default())), Step::Keep);
        assert_eq!(at_head(101, Answers::Only(latest(90))), Step::Keep);
    }
}
