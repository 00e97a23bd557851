//! The process as operators know it: arguments, daemon, pid file, user, signals, service manager.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod common;

use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};

use common::program::{Place, is_alive, outcome, program};
use common::{Raw, is_root, kill, run, until};

const DAEMON: &str = "pidfile = {dir}/pid\nlogfile = {dir}/log\n";

/// Would break with: another exit status or stream, or a first line that is not what `SHOW VERSION` answers.
#[tokio::test]
async fn flags_that_only_talk() {
    for flag in ["-V", "--version"] {
        let mut command = Command::new(program());
        command.arg(flag);
        let (code, said) = outcome(command).await;
        assert_eq!(code, Some(0));
        assert!(said.lines().next().unwrap().starts_with("PgBouncer 1."), "{said}");
    }
    for (arguments, status, word) in [
        (&["-h"][..], 0, "--daemon"),
        (&["--help"], 0, "--takeover"),
        (&[], 1, "Usage"),
        (&["--no-such-flag", "x"], 1, "--no-such-flag"),
        (&["--regservice", "x", "y.ini"], 1, "Windows"),
        (&["/no/such/file.ini"], 1, "/no/such/file.ini"),
    ] {
        let mut command = Command::new(program());
        command.args(arguments);
        let (code, said) = outcome(command).await;
        assert_eq!(code, Some(status), "{arguments:?}: {said}");
        assert!(said.contains(word), "{arguments:?}: {said}");
    }
}

/// Would break with: a parent that returns before the child listens or waits for ever, a pid file with another number or
/// one that stays, a daemon that keeps the terminal.
#[tokio::test]
async fn a_daemon_listens_when_its_parent_returns() {
    let mut place = Place::new(DAEMON);
    let process = place.daemon(&[]);
    assert!(place.answers().await); // at once, without a wait
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    assert_eq!(fields[3], process.to_string(), "it leads a session of its own");
    for descriptor in 0..3 {
        let target = std::fs::read_link(format!("/proc/{process}/fd/{descriptor}")).unwrap();
        assert_eq!(target, Path::new("/dev/null"));
    }
    let name = std::fs::read_to_string(format!("/proc/{process}/comm")).unwrap();
    assert_eq!(name.trim(), Path::new(&program()).file_name().unwrap().to_str().unwrap());
    assert!(place.read("log").contains("process up:"));
    kill(process, "INT");
    until("end of the daemon", || !is_alive(process)).await;
    assert!(!place.file("pid").exists());
    assert!(!place.file(&format!(".s.PGSQL.{}", place.port())).exists());
    // The port and the socket can be used again at once.
    place.daemon(&[]);
    assert!(place.answers().await);
}

/// Would break with: an exit status of 0, or a failure that only the log knows.
#[tokio::test]
async fn a_daemon_that_fails_says_so_to_its_parent() {
    let place = Place::new("logfile = {dir}/log\n");
    let (code, said) = outcome(place.command(&["-d"])).await;
    assert_eq!(code, Some(1));
    assert!(said.contains("daemon needs pidfile configured"), "{said}");

    let place = Place::new(DAEMON);
    let _taken = std::net::TcpListener::bind(("127.0.0.1", place.port())).unwrap();
    let (code, said) = outcome(place.command(&["-d"])).await;
    assert_eq!(code, Some(1));
    assert!(said.contains(&format!("cannot listen on 127.0.0.1:{}", place.port())), "{said}");
    assert!(!place.file("pid").exists());

    let place = Place::new("pidfile = {dir}/pid\nlogfile = /no/such/folder/log\n");
    let (code, said) = outcome(place.command(&["-d"])).await;
    assert_eq!(code, Some(1));
    assert!(said.contains("/no/such/folder/log"), "{said}");
}

/// Would break with: a second process beside a living one, or a stale file that keeps one from starting.
#[tokio::test]
async fn a_pid_file_is_trusted_as_long_as_its_process_lives() {
    let mut place = Place::new(DAEMON);
    let start = |place: &Place, content: &str| {
        std::fs::write(place.file("pid"), content).unwrap();
        common::give_to_unprivileged(place.folder());
        place.command(&[])
    };
    for (content, why) in
        [(std::process::id().to_string(), "lives"), ("postgres\n".to_owned(), "no process id")]
    {
        let (code, said) = outcome(start(&place, &content)).await;
        assert_eq!(code, Some(1));
        assert!(said.contains("exists, another instance running?") && said.contains(why), "{said}");
        assert_eq!(place.read("pid"), content, "it is not ours to touch");
    }
    let gone = {
        let mut child = Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        child.id()
    };
    for content in [format!("{gone}\n"), String::new()] {
        let command = start(&place, &content);
        let mut running = place.start_command(command);
        assert_eq!(place.read("pid").trim(), running.pid().to_string());
        assert_eq!(
            running.log().contains("stale pidfile, removing"),
            !content.is_empty(),
            "{}",
            running.log()
        );
        running.signal("TERM");
        assert_eq!(running.ended().await, Some(0));
        assert!(!place.file("pid").exists());
    }
}

