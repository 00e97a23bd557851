//! A client that speaks the protocol byte by byte.

use std::collections::HashMap;
use std::future::Future;
use std::path::Path;
use std::time::Duration;

use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

use super::{PATIENCE, frontend};

/// One message of a server (or, at a [`FakeServer`](super::FakeServer), of a client).
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// Its type.
    pub tag: u8,
    /// What follows the length word.
    pub body: Vec<u8>,
}

impl Message {
    /// The field `code` of an ErrorResponse or NoticeResponse: `C` is the SQLSTATE, `M` the text, `S` the severity.
    pub fn field(&self, code: char) -> String {
        assert!(matches!(self.tag, b'E' | b'N'), "{self:?} has no fields");
        let mut fields = self.body.split(|byte| *byte == 0).filter(|field| !field.is_empty());
        let field = fields.find(|field| char::from(field[0]) == code);
        field.map(|field| String::from_utf8_lossy(&field[1..]).into_owned()).unwrap_or_default()
    }

    /// The columns of a DataRow; `None` is NULL.
    pub fn columns(&self) -> Vec<Option<String>> {
        assert_eq!(self.tag, b'D', "{self:?} is no row");
        let mut rest = &self.body[2..];
        let count = u16::from_be_bytes([self.body[0], self.body[1]]);
        (0..count).map(|_| take_value(&mut rest)).collect()
    }

    /// The text of a CommandComplete, or any body that is one string.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.body.strip_suffix(&[0]).unwrap_or(&self.body)).into_owned()
    }

    /// The transaction status of a ReadyForQuery: `I`, `T` or `E`.
    pub fn status(&self) -> char {
        assert_eq!(self.tag, b'Z', "{self:?} is no ReadyForQuery");
        char::from(self.body[0])
    }

    /// The two strings of a ParameterStatus.
    pub fn parameter(&self) -> (String, String) {
        assert_eq!(self.tag, b'S', "{self:?} is no ParameterStatus");
        let mut parts =
            self.body.split(|byte| *byte == 0).map(|part| String::from_utf8_lossy(part).into_owned());
        (parts.next().unwrap(), parts.next().unwrap())
    }
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}({})", char::from(self.tag), self.body[..self.body.len().min(300)].escape_ascii())
    }
}

/// The tags of messages in one word, as in `"1 2 D C Z"`.
pub fn tags(messages: &[Message]) -> String {
    messages.iter().map(|message| char::from(message.tag).to_string()).collect::<Vec<_>>().join(" ")
}

/// A byte stream of either kind.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A connection. Everything that reads gives up after [`PATIENCE`] with a panic.
pub struct Raw {
    stream: Box<dyn Stream>,
    /// What ParameterStatus has said so far.
    pub parameters: HashMap<String, String>,
    /// The body of BackendKeyData: what a CancelRequest carries.
    pub key: Vec<u8>,
}

impl Raw {
    /// A TCP connection, with nothing sent on it.
    pub async fn open(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(stream)
    }

    /// A connection over a Unix socket, with nothing sent on it. A pooler that has just started may listen there a
    /// moment later than on its port.
    pub async fn open_unix(folder: &Path, port: u16) -> Self {
        let file = folder.join(format!(".s.PGSQL.{port}"));
        let connecting = async {
            loop {
                match UnixStream::connect(&file).await {
                    Ok(stream) => return stream,
                    Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        };
        Self::over(patiently("connection to the socket", connecting).await)
    }

    /// A connection over any stream, TLS for one.
    pub fn over(stream: impl Stream + 'static) -> Self {
        Self { stream: Box::new(stream), parameters: HashMap::new(), key: Vec::new() }
    }

    /// A connection that is logged in and ready for a query.
    pub async fn login(port: u16, user: &str, password: &str, database: &str) -> Self {
        let mut raw = Self::open(port).await;
        raw.start(&[("user", user), ("database", database)], password).await;
        raw
    }

    /// Sends the StartupMessage and goes through the login, up to ReadyForQuery.
    pub async fn start(&mut self, parameters: &[(&str, &str)], password: &str) {
        if let Err(error) = self.try_start(parameters, password).await {
            panic!("login refused: {error:?}");
        }
    }

    /// [`Self::start`], where the login may fail: with the ErrorResponse.
    pub async fn try_start(&mut self, parameters: &[(&str, &str)], password: &str) -> Result<(), Message> {
        self.write(&frontend::startup(frontend::VERSION_3_0, parameters)).await;
        let user = parameters.iter().find(|(name, _)| *name == "user").map_or("", |(_, user)| user);
        self.authenticate(user, password).await?;
        loop {
            let message = self.read().await;
            match message.tag {
                b'Z' => return Ok(()),
                b'E' => return Err(message),
                _ => {}
            }
        }
    }

    /// Answers what the server asks for, up to AuthenticationOk.
    async fn authenticate(&mut self, user: &str, password: &str) -> Result<(), Message> {
        let mut scram = None;
        loop {
            let message = self.read().await;
            if message.tag != b'R' {
                return Err(message);
            }
            let (kind, data) = message.body.split_at(4);
            match kind[3] {
                0 => return Ok(()),
                3 => self.write(&frontend::password(password)).await,
                5 => {
                    let salt = data.try_into().unwrap();
                    let hash = md5_hash(user.as_bytes(), password.as_bytes(), salt);
                    self.write(&frontend::password(&hash)).await;
                }
                10 => {
                    let exchange = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
                    let first = exchange.message();
                    let size = frontend::size(first.len());
                    let body = [b"SCRAM-SHA-256\0", &size[..], first].concat();
                    self.write(&frontend::message(b'p', &body)).await;
                    scram = Some(exchange);
                }
                11 => {
                    let exchange = scram.as_mut().unwrap();
                    exchange.update(data).unwrap();
                    let last = frontend::message(b'p', exchange.message());
                    self.write(&last).await;
                }
                12 => scram.as_mut().unwrap().finish(data).unwrap(),
                other => panic!("authentication request {other}"),
            }
        }
    }

    /// Writes bytes as they are: messages of [`frontend`], several of them, or a part of one.
    pub async fn write(&mut self, bytes: &[u8]) {
        self.try_write(bytes).await.unwrap();
    }

    /// [`Self::write`], where the other side may be gone.
    pub async fn try_write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        patiently("write", async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        })
        .await
    }

