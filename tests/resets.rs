//! Settings that a client asked for at its login and that the server never reports, when something resets them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod common;

use common::{Pgweir, PgweirBuilder, Postgres, Raw, frontend};

const OWN: [(&str, &str); 1] = [("options", "-c search_path=tenant -c work_mem=5MB -c timezone=Asia/Tokyo")];

fn pooler(mode: &str) -> PgweirBuilder {
    Pgweir::builder(Postgres::shared()).pool_mode(mode).pool_size(1)
}

async fn tenant(pooler: &Pgweir) -> Raw {
    pooler.raw_with("weir", &OWN).await
}

async fn has(raw: &mut Raw, search_path: &str, work_mem: &str, when: &str) {
    assert_eq!(raw.show(&["search_path", "work_mem"]).await, [search_path, work_mem], "{when}");
}

async fn is_a_tenants(raw: &mut Raw, when: &str) {
    has(raw, "tenant", "5MB", when).await;
}

async fn is_nobodys(raw: &mut Raw, when: &str) {
    has(raw, "\"$user\", public", "4MB", when).await;
}

/// Would break with: settings that are believed in force behind the reset query, or, where it resets nothing, ones that
/// the next client inherits.
#[tokio::test]
async fn a_reset_query_between_two_sessions() {
    for reset in ["DISCARD ALL", "RESET ALL", "SELECT 1", ""] {
        let pooler = pooler("session").setting("server_reset_query", reset).start();
        let mut servers = Vec::new();
        for turn in 0..3 {
            let mut one = tenant(&pooler).await;
            is_a_tenants(&mut one, &format!("{reset:?}, turn {turn}")).await;
            servers.push(one.server().await);
            one.terminate().await;
        }
        let mut plain = pooler.raw().await;
        is_nobodys(&mut plain, reset).await;
        servers.push(plain.server().await);
        servers.dedup();
        assert_eq!(servers.len(), 1, "{reset:?}: the server is kept");
    }
}

/// Would break with: a client that has lost its own startup values to its own reset, or another client that has.
#[tokio::test]
async fn a_reset_of_a_clients_own() {
    let pooler = pooler("transaction").start();
    let (mut one, mut two, mut plain) = (tenant(&pooler).await, tenant(&pooler).await, pooler.raw().await);
    let server = one.server().await;
    for reset in ["DISCARD ALL", "RESET search_path", "RESET ALL", "reset all; RESET work_mem"] {
        for extended in [false, true] {
            let when = format!("{reset}, extended: {extended}");
            if extended && reset.contains(';') {
                continue;
            }
            for who in ["itself", "another"] {
                is_a_tenants(&mut one, &when).await;
                let message = if extended { frontend::extended(reset, &[]) } else { frontend::query(reset) };
                one.write(&message).await;
                let answer = one.read_until_ready().await;
                assert!(answer.iter().all(|message| message.tag != b'E'), "{when}: {answer:?}");
                let next = if who == "itself" { &mut one } else { &mut two };
                is_a_tenants(next, &format!("{when}, {who}")).await;
            }
            one.query(reset).await;
            is_nobodys(&mut plain, &when).await;
            is_a_tenants(&mut two, &when).await;
        }
    }
    assert_eq!(one.server().await, server);
    // One that logs in is asked about on the server that was reset.
    let path = [("options", "-c search_path=tenant -c work_mem=5120kB")];
    two.query("RESET ALL").await;
    is_a_tenants(&mut pooler.raw_with("weir", &path).await, "new").await;
}

/// Would break with: settings that hold for the first transaction only.
#[tokio::test]
async fn a_reset_query_behind_each_transaction() {
    for reset in ["DISCARD ALL", "SELECT 1"] {
        let pooler = pooler("transaction")
            .setting("server_reset_query", reset)
            .setting("server_reset_query_always", 1)
            .start();
        let (mut one, mut two, mut plain) =
            (tenant(&pooler).await, tenant(&pooler).await, pooler.raw().await);
        let server = one.server().await;
        for turn in 0..3 {
            let when = format!("{reset}, turn {turn}");
            is_a_tenants(&mut one, &when).await;
            is_a_tenants(&mut one, &when).await;
            is_a_tenants(&mut two, &when).await;
            is_nobodys(&mut plain, &when).await;
            assert_eq!(one.show(&["TimeZone"]).await, ["Asia/Tokyo"], "{when}");
        }
        assert_eq!(one.server().await, server);
    }
}

/// Would break with: a check that is taken for one that changes nothing, whatever its query is.
#[tokio::test]
async fn a_check_query_that_resets() {
    let pooler = pooler("transaction")
        .setting("server_check_delay", 0)
        .setting("server_check_query", "DISCARD ALL")
        .start();
    let mut one = tenant(&pooler).await;
    for turn in 0..3 {
        is_a_tenants(&mut one, &format!("turn {turn}")).await;
    }
    is_nobodys(&mut pooler.raw().await, "plain").await;
}
