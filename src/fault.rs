//! Places at which a test can make the process die or freeze, or what it does there panic.
//!
//! Only a build with the feature `faults` and debug assertions has them, as tests have: a
//! release can't, and [`hit`] is nothing there. `STRANDLINE_FAULT=after_upload` kills the process
//! (as `kill -9` would) when it first gets there, `after_upload@3` at the third time;
//! `after_upload=freeze` stops it (as `kill -STOP` would) until someone lets it go on, and
//! `after_upload=panic` panics, as a defect would. Several are separated by commas.

macro_rules! faults {
    ($($(#[$doc:meta])+ $fault:ident = $name:literal,)+) => {
        /// A place with a name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Fault {
            $($(#[$doc])+ $fault,)+
        }

        impl Fault {
            /// All of them, in the order of a run.
            #[cfg(all(feature = "faults", debug_assertions))]
            pub const ALL: &[Fault] = &[$(Fault::$fault),+];

            /// The name in `STRANDLINE_FAULT`.
            #[cfg(all(feature = "faults", debug_assertions))]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Fault::$fault => $name),+
                }
            }
        }
    };
}

faults! {
    /// A request is recorded, and not answered yet.
    AfterRequest = "after_request",
    /// A worker has a task, and has done nothing.
    AfterClaim = "after_claim",
    /// Kafka has been asked for a plan; nothing is recorded.
    AfterLook = "after_look",
    /// In the transaction of a plan: looks and ranges are written.
    InPlan = "in_plan",
    /// A plan is complete but for its COMMIT.
    BeforePlanCommit = "before_plan_commit",
    /// A plan is visible, its worker knows.
    AfterPlan = "after_plan",
    /// A consumer is made, nothing is read.
    ReaderMade = "reader_made",
    /// The first event of a file was written to it.
    FirstEvent = "first_event",
    /// In the middle of a range.
    MidRange = "mid_range",
    /// A range is read, the file is open.
    RangeRead = "range_read",
    /// Everything is written but the file's footer.
    BeforeFooter = "before_footer",
    /// The footer is on its way to the store, which has not answered.
    BeforeUploadEnds = "before_upload_ends",
    /// The object is in the store, and nothing names it.
    AfterUpload = "after_upload",
    /// In the transaction of a commit: the file is named, its segments are not.
    InCommit = "in_commit",
    /// A commit is complete but for its COMMIT.
    BeforeCommit = "before_commit",
    /// The COMMIT is answered, the worker has not moved on.
    AfterCommit = "after_commit",
    /// One file of a task is committed, another is to come.
    BetweenFiles = "between_files",
    /// Before a lease is renewed.
    Heartbeat = "heartbeat",
    /// The last look of a run was taken, nothing of it is recorded.
    BeforeFinish = "before_finish",
    /// In the transaction that ends a run.
    InFinish = "in_finish",
    /// A run has ended, its worker has not moved on.
    AfterFinish = "after_finish",
    /// The sealer has looked at a topic, and queued nothing.
    Sealing = "sealing",
    /// The sweeper has listed objects, and asked nobody about them.
    SweepListed = "sweep_listed",
    /// The sweeper knows what may go, and has removed nothing.
    SweepChecked = "sweep_checked",
    /// Someone cancels a run, in the transaction.
    InCancel = "in_cancel",
    /// A worker that was told to stop is about to give its task back.
    Draining = "draining",
}

/// Dies, freezes or panics here, if the process was told to.
#[cfg(not(all(feature = "faults", debug_assertions)))]
#[inline(always)]
pub fn hit(_fault: Fault) {}

#[cfg(all(feature = "faults", debug_assertions))]
pub use armed::hit;

#[cfg(all(feature = "faults", debug_assertions))]
mod armed {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    use rustix::process::{Signal, getpid, kill_process};

    use super::Fault;

    struct Armed {
        name: String,
        /// How many times are left until it strikes.
        left: AtomicU32,
        strike: Strike,
    }

    enum Strike {
        Signal(Signal),
        Panic,
    }

    static ARMED: LazyLock<Vec<Armed>> = LazyLock::new(|| {
        let text = std::env::var("STRANDLINE_FAULT").unwrap_or_default();
        text.split(',').filter(|one| !one.is_empty()).map(parse).collect()
    });

    fn parse(text: &str) -> Armed {
        let (place, strike) = match text.split_once('=') {
            Some((place, "freeze")) => (place, Strike::Signal(Signal::STOP)),
            Some((place, "panic")) => (place, Strike::Panic),
            Some(_) => panic!("STRANDLINE_FAULT knows freeze and panic: {text}"),
            None => (text, Strike::Signal(Signal::KILL)),
        };
        let (name, times) = place.split_once('@').unwrap_or((place, "1"));
        assert!(
            Fault::ALL.iter().any(|fault| fault.as_str() == name),
            "STRANDLINE_FAULT names no fault: {text}"
        );
        let left = times.parse().expect("STRANDLINE_FAULT=name@times");
        Armed { name: name.to_owned(), left: AtomicU32::new(left), strike }
    }

    /// Dies, freezes or panics here, if the process was told to.
    #[track_caller]
    pub fn hit(fault: Fault) {
        for armed in ARMED.iter().filter(|armed| armed.name == fault.as_str()) {
            let count_down = |left: u32| left.checked_sub(1);
            let before = armed.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, count_down);
            if before != Ok(1) {
                continue;
            }
            match armed.strike {
                // The signal is ours to take: nothing else happens before it does.
                Strike::Signal(signal) => {
                    let _ = kill_process(getpid(), signal);
                }
                Strike::Panic => panic!("a defect {}", fault.as_str()),
            }
        }
    }
}
