//! How often one caller may ask: requests for each second, and wrong tokens for each minute.

use std::net::IpAddr;
use std::num::NonZeroU32;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use super::auth::CallerKey;
use super::problem::{Problem, ProblemCode};
use crate::metrics;

/// Wrong tokens that one address may show in a minute.
const WRONG_TOKENS_A_MINUTE: NonZeroU32 = NonZeroU32::new(100).expect("not zero");

/// Counts what callers do.
pub struct RateLimits {
    requests: Option<(NonZeroU32, DefaultKeyedRateLimiter<CallerKey>)>,
    wrong_tokens: DefaultKeyedRateLimiter<Option<IpAddr>>,
    clock: DefaultClock,
}

impl RateLimits {
    /// Limits each caller to so many requests per second, that many at once; 0 for no limit.
    pub fn new(requests_per_second: u32) -> Self {
        let requests = NonZeroU32::new(requests_per_second)
            .map(|limit| (limit, RateLimiter::keyed(Quota::per_second(limit))));
        RateLimits {
            requests,
            wrong_tokens: RateLimiter::keyed(Quota::per_minute(WRONG_TOKENS_A_MINUTE)),
            clock: DefaultClock::default(),
        }
    }

    /// Counts a request.
    pub(super) fn request(&self, caller: &CallerKey) -> Result<(), Problem> {
        let Some((limit, requests)) = &self.requests else { return Ok(()) };
        requests
            .check_key(caller)
            .map_err(|until| {
                self.refusal(
                format!(
                    "more than {limit} requests a second (STRANDLINE_RATE_LIMIT); ask again later"
                ),
                &until,
            )
            })
            .inspect_err(|_| metrics::refused("rate"))
    }

    /// Counts a wrong token.
    pub(super) fn wrong_token(&self, address: Option<IpAddr>) -> Result<(), Problem> {
        let counted = self.wrong_tokens.check_key(&address).map_err(|until| {
            self.refusal("too many wrong tokens from this address; ask again later".into(), &until)
        });
        counted.inspect_err(|_| metrics::refused("wrong_tokens"))
    }

    /// Forgets those who have been silent.
    pub fn forget_silent(&self) {
        if let Some((_, requests)) = &self.requests {
            requests.retain_recent();
        }
        self.wrong_tokens.retain_recent();
    }

    fn refusal(
        &self,
        detail: String,
        until: &governor::NotUntil<governor::clock::QuantaInstant>,
    ) -> Problem {
        let wait = until.wait_time_from(self.clock.now()).as_secs_f64().ceil();
        Problem {
            // A minute at most: the cast can't lose anything.
            retry_after_seconds: Some((wait as u32).max(1)),
            ..Problem::new(ProblemCode::RateLimited, detail)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_caller_has_a_limit_of_its_own() {
        let limits = RateLimits::new(2);
        let (a, b) = (CallerKey::Token(uuid::Uuid::from_u128(1)), CallerKey::Address(None));
        assert!(limits.request(&a).is_ok() && limits.request(&a).is_ok());
        let problem = limits.request(&a).expect_err("the third at once");
        assert_eq!(problem.code, ProblemCode::RateLimited);
        assert_eq!(problem.retry_after_seconds, Some(1));
        assert!(limits.request(&b).is_ok());
    }

    #[test]
    fn zero_is_no_limit() {
        let limits = RateLimits::new(0);
        assert!((0..1000).all(|_| limits.request(&CallerKey::Address(None)).is_ok()));
    }

    #[test]
    fn who_has_been_silent_is_forgotten_and_nobody_else() {
        let (quick, slow) = (RateLimits::new(1_000_000_000), RateLimits::new(1));
        let anyone = CallerKey::Address(None);
        assert!(quick.request(&anyone).is_ok() && slow.request(&anyone).is_ok());
        let known = |limits: &RateLimits| limits.requests.as_ref().map(|(_, known)| known.len());
        // A nanosecond makes up for one of so many requests a second.
        quick.forget_silent();
        assert_eq!(known(&quick), Some(0));
        slow.forget_silent();
        assert!(slow.request(&anyone).is_err());
    }

    #[test]
    fn wrong_tokens_are_counted_by_address() {
        let limits = RateLimits::new(0);
        let address = Some(IpAddr::from([127, 0, 0, 1]));
        assert!((0..100).all(|_| limits.wrong_token(address).is_ok()));
        assert!(limits.wrong_token(address).is_err());
        assert!(limits.wrong_token(Some(IpAddr::from([127, 0, 0, 2]))).is_ok());
    }
}
