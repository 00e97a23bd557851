//! Plays a program on a connection and keeps what comes back.

use std::time::Duration;

use tokio::time::timeout;

use crate::common::{Message, Raw, frontend};
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
    let mut raw = Raw::open(port).await;
    let mut heard = Heard { login: Vec::new(), answers: Vec::new(), waits: Vec::new(), end: End::Terminated };
    let mut startup = vec![("user", "weir_trust"), ("database", "weir")];
    startup.extend(program.startup.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    raw.write(&frontend::startup(frontend::VERSION_3_0, &startup)).await;
    heard.login = raw.read_until_ready().await;
    heard.login.retain(|message| message.tag != b'K');
    heard.login.sort_by(|one, two| (one.tag, &one.body).cmp(&(two.tag, &two.body)));
    heard.end = match run(&mut raw, program, wait, &mut heard).await {
        Ok(()) => End::Terminated,
        Err(end) => end,
    };
    heard
}

async fn run(raw: &mut Raw, program: &Program, wait: Wait<'_>, heard: &mut Heard) -> Result<(), End> {
    let mut out = Vec::new();
    for step in &program.steps {
        match step {
            Step::Send(sent) => out.extend_from_slice(&sent.bytes),
            Step::Cut => {
                post(raw, &mut out).await;
                tokio::task::yield_now().await;
            }
            Step::Wait => {
                post(raw, &mut out).await;
                pause(raw, wait, heard).await?;
            }
        }
    }
    // What an unfinished batch has to say is heard too.
    out.extend_from_slice(&frontend::flush());
    post(raw, &mut out).await;
    pause(raw, wait, heard).await?;
    post(raw, &mut frontend::terminate()).await;
    loop {
        match timeout(STALL, raw.read_or_end()).await {
            Ok(Some(message)) => heard.answers.push(message),
            Ok(None) => return Ok(()),
            Err(_) => return Err(End::Stalled),
        }
    }
}

/// A server that is gone does not hear it, which shows in what it says.
async fn post(raw: &mut Raw, out: &mut Vec<u8>) {
    if !out.is_empty() {
        let _gone_or_not = raw.try_write(out).await;
        out.clear();
    }
}

async fn pause(raw: &mut Raw, wait: Wait<'_>, heard: &mut Heard) -> Result<(), End> {
    let (limit, wanted) = match wait {
        Wait::Silence => (SILENCE, usize::MAX),
        // Where PostgreSQL closed, its end is awaited.
        Wait::Counts(counts) => (STALL, counts.get(heard.waits.len()).copied().unwrap_or(usize::MAX)),
    };
    while heard.answers.len() < wanted {
        match timeout(limit, raw.read_or_end()).await {
            Ok(Some(message)) => heard.answers.push(message),
            Ok(None) => return Err(End::Cut),
            Err(_) if matches!(wait, Wait::Silence) => break,
            Err(_) => return Err(End::Stalled),
        }
    }
    heard.waits.push(heard.answers.len());
    Ok(())
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
