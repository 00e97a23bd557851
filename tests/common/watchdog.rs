//! Servers must not outlive the tests, however these end: a static is never dropped, and a killed process drops
//! nothing. So a shell of ours waits for the end of its input, which comes when this process is gone.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{LazyLock, Mutex, PoisonError};

static WATCHDOG: LazyLock<Mutex<ChildStdin>> = LazyLock::new(|| Mutex::new(start()));

/// Each line of input adds (`+`) or forgets (`-`) a process and its folder. At the end of input all that are
/// left are told to quit, then killed, and their folders removed.
const SCRIPT: &str = r#"
held=" "
while read -r verb item; do
    case $verb in
        +) held="$held$item " ;;
        -) case $held in *" $item "*) held="${held%%" $item "*} ${held#*" $item "}" ;; esac ;;
    esac
done
alive() { readlink "/proc/$1/exe"; }
for item in $held; do kill -s QUIT "${item%%:*}"; done
for item in $held; do
    pid=${item%%:*}
    for _ in 1 2 3 4 5 6 7 8 9 10; do alive "$pid" || break; sleep 0.1; done
    alive "$pid" && kill -s KILL "$pid"
    rm -rf "${item#*:}"
done
"#;

/// Ends the process `pid` and removes `folder` when this process ends before [`forget`] is called.
pub(super) fn watch(pid: u32, folder: &Path) {
    tell('+', pid, folder);
}

/// The opposite of [`watch`].
pub(super) fn forget(pid: u32, folder: &Path) {
    tell('-', pid, folder);
}

fn tell(verb: char, pid: u32, folder: &Path) {
    let mut input = WATCHDOG.lock().unwrap_or_else(PoisonError::into_inner);
    writeln!(input, "{verb} {pid}:{}", folder.display()).unwrap();
}

fn start() -> ChildStdin {
    let mut shell = Command::new("sh");
    shell.args(["-c", SCRIPT]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    // Its own process group: Ctrl-C at the tests must not end it.
    shell.process_group(0).spawn().unwrap().stdin.take().unwrap()
}