/// Would break with: a pooler that runs as root, or one that keeps root's groups. Only root can try.
#[tokio::test]
async fn root_is_refused_or_becomes_somebody_else() {
    if !is_root() {
        return;
    }
    let mut place = Place::new(DAEMON);
    let (code, said) = outcome(place.command_of_root(&[])).await;
    assert_eq!(code, Some(1));
    assert!(said.contains("should not run as root"), "{said}");
    assert!(!place.file("log").exists(), "a file of root's would be in the way");
    let (code, said) = outcome(place.command_of_root(&["-u", "no_such_user"])).await;
    assert_eq!(code, Some(1));
    assert!(said.contains("could not find user 'no_such_user' to switch to"), "{said}");

    let by_flag = place.command_of_root(&["--user=postgres"]);
    becomes_postgres(&mut place, by_flag).await;
    place.configure(&format!("{DAEMON}user = postgres\n"));
    let by_setting = place.command_of_root(&[]);
    becomes_postgres(&mut place, by_setting).await;
    // The flag wins, and nobody has to become who he is.
    place.configure(&format!("{DAEMON}user = no_such_user\n"));
    let already = place.command(&["-u", "postgres"]);
    becomes_postgres(&mut place, already).await;
}

async fn becomes_postgres(place: &mut Place, command: Command) {
    let mut running = place.start_command(command);
    let status = std::fs::read_to_string(format!("/proc/{}/status", running.pid())).unwrap();
    let line = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let number = |flag| run(Command::new("id").args([flag, "postgres"])).trim().to_owned();
    let (user, group) = (number("-u"), number("-g"));
    assert_eq!(line("Uid:"), [&*user; 4].join(" "), "real, effective, saved and of files");
    assert_eq!(line("Gid:"), [&*group; 4].join(" "));
    assert!(!line("Groups:").split(' ').any(|group| group == "0"), "{status}");
    assert_eq!(line("CapEff:"), "0000000000000000");
    for name in ["pid", "log"] {
        assert_eq!(std::fs::metadata(place.file(name)).unwrap().uid().to_string(), user);
    }
    assert!(place.answers().await);
    running.signal("INT");
    assert_eq!(running.ended().await, Some(0));
    assert!(!place.file("pid").exists());
}

/// Would break with: a shutdown that cuts, that lets new clients in, that shuts the console out, or that a second signal
/// does not hurry.
#[tokio::test]
async fn sigterm_waits_for_clients_and_a_second_one_does_not() {
    let mut place = Place::new("");
    for second in ["TERM", "INT", "QUIT"] {
        let mut running = place.start(&[]);
        let mut client = Raw::login(place.port(), "weir", "", "weir").await;
        client.query("BEGIN").await;
        running.signal("TERM");
        running.logged("got SIGTERM, shutting down, waiting for all clients disconnect").await;
        until("end of the TCP socket", || std::net::TcpStream::connect(("127.0.0.1", place.port())).is_err())
            .await;
        // Those of before go on.
        assert_eq!(client.value("SELECT 1").await.as_deref(), Some("1"));
        client.query("COMMIT").await;
        client.query("SELECT 1").await;
        // The Unix socket is for the console only.
        let mut late = Raw::open_unix(place.folder(), place.port()).await;
        let refused = late.try_start(&[("user", "weir"), ("database", "weir")], "").await.unwrap_err();
        assert_eq!(
            (refused.field('S').as_str(), refused.field('M').as_str()),
            ("FATAL", "pooler is shutting down")
        );
        let mut console = Raw::open_unix(place.folder(), place.port()).await;
        console.start(&[("user", "admin"), ("database", "pgbouncer")], "").await;
        assert!(!console.query("SHOW POOLS").await.is_empty());
        running.signal("USR2");
        running.logged("got SIGUSR2 while shutting down, ignoring").await;
        running.signal("HUP");
        running.logged("got SIGHUP, re-reading config").await;
        assert!(running.runs());
        running.signal(second);
        assert_eq!(running.ended().await, Some(0));
        running.logged(&format!("got SIG{second} while shutting down, fast exit")).await;
        client.expect_eof().await;
    }
}

