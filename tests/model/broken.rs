//! Each rule left out: the checker has to notice.

use crate::check::{holds, refutes};
use crate::properties::{
    CANCELLED_FILES_EXIST, CLEAN_END, Checked, DONE_IS_STORED, FILES_EXIST, NO_STALE_COMMIT,
    STORED_ONCE, SWEPT_IS_DEAD,
};
use crate::protocol::{
    Age, CommitCheck, FilesCheck, LeaseCheck, Names, OnUnknown, Overlap, Protocol, Renewal,
};
use crate::state::Faults;
use crate::steps::Files;
use crate::{one_window, two_windows};

const DESIGNED: Protocol = Protocol::designed();

fn one_fault(protocol: Protocol) -> Checked {
    one_window(protocol, Faults { any: 1, cancels: 0 })
}

fn two_faults(protocol: Protocol) -> Checked {
    one_window(protocol, Faults { any: 2, cancels: 0 })
}

#[test]
fn a_commit_without_a_fence() {
    let model = one_fault(Protocol { check: CommitCheck::Never, ..DESIGNED });
    refutes("no fence", &model, NO_STALE_COMMIT);
    refutes("no fence", &model, FILES_EXIST);
}

#[test]
fn a_commit_that_checks_its_lease_before_it_has_the_row() {
    let model = one_fault(Protocol { check: CommitCheck::BeforeLock, ..DESIGNED });
    refutes("check before the lock", &model, NO_STALE_COMMIT);
    refutes("check before the lock", &model, FILES_EXIST);
}

#[test]
fn a_store_that_takes_an_offset_twice() {
    let model = two_windows(
        Protocol { overlap: Overlap::Accepted, ..DESIGNED },
        Faults { any: 0, cancels: 0 },
    );
    refutes("no constraint", &model, STORED_ONCE);
}

#[test]
fn a_task_taken_for_done_because_another_has_some_of_it() {
    let model = two_windows(
        Protocol { overlap: Overlap::TakenForDone, ..DESIGNED },
        Faults { any: 0, cancels: 0 },
    );
    refutes("conflict taken for done", &model, DONE_IS_STORED);
}

#[test]
fn names_that_two_attempts_share() {
    let model = one_fault(Protocol { names: Names::OfTask, ..DESIGNED });
    refutes("shared names", &model, FILES_EXIST);
}

#[test]
fn an_object_deleted_while_its_commit_is_unknown() {
    let model = one_fault(Protocol { unknown: OnUnknown::Delete, ..DESIGNED });
    refutes("delete on unknown", &model, FILES_EXIST);
    let mut model = one_window(
        Protocol { unknown: OnUnknown::Delete, ..DESIGNED },
        Faults { any: 1, cancels: 1 },
    );
    model.case.files = Files::Any;
    refutes("delete on unknown, then cancel", &model, CANCELLED_FILES_EXIST);
}

#[test]
fn a_commit_sent_again_without_asking() {
    let model = one_fault(Protocol { unknown: OnUnknown::CommitAgain, ..DESIGNED });
    refutes("commit again", &model, FILES_EXIST);
}

#[test]
fn a_question_that_does_not_wait_for_the_row() {
    let model = one_fault(Protocol { unknown: OnUnknown::AskWithoutLock, ..DESIGNED });
    refutes("ask without the lock", &model, FILES_EXIST);
}

#[test]
fn nobody_sweeps() {
    let mut model = one_fault(DESIGNED);
    model.start.sweepers.clear();
    refutes("no sweeper", &model, CLEAN_END);
}

#[test]
fn a_sweeper_without_grace() {
    let model = one_fault(Protocol { age: Age::Any, lease: LeaseCheck::No, ..DESIGNED });
    refutes("neither age nor lease", &model, SWEPT_IS_DEAD);
    refutes("neither age nor lease", &model, FILES_EXIST);
}

/// However long the grace period is: an upload, a commit or a pause may be longer.
#[test]
fn a_sweeper_that_goes_by_age_alone() {
    let model = one_fault(Protocol { lease: LeaseCheck::No, ..DESIGNED });
    refutes("age, not lease", &model, SWEPT_IS_DEAD);
    refutes("age, not lease", &model, FILES_EXIST);
}

#[test]
fn a_sweeper_that_does_not_look_again() {
    let model = one_fault(Protocol { files: FilesCheck::BeforeListing, ..DESIGNED });
    refutes("no recheck", &model, FILES_EXIST);
}

#[test]
fn a_sweeper_that_looks_again_too_early() {
    let model = one_fault(Protocol { files: FilesCheck::BeforeLease, ..DESIGNED });
    refutes("files before lease", &model, FILES_EXIST);
}

/// The lease expires while the commit is under way, and the row is not waited for.
#[test]
fn a_sweeper_that_does_not_wait_for_a_commit() {
    let model = one_fault(Protocol { lease: LeaseCheck::ReadOnly, ..DESIGNED });
    refutes("lease read without the lock", &model, FILES_EXIST);
}

/// Its worker wakes up after the check, a heartbeat renews it, and the commit passes.
#[test]
fn a_sweeper_that_trusts_an_expired_lease() {
    let model = one_fault(Protocol {
        lease: LeaseCheck::LockOnly,
        check: CommitCheck::UnderLockAgain,
        ..DESIGNED
    });
    refutes("expired lease trusted", &model, FILES_EXIST);
}

/// It is not enough that heartbeats renew no expired lease: Postgres evaluates the commit's
/// WHERE before it waits for the sweeper, and not again after it.
#[test]
fn a_sweeper_that_trusts_a_lease_which_nobody_can_renew() {
    let model = one_fault(Protocol {
        lease: LeaseCheck::LockOnly,
        renewal: Renewal::WhileLive,
        ..DESIGNED
    });
    refutes("expired lease trusted, never renewed", &model, FILES_EXIST);
}

/// A commit need not ask for the expiry, as long as no sweeper goes by it.
#[test]
fn a_commit_that_asks_for_token_and_attempt_alone() {
    let token_only = Protocol { check: CommitCheck::TokenOnly, ..DESIGNED };
    holds("expiry not asked for", two_faults(token_only));
    let model = one_fault(Protocol {
        lease: LeaseCheck::LockOnly,
        renewal: Renewal::WhileLive,
        ..token_only
    });
    refutes("expiry not asked for, expired lease trusted", &model, FILES_EXIST);
}

/// Another sound way: it costs a write, but need not wait until someone takes the task.
#[test]
fn a_sweeper_that_takes_expired_leases_away() {
    let take_away = Protocol { lease: LeaseCheck::TakeAway, ..DESIGNED };
    holds("expired lease taken away", two_faults(take_away));
}
