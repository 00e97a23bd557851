//! Runtime threads: single-threaded runtimes without work stealing. A session lives on one of them.

use crate::stats::{become_worker, expect_workers};
use std::io;
use std::sync::Arc;
use tokio::runtime::{Builder, Handle, Runtime};

/// Threads of each runtime for what would hold up traffic, such as PBKDF2.
const BLOCKING_THREADS: usize = 2;

/// How many SCRAM keys may be derived at once: half of the cores, since the others have traffic to relay. It also leaves
/// threads for what must not wait behind a storm of logins, such as name lookups.
pub(super) fn derivations() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2))
}

/// The runtimes; the first is that of the main thread.
#[derive(Debug, Clone)]
pub(super) struct Workers(pub(super) Arc<[Handle]>);

/// Makes a single-threaded runtime.
///
/// # Errors
///
/// When the system gives no more descriptors.
pub fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().max_blocking_threads(BLOCKING_THREADS).build()
}

impl Workers {
    /// The runtime of this thread, and `count - 1` more on threads of their own, which live as long as the process.
    pub(super) fn start(count: usize) -> io::Result<Self> {
        expect_workers(count);
        become_worker(1);
        let mut handles = vec![Handle::current()];
        for number in 1..count {
            let runtime = runtime()?;
            handles.push(runtime.handle().clone());
            let run = move || {
                become_worker(number + 1);
                runtime.block_on(std::future::pending::<()>());
            };
            std::thread::Builder::new().name(format!("worker-{number}")).spawn(run)?;
        }
        Ok(Self(handles.into()))
    }
}
