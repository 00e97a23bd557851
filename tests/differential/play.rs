//! Plays a program on a connection and keeps what comes back.

use std::fmt::Write as _;
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

/// How long it may once it has answered something else than it should.
const LOST: Duration = Duration::from_millis(300);

/// How long PostgreSQL is silent before it is looked at, and how often it must be found asleep before a wait on it is over.
const SILENCE: Duration = Duration::from_millis(1);
const LOOKS: u32 = 2;

/// How many answers are shown of each side.
const SHOWN: usize = 6;

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
    defines: bool,
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

/// How far what is heard is what is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// So many of the expected answers have come.
    At(usize),
    /// Something else has come.
    Lost,
    /// The pooler has made a statement afresh, which PostgreSQL has not: from here on nothing can be expected.
    Free,
}

impl Way {
    fn is_before(self, wanted: usize) -> bool {
        match self {
            Self::At(at) => at < wanted,
            Self::Lost => true,
            Self::Free => false,
        }
    }

    /// Where the next answer is that tells of an outdated plan. There is no answer in its place if the request is sent again
    /// and its client has not asked for one.
    fn before_outdated(self, expected: &[Message]) -> usize {
        let Self::At(at) = self else { return usize::MAX };
        let outdated = expected[at.min(expected.len())..].iter().position(is_outdated);
        let is_described = |at: usize| at > 0 && expected[at - 1].tag == b't';
        outdated.map_or(usize::MAX, |further| at + further - usize::from(is_described(at + further)))
    }

    fn next(self, heard: &Heard, message: &Message) -> Self {
        let Self::At(at) = self else { return self };
        let expected = &heard.answers[..];
        let Some(due) = expected.get(at) else { return Self::Lost };
        if alike(due, message) {
            return Self::At(at + 1);
        }
        if is_warning_of_parse(due) {
            return Self::At(at + 1).next(heard, message);
        }
        if self.before_outdated(expected) <= at || (heard.defines && is_made_afresh(due, message)) {
            return Self::Free;
        }
        if let Some(at) = evaluated(expected, at, message) {
            return Self::At(at);
        }
        // The rest of the batch is skipped in both.
        let ready = expected[at..].iter().position(|message| message.tag == b'Z');
        let ready = ready.map_or(expected.len(), |ready| at + ready);
        let failed = expected.get(ready).is_none_or(|ready| ready.status() == 'E');
        if failed && cannot_be_made(message) { Self::At(ready) } else { Self::Lost }
    }
}

/// Whether two answers are the same to a client.
fn alike(postgresql: &Message, pgweir: &Message) -> bool {
    postgresql == pgweir || essence(postgresql) == essence(pgweir) || both_in_copy(postgresql, pgweir)
}

/// What a client may rely on. A statement that has to be made on another server first is refused in a failed
/// transaction by another function of PostgreSQL's than otherwise, in the same words.
fn essence(message: &Message) -> Message {
    let mut message = message.clone();
    if message.tag == b'E' && message.field('C') == "25P02" {
        let fields = message.body.split_inclusive(|byte| *byte == 0);
        message.body = fields.filter(|field| !matches!(field[0], b'L' | b'R')).flatten().copied().collect();
    }
    message
}

/// Exception: a statement that the server lacks cannot be made in a failed transaction. Whatever else may be wrong with
/// a message that needs it, or could be told of it in spite of that, is not found out.
fn cannot_be_made(pgweir: &Message) -> bool {
    pgweir.tag == b'E' && pgweir.field('C') == "25P02" && pgweir.field('R') == "exec_parse_message"
}

/// Exception: a statement is made afresh once its table was changed. Then its parameters have the types that the table has
/// now; and when the table is gone or lacks a column, that is found out sooner than what else is wrong.
fn is_made_afresh(postgresql: &Message, pgweir: &Message) -> bool {
    let code = |message: &Message| if message.tag == b'E' { message.field('C') } else { String::new() };
    let is_refused = matches!(code(pgweir).as_str(), "42P01" | "42703" | "42601" | "42804");
    let is_late = postgresql.tag == b't' || matches!(code(postgresql).as_str(), "08P01" | "22P02");
    is_late && (is_refused || pgweir.tag == b't')
}

/// Exception: PostgreSQL refuses a statement whose plan is outdated, as often as it is used. The pooler makes it afresh
/// where its client cannot know.
fn is_outdated(postgresql: &Message) -> bool {
    postgresql.tag == b'E' && postgresql.field('M') == "cached plan must not change result type"
}

