//! Where log lines go, how they look, and what they say: tools match them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod common;

use std::os::unix::net::UnixDatagram;

use common::program::Place;
use common::{Pgweir, Postgres, Raw, until};

/// Whether a line is `TIME ZONE [PID] LEVEL …`, as PgBouncer writes it.
fn has_stamp(line: &str, process: u32) -> bool {
    let digits = |text: &str, shape: &str| {
        text.len() == shape.len()
            && text.bytes().zip(shape.bytes()).all(|(byte, shape)| match shape {
                b'0' => byte.is_ascii_digit(),
                other => byte == other,
            })
    };
    let words: Vec<&str> = line.splitn(6, ' ').collect();
    matches!(words[..], [day, time, zone, number, level, _]
        if digits(day, "0000-00-00")
            && digits(time, "00:00:00.000")
            && !zone.is_empty()
            && number == format!("[{process}]")
            && ["LOG", "WARNING", "ERROR", "FATAL", "DEBUG", "NOISE"].contains(&level))
}

/// A text with what changes from run to run taken out: pointers, ports and times.
fn text_of(line: &str) -> String {
    let text = line.splitn(5, ' ').nth(4).unwrap();
    let mut words: Vec<String> = text.split(' ').map(str::to_owned).collect();
    for word in &mut words {
        if let Some((before, _)) = word.split_once("-0x") {
            *word = format!("{before}-0x:");
        } else if let Some((before, _)) = word.split_once("@127.0.0.1:") {
            *word = format!("{before}@127.0.0.1:0");
        }
    }
    words.join(" ")
}

/// Would break with: another shape, or texts that tools do not find.
#[tokio::test]
async fn lines_are_those_of_pgbouncer() {
    let mut place = Place::new("stats_period = 1\nclient_login_timeout = 1\ntcp_defer_accept = 0\n");
    let mut running = place.start(&[]);
    let mut client = Raw::login(place.port(), "weir", "", "weir").await;
    client.query("SELECT 1").await;
    client.terminate().await;
    running.logged("closing because: client close request").await;
    let mut nowhere = Raw::open(place.port()).await;
    nowhere.try_start(&[("user", "weir"), ("database", "nowhere")], "").await.unwrap_err();
    running.logged("pooler error: no such database: nowhere").await;
    let mut slow = Raw::open(place.port()).await;
    slow.last_words().await;
    running.logged("pooler error: client_login_timeout").await;
    place.console("RELOAD").await;
    running.logged("pgbouncer/admin@").await;
    running.logged("LOG stats: ").await;
    running.signal("INT");
    running.ended().await;
    let log = running.log();
    for line in log.lines() {
        assert!(has_stamp(line, running.pid()), "{line}");
    }
    let lines: Vec<String> = log.lines().map(text_of).collect();
    for expected in [
        "LOG C-0x: weir/weir@127.0.0.1:0 login attempt: db=weir user=weir tls=no replication=no",
        "LOG C-0x: weir/weir@127.0.0.1:0 closing because: client close request (age=0s)",
        "LOG C-0x: (nodb)/(nouser)@127.0.0.1:0 closing because: client_login_timeout (age=1s)",
        "WARNING C-0x: (nodb)/(nouser)@127.0.0.1:0 pooler error: client_login_timeout",
        "LOG C-0x: pgbouncer/admin@127.0.0.1:0 login attempt: db=pgbouncer user=admin tls=no replication=no",
        "LOG C-0x: pgbouncer/admin@127.0.0.1:0 closing because: client close request (age=0s)",
        "LOG RELOAD command issued",
        "LOG got SIGINT, shutting down, waiting for all servers connections to be released",
        "LOG server connections dropped, exiting",
    ] {
        assert_eq!(lines.iter().filter(|line| *line == expected).count(), 1, "{expected}\n{log}");
    }
    let listening = format!("LOG listening on 127.0.0.1:{}", place.port());
    assert!(log.contains(&listening) && log.contains("LOG listening on unix:/"), "{log}");
    let stats = lines.iter().find(|line| line.starts_with("LOG stats: ")).unwrap();
    let shape: String = stats.chars().filter(|c| !c.is_ascii_digit()).collect();
    assert!(shape.starts_with("LOG stats:  xacts/s,  queries/s,"), "{stats}");
    assert!(shape.ends_with(" in  B/s, out  B/s, xact  us, query  us, wait  us"), "{stats}");
}

