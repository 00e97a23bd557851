//! Pools that are held back, reserves, and servers that are checked before they are used.

use super::*;
use crate::config::{Check, Reserve};

fn with_reserve(size: u32, reserve: u32, timeout: Option<Duration>) -> Bench {
    let reserve = Reserve { size: reserve, timeout };
    Bench::new(PoolSettings { size: Some(size), reserve, ..settings() })
}

fn checked(delay: Duration) -> Bench {
    let care = Care { check: Some(Check { delay, query: String::new() }), ..Care::default() };
    Bench::new(PoolSettings { care, ..settings() })
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_is_held_back_gives_out_nothing_and_keeps_nothing() {
    let bench = Bench::new(PoolSettings { min_size: 1, user_is_forced: true, ..settings() });
    let (held, idle) = (bench.take().await, bench.take().await);
    idle.release(());
    let waiter = bench.ask();
    settle().await;
    let second = waiter.served().await;
    bench.pool.hold_back(true);
    let waiter = bench.ask();
    settle().await;
    assert_eq!(bench.used(), 2);
    second.release(());
    settle().await;
    assert!(!waiter.is_done() && bench.used() == 1);
    drop(held);
    pass(30 * SECOND).await;
    assert_eq!((bench.used(), bench.world.live()), (0, 0));
    assert!(!waiter.is_done());
    let dials = bench.world.dials();
    bench.pool.hold_back(false);
    let server = waiter.served().await;
    assert!(bench.world.dials() > dials && server.vitals.number >= 2);
    assert_eq!(bench.pool.traffic.snapshot().connect_failures, 0);
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_is_made_during_a_pause_dials_nothing_before_its_end() {
    let settings = PoolSettings { min_size: 1, user_is_forced: true, ..settings() };
    let (quotas, world) = (quotas(&settings, &Arc::new(Quota::new(None))), World::new());
    let id = PoolId { database: settings.dbname.clone(), user: settings.user.clone() };
    let pool = Pool::start(id, settings, Arc::clone(&world), quotas, shared(), true);
    pass(5 * SECOND).await;
    assert_eq!(world.dials(), 0);
    pool.hold_back(false);
    settle().await;
    assert_eq!(world.dials(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_dial_that_ends_while_the_pool_is_held_back_is_closed() {
    for resumed in [false, true] {
        let bench = Bench::of_size(2);
        bench.world.always(Plan::Asked);
        let waiter = bench.ask();
        settle().await;
        bench.pool.hold_back(true);
        bench.pool.hold_back(!resumed);
        assert!(bench.world.answer(Fate::Success));
        settle().await;
        assert_eq!(bench.world.live(), 0, "it is one of before");
        assert!(!waiter.is_done());
        bench.pool.hold_back(false);
        settle().await;
        assert!(bench.world.answer(Fate::Success));
        waiter.served().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_failed_before_a_pause_is_forgotten_with_it() {
    let bench = Bench::of_size(1);
    bench.world.plan(Plan::After(Duration::ZERO, Fate::Permanent));
    assert!(matches!(bench.ask().refused().await, Refusal::LoginFailed(_)));
    bench.pool.hold_back(true);
    let waiter = bench.ask();
    settle().await;
    assert!(!waiter.is_done(), "it waits for the end of the pause");
    bench.pool.hold_back(false);
    waiter.served().await;
}

#[tokio::test(start_paused = true)]
async fn the_wait_is_limited_while_the_pool_is_held_back() {
    let bench = Bench::of_size(1);
    bench.pool.hold_back(true);
    let waiter = bench.ask();
    pass(121 * SECOND).await;
    assert!(matches!(waiter.refused().await, Refusal::TimedOut));
}

#[tokio::test(start_paused = true)]
async fn who_is_sent_away_leaves_and_newcomers_stay() {
    let bench = Bench::of_size(1);
    bench.pool.hold_back(true);
    let waiter = bench.ask();
    settle().await;
    bench.pool.send_all_away(Refusal::Killed);
    let newcomer = bench.ask();
    assert!(matches!(waiter.refused().await, Refusal::Killed));
    assert!(!newcomer.is_done());
}

#[tokio::test(start_paused = true)]
async fn the_reserve_opens_when_the_oldest_has_waited() {
    let bench = with_reserve(1, 2, Some(3 * SECOND));
    let held = bench.take().await;
    let first = bench.ask();
    pass(SECOND).await;
    let (second, third) = (bench.ask(), bench.ask());
    pass(SECOND * 19 / 10).await;
    assert_eq!((bench.used(), first.is_done()), (1, false));
    pass(SECOND / 5).await;
    let first = first.served().await;
    assert_eq!((bench.used(), second.is_done()), (2, false), "one at a time, for who has waited");
    pass(SECOND).await;
    let second = second.served().await;
    pass(10 * SECOND).await;
    assert_eq!((bench.used(), third.is_done()), (3, false), "that was the reserve");
    first.release(());
    third.served().await.release(());
    assert_eq!(bench.pool.idle_count(), 1, "it is not over a limit");
    drop((held, second));
}

#[tokio::test(start_paused = true)]
async fn without_a_timeout_there_is_no_reserve() {
    let bench = with_reserve(1, 2, None);
    let _held = bench.take().await;
    let waiter = bench.ask();
    pass(60 * SECOND).await;
    assert!(!waiter.is_done() && bench.used() == 1);
}

#[tokio::test(start_paused = true)]
async fn a_smaller_reserve_closes_what_is_too_much_and_no_more() {
    let bench = with_reserve(2, 2, Some(SECOND));
    let mut held = bench.take_all(2).await;
    let waiters = [bench.ask(), bench.ask()];
    pass(3 * SECOND).await;
    for waiter in waiters {
        held.push(waiter.served().await);
    }
    bench.change(|settings| settings.reserve.size = 1);
    settle().await;
    held.into_iter().for_each(|server| server.release(()));
    settle().await;
    assert_eq!((bench.used(), bench.pool.idle_count()), (3, 3));
    bench.change(|settings| settings.size = Some(0));
    settle().await;
    assert_eq!((bench.used(), bench.pool.idle_count()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_was_idle_for_long_is_checked_when_it_is_wanted() {
    let bench = checked(5 * SECOND);
    bench.take().await.release(());
    pass(4 * SECOND).await;
    bench.take().await.release(());
    assert_eq!(bench.world.checks.load(Ordering::SeqCst), 0);
    pass(7 * SECOND).await;
    assert_eq!((bench.pool.idle_count(), bench.pool.stale_count(), bench.used()), (0, 1, 1));
    assert_eq!(bench.world.checks.load(Ordering::SeqCst), 0, "nobody wants it");
    assert_eq!(bench.take().await.vitals.number, 0);
    assert_eq!((bench.world.checks.load(Ordering::SeqCst), bench.world.dials()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn one_that_does_not_answer_is_replaced() {
    for dies in [false, true] {
        let bench = checked(SECOND);
        bench.take().await.release(());
        pass(3 * SECOND).await;
        if dies {
            bench.world.kill(0);
            settle().await;
        }
        bench.world.vitals.lock().unwrap()[0].answers.store(false, Ordering::SeqCst);
        assert_eq!(bench.take().await.vitals.number, 1);
        assert!(bench.world.is_gone(0));
        assert_eq!(bench.pool.traffic.snapshot().connect_failures, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_pool_whose_servers_are_to_be_checked_is_not_bare() {
    let bench = checked(SECOND);
    bench.take_all(2).await.into_iter().for_each(|server| server.release(()));
    pass(3 * SECOND).await;
    *bench.world.check_takes.lock().unwrap() = SECOND;
    bench.world.always(Plan::After(Duration::ZERO, Fate::Permanent));
    let clients = [bench.ask(), bench.ask(), bench.ask()];
    pass(2 * SECOND).await;
    let [first, second, third] = clients;
    let first = first.served().await;
    drop(second.served().await);
    settle().await;
    assert!(!third.is_done(), "there is a server left");
    first.release(());
    third.served().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_to_be_checked_ages_and_makes_room_like_any_other() {
    let bench = checked(SECOND);
    bench.take_all(2).await.into_iter().for_each(|server| server.release(()));
    pass(3 * SECOND).await;
    assert!(bench.pool.evict_one(crate::pool::Full::Database) && bench.pool.stale_count() == 1);
    pass(598 * SECOND).await;
    assert_eq!(bench.used(), 0, "it was idle for too long");
    bench.take().await.release(());
    pass(3 * SECOND).await;
    bench.pool.hold_back(true);
    settle().await;
    assert_eq!((bench.used(), bench.pool.stale_count()), (0, 0));
}

/// Six servers that a proxy has forgotten: what is sent to them is swallowed, and a check ends by its time limit only.
async fn silent(size: u32) -> Bench {
    let care = Care { check: Some(Check { delay: SECOND, query: String::new() }), ..Care::default() };
    let bench = Bench::new(PoolSettings { size: Some(size), care, ..settings() });
    bench.take_all(6).await.into_iter().for_each(|server| server.release(()));
    pass(3 * SECOND).await;
    assert_eq!(bench.pool.stale_count(), 6);
    *bench.world.check_takes.lock().unwrap() = 5 * SECOND;
    let vitals = bench.world.vitals.lock().unwrap().clone();
    vitals.iter().for_each(|one| one.answers.store(false, Ordering::SeqCst));
    bench
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_answer_keeps_nobody_from_a_new_one() {
    let bench = silent(8).await;
    let client = bench.ask();
    pass(SECOND).await;
    assert_eq!(client.served().await.vitals.number, 6);
    assert_eq!(bench.world.dials(), 7, "one for the one who waited");
    pass(5 * SECOND).await;
    assert_eq!((bench.pool.stale_count(), bench.used()), (0, 0), "the others are as old");
}

#[tokio::test(start_paused = true)]
async fn servers_that_do_not_answer_are_waited_for_once_and_not_one_after_the_other() {
    let bench = silent(6).await;
    let client = bench.ask();
    pass(6 * SECOND).await;
    assert!(client.served().await.vitals.number >= 6);
}

#[tokio::test(start_paused = true)]
async fn a_slow_check_serves_who_waits_where_no_login_would() {
    let bench = checked(SECOND);
    bench.take().await.release(());
    pass(3 * SECOND).await;
    *bench.world.check_takes.lock().unwrap() = SECOND;
    bench.world.always(Plan::Never);
    let client = bench.ask();
    pass(2 * SECOND).await;
    assert_eq!(client.served().await.vitals.number, 0);
    settle().await;
    bench.check(0);
}

#[tokio::test(start_paused = true)]
async fn with_no_delay_each_use_is_preceded_by_a_check() {
    let bench = checked(Duration::ZERO);
    for turn in 0..5 {
        bench.take().await.release(());
        assert_eq!(bench.world.checks.load(Ordering::SeqCst), turn);
        assert_eq!(bench.pool.idle_count(), 0);
    }
    assert_eq!(bench.world.dials(), 1);
}
