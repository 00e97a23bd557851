//! A client that takes a server whenever it can, leaves its own traces on it, and looks for those of others.
//!
//! It gives the names that programs give, to other statements, and has the statements of programs under other names.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::common::raw::tags;
use crate::common::{Message, Raw, frontend};
use crate::dice::Dice;

/// It runs while its gate is open, until it is dropped.
#[derive(Debug)]
pub struct Usurper {
    turns: Arc<AtomicU64>,
    complaint: Arc<Mutex<Option<String>>>,
    task: JoinHandle<()>,
}

impl Usurper {
    /// Starts it.
    pub async fn start(port: u16, database: &str, seed: u64, mut gate: watch::Receiver<bool>) -> Self {
        let (turns, complaint) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(None)));
        let raw = Raw::login(port, "weir_trust", "", database).await;
        let task = tokio::spawn({
            let (turns, complaint) = (Arc::clone(&turns), Arc::clone(&complaint));
            async move {
                let mut life = Life::new(raw, seed);
                while gate.wait_for(|open| *open).await.is_ok() {
                    turns.fetch_add(1, Ordering::Relaxed);
                    if let Err(text) = life.turn().await {
                        *complaint.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
                        return;
                    }
                }
            }
        });
        Self { turns, complaint, task }
    }

    /// What it got that was not its own.
    pub fn complaint(&self) -> Option<String> {
        let complaint = self.complaint.lock().unwrap_or_else(PoisonError::into_inner).clone();
        complaint.or_else(|| self.task.is_finished().then(|| "no answer".to_owned()))
    }

    /// How often it has had a server.
    pub fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }
}

impl Drop for Usurper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A statement, and what it gives. Its parameter, if it has one, is the number of the turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Statement {
    /// What is seen of the session: its time zone, and whether a transaction was begun by somebody else.
    Probe,
    Own,
    Next,
    Zone,
    One,
}

impl Statement {
    const ALL: [Self; 5] = [Self::Probe, Self::Own, Self::Next, Self::Zone, Self::One];

    fn sql(self) -> &'static str {
        match self {
            Self::Probe => "SELECT current_setting('TimeZone'), txid_current_if_assigned() IS NULL, $1::text",
            Self::Own => "SELECT 'the rival', $1::text",
            Self::Next => "SELECT $1::int + 1",
            Self::Zone => "SELECT current_setting('TimeZone'), $1::text",
            Self::One => "SELECT 1",
        }
    }

    fn row(self, zone: &str, number: u64) -> Vec<String> {
        let tag = number.to_string();
        match self {
            Self::Probe => vec![zone.to_owned(), "t".to_owned(), tag],
            Self::Own => vec!["the rival".to_owned(), tag],
            Self::Next => vec![(number + 1).to_string()],
            Self::Zone => vec![zone.to_owned(), tag],
            Self::One => vec!["1".to_owned()],
        }
    }

    /// Bind, Execute and Sync.
    fn run(self, name: &str, number: u64) -> Vec<u8> {
        let tag = number.to_string();
        let parameters = if self == Self::One { &[][..] } else { &[Some(tag.as_str())] };
        [frontend::bind("", name, parameters), frontend::execute("", 0), frontend::sync()].concat()
    }

    fn make(self, name: &str) -> Vec<u8> {
        frontend::parse(name, self.sql(), &[])
    }
}

