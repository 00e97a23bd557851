//! What is fuzzed: each function takes any bytes, and panics when something does not hold.
//!
//! The targets of cargo-fuzz call them, and so does `tests/fuzz_smoke.rs`, on a stable compiler and for a moment only.

use bytes::BytesMut;
use pgweir::auth::UserList;
use pgweir::auth::hba::{IdentMaps, Visit, Way, parse};
use pgweir::config::{Config, Loaded, check_report, convert};
use pgweir::wire::backend::{
    backend_key, command_tag, parameter_status, put_backend_key, put_parameter_status,
};
use pgweir::wire::frontend::{bind_statement, parse_name, target};
use pgweir::wire::{
    Fields, HEADER, Malformed, Piece, Scanner, Severity, StartupPacket, parse_options, startup_body_length,
};
use std::path::PathBuf;

/// Takes any bytes; panics when something does not hold.
pub type Target = fn(&[u8]);

/// Each target by its name.
pub const TARGETS: [(&str, Target); 7] = [
    ("frontend_stream", frontend_stream),
    ("startup_packet", startup_packet),
    ("options", options),
    ("backend_bodies", backend_bodies),
    ("userlist", userlist),
    ("hba", hba),
    ("config_text", config_text),
];

/// Longest message that the scanner lets through here.
const LIMIT: u32 = 1 << 16;

/// A client's stream, split as a network may split it, is the same messages as in one piece. The first byte is the
/// window, the second the number of bytes that say where to split.
pub fn frontend_stream(data: &[u8]) {
    let Some((&[window, count], rest)) = data.split_first_chunk::<2>() else { return };
    let Some((sizes, stream)) = rest.split_at_checked(usize::from(count)) else { return };
    let window = HEADER.max(usize::from(window));
    let (mut chunks, mut left) = (Vec::new(), stream);
    for &size in sizes {
        let (chunk, tail) = left.split_at(usize::from(size).min(left.len()));
        chunks.push(chunk);
        left = tail;
    }
    chunks.push(left);
    assert_eq!(messages(&chunks, window), messages(&[stream], usize::MAX), "window {window}");
}

/// The messages in a stream, and how it ends: in the midst of one, or with one that is malformed.
type Messages = (Vec<(u8, Vec<u8>)>, Option<Malformed>);

/// Walks a stream as the relay does: a message that does not fit the window is begun, a smaller one is awaited.
fn messages(chunks: &[&[u8]], window: usize) -> Messages {
    let (mut scanner, mut held) = (Scanner::default(), Vec::new());
    let mut found: Vec<(u8, Vec<u8>)> = Vec::new();
    for chunk in chunks {
        held.extend_from_slice(chunk);
        loop {
            let taken = match scanner.next(&held, LIMIT) {
                Err(error) => return (found, Some(error)),
                Ok(Piece::Nothing | Piece::Rest(0)) => break,
                Ok(Piece::Rest(count)) => {
                    let last = found.last_mut().expect("a rest follows a head");
                    last.1.extend_from_slice(&held[..count]);
                    scanner.take_rest(count);
                    count
                }
                Ok(Piece::Whole { tag, body }) => {
                    look_at(body);
                    found.push((tag, body.to_vec()));
                    HEADER + body.len()
                }
                Ok(Piece::Head { size, .. }) if size <= window => break,
                Ok(Piece::Head { tag, body, size }) => {
                    look_at(body);
                    found.push((tag, body.to_vec()));
                    scanner.take_head(size, HEADER + body.len());
                    HEADER + body.len()
                }
            };
            held.drain(..taken);
        }
    }
    // What has begun and is not complete may be held or found, by the window.
    if !scanner.is_between() {
        found.pop();
    }
    (found, None)
}

/// The names in a body are parts of it.
fn look_at(body: &[u8]) {
    for name in [parse_name(body), bind_statement(body)].into_iter().flatten() {
        assert!(name.len() < body.len());
    }
    let _any = target(body);
}

/// A first packet is read or refused; what is read is written as it was.
pub fn startup_packet(data: &[u8]) {
    let Some((word, body)) = data.split_first_chunk::<4>() else { return };
    if let Ok(length) = startup_body_length(*word) {
        assert!((4..=10_000).contains(&length));
    }
    let Ok(packet) = StartupPacket::parse(body) else { return };
    let mut out = BytesMut::new();
    match &packet {
        StartupPacket::Startup(startup) => {
            let mut plain = startup.clone();
            plain.protocol_options.clear();
            plain.put(&mut out).expect("it was short enough to be read");
            assert_eq!(StartupPacket::parse(&out[4..]), Ok(StartupPacket::Startup(plain)));
        }
        StartupPacket::Cancel(key) => {
            key.put_request(&mut out).expect("it was short enough to be read");
            assert_eq!(StartupPacket::parse(&out[4..]), Ok(packet));
        }
        StartupPacket::Ssl | StartupPacket::Gss => assert_eq!(body.len(), 4),
    }
}

