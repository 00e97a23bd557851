//! What a storm of clients has needed is given back when it is over.

use super::workers::Workers;
use crate::net::reduce_stock;
use crate::session::Service;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// How often it is looked for what nobody needs.
const PERIOD: Duration = Duration::from_secs(1);

/// Has every thread tidy up now and then.
pub(super) fn keep_tidy(service: &Arc<Service>, workers: &Workers) {
    for handle in workers.0.iter() {
        handle.spawn(async {
            loop {
                sleep(PERIOD).await;
                reduce_stock();
            }
        });
    }
    let service = Arc::clone(service);
    tokio::spawn(async move {
        loop {
            sleep(PERIOD).await;
            service.shared.sweep(usize::try_from(service.clients.count()).unwrap_or(usize::MAX / 4));
        }
    });
}
