//! Live servers never exceed the limit, and no path forgets a seat.

use super::*;

#[tokio::test(start_paused = true)]
async fn there_are_never_more_servers_than_the_size() {
    let bench = Bench::of_size(3);
    for (number, client) in (0..30).map(|_| bench.ask()).collect::<Vec<_>>().into_iter().enumerate() {
        settle().await;
        match number % 3 {
            0 => client.leave(), // with a server in hand
            1 => drop(client.served().await),
            _ => client.served().await.release(()),
        }
    }
    pass(SECOND).await;
    assert_eq!((bench.used(), bench.world.peak.load(Ordering::SeqCst)), (bench.pool.idle_count(), 3));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_checkout_closes_and_its_seat_is_free_when_that_is_done() {
    let bench = Bench::of_size(1);
    *bench.world.close_takes.lock().unwrap() = SECOND;
    drop(bench.take().await);
    let client = bench.ask();
    pass(SECOND * 9 / 10).await;
    assert_eq!((bench.used(), bench.world.live(), bench.world.dials()), (1, 1, 1));
    assert!(!client.is_done());
    bench.check(0);
    pass(SECOND / 5).await;
    assert!(bench.world.is_gone(0));
    assert_eq!(client.served().await.vitals.number, 1);
    assert_eq!(bench.world.peak.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_panics_gives_its_seat_back() {
    let bench = Bench::of_size(1);
    let pool = Arc::clone(&bench.pool);
    let holder = tokio::spawn(async move {
        let _held = pool.checkout().await.unwrap();
        panic!("as clients do");
    });
    assert!(holder.await.unwrap_err().is_panic());
    assert_eq!(bench.take().await.vitals.number, 1, "what a panic left behind is not used again");
    settle().await;
    assert_eq!(bench.used(), 0);
}

#[test]
fn a_checkout_that_outlives_its_runtime_gives_its_seat_back() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let (bench, held) = runtime.block_on(async {
        let bench = Bench::of_size(1);
        let held = bench.pool.checkout().await.unwrap();
        (bench, held)
    });
    drop(runtime);
    drop(held);
    assert_eq!((bench.used(), bench.world.live()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_smaller_size_closes_no_more_than_it_must() {
    let bench = Bench::of_size(4);
    *bench.world.close_takes.lock().unwrap() = SECOND;
    for server in bench.take_all(4).await {
        server.release(());
    }
    bench.change(|settings| settings.size = Some(3));
    pass(3 * SECOND).await;
    assert_eq!((bench.pool.idle_count(), bench.used()), (3, 3));
}

#[tokio::test(start_paused = true)]
async fn a_smaller_size_is_reached_as_servers_are_released() {
    let bench = Bench::of_size(4);
    *bench.world.close_takes.lock().unwrap() = SECOND;
    let held = bench.take_all(4).await;
    bench.change(|settings| settings.size = Some(2));
    let waiter = bench.ask();
    pass(3 * SECOND).await;
    assert_eq!(bench.used(), 4, "what is in use stays");
    for (server, (used, served)) in held.into_iter().zip([(3, false), (2, false), (2, true), (2, true)]) {
        server.release(());
        pass(2 * SECOND).await;
        assert_eq!((bench.used(), waiter.is_done()), (used, served));
    }
    assert_eq!(bench.world.dials(), 4);
}

#[tokio::test(start_paused = true)]
async fn servers_that_are_being_closed_already_count_towards_a_smaller_size() {
    let bench = Bench::of_size(4);
    *bench.world.close_takes.lock().unwrap() = SECOND;
    let held = bench.take_all(4).await;
    bench.change(|settings| settings.size = Some(3));
    held.into_iter().for_each(|server| server.release(()));
    pass(2 * SECOND).await;
    assert_eq!((bench.pool.idle_count(), bench.used()), (3, 3));
}

#[tokio::test(start_paused = true)]
async fn a_larger_size_serves_who_waits() {
    let bench = Bench::of_size(1);
    let _held = bench.take().await;
    let waiter = bench.ask();
    settle().await;
    bench.change(|settings| settings.size = None);
    let _served = waiter.served().await;
    assert_eq!(bench.used(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_reload_that_changes_nothing_changes_nothing() {
    let bench = Bench::of_size(2);
    let held = bench.take_all(2).await;
    let waiter = bench.ask();
    settle().await;
    for _ in 0..5 {
        bench.change(|_| {});
        settle().await;
    }
    held.into_iter().for_each(|server| server.release(()));
    waiter.served().await.release(());
    pass(2 * SECOND).await;
    assert_eq!((bench.pool.idle_count(), bench.world.dials()), (2, 2));
}
