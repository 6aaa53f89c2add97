//! What can happen next: each step is one statement, one request to the store, or time going by.

use crate::protocol::{Age, FilesCheck, LeaseCheck, OnUnknown, Overlap, Protocol, Renewal};
use crate::state::{
    Attempt, End, Lease, Name, Object, Offsets, Place, State, Step, Sweeper, Task, Worker,
};

/// A step of one of them, by its number in the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Worker(usize, Deed),
    Task(usize, Event),
    Sweeper(usize, Round),
    /// The grace period goes by: what there is gets old, leases that nobody renews expire.
    Age,
}

/// What a worker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Takes this task.
    Claim(usize),
    /// Asks what is left and begins an upload with these of it.
    Begin(Offsets),
    FinishUpload,
    /// The first half of `lock_lease`: the WHERE.
    FindRow,
    /// The second half.
    LockRow,
    /// File, segments, and COMMIT is sent.
    Insert,
    LoseAnswer,
    /// What became of the commit?
    Ask,
    /// Can't ask, and leaves everything as it is.
    GiveUp,
    /// Deletes its own object, which no commit names.
    Discard,
    /// Learns that its lease is gone, or has run out by its own clock, and stops.
    Stop,
    /// A heartbeat renews an expired lease. (One that comes in time is not seen: nothing expires.)
    Renew,
    Crash,
}

/// What happens to a task, or to the transaction that has its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The server commits; who still waits for it learns so.
    Land,
    /// The server gives up on a transaction whose client is gone.
    RollBack,
    /// The lease expires although its worker is alive.
    Pause,
    /// The lease expires; its worker is gone.
    Expire,
    Cancel,
}

/// What a sweeper does. The protocol says which check comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Round {
    Fetch,
    List(Name),
    CheckLease,
    CheckFiles,
    Delete,
}

/// How large a case is.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub protocol: Protocol,
    /// What each task is to read.
    pub wants: &'static [Offsets],
    /// Whether a file may end before its task does.
    pub files: Files,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Files {
    OnePerTask,
    Any,
}

