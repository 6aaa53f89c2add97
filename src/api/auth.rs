//! Who calls, and what they may have.
//!
//! Tokens are few, so each replica has all of them in mind, keyed by their hash: a request
//! costs no look at the database. Postgres tells when one is made or revoked; a slow poll
//! covers what was missed, and a token that nobody here knows is looked for at once.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use actix_web::dev::ServiceRequest;
use actix_web::http::Method;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::ApiState;
use super::credentials::{self, Credentials, unauthenticated};
use super::problem::{Problem, ProblemCode};
use super::snapshots::not_found;
use crate::db::{self, Database, DbError, TokenRow};
use crate::metrics;
use crate::snapshot::{Grant, Scope, TopicGlob, TopicName};

/// How often the tokens are read anew although nothing told us. They have to count everywhere
/// within ten seconds.
const POLL_INTERVAL: Duration = Duration::from_secs(5);

/// The least time between two readings, however many unknown tokens are shown.
const LEAST_INTERVAL: Duration = Duration::from_millis(100);

/// All tokens, as they were a moment ago.
#[derive(Clone, Default)]
pub struct Tokens {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    known: RwLock<Arc<Known>>,
    /// When the last reading began; one at a time reads.
    read_at: tokio::sync::Mutex<Option<Instant>>,
    told: Notify,
    used: Mutex<HashSet<Uuid>>,
}

#[derive(Default)]
struct Known {
    by_hash: HashMap<[u8; 32], Arc<TokenRow>>,
}

impl Tokens {
    /// Reads all tokens.
    ///
    /// # Errors
    /// [`DbError`]; what was known before stays known.
    pub async fn read(&self, db: &Database) -> Result<(), DbError> {
        let mut read_at = self.shared.read_at.lock().await;
        self.read_now(db, &mut read_at).await
    }

    async fn read_now(&self, db: &Database, read_at: &mut Option<Instant>) -> Result<(), DbError> {
        *read_at = Some(Instant::now());
        let rows = db::list_tokens(db).await?;
        let by_hash = rows.into_iter().map(|row| (row.sha256, Arc::new(row))).collect();
        *self.shared.known.write().unwrap_or_else(PoisonError::into_inner) =
            Arc::new(Known { by_hash });
        Ok(())
    }

    /// Says that they have changed.
    pub fn tell(&self) {
        self.shared.told.notify_one();
    }

    /// Keeps them up to date, and notes which are used.
    pub async fn keep_up(&self, db: &Database, stopping: &CancellationToken) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(POLL_INTERVAL) => {}
                () = self.shared.told.notified() => {}
                () = stopping.cancelled() => return,
            }
            let used: Vec<Uuid> =
                self.shared.used.lock().unwrap_or_else(PoisonError::into_inner).drain().collect();
            let noted = match used.as_slice() {
                [] => Ok(()),
                used => db::note_use(db, used).await,
            };
            if let Err(error) = noted.and(self.read(db).await) {
                tracing::warn!(%error, "could not read the tokens; those known before count on");
            }
        }
    }

    fn known(&self) -> Arc<Known> {
        self.shared.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The token with this hash, looked for in the database if it is not known.
    async fn find(&self, db: &Database, hash: &[u8; 32]) -> Result<Option<Arc<TokenRow>>, DbError> {
        if let Some(row) = self.known().by_hash.get(hash) {
            return Ok(Some(row.clone()));
        }
        let asked_at = Instant::now();
        let mut read_at = self.shared.read_at.lock().await;
        // Who waited for another's reading has its result.
        if read_at.is_none_or(|read_at| read_at < asked_at) {
            if let Some(last) = *read_at {
                tokio::time::sleep_until(last + LEAST_INTERVAL).await;
            }
            self.read_now(db, &mut read_at).await?;
        }
        drop(read_at);
        Ok(self.known().by_hash.get(hash).cloned())
    }

    /// Whether there has never been one.
    pub fn never_made(&self) -> bool {
        self.known().by_hash.is_empty()
    }

    /// The token, or what is wrong with it.
    async fn check(
        &self,
        db: &Database,
        shown: &Credentials,
    ) -> Result<Result<Arc<TokenRow>, Problem>, DbError> {
        let wrong = |reason, detail: String| {
            metrics::auth_failure(reason);
            Ok(Err(unauthenticated(detail)))
        };
        let Some(token) = self.find(db, &shown.secret.sha256()).await? else {
            return wrong("unknown", "this token is not known".to_owned());
        };
        let name = &token.name;
        if let Some(revoked_at) = token.revoked_at {
            return wrong("revoked", format!("the token {name} was revoked at {revoked_at}"));
        }
        if let Some(expires_at) = token.expires_at.filter(|_| token.expired) {
            return wrong("expired", format!("the token {name} has expired at {expires_at}"));
        }
        if shown.login.as_ref().is_some_and(|login| login != name) {
            return wrong("login", format!("the login is not the token's name, which is {name}"));
        }
        self.shared.used.lock().unwrap_or_else(PoisonError::into_inner).insert(token.id);
        Ok(Ok(token))
    }
}

