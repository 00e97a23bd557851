//! Plays a program on a connection and keeps what comes back.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::common::{Message, frontend};
use crate::compare::Way;
use crate::program::{Program, Step};

/// How long a pooler may keep a client waiting for what it owes.
const STALL: Duration = Duration::from_secs(5);

/// How long it may once it has answered something else than it should.
const LOST: Duration = Duration::from_millis(300);

/// How long PostgreSQL is silent before it is looked at, and how often it must be found asleep before a wait on it is over.
const SILENCE: Duration = Duration::from_millis(1);
const LOOKS: u32 = 2;

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
    /// Whether the program changes a table that its statements read.
    pub defines: bool,
}

/// How a wait knows that it is over.
#[derive(Debug, Clone, Copy)]
enum Wait<'a> {
    /// When nothing more comes.
    Silence,
    /// When as many messages have come as elsewhere.
    Answers(&'a Heard),
}

/// Plays it on PostgreSQL itself.
pub async fn directly(port: u16, database: &str, program: &Program) -> Heard {
    let mut heard = play(port, database, program, Wait::Silence).await;
    // A Terminate among COPY data is an error, but not one that anybody could hear who has said goodbye.
    let goodbye = |message: &Message| message.tag == b'E' && message.field('M').contains("message type 0x58");
    if let Some(end) = heard.answers.iter().position(goodbye) {
        heard.answers.truncate(end);
    }
    heard
}

/// Plays it on a pooler, which is to answer as `expected` says.
pub async fn through_pooler(port: u16, database: &str, program: &Program, expected: &Heard) -> Heard {
    play(port, database, program, Wait::Answers(expected)).await
}

async fn play(port: u16, database: &str, program: &Program, wait: Wait<'_>) -> Heard {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (input, output) = stream.into_split();
    let defines = program.mentions(" w");
    // More than any program has answers, so that both sides are read as fast as they write.
    let (sender, answers) = mpsc::channel(100_000);
    // In a task of its own, so that no wait ends in the middle of a message.
    let reader = tokio::spawn(read(input, sender, defines));
    let heard =
        Heard { login: Vec::new(), answers: Vec::new(), waits: Vec::new(), end: End::Terminated, defines };
    let mut client = Client { output, answers, heard, way: Way::At(0) };
    let result = client.run(database, program, wait).await;
    reader.abort();
    let mut heard = client.heard;
    heard.end = result.err().unwrap_or(End::Terminated);
    heard.login.retain(|message| message.tag != b'K');
    heard.login.sort_by(|one, two| (one.tag, &one.body).cmp(&(two.tag, &two.body)));
    heard
}

/// A table that a program changes for good is another one for its second play.
async fn read(mut input: OwnedReadHalf, answers: mpsc::Sender<Message>, defines: bool) -> Option<()> {
    loop {
        let tag = input.read_u8().await.ok()?;
        let length = usize::try_from(input.read_u32().await.ok()?).unwrap();
        let mut body = vec![0; length.checked_sub(4)?];
        input.read_exact(&mut body).await.ok()?;
        if defines && tag == b'T' {
            hide_tables(&mut body);
        }
        answers.send(Message { tag, body }).await.ok()?;
    }
}

/// Takes the tables and their columns' numbers out of a RowDescription.
fn hide_tables(body: &mut [u8]) {
    let mut rest = &mut body[2..];
    while let Some(name) = rest.iter().position(|byte| *byte == 0) {
        let (field, further) = rest[name + 1..].split_at_mut(18);
        field[..6].fill(0);
        rest = further;
    }
}

struct Client {
    output: OwnedWriteHalf,
    answers: mpsc::Receiver<Message>,
    heard: Heard,
    way: Way,
}

impl Client {
    async fn run(&mut self, database: &str, program: &Program, wait: Wait<'_>) -> Result<(), End> {
        let mut startup = vec![("user", "weir_trust"), ("database", database)];
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
        // What an unfinished batch has to say is heard too. PostgreSQL says it before it reads on.
        out.extend_from_slice(&frontend::flush());
        if let Wait::Answers(expected) = wait {
            self.post(&mut out).await;
            let all = if expected.end == End::Terminated { expected.answers.len() } else { usize::MAX };
            self.await_answers(all, expected).await?;
        }
        out.extend_from_slice(&frontend::terminate());
        self.post(&mut out).await;
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
        match wait {
            Wait::Silence => {
                let mut looks = 0;
                while looks < LOOKS {
                    if let Ok(message) = self.hear(SILENCE).await {
                        self.heard.answers.push(message.ok_or(End::Cut)?);
                        looks = 0;
                    } else {
                        looks = if self.backend_sleeps() { looks + 1 } else { 0 };
                    }
                }
            }
            Wait::Answers(expected) => {
                // Where PostgreSQL closed, its end is awaited.
                let wanted = expected.waits.get(self.heard.waits.len());
                self.await_answers(wanted.copied().unwrap_or(usize::MAX), expected).await?;
            }
        }
        self.heard.waits.push(self.heard.answers.len());
        Ok(())
    }

    /// Whether the process that PostgreSQL has given us waits for something, which can only be us.
    fn backend_sleeps(&self) -> bool {
        let key = self.heard.login.iter().find(|message| message.tag == b'K').unwrap();
        let process = u32::from_be_bytes(*key.body.first_chunk().unwrap());
        // One that is gone says no more either.
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_none_or(|(_, state)| state.starts_with('S'))
    }

    async fn await_answers(&mut self, wanted: usize, expected: &Heard) -> Result<(), End> {
        while self.way.is_before(wanted.min(self.way.before_outdated(&expected.answers))) {
            let limit = if self.way == Way::Lost { LOST } else { STALL };
            let message = self.hear(limit).await?.ok_or(End::Cut)?;
            self.way = self.way.next(expected, &message);
            self.heard.answers.push(message);
        }
        Ok(())
    }
}
