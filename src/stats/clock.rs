//! The time of day, for times that are shown. A transaction asks the system for the time twice and for the time of day
//! never: that is reckoned from the clock which durations are measured with.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The time of day at [`START`], as of the last time that the system was asked: where that clock is set, so is this.
static TIME_OF_START: AtomicU64 = AtomicU64::new(0);

/// Microseconds since 1970.
#[must_use]
pub fn unix_micros() -> u64 {
    let now = micros(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default());
    TIME_OF_START.store(now.saturating_sub(micros(START.elapsed())), Ordering::Relaxed);
    now
}

/// Microseconds from 1970 to a moment that is not long gone.
#[must_use]
pub fn unix_micros_at(moment: Instant) -> u64 {
    let start = match TIME_OF_START.load(Ordering::Relaxed) {
        0 => unix_micros().saturating_sub(micros(START.elapsed())),
        start => start,
    };
    start.saturating_add(micros(moment.saturating_duration_since(*START)))
}

/// A duration in microseconds, saturating.
#[must_use]
pub fn micros(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000).saturating_add(u64::from(duration.subsec_micros()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_lies_between_what_the_system_says_before_and_behind_it() {
        // The two clocks are asked one after the other, so they may differ by as long as that takes.
        let before = unix_micros();
        let moment = unix_micros_at(Instant::now());
        assert!(moment.abs_diff(before) < 60_000_000, "{before} {moment}");
        let later = unix_micros_at(Instant::now() + Duration::from_secs(3600));
        assert!(later.abs_diff(moment) >= 3_500_000_000);
        assert_eq!(micros(Duration::MAX), u64::MAX);
    }
}
