//! From a snapshot's state to a status code, and holding an answer until there is one.

use std::time::Duration;

use actix_web::HttpRequest;
use uuid::Uuid;

use super::ApiState;
use super::params::Params;
use super::problem::{Problem, ProblemCode, RunError};
use crate::db::{self, SnapshotRow};
use crate::metrics::Ongoing;
use crate::snapshot::{Completeness, State};

/// What a caller takes for success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expect {
    Succeeded,
    Settled,
    Sealed,
}

impl Expect {
    pub(super) const NAMES: &[&str] = &["succeeded", "settled", "sealed"];

    fn from_name(name: &str) -> Option<Self> {
        match name {
            "succeeded" => Some(Expect::Succeeded),
            "settled" => Some(Expect::Settled),
            "sealed" => Some(Expect::Sealed),
            _ => None,
        }
    }

    pub(super) fn read(params: &Params) -> Result<Option<Self>, Problem> {
        params.name("expect", Expect::from_name, Expect::NAMES)
    }

    fn met_by(self, completeness: Option<Completeness>) -> bool {
        match (self, completeness) {
            (Expect::Succeeded, _) | (_, Some(Completeness::Sealed)) => true,
            (Expect::Settled, Some(Completeness::Settled)) => true,
            (Expect::Settled, Some(Completeness::Provisional) | None)
            | (Expect::Sealed, Some(Completeness::Provisional | Completeness::Settled) | None) => {
                false
            }
        }
    }
}

/// Whether the newest asked run has ended.
pub(super) const fn has_ended(state: State) -> bool {
    match state {
        State::Queued | State::Running => false,
        State::Succeeded | State::Failed | State::Cancelled => true,
    }
}

/// Whether there is what the caller expects; else the problem that says why not. What was
/// good enough before stays so while it is brought up to date once more.
pub(super) fn check(row: &SnapshotRow, expect: Expect) -> Result<(), Problem> {
    let was_good = matches!(row.completeness, Some(Completeness::Settled | Completeness::Sealed));
    if !has_ended(row.state) && was_good && expect.met_by(row.completeness) {
        return Ok(());
    }
    check_run(row, expect)
}

/// As [`check`], but of the run that was just asked for.
pub(super) fn check_run(row: &SnapshotRow, expect: Expect) -> Result<(), Problem> {
    let topic = &row.topic;
    match row.state {
        State::Succeeded if expect.met_by(row.completeness) => Ok(()),
        State::Succeeded => Err(Problem::new(
            ProblemCode::NotReady,
            format!(
                "the snapshot of {topic} has succeeded but is {} so far",
                row.completeness.map_or("unknown", Completeness::as_str)
            ),
        )),
        State::Queued | State::Running => {
            let retrying =
                row.last_error.as_ref().map(|error| format!("; trying again after {error}"));
            Err(Problem::new(
                ProblemCode::NotReady,
                format!(
                    "the snapshot of {topic} is {}{}",
                    row.state.as_str(),
                    retrying.unwrap_or_default()
                ),
            ))
        }
        State::Failed => {
            let error = row.error.as_ref().map(|error| Box::new(RunError::from(error)));
            let why = row.error.as_ref().map_or_else(String::new, ToString::to_string);
            Err(Problem {
                run_error: error,
                ..Problem::new(
                    ProblemCode::SnapshotFailed,
                    format!("the snapshot of {topic} failed: {why}"),
                )
            })
        }
        State::Cancelled => Err(Problem::new(
            ProblemCode::SnapshotCancelled,
            format!("the snapshot of {topic} was cancelled; ask for it again to go on"),
        )),
    }
}

/// How long the caller wants to wait: `?wait=`, or `Prefer: wait=` (RFC 7240), at most what
/// the settings allow. A preference that makes no sense is ignored.
pub(super) fn wait_seconds(
    request: &HttpRequest,
    params: &Params,
    most: u32,
) -> Result<Option<u32>, Problem> {
    let clamp = |seconds: u64| u32::try_from(seconds).unwrap_or(u32::MAX).min(most);
    if let Some(seconds) = params.at_least("wait", 0)? {
        return Ok(Some(clamp(seconds.unsigned_abs())));
    }
    let preference = request
        .headers()
        .get_all("prefer")
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split([',', ';']))
        .find_map(|part| {
            let (name, value) = part.split_once('=')?;
            let wait = name.trim().eq_ignore_ascii_case("wait");
            wait.then(|| value.trim().trim_matches('"').parse::<u64>().ok()).flatten()
        });
    Ok(preference.map(clamp))
}

/// Looks the snapshot up, again and again as it moves, until `enough` or the time is over.
pub(super) async fn wait_for(
    state: &ApiState,
    id: Uuid,
    seconds: u32,
    enough: impl Fn(&SnapshotRow) -> bool,
) -> Result<Option<SnapshotRow>, Problem> {
    if seconds == 0 {
        return Ok(db::get_snapshot(&state.db, id).await?);
    }
    let over = tokio::time::sleep(Duration::from_secs(u64::from(seconds)));
    tokio::pin!(over);
    let (mut ticket, _waiting) = (state.waiters.register(id), Ongoing::wait());
    let mut row = db::get_snapshot(&state.db, id).await?;
    loop {
        match &row {
            None => return Ok(None),
            Some(snapshot) if enough(snapshot) => return Ok(row),
            Some(_) => {}
        }
        tokio::select! {
            () = ticket.woken() => row = ticket.look(&state.db).await?,
            () = &mut over => return Ok(db::get_snapshot(&state.db, id).await?),
            () = state.draining.cancelled() => return Ok(row),
        }
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn waits_are_clamped_and_senseless_preferences_ignored() {
        for (query, prefer, seconds) in [
            ("wait=30", "", Some(30)),
            ("wait=0", "wait=9", Some(0)),
            ("wait=1000000000000", "", Some(300)),
            ("wait=100000000000000000000", "", Some(300)),
            ("", "wait=30", Some(30)),
            ("", "respond-async, wait=30", Some(30)),
            ("", "respond-async; WAIT=\"30\"", Some(30)),
            ("", "wait=1000000000", Some(300)),
            ("", "wait=-1", None),
            ("", "wait=x", None),
            ("", "wait", None),
            ("", "", None),
        ] {
            let request = TestRequest::with_uri(&format!("/x?{query}"))
                .insert_header(("prefer", prefer))
                .to_http_request();
            let params = Params::read(&request, &["wait"]).expect("known");
            assert_eq!(wait_seconds(&request, &params, 300), Ok(seconds), "{query} {prefer}");
        }
        for query in ["wait=-1", "wait=x", "wait=1.5", "wait="] {
            let request = TestRequest::with_uri(&format!("/x?{query}")).to_http_request();
            let params = Params::read(&request, &["wait"]).expect("known");
            assert!(wait_seconds(&request, &params, 300).is_err(), "{query}");
        }
    }
}
