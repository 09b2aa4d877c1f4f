//! The planner's decision: which ranges become tasks. Wanted minus covered minus pending, per output (I10).
//!
//! The grid is aligned to the start of what is wanted: cells `[start + k * chunk, start + (k + 1) * chunk)`. A range ends at
//! its cell's end or at the end of what is wanted, whichever is first, and is never extended. A changed chunk size thus
//! shapes new ranges only.

use crate::range::{BlockRange, RangeSet};

/// One output of a job: what of its version is there, and what is on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputCoverage {
    /// Output port.
    pub output: String,
    /// Committed.
    pub covered: RangeSet,
    /// Named by a task that is not finished; failed tasks included, which a redrive brings back.
    pub pending: RangeSet,
}

/// What a job wants, and what bounds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanRequest {
    /// The blocks that are wanted.
    pub wanted: BlockRange,
    /// The job's outputs, in order.
    pub outputs: Vec<OutputCoverage>,
    /// Blocks per task at most.
    pub chunk: u64,
    /// Tasks that wait or run.
    pub in_flight: u32,
    /// How many may.
    pub max_in_flight: u32,
}

/// A task to be inserted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedTask {
    /// Its blocks.
    pub range: BlockRange,
    /// The outputs that lack them.
    pub outputs: Vec<String>,
}

/// The next tasks, as many as the bound allows. Ranges that lack all outputs (the stream's own way) come first, then those
/// that lack some (an added output catching up); each from the lowest.
#[must_use]
pub fn plan(request: &PlanRequest) -> Vec<PlannedTask> {
    let room = request.max_in_flight.saturating_sub(request.in_flight) as usize;
    if room == 0 || request.chunk == 0 || request.outputs.is_empty() {
        return vec![];
    }
    let gaps: Vec<Vec<BlockRange>> = request.outputs.iter().map(|o| gaps(request.wanted, o)).collect();
    let all = request.outputs.len();
    let mut planned: Vec<_> =
        Sweep::new(request, &gaps).filter(|t| t.outputs.len() == all).take(room).collect();
    let left = room - planned.len();
    planned.extend(Sweep::new(request, &gaps).filter(|t| t.outputs.len() < all).take(left));
    planned
}

fn gaps(wanted: BlockRange, output: &OutputCoverage) -> Vec<BlockRange> {
    let mut taken = output.covered.clone();
    output.pending.ranges().iter().for_each(|r| taken.insert(*r));
    taken.gaps_in(wanted)
}

/// Walks what is wanted from its start, one task at a time, so that a long history is not enumerated to plan its first tasks.
struct Sweep<'a> {
    request: &'a PlanRequest,
    gaps: &'a [Vec<BlockRange>],
    at: u64,
}

impl<'a> Sweep<'a> {
    fn new(request: &'a PlanRequest, gaps: &'a [Vec<BlockRange>]) -> Self {
        Self { request, gaps, at: request.wanted.start() }
    }
}

impl Iterator for Sweep<'_> {
    type Item = PlannedTask;

    fn next(&mut self) -> Option<PlannedTask> {
        // The first gap that ends behind `at`, per output: its start may lie before, at or behind `at`.
        let nearest: Vec<_> =
            self.gaps.iter().map(|gaps| gaps.get(gaps.partition_point(|g| g.end() <= self.at))).collect();
        let start = nearest.iter().flatten().map(|g| g.start().max(self.at)).min()?;
        let change =
            nearest.iter().flatten().map(|g| if g.contains(start) { g.end() } else { g.start() }).min()?;
        let wanted = self.request.wanted;
        let cell = (start - wanted.start()) / self.request.chunk;
        let cell_end = (cell + 1).checked_mul(self.request.chunk).and_then(|o| wanted.start().checked_add(o));
        let end = change.min(wanted.end()).min(cell_end.unwrap_or(u64::MAX));
        let lacking = nearest.iter().zip(&self.request.outputs);
        let outputs = lacking
            .filter(|(gap, _)| gap.is_some_and(|g| g.contains(start)))
            .map(|(_, o)| o.output.clone())
            .collect();
        self.at = end;
        Some(PlannedTask { range: BlockRange::new(start, end)?, outputs })
    }
}

#[cfg(test)]
mod tests;
