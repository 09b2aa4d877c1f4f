//! What can happen next, and what it does.

use dagwright_core::task::Event;

use crate::{
    Mutant, ORDINALS, Protocol,
    database::{RowState, bit},
    state::{Dispatcher, Kind, State, Worker},
};

/// One step. Workers and dispatchers are named by their place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    Choose {
        dispatcher: u8,
        task: u8,
    },
    SendHalf(u8),
    SendRest(u8),
    LookForExpired {
        dispatcher: u8,
        task: u8,
    },
    LookForOrphan {
        dispatcher: u8,
        task: u8,
        ordinal: u8,
    },
    KillDispatcher(u8),
    /// A message was sent two visibilities ago: it is to be sent again.
    Republish(u8),
    /// A claim by a message.
    ClaimOffered {
        worker: u8,
        task: u8,
        ordinal: u8,
        answered: bool,
    },
    /// A claim of whatever is due.
    ClaimFurther {
        worker: u8,
        task: u8,
        answered: bool,
    },
    Renew(u8),
    /// The worker ends its attempt; `uploaded`: its objects are written.
    Say {
        worker: u8,
        kind: Kind,
        uploaded: bool,
    },
    /// The worker dies, or its clock is ahead and it gives up.
    Forget(u8),
    /// Scale-in: the worker is told to finish, and to take nothing more.
    Drain(u8),
    /// Another worker comes.
    Start(u8),
    /// A call arrives.
    Deliver {
        task: u8,
        ordinal: u8,
        kind: Kind,
        answered: bool,
    },
    LeaseEnds(u8),
    BackoffEnds(u8),
    Reap(u8),
    Lose {
        task: u8,
        ordinal: u8,
    },
    DeadLetter {
        task: u8,
        ordinal: u8,
    },
    Cancel(u8),
    Redrive(u8),
}

impl Action {
    /// Whether the product keeps trying this step until it happens.
    pub(crate) fn is_tried(self, state: &State) -> bool {
        match self {
            Self::Choose { .. } | Self::SendHalf(_) | Self::SendRest(_) | Self::Republish(_) => true,
            Self::ClaimOffered { answered, .. } | Self::ClaimFurther { answered, .. } => answered,
            Self::Say { kind, .. } => kind != Kind::Release,
            // A worker repeats a call for as long as it holds the lease.
            Self::Deliver { task, ordinal, answered, .. } => {
                answered && state.holder(task, ordinal).is_some()
            }
            Self::LeaseEnds(_) | Self::BackoffEnds(_) | Self::Reap(_) | Self::Start(_) => true,
            Self::LookForExpired { .. } | Self::LookForOrphan { .. } => true,
            Self::Renew(_) | Self::KillDispatcher(_) | Self::Forget(_) | Self::Drain(_) => false,
            Self::Lose { .. } | Self::DeadLetter { .. } | Self::Cancel(_) | Self::Redrive(_) => false,
        }
    }
}

/// Places whose occupant is not the same as the one before: what equals do leads to equal states.
fn distinct<T: PartialEq>(places: &[T; 2]) -> impl Iterator<Item = (u8, &T)> {
    (0u8..).zip(places).filter(|(n, place)| *n == 0 || **place != places[0])
}

