/// A bug that the checker must find. Each is a protocol that somebody could have written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// A completion is taken from whoever names a running task.
    UnfencedComplete,
    /// A release is taken from whoever names a running task.
    UnfencedRelease,
    /// A completion that is delivered again is applied again.
    CompleteTwice,
    /// Pointers are set before the fence is checked, in a transaction of their own.
    PointerBeforeFence,
    /// A completion sets pointers and ends the task in two transactions.
    CommitOutsideTransaction,
    /// A completion is taken without looking for its objects.
    ObjectsUnchecked,
    /// A message is marked as sent, then sent.
    MarkedBeforeSent,
    /// A task that is queued again gets no outbox row.
    RequeuedSilently,
    /// A claim takes a running task whose lease still holds.
    ClaimIgnoresState,
    /// A claim leaves the outbox row behind.
    ClaimKeepsOutbox,
    /// A message stands for the lease: who brings one of the running attempt is given that attempt's fence. Two dispatchers that
    /// both published give it to two workers.
    MessageIsLease,
    /// A message of an earlier attempt opens the current one, and the ordinal is not raised on the way back.
    OrdinalNotRaised,
    /// The reaper reads which leases are over, and ends them later without looking again.
    ReaperLooksOnce,
    /// The reaper judges leases by its own clock, which is ahead of Postgres'.
    ReaperClockTrusted,
    /// A completion is taken while its worker believes, by its own clock, that its lease holds.
    WorkerClockTrusted,
    /// Draining a worker ends its leases, though it still works.
    DrainEndsLeases,
    /// The sweeper looks for pointers first and for live leases after that.
    SweeperLooksForPointersFirst,
    /// A released attempt counts as spent.
    ReleaseSpends,
    /// A failed attempt does not count.
    FailureIsFree,
    /// Nothing is sent again, and workers do not ask by themselves.
    LostMessageStaysLost,
    /// Nobody ends the leases of workers that fell silent.
    NobodyReaps,
}

impl Mutant {
    /// Those that break a property in some state.
    pub const UNSAFE: [Self; 19] = [
        Self::UnfencedComplete,
        Self::UnfencedRelease,
        Self::CompleteTwice,
        Self::PointerBeforeFence,
        Self::CommitOutsideTransaction,
        Self::ObjectsUnchecked,
        Self::MarkedBeforeSent,
        Self::RequeuedSilently,
        Self::ClaimIgnoresState,
        Self::ClaimKeepsOutbox,
        Self::MessageIsLease,
        Self::OrdinalNotRaised,
        Self::ReaperLooksOnce,
        Self::ReaperClockTrusted,
        Self::WorkerClockTrusted,
        Self::DrainEndsLeases,
        Self::SweeperLooksForPointersFirst,
        Self::ReleaseSpends,
        Self::FailureIsFree,
    ];
    /// Those that leave a task without a way to its end.
    pub const STUCK: [Self; 2] = [Self::LostMessageStaysLost, Self::NobodyReaps];
}