/// Would break with: an end before the last client's, or none after it.
#[tokio::test]
async fn the_end_comes_with_the_last_client_or_the_last_transaction() {
    let mut place = Place::new("");
    let mut running = place.start(&[]);
    let client = Raw::login(place.port(), "weir", "", "weir").await;
    running.signal("TERM");
    running.logged("waiting for all clients disconnect").await;
    assert!(running.runs());
    client.terminate().await;
    assert_eq!(running.ended().await, Some(0));
    running.logged("client connections dropped, exiting").await;

    let mut running = place.start(&[]);
    let mut client = Raw::login(place.port(), "weir", "", "weir").await;
    client.query("BEGIN").await;
    running.signal("INT");
    running.logged("got SIGINT, shutting down, waiting for all servers connections to be released").await;
    assert_eq!(client.value("SELECT 2").await.as_deref(), Some("2"));
    assert!(running.runs());
    client.write(&common::frontend::query("COMMIT")).await;
    client.expect("C Z").await;
    assert_eq!(running.ended().await, Some(0));
    running.logged("server connections dropped, exiting").await;

    let mut running = place.start(&[]);
    let mut client = Raw::login(place.port(), "weir", "", "weir").await;
    client.query("BEGIN").await;
    running.signal("PIPE");
    client.query("SELECT 1").await;
    running.signal("QUIT");
    assert_eq!(running.ended().await, Some(0));
    running.logged("got SIGQUIT, fast exit").await;
    client.expect_eof().await;
}

/// Would break with: a state that is not told, told too early, or without what `notify-reload` needs.
#[tokio::test]
async fn the_service_manager_is_told() {
    let mut place = Place::new("stats_period = 1\n");
    let path = place.file("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    common::give_to_unprivileged(place.folder());
    manager.set_read_timeout(Some(common::PATIENCE)).unwrap();
    let next = || {
        let mut buffer = [0; 4096];
        let size = manager.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..size].to_vec()).unwrap()
    };
    let mut command = place.command(&[]);
    command.env("NOTIFY_SOCKET", &path);
    let mut running = place.start_command(command);
    assert_eq!(next(), format!("MAINPID={}\nREADY=1", running.pid()));
    assert!(place.answers().await);
    let status = next();
    assert!(status.starts_with("STATUS=stats: 0 xacts/s, 0 queries/s"), "{status}");
    let until_told = |what: &str| loop {
        let told = next();
        if !told.starts_with("STATUS=") {
            assert!(told.starts_with(what), "{told}");
            return told;
        }
    };
    for cause in ["HUP", "RELOAD"] {
        match cause {
            "HUP" => running.signal("HUP"),
            command => drop(place.console(command).await),
        }
        let told = until_told("RELOADING=1\nMONOTONIC_USEC=");
        let told: u64 = told.rsplit_once('=').unwrap().1.parse().unwrap();
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
        let uptime: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
        #[allow(clippy::cast_precision_loss, reason = "a second is precise enough")]
        let apart = (told as f64 / 1e6 - uptime).abs();
        assert!(apart < 60.0, "{told} is of another clock than {uptime}");
        assert_eq!(until_told("READY=1"), "READY=1");
    }
    running.signal("TERM");
    until_told("STOPPING=1");
    assert_eq!(running.ended().await, Some(0));
}

/// The program with two listening sockets that were passed to it. python does what systemd does: it listens, and gives
/// the descriptors their numbers.
fn passing(place: &Place, port: u16, path: &Path) -> Command {
    let script = "import os, socket, sys\n\
        port, path, *command = sys.argv[1:]\n\
        tcp = socket.create_server(('127.0.0.1', int(port)))\n\
        unix = socket.socket(socket.AF_UNIX); unix.bind(path); unix.listen(); os.chmod(path, 0o666)\n\
        os.dup2(tcp.fileno(), 40); os.dup2(unix.fileno(), 41)\n\
        os.dup2(40, 3); os.dup2(41, 4)\n\
        os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='2')\n\
        os.execvp(command[0], command)\n";
    let mut command = Command::new("python3");
    command.args(["-c", script, &port.to_string()]).arg(path);
    // It keeps the process and its descriptors.
    let pooler = place.command(&[]);
    command.arg(pooler.get_program()).args(pooler.get_args()).stdin(Stdio::null());
    command
}

/// Would break with: sockets that are not served, that are bound once more, or whose file is removed at the end though
/// it is the service manager's.
#[tokio::test]
async fn sockets_of_the_service_manager_are_served() {
    let mut place = Place::new("");
    let port = common::free_port();
    let command = passing(&place, port, &place.file("passed"));
    let mut running = place.start_command(command);
    for name in ["listen_addr", "unix_socket_dir"] {
        running.logged(&format!("sockets passed from service manager, {name} ignored")).await;
    }
    assert!(std::net::TcpStream::connect(("127.0.0.1", place.port())).is_err());
    assert!(!place.file(&format!(".s.PGSQL.{}", place.port())).exists());
    let mut client = Raw::login(port, "weir", "", "weir").await;
    assert_eq!(client.value("SELECT 1").await.as_deref(), Some("1"));
    let stream = tokio::net::UnixStream::connect(place.file("passed")).await.unwrap();
    let mut client = Raw::over(stream);
    client.start(&[("user", "weir"), ("database", "weir")], "").await;
    assert_eq!(client.value("SELECT 1").await.as_deref(), Some("1"));
    running.signal("INT");
    assert_eq!(running.ended().await, Some(0));
    assert!(place.file("passed").exists());
}

