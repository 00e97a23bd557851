//! A server that does exactly what a test says: for timing and bytes that a real one cannot be made to show.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::frontend::{count, message as backend, size, string};
use super::raw::{Message, patiently, read_message};
use super::until;

/// A listener that runs a script for each connection. It stops when dropped.
#[derive(Debug)]
pub struct FakeServer {
    port: u16,
    accepted: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl FakeServer {
    /// Starts it; `script` is run for each connection, with its number from 0, and the connection is closed when
    /// the script ends.
    pub async fn start<S, F>(script: S) -> Self
    where
        S: Fn(FakeConnection, usize) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (accepted, open) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let task = tokio::spawn(accept(listener, script, Arc::clone(&accepted), Arc::clone(&open)));
        Self { port, accepted, open, task }
    }

    /// A server that answers every query with one row, `1`.
    pub async fn simple() -> Self {
        Self::start(|mut connection, _| async move {
            if connection.greet().await {
                connection.serve().await;
            }
        })
        .await
    }

    /// Its TCP port, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How many connections it has accepted, those for cancel requests included.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// How many scripts run at this moment.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    /// Waits until this many connections were accepted.
    pub async fn has_accepted(&self, connections: usize) {
        until("connection at the fake server", || self.accepted() >= connections).await;
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept<S, F>(listener: TcpListener, script: S, accepted: Arc<AtomicUsize>, open: Arc<AtomicUsize>)
where
    S: Fn(FakeConnection, usize) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    // Dropped with this task, and the scripts with it.
    let mut scripts = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let number = accepted.fetch_add(1, Ordering::SeqCst);
        let script = script(FakeConnection { stream, startup: HashMap::new() }, number);
        let running = Running::start(&open);
        scripts.spawn(async move {
            script.await;
            drop(running);
        });
    }
}

/// Counts a script for as long as it lives, a panic or abort included.
struct Running(Arc<AtomicUsize>);

impl Running {
    fn start(open: &Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(open))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The first packet of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opening {
    /// SSLRequest.
    Ssl,
    /// GSSENCRequest.
    Gss,
    /// CancelRequest, with the process and secret it names.
    Cancel(Vec<u8>),
    /// StartupMessage.
    Startup(HashMap<String, String>),
    /// The other side left.
    End,
}

/// A connection to the fake server.
#[derive(Debug)]
pub struct FakeConnection {
    stream: TcpStream,
    /// The parameters of the StartupMessage.
    pub startup: HashMap<String, String>,
}

impl FakeConnection {
    /// Reads the first packet.
    pub async fn opening(&mut self) -> Opening {
        let Ok(length) = self.stream.read_u32().await else { return Opening::End };
        let mut body = vec![0; usize::try_from(length).unwrap() - 4];
        self.stream.read_exact(&mut body).await.unwrap();
        let (code, rest) = body.split_at(4);
        match u32::from_be_bytes(code.try_into().unwrap()) {
            80_877_102 => Opening::Cancel(rest.to_vec()),
            80_877_103 => Opening::Ssl,
            80_877_104 => Opening::Gss,
            _ => Opening::Startup(parameters(rest)),
        }
    }

    /// Lets the other side log in: no password, the usual parameters, ReadyForQuery. SSL is declined. Says whether
    /// there is somebody to talk to now: not so after a cancel request.
    pub async fn greet(&mut self) -> bool {
        loop {
            match self.opening().await {
                Opening::Ssl | Opening::Gss => self.write(b"N").await,
                Opening::Startup(parameters) => {
                    self.startup = parameters;
                    self.write(&welcome()).await;
                    return true;
                }
                Opening::Cancel(_) | Opening::End => return false,
            }
        }
    }

    /// Answers every query with one row until the other side leaves.
    pub async fn serve(&mut self) {
        while let Some(message) = self.read().await {
            match message.tag {
                b'X' => return,
                b'Q' => self.write(&[one_row("1"), command_complete("SELECT 1"), ready('I')].concat()).await,
                b'S' => self.write(&ready('I')).await,
                b'P' => self.write(&backend(b'1', b"")).await,
                b'B' => self.write(&backend(b'2', b"")).await,
                b'C' => self.write(&backend(b'3', b"")).await,
                b'D' if message.body[0] == b'S' => {
                    self.write(&[backend(b't', &[0, 0]), row_description(&["one"])].concat()).await;
                }
                b'D' => self.write(&row_description(&["one"])).await,
                b'E' => self.write(&[data_row(&[Some("1")]), command_complete("SELECT 1")].concat()).await,
                _ => {}
            }
        }
    }