/// Would break with: servers that come and go unseen, or with another reason than the one there is.
#[tokio::test]
async fn servers_have_lines_of_their_own() {
    let mut place = Place::new("server_lifetime = 3600\n");
    let running = place.start(&[]);
    let mut client = Raw::login(place.port(), "weir", "", "weir").await;
    client.query("SELECT 1").await;
    running.logged("new connection to server (from 127.0.0.1:").await;
    place.console("RECONNECT").await;
    running.logged("closing because: database configuration changed (age=").await;
    client.query("SELECT 1").await;
    place.console("PAUSE").await;
    running.logged("closing because: pause mode (age=").await;
    let log = running.log();
    let line = log.lines().find(|line| line.contains("pause mode")).unwrap();
    assert!(text_of(line).starts_with("LOG S-0x: weir/weir@127.0.0.1:0 closing because: "), "{line}");
    place.configure("log_connections = 0\nlog_disconnections = 0\n");
    place.console("RELOAD").await;
    place.console("RESUME").await;
    client.query("SELECT 1").await;
    place.console("PAUSE").await;
    let lines = |log: &str| log.lines().filter(|line| line.contains(" S-0x")).count();
    assert_eq!(lines(&running.log()), lines(&log), "{}", running.log());
}

/// Would break with: a line that a client can forge.
#[tokio::test]
async fn a_name_cannot_begin_a_line() {
    let mut place = Place::new("");
    let running = place.start(&[]);
    let mut hostile = Raw::open(place.port()).await;
    let name = "x\n2026-01-01 00:00:00.000 UTC [1] FATAL forged";
    hostile.try_start(&[("user", "weir"), ("database", name)], "").await.unwrap_err();
    running.logged("pooler error: no such database: x\\n2026").await;
    assert!(running.log().lines().all(|line| has_stamp(line, running.pid())), "{}", running.log());
}

/// Would break with: a line that a client can forge in another format.
#[tokio::test]
async fn a_name_cannot_begin_a_line_in_other_formats() {
    for format in ["human", "json"] {
        let mut place = Place::new(&format!("[pgweir]\nlog_format = {format}\n"));
        let running = place.start(&[]);
        let mut hostile = Raw::open(place.port()).await;
        let name = "x\nforged line\u{1b}[2K\r";
        hostile.try_start(&[("user", "weir"), ("database", name)], "").await.unwrap_err();
        running.logged("pooler error: no such database: x").await;
        let log = running.log();
        assert!(log.lines().all(|line| !line.starts_with("forged")), "{log}");
        assert!(!log.contains(['\r', '\u{1b}']), "{log}");
        let line = log.lines().find(|line| line.contains("no such database")).unwrap();
        assert!(line.contains("x\\nforged line"), "{line}");
    }
}

/// Would break with: a file that is not appended to, that is not line by line up to date, or that a rotation leaves
/// behind.
#[tokio::test]
async fn a_log_file_is_appended_to_and_opened_again() {
    let mut place = Place::new("logfile = {dir}/log\nstats_period = 1\n");
    std::fs::write(place.file("log"), "from before\n").unwrap();
    common::give_to_unprivileged(place.folder());
    let running = place.start(&[]);
    assert!(place.answers().await);
    until("line in the file", || place.read("log").contains("db=pgbouncer user=admin")).await;
    let log = place.read("log");
    assert!(log.starts_with("from before\n") && log.ends_with('\n'), "{log}");
    for line in log.lines().skip(1) {
        assert!(has_stamp(line, running.pid()), "{line}");
        assert!(running.log().contains(line), "standard error has it too: {line}");
    }
    for (round, cause) in ["HUP", "RELOAD"].into_iter().enumerate() {
        let old = format!("log.{round}");
        std::fs::rename(place.file("log"), place.file(&old)).unwrap();
        match cause {
            "HUP" => running.signal("HUP"),
            command => drop(place.console(command).await),
        }
        until("new file", || !place.read("log").is_empty()).await;
        let ended = place.read(&old);
        until("lines in the new file", || place.read("log").contains("stats: ")).await;
        assert_eq!(place.read(&old), ended);
    }
    // A file that cannot be opened leaves everything as it is, and is told.
    place.configure("logfile = /no/such/folder/log\ndefault_pool_size = 7\n");
    place.console("RELOAD").await;
    until("more lines", || place.read("log").contains("/no/such/folder/log")).await;
    assert!(place.read("log").contains("reload failed, the old configuration stays in force"));
    let rows = place.console("SHOW CONFIG").await;
    let value = |key: &str| rows.iter().find(|row| row[0].as_deref() == Some(key)).unwrap()[1].clone();
    assert_eq!(value("default_pool_size").as_deref(), Some("5"));
    assert_eq!(value("logfile").unwrap(), place.file("log").display().to_string());
}

