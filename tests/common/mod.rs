//! The harness of the integration tests: a throwaway PostgreSQL, the pooler under test, and clients and servers
//! that speak the protocol byte by byte.
//!
//! It shares no code with the pooler, so that a mistake there cannot hide itself here.
#![allow(dead_code, unreachable_pub, unused_imports, reason = "each test program uses its own part of it")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a harness that cannot go on fails the test")]

pub mod config;
pub mod fake;
pub mod frontend;
mod installation;
pub mod look;
pub mod pooler;
pub mod postgres;
pub mod program;
pub mod raw;
pub mod rival;
mod watchdog;

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

pub use config::PgweirBuilder;
pub use fake::{FakeConnection, FakeServer, Opening};
pub use pooler::Pgweir;
pub use postgres::{Postgres, PostgresBuilder};
pub use raw::{Message, Raw, patiently};
pub use rival::Rival;

/// How long anything may take before a test gives up. Only a broken build ever waits for so long.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `ready` says so; panics when it does not within [`PATIENCE`].
pub async fn until(what: &str, mut ready: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !ready() {
        assert!(tokio::time::Instant::now() < deadline, "no {what} within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// [`until`] for code that runs outside of a runtime.
fn block_until(what: &str, mut ready: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !ready() {
        assert!(tokio::time::Instant::now() < deadline, "no {what} within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A TCP port that nobody listens on, outside of the range that the kernel gives to outgoing connections: one
/// from there could be taken between the look and the use.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 22_000;
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + std::process::id().wrapping_mul(101).wrapping_add(step) % COUNT;
        let port = u16::try_from(port).unwrap();
        if TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() {
            return port;
        }
    }
}

/// The folder of what is made once and kept: `.cache`, or what `PGWEIR_CACHE` names.
fn cache() -> PathBuf {
    std::env::var_os("PGWEIR_CACHE")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache"), PathBuf::from)
}

/// The PgBouncer that `scripts/pgbouncer.sh sid` has fetched, if it has.
pub fn pgbouncer() -> Option<String> {
    let program = cache().join("pgbouncer/sid/pgbouncer");
    program.exists().then(|| program.display().to_string())
}

/// A command that runs as the `postgres` user where the tests run as root: neither PostgreSQL nor pgweir nor PgBouncer
/// accepts to be root.
pub fn unprivileged(program: impl AsRef<std::ffi::OsStr>) -> std::process::Command {
    if !is_root() {
        return std::process::Command::new(program);
    }
    let mut command = std::process::Command::new("setpriv");
    command.args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups"]).arg(program);
    command
}

/// Gives `path` and all below it to the user of [`unprivileged`].
pub fn give_to_unprivileged(path: &Path) {
    if is_root() {
        run(std::process::Command::new("chown").args(["-R", "postgres:postgres"]).arg(path));
    }
}

pub fn is_root() -> bool {
    std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap()) == 0
}

/// Runs a command to its end; panics with its output when it fails.
pub fn run(command: &mut std::process::Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}{err}", output.status);
    out.into_owned()
}

/// Sends a signal by its name: `TERM`, `HUP`, `USR1` and so on.
pub fn kill(pid: u32, signal: &str) {
    run(std::process::Command::new("sh").arg("-c").arg(format!("kill -s {signal} {pid}")));
}