    /// Reads one message; panics at the end of the stream.
    pub async fn read(&mut self) -> Message {
        self.read_or_end().await.unwrap_or_else(|| panic!("the connection was closed"))
    }

    /// Reads one message, or `None` where the stream ends between messages.
    pub async fn read_or_end(&mut self) -> Option<Message> {
        let message = patiently("message", read_message(&mut self.stream)).await?;
        match message.tag {
            b'S' => self.parameters.extend([message.parameter()]),
            b'K' => self.key.clone_from(&message.body),
            _ => {}
        }
        Some(message)
    }

    /// Reads one byte: the answer to an SSLRequest.
    pub async fn read_byte(&mut self) -> u8 {
        patiently("byte", self.stream.read_u8()).await.unwrap()
    }

    /// Reads up to and with the next ReadyForQuery.
    pub async fn read_until_ready(&mut self) -> Vec<Message> {
        self.read_until(b'Z').await
    }

    /// Reads up to and with the next message of this type.
    pub async fn read_until(&mut self, tag: u8) -> Vec<Message> {
        let mut messages = Vec::new();
        loop {
            messages.push(self.read().await);
            if messages.last().is_some_and(|message| message.tag == tag) {
                return messages;
            }
        }
    }

    /// Reads as many messages as `expected` names, as in `"1 2 D C Z"`, and compares their tags.
    pub async fn expect(&mut self, expected: &str) -> Vec<Message> {
        let mut messages = Vec::new();
        for wanted in expected.split(' ') {
            messages.push(self.read().await);
            let got = messages.last().map(|message| char::from(message.tag).to_string());
            assert_eq!(got.as_deref(), Some(wanted), "of {expected:?} came {messages:?}");
        }
        messages
    }

    /// Sends a simple query and reads its whole answer.
    pub async fn query(&mut self, sql: &str) -> Vec<Message> {
        self.write(&frontend::query(sql)).await;
        self.read_until_ready().await
    }

    /// The first column of the first row that a query gives.
    pub async fn value(&mut self, sql: &str) -> Option<String> {
        let answer = self.query(sql).await;
        let row = answer.iter().find(|message| message.tag == b'D');
        row.unwrap_or_else(|| panic!("no row for {sql:?}: {answer:?}")).columns().swap_remove(0)
    }

    /// Reads the end of the stream; panics when a message comes instead. A reset counts as the end.
    pub async fn expect_eof(&mut self) {
        let message = self.read_or_end().await;
        assert!(message.is_none(), "expected the end, got {message:?}");
    }

    /// Whether nothing at all arrives in `time`. For what must *not* come; never to wait for what must.
    pub async fn is_silent_for(&mut self, time: Duration) -> bool {
        tokio::time::timeout(time, self.stream.read_u8()).await.is_err()
    }

    /// Ends the writing half only.
    pub async fn half_close(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// Says goodbye and closes.
    pub async fn terminate(mut self) {
        self.write(&frontend::terminate()).await;
    }
}

impl std::fmt::Debug for Raw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Raw").field("key", &self.key).finish_non_exhaustive()
    }
}

/// Sends a CancelRequest on a connection of its own and waits until that is closed, as libpq does.
pub async fn cancel(port: u16, key: &[u8]) {
    let mut raw = Raw::open(port).await;
    raw.write(&frontend::cancel_request(key)).await;
    raw.expect_eof().await;
}

/// Reads one message of either side, or `None` at the end of the stream.
pub(super) async fn read_message(stream: &mut (impl AsyncRead + Unpin)) -> Option<Message> {
    let tag = stream.read_u8().await.ok()?;
    let length = usize::try_from(stream.read_u32().await.ok()?).unwrap();
    assert!(length >= 4, "a length word of {length} behind {:?}", char::from(tag));
    let mut body = vec![0; length - 4];
    stream.read_exact(&mut body).await.ok()?;
    Some(Message { tag, body })
}

/// Gives up with a panic after [`PATIENCE`]: for what has no deadline of its own, a driver's calls for one.
pub async fn patiently<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("no {what} within {PATIENCE:?}"))
}

/// A value with its 32-bit size before it; a size of -1 is NULL.
fn take_value(rest: &mut &[u8]) -> Option<String> {
    let (size, tail) = rest.split_at(4);
    let size = usize::try_from(i32::from_be_bytes(size.try_into().unwrap())).ok();
    let (value, tail) = tail.split_at(size.unwrap_or(0));
    *rest = tail;
    size.map(|_| String::from_utf8_lossy(value).into_owned())
}
