//! What each step does.

use crate::protocol::{CommitCheck, FilesCheck, LeaseCheck, Names, OnUnknown, Overlap};
use crate::state::{
    Attempt, Commit, End, Lease, Name, Object, Offsets, Place, State, Step, Sweeper, Worker,
};
use crate::steps::{Action, Case, Deed, Event, Round, expires_by_itself};

impl Case {
    /// The state after `action`, which [`actions`](Case::actions) has offered.
    pub fn next(&self, last: &State, action: Action) -> State {
        let mut state = last.clone();
        match action {
            Action::Worker(number, deed) => {
                state.workers[number] = match state.workers[number] {
                    Worker::Idle => begin_work(&mut state, deed),
                    Worker::At(attempt, step) => self.work(&mut state, attempt, step, deed),
                };
            }
            Action::Task(number, event) => self.happen(&mut state, number, event),
            Action::Sweeper(number, round) => {
                let sweeper = std::mem::replace(&mut state.sweepers[number], Sweeper::Idle);
                state.sweepers[number] = self.sweep(&mut state, sweeper, round);
            }
            Action::Age => age(&mut state),
        }
        state
    }

    /// What a worker does, and how it stands then.
    fn work(&self, state: &mut State, at: Attempt, step: Step, deed: Deed) -> Worker {
        match deed {
            Deed::Begin(offsets) => self.begin(state, at, offsets),
            Deed::FinishUpload => self.finish_upload(state, at),
            Deed::FindRow if self.holds(state, &at) => {
                Worker::At(at, Step::Checked { changed: false })
            }
            Deed::FindRow => Worker::At(at, Step::Refused),
            Deed::LockRow => self.lock(state, at, step),
            Deed::Insert => self.insert(state, at),
            Deed::LoseAnswer => {
                state.faults.any -= 1;
                cut_off(state, &at);
                Worker::At(at, Step::Unknown)
            }
            Deed::Ask => self.ask(state, at),
            Deed::Discard => {
                if let Some(name) = self.name(&at) {
                    state.delete(name);
                }
                if step == Step::Conflict { claimed(at) } else { Worker::Idle }
            }
            Deed::Renew => {
                state.tasks[at.task].lease = Lease::Live;
                written(state, at.task);
                let checking = matches!(step, Step::Checked { .. });
                Worker::At(at, if checking { Step::Checked { changed: true } } else { step })
            }
            Deed::Crash => {
                state.faults.any -= 1;
                cut_off(state, &at);
                Worker::Idle
            }
            Deed::GiveUp | Deed::Stop | Deed::Claim(_) => Worker::Idle,
        }
    }

    fn happen(&self, state: &mut State, number: usize, event: Event) {
        match event {
            Event::Land => self.land(state, number),
            Event::RollBack => state.tasks[number].commit = None,
            Event::Pause => {
                state.faults.any -= 1;
                state.tasks[number].lease = Lease::Expired;
            }
            Event::Expire => state.tasks[number].lease = Lease::Expired,
            Event::Cancel => {
                state.faults.cancels -= 1;
                end(state, number, End::Cancelled);
            }
        }
    }

    fn name(&self, attempt: &Attempt) -> Option<Name> {
        attempt.file.map(|file| match self.protocol.names {
            Names::OfAttempt => (attempt.task, attempt.token, file),
            Names::OfTask => (attempt.task, 0, 0),
        })
    }

    fn begin(&self, state: &mut State, mut at: Attempt, offsets: Offsets) -> Worker {
        at.last = offsets == self.wants[at.task] & !state.stored();
        at.offsets = offsets;
        if offsets == 0 {
            // Others have stored it all: the task has only to be ended.
            at.file = None;
            return Worker::At(at, Step::Uploaded);
        }
        at.file = Some(at.file.map_or(0, |file| file + 1));
        if let Some(name) = self.name(&at)
            && state.object(name).is_none()
        {
            let place = Place::Upload;
            state.objects.push(Object { name, offsets, place, old: false, visible: false });
        }
        Worker::At(at, Step::Uploading)
    }