/// The startup parameter `options`: what it names has a name.
pub fn options(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for (name, _) in parse_options(text).into_iter().flatten() {
        assert!(!name.is_empty() && !name.contains('='));
    }
}

/// Bodies of ParameterStatus, BackendKeyData, CommandComplete, ErrorResponse and NoticeResponse.
pub fn backend_bodies(data: &[u8]) {
    let mut out = BytesMut::new();
    if let Some((name, value)) = parameter_status(data)
        && let (Ok(name), Ok(value)) = (std::str::from_utf8(name), std::str::from_utf8(value))
    {
        put_parameter_status(&mut out, name, value).expect("it was short enough to be read");
        assert_eq!(parameter_status(&out[HEADER..]), Some((name.as_bytes(), value.as_bytes())));
        out.clear();
    }
    if let Some(key) = backend_key(data) {
        put_backend_key(&mut out, &key).expect("it was short enough to be read");
        assert_eq!(&out[HEADER..], data);
        out.clear();
    }
    assert!(command_tag(data).len() <= data.len());
    let fields = Fields(data);
    let _any = (fields.sqlstate(), fields.severity(), fields.ends_session());
    let report = fields.to_report(Severity::Error);
    report.put(&mut out).expect("it was short enough to be read");
    assert_eq!(Fields(&out[HEADER..]).message(), report.message);
}

/// The file of users and secrets: each user that is listed is found.
pub fn userlist(data: &[u8]) {
    if let Ok(users) = UserList::parse(data) {
        assert!(users.users().all(|user| users.get(user).is_some()));
        let _shows_no_secret = format!("{users:?}");
    }
}

/// Rules and maps: each line that says something is a rule or a flaw, a rule read again is the same rule, and nobody is let
/// in by a line that is not there.
pub fn hba(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (maps, _flaws) = IdentMaps::parse(text);
    let files =
        |name: &str| if name == "names" { Ok("alice, all @names".to_owned()) } else { Err(String::new()) };
    let parsed = parse(text, &maps, &files);
    let said = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).count();
    assert_eq!(parsed.hba.rules().len() + parsed.flaws.len(), said);
    for rule in parsed.hba.rules() {
        let again = parse(&rule.to_string(), &maps, &files);
        let [same] = again.hba.rules() else { panic!("{rule} is no rule of its own") };
        assert_eq!((same.to_string(), same.method()), (rule.to_string(), rule.method()));
    }
    for way in [Way::Unix, Way::Plain([127, 0, 0, 1].into()), Way::Tls(std::net::Ipv6Addr::LOCALHOST.into())]
    {
        let visit = Visit { database: "weir", user: "alice", replication: data.len() % 2 == 0, way };
        if let Some(rule) = parsed.hba.find(&visit) {
            assert!(parsed.flaws.iter().all(|flaw| flaw.line != rule.line()));
        }
    }
}

/// A configuration is read or refused with reasons; one that is read can be shown, and an ini can be converted to a
/// TOML file that comes to the same.
pub fn config_text(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if reaches_out(text) {
        return;
    }
    let Some((file, loaded)) = written("ini", text).and_then(load) else { return };
    let _report = check_report(&loaded);
    if let Ok(toml) = convert(&file.0) {
        let again = written("toml", &toml).and_then(load);
        let (_file, again) = again.unwrap_or_else(|| panic!("the conversion is refused:\n{toml}"));
        let mut config = Config::clone(&again.config);
        config.file.clone_from(&loaded.config.file);
        assert_eq!(config, *loaded.config, "the conversion comes to something else:\n{toml}");
    }
}

fn load(file: Scratch) -> Option<(Scratch, Loaded)> {
    match Config::load(&file.0, &|_| None) {
        Ok(loaded) => Some((file, loaded)),
        Err(errors) => {
            assert!(!errors.0.is_empty() && !errors.to_string().is_empty());
            None
        }
    }
}

/// Whether a text may name other files or hosts: those are not for a fuzzer.
fn reaches_out(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    ["include", "_file", "listen", "\\"].into_iter().any(|word| text.contains(word))
}

/// A file of this thread's own, removed on drop.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _gone_already = std::fs::remove_file(&self.0);
    }
}

/// Writes a text where [`Config::load`] can read it; `None` on a full disk.
fn written(extension: &str, text: &str) -> Option<Scratch> {
    let thread = format!("{:?}", std::thread::current().id()).replace(['(', ')'], "-");
    let name = format!("pgweir-fuzz-{}-{thread}.{extension}", std::process::id());
    let file = Scratch(std::env::temp_dir().join(name));
    std::fs::write(&file.0, text).ok().map(|()| file)
}
