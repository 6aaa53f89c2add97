//! What there is: tasks in Postgres, workers, sweepers, objects in the store.

use std::cmp::Reverse;

/// Offsets of the one partition, as a set of bits.
pub type Offsets = u8;

/// Everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// Rows of `tasks`.
    pub tasks: Vec<Task>,
    pub workers: Vec<Worker>,
    pub sweepers: Vec<Sweeper>,
    /// What the store has, and the rows of `files`.
    pub objects: Vec<Object>,
    /// What may still go wrong.
    pub faults: Faults,
    /// What must not have happened.
    pub wrong: Wrong,
}

/// A row of `tasks`, one for each of two overlapping windows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Task {
    /// Token and attempt id in one: both change with every claim.
    pub token: u8,
    pub lease: Lease,
    pub end: End,
    /// The transaction that has this row locked.
    pub commit: Option<Commit>,
}

/// By the database's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lease {
    /// Never taken, or given back.
    Free,
    Live,
    Expired,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    Open,
    Done,
    Cancelled,
}

/// A commit's transaction. It may outlive whoever began it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Commit {
    pub attempt: Attempt,
    /// File and segments are in, COMMIT is on its way.
    pub inserted: bool,
    /// Nobody waits for its answer any more; whether COMMIT has reached the server is open.
    pub cut_off: bool,
}

/// A worker's try at a task, and the file that it is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Attempt {
    pub task: usize,
    pub token: u8,
    /// Counts the files that it has begun; none while there was nothing to read.
    pub file: Option<u8>,
    /// What it has read.
    pub offsets: Offsets,
    /// Nothing of the task is left behind this file.
    pub last: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Worker {
    /// New, restarted, or done with its task.
    Idle,
    At(Attempt, Step),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// Has the task, has not asked what is left of it.
    Claimed,
    /// An unfinished upload exists.
    Uploading,
    /// The object exists.
    Uploaded,
    /// The WHERE of `lock_lease` has found the row, which is still to be locked. `changed`: the
    /// row has been written since, so that Postgres looks again once it has the lock. It does
    /// not if another transaction only had it locked.
    Checked { changed: bool },
    /// Its transaction has the task's row.
    Locked,
    /// File and segments are in, COMMIT is sent.
    Inserted,
    /// The answer to COMMIT was lost.
    Unknown,
    /// The lease is gone: the object is to be deleted, then nothing.
    Refused,
    /// Offsets were stored already: the object is to be deleted, the rest asked anew.
    Conflict,
}

/// An object's name.
pub type Name = (usize, u8, u8);

/// An object, unfinished or not, and its row in `files`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Object {
    pub name: Name,
    pub offsets: Offsets,
    pub place: Place,
    /// Older than the grace period, which is longer than a lease.
    pub old: bool,
    /// `files` names it.
    pub visible: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    Upload,
    Stored,
    /// Kept only where `files` names it: readers would miss it.
    Gone,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Sweeper {
    Idle,
    /// A broken one's first step: what `files` names, before the store is listed.
    Fetched(Vec<Name>),
    Listed(Name),
    /// The first of its two checks has passed.
    HalfChecked(Name),
    Condemned(Name),
}

/// What may still happen. A worker that just stands still is none: any may, for any while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Faults {
    /// A crash, a lost answer, a lease that expires although its worker is alive.
    pub any: u8,
    pub cancels: u8,
}

/// Facts that a look at the state can't show afterwards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Wrong {
    /// A commit landed though the task had ended, or was another attempt's.
    pub stale_commit: bool,
    /// A sweeper deleted what a commit could still have named.
    pub swept_too_early: bool,
}

impl Sweeper {
    /// What it is at.
    pub fn name(&self) -> Option<Name> {
        match self {
            Sweeper::Idle | Sweeper::Fetched(_) => None,
            Sweeper::Listed(name) | Sweeper::HalfChecked(name) | Sweeper::Condemned(name) => {
                Some(*name)
            }
        }
    }
}

impl State {
    pub fn new(tasks: usize, workers: usize, sweepers: usize, faults: Faults) -> State {
        let task = Task { token: 0, lease: Lease::Free, end: End::Open, commit: None };
        State {
            tasks: vec![task; tasks],
            workers: vec![Worker::Idle; workers],
            sweepers: vec![Sweeper::Idle; sweepers],
            objects: Vec::new(),
            faults,
            wrong: Wrong::default(),
        }
    }

    /// All offsets that are stored.
    pub fn stored(&self) -> Offsets {
        self.objects.iter().filter(|o| o.visible).fold(0, |all, o| all | o.offsets)
    }

    pub fn object(&self, name: Name) -> Option<&Object> {
        self.objects.iter().find(|object| object.name == name)
    }

    /// The objects that no commit names.
    pub fn orphans(&self) -> impl Iterator<Item = &Object> {
        self.objects.iter().filter(|object| !object.visible)
    }

    pub fn visible(&self, name: Name) -> bool {
        self.object(name).is_some_and(|object| object.visible)
    }