    fn finish_upload(&self, state: &mut State, at: Attempt) -> Worker {
        let upload = state.objects.iter_mut().find(|object| Some(object.name) == self.name(&at));
        if let Some(object) = upload {
            (object.place, object.old) = (Place::Stored, false);
            return Worker::At(at, Step::Uploaded);
        }
        // A sweeper has aborted it. An error like any other: the task is given back.
        if state.owns(&at) && state.tasks[at.task].commit.is_none() {
            state.tasks[at.task].lease = Lease::Free;
            written(state, at.task);
        }
        Worker::Idle
    }

    fn holds(&self, state: &State, attempt: &Attempt) -> bool {
        match self.protocol.check {
            CommitCheck::UnderLock | CommitCheck::UnderLockAgain | CommitCheck::BeforeLock => {
                state.owns_live(attempt)
            }
            CommitCheck::TokenOnly => state.owns(attempt),
            CommitCheck::Never => true,
        }
    }

    fn lock(&self, state: &mut State, at: Attempt, step: Step) -> Worker {
        let again = match self.protocol.check {
            CommitCheck::UnderLock | CommitCheck::TokenOnly => {
                step == Step::Checked { changed: true }
            }
            CommitCheck::UnderLockAgain => true,
            CommitCheck::BeforeLock | CommitCheck::Never => false,
        };
        if again && !self.holds(state, &at) {
            return Worker::At(at, Step::Refused);
        }
        let commit = Commit { attempt: at, inserted: false, cut_off: false };
        state.tasks[at.task].commit = Some(commit);
        Worker::At(at, Step::Locked)
    }

    fn insert(&self, state: &mut State, at: Attempt) -> Worker {
        let stored_already = state.stored() & at.offsets != 0;
        if stored_already && self.protocol.overlap != Overlap::Accepted {
            state.tasks[at.task].commit = None;
            if self.protocol.overlap == Overlap::Refused {
                return Worker::At(at, Step::Conflict);
            }
            end(state, at.task, End::Done);
            return Worker::At(at, Step::Refused);
        }
        if let Some(commit) = &mut state.tasks[at.task].commit {
            commit.inserted = true;
        }
        Worker::At(at, Step::Inserted)
    }

    fn land(&self, state: &mut State, task: usize) {
        let Some(Commit { attempt, cut_off, .. }) = state.tasks[task].commit.take() else { return };
        state.wrong.stale_commit |= !state.owns(&attempt);
        if let Some(name) = self.name(&attempt) {
            let place = state.object(name).map_or(Place::Gone, |object| object.place);
            state.objects.retain(|object| object.name != name);
            let offsets = attempt.offsets;
            state.objects.push(Object { name, offsets, place, old: true, visible: true });
        }
        if attempt.last && state.tasks[task].end == End::Open {
            end(state, task, End::Done);
        }
        written(state, task);
        let waiting = Worker::At(attempt, Step::Inserted);
        let mut workers = state.workers.iter_mut();
        if let Some(worker) = workers.find(|worker| !cut_off && **worker == waiting) {
            *worker = if attempt.last { Worker::Idle } else { claimed(attempt) };
        }
    }

    fn ask(&self, state: &State, at: Attempt) -> Worker {
        match self.protocol.unknown {
            OnUnknown::CommitAgain => return Worker::At(at, Step::Uploaded),
            OnUnknown::Delete => return Worker::At(at, Step::Refused),
            OnUnknown::Ask | OnUnknown::AskWithoutLock => {}
        }
        let row = &state.tasks[at.task];
        let landed = match self.name(&at) {
            Some(name) => state.visible(name),
            None => row.end == End::Done && row.token == at.token,
        };
        match (landed, at.last) {
            (true, true) => Worker::Idle,
            (true, false) => claimed(at),
            (false, _) if state.owns_live(&at) => Worker::At(at, Step::Uploaded),
            (false, _) => Worker::Idle,
        }
    }

