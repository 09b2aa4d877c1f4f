//! The world around the database: queue, workers, dispatchers, calls in flight, and everything that can go wrong.

use std::collections::{BTreeMap, BTreeSet};

use dagwright_core::task::Event;
use stateright::{Model, Property};

use crate::{
    Mutant, Protocol,
    database::{Lease, Row, RowState},
};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub rows: Vec<Row>,
    /// Copies of the message (task, attempt) in the queue.
    pub messages: BTreeMap<(u8, u8), u8>,
    /// Ghost: messages that the queue ever took.
    pub ever_sent: BTreeSet<(u8, u8)>,
    pub workers: Vec<Worker>,
    pub dispatchers: Vec<Dispatcher>,
    /// Calls on their way to a dispatcher.
    pub calls: BTreeSet<Call>,
    pub faults_left: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Worker {
    Idle,
    /// Believes that it holds a lease.
    Working {
        lease: Lease,
        attempt: u8,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Dispatcher {
    Idle,
    /// Chose a message to send.
    Chose {
        task: u8,
        attempt: u8,
    },
    /// The queue took it (or, in a mutant, it was marked first).
    Half {
        task: u8,
        attempt: u8,
    },
    /// Saw a lease that is over (only in the mutant that looks once).
    SawExpired {
        task: u8,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Call {
    pub kind: CallKind,
    pub lease: Lease,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CallKind {
    Complete,
    Fail,
    Release,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    Choose {
        dispatcher: u8,
        task: u8,
    },
    SendHalf(u8),
    SendRest(u8),
    /// A message went unclaimed for two visibilities.
    Overdue(u8),
    ClaimOffered {
        worker: u8,
        message: (u8, u8),
        answered: bool,
    },
    ClaimFurther {
        worker: u8,
        task: u8,
        answered: bool,
    },
    Upload(u8),
    Renew(u8),
    Say {
        worker: u8,
        kind: CallKind,
    },
    Deliver {
        call: Call,
        again: bool,
        answered: bool,
    },
    LeaseEnds(u8),
    BackoffEnds(u8),
    LookForExpired {
        dispatcher: u8,
        task: u8,
    },
    Reap(u8),
    // Faults.
    Lose((u8, u8)),
    Duplicate((u8, u8)),
    DeadLetter((u8, u8)),
    Drop(Call),
    KillWorker(u8),
    KillDispatcher(u8),
    Cancel(u8),
    Redrive(u8),
}

impl Action {
    fn is_fault(self) -> bool {
        match self {
            Self::Lose(_) | Self::Duplicate(_) | Self::DeadLetter(_) | Self::Drop(_) => true,
            Self::KillWorker(_) | Self::KillDispatcher(_) | Self::Cancel(_) | Self::Redrive(_) => true,
            Self::ClaimOffered { answered, .. } | Self::ClaimFurther { answered, .. } => !answered,
            Self::Deliver { again, answered, .. } => again || !answered,
            Self::Say { kind, .. } => kind != CallKind::Complete,
            _ => false,
        }
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            rows: vec![Row::default(); self.tasks.into()],
            messages: BTreeMap::new(),
            ever_sent: BTreeSet::new(),
            workers: vec![Worker::Idle; self.workers.into()],
            dispatchers: vec![Dispatcher::Idle; self.dispatchers.into()],
            calls: BTreeSet::new(),
            faults_left: self.faults,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.dispatcher_actions(state, actions);
        self.worker_actions(state, actions);
        self.world_actions(state, actions);
        actions.retain(|action| state.faults_left > 0 || !action.is_fault());
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut next = last.clone();
        self.act(&mut next, action);
        if action.is_fault() {
            next.faults_left -= 1;
        }
        (next != *last).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("I1 at most one attempt commits a task", |_, s: &State| {
                s.rows.iter().all(|r| r.pointers.len() <= 1)
            }),
            Property::always("I2 a commit is visible whole or not at all", |_, s: &State| {
                s.rows.iter().all(|r| r.pointers.is_empty() != (r.state == RowState::Completed))
            }),
            Property::always("I3 only the holder of the current lease changes anything", |_, s: &State| {
                s.rows.iter().all(|r| r.wrong.is_none())
            }),
            Property::always("I4 a pointer names objects that are there", |_, s: &State| {
                s.rows.iter().all(|r| r.pointers.iter().all(|serial| r.objects & (1 << serial) != 0))
            }),
            Property::always(
                "I5 exactly the queued tasks have an outbox row, of their attempt",
                |_, s: &State| {
                    s.rows.iter().all(|r| {
                        r.outbox.map(|(attempt, _)| attempt)
                            == matches!(r.state, RowState::Queued { .. }).then_some(r.attempt)
                    })
                },
            ),
            Property::always("I6 what is marked as sent was sent", |_, s: &State| {
                let tasks = (0u8..).zip(&s.rows);
                tasks
                    .filter_map(|(t, r)| r.outbox.filter(|o| o.1).map(|o| (t, o.0)))
                    .all(|m| s.ever_sent.contains(&m))
            }),
            Property::always("I7 failures are spent, releases are not", |p: &Self, s: &State| {
                s.rows.iter().all(|r| r.spent == r.failures && r.spent <= p.max_attempts)
            }),
            Property::always("I8 exactly running tasks have a lease", |_, s: &State| {
                s.rows.iter().all(|r| r.lease.is_some() == matches!(r.state, RowState::Running { .. }))
            }),
        ]
    }
}

impl Protocol {
    fn dispatcher_actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (d, dispatcher) in (0u8..).zip(&state.dispatchers) {
            match dispatcher {
                Dispatcher::Idle => {
                    for (t, row) in (0u8..).zip(&state.rows) {
                        let unsent = matches!(row.outbox, Some((_, false)))
                            && row.state == RowState::Queued { due: true };
                        actions.extend(unsent.then_some(Action::Choose { dispatcher: d, task: t }));
                        let looks = self.has(Mutant::ReaperLooksOnce)
                            && row.state == RowState::Running { over: true };
                        actions.extend(looks.then_some(Action::LookForExpired { dispatcher: d, task: t }));
                    }
                }
                Dispatcher::Chose { .. } => actions.extend([Action::SendHalf(d), Action::KillDispatcher(d)]),
                Dispatcher::Half { .. } | Dispatcher::SawExpired { .. } => {
                    actions.extend([Action::SendRest(d), Action::KillDispatcher(d)]);
                }
            }
        }
    }

    fn worker_actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (w, worker) in (0u8..).zip(&state.workers) {
            match worker {
                Worker::Idle => {
                    for answered in [true, false] {
                        let offered = state.messages.keys().map(|m| Action::ClaimOffered {
                            worker: w,
                            message: *m,
                            answered,
                        });
                        actions.extend(offered);
                        if !self.has(Mutant::LostMessageStaysLost) {
                            let further = (0..self.tasks).map(|t| Action::ClaimFurther {
                                worker: w,
                                task: t,
                                answered,
                            });
                            actions.extend(further);
                        }
                    }
                }
                Worker::Working { .. } => {
                    actions.extend([Action::Upload(w), Action::Renew(w), Action::KillWorker(w)]);
                    for kind in [CallKind::Complete, CallKind::Fail, CallKind::Release] {
                        actions.push(Action::Say { worker: w, kind });
                    }
                }
            }
        }
    }

    fn world_actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (t, row) in (0u8..).zip(&state.rows) {
            match row.state {
                RowState::Running { over: false } => actions.push(Action::LeaseEnds(t)),
                RowState::Running { over: true } => actions.push(Action::Reap(t)),
                RowState::Queued { due: false } => actions.push(Action::BackoffEnds(t)),
                RowState::Queued { due: true } => {
                    let lost = row.outbox.is_some_and(|(attempt, sent)| {
                        sent && !self.has(Mutant::LostMessageStaysLost)
                            && !state.messages.contains_key(&(t, attempt))
                    });
                    actions.extend(lost.then_some(Action::Overdue(t)));
                }
                RowState::Failed => actions.push(Action::Redrive(t)),
                RowState::Completed | RowState::Canceled => {}
            }
            if !row.ended() {
                actions.push(Action::Cancel(t));
            }
        }
        for (message, copies) in &state.messages {
            actions.extend([Action::Lose(*message), Action::DeadLetter(*message)]);
            actions.extend((*copies < 2).then_some(Action::Duplicate(*message)));
        }
        for call in &state.calls {
            actions.push(Action::Drop(*call));
            for (again, answered) in [(false, true), (false, false), (true, true)] {
                actions.push(Action::Deliver { call: *call, again, answered });
            }
        }
    }

    fn act(&self, s: &mut State, action: Action) {
        match action {
            Action::Choose { dispatcher, task } => {
                if let Some((attempt, _)) = s.rows[usize::from(task)].outbox {
                    s.dispatchers[usize::from(dispatcher)] = Dispatcher::Chose { task, attempt };
                }
            }
            Action::SendHalf(d) => self.send_half(s, d),
            Action::SendRest(d) => self.send_rest(s, d),
            Action::Overdue(t) => s.rows[usize::from(t)].outbox.iter_mut().for_each(|row| row.1 = false),
            Action::ClaimOffered { worker, message, answered } => {
                self.claim_offered(s, worker, message, answered);
            }
            Action::ClaimFurther { worker, task, answered } => self.claim(s, worker, task, answered),
            Action::Upload(w) => {
                if let Some((row, lease, _)) = s.held_by(w) {
                    row.objects |= 1 << lease.serial;
                }
            }
            Action::Renew(w) => {
                let kept = s.held_by(w).is_some_and(|(row, lease, _)| row.renew(self, lease.serial));
                if !kept {
                    s.workers[usize::from(w)] = Worker::Idle;
                }
            }
            Action::Say { worker, kind } => {
                let call = s.held_by(worker).map(|(_, lease, _)| Call { kind, lease });
                s.calls.extend(call);
            }
            Action::Deliver { call, again, answered } => self.deliver(s, call, again, answered),
            Action::LeaseEnds(t) => s.rows[usize::from(t)].state = RowState::Running { over: true },
            Action::BackoffEnds(t) => s.rows[usize::from(t)].state = RowState::Queued { due: true },
            Action::LookForExpired { dispatcher, task } => {
                s.dispatchers[usize::from(dispatcher)] = Dispatcher::SawExpired { task };
            }
            Action::Reap(t) => s.rows[usize::from(t)].expire(self),
            Action::Lose(m) => s.remove(m),
            Action::Duplicate(m) => s.add(m),
            Action::DeadLetter(m) => self.dead_letter(s, m),
            Action::Drop(call) => drop(s.calls.remove(&call)),
            Action::KillWorker(w) => s.workers[usize::from(w)] = Worker::Idle,
            Action::KillDispatcher(d) => s.dispatchers[usize::from(d)] = Dispatcher::Idle,
            Action::Cancel(t) => drop(s.rows[usize::from(t)].apply(self, &Event::Cancel)),
            Action::Redrive(t) => drop(s.rows[usize::from(t)].apply(self, &Event::Redrive)),
        }
    }

    fn send_half(&self, s: &mut State, d: u8) {
        let Dispatcher::Chose { task, attempt } = s.dispatchers[usize::from(d)] else { return };
        if self.has(Mutant::MarkedBeforeSent) {
            s.mark(task, attempt);
        } else {
            s.add((task, attempt));
        }
        s.dispatchers[usize::from(d)] = Dispatcher::Half { task, attempt };
    }

    fn send_rest(&self, s: &mut State, d: u8) {
        match s.dispatchers[usize::from(d)] {
            Dispatcher::Half { task, attempt } if self.has(Mutant::MarkedBeforeSent) => {
                s.add((task, attempt));
            }
            Dispatcher::Half { task, attempt } => s.mark(task, attempt),
            Dispatcher::SawExpired { task } => s.rows[usize::from(task)].expire(self),
            Dispatcher::Idle | Dispatcher::Chose { .. } => {}
        }
        s.dispatchers[usize::from(d)] = Dispatcher::Idle;
    }

    /// A message of another attempt than the row's is stale: it is deleted, nothing else.
    fn claim_offered(&self, s: &mut State, worker: u8, message: (u8, u8), answered: bool) {
        let row = &s.rows[usize::from(message.0)];
        let waits = matches!(row.state, RowState::Queued { due: false }) && row.attempt == message.1;
        let takes = row.attempt == message.1 && !row.ended();
        let stays = matches!(row.state, RowState::Running { .. }) && !self.has(Mutant::ClaimIgnoresState);
        match takes && !stays {
            true if waits => {}
            true => self.claim(s, worker, message.0, answered),
            false => s.remove(message),
        }
    }

    fn claim(&self, s: &mut State, worker: u8, task: u8, answered: bool) {
        let row = &mut s.rows[usize::from(task)];
        let Some(serial) = row.claim(self) else { return };
        if answered {
            let lease = Lease { task, serial };
            s.workers[usize::from(worker)] = Worker::Working { lease, attempt: row.attempt };
        }
    }

    fn deliver(&self, s: &mut State, call: Call, again: bool, answered: bool) {
        let row = &mut s.rows[usize::from(call.lease.task)];
        match call.kind {
            CallKind::Complete => row.complete(self, call.lease.serial),
            CallKind::Fail => row.finish(self, call.lease.serial, &Event::Fail { retryable: true }),
            CallKind::Release => row.finish(self, call.lease.serial, &Event::Release),
        }
        if !again {
            s.calls.remove(&call);
        }
        if answered {
            s.acknowledge(call.lease);
        }
    }

    fn dead_letter(&self, s: &mut State, message: (u8, u8)) {
        s.messages.remove(&message);
        let row = &mut s.rows[usize::from(message.0)];
        if row.attempt == message.1 {
            row.apply(self, &Event::DeadLetter);
        }
    }
}

impl State {
    fn held_by(&mut self, worker: u8) -> Option<(&mut Row, Lease, u8)> {
        match self.workers[usize::from(worker)] {
            Worker::Working { lease, attempt } => {
                Some((&mut self.rows[usize::from(lease.task)], lease, attempt))
            }
            Worker::Idle => None,
        }
    }

    fn add(&mut self, message: (u8, u8)) {
        let copies = self.messages.entry(message).or_default();
        *copies = (*copies + 1).min(2);
        self.ever_sent.insert(message);
    }

    fn remove(&mut self, message: (u8, u8)) {
        if let Some(copies) = self.messages.get_mut(&message) {
            *copies -= 1;
            if *copies == 0 {
                self.messages.remove(&message);
            }
        }
    }

    fn mark(&mut self, task: u8, attempt: u8) {
        let row = &mut self.rows[usize::from(task)];
        row.outbox.iter_mut().filter(|o| o.0 == attempt).for_each(|o| o.1 = true);
    }

    /// The worker hears the verdict, forgets the lease and deletes its message.
    fn acknowledge(&mut self, lease: Lease) {
        let mut deleted = None;
        for worker in &mut self.workers {
            if let Worker::Working { lease: held, attempt } = *worker
                && held == lease
            {
                deleted = Some((lease.task, attempt));
                *worker = Worker::Idle;
            }
        }
        if let Some(message) = deleted {
            self.remove(message);
        }
    }
}