/// What an answer must be: its messages, and the row in it.
type Wanted = (&'static str, Option<Statement>);

/// What a rival has, as a client of PostgreSQL itself would have it.
struct Life {
    raw: Raw,
    dice: Dice,
    number: u64,
    zone: &'static str,
    unnamed: Option<Statement>,
    named: HashMap<&'static str, Statement>,
}

impl Life {
    fn new(raw: Raw, seed: u64) -> Self {
        let dice = Dice::new(seed.wrapping_add(0x5EED_0FA7_1FA1));
        Self { raw, dice, number: 0, zone: "UTC", unnamed: None, named: HashMap::new() }
    }

    /// One transaction.
    async fn turn(&mut self) -> Result<(), String> {
        self.number += 1;
        let statement = self.dice.pick(&Statement::ALL);
        match self.dice.below(128) {
            0..24 => {
                self.unnamed = Some(statement);
                let request = [statement.make(""), statement.run("", self.number)].concat();
                self.ask(request, ("1 2 D C Z", Some(statement))).await
            }
            24..40 => match self.unnamed {
                Some(known) => self.ask(known.run("", self.number), ("2 D C Z", Some(known))).await,
                None => self.ask(statement.run("", self.number), ("E Z", None)).await,
            },
            40..92 => self.use_name(statement).await,
            92..100 => self.query("SELECT 1/0", "E Z").await,
            100..108 => {
                let probe = Statement::Probe.sql().replace("$1", &format!("'{}'", self.number));
                self.unnamed = None;
                let request = frontend::query(&format!("BEGIN; {probe}; COMMIT"));
                self.ask(request, ("C T D C C Z", Some(Statement::Probe))).await
            }
            108..116 => self.stay(statement).await,
            116..124 => {
                self.zone = self.dice.pick(&["UTC", "UTC", "Asia/Kolkata"]);
                self.query(&format!("SET TimeZone TO '{}'", self.zone), "C Z").await
            }
            124..127 => {
                self.named.clear();
                self.query("DEALLOCATE ALL", "C Z").await
            }
            _ => {
                self.named.clear();
                self.zone = "UTC";
                self.query("DISCARD ALL", "C Z").await
            }
        }
    }

    /// A name that programs give too.
    async fn use_name(&mut self, statement: Statement) -> Result<(), String> {
        let name = self.dice.pick(&["s1", "s2", "a longer name", "of the rival"]);
        let close = frontend::close('S', name);
        match (self.named.get(name).copied(), self.dice.below(8)) {
            (None, 0) => self.ask(statement.run(name, self.number), ("E Z", None)).await,
            (None, _) => {
                self.named.insert(name, statement);
                let request = [statement.make(name), statement.run(name, self.number)].concat();
                self.ask(request, ("1 2 D C Z", Some(statement))).await
            }
            (Some(_), 0) => {
                let request = [statement.make(name), statement.run(name, self.number)].concat();
                self.ask(request, ("E Z", None)).await
            }
            (Some(_), 1) => {
                self.named.remove(name);
                self.ask([close, frontend::sync()].concat(), ("3 Z", None)).await
            }
            (Some(_), 2) => {
                self.named.insert(name, statement);
                let request = [close, statement.make(name), statement.run(name, self.number)].concat();
                self.ask(request, ("3 1 2 D C Z", Some(statement))).await
            }
            (Some(known), _) => self.ask(known.run(name, self.number), ("2 D C Z", Some(known))).await,
        }
    }

    /// A transaction in which the client takes its time.
    async fn stay(&mut self, statement: Statement) -> Result<(), String> {
        self.unnamed = Some(statement);
        self.raw.write(&frontend::query("BEGIN")).await;
        self.expect(("C Z", None), 'T').await?;
        self.raw.write(&[statement.make(""), statement.run("", self.number)].concat()).await;
        self.expect(("1 2 D C Z", Some(statement)), 'T').await?;
        self.query("COMMIT", "C Z").await
    }

    async fn query(&mut self, sql: &str, wanted: &'static str) -> Result<(), String> {
        self.unnamed = None;
        self.ask(frontend::query(sql), (wanted, None)).await
    }

    async fn ask(&mut self, request: Vec<u8>, wanted: Wanted) -> Result<(), String> {
        self.raw.write(&request).await;
        self.expect(wanted, 'I').await
    }

    async fn expect(&mut self, (wanted, statement): Wanted, status: char) -> Result<(), String> {
        let mut answer = Vec::new();
        while answer.last().is_none_or(|last: &Message| last.tag != b'Z') {
            let message = self.raw.read_or_end().await;
            answer.push(message.ok_or_else(|| format!("{answer:?} and then the end"))?);
        }
        let ready = answer.last().is_some_and(|ready| ready.status() == status);
        // ParameterStatus comes wherever a setting has changed.
        answer.retain(|message| message.tag != b'S');
        let row = answer.iter().find(|message| message.tag == b'D').map(Message::columns);
        let mine: Option<Vec<_>> =
            statement.map(|statement| statement.row(self.zone, self.number).into_iter().map(Some).collect());
        if tags(&answer) == wanted && row == mine && ready {
            Ok(())
        } else {
            Err(format!("{answer:?} where {wanted:?} with {mine:?} was due"))
        }
    }
}