    /// What a sweeper does, and how it stands then.
    fn sweep(&self, state: &mut State, sweeper: Sweeper, round: Round) -> Sweeper {
        match (round, sweeper.name()) {
            (Round::Fetch, _) => {
                let named = state.objects.iter().filter(|object| object.visible);
                Sweeper::Fetched(named.map(|object| object.name).collect())
            }
            (Round::List(name), _) => Sweeper::Listed(name),
            (Round::CheckLease, Some(name)) if self.attempt_is_over(state, name) => {
                self.passed(sweeper)
            }
            (Round::CheckFiles, Some(name)) if !state.visible(name) => self.passed(sweeper),
            (Round::CheckLease | Round::CheckFiles, _) => Sweeper::Idle,
            (Round::Delete, name) => {
                if let Some(name) = name {
                    state.wrong.swept_too_early |= self.can_become_visible(state, name);
                    state.delete(name);
                }
                Sweeper::Idle
            }
        }
    }

    fn passed(&self, checking: Sweeper) -> Sweeper {
        match checking {
            Sweeper::Listed(name) if self.protocol.files != FilesCheck::BeforeListing => {
                Sweeper::HalfChecked(name)
            }
            Sweeper::Listed(name) | Sweeper::HalfChecked(name) => Sweeper::Condemned(name),
            other => other,
        }
    }

    /// What the sweeper concludes of the attempt in the object's name.
    fn attempt_is_over(&self, state: &mut State, (task, token, _): Name) -> bool {
        let row = &mut state.tasks[task];
        let owns = row.token == token && row.end == End::Open;
        let live = owns && row.lease == Lease::Live;
        match self.protocol.lease {
            LeaseCheck::Over => !owns,
            LeaseCheck::LockOnly | LeaseCheck::ReadOnly => !live,
            LeaseCheck::No => true,
            LeaseCheck::TakeAway => {
                if owns && !live {
                    row.token += 1;
                    row.lease = Lease::Free;
                    written(state, task);
                }
                !live
            }
        }
    }

    /// Whether a commit that names the object could still land.
    fn can_become_visible(&self, state: &State, name: Name) -> bool {
        let named = |attempt: &Attempt| self.name(attempt) == Some(name);
        let underway = state.tasks.iter().filter_map(|task| task.commit);
        let may_commit = |(attempt, step): (&Attempt, &Step)| {
            let gives_up = matches!(step, Step::Refused | Step::Conflict | Step::Claimed);
            named(attempt) && !gives_up && state.owns(attempt)
        };
        underway.map(|commit| commit.attempt).any(|attempt| named(&attempt))
            || state.attempts().any(may_commit)
    }
}

fn begin_work(state: &mut State, deed: Deed) -> Worker {
    let Deed::Claim(task) = deed else { return Worker::Idle };
    let row = &mut state.tasks[task];
    row.token += 1;
    row.lease = Lease::Live;
    let attempt = Attempt { task, token: row.token, file: None, offsets: 0, last: false };
    written(state, task);
    Worker::At(attempt, Step::Claimed)
}

/// The task's row has another version: who waits for it looks again.
fn written(state: &mut State, task: usize) {
    for worker in &mut state.workers {
        if let Worker::At(attempt, Step::Checked { changed }) = worker
            && attempt.task == task
        {
            *changed = true;
        }
    }
}

fn end(state: &mut State, task: usize, how: End) {
    state.tasks[task].end = how;
    state.tasks[task].lease = Lease::Free;
    written(state, task);
}

fn claimed(at: Attempt) -> Worker {
    Worker::At(Attempt { offsets: 0, last: false, ..at }, Step::Claimed)
}

/// A transaction's client is gone; the server learns it later.
fn cut_off(state: &mut State, at: &Attempt) {
    if let Some(commit) = &mut state.tasks[at.task].commit
        && commit.attempt == *at
    {
        commit.cut_off = true;
    }
}

fn age(state: &mut State) {
    for object in state.objects.iter_mut().filter(|object| !object.visible) {
        object.old = true;
    }
    for task in 0..state.tasks.len() {
        if expires_by_itself(state, task) {
            state.tasks[task].lease = Lease::Expired;
        }
    }
}