    /// Reads one message; `None` when the other side has left.
    pub async fn read(&mut self) -> Option<Message> {
        read_message(&mut self.stream).await
    }

    /// Reads messages up to and with the first of this type.
    pub async fn read_until(&mut self, tag: u8) -> Vec<Message> {
        let mut messages = Vec::new();
        loop {
            let message = patiently("message", self.read()).await;
            messages.push(message.unwrap_or_else(|| panic!("the pooler left after {messages:?}")));
            if messages.last().is_some_and(|message| message.tag == tag) {
                return messages;
            }
        }
    }

    /// Writes bytes as they are. Somebody who left does not hear them.
    pub async fn write(&mut self, bytes: &[u8]) {
        let _ended = self.stream.write_all(bytes).await;
    }

    /// Waits until the other side leaves, and drops what it says.
    pub async fn drain(&mut self) {
        while self.read().await.is_some() {}
    }

    /// Closes with a reset instead of an orderly end.
    pub fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    }
}

/// AuthenticationOk, the usual ParameterStatus, BackendKeyData and ReadyForQuery.
pub fn welcome() -> Vec<u8> {
    let parameters = [
        ("server_version", "15.18"),
        ("server_encoding", "UTF8"),
        ("client_encoding", "UTF8"),
        ("DateStyle", "ISO, MDY"),
        ("TimeZone", "UTC"),
        ("integer_datetimes", "on"),
        ("standard_conforming_strings", "on"),
        ("application_name", ""),
    ];
    let statuses = parameters.iter().flat_map(|(name, value)| parameter_status(name, value)).collect();
    [authentication_ok(), statuses, backend_key_data(1, 1), ready('I')].concat()
}

/// AuthenticationOk.
pub fn authentication_ok() -> Vec<u8> {
    backend(b'R', &[0; 4])
}

/// ParameterStatus.
pub fn parameter_status(name: &str, value: &str) -> Vec<u8> {
    backend(b'S', &[string(name), string(value)].concat())
}

/// BackendKeyData.
pub fn backend_key_data(process: u32, secret: u32) -> Vec<u8> {
    backend(b'K', &[process.to_be_bytes(), secret.to_be_bytes()].concat())
}

/// ReadyForQuery.
pub fn ready(status: char) -> Vec<u8> {
    backend(b'Z', &[u8::try_from(status).unwrap()])
}

/// CommandComplete.
pub fn command_complete(tag: &str) -> Vec<u8> {
    backend(b'C', &string(tag))
}

/// RowDescription of text columns.
pub fn row_description(names: &[&str]) -> Vec<u8> {
    let mut body = count(names.len()).to_vec();
    for name in names {
        body.extend([&string(name)[..], &[0; 6], &25_u32.to_be_bytes(), &[255; 6], &[0; 2]].concat());
    }
    backend(b'T', &body)
}

/// DataRow.
pub fn data_row(values: &[Option<&str>]) -> Vec<u8> {
    let mut body = count(values.len()).to_vec();
    for value in values {
        match value {
            Some(text) => body.extend([&size(text.len())[..], text.as_bytes()].concat()),
            None => body.extend((-1_i32).to_be_bytes()),
        }
    }
    backend(b'D', &body)
}

/// ErrorResponse.
pub fn error(severity: &str, code: &str, text: &str) -> Vec<u8> {
    notice_like(b'E', severity, code, text)
}

/// NoticeResponse.
pub fn notice(text: &str) -> Vec<u8> {
    notice_like(b'N', "NOTICE", "00000", text)
}

/// NotificationResponse.
pub fn notification(channel: &str, payload: &str) -> Vec<u8> {
    backend(b'A', &[&7_u32.to_be_bytes(), &string(channel)[..], &string(payload)].concat())
}

fn notice_like(tag: u8, severity: &str, code: &str, text: &str) -> Vec<u8> {
    let fields = [('S', severity), ('V', severity), ('C', code), ('M', text)];
    let body: String = fields.iter().map(|(field, value)| format!("{field}{value}\0")).collect();
    backend(tag, &string(&body))
}

fn one_row(value: &str) -> Vec<u8> {
    [row_description(&["one"]), data_row(&[Some(value)])].concat()
}

fn parameters(body: &[u8]) -> HashMap<String, String> {
    let texts: Vec<String> =
        body.split(|byte| *byte == 0).map(|text| String::from_utf8_lossy(text).into_owned()).collect();
    texts
        .chunks_exact(2)
        .filter(|pair| !pair[0].is_empty())
        .map(|pair| (pair[0].clone(), pair[1].clone()))
        .collect()
}
