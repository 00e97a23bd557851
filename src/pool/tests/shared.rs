//! Limits that reach over several pools.

use super::*;

/// Two pools of one database that may have so many servers, with the given minimum for the first.
fn two(limit: u32, min_size: u32) -> (Bench, Bench, Arc<Quota>, Shared) {
    let (database, shared) = (Arc::new(Quota::new(Some(limit))), shared());
    let one = PoolSettings { min_size, ..settings() };
    let other = PoolSettings { user: "bob".to_owned(), ..settings() };
    let bench = |settings: PoolSettings| {
        let quotas = quotas(&settings, &database);
        Bench::start(settings, quotas, World::new(), shared.clone())
    };
    (bench(one), bench(other), Arc::clone(&database), shared)
}

#[tokio::test(start_paused = true)]
async fn an_idle_server_makes_room_for_who_waits_elsewhere() {
    let (one, other, database, shared) = two(1, 0);
    one.take().await.release(());
    let crowded = count_notifications(&shared.crowded);
    let waiter = other.ask();
    pass(SECOND / 2).await;
    assert!(!waiter.is_done());
    assert!(crowded.load(Ordering::SeqCst) > 0, "the registry is told");
    *one.world.close_takes.lock().unwrap() = SECOND;
    assert!(one.pool.evict_one(crate::pool::Full::Database));
    pass(SECOND * 9 / 10).await;
    assert_eq!((other.world.dials(), database.used()), (0, 1), "the seat is free when the server is gone");
    pass(SECOND / 5).await;
    waiter.served().await;
    assert!(
        !one.pool.evict_one(crate::pool::Full::Database)
            && !other.pool.evict_one(crate::pool::Full::Database)
    );
}

#[tokio::test(start_paused = true)]
async fn a_server_that_falls_idle_is_offered_to_the_pools_that_share_its_limit() {
    for handed_to_a_leaver in [false, true] {
        let (one, other, _database, shared) = two(1, 0);
        let held = one.take().await;
        let leaver = handed_to_a_leaver.then(|| one.ask());
        let waiter = other.ask();
        settle().await;
        let crowded = count_notifications(&shared.crowded);
        settle().await;
        let before = crowded.load(Ordering::SeqCst);
        held.release(());
        leaver.into_iter().for_each(Client::leave); // with the server in hand
        settle().await;
        assert!(crowded.load(Ordering::SeqCst) > before);
        assert!(one.pool.evict_one(crate::pool::Full::Database));
        waiter.served().await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_behind_a_shared_limit_burns_no_time() {
    for by_user in [false, true] {
        let narrow = Arc::new(Quota::new(Some(1)));
        let mut limits = quotas(&settings(), &Arc::new(Quota::new(None)));
        *(if by_user { &mut limits.user } else { &mut limits.database }) = Arc::clone(&narrow);
        let (other, shared) = (limits.take().unwrap(), shared());
        let bench = Bench::start(settings(), limits, World::new(), shared.clone());
        let crowded = count_notifications(&shared.crowded);
        let waiter = bench.ask();
        settle().await;
        let rounds = crowded.load(Ordering::SeqCst);
        assert!((1..=2).contains(&rounds), "the keeper ran {rounds} times without anything having changed");
        drop(other);
        waiter.served().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_longest_idle_is_evicted_first_and_none_that_is_spoken_for() {
    let bench = Bench::of_size(3);
    for server in bench.take_all(3).await {
        server.release(());
        pass(SECOND).await;
    }
    assert!(bench.pool.evict_one(crate::pool::Full::Database));
    settle().await;
    assert!(bench.world.is_gone(0) && !bench.world.is_gone(1) && !bench.world.is_gone(2));

    let bench = Bench::of_size(1);
    let held = bench.take().await;
    let waiter = bench.ask();
    settle().await;
    held.release(());
    assert!(!bench.pool.evict_one(crate::pool::Full::Database), "a waiter was handed it");
    waiter.served().await;
}

#[tokio::test(start_paused = true)]
async fn a_minimum_does_not_take_the_place_that_was_made_for_a_waiter() {
    let (one, other, database, _shared) = two(1, 1);
    let _client = one.pool.clients.enter();
    one.take().await.release(());
    let waiter = other.ask();
    pass(SECOND).await;
    assert!(one.pool.evict_one(crate::pool::Full::Database));
    waiter.served().await.release(());
    pass(5 * SECOND).await;
    assert_eq!((one.world.dials(), other.world.dials(), database.used()), (1, 1, 1));
    assert!(other.pool.evict_one(crate::pool::Full::Database));
    pass(2 * SECOND).await;
    assert_eq!(one.pool.idle_count(), 1, "with nobody waiting the minimum is kept again");
}

#[tokio::test(start_paused = true)]
async fn a_lowered_shared_limit_is_reached_and_not_undercut() {
    let (one, other, database, _shared) = two(4, 0);
    for bench in [&one, &other] {
        *bench.world.close_takes.lock().unwrap() = SECOND;
        bench.take_all(2).await.into_iter().for_each(|server| server.release(()));
    }
    database.set_limit(Some(3));
    pass(5 * SECOND).await;
    assert_eq!(database.used(), 3);
}
