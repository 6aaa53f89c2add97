//! A model of claim, lease, commit and sweep, of which every interleaving is gone through.
//! `docs/model.md` tells what is in it, what is not, and what came out.
//!
//! `cargo test --test model -- --nocapture` prints the number of states and what breaks each
//! broken variant, step by step. `MODEL_MORE_FAULTS=1` adds a fault to each case that must hold,
//! and minutes.

mod broken;
mod check;
mod effects;
mod properties;
mod protocol;
mod state;
mod steps;

use check::holds;
use properties::{Checked, possible};
use protocol::{Age, Protocol};
use state::{Faults, State, Sweeper, Worker};
use steps::{Case, Files};

/// A sweeper that takes what is young too may do all that one may that waits: what holds without
/// the age holds with it.
const WITHOUT_AGE: Protocol = Protocol { age: Age::Any, ..Protocol::designed() };

/// One window of two offsets, two workers, one sweeper.
fn one_window(protocol: Protocol, faults: Faults) -> Checked {
    let case = Case { protocol, wants: &[0b11], files: Files::OnePerTask };
    Checked { case, start: State::new(1, 2, 1, faults), possible: Vec::new }
}

/// Two windows of two offsets each, of which they share one.
fn two_windows(protocol: Protocol, faults: Faults) -> Checked {
    let case = Case { protocol, wants: &[0b011, 0b110], files: Files::OnePerTask };
    Checked { case, start: State::new(2, 2, 1, faults), possible: Vec::new }
}

fn faults(any: u8, cancels: u8) -> Faults {
    let more = std::env::var("MODEL_MORE_FAULTS").ok().and_then(|more| more.parse::<u8>().ok());
    Faults { any: any + more.unwrap_or(0), cancels }
}

#[test]
fn the_protocol_holds_with_two_windows_that_overlap() {
    let mut model = two_windows(Protocol::designed(), faults(1, 1));
    model.possible = possible;
    holds("two windows", model);
}

#[test]
fn it_holds_without_the_age_too() {
    holds("two windows without age", two_windows(WITHOUT_AGE, faults(2, 0)));
}

#[test]
fn it_holds_with_three_workers() {
    let mut model = two_windows(WITHOUT_AGE, faults(1, 0));
    model.start.workers.push(Worker::Idle);
    holds("three workers, two windows", model);
    let mut model = one_window(WITHOUT_AGE, faults(3, 0));
    model.start.workers.push(Worker::Idle);
    holds("three workers, one window", model);
}

#[test]
fn it_holds_with_two_sweepers() {
    let mut model = one_window(WITHOUT_AGE, faults(2, 1));
    model.start.sweepers.push(Sweeper::Idle);
    holds("two sweepers", model);
}

#[test]
fn it_holds_where_a_task_has_several_files() {
    let mut model = one_window(WITHOUT_AGE, faults(2, 1));
    model.case.files = Files::Any;
    holds("several files", model);
}
