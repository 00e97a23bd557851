//! Who is sent away while logins fail.

use super::*;

/// What the second of two login failures is like.
const PERMANENT: Plan = Plan::After(Duration::ZERO, Fate::Permanent);

#[tokio::test(start_paused = true)]
async fn without_a_server_a_refused_login_fails_all_who_wait_and_newcomers_until_the_retry() {
    let bench = Bench::of_size(2);
    bench.world.plan(Plan::After(SECOND, Fate::Permanent));
    bench.world.always(Plan::Asked);
    let clients: Vec<_> = (0..5).map(|_| bench.ask()).collect();
    pass(SECOND).await;
    for client in clients {
        assert!(matches!(client.refused().await, Refusal::LoginFailed(_)));
    }
    for _ in 0..12 {
        assert!(matches!(bench.ask().refused().await, Refusal::LoginFailing(_)));
        pass(SECOND).await;
    }
    assert_eq!(bench.world.dials(), 2, "the other dial was under way");
    pass(4 * SECOND).await;
    let client = bench.ask();
    settle().await;
    assert!(!client.is_done());
    while bench.world.answer(Fate::Success) {}
    client.served().await;
}

#[tokio::test(start_paused = true)]
async fn what_may_pass_is_waited_out() {
    for fate in [Fate::Busy, Fate::Transient] {
        let bench = Bench::of_size(2);
        bench.world.plan(Plan::After(SECOND, fate));
        let waiter = bench.ask();
        pass(SECOND).await;
        settle().await;
        assert!(!waiter.is_done());
        let newcomer = bench.ask();
        settle().await;
        // Only a server that says that it will be ready soon is worth joining the line for.
        assert_eq!(newcomer.is_done(), fate == Fate::Transient);
        pass(SECOND).await;
        waiter.served().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_pool_with_a_server_fails_nobody() {
    let bench = Bench::of_size(3);
    let held = bench.take().await;
    bench.world.always(PERMANENT);
    let waiter = bench.ask();
    pass(3 * SECOND).await;
    let newcomer = bench.ask();
    pass(20 * SECOND).await;
    held.release(());
    waiter.served().await.release(());
    newcomer.served().await;
}

#[tokio::test(start_paused = true)]
async fn when_the_last_server_goes_those_who_wait_for_a_refused_login_are_told() {
    let bench = Bench::of_size(3);
    let held = bench.take().await;
    bench.world.always(PERMANENT);
    let waiter = bench.ask();
    pass(SECOND).await;
    assert!(!waiter.is_done());
    drop(held);
    assert!(matches!(waiter.refused().await, Refusal::LoginFailed(_)));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_being_closed_is_no_hope() {
    let bench = Bench::of_size(3);
    *bench.world.close_takes.lock().unwrap() = 5 * SECOND;
    let held = bench.take().await;
    bench.world.always(PERMANENT);
    drop(held);
    let waiter = bench.ask();
    assert!(matches!(waiter.refused().await, Refusal::LoginFailed(_)));
    assert!(matches!(bench.ask().refused().await, Refusal::LoginFailing(_)));
}

#[tokio::test(start_paused = true)]
async fn what_the_pooler_closes_is_no_failure() {
    let bench = Bench::of_size(2);
    for _ in 0..5 {
        drop(bench.take().await);
        bench.pool.reconnect();
        bench.take().await.release(());
        bench.pool.evict_one(crate::pool::Full::Database);
    }
    assert!(bench.pool.health().retry_at().is_none());
    assert_eq!(bench.pool.traffic.snapshot().connect_failures, 0);
}

#[tokio::test(start_paused = true)]
async fn another_endpoint_is_tried_at_once() {
    let bench = Bench::of_size(2);
    bench.world.plan(PERMANENT);
    assert!(matches!(bench.ask().refused().await, Refusal::LoginFailed(_)));
    bench.change(|settings| settings.port = 5433);
    bench.take().await;
}