/// Exception: PostgreSQL plans a statement for its parameters the first times, and finds out at Bind what cannot be
/// computed from these. A statement that many share has a plan for all parameters sooner, and it comes out at Execute; one
/// that was made afresh has none, and it comes out at Bind.
fn evaluated(expected: &[Message], at: usize, pgweir: &Message) -> Option<usize> {
    let is_between = |message: &Message| matches!(message.tag, b'2' | b'T' | b'n');
    let is_failure = |message: &Message| message.tag == b'E' && message.field('C').starts_with("22");
    if is_failure(&expected[at]) && is_between(pgweir) {
        return Some(at);
    }
    let failure = at + expected[at..].iter().position(|message| !is_between(message))?;
    (is_failure(pgweir) && alike(&expected[failure], pgweir)).then_some(failure + 1)
}

/// Exception: what PostgreSQL warns of when it reads a text is not said again of a statement that is there.
fn is_warning_of_parse(postgresql: &Message) -> bool {
    postgresql.tag == b'N' && postgresql.field('C') == "22P06"
}

/// Exception: where a Parse, a Bind or a Describe is sent behind a COPY before that is known to be one, the COPY finds first what
/// was put in front of it, and names the type of that.
fn both_in_copy(postgresql: &Message, pgweir: &Message) -> bool {
    let found = |message: &Message| {
        let is_error = message.tag == b'E' && message.field('C') == "08P01";
        let text = if is_error { message.field('M') } else { String::new() };
        text.strip_prefix("unexpected message type ")
            .map(|text| text.split_once(" during COPY").map_or("", |(found, _)| found).to_owned())
    };
    let (direct, pooled) = (found(postgresql), found(pgweir));
    match pooled.as_deref() {
        Some("0x50") => matches!(direct.as_deref(), Some("0x42" | "0x44")),
        Some("0x43") => matches!(direct.as_deref(), Some("0x42" | "0x44" | "0x50")),
        _ => false,
    }
}

impl Heard {
    /// Whether the two could be one and the same server. A server that is cut off in the middle of what it says loses
    /// the end of it, more or less.
    pub fn matches(&self, pgweir: &Self) -> bool {
        let way = self.way(&pgweir.answers);
        let complete = match way {
            Way::Free => return true,
            Way::At(at) => at == self.answers.len() || self.end == End::Cut,
            Way::Lost => self.end == End::Cut && self.equal_answers(pgweir) == self.answers.len(),
        };
        self.login == pgweir.login && self.end == pgweir.end && complete
    }

    /// Whether they were compared only up to a plan that was outdated for PostgreSQL.
    pub fn is_outdated_for(&self, pgweir: &Self) -> bool {
        self.way(&pgweir.answers) == Way::Free
    }

    /// Whether the two are the same without any exception.
    pub fn equals(&self, pgweir: &Self) -> bool {
        let (one, two) = (self.answers.len(), pgweir.answers.len());
        self.matches(pgweir)
            && (one == two || self.end == End::Cut)
            && self.answers.iter().zip(&pgweir.answers).all(|(one, two)| essence(one) == essence(two))
    }

    fn way(&self, answers: &[Message]) -> Way {
        answers.iter().fold(Way::At(0), |way, message| way.next(self, message))
    }

    fn equal_answers(&self, pgweir: &Self) -> usize {
        let mut way = Way::At(0);
        let on_the_way = pgweir.answers.iter().take_while(|message| {
            way = way.next(self, message);
            way != Way::Lost
        });
        on_the_way.count()
    }

    /// Shows where the two part.
    pub fn difference(&self, pgweir: &Self) -> String {
        let same = self.equal_answers(pgweir);
        let mut text = String::new();
        if self.login != pgweir.login {
            writeln!(text, " logins\n  {:?}\n  {:?}", self.login, pgweir.login).unwrap();
        }
        for (who, heard) in [("PostgreSQL", self), ("pgweir", pgweir)] {
            writeln!(text, " {who}, after {same} equal answers:").unwrap();
            for message in heard.answers.iter().skip(same).take(SHOWN) {
                writeln!(text, "  {message:?}").unwrap();
            }
            writeln!(text, "  {} in all, {:?}", heard.answers.len(), heard.end).unwrap();
        }
        text
    }
}