impl Protocol {
    pub(crate) fn dispatcher_actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (d, dispatcher) in distinct(&state.dispatchers) {
            match dispatcher {
                Dispatcher::Idle => self.idle_dispatcher(state, d, actions),
                Dispatcher::Chose { .. } => actions.extend([Action::SendHalf(d), Action::KillDispatcher(d)]),
                Dispatcher::Half { .. } | Dispatcher::SawExpired { .. } | Dispatcher::SawOrphan { .. } => {
                    actions.extend([Action::SendRest(d), Action::KillDispatcher(d)]);
                }
                Dispatcher::Absent => {}
            }
        }
    }

    fn idle_dispatcher(&self, state: &State, dispatcher: u8, actions: &mut Vec<Action>) {
        for (task, row) in (0..self.tasks).zip(&state.rows) {
            let unsent = row.outbox.is_some_and(|o| !o.marked) && row.state == RowState::Queued { due: true };
            actions.extend(unsent.then_some(Action::Choose { dispatcher, task }));
            let looks = self.has(Mutant::ReaperLooksOnce) && row.state == RowState::Running { over: true };
            actions.extend(looks.then_some(Action::LookForExpired { dispatcher, task }));
            if self.sweeper {
                let dead = |ordinal: &u8| match self.has(Mutant::SweeperLooksForPointersFirst) {
                    false => row.lease != Some(*ordinal),
                    true => row.pointers & bit(*ordinal) == 0,
                };
                let stored = (0..ORDINALS).filter(|o| row.objects & bit(*o) != 0).filter(dead);
                actions.extend(stored.map(|ordinal| Action::LookForOrphan { dispatcher, task, ordinal }));
            }
        }
    }

    pub(crate) fn worker_actions(&self, state: &State, actions: &mut Vec<Action>) {
        let extra = state.extras_left > 0;
        for (w, worker) in distinct(&state.workers) {
            match *worker {
                Worker::Idle => {
                    self.claims(state, w, actions);
                    actions.extend(extra.then_some(Action::Drain(w)));
                }
                Worker::Working { task, ordinal, draining } => {
                    actions.extend([Action::Renew(w), Action::Forget(w)]);
                    actions.extend((extra && !draining).then_some(Action::Drain(w)));
                    let mut say = |kind, uploaded| actions.push(Action::Say { worker: w, kind, uploaded });
                    let said: Vec<_> = state.wires[usize::from(task)].said(ordinal).collect();
                    if said.is_empty() {
                        say(Kind::Complete, true);
                        say(Kind::Complete, false);
                        say(Kind::Fail, false);
                    }
                    // One that is told to go releases what it heard no verdict on.
                    if (extra || draining) && matches!(said[..], [] | [Kind::Complete]) {
                        say(Kind::Release, false);
                    }
                }
                Worker::Gone => actions.push(Action::Start(w)),
                Worker::Absent => {}
            }
        }
    }

    fn claims(&self, state: &State, worker: u8, actions: &mut Vec<Action>) {
        for task in 0..self.tasks {
            for answered in [true, false] {
                let wire = state.wires[usize::from(task)];
                let offered = (0..ORDINALS).filter(|o| wire.has(*o));
                actions.extend(offered.map(|ordinal| Action::ClaimOffered {
                    worker,
                    task,
                    ordinal,
                    answered,
                }));
                let asks = !self.has(Mutant::LostMessageStaysLost);
                actions.extend(asks.then_some(Action::ClaimFurther { worker, task, answered }));
            }
        }
    }

    pub(crate) fn world_actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (t, row) in (0..self.tasks).zip(&state.rows) {
            match row.state {
                RowState::Running { over } => {
                    actions.extend((!over).then_some(Action::LeaseEnds(t)));
                    let reaps = over || self.has(Mutant::ReaperClockTrusted);
                    actions.extend((reaps && !self.has(Mutant::NobodyReaps)).then_some(Action::Reap(t)));
                }
                RowState::Queued { due: false } => actions.push(Action::BackoffEnds(t)),
                RowState::Queued { due: true } => {
                    let sent = row.outbox.is_some_and(|o| o.marked);
                    let again = sent && !self.has(Mutant::LostMessageStaysLost);
                    actions.extend(again.then_some(Action::Republish(t)));
                }
                RowState::Failed => actions.extend((state.extras_left > 0).then_some(Action::Redrive(t))),
                RowState::Completed | RowState::Canceled => {}
            }
            actions.extend((!row.ended()).then_some(Action::Cancel(t)));
            let wire = state.wires[usize::from(t)];
            for ordinal in 0..ORDINALS {
                if wire.has(ordinal) {
                    actions.push(Action::Lose { task: t, ordinal });
                    actions.push(Action::DeadLetter { task: t, ordinal });
                }
                for kind in wire.said(ordinal) {
                    for answered in [true, false] {
                        actions.push(Action::Deliver { task: t, ordinal, kind, answered });
                    }
                }
            }
        }
    }

    pub(crate) fn act(&self, s: &mut State, action: Action) {
        match action {
            Action::Choose { .. }
            | Action::SendHalf(_)
            | Action::SendRest(_)
            | Action::LookForExpired { .. }
            | Action::LookForOrphan { .. }
            | Action::KillDispatcher(_) => self.dispatch(s, action),
            Action::ClaimOffered { worker, task, ordinal, answered } => {
                self.claim_offered(s, worker, (task, ordinal), answered);
            }
            Action::ClaimFurther { worker, task, answered } => self.claim(s, worker, task, answered),
            Action::Renew(w) => {
                if let Worker::Working { task, ordinal, .. } = s.workers[usize::from(w)]
                    && !s.rows[usize::from(task)].renew(self, ordinal)
                {
                    s.leave(w);
                }
            }
            Action::Say { worker, kind, uploaded } => Self::say(s, worker, kind, uploaded),
            Action::Forget(w) => s.workers[usize::from(w)] = Worker::Idle,
            Action::Drain(w) => self.drain(s, w),
            Action::Start(w) => s.workers[usize::from(w)] = Worker::Idle,
            Action::Deliver { task, ordinal, kind, answered } => {
                self.deliver(s, (task, ordinal), kind, answered);
            }
            Action::Republish(t) => {
                s.rows[usize::from(t)].outbox.iter_mut().for_each(|o| o.marked = false);
            }
            Action::LeaseEnds(t) => s.rows[usize::from(t)].state = RowState::Running { over: true },
            Action::BackoffEnds(t) => s.rows[usize::from(t)].state = RowState::Queued { due: true },
            Action::Reap(t) if self.has(Mutant::ReaperClockTrusted) => {
                s.rows[usize::from(t)].expire_blindly(self);
            }
            Action::Reap(t) => s.rows[usize::from(t)].expire(self),
            Action::Lose { task, ordinal } => s.wires[usize::from(task)].messages &= !bit(ordinal),
            Action::DeadLetter { task, ordinal } => {
                s.wires[usize::from(task)].messages &= !bit(ordinal);
                let row = &mut s.rows[usize::from(task)];
                if row.attempt == ordinal {
                    row.apply(self, &Event::DeadLetter);
                }
            }
            Action::Cancel(t) => drop(s.rows[usize::from(t)].apply(self, &Event::Cancel)),
            Action::Redrive(t) => {
                s.extras_left -= 1;
                s.rows[usize::from(t)].apply(self, &Event::Redrive);
            }
        }
    }

    fn dispatch(&self, s: &mut State, action: Action) {
        let (d, next) = match action {
            Action::Choose { dispatcher, task } => {
                let Some(outbox) = s.rows[usize::from(task)].outbox else { return };
                (dispatcher, Dispatcher::Chose { task, ordinal: outbox.attempt })
            }
            Action::LookForExpired { dispatcher, task } => (dispatcher, Dispatcher::SawExpired { task }),
            Action::LookForOrphan { dispatcher, task, ordinal } => {
                (dispatcher, Dispatcher::SawOrphan { task, ordinal })
            }
            Action::SendHalf(d) => (d, self.send_half(s, s.dispatchers[usize::from(d)])),
            Action::SendRest(d) => (d, self.send_rest(s, s.dispatchers[usize::from(d)])),
            Action::KillDispatcher(d) => (d, Dispatcher::Idle),
            _ => return,
        };
        s.dispatchers[usize::from(d)] = next;
    }

    fn send_half(&self, s: &mut State, dispatcher: Dispatcher) -> Dispatcher {
        let Dispatcher::Chose { task, ordinal } = dispatcher else { return dispatcher };
        if self.has(Mutant::MarkedBeforeSent) {
            s.mark(task, ordinal);
        } else {
            s.send(task, ordinal);
        }
        Dispatcher::Half { task, ordinal }
    }

    fn send_rest(&self, s: &mut State, dispatcher: Dispatcher) -> Dispatcher {
        match dispatcher {
            Dispatcher::Half { task, ordinal } if self.has(Mutant::MarkedBeforeSent) => s.send(task, ordinal),
            Dispatcher::Half { task, ordinal } => s.mark(task, ordinal),
            Dispatcher::SawExpired { task } => s.rows[usize::from(task)].expire_blindly(self),
            Dispatcher::SawOrphan { task, ordinal } => {
                let row = &mut s.rows[usize::from(task)];
                let dead = match self.has(Mutant::SweeperLooksForPointersFirst) {
                    false => row.pointers & bit(ordinal) == 0,
                    true => row.lease != Some(ordinal),
                };
                if dead {
                    row.objects &= !bit(ordinal);
                }
            }
            Dispatcher::Idle | Dispatcher::Chose { .. } | Dispatcher::Absent => {}
        }
        Dispatcher::Idle
    }

    /// A message of another attempt than the row's is stale and changes nothing.
    fn claim_offered(&self, s: &mut State, worker: u8, (task, ordinal): (u8, u8), answered: bool) {
        let row = &s.rows[usize::from(task)];
        if row.attempt != ordinal {
            return;
        }
        if self.has(Mutant::MessageIsLease) && row.lease == Some(ordinal) && answered {
            s.workers[usize::from(worker)] = Worker::Working { task, ordinal, draining: false };
            return;
        }
        self.claim(s, worker, task, answered);
    }

    fn claim(&self, s: &mut State, worker: u8, task: u8, answered: bool) {
        let Some(ordinal) = s.rows[usize::from(task)].claim(self) else { return };
        if answered {
            s.workers[usize::from(worker)] = Worker::Working { task, ordinal, draining: false };
        }
    }

    fn say(s: &mut State, worker: u8, kind: Kind, uploaded: bool) {
        let Worker::Working { task, ordinal, draining } = s.workers[usize::from(worker)] else { return };
        s.wires[usize::from(task)].say(ordinal, kind);
        if uploaded {
            s.rows[usize::from(task)].objects |= bit(ordinal);
        }
        s.extras_left -= u8::from(kind == Kind::Release && !draining);
    }

    fn drain(&self, s: &mut State, worker: u8) {
        s.extras_left -= 1;
        let place = &mut s.workers[usize::from(worker)];
        match *place {
            Worker::Working { task, ordinal, .. } => {
                *place = Worker::Working { task, ordinal, draining: true };
                if self.has(Mutant::DrainEndsLeases) && s.rows[usize::from(task)].lease == Some(ordinal) {
                    s.rows[usize::from(task)].expire_blindly(self);
                }
            }
            Worker::Idle => *place = Worker::Gone,
            Worker::Gone | Worker::Absent => {}
        }
    }

    fn deliver(&self, s: &mut State, (task, ordinal): (u8, u8), kind: Kind, answered: bool) {
        let holder = s.holder(task, ordinal);
        let row = &mut s.rows[usize::from(task)];
        match kind {
            Kind::Complete => row.complete(self, ordinal, holder.is_some()),
            Kind::Fail => row.finish(self, ordinal, &Event::Fail { retryable: true }),
            Kind::Release => row.finish(self, ordinal, &Event::Release),
        }
        if let (true, Some(worker)) = (answered, holder) {
            s.leave(worker);
        }
    }
}

impl State {
    /// The worker that takes itself to hold a lease.
    fn holder(&self, task: u8, ordinal: u8) -> Option<u8> {
        let holds = |w: &Worker| matches!(*w, Worker::Working { task: t, ordinal: o, .. } if (t, o) == (task, ordinal));
        (0u8..).zip(&self.workers).find(|(_, w)| holds(w)).map(|(n, _)| n)
    }

    /// The worker hears the verdict, or that its lease is lost, and forgets the lease.
    fn leave(&mut self, worker: u8) {
        let place = &mut self.workers[usize::from(worker)];
        if let Worker::Working { draining, .. } = *place {
            *place = if draining { Worker::Gone } else { Worker::Idle };
        }
    }

    fn send(&mut self, task: u8, ordinal: u8) {
        self.wires[usize::from(task)].messages |= bit(ordinal);
        let row = &mut self.rows[usize::from(task)];
        row.sent |= row.attempt == ordinal;
    }

    fn mark(&mut self, task: u8, ordinal: u8) {
        let row = &mut self.rows[usize::from(task)];
        row.outbox.iter_mut().filter(|o| o.attempt == ordinal).for_each(|o| o.marked = true);
    }
}
