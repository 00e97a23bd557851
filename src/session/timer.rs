//! One timer for all deadlines of a session. It is set only when it has to fire earlier than it is set for, so that a
//! deadline that moves on with every transaction costs nothing.

use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::time::{Instant, Sleep, sleep_until};

/// The timer of a session; without a deadline it is nothing.
#[derive(Debug, Default)]
pub(super) struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    /// Ready when the deadline has passed. `None` is never.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, deadline: Option<Instant>) -> Poll<()> {
        let Some(deadline) = deadline else { return Poll::Pending };
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        loop {
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_moves_on_is_met_where_it_ends_up() {
        let (mut timer, start) = (Timer::default(), Instant::now());
        let mut deadline = start + Duration::from_secs(1);
        let mut turns = 0;
        poll_fn(|cx| {
            turns += 1;
            if turns == 2 {
                deadline = start + Duration::from_secs(3);
            }
            timer.poll(cx, Some(deadline))
        })
        .await;
        assert_eq!(start.elapsed().as_secs(), if turns > 1 { 3 } else { 1 });
    }

    #[tokio::test(start_paused = true)]
    async fn an_earlier_deadline_brings_it_forward() {
        let (mut timer, start) = (Timer::default(), Instant::now());
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(timer.poll(&mut cx, Some(start + Duration::from_secs(60))).is_pending());
        poll_fn(|cx| timer.poll(cx, Some(start + Duration::from_secs(2)))).await;
        assert_eq!(start.elapsed().as_secs(), 2);
    }
}
