//! What a storm of clients has needed is given back when it is over.

use super::workers::Workers;
use crate::admin::AdminConsole;
use crate::net::reduce_stock;
use crate::pool::Forgotten;
use crate::session::{Order, Service};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// How often it is looked for what nobody needs.
const PERIOD: Duration = Duration::from_secs(1);

/// Has every thread tidy up now and then.
pub(super) fn keep_tidy(service: &Arc<Service>, console: &Arc<AdminConsole>, workers: &Workers) {
    for handle in workers.0.iter() {
        handle.spawn(async {
            loop {
                sleep(PERIOD).await;
                reduce_stock();
            }
        });
    }
    let (service, console) = (Arc::clone(service), Arc::clone(console));
    tokio::spawn(async move {
        let mut losses = 0;
        loop {
            sleep(PERIOD).await;
            reconsider(&service, &mut losses);
            service.shared.sweep(usize::try_from(service.clients.count()).unwrap_or(usize::MAX / 4));
            for Forgotten { pool, with_database } in service.pools.forget_unused(&service.config.load()) {
                console.retire(&pool.id.database, pool.traffic.snapshot());
                if with_database {
                    console.forget(&pool.id.database);
                }
            }
        }
    });
}

/// Has sessions look at their servers when a host has lost an address (`server_fast_close`).
fn reconsider(service: &Service, losses: &mut u64) {
    let now = service.pools.whereabouts().resolver().losses();
    if std::mem::replace(losses, now) != now && service.config.load().pool.care.fast_close {
        service.clients.list().iter().for_each(|client| client.order(Order::Reconsider));
    }
}
