//! Whether logins succeed, and when to try again after they did not.

use super::member::jittered;
use crate::server::DialError;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The first pause after a failure that may pass by itself.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// What the last dials came to.
#[derive(Debug, Default)]
pub(super) enum Health {
    /// They succeeded, or there were none.
    #[default]
    Well,
    /// They fail.
    Failing {
        /// Why the last one did.
        error: Arc<DialError>,
        /// How many did, one after the other.
        streak: u32,
        /// When the next may be tried.
        retry_at: Instant,
    },
}

impl Health {
    /// A dial failed: the next one waits. The pause doubles from half a second up to `server_login_retry`; a refusal
    /// that will not pass by itself gets the whole pause at once, so that a wrong password does not lock an account.
    pub(super) fn failed(&mut self, error: Arc<DialError>, retry: Duration, now: Instant) {
        let streak = match self {
            Self::Well => 1,
            // One of several that were under way when the first of them failed: the pause has begun already.
            Self::Failing { retry_at, .. } if *retry_at > now => return,
            Self::Failing { streak, .. } => streak.saturating_add(1),
        };
        let pause = if error.is_transient() {
            FIRST_PAUSE.saturating_mul(1 << (streak - 1).min(16)).min(retry)
        } else {
            retry
        };
        *self = Self::Failing { error, streak, retry_at: now + jittered(pause) };
    }

    /// A dial succeeded, or the endpoint is another one now.
    pub(super) fn clear(&mut self) {
        *self = Self::Well;
    }

    /// Why the last dial failed, when it did.
    pub(super) fn error(&self) -> Option<Arc<DialError>> {
        match self {
            Self::Well => None,
            Self::Failing { error, .. } => Some(Arc::clone(error)),
        }
    }

    /// How many may be dialled at a time: while logins fail one probe is enough.
    pub(super) fn dials(&self, when_well: u64) -> u64 {
        match self {
            Self::Well => when_well,
            Self::Failing { .. } => 1,
        }
    }

    /// When a dial may be tried; `None` is at once.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        match self {
            Self::Well => None,
            Self::Failing { retry_at, .. } => Some(*retry_at),
        }
    }

    /// The error for a client that would have to wait for a dial. A server that only says that it is starting up or
    /// full is worth waiting for.
    pub(super) fn refusal(&self, now: Instant) -> Option<Arc<DialError>> {
        match self {
            Self::Failing { error, retry_at, .. } if *retry_at > now && !error.is_busy_server() => {
                Some(Arc::clone(error))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_pause_grows_to_its_limit_and_ends_with_a_success() {
        let (mut health, retry, mut now) = (Health::default(), Duration::from_secs(15), Instant::now());
        let mut last = Duration::ZERO;
        for _ in 0..4 {
            health.failed(Arc::new(DialError::Closed), retry, now);
            let at = health.retry_at().unwrap();
            assert!(at - now > last && at - now <= retry);
            health.failed(Arc::new(DialError::Closed), retry, now);
            assert_eq!(health.retry_at().unwrap(), at, "failures of one moment count once");
            (last, now) = (at - now, at);
        }
        for _ in 0..40 {
            health.failed(Arc::new(DialError::Closed), retry, now);
            (last, now) = (health.retry_at().unwrap() - now, health.retry_at().unwrap());
        }
        assert!(last <= retry && last > retry / 2);
        now -= last;
        assert!(health.refusal(now).is_some() && health.refusal(now + retry).is_none());
        health.clear();
        assert!(health.retry_at().is_none() && health.refusal(now).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_starts_up_is_waited_for() {
        let mut health = Health::default();
        let error = DialError::Refused { code: "57P03".to_owned(), message: "starting up".to_owned() };
        health.failed(Arc::new(error), Duration::from_secs(15), Instant::now());
        assert!(health.refusal(Instant::now()).is_none());
    }
}