impl Case {
    pub fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (number, worker) in state.workers.iter().enumerate() {
            let deeds = match worker {
                Worker::Idle => claims(state),
                Worker::At(attempt, step) => self.deeds(state, attempt, *step),
            };
            actions.extend(deeds.into_iter().map(|deed| Action::Worker(number, deed)));
        }
        for number in 0..state.tasks.len() {
            events(state, number, |event| actions.push(Action::Task(number, event)));
        }
        let ages = state.orphans().any(|object| !object.old);
        let expires = (0..state.tasks.len()).any(|task| expires_by_itself(state, task));
        // Where nobody asks for the age, leases expire one by one.
        if self.protocol.age == Age::Old && (ages || expires) {
            actions.push(Action::Age);
        }
        for (number, sweeper) in state.sweepers.iter().enumerate() {
            self.rounds(state, sweeper, |round| actions.push(Action::Sweeper(number, round)));
        }
    }

    fn deeds(&self, state: &State, attempt: &Attempt, step: Step) -> Vec<Deed> {
        let row = &state.tasks[attempt.task];
        let (unlocked, faults) = (row.commit.is_none(), state.faults.any > 0);
        let mut deeds = match step {
            Step::Claimed => self.beginnings(state, attempt),
            Step::Uploading => vec![Deed::FinishUpload],
            Step::Uploaded => vec![Deed::FindRow],
            Step::Checked { .. } if unlocked => vec![Deed::LockRow],
            Step::Locked if !self.waits_for_offsets(state, attempt) => vec![Deed::Insert],
            Step::Inserted if faults => vec![Deed::LoseAnswer],
            Step::Checked { .. } | Step::Locked | Step::Inserted => Vec::new(),
            Step::Unknown if unlocked || self.protocol.unknown != OnUnknown::Ask => {
                vec![Deed::Ask, Deed::GiveUp]
            }
            Step::Unknown => vec![Deed::GiveUp],
            Step::Refused | Step::Conflict => vec![Deed::Discard],
        };
        let may_stop = matches!(step, Step::Claimed | Step::Uploading | Step::Uploaded);
        if may_stop && !state.owns_live(attempt) {
            deeds.push(Deed::Stop);
        }
        let renews = self.protocol.renewal == Renewal::UntilTakenOver;
        if renews && state.owns(attempt) && unlocked && row.lease == Lease::Expired {
            deeds.push(Deed::Renew);
        }
        if faults {
            deeds.push(Deed::Crash);
        }
        deeds
    }

    fn beginnings(&self, state: &State, attempt: &Attempt) -> Vec<Deed> {
        let unread = self.wants[attempt.task] & !state.stored();
        let first = unread & unread.wrapping_neg();
        match self.files {
            Files::Any if first != unread => vec![Deed::Begin(unread), Deed::Begin(first)],
            Files::Any | Files::OnePerTask => vec![Deed::Begin(unread)],
        }
    }

    /// The constraint waits for a transaction that has inserted an overlapping range.
    fn waits_for_offsets(&self, state: &State, attempt: &Attempt) -> bool {
        let others = state.tasks.iter().filter_map(|task| task.commit);
        let mut inserted = others.filter(|commit| commit.inserted);
        self.protocol.overlap != Overlap::Accepted
            && inserted.any(|commit| commit.attempt.offsets & attempt.offsets != 0)
    }

    fn rounds(&self, state: &State, sweeper: &Sweeper, mut offer: impl FnMut(Round)) {
        match sweeper {
            Sweeper::Idle if self.protocol.files == FilesCheck::BeforeListing => {
                if state.orphans().next().is_some() {
                    offer(Round::Fetch);
                }
            }
            // What is visible when it is listed stays so, and would be passed over.
            Sweeper::Idle => {
                let may = |object: &&Object| object.old || self.protocol.age == Age::Any;
                state.orphans().filter(may).for_each(|object| offer(Round::List(object.name)));
            }
            Sweeper::Fetched(known) => {
                let may = |object: &&Object| {
                    object.old && object.place != Place::Gone && !known.contains(&object.name)
                };
                let listed = state.objects.iter().filter(may);
                listed.for_each(|object| offer(Round::List(object.name)));
            }
            Sweeper::Listed(_) | Sweeper::HalfChecked(_) if self.checks_files_next(sweeper) => {
                offer(Round::CheckFiles);
            }
            Sweeper::Listed(name) | Sweeper::HalfChecked(name) => {
                if !self.waits_for_row(state, *name) {
                    offer(Round::CheckLease);
                }
            }
            Sweeper::Condemned(_) => offer(Round::Delete),
        }
    }

    fn checks_files_next(&self, sweeper: &Sweeper) -> bool {
        let first = matches!(sweeper, Sweeper::Listed(_));
        first == (self.protocol.files == FilesCheck::BeforeLease)
    }

    fn waits_for_row(&self, state: &State, (task, token, _): Name) -> bool {
        let row = &state.tasks[task];
        let locks = matches!(self.protocol.lease, LeaseCheck::TakeAway | LeaseCheck::LockOnly);
        locks && row.token == token && row.commit.is_some()
    }
}

fn claims(state: &State) -> Vec<Deed> {
    // SKIP LOCKED: a row that a commit has is passed over.
    let free =
        |row: &Task| row.end == End::Open && row.lease != Lease::Live && row.commit.is_none();
    let tasks = state.tasks.iter().enumerate().filter(|(_, row)| free(row));
    tasks.map(|(number, _)| Deed::Claim(number)).collect()
}

fn events(state: &State, number: usize, mut offer: impl FnMut(Event)) {
    let row = &state.tasks[number];
    if row.commit.is_some_and(|commit| commit.inserted) {
        offer(Event::Land);
    }
    if row.commit.is_some_and(|commit| commit.cut_off) {
        offer(Event::RollBack);
    }
    if expires_by_itself(state, number) {
        offer(Event::Expire);
    } else if row.lease == Lease::Live && state.faults.any > 0 {
        offer(Event::Pause);
    }
    // Waits for a commit that has the row.
    if row.end == End::Open && row.commit.is_none() && state.faults.cancels > 0 {
        offer(Event::Cancel);
    }
}

/// Nobody renews the lease any more.
pub fn expires_by_itself(state: &State, task: usize) -> bool {
    state.tasks[task].lease == Lease::Live && state.holder(task).is_none()
}
