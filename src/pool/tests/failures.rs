//! Failures enumerated: every pair of dials, each with a client that stays or leaves before or after them, with a
//! server returned meanwhile or not.

use super::*;

const DIALS: [Plan; 6] = [
    AT_ONCE,
    Plan::After(Duration::ZERO, Fate::Transient),
    Plan::After(Duration::ZERO, Fate::Permanent),
    Plan::After(Duration::ZERO, Fate::Busy),
    Plan::After(Duration::from_secs(7), Fate::Success),
    Plan::Never,
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaves {
    Stays,
    Before,
    After,
}

#[derive(Debug, Clone, Copy)]
struct Scenario {
    dials: [Plan; 2],
    leaves: Leaves,
    returned: bool,
}

#[tokio::test(start_paused = true)]
async fn every_waiter_ends_and_no_seat_leaks() {
    for first in DIALS {
        for second in DIALS {
            for leaves in [Leaves::Stays, Leaves::Before, Leaves::After] {
                for returned in [false, true] {
                    let scenario = Scenario { dials: [first, second], leaves, returned };
                    // The name of the scenario that fails is above the panic.
                    println!("{scenario:?}");
                    play(scenario).await;
                }
            }
        }
    }
}

async fn play(scenario: Scenario) {
    let Scenario { dials, leaves, returned } = scenario;
    let bench = Bench::new(PoolSettings {
        size: Some(3),
        query_wait_timeout: Some(30 * SECOND),
        server_idle_timeout: Some(10 * SECOND),
        ..settings()
    });
    let held = if returned { Some(bench.take().await) } else { None };
    dials.into_iter().for_each(|plan| bench.world.plan(plan));
    let leaver = bench.ask();
    let stays = [bench.ask(), bench.ask()];
    let mut leaver = Some(leaver);
    if leaves == Leaves::Before {
        tokio::task::yield_now().await; // it is in line, and its dial has not ended
        leaver.take().into_iter().for_each(Client::leave);
    }
    settle().await;
    bench.check(held.iter().len() + holders(&stays, leaver.as_ref()));
    if leaves == Leaves::After {
        leaver.take().into_iter().for_each(Client::leave);
        settle().await;
    }
    if let Some(held) = held {
        held.release(());
        settle().await;
        assert!(stays.iter().chain(&leaver).any(Client::is_done), "nobody got the returned server");
    }
    bench.check(holders(&stays, leaver.as_ref()));
    pass(10 * SECOND).await;
    bench.check(holders(&stays, leaver.as_ref()));
    end(bench, stays.into_iter().chain(leaver)).await;
}

/// Clients that have a server by now.
fn holders(stays: &[Client], leaver: Option<&Client>) -> usize {
    stays.iter().chain(leaver).filter(|client| client.has_server()).count()
}

async fn end(bench: Bench, clients: impl Iterator<Item = Client>) {
    pass(30 * SECOND).await;
    for client in clients {
        match client.result().await {
            Ok(server) => server.release(()),
            Err(Refusal::LoginFailed(_) | Refusal::LoginFailing(_) | Refusal::TimedOut) => {}
            Err(Refusal::Closed | Refusal::Killed | Refusal::ShuttingDown) => panic!("no pool was closed"),
        }
    }
    bench.check(0);
    assert_eq!(bench.waiting(), 0);
    pass(15 * SECOND).await;
    bench.check(0);
    assert_eq!(bench.used(), bench.world.under_way.load(Ordering::SeqCst), "servers were forgotten");
}
