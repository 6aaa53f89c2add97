//! The rules, and how each could be broken.

/// Who checks what, when. [`Protocol::designed`] is what the code is to do.
#[derive(Clone, Copy, Debug)]
pub struct Protocol {
    pub names: Names,
    pub renewal: Renewal,
    pub check: CommitCheck,
    pub overlap: Overlap,
    pub unknown: OnUnknown,
    pub age: Age,
    pub lease: LeaseCheck,
    pub files: FilesCheck,
}

/// What an object's name holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    OfAttempt,
    /// Two attempts at a task write to one name.
    OfTask,
}

/// When a heartbeat may extend a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// Also after it has expired. More than `renew_lease` wants, but it evaluates its WHERE
    /// before it waits for the row, too.
    UntilTakenOver,
    WhileLive,
}

/// How a commit makes sure of its lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitCheck {
    /// `SELECT … WHERE … FOR UPDATE`: Postgres evaluates it, waits for the row, and evaluates it
    /// again only if the row was written meanwhile.
    UnderLock,
    /// As `UnderLock`, and once more in a statement of its own when it has the row.
    UnderLockAgain,
    /// As `UnderLock`, but whether the lease has expired is not asked.
    TokenOnly,
    /// In a transaction of its own, or without `FOR UPDATE`.
    BeforeLock,
    Never,
}

/// What the segments' constraint does with an offset that is stored already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlap {
    Refused,
    Accepted,
    /// Refuses it, and the worker takes its task for done: someone else has it.
    TakenForDone,
}

/// What a worker does that got no answer to COMMIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnUnknown {
    /// Asks, behind the task's lock.
    Ask,
    /// Asks without waiting for whoever has the task's row.
    AskWithoutLock,
    CommitAgain,
    Delete,
}

/// What the sweeper takes from the store's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    Old,
    Any,
}

/// How the sweeper makes sure that an attempt will commit nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseCheck {
    /// Its task has ended, or is another attempt's: what its lease says does not count. Nothing
    /// to wait for, as nobody can end or take a task while a commit has its row.
    Over,
    /// Waits for the row, leaves a live lease alone, and takes any other away: a claim by nobody.
    TakeAway,
    /// Waits for the row, and leaves a live lease alone.
    LockOnly,
    /// Leaves a live lease alone, as it was before a commit that is under way. (So does
    /// `WHERE lease_expires_at > … FOR UPDATE`: it does not find an expired lease's row, and so
    /// does not wait for it.)
    ReadOnly,
    No,
}

/// When the sweeper makes sure that no row of `files` names the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilesCheck {
    /// After the lease, in a statement that begins after it.
    AfterLease,
    /// Before the lease; or in one statement with it, whose snapshot is older than its lock.
    BeforeLease,
    /// By a list fetched before the store's.
    BeforeListing,
}

impl Protocol {
    pub const fn designed() -> Protocol {
        Protocol {
            names: Names::OfAttempt,
            renewal: Renewal::UntilTakenOver,
            check: CommitCheck::UnderLock,
            overlap: Overlap::Refused,
            unknown: OnUnknown::Ask,
            age: Age::Old,
            lease: LeaseCheck::Over,
            files: FilesCheck::AfterLease,
        }
    }
}