/// Would break with: lines on standard error, or none in the file.
#[tokio::test]
async fn quiet_is_standard_error_only() {
    let mut place = Place::new("logfile = {dir}/log\npidfile = {dir}/pid\n");
    let log = place.file("quiet");
    let mut command = place.command(&["-q"]);
    command.stderr(std::fs::File::create(&log).unwrap());
    let mut child = command.spawn().unwrap();
    until("start", || place.read("log").contains("process up:")).await;
    common::kill(child.id(), "QUIT");
    child.wait().unwrap();
    assert_eq!(place.read("quiet"), "");
    assert!(place.read("log").contains("got SIGQUIT, fast exit"));
    assert!(place.daemon(&["-q"]) > 0);
}

/// Would break with: a level that waits for a restart, or that -v does not reach.
#[tokio::test]
async fn verbose_is_live() {
    let mut place = Place::new("");
    let running = place.start(&[]);
    assert!(place.answers().await);
    place.console("RELOAD").await;
    assert!(!running.log().contains(" DEBUG "), "{}", running.log());
    place.configure("verbose = 1\n");
    place.console("RELOAD").await;
    assert!(place.answers().await);
    running.logged(" DEBUG ").await;
    place.configure("verbose = 0\n");
    place.console("RELOAD").await;
    let before = running.log().matches(" DEBUG ").count();
    assert!(place.answers().await);
    running.logged("RELOAD").await;
    assert_eq!(running.log().matches(" DEBUG ").count(), before);
    let mut place = Place::new("");
    let running = place.start(&["-v"]);
    assert!(place.answers().await);
    running.logged(" DEBUG ").await;
}

/// Would break with: another facility, severity or tag, a stamp that syslog has itself, or lines that stop when the
/// daemon is restarted.
#[tokio::test]
async fn syslog_gets_the_lines() {
    let settings = "syslog = 1\nsyslog_facility = local3\nsyslog_ident = weir-test\n";
    let mut place = Place::new(settings);
    let path = place.file("syslog");
    let listen = || {
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(common::PATIENCE)).unwrap();
        common::give_to_unprivileged(place.folder());
        socket
    };
    let socket = listen();
    let mut command = place.command(&[]);
    command.env("PGWEIR_SYSLOG_SOCKET", &path);
    let running = place.start_command(command);
    let next = |socket: &UnixDatagram, needle: &str| loop {
        let mut buffer = [0; 4096];
        let size = socket.recv(&mut buffer).unwrap();
        let text = String::from_utf8(buffer[..size].to_vec()).unwrap();
        if text.contains(needle) {
            return text;
        }
    };
    let tag = format!(" weir-test[{}]: ", running.pid());
    let text = next(&socket, "process up:");
    // local3 is 19, informational 6.
    assert!(text.starts_with("<158>") && text.contains(&format!("{tag}process up:")), "{text}");
    let mut nowhere = Raw::open(place.port()).await;
    nowhere.try_start(&[("user", "weir"), ("database", "nowhere")], "").await.unwrap_err();
    let text = next(&socket, "pooler error");
    assert!(text.starts_with("<156>") && text.contains(&format!("{tag}C-0x")), "{text}");
    // The daemon is restarted.
    drop(socket);
    std::fs::remove_file(&path).unwrap();
    assert!(place.answers().await);
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(common::PATIENCE)).unwrap();
    common::give_to_unprivileged(place.folder());
    place.configure(&settings.replace("local3", "daemon").replace("weir-test", "other"));
    place.console("RELOAD").await;
    assert!(place.answers().await);
    let text = next(&socket, "login attempt");
    let text = if text.contains(" other[") { text } else { next(&socket, " other[") };
    assert!(text.starts_with("<30>"), "{text}");
}

/// Would break with: a setting that does nothing, or that waits for a restart.
#[tokio::test]
async fn stats_are_logged_when_asked_for() {
    let builder = || Pgweir::builder(Postgres::shared());
    let pooler = builder().setting("log_stats", 0).setting("stats_period", 1).start();
    pooler.reload(builder().setting("stats_period", 1)).await;
    pooler.logged("stats: ").await;
}