/// Who is asked who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anonymous {
    /// Nobody, as long as there is no token.
    WhileNoToken,
    /// Everybody: others can reach this address.
    Never,
}

/// Who calls.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    token: Option<Arc<TokenRow>>,
    address: Option<IpAddr>,
}

/// Who is counted as one caller.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum CallerKey {
    Token(Uuid),
    Address(Option<IpAddr>),
}

impl Caller {
    /// What it may do.
    pub(super) fn grant(&self) -> &Grant {
        const ALL: &Grant = &Grant::ALL;
        self.token.as_ref().map_or(ALL, |token| &token.grant)
    }

    /// The token's name.
    pub(super) fn name(&self) -> Option<&str> {
        self.token.as_ref().map(|token| token.name.as_str())
    }

    /// Who it is, for counting.
    pub(super) fn key(&self) -> CallerKey {
        match &self.token {
            Some(token) => CallerKey::Token(token.id),
            None => CallerKey::Address(self.address),
        }
    }

    /// Patterns of the topics that it may have; empty for all.
    pub(super) fn topics(&self) -> &[TopicGlob] {
        &self.grant().topics
    }

    /// Refuses what the token's scope does not cover.
    pub(super) fn check_method(&self, method: &Method) -> Result<(), Problem> {
        let needed = if method == Method::GET { Scope::Read } else { Scope::Write };
        let scope = self.grant().scope;
        if scope >= needed {
            return Ok(());
        }
        let (name, has) = (self.name().unwrap_or_default(), scope.as_str());
        Err(Problem::new(
            ProblemCode::Forbidden,
            format!("the token {name} has the scope {has}, this needs {}", needed.as_str()),
        ))
    }

    /// Refuses a topic that the token may not have.
    pub(super) fn check_topic(&self, topic: &TopicName) -> Result<(), Problem> {
        if self.grant().covers(topic.as_str()) {
            return Ok(());
        }
        let name = self.name().unwrap_or_default();
        Err(Problem::new(
            ProblemCode::TopicNotAllowed,
            format!("the token {name} may not have the topic {topic}"),
        ))
    }

    /// Hides a snapshot of a topic that the token may not have.
    pub(super) async fn check_snapshot(&self, state: &ApiState, id: Uuid) -> Result<(), Problem> {
        if self.topics().is_empty() {
            return Ok(());
        }
        match db::get_snapshot(&state.db, id).await? {
            Some(row) if self.grant().covers(&row.topic) => Ok(()),
            _ => Err(not_found(id)),
        }
    }
}

/// Finds out who calls.
///
/// # Errors
/// `UNAUTHENTICATED`, which says what is wrong with what was shown; `RATE_LIMITED` after too
/// many wrong tokens; `DATABASE_UNAVAILABLE` where that could not be found out.
pub(super) async fn identify(
    state: &ApiState,
    request: &ServiceRequest,
) -> Result<Caller, Problem> {
    let address = request.peer_addr().map(|address| address.ip());
    if state.tokens.never_made() && state.anonymous == Anonymous::WhileNoToken {
        return Ok(Caller { token: None, address });
    }
    let shown = credentials::read(request.headers());
    let Some(shown) = shown.inspect_err(|_| metrics::auth_failure("malformed"))? else {
        metrics::auth_failure("missing");
        return Err(unauthenticated(
            "a token is needed: send Authorization: Bearer TOKEN, or the token's name and the token as login and password; strandline token create makes one",
        ));
    };
    match state.tokens.check(&state.db, &shown).await? {
        Ok(token) => Ok(Caller { token: Some(token), address }),
        Err(wrong) => {
            state.rate.wrong_token(address)?;
            Err(wrong)
        }
    }
}
