//! Sockets: who may open them, and their options, as the kernel has them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod common;

use std::collections::BTreeMap;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::Command;

use common::program::{Place, outcome};
use common::{Pgweir, PgweirBuilder, Postgres, Raw, run};

/// Copies each TCP socket of a process (`pidfd_getfd`) and asks the kernel what its options are.
const LOOK: &str = r#"
import ctypes, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
pid = int(sys.argv[1])
process = libc.syscall(434, pid, 0)
for name in os.listdir(f"/proc/{pid}/fd"):
    try:
        if not os.readlink(f"/proc/{pid}/fd/{name}").startswith("socket:"):
            continue
    except FileNotFoundError:
        continue
    copy = libc.syscall(438, process, int(name), 0)
    if copy < 0:
        sys.exit(f"pidfd_getfd: {os.strerror(ctypes.get_errno())}")
    found = socket.socket(fileno=copy)
    if found.family == socket.AF_UNIX:
        continue
    listens = found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    own = found.getsockname()[1]
    other = 0 if listens else found.getpeername()[1]
    tcp, base = socket.IPPROTO_TCP, socket.SOL_SOCKET
    options = [(base, socket.SO_KEEPALIVE), (tcp, socket.TCP_KEEPIDLE), (tcp, socket.TCP_KEEPINTVL),
        (tcp, socket.TCP_KEEPCNT), (tcp, socket.TCP_USER_TIMEOUT), (base, socket.SO_RCVBUF), (base, socket.SO_SNDBUF),
        (tcp, socket.TCP_DEFER_ACCEPT), (base, socket.SO_REUSEPORT), (tcp, socket.TCP_NODELAY)]
    print(own, other, *(found.getsockopt(*option) for option in options))
"#;

/// Options of one socket, in the order of [`LOOK`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Options {
    keepalive: u32,
    keepidle: u32,
    keepintvl: u32,
    keepcnt: u32,
    user_timeout: u32,
    receive: u32,
    send: u32,
    defer_accept: u32,
    reuse_port: u32,
    no_delay: u32,
}

/// The sockets of a process by what they are for: `listener`, `client` or `server`.
fn sockets(process: u32, port: u16, server: u16) -> BTreeMap<&'static str, Vec<Options>> {
    let text = run(Command::new("python3").args(["-c", LOOK, &process.to_string()]));
    let mut found: BTreeMap<&str, Vec<Options>> = BTreeMap::new();
    for line in text.lines() {
        let numbers: Vec<u32> = line.split(' ').map(|word| word.parse().unwrap()).collect();
        let [own, other, rest @ ..] = &numbers[..] else { panic!("{line}") };
        let kind = match (*own, *other) {
            (own, 0) if own == u32::from(port) => "listener",
            (own, _) if own == u32::from(port) => "client",
            (_, other) if other == u32::from(server) => "server",
            _ => continue,
        };
        let [
            keepalive,
            keepidle,
            keepintvl,
            keepcnt,
            user_timeout,
            receive,
            send,
            defer_accept,
            reuse_port,
            no_delay,
        ] = rest[..]
        else {
            panic!("{line}")
        };
        found.entry(kind).or_default().push(Options {
            keepalive,
            keepidle,
            keepintvl,
            keepcnt,
            user_timeout,
            receive,
            send,
            defer_accept,
            reuse_port,
            no_delay,
        });
    }
    found
}

fn pooler() -> PgweirBuilder {
    Pgweir::builder(Postgres::shared()).setting("workers", 2)
}

/// The options of a client that came just now, and of its server, when all others have gone.
async fn newest(pooler: &Pgweir) -> BTreeMap<&'static str, Vec<Options>> {
    pooler.console("RECONNECT").await;
    let mut client = pooler.raw().await;
    client.query("SELECT 1").await;
    let deadline = tokio::time::Instant::now() + common::PATIENCE;
    loop {
        let found = sockets(pooler.pid(), pooler.port(), Postgres::shared().port());
        if ["client", "server"].iter().all(|kind| found[kind].len() == 1) {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "{found:?}");
    }
}

/// What the system has where nothing is asked for.
fn system(name: &str) -> u32 {
    std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).unwrap().trim().parse().unwrap()
}

/// Would break with: an option that reaches one side only, that a reload does not change for who comes next, or that it
/// does not put back.
#[tokio::test]
async fn tcp_options_reach_clients_and_servers_and_a_reload_changes_them() {
    let asked = |builder: PgweirBuilder| {
        [
            ("tcp_keepidle", 111),
            ("tcp_keepintvl", 22),
            ("tcp_keepcnt", 3),
            ("tcp_user_timeout", 44_000),
            ("tcp_socket_buffer", 65_536),
        ]
        .into_iter()
        .fold(builder, |builder, (name, value)| builder.setting(name, value))
    };
    let pooler = asked(pooler()).start();
    for _ in 0..2 {
        let found = newest(&pooler).await;
        for kind in ["client", "server"] {
            let options = &found[kind][0];
            assert_eq!((options.keepalive, options.no_delay), (1, 1), "{kind}");
            assert_eq!((options.keepidle, options.keepintvl, options.keepcnt), (111, 22, 3), "{kind}");
            assert_eq!(options.user_timeout, 44_000, "{kind}");
            // The kernel doubles what it is asked for.
            assert_eq!((options.receive, options.send), (131_072, 131_072), "{kind}");
        }
    }
    pooler.reload(self::pooler()).await;
    let found = newest(&pooler).await;
    let defaults =
        (system("tcp_keepalive_time"), system("tcp_keepalive_intvl"), system("tcp_keepalive_probes"));
    for kind in ["client", "server"] {
        let options = &found[kind][0];
        assert_eq!((options.keepalive, options.user_timeout), (1, 0), "{kind}");
        assert_eq!((options.keepidle, options.keepintvl, options.keepcnt), defaults, "{kind}");
    }
    pooler.reload(self::pooler().setting("tcp_keepalive", 0)).await;
    let found = newest(&pooler).await;
    for kind in ["client", "server"] {
        assert_eq!(found[kind][0].keepalive, 0, "{kind}");
    }
    pooler.reload(self::pooler().setting("tcp_keepcnt", 7)).await;
    let found = newest(&pooler).await;
    assert_eq!((found["client"][0].keepalive, found["client"][0].keepcnt), (1, 7));
}

