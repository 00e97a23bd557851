//! The line: oldest first, whichever comes first, and nothing lost.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_returned_server_serves_who_waits_for_a_dial() {
    let bench = Bench::of_size(2);
    let held = bench.take().await;
    bench.world.always(Plan::Asked);
    let (first, second) = (bench.ask(), bench.ask());
    settle().await;
    assert_eq!((bench.waiting(), bench.pool.dialling_count()), (2, 1));
    held.release(());
    let first = first.served().await;
    assert_eq!(first.vitals.number, 0);
    bench.check(1);
    assert!(bench.world.answer(Fate::Success));
    assert_eq!(second.served().await.vitals.number, 1);
    drop(first);
}

#[tokio::test(start_paused = true)]
async fn a_finished_dial_serves_who_waits_for_a_return() {
    let bench = Bench::of_size(2);
    let _held = bench.take().await;
    bench.world.plan(Plan::After(SECOND, Fate::Success));
    let client = bench.ask();
    pass(SECOND).await;
    assert_eq!(client.served().await.vitals.number, 1);
}

#[tokio::test(start_paused = true)]
async fn service_order_is_arrival_order() {
    let bench = Bench::of_size(1);
    let mut server = bench.take().await;
    let mut line: VecDeque<_> = (0..20).map(|_| bench.ask()).collect();
    let mut newcomers = 20;
    settle().await;
    while let Some(oldest) = line.pop_front() {
        server.release(());
        server = oldest.served().await;
        assert!(line.iter().all(|younger| !younger.is_done()));
        if newcomers > 0 {
            newcomers -= 1;
            line.push_back(bench.ask());
        }
        bench.check(1);
    }
    assert_eq!(bench.world.dials(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_does_not_overtake() {
    let bench = Bench::of_size(1);
    let held = bench.take().await;
    let waiter = bench.ask();
    settle().await;
    held.release(());
    // The waiter has not run yet; its server is spoken for all the same.
    assert!(bench.pool.try_checkout().is_none());
    let newcomer = bench.ask();
    waiter.served().await.release(());
    newcomer.served().await;
}

#[tokio::test(start_paused = true)]
async fn who_leaves_is_passed_over_and_leaves_at_once() {
    let bench = Bench::of_size(1);
    let held = bench.take().await;
    let (first, second, third) = (bench.ask(), bench.ask(), bench.ask());
    settle().await;
    second.leave();
    settle().await;
    assert_eq!(bench.waiting(), 2);
    held.release(());
    first.served().await.release(());
    third.served().await.release(());
    bench.check(0);
}

#[tokio::test(start_paused = true)]
async fn who_leaves_with_a_server_in_hand_loses_nothing() {
    let bench = Bench::of_size(1);
    let held = bench.take().await;
    let (first, second) = (bench.ask(), bench.ask());
    settle().await;
    held.release(());
    first.leave(); // it was handed the server, and never ran again
    assert_eq!(second.served().await.vitals.number, 0);
    settle().await;
    assert_eq!(bench.world.dials(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_last_who_leaves_with_a_server_in_hand_leaves_it_idle() {
    let bench = Bench::of_size(1);
    let held = bench.take().await;
    let client = bench.ask();
    settle().await;
    held.release(());
    client.leave();
    settle().await;
    assert_eq!((bench.pool.idle_count(), bench.waiting()), (1, 0));
    assert!(bench.pool.try_checkout().is_some());
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_longer_than_the_limit() {
    let bench = Bench::of_size(1);
    let held = bench.take().await;
    let early = bench.ask();
    pass(60 * SECOND).await;
    let late = bench.ask();
    pass(59 * SECOND).await;
    assert!(!early.is_done());
    assert_eq!((bench.waiting(), bench.pool.queue().1.as_secs()), (2, 119));
    pass(SECOND).await;
    assert!(matches!(early.refused().await, Refusal::TimedOut));
    assert!(!late.is_done());
    held.release(());
    late.served().await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_server_is_taken_without_a_dial() {
    let bench = Bench::of_size(4);
    for _ in 0..5 {
        bench.take().await.release(());
        settle().await;
    }
    assert_eq!((bench.world.dials(), bench.pool.idle_count()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn the_warmest_or_the_oldest_is_used_next() {
    for (server_round_robin, expected) in [(false, 1), (true, 0)] {
        let bench = Bench::new(PoolSettings { server_round_robin, ..settings() });
        bench.take_all(2).await.into_iter().for_each(|server| server.release(()));
        assert_eq!(bench.take().await.vitals.number, expected);
    }
}
