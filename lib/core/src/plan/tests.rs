use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn range(start: u64, end: u64) -> BlockRange {
    BlockRange::new(start, end).expect("not empty")
}

fn output(name: &str, covered: &[BlockRange], pending: &[BlockRange]) -> OutputCoverage {
    OutputCoverage {
        output: name.into(),
        covered: covered.iter().copied().collect(),
        pending: pending.iter().copied().collect(),
    }
}

fn request(wanted: BlockRange, outputs: Vec<OutputCoverage>, chunk: u64) -> PlanRequest {
    PlanRequest { wanted, outputs, chunk, in_flight: 0, max_in_flight: 1000 }
}

fn ranges(planned: &[PlannedTask]) -> Vec<(u64, u64)> {
    planned.iter().map(|t| (t.range.start(), t.range.end())).collect()
}

#[test]
fn chunks_follow_the_grid_from_the_start() {
    let planned = plan(&request(range(5, 28), vec![output("blocks", &[], &[])], 10));
    assert_eq!(ranges(&planned), [(5, 15), (15, 25), (25, 28)]);
}

#[test]
fn what_is_in_flight_bounds_the_plan() {
    let mut req = request(range(0, 100), vec![output("blocks", &[], &[range(0, 20)])], 10);
    (req.in_flight, req.max_in_flight) = (2, 5);
    assert_eq!(ranges(&plan(&req)), [(20, 30), (30, 40), (40, 50)]);
    req.in_flight = 9;
    assert_eq!(plan(&req), []);
}

#[test]
fn a_range_at_the_tip_ends_at_the_target_and_is_not_extended() {
    let first = plan(&request(range(0, 13), vec![output("blocks", &[range(0, 10)], &[])], 10));
    assert_eq!(ranges(&first), [(10, 13)]);
    let grown = plan(&request(range(0, 25), vec![output("blocks", &[range(0, 10)], &[range(10, 13)])], 10));
    assert_eq!(ranges(&grown), [(13, 20), (20, 25)]);
}

#[test]
fn a_changed_chunk_shapes_new_ranges_only() {
    let planned = plan(&request(range(0, 40), vec![output("blocks", &[range(0, 10)], &[range(20, 30)])], 16));
    assert_eq!(ranges(&planned), [(10, 16), (16, 20), (30, 32), (32, 40)]);
}

#[test]
fn an_added_output_catches_up_behind_the_streams_own_way() {
    let outputs = vec![output("blocks", &[range(0, 20)], &[]), output("logs", &[], &[])];
    let planned = plan(&request(range(0, 40), outputs, 10));
    let got: Vec<_> = planned.iter().map(|t| (t.range.start(), t.outputs.join("+"))).collect();
    let expected = [(20, "blocks+logs"), (30, "blocks+logs"), (0, "logs"), (10, "logs")];
    assert_eq!(got, expected.map(|(start, outputs)| (start, outputs.to_owned())));
}

#[test]
fn the_highest_heights_do_not_overflow() {
    let planned = plan(&request(range(u64::MAX - 3, u64::MAX), vec![output("blocks", &[], &[])], u64::MAX));
    assert_eq!(planned.len(), 1);
}

/// A stream at work: commits what was planned, in part, and changes its mind.
#[derive(Debug, Clone)]
enum Move {
    Plan,
    Commit(prop::sample::Index),
    Chunk(u64),
    AddOutput,
    Target(u64),
    /// Suspended: nothing is planned for a while, running tasks end.
    Suspend,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        4 => Just(Move::Plan),
        4 => any::<prop::sample::Index>().prop_map(Move::Commit),
        1 => (1u64..20).prop_map(Move::Chunk),
        1 => Just(Move::AddOutput),
        2 => (0u64..30).prop_map(Move::Target),
        1 => Just(Move::Suspend),
    ];
    prop::collection::vec(one, 0..60)
}

struct Stream {
    request: PlanRequest,
    tasks: Vec<PlannedTask>,
    commits: BTreeMap<(String, u64), u32>,
}

impl Stream {
    fn new() -> Self {
        let mut request = request(range(3, 50), vec![output("blocks", &[], &[])], 7);
        request.max_in_flight = 4;
        Self { request, tasks: vec![], commits: BTreeMap::new() }
    }

    fn refresh(&mut self) {
        self.request.in_flight = u32::try_from(self.tasks.len()).expect("few");
        for o in &mut self.request.outputs {
            let named = self.tasks.iter().filter(|t| t.outputs.contains(&o.output));
            o.pending = named.map(|t| t.range).collect();
        }
    }

    fn plan(&mut self) {
        self.refresh();
        self.tasks.extend(plan(&self.request));
        self.refresh();
        assert!(self.request.in_flight <= self.request.max_in_flight);
    }

    fn commit(&mut self, n: usize) {
        let task = self.tasks.remove(n);
        for name in &task.outputs {
            for height in task.range.heights() {
                *self.commits.entry((name.clone(), height)).or_default() += 1;
            }
            let outputs = self.request.outputs.iter_mut();
            outputs.filter(|o| o.output == *name).for_each(|o| o.covered.insert(task.range));
        }
        self.refresh();
    }

    fn apply(&mut self, m: &Move) {
        match m {
            Move::Plan => self.plan(),
            Move::Commit(_) if self.tasks.is_empty() => {}
            Move::Commit(index) => self.commit(index.index(self.tasks.len())),
            Move::Chunk(chunk) => self.request.chunk = *chunk,
            Move::AddOutput if self.request.outputs.len() == 3 => {}
            Move::AddOutput => {
                let name = format!("added-{}", self.request.outputs.len());
                self.request.outputs.push(output(&name, &[], &[]));
            }
            Move::Target(more) => {
                let wanted = self.request.wanted;
                self.request.wanted = range(wanted.start(), wanted.end() + more);
            }
            Move::Suspend => (0..self.tasks.len()).rev().for_each(|n| self.commit(n)),
        }
    }
}

proptest! {
    #[test]
    fn any_history_ends_in_full_and_disjoint_coverage(history in moves()) {
        let mut stream = Stream::new();
        history.iter().for_each(|m| stream.apply(m));
        for _ in 0..10_000 {
            stream.plan();
            if stream.tasks.is_empty() { break; }
            (0..stream.tasks.len()).rev().for_each(|n| stream.commit(n));
        }
        for o in &stream.request.outputs {
            for height in stream.request.wanted.heights() {
                prop_assert_eq!(stream.commits.get(&(o.output.clone(), height)), Some(&1), "{} at {}", o.output, height);
            }
        }
    }

    #[test]
    fn planning_again_plans_nothing_new(history in moves()) {
        let mut stream = Stream::new();
        stream.request.max_in_flight = 10_000;
        history.iter().for_each(|m| stream.apply(m));
        stream.plan();
        prop_assert_eq!(plan(&stream.request), vec![]);
    }
}
