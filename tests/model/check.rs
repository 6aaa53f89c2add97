//! Runs the checker and says what it saw.

use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model};

use crate::properties::Checked;
use crate::state::State;

/// Goes through all states: everything that must hold does, and everything that must be possible
/// is.
pub fn holds(what: &str, model: Checked) {
    let started = Instant::now();
    let checker = model.checker().symmetry_fn(State::without_names).spawn_dfs().join();
    let (states, steps) = (checker.unique_state_count(), checker.state_count());
    eprintln!("{what}: {states} states, {steps} steps, {:.1?}", started.elapsed());
    checker.assert_properties();
}

/// Finds a shortest way to a state in which `property` does not hold.
pub fn refutes(what: &str, model: &Checked, property: &'static str) {
    let (mut shortest, mut states) = (None, 0);
    // The checker stops some hundred states too late, with the last example that it has seen.
    loop {
        let mut checker =
            model.clone().checker().finish_when(HasDiscoveries::AllOf([property].into()));
        if let Some(steps) = &shortest {
            checker = checker.target_max_depth(Vec::len(steps) + 1);
        }
        let checker = checker.spawn_bfs().join();
        states = states.max(checker.unique_state_count());
        match checker.discovery(property) {
            Some(path) => shortest = Some(path.into_actions()),
            None => break,
        }
    }
    let steps = shortest.unwrap_or_else(|| panic!("{what}: nothing found against: {property}"));
    eprintln!("{what}: {states} states, not so: {property}");
    for step in steps {
        eprintln!("    {step:?}");
    }
}
