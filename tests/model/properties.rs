//! What must hold in every state, and what must be possible at all.

use stateright::{Model, Property};

use crate::state::{End, Place, State, Step, Sweeper};
use crate::steps::{Action, Case};

pub const STORED_ONCE: &str = "no offset is in two visible files";
pub const FILES_EXIST: &str = "the object of every visible file exists";
pub const CANCELLED_FILES_EXIST: &str = "the files of a cancelled run stay";
pub const NO_STALE_COMMIT: &str = "an attempt that has lost its task changes nothing";
pub const DONE_IS_STORED: &str = "all ranges of a task that is done are stored";
pub const SWEPT_IS_DEAD: &str = "what is swept could not have become visible";
pub const CLEAN_END: &str =
    "at the end every task has ended, and nothing but visible files is left";

/// A model that has been given its size.
#[derive(Clone)]
pub struct Checked {
    pub case: Case,
    pub start: State,
    /// What must be possible; asked in one case alone, as each question costs time.
    pub possible: fn() -> Vec<Property<Checked>>,
}

impl Model for Checked {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![self.start.clone()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.case.actions(state, actions);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let next = self.case.next(last, action);
        let (before, after) = (
            last.distance_from_the_end(self.case.wants),
            next.distance_from_the_end(self.case.wants),
        );
        let idle_round = matches!(action, Action::Sweeper(..)) && after == before;
        // Where sweepers take what workers are at, nobody gets anywhere.
        let moves = after < before || idle_round || last.wrong.swept_too_early;
        assert!(moves, "{action:?} leads nowhere: {last:?} to {next:?}");
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(STORED_ONCE, |_, state: &State| stored_once(state)),
            Property::always(FILES_EXIST, |_, state: &State| files_exist(state, |_| true)),
            Property::always(CANCELLED_FILES_EXIST, |_, state: &State| {
                files_exist(state, |end| end == End::Cancelled)
            }),
            Property::always(NO_STALE_COMMIT, |_, state: &State| !state.wrong.stale_commit),
            Property::always(DONE_IS_STORED, |model: &Self, state: &State| {
                model.done_is_stored(state)
            }),
            Property::always(SWEPT_IS_DEAD, |_, state: &State| !state.wrong.swept_too_early),
            Property::always(CLEAN_END, |model: &Self, state: &State| {
                model.clean_at_the_end(state)
            }),
        ];
        properties.extend((self.possible)());
        properties
    }
}

impl Checked {
    fn done_is_stored(&self, state: &State) -> bool {
        let mut done = state.tasks.iter().zip(self.case.wants).filter(|(t, _)| t.end == End::Done);
        done.all(|(_, wants)| wants & !state.stored() == 0)
    }

    /// Nothing can happen any more but faults, of which there are none left.
    fn clean_at_the_end(&self, state: &State) -> bool {
        let mut actions = Vec::new();
        self.case.actions(state, &mut actions);
        let ended = state.tasks.iter().all(|task| task.end != End::Open && task.commit.is_none());
        !actions.is_empty() || (ended && state.orphans().next().is_none())
    }
}

fn stored_once(state: &State) -> bool {
    let mut seen = 0;
    state.objects.iter().filter(|object| object.visible).all(|object| {
        let twice = seen & object.offsets != 0;
        seen |= object.offsets;
        !twice
    })
}

fn files_exist(state: &State, of: fn(End) -> bool) -> bool {
    let mut files = state.objects.iter().filter(|o| o.visible && of(state.tasks[o.name.0].end));
    files.all(|object| object.place == Place::Stored)
}

/// Without these, what always holds could hold because nothing ever happens.
pub fn possible() -> Vec<Property<Checked>> {
    vec![
        Property::sometimes("all tasks are done", |_, state: &State| {
            state.tasks.iter().all(|task| task.end == End::Done)
        }),
        Property::sometimes(
            "an attempt that has lost its task has an object",
            |_, state: &State| {
                state.attempts().any(|(at, step)| *step == Step::Uploaded && !state.owns(at))
            },
        ),
        Property::sometimes("another has stored some of the offsets", |_, state: &State| {
            state.attempts().any(|(_, step)| *step == Step::Conflict)
        }),
        Property::sometimes("a commit is refused because of its lease", |_, state: &State| {
            state.attempts().any(|(_, step)| *step == Step::Refused)
        }),
        Property::sometimes(
            "a row was written while a commit waited for it",
            |_, state: &State| {
                state.attempts().any(|(_, step)| *step == Step::Checked { changed: true })
            },
        ),
        Property::sometimes("an outcome is unknown, and it landed", |_, state: &State| {
            unknown(state).any(|name| state.visible(name))
        }),
        Property::sometimes("an outcome is unknown, and it did not land", |_, state: &State| {
            unknown(state).any(|(task, ..)| state.tasks[task].commit.is_none())
        }),
        Property::sometimes("a crashed worker's commit is under way", |_, state: &State| {
            let mut commits = state.tasks.iter().filter_map(|task| task.commit);
            commits.any(|c| c.cut_off && !state.attempts().any(|(at, _)| *at == c.attempt))
        }),
        Property::sometimes("what a sweeper has listed is being committed", |_, state: &State| {
            listed(state).any(|(task, token, _)| {
                state.tasks[task].commit.is_some_and(|commit| commit.attempt.token == token)
            })
        }),
        Property::sometimes("what a sweeper has listed became visible", |_, state: &State| {
            listed(state).any(|name| state.visible(name))
        }),
        Property::sometimes(
            "a sweeper condemns what a living worker has written",
            |_, state: &State| {
                state.sweepers.iter().any(|sweeper| match sweeper {
                    &Sweeper::Condemned((task, token, _)) => {
                        state.attempts().any(|(at, _)| (at.task, at.token) == (task, token))
                    }
                    _ => false,
                })
            },
        ),
        Property::sometimes("nothing is left to happen", |model: &Checked, state: &State| {
            let mut actions = Vec::new();
            model.case.actions(state, &mut actions);
            actions.is_empty()
        }),
    ]
}

fn unknown(state: &State) -> impl Iterator<Item = (usize, u8, u8)> {
    let unknown = state.attempts().filter(|(_, step)| **step == Step::Unknown);
    unknown.filter_map(|(at, _)| Some((at.task, at.token, at.file?)))
}

fn listed(state: &State) -> impl Iterator<Item = (usize, u8, u8)> {
    state.sweepers.iter().filter_map(|sweeper| match sweeper {
        Sweeper::Listed(name) => Some(*name),
        _ => None,
    })
}
