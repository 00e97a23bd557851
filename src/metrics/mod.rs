//! The exporter: `GET /metrics` for Prometheus, `GET /healthz` for whoever asks whether the process is alive.
//!
//! `own` has pgweir's metrics, `compat` those that dashboards for PgBouncer know, `process` what the kernel counts. All
//! are read when a scrape comes. Labels are names of pools, databases and states, and a bounded number of names of
//! applications, so there are as many samples as the configuration allows pools.

mod applications;
mod compat;
mod family;
mod own;
mod process;
mod server;

pub use server::serve;

use crate::session::Overview;
use applications::Applications;
use family::Family;
use prometheus::TextEncoder;

/// The page of figures, in the text format 0.0.4. It reads files of `/proc`.
///
/// # Errors
///
/// When the encoder finds a family it cannot write, which would be a mistake in this module.
fn render(overview: &Overview, applications: &Applications) -> Result<String, prometheus::Error> {
    let families = own::families(overview)
        .into_iter()
        .chain(compat::families(overview, applications))
        .chain(process::families())
        .filter_map(Family::finish)
        .collect::<Vec<_>>();
    TextEncoder::new().encode_to_string(&families)
}

#[cfg(test)]
mod tests;