/// Would break with: a listener that has not what it was asked for, or a client that it keeps from its login.
#[tokio::test]
async fn options_of_listeners() {
    let postgres = Postgres::shared().port();
    let mut place = Place::new("so_reuseport = 1\n");
    let running = place.start(&[]);
    let listener = sockets(running.pid(), place.port(), postgres)["listener"][0];
    assert_eq!(listener.reuse_port, 1);
    assert_eq!(listener.defer_accept, 1, "on by default, as in PgBouncer");
    // A client that speaks first, as all do, does not notice.
    let mut client = Raw::login(place.port(), "weir", "", "weir").await;
    client.query("SELECT 1").await;
    place.configure("so_reuseport = 1\ntcp_defer_accept = 0\n");
    place.console("RELOAD").await;
    assert_eq!(sockets(running.pid(), place.port(), postgres)["listener"][0].defer_accept, 0);

    let mut place = Place::new("listen_backlog = 5\n");
    let running = place.start(&[]);
    assert_eq!(sockets(running.pid(), place.port(), postgres)["listener"][0].reuse_port, 0);
    // The kernel's word for the length of the queue is Send-Q.
    let filter = format!("sport = :{}", place.port());
    let line = run(Command::new("ss").args(["-H", "-l", "-t", "-n"]).arg(filter));
    assert_eq!(line.split_whitespace().nth(2), Some("5"), "{line}");
    let line = run(Command::new("ss").args(["-H", "-l", "-x"]));
    let line = line.lines().find(|line| line.contains(place.folder().to_str().unwrap())).unwrap();
    assert_eq!(line.split_whitespace().nth(3), Some("5"), "{line}");
}

/// Would break with: a second process that is let in beside the first without having been asked to share.
#[tokio::test]
async fn a_port_is_shared_only_where_both_say_so() {
    let mut place = Place::new("so_reuseport = 1\n");
    let _first = place.start(&[]);
    place.configure("so_reuseport = 1\nunix_socket_dir =\n");
    let _second = place.start(&[]);
    place.configure("unix_socket_dir =\n");
    let (code, said) = outcome(place.command(&[])).await;
    assert_eq!(code, Some(1));
    assert!(said.contains(&format!("cannot listen on 127.0.0.1:{}", place.port())), "{said}");
    // And the folder of the socket is never shared.
    place.configure("so_reuseport = 1\n");
    let (code, said) = outcome(place.command(&[])).await;
    assert_eq!(code, Some(1));
    assert!(said.contains("unix socket is in use, cannot continue"), "{said}");
}

/// Would break with: a file of another mode or group, or one that can be connected to before it has them.
#[tokio::test]
async fn the_socket_file_has_its_mode_and_its_group() {
    let group = run(Command::new("id").args(
        ["-gn", if common::is_root() { "postgres" } else { "" }].iter().filter(|word| !word.is_empty()),
    ));
    let mut place = Place::new(&format!("unix_socket_mode = 0710\nunix_socket_group = {}\n", group.trim()));
    let mut running = place.start(&[]);
    let meta = std::fs::metadata(place.file(&format!(".s.PGSQL.{}", place.port()))).unwrap();
    assert_eq!(meta.permissions().mode() & 0o7777, 0o710);
    let number = run(Command::new("getent").args(["group", group.trim()]));
    assert_eq!(number.split(':').nth(2).unwrap(), meta.gid().to_string());
    running.signal("TERM");
    assert_eq!(running.ended().await, Some(0));
    place.configure("unix_socket_group = no_such_group\n");
    let (code, said) = outcome(place.command(&[])).await;
    assert_eq!(code, Some(1));
    assert!(said.contains("could not find group 'no_such_group'"), "{said}");
    assert!(!place.file(&format!(".s.PGSQL.{}", place.port())).exists());
}

/// Would break with: a file, or a name that is not PgBouncer's.
#[tokio::test]
async fn an_abstract_socket_has_no_file() {
    let name = format!("pgweir-test-{}", std::process::id());
    let mut place = Place::new(&format!("unix_socket_dir = @{name}\n"));
    let mut running = place.start(&[]);
    running.logged(&format!("listening on unix:@{name}/.s.PGSQL.{}", place.port())).await;
    let address =
        std::os::unix::net::SocketAddr::from_abstract_name(format!("{name}/.s.PGSQL.{}", place.port()))
            .unwrap();
    let stream = std::os::unix::net::UnixStream::connect_addr(&address).unwrap();
    stream.set_nonblocking(true).unwrap();
    let mut client = Raw::over(tokio::net::UnixStream::from_std(stream).unwrap());
    client.start(&[("user", "weir"), ("database", "weir")], "").await;
    assert_eq!(client.value("SELECT 1").await.as_deref(), Some("1"));
    // It is in use like any other.
    place.configure(&format!("listen_addr =\nunix_socket_dir = @{name}\n"));
    let (code, said) = outcome(place.command(&[])).await;
    assert_eq!(code, Some(1));
    assert!(said.contains("unix socket is in use, cannot continue"), "{said}");
    running.signal("INT");
    assert_eq!(running.ended().await, Some(0));
    assert!(std::os::unix::net::UnixStream::connect_addr(&address).is_err());
}
