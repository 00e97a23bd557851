//! A program: what a client sends, message by message, and where it waits for answers.

use std::ops::Range;

use crate::common::frontend;

/// A message of a client, and how it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// For people.
    pub label: String,
    /// For the wire.
    pub bytes: Vec<u8>,
}

/// One thing that a client does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// It sends a message; messages in a row go out in one write.
    Send(Sent),
    /// What was sent so far goes out in a write of its own, and nobody waits.
    Cut,
    /// It reads all answers that come before it goes on.
    Wait,
}

/// What one client does, from login to Terminate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Startup parameters, beside user and database.
    pub startup: Vec<(String, String)>,
    /// What follows the login.
    pub steps: Vec<Step>,
}

impl Program {
    /// How many messages it sends.
    pub fn messages(&self) -> usize {
        self.steps.iter().filter(|step| matches!(step, Step::Send(_))).count()
    }

    /// Whether a message of it has this word in what people see of it.
    pub fn mentions(&self, word: &str) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Send(sent) if sent.label.contains(word)))
    }

    /// The same without some of its steps.
    pub fn without(&self, steps: Range<usize>) -> Self {
        let mut shorter = self.clone();
        shorter.steps.drain(steps.start..steps.end.min(self.steps.len()));
        shorter
    }
}

impl std::fmt::Display for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "  startup {:?}", self.startup)?;
        for step in &self.steps {
            match step {
                Step::Send(sent) => writeln!(f, "  {}", sent.label)?,
                Step::Cut => writeln!(f, "  -- cut")?,
                Step::Wait => writeln!(f, "  -- wait")?,
            }
        }
        Ok(())
    }
}

fn sent(label: String, bytes: Vec<u8>) -> Sent {
    Sent { label, bytes }
}

/// Query.
pub fn query(sql: &str) -> Sent {
    sent(format!("Query {}", shorten(sql)), frontend::query(sql))
}

/// Parse.
pub fn parse(name: &str, sql: &str, types: &[u32]) -> Sent {
    let label = format!("Parse {name:?} {} {types:?}", shorten(sql));
    sent(label, frontend::parse(name, sql, types))
}

/// Bind.
pub fn bind(portal: &str, statement: &str, parameters: &[Option<&str>]) -> Sent {
    let shown: Vec<_> = parameters.iter().map(|value| value.map(shorten)).collect();
    let label = format!("Bind {portal:?} {statement:?} {shown:?}");
    sent(label, frontend::bind(portal, statement, parameters))
}

/// Describe.
pub fn describe(kind: char, name: &str) -> Sent {
    sent(format!("Describe {kind} {name:?}"), frontend::describe(kind, name))
}

/// Close.
pub fn close(kind: char, name: &str) -> Sent {
    sent(format!("Close {kind} {name:?}"), frontend::close(kind, name))
}

/// Execute.
pub fn execute(portal: &str, rows: u32) -> Sent {
    sent(format!("Execute {portal:?} {rows}"), frontend::execute(portal, rows))
}

/// Sync.
pub fn sync() -> Sent {
    sent("Sync".to_owned(), frontend::sync())
}

/// Flush.
pub fn flush() -> Sent {
    sent("Flush".to_owned(), frontend::flush())
}

/// FunctionCall.
pub fn function_call(oid: u32, arguments: &[&str]) -> Sent {
    sent(format!("FunctionCall {oid} {arguments:?}"), frontend::function_call(oid, arguments))
}

/// CopyData.
pub fn copy_data(data: &str) -> Sent {
    sent(format!("CopyData {}", shorten(data)), frontend::copy_data(data.as_bytes()))
}

/// CopyDone.
pub fn copy_done() -> Sent {
    sent("CopyDone".to_owned(), frontend::copy_done())
}

/// CopyFail.
pub fn copy_fail() -> Sent {
    sent("CopyFail".to_owned(), frontend::copy_fail("no more"))
}

/// A message with a body that its type does not have.
pub fn odd(tag: u8, body: &[u8]) -> Sent {
    let label = format!("odd {:?} {:?}", char::from(tag), body.escape_ascii().to_string());
    sent(label, frontend::message(tag, body))
}

fn shorten(text: &str) -> String {
    if text.len() <= 120 { format!("{text:?}") } else { format!("{:?}… of {}", &text[..60], text.len()) }
}
