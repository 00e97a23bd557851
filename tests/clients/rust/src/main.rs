//! Rust drivers with their default settings. The argument says which; the address and the password come from the
//! environment.

mod cases;
mod deadpool_driver;
mod diesel_driver;
mod sqlx_driver;
mod tokio_postgres_driver;

/// Diesel blocks: there are more threads than clients that do so at a time.
#[tokio::main(worker_threads = 16)]
async fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("tokio-postgres") => tokio_postgres_driver::run().await,
        Some("deadpool-postgres") => deadpool_driver::run().await,
        Some("sqlx") => sqlx_driver::run().await,
        Some("diesel") => diesel_driver::run().await,
        other => panic!("no driver {other:?}"),
    }
    // A task that hangs must not keep the program.
    std::process::exit(0);
}
