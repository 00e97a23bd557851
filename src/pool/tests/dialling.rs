//! When a server is dialled, and how often.

use super::*;

#[tokio::test(start_paused = true)]
async fn few_are_dialled_at_a_time() {
    let bench = Bench::of_size(50);
    bench.world.always(Plan::Asked);
    let clients: Vec<_> = (0..50).map(|_| bench.ask()).collect();
    settle().await;
    for finished in 0..47 {
        assert_eq!(bench.world.dials(), finished + 4);
        bench.world.answer(Fate::Success);
        settle().await;
    }
    while bench.world.answer(Fate::Success) {}
    settle().await;
    assert!(clients.iter().all(Client::is_done));
    assert_eq!(bench.world.dials(), 50);
}

#[tokio::test(start_paused = true)]
async fn a_dial_outlives_who_asked_for_it() {
    let bench = Bench::of_size(2);
    bench.world.plan(Plan::After(10 * SECOND, Fate::Success));
    let client = bench.ask();
    pass(SECOND).await;
    client.leave();
    pass(9 * SECOND).await;
    bench.check(0);
    assert_eq!((bench.pool.idle_count(), bench.world.dials()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn no_server_is_dialled_for_who_is_about_to_get_one() {
    let bench = Bench::of_size(3);
    let held = bench.take().await;
    let pool = Arc::clone(&bench.pool);
    let mut waiting = Box::pin(async move { pool.checkout().await });
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(waiting.as_mut().poll(&mut context).is_pending());
    held.release(());
    settle().await; // the keeper runs; the client has not yet
    assert_eq!(bench.world.dials(), 1);
    waiting.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn one_probe_at_a_time_is_sent_to_a_server_that_fails() {
    let bench = Bench::of_size(50);
    bench.world.always(Plan::Asked);
    let _clients: Vec<_> = (0..50).map(|_| bench.ask()).collect();
    settle().await;
    while bench.world.answer(Fate::Transient) {}
    settle().await;
    assert_eq!(bench.world.dials(), 4);
    pass(SECOND * 4 / 10).await;
    assert_eq!(bench.world.dials(), 4, "the pause is at least 450 ms");
    pass(SECOND * 2 / 10).await;
    assert_eq!(bench.world.dials(), 5, "four dials that failed together count once");
    pass(20 * SECOND).await;
    assert_eq!(bench.world.dials(), 5);
    bench.world.answer(Fate::Success);
    settle().await;
    assert_eq!(bench.world.dials(), 9);
}

#[tokio::test(start_paused = true)]
async fn the_rate_of_dials_does_not_depend_on_the_clients() {
    for clients in [1, 100] {
        let bench = Bench::of_size(50);
        bench.world.always(Plan::After(Duration::ZERO, Fate::Transient));
        let _clients: Vec<_> = (0..clients).map(|_| bench.ask()).collect();
        pass(100 * SECOND).await;
        // 0, 0.5, 1.5, 3.5, 7.5, 15.5 and then every 15 seconds, each pause up to a tenth shorter.
        let dials = bench.world.dials() - (clients - 1).min(3);
        assert!((11..=14).contains(&dials), "{dials} dials in 100 seconds");
    }
}

#[tokio::test(start_paused = true)]
async fn a_recovered_server_is_used_within_one_retry() {
    let bench = Bench::of_size(2);
    bench.world.always(Plan::After(Duration::ZERO, Fate::Transient));
    let client = bench.ask();
    pass(60 * SECOND).await;
    bench.world.always(AT_ONCE);
    pass(15 * SECOND).await;
    client.served().await;
    assert!(bench.pool.health().retry_at().is_none());
}

#[tokio::test(start_paused = true)]
async fn the_minimum_is_kept_while_there_is_a_client() {
    let bench = Bench::new(PoolSettings { size: Some(5), min_size: 3, ..settings() });
    pass(5 * SECOND).await;
    assert_eq!(bench.world.dials(), 0, "without a client there is nobody whose login could be used");
    let client = bench.pool.clients.enter();
    bench.take().await.release(());
    pass(5 * SECOND).await;
    assert_eq!(bench.pool.idle_count(), 3);
    bench.world.kill(1);
    pass(3 * SECOND).await;
    assert!(bench.world.is_gone(1));
    assert_eq!((bench.pool.idle_count(), bench.world.dials()), (3, 4));
    drop(client);
    pass(700 * SECOND).await;
    assert_eq!(bench.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_minimum_of_a_forced_user_needs_no_client_and_respects_the_size() {
    let bench = Bench::new(PoolSettings { min_size: 9, user_is_forced: true, ..settings() });
    pass(5 * SECOND).await;
    assert_eq!((bench.pool.idle_count(), bench.world.dials()), (2, 2));
    pass(1000 * SECOND).await;
    assert_eq!(bench.world.dials(), 2, "the minimum is not closed for being idle");
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_dial_leaks_nothing() {
    let bench = Bench::of_size(1);
    bench.world.always(Plan::Asked);
    let client = bench.ask();
    settle().await;
    bench.world.always(AT_ONCE);
    bench.world.asked.lock().unwrap().clear(); // its unwrap fails
    client.served().await;
    bench.check(1);
}

#[tokio::test(start_paused = true)]
async fn a_dial_to_a_former_endpoint_counts_for_nothing() {
    for fate in [Fate::Success, Fate::Permanent] {
        let bench = Bench::of_size(1);
        bench.world.plan(Plan::Asked);
        let (first, second) = (bench.ask(), bench.ask());
        settle().await;
        bench.change(|settings| settings.port = 5433);
        bench.world.answer(fate);
        let server = first.served().await;
        assert!(!second.is_done(), "who was first stays first");
        assert_eq!(bench.pool.greeting().unwrap()["number"], server.vitals.number.to_string());
        assert_eq!(bench.pool.traffic.snapshot().connect_failures, 0);
        bench.check(1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_is_dropped_takes_its_keeper_along() {
    let before = Handle::current().metrics().num_alive_tasks();
    let bench = Bench::of_size(2);
    bench.take().await.release(());
    let world = Arc::clone(&bench.world);
    drop((bench, Bench::of_size(2)));
    settle().await;
    assert_eq!(world.live(), 0);
    let never_used = Bench::of_size(2);
    settle().await; // its keeper sleeps by now, and not for a time
    drop(never_used);
    settle().await;
    assert_eq!(Handle::current().metrics().num_alive_tasks(), before);
}

#[tokio::test(start_paused = true)]
async fn many_pools_of_a_host_dial_few_at_a_time() {
    let shared = shared();
    let bench = |number: usize| {
        let settings = PoolSettings { user: format!("user{number}"), size: Some(4), ..settings() };
        let quotas = quotas(&settings, &Arc::new(Quota::new(None)));
        let bench = Bench::start(settings, quotas, World::new(), shared.clone());
        bench.world.always(Plan::Asked);
        bench
    };
    let benches: Vec<_> = (0..10).map(bench).collect();
    let clients: Vec<_> = benches.iter().flat_map(|bench| (0..4).map(|_| bench.ask())).collect();
    let under_way =
        || benches.iter().map(|bench| bench.world.under_way.load(Ordering::SeqCst)).sum::<usize>();
    let most = usize::try_from(super::super::lanes::LANES).unwrap();
    settle().await;
    assert_eq!(under_way(), most);
    while benches.iter().any(|bench| bench.world.answer(Fate::Success)) {
        settle().await;
        assert!(under_way() <= most);
    }
    for client in clients {
        client.served().await;
    }
}
