//! A client that takes the server whenever it can, leaves its own traces on it, and looks for those of others.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::JoinHandle;

use crate::common::raw::tags;
use crate::common::{Message, Raw, frontend};

/// It runs until it is dropped.
#[derive(Debug)]
pub struct Usurper {
    turns: Arc<AtomicU64>,
    complaint: Arc<Mutex<Option<String>>>,
    task: JoinHandle<()>,
}

impl Usurper {
    /// Starts it.
    pub async fn start(port: u16, database: &str) -> Self {
        let (turns, complaint) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(None)));
        let mut raw = Raw::login(port, "weir_trust", "", database).await;
        raw.query("SET TimeZone TO 'Asia/Kolkata'").await;
        let task = tokio::spawn({
            let (turns, complaint) = (Arc::clone(&turns), Arc::clone(&complaint));
            async move {
                loop {
                    let number = turns.fetch_add(1, Ordering::Relaxed);
                    if let Err(text) = turn(&mut raw, number).await {
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

    /// Ends it. Tells how often it has had the server.
    pub async fn stop(mut self) -> u64 {
        self.task.abort();
        let _aborted = (&mut self.task).await;
        self.turns.load(Ordering::Relaxed)
    }
}

impl Drop for Usurper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What is seen of the session: its time zone, whether a transaction was begun by somebody else, and the tag.
const PROBE: &str = "SELECT current_setting('TimeZone'), txid_current_if_assigned() IS NULL, $1::text";

/// One transaction. The unnamed statement of the first kind is used again by the second.
async fn turn(raw: &mut Raw, number: u64) -> Result<(), String> {
    let tag = format!("turn {number}");
    let bind = [frontend::bind("", "", &[Some(&tag)]), frontend::execute("", 0), frontend::sync()].concat();
    let (request, wanted) = match number % 4 {
        0 => ([frontend::parse("", PROBE, &[]), bind].concat(), "1 2 D C Z"),
        1 => (bind, "2 D C Z"),
        2 => (
            frontend::query(&format!("BEGIN; {}; COMMIT", PROBE.replace("$1", &format!("'{tag}'")))),
            "C T D C C Z",
        ),
        _ => (frontend::query("SELECT 1/0"), "E Z"),
    };
    raw.write(&request).await;
    let mut answer = Vec::new();
    while answer.last().is_none_or(|last: &Message| last.tag != b'Z') {
        let message = raw.read_or_end().await;
        answer.push(message.ok_or_else(|| format!("{answer:?} and then the end"))?);
    }
    let row = answer.iter().find(|message| message.tag == b'D').map(Message::columns);
    let mine = ["Asia/Kolkata", "t", &tag].map(|text| Some(text.to_owned()));
    let is_mine =
        row.is_none_or(|row| row == mine) && answer.last().is_some_and(|ready| ready.status() == 'I');
    if tags(&answer) == wanted && is_mine { Ok(()) } else { Err(format!("{answer:?}")) }
}
