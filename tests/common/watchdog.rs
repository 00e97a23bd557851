//! Servers must not outlive the tests, however these end: a static is never dropped, and a killed process drops
//! nothing. So a shell of ours waits for the end of its input, which comes when this process is gone.

use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};

static WATCHDOG: LazyLock<Mutex<ChildStdin>> = LazyLock::new(|| Mutex::new(start()));

/// Each line of input adds (`+`) or forgets (`-`) a process (`12`) or a folder (`/a/b`). At the end of input the
/// processes that are left are told to quit, then killed, and the folders that are left are removed.
const SCRIPT: &str = r#"
held=" "
while read -r verb item; do
    case $verb in
        +) held="$held$item " ;;
        -) case $held in *" $item "*) held="${held%%" $item "*} ${held#*" $item "}" ;; esac ;;
    esac
done
alive() { readlink "/proc/$1/exe"; }
for item in $held; do
    case $item in /*) ;; *) kill -s QUIT "$item" ;; esac
done
for item in $held; do
    case $item in /*) continue ;; esac
    for _ in 1 2 3 4 5 6 7 8 9 10; do alive "$item" || break; sleep 0.1; done
    alive "$item" && kill -s KILL "$item"
done
for item in $held; do
    case $item in /*) rm -rf "$item" ;; esac
done
"#;

/// Ends the process `pid` when this process ends before [`forget`] is called.
pub(super) fn watch(pid: u32) {
    tell('+', &pid);
}

/// The opposite of [`watch`].
pub(super) fn forget(pid: u32) {
    tell('-', &pid);
}

/// A folder for one server, readable by every user. It is removed when dropped or when this process ends.
#[derive(Debug)]
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn new(name: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let unique = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("{name}-{}-{unique}", std::process::id()));
        tell('+', &folder.display());
        let _left_by_another_process = std::fs::remove_dir_all(&folder);
        std::fs::create_dir(&folder).unwrap();
        std::fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
        Self(folder)
    }
}

impl std::ops::Deref for Scratch {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _nobody_left_to_tell = std::fs::remove_dir_all(&self.0);
        tell('-', &self.0.display());
    }
}

fn tell(verb: char, item: &dyn std::fmt::Display) {
    let mut input = WATCHDOG.lock().unwrap_or_else(PoisonError::into_inner);
    writeln!(input, "{verb} {item}").unwrap();
}

fn start() -> ChildStdin {
    let mut shell = Command::new("sh");
    shell.args(["-c", SCRIPT]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    // Its own process group: Ctrl-C at the tests must not end it.
    shell.process_group(0).spawn().unwrap().stdin.take().unwrap()
}
