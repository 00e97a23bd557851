//! Plays a program on a connection and keeps what comes back.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::common::{Message, frontend};
use crate::program::{Program, Step};

/// How long a pooler may keep a client waiting for what it owes.
const STALL: Duration = Duration::from_secs(5);

/// How long PostgreSQL is silent before a wait on it is over. Too short a time makes programs less interesting and
/// nothing else: the other side waits for as many answers as came here.
const SILENCE: Duration = Duration::from_millis(4);

/// How an answer stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// After Terminate.
    Terminated,
    /// The server closed before the program was over.
    Cut,
    /// What was owed did not come.
    Stalled,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// The messages of the login, sorted: parameters may come in any order.
    pub login: Vec<Message>,
    /// All that follow.
    pub answers: Vec<Message>,
    /// How many had come at each wait.
    pub waits: Vec<usize>,
    /// How it ended.
    pub end: End,
}

/// How a wait knows that it is over.
#[derive(Debug, Clone, Copy)]
enum Wait<'a> {
    /// When nothing more comes.
    Silence,
    /// When as many messages have come as elsewhere.
    Counts(&'a [usize]),
}

/// Plays it on PostgreSQL itself.
pub async fn directly(port: u16, program: &Program) -> Heard {
    play(port, program, Wait::Silence).await
}

/// Plays it on a pooler, which is to answer as `expected` says.
pub async fn through_pooler(port: u16, program: &Program, expected: &Heard) -> Heard {
    play(port, program, Wait::Counts(&expected.waits)).await
}

async fn play(port: u16, program: &Program, wait: Wait<'_>) -> Heard {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (input, output) = stream.into_split();
    #[expect(clippy::disallowed_methods, reason = "the program that is played bounds it")]
    let (sender, answers) = mpsc::unbounded_channel();
    // In a task of its own, so that no wait ends in the middle of a message.
    let reader = tokio::spawn(read(input, sender));
    let heard = Heard { login: Vec::new(), answers: Vec::new(), waits: Vec::new(), end: End::Terminated };
    let mut client = Client { output, answers, heard };
    let result = client.run(program, wait).await;
    reader.abort();
    let mut heard = client.heard;
    heard.end = result.err().unwrap_or(End::Terminated);
    heard.login.retain(|message| message.tag != b'K');
    heard.login.sort_by(|one, two| (one.tag, &one.body).cmp(&(two.tag, &two.body)));
    heard
}

async fn read(mut input: OwnedReadHalf, answers: mpsc::UnboundedSender<Message>) -> Option<()> {
    loop {
        let tag = input.read_u8().await.ok()?;
        let length = usize::try_from(input.read_u32().await.ok()?).unwrap();
        let mut body = vec![0; length.checked_sub(4)?];
        input.read_exact(&mut body).await.ok()?;
        answers.send(Message { tag, body }).ok()?;
    }
}

struct Client {
    output: OwnedWriteHalf,
    answers: mpsc::UnboundedReceiver<Message>,
    heard: Heard,
}

impl Client {
    async fn run(&mut self, program: &Program, wait: Wait<'_>) -> Result<(), End> {
        let mut startup = vec![("user", "weir_trust"), ("database", "weir")];
        startup.extend(program.startup.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let mut out = frontend::startup(frontend::VERSION_3_0, &startup);
        self.post(&mut out).await;
        while self.heard.login.last().is_none_or(|message| message.tag != b'Z') {
            let message = self.hear(STALL).await?.ok_or(End::Cut)?;
            self.heard.login.push(message);
        }
        for step in &program.steps {
            match step {
                Step::Send(sent) => out.extend_from_slice(&sent.bytes),
                Step::Cut => {
                    self.post(&mut out).await;
                    tokio::task::yield_now().await;
                }
                Step::Wait => {
                    self.post(&mut out).await;
                    self.pause(wait).await?;
                }
            }
        }
        // What an unfinished batch has to say is heard too.
        out.extend_from_slice(&frontend::flush());
        self.post(&mut out).await;
        self.pause(wait).await?;
        self.post(&mut frontend::terminate()).await;
        while let Some(message) = self.hear(STALL).await? {
            self.heard.answers.push(message);
        }
        Ok(())
    }

    /// A server that is gone does not hear it, which shows in what it says.
    async fn post(&mut self, out: &mut Vec<u8>) {
        if !out.is_empty() {
            let _heard_or_not = timeout(STALL, self.output.write_all(out)).await;
            out.clear();
        }
    }

    async fn hear(&mut self, limit: Duration) -> Result<Option<Message>, End> {
        timeout(limit, self.answers.recv()).await.map_err(|_| End::Stalled)
    }

    async fn pause(&mut self, wait: Wait<'_>) -> Result<(), End> {
        let (limit, wanted) = match wait {
            Wait::Silence => (SILENCE, usize::MAX),
            // Where PostgreSQL closed, its end is awaited.
            Wait::Counts(counts) => {
                (STALL, counts.get(self.heard.waits.len()).copied().unwrap_or(usize::MAX))
            }
        };
        while self.heard.answers.len() < wanted {
            match self.hear(limit).await {
                Ok(Some(message)) => self.heard.answers.push(message),
                Ok(None) => return Err(End::Cut),
                Err(_) if matches!(wait, Wait::Silence) => break,
                Err(end) => return Err(end),
            }
        }
        self.heard.waits.push(self.heard.answers.len());
        Ok(())
    }
}

impl Heard {
    /// Whether the two could be one and the same server. A server that is cut off in the middle of what it says loses
    /// the end of it, more or less.
    pub fn matches(&self, other: &Self) -> bool {
        let shared = self.answers.len().min(other.answers.len());
        let alike = self.answers[..shared] == other.answers[..shared];
        let complete = self.end == End::Cut || self.answers.len() == other.answers.len();
        self.login == other.login && self.end == other.end && alike && complete
    }
}

impl std::fmt::Display for Heard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for message in &self.answers {
            writeln!(f, "  {message:?}")?;
        }
        writeln!(f, "  {:?}", self.end)
    }
}
