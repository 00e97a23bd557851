//! When a server is not used again.

use super::*;

#[tokio::test(start_paused = true)]
async fn what_was_opened_together_does_not_end_together() {
    let bench = Bench::new(PoolSettings {
        size: Some(20),
        server_lifetime: Some(100 * SECOND),
        server_idle_timeout: None,
        ..settings()
    });
    bench.take_all(20).await.into_iter().for_each(|server| server.release(()));
    pass(89 * SECOND).await;
    assert_eq!(bench.world.live(), 20);
    let (mut most, mut before) = (0, 20);
    for _ in 0..12 {
        pass(SECOND).await;
        most = most.max(before - bench.world.live());
        before = bench.world.live();
    }
    assert_eq!(before, 0, "none is older than its lifetime and a round");
    assert!(most < 15, "{most} of 20 were closed at once");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_too_old_is_not_put_back() {
    let bench = Bench::new(PoolSettings { server_lifetime: Some(100 * SECOND), ..settings() });
    let (old, waiter) = (bench.take().await, bench.ask().served().await);
    pass(200 * SECOND).await;
    assert_eq!(bench.world.live(), 2, "a transaction is not cut");
    let next = bench.ask();
    old.release(());
    assert_eq!(next.served().await.vitals.number, 2);
    drop(waiter);
}

#[tokio::test(start_paused = true)]
async fn a_lifetime_of_zero_uses_a_server_once() {
    let bench = Bench::new(PoolSettings { server_lifetime: None, ..settings() });
    bench.take().await.release(());
    settle().await;
    assert_eq!(bench.world.live(), 0);
    let orphan = bench.ask();
    bench.world.plan(Plan::After(SECOND, Fate::Success));
    settle().await;
    orphan.leave();
    pass(5 * SECOND).await;
    assert_eq!(bench.pool.idle_count(), 1, "an unused one waits for its one use");
}

#[tokio::test(start_paused = true)]
async fn an_idle_server_is_closed_in_time_down_to_the_minimum() {
    let settings = PoolSettings { size: Some(4), min_size: 1, ..settings() };
    let bench = Bench::new(settings);
    let _client = bench.pool.clients.enter();
    let held = bench.take_all(4).await;
    pass(700 * SECOND).await;
    held.into_iter().for_each(|server| server.release(()));
    pass(599 * SECOND).await;
    assert_eq!(bench.pool.idle_count(), 4, "idle time counts from the return");
    pass(3 * SECOND).await;
    assert_eq!((bench.pool.idle_count(), bench.world.dials()), (1, 4));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_died_idle_is_never_handed_out() {
    let bench = Bench::of_size(3);
    bench.take_all(3).await.into_iter().for_each(|server| server.release(()));
    (0..3).for_each(|number| bench.world.kill(number));
    assert_eq!(bench.take().await.vitals.number, 3);
    settle().await;
    assert_eq!(bench.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_died_in_the_hand_over_is_replaced() {
    let bench = Bench::of_size(1);
    let held = bench.take().await;
    let waiter = bench.ask();
    settle().await;
    held.release(());
    bench.world.kill(0);
    assert_eq!(waiter.served().await.vitals.number, 1);
}

#[tokio::test(start_paused = true)]
async fn dead_servers_are_found_within_a_round() {
    let bench = Bench::of_size(2);
    bench.take().await.release(());
    bench.world.kill(0);
    pass(SECOND * 11 / 10).await;
    assert_eq!(bench.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn nothing_outdated_is_handed_out() {
    type Change = fn(&Bench);
    let changes: [Change; 3] = [
        |bench| bench.pool.reconnect(),
        |bench| bench.change(|settings| settings.hosts = Hosts::one(Host::Tcp("standby".to_owned()))),
        |bench| bench.change(|settings| settings.user = "carol".to_owned()),
    ];
    for change in changes {
        let bench = Bench::of_size(2);
        let mut held = bench.take_all(2).await;
        held.remove(0).release(());
        change(&bench);
        assert!(bench.pool.try_checkout().is_none()); // the keeper has not run yet
        let (first, second) = (bench.ask(), bench.ask());
        held.remove(0).release(());
        let (first, second) = (first.served().await, second.served().await);
        assert!(first.vitals.number >= 2 && second.vitals.number >= 2);
        settle().await;
        assert!(bench.world.is_gone(0) && bench.world.is_gone(1));
    }
}
