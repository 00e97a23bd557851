//! A new process in place of a running one, under load: nobody notices.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod common;

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use common::program::{Place, Running, is_alive, outcome};
use common::{Postgres, Raw, frontend, is_root, raw};

const SETTINGS: &str = "pidfile = {dir}/pid\nmax_client_conn = 200\n";

/// A load that fails with the first error that any client of its meets.
fn pgbench(place: &Place, host: &str, seconds: u32, more: &[&str]) -> Child {
    let mut command = Postgres::shared().tool("pgbench");
    command.args(["-n", "-c", "6", "-j", "6", "-U", "weir", "-h", host, "-T", &seconds.to_string()]);
    command.arg("-f").arg(place.file("script.sql")).args(more).args([
        "-p",
        &place.port().to_string(),
        "weir",
    ]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Loads of every kind: clients that stay, clients that come and go, and both ways in.
fn loads(place: &Place, seconds: u32, unix: Option<&Path>) -> Vec<Child> {
    let script = "BEGIN;\nSELECT 1;\nSELECT pg_sleep(0.001);\nEND;\n";
    std::fs::write(place.file("script.sql"), script).unwrap();
    common::give_to_unprivileged(place.folder());
    let mut loads = vec![
        pgbench(place, "127.0.0.1", seconds, &["-M", "prepared"]),
        pgbench(place, "127.0.0.1", seconds, &["-C"]),
        pgbench(place, "127.0.0.1", seconds, &["-C", "-M", "extended"]),
    ];
    loads.extend(unix.map(|folder| pgbench(place, folder.to_str().unwrap(), seconds, &["-C"])));
    loads
}

async fn end_well(loads: Vec<Child>) {
    for load in loads {
        let output = tokio::task::spawn_blocking(|| load.wait_with_output().unwrap()).await.unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && out.contains("number of failed transactions: 0"), "{out}{err}");
        assert!(!err.contains("FATAL") && !err.contains("refused"), "{err}");
    }
}

/// Ten processes, one after the other. Would break with a connection that is lost between two of them, a socket file that
/// goes with its old owner, descriptors that pile up, or an old process that stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn successors_take_over_under_load() {
    let mut place = Place::new(SETTINGS);
    let mut processes: Vec<Running> = vec![place.start(&[])];
    let loads = loads(&place, 6, Some(place.folder()));
    let mut descriptors = Vec::new();
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(300)).await; // let the load run
        let new = place.start(&["--takeover"]);
        new.logged("took over from process").await;
        let old = processes.last().unwrap();
        old.logged("a new process has taken over, waiting for all clients disconnect").await;
        assert_eq!(place.read("pid").trim(), new.pid().to_string());
        processes.push(new);
    }
    end_well(loads).await;
    let last = processes.pop().unwrap();
    for process in &mut processes {
        assert_eq!(process.ended().await, Some(0), "{}", process.log());
    }
    assert_eq!(place.read("pid").trim(), last.pid().to_string());
    // Both ways in lead to the last one, whose files are still there.
    let mut client = Raw::open_unix(place.folder(), place.port()).await;
    client.start(&[("user", "weir"), ("database", "weir")], "").await;
    assert_eq!(client.value("SELECT 1").await.as_deref(), Some("1"));
    client.terminate().await;
    // What a process inherits does not grow from one to the next.
    for _ in 0..3 {
        let new = place.start(&["-R"]);
        new.logged("took over from process").await;
        descriptors.push(std::fs::read_dir(format!("/proc/{}/fd", new.pid())).unwrap().count());
    }
    assert_eq!(descriptors[0], descriptors[2], "{descriptors:?}");
}

/// PgBouncer's way: both listen on the port, and the old one is told to go. Would break with connections that go down
/// with the socket they were queued at.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_share_the_port_come_and_go_under_load() {
    let mut place = Place::new("");
    let mut running = sharing(&mut place, 0);
    let loads = loads(&place, 8, None);
    let mut gone = Vec::new();
    for number in 1..6 {
        let new = sharing(&mut place, number);
        running.signal("TERM");
        gone.push(std::mem::replace(&mut running, new));
        tokio::time::sleep(Duration::from_millis(900)).await; // it has left, or waits for those who stay
    }
    end_well(loads).await;
    for mut process in gone {
        assert_eq!(process.ended().await, Some(0), "{}", process.log());
    }
    assert!(running.runs());
}

/// A process with a Unix socket of its own and the port of all.
fn sharing(place: &mut Place, number: u32) -> Running {
    let folder = place.file(&format!("run{number}"));
    std::fs::create_dir(&folder).unwrap();
    let dir = folder.display();
    place.configure(&format!("so_reuseport = 1\nmax_client_conn = 200\nunix_socket_dir = {dir}\n"));
    place.start(&[])
}