    pub fn delete(&mut self, name: Name) {
        for object in self.objects.iter_mut().filter(|object| object.name == name) {
            object.place = Place::Gone;
        }
        self.objects.retain(|object| object.visible || object.place != Place::Gone);
    }

    /// Whether the task is still this attempt's, be its lease live or expired.
    pub fn owns(&self, attempt: &Attempt) -> bool {
        let task = &self.tasks[attempt.task];
        task.end == End::Open && task.token == attempt.token
    }

    pub fn owns_live(&self, attempt: &Attempt) -> bool {
        self.owns(attempt) && self.tasks[attempt.task].lease == Lease::Live
    }

    /// The attempt of a living worker that holds the task's lease.
    pub fn holder(&self, task: usize) -> Option<&Attempt> {
        self.attempts().map(|(attempt, _)| attempt).find(|a| a.task == task && self.owns(a))
    }

    pub fn attempts(&self) -> impl Iterator<Item = (&Attempt, &Step)> {
        self.workers.iter().filter_map(|worker| match worker {
            Worker::Idle => None,
            Worker::At(attempt, step) => Some((attempt, step)),
        })
    }

    /// The same state but for what nobody can tell: which replica is which, how large a token is
    /// (only their order matters), whether a lease that nobody holds was given back or has
    /// expired, and what a file holds that no commit names.
    pub fn without_names(&self) -> State {
        let mut state = self.clone();
        for number in 0..state.tasks.len() {
            let unheld = state.holder(number).is_none();
            if unheld && state.tasks[number].lease == Lease::Expired {
                state.tasks[number].lease = Lease::Free;
            }
        }
        for object in state.objects.iter_mut().filter(|object| !object.visible) {
            object.offsets = 0;
        }
        for number in 0..state.tasks.len() {
            let mut used = Vec::new();
            state.each_token(number, |token| used.push(*token));
            used.sort_unstable();
            used.dedup();
            state.each_token(number, |token| {
                *token = used.iter().filter(|other| *other < token).count() as u8;
            });
        }
        state.workers.sort_unstable();
        state.sweepers.sort_unstable();
        state.objects.sort_unstable();
        state
    }

    fn each_token(&mut self, task: usize, mut visit: impl FnMut(&mut u8)) {
        visit(&mut self.tasks[task].token);
        if let Some(commit) = &mut self.tasks[task].commit {
            visit(&mut commit.attempt.token);
        }
        for worker in &mut self.workers {
            match worker {
                Worker::At(attempt, _) if attempt.task == task => visit(&mut attempt.token),
                _ => {}
            }
        }
        for object in self.objects.iter_mut().filter(|object| object.name.0 == task) {
            visit(&mut object.name.1);
        }
        for sweeper in &mut self.sweepers {
            match sweeper {
                Sweeper::Listed(name) | Sweeper::HalfChecked(name) | Sweeper::Condemned(name)
                    if name.0 == task =>
                {
                    visit(&mut name.1);
                }
                _ => {}
            }
        }
    }

    /// Falls with every step but a sweeper's that changes nothing: so no worker can go round in
    /// circles, and whatever happens comes to an end.
    pub fn distance_from_the_end(&self, wants: &[Offsets]) -> impl Ord + use<> {
        let tokens: u32 = self.tasks.iter().map(|task| u32::from(task.token)).sum();
        let faults = self.faults.any + self.faults.cancels;
        let stored = self.stored();
        let work: u32 = self.attempts().map(|(a, s)| to_do(a, *s, wants[a.task], stored)).sum();
        let commits = self.tasks.iter().filter(|task| task.commit.is_some()).count();
        let lease = |(number, task): (usize, &Task)| match (task.lease, self.holder(number)) {
            (Lease::Live, None) => 2,
            (Lease::Expired, _) => 1,
            (Lease::Free, _) | (Lease::Live, Some(_)) => 0,
        };
        let leases: u8 = self.tasks.iter().enumerate().map(lease).sum();
        let orphans: usize = self.orphans().map(|o| if o.old { 1 } else { 2 }).sum();
        (Reverse(tokens), faults, work, commits, leases, orphans)
    }
}

/// Steps of an attempt that are left, more than enough for each offset to be asked anew.
fn to_do(attempt: &Attempt, step: Step, wants: Offsets, stored: Offsets) -> u32 {
    let unread = wants & !stored;
    let (left, steps) = match step {
        Step::Claimed => (unread, 10),
        Step::Uploading => (unread | attempt.offsets, 9),
        Step::Unknown => (unread | attempt.offsets, 9),
        Step::Uploaded => (unread | attempt.offsets, 8),
        Step::Checked { .. } => (unread | attempt.offsets, 7),
        Step::Locked => (unread | attempt.offsets, 6),
        Step::Inserted => (unread | attempt.offsets, 5),
        Step::Conflict => (unread | attempt.offsets, 4),
        Step::Refused => (0, 3),
    };
    20 * left.count_ones() + steps
}