/// Would break with: a socket of the service manager that is taken for another process's, or a pid file that is not
/// looked at any longer.
#[tokio::test]
async fn a_passed_socket_may_have_the_usual_path() {
    let mut place = Place::new(DAEMON);
    let path = place.file(&format!(".s.PGSQL.{}", place.port()));
    let command = passing(&place, common::free_port(), &path);
    let mut running = place.start_command(command);
    let mut client = Raw::open_unix(place.folder(), place.port()).await;
    client.start(&[("user", "weir"), ("database", "weir")], "").await;
    assert_eq!(client.value("SELECT 1").await.as_deref(), Some("1"));
    let (code, said) = outcome(passing(&place, common::free_port(), &place.file("other"))).await;
    assert_eq!(code, Some(1));
    assert!(said.contains("another instance running?"), "{said}");
    running.signal("INT");
    assert_eq!(running.ended().await, Some(0));
    assert!(path.exists());
}

/// Would break with: a reload that holds up everybody while a file does not answer, or an end that waits for it.
#[tokio::test]
async fn a_reload_by_signal_holds_nobody_up() {
    let mut place = Place::new("");
    let mut running = place.start(&[]);
    let mut client = Raw::login(place.port(), "weir", "", "weir").await;
    // Whoever reads a pipe waits until somebody writes.
    let (file, aside) = (place.file("pgbouncer.ini"), place.file("aside"));
    std::fs::rename(&file, &aside).unwrap();
    run(Command::new("mkfifo").arg(&file));
    common::give_to_unprivileged(place.folder());
    running.signal("HUP");
    running.logged("got SIGHUP, re-reading config").await;
    assert_eq!(client.value("SELECT 1").await.as_deref(), Some("1"));
    assert!(place.answers().await);
    let text = std::fs::read(&aside).unwrap();
    let pipe = file.clone();
    tokio::task::spawn_blocking(move || std::fs::write(pipe, text).unwrap()).await.unwrap();
    running.logged("configuration reloaded").await;
    running.signal("HUP");
    until("second reload", || running.log().matches("got SIGHUP, re-reading config").count() == 2).await;
    running.signal("QUIT");
    assert_eq!(running.ended().await, Some(0));
}

/// Would break with: a pid file that anybody may write to, one that is written through a link to somewhere else, or a
/// file that is left beside it.
#[tokio::test]
async fn a_pid_file_is_a_file_of_its_own() {
    let mut place = Place::new("pidfile = {dir}/pid\n");
    std::fs::write(place.file("victim"), "").unwrap();
    std::os::unix::fs::symlink(place.file("victim"), place.file("pid")).unwrap();
    common::give_to_unprivileged(place.folder());
    let pooler = place.command(&[]);
    let mut command = Command::new("sh");
    command.args(["-c", "umask 0 && exec \"$@\"", "sh"]);
    command.arg(pooler.get_program()).args(pooler.get_args()).stdin(Stdio::null());
    let mut running = place.start_command(command);
    assert_eq!(place.read("victim"), "");
    let found = std::fs::symlink_metadata(place.file("pid")).unwrap();
    assert!(found.is_file(), "{found:?}");
    assert_eq!(found.mode() & 0o777, 0o644);
    assert_eq!(place.read("pid").trim(), running.pid().to_string());
    running.signal("INT");
    assert_eq!(running.ended().await, Some(0));
    let left: Vec<_> =
        std::fs::read_dir(place.folder()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_str().unwrap().contains("pid")), "{left:?}");
}

/// Would break with: a process that cannot be taken over, and nobody is told.
#[tokio::test]
async fn a_door_that_somebody_else_has_is_told() {
    use sha2::Digest as _;
    use std::os::linux::net::SocketAddrExt as _;
    let mut place = Place::new("");
    let path = std::fs::canonicalize(place.file("pgbouncer.ini")).unwrap();
    let hash = sha2::Sha256::digest(path.to_str().unwrap());
    let hash: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let name = format!("pgweir-takeover-{hash}");
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let stranger = std::os::unix::net::UnixListener::bind_addr(&address).unwrap();
    let mut running = place.start(&[]);
    running.logged("WARNING this process cannot be taken over").await;
    assert!(running.log().contains(&name), "{}", running.log());
    assert!(place.answers().await);
    running.signal("INT");
    running.ended().await;
    drop(stranger);
    let running = place.start(&[]);
    assert!(!running.log().contains("cannot be taken over"), "{}", running.log());
}