/// Would break with: an old process that has given up too early, or a socket file that a failed successor takes with it.
#[tokio::test]
async fn a_successor_that_fails_changes_nothing() {
    let mut place = Place::new(SETTINGS);
    let mut running = place.start(&[]);
    place.configure(&format!("{SETTINGS}logfile = /no/such/folder/log\n"));
    let (code, said) = outcome(place.command(&["--takeover"])).await;
    assert_eq!(code, Some(1));
    assert!(said.contains("/no/such/folder/log"), "{said}");
    running.logged("a process wanted to take over and did not").await;
    place.configure(SETTINGS);
    assert!(place.answers().await && running.runs());
    let mut client = Raw::open_unix(place.folder(), place.port()).await;
    client.start(&[("user", "weir"), ("database", "weir")], "").await;
    assert_eq!(place.read("pid").trim(), running.pid().to_string());
    drop(client);
    let new = place.start(&["--takeover"]);
    new.logged("took over from process").await;
    assert_eq!(running.ended().await, Some(0));
}

/// A successor that has the sockets and goes on only when what is given is let go.
fn slow_successor(place: &mut Place) -> (Running, SlowFile) {
    let rules = SlowFile::new(place.file("slow-rules"));
    let text = place.read("pgbouncer.ini");
    let slow = format!("auth_type = hba\nauth_hba_file = {}", place.file("slow-rules").display());
    std::fs::write(place.file("pgbouncer.ini"), text.replace("auth_type = trust", &slow)).unwrap();
    common::give_to_unprivileged(place.folder());
    let command = place.command(&["--takeover"]);
    (place.begin(command), rules)
}

/// Rules of `auth_type = hba` whose end does not come before somebody lets them go.
struct SlowFile(std::fs::File);

impl SlowFile {
    fn new(path: std::path::PathBuf) -> Self {
        common::run(std::process::Command::new("mkfifo").arg(&path));
        Self(std::fs::File::options().read(true).write(true).open(path).unwrap())
    }

    fn let_go(mut self) {
        std::io::Write::write_all(&mut self.0, b"local all all trust\nhost all all 127.0.0.1/32 trust\n")
            .unwrap();
    }
}

async fn answers_on_both(place: &Place) {
    assert!(place.answers().await);
    let mut client = Raw::open_unix(place.folder(), place.port()).await;
    client.start(&[("user", "weir"), ("database", "weir")], "").await;
    assert_eq!(client.value("SELECT 1").await.as_deref(), Some("1"));
    client.terminate().await;
}

/// Would break with: sockets that the old process filters, or a file that it removes, while they are lent.
#[tokio::test]
async fn an_old_process_that_is_ended_during_the_takeover_leaves_the_sockets_whole() {
    let mut place = Place::new(&format!("{SETTINGS}so_reuseport = 1\n"));
    let mut old = place.start(&[]);
    let (new, rules) = slow_successor(&mut place);
    old.logged("a new process asks for the listening sockets").await;
    old.signal("TERM");
    assert_eq!(old.ended().await, Some(0), "{}", old.log());
    rules.let_go();
    new.logged("process up:").await;
    answers_on_both(&place).await;
}

/// Would break with: clients of the old process that are lost to the successor.
#[tokio::test]
async fn an_old_process_that_is_ended_during_the_takeover_keeps_its_clients_and_the_successor() {
    let mut place = Place::new(&format!("{SETTINGS}so_reuseport = 1\n"));
    let mut old = place.start(&[]);
    let mut client = Raw::login(place.port(), "weir", "", "weir").await;
    let (new, rules) = slow_successor(&mut place);
    old.logged("a new process asks for the listening sockets").await;
    old.signal("TERM");
    old.logged("got SIGTERM, shutting down").await;
    rules.let_go();
    new.logged("took over from process").await;
    client.write(&frontend::query("SELECT pg_sleep(61)")).await;
    common::look::seen(
        Postgres::shared(),
        "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(61)' AND state = 'active'",
        &[],
    )
    .await;
    raw::cancel(place.port(), &client.key).await;
    assert_eq!(common::look::error_of(&client.read_until_ready().await).field('C'), "57014");
    client.terminate().await;
    assert_eq!(old.ended().await, Some(0), "{}", old.log());
    answers_on_both(&place).await;
}

/// Would break with: a cancel request that ends at a process which does not know the client. Also over several
/// generations.
#[tokio::test]
async fn a_cancel_request_finds_the_client_of_an_old_process() {
    let mut place = Place::new(SETTINGS);
    let mut processes = vec![place.start(&[])];
    let mut client = Raw::login(place.port(), "weir", "", "weir").await;
    for _ in 0..2 {
        let new = place.start(&["--takeover"]);
        new.logged("took over from process").await;
        processes.push(new);
        client.write(&frontend::query("SELECT pg_sleep(60)")).await;
        common::look::seen(
            Postgres::shared(),
            "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)' AND state = 'active'",
            &[],
        )
        .await;
        raw::cancel(place.port(), &client.key).await;
        let answer = client.read_until_ready().await;
        assert_eq!(common::look::error_of(&answer).field('C'), "57014");
    }
    assert!(processes[0].runs());
    client.terminate().await;
    assert_eq!(processes[0].ended().await, Some(0));
}

/// Would break with: a refusal, or a wait.
#[tokio::test]
async fn where_nobody_runs_there_is_nothing_to_take_over() {
    let mut place = Place::new(SETTINGS);
    let running = place.start(&["-R"]);
    running.logged("old process not found, try to continue normally").await;
    assert!(place.answers().await);
    // And a daemon is one.
    let daemon = place.daemon(&["-R"]);
    assert!(is_alive(daemon) && daemon != running.pid());
    assert!(place.answers().await);
}

/// Would break with: clients that stay paused with the old process, since RESUME reaches the new one.
#[tokio::test]
async fn nobody_takes_over_while_paused() {
    let mut place = Place::new(SETTINGS);
    let mut old = place.start(&[]);
    for (pause, resume) in [("PAUSE", "RESUME"), ("PAUSE weir", "RESUME weir")] {
        place.console(pause).await;
        let (code, said) = outcome(place.command(&["--takeover"])).await;
        assert_eq!(code, Some(1));
        assert!(said.contains("RESUME comes first"), "{said}");
        place.console(resume).await;
    }
    assert!(old.runs() && place.read("pid").trim() == old.pid().to_string());
    let new = place.start(&["--takeover"]);
    new.logged("took over from process").await;
    assert_eq!(old.ended().await, Some(0));
}

/// Would break with: a pause that comes while a successor starts, and that nothing undoes.
#[tokio::test]
async fn a_signal_resumes_the_clients_of_an_old_process() {
    let mut place = Place::new(SETTINGS);
    let mut old = place.start(&[]);
    let mut client = Raw::login(place.port(), "weir", "", "weir").await;
    let (new, rules) = slow_successor(&mut place);
    old.logged("a new process asks for the listening sockets").await;
    old.signal("USR1");
    old.logged("got SIGUSR1, pausing all activity").await;
    rules.let_go();
    new.logged("took over from process").await;
    old.logged("only SIGUSR2 to this process resumes them").await;
    client.write(&frontend::query("SELECT 1")).await;
    old.signal("USR2");
    let answer = client.read_until_ready().await;
    assert!(answer.iter().any(|message| message.tag == b'D'), "{}", old.log());
    client.terminate().await;
    assert_eq!(old.ended().await, Some(0));
}

/// Would break with: a process that is sent away by one that is nothing to it but a file of the same path, as in two
/// containers on one network.
#[tokio::test]
async fn who_listens_elsewhere_is_left_alone() {
    let mut place = Place::new("");
    let mut running = place.start(&[]);
    let other = Place::new("");
    // The same path, and all that is in it of another.
    std::fs::copy(other.file("pgbouncer.ini"), place.file("pgbouncer.ini")).unwrap();
    let new = place.start(&["--takeover"]);
    new.logged("so it is left alone").await;
    running.logged("a process wanted to take over and did not").await;
    assert!(other.answers().await);
    assert!(place.answers().await && running.runs());
    assert!(!running.log().contains("a new process has taken over"), "{}", running.log());
}

/// Would break with: sockets that are given to, or taken from, somebody else. Only root can try.
#[tokio::test]
async fn strangers_get_nothing() {
    if !is_root() {
        return;
    }
    let mut place = Place::new("");
    let mut running = place.start(&[]);
    let mut command = std::process::Command::new("setpriv");
    command.args([
        "--reuid",
        "nobody",
        "--regid",
        "nogroup",
        "--clear-groups",
        &common::program::program(),
        "-R",
    ]);
    command.arg(place.file("pgbouncer.ini"));
    let (code, said) = outcome(command).await;
    assert_eq!(code, Some(1));
    assert!(said.contains("runs as another user"), "{said}");
    running.logged("it runs as another user").await;
    assert!(place.answers().await && running.runs());
}
