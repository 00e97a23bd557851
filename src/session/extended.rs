//! The extended query protocol on the console, which PgBouncer does not speak there: many drivers speak nothing else.
//!
//! <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-EXT-QUERY>
//!
//! A command takes no parameters. Its answer is made of that of the simple protocol: the description goes where it is
//! asked for, and values become binary where that is.

use super::console::{Columns, Console};
use crate::wire::backend::put_row_description_as;
use crate::wire::{HEADER, Piece, Report, Scanner, TooLong, put_binary, put_message, split_cstr, sqlstate};
use bytes::{Buf, BufMut, BytesMut};
use std::collections::HashMap;

/// Statements and portals that a visitor may have, each.
const MANY: usize = 256;

/// What a visitor has prepared.
#[derive(Debug, Default)]
pub(super) struct Extended {
    statements: HashMap<Vec<u8>, Statement>,
    portals: HashMap<Vec<u8>, Portal>,
    /// Something failed: everything up to the next Sync is dropped.
    skipping: bool,
}

#[derive(Debug, Clone)]
struct Statement {
    command: String,
    columns: Columns,
}

#[derive(Debug)]
struct Portal {
    statement: Statement,
    /// Format codes: none is text, one is for all columns.
    formats: Vec<u16>,
    progress: Progress,
}

/// How far an Execute has come.
#[derive(Debug)]
enum Progress {
    New,
    /// It stopped at the rows that were asked for; these messages are left.
    Suspended(BytesMut),
    Done,
}

/// What a message asks for.
#[derive(Debug)]
pub(super) enum Reaction {
    /// Nothing more.
    Said,
    /// That what is there be sent.
    Flush,
    /// A ReadyForQuery.
    Ready,
    /// That a command be run; the answer goes to [`Extended::told`].
    Run { command: String, portal: Running },
}

/// A portal whose command runs.
#[derive(Debug)]
pub(super) struct Running {
    name: Vec<u8>,
    /// As many rows as are wanted; 0 is all.
    rows: u32,
}

/// Fields of a message, from its front.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn name(&mut self) -> Result<Vec<u8>, Report> {
        let (name, rest) = split_cstr(self.0).ok_or_else(malformed)?;
        let name = name.to_vec();
        self.0 = rest;
        Ok(name)
    }

    fn number(&mut self) -> Result<u16, Report> {
        self.0.try_get_u16().map_err(|_| malformed())
    }

    fn numbers(&mut self) -> Result<Vec<u16>, Report> {
        let count = self.number()?;
        (0..count).map(|_| self.number()).collect()
    }
}

impl Extended {
    /// Whether a message comes to nothing, since one before it failed.
    pub(super) fn skips(&mut self, tag: u8) -> bool {
        self.skipping = self.skipping && tag != b'S';
        self.skipping
    }

    pub(super) fn skip_to_sync(&mut self) {
        self.skipping = true;
    }

    /// Answers a message, or says what has to be done for it.
    pub(super) fn heed(
        &mut self,
        tag: u8,
        body: &[u8],
        console: &dyn Console,
        out: &mut BytesMut,
    ) -> Result<Reaction, Report> {
        let mut fields = Fields(body);
        match tag {
            b'P' => self.parse(&mut fields, console).map(|()| out.put_slice(&[b'1', 0, 0, 0, 4]))?,
            b'B' => self.bind(&mut fields).map(|()| out.put_slice(&[b'2', 0, 0, 0, 4]))?,
            b'D' => self.describe(&mut fields, out)?,
            b'E' => return self.execute(&mut fields, out),
            b'C' => self.close(&mut fields).map(|()| out.put_slice(&[b'3', 0, 0, 0, 4]))?,
            b'H' => return Ok(Reaction::Flush),
            b'S' => {
                // There is no transaction that portals could live in.
                self.portals.clear();
                return Ok(Reaction::Ready);
            }
            b'd' | b'c' | b'f' => {} // data of a COPY that never was
            other => return Err(violation(format!("unsupported packet type for admin console: {other}"))),
        }
        Ok(Reaction::Said)
    }

    fn parse(&mut self, fields: &mut Fields<'_>, console: &dyn Console) -> Result<(), Report> {
        let (name, text) = (fields.name()?, fields.name()?);
        let command = String::from_utf8_lossy(&text).into_owned();
        if !name.is_empty() && self.statements.contains_key(&name) {
            let text = format!("prepared statement \"{}\" already exists", String::from_utf8_lossy(&name));
            return Err(Report::error(sqlstate::DUPLICATE_STATEMENT, text));
        }
        let columns = if is_blank(&command) { Vec::new() } else { console.columns(&command)? };
        has_room(self.statements.len())?;
        self.statements.insert(name, Statement { command, columns });
        Ok(())
    }

    fn bind(&mut self, fields: &mut Fields<'_>) -> Result<(), Report> {
        let (portal, name) = (fields.name()?, fields.name()?);
        let statement = self.statement(&name)?.clone();
        let _formats_of_parameters = fields.numbers()?;
        let parameters = fields.number()?;
        if parameters > 0 {
            let text =
                format!("bind message supplies {parameters} parameters, but a console command has none");
            return Err(violation(text));
        }
        let formats = fields.numbers()?;
        if let Some(unknown) = formats.iter().find(|format| **format > 1) {
            return Err(violation(format!("unsupported format code: {unknown}")));
        }
        if formats.len() > 1 && formats.len() != statement.columns.len() {
            let (count, columns) = (formats.len(), statement.columns.len());
            return Err(violation(format!(
                "bind message has {count} result formats but query has {columns} columns"
            )));
        }
        has_room(self.portals.len())?;
        self.portals.insert(portal, Portal { statement, formats, progress: Progress::New });
        Ok(())
    }

    fn describe(&self, fields: &mut Fields<'_>, out: &mut BytesMut) -> Result<(), Report> {
        let (kind, name) = fields.target()?;
        if kind == b'S' {
            let statement = self.statement(&name)?;
            put_message(out, b't', |out| out.put_u16(0)).map_err(too_long)?;
            return put_description(&statement.columns, &[], out).map_err(too_long);
        }
        let portal = self.portals.get(&name).ok_or_else(|| no_portal(&name))?;
        put_description(&portal.statement.columns, &portal.formats, out).map_err(too_long)
    }

    fn execute(&mut self, fields: &mut Fields<'_>, out: &mut BytesMut) -> Result<Reaction, Report> {
        let name = fields.name()?;
        let rows = fields.0.try_get_u32().map_err(|_| malformed())?;
        let running = Running { name, rows };
        let portal = self.portals.get_mut(&running.name).ok_or_else(|| no_portal(&running.name))?;
        if is_blank(&portal.statement.command) {
            out.put_slice(&[b'I', 0, 0, 0, 4]);
            return Ok(Reaction::Said);
        }
        match std::mem::replace(&mut portal.progress, Progress::Done) {
            Progress::New => Ok(Reaction::Run { command: portal.statement.command.clone(), portal: running }),
            Progress::Suspended(rest) => self.told(running, rest, out).map(|()| Reaction::Said),
            Progress::Done => {
                let text = format!("portal \"{}\" cannot be run", String::from_utf8_lossy(&running.name));
                Err(Report::error(sqlstate::OBJECT_NOT_IN_PREREQUISITE_STATE, text))
            }
        }
    }

    /// Passes on what a command has given, as far as its portal wants it.
    pub(super) fn told(
        &mut self,
        running: Running,
        mut messages: BytesMut,
        out: &mut BytesMut,
    ) -> Result<(), Report> {
        let is_other = |(name, portal): (&Vec<u8>, &Portal)| {
            *name != running.name && matches!(portal.progress, Progress::Suspended(_))
        };
        let may_suspend = !self.portals.iter().any(is_other);
        let Some(portal) = self.portals.get_mut(&running.name) else { return Ok(()) };
        let mut rows = 0;
        while let Ok(Piece::Whole { tag, body }) = Scanner::default().next(&messages, u32::MAX) {
            let size = HEADER + body.len();
            match tag {
                b'T' => {}
                // What is left of an answer is kept for one portal only: some answers are long.
                b'D' if running.rows > 0 && rows == running.rows && !may_suspend => {
                    let text = "on the console only one portal at a time can have rows left";
                    return Err(Report::error(sqlstate::PROGRAM_LIMIT_EXCEEDED, text));
                }
                b'D' if running.rows > 0 && rows == running.rows => {
                    out.put_slice(&[b's', 0, 0, 0, 4]);
                    portal.progress = Progress::Suspended(messages);
                    return Ok(());
                }
                b'D' => {
                    rows += 1;
                    put_row(portal, body, out).map_err(too_long)?;
                }
                _ => out.put_slice(&messages[..size]),
            }
            messages.advance(size);
        }
        Ok(())
    }

    fn close(&mut self, fields: &mut Fields<'_>) -> Result<(), Report> {
        let (kind, name) = fields.target()?;
        if kind == b'S' {
            drop(self.statements.remove(&name))
        } else {
            drop(self.portals.remove(&name))
        }
        Ok(())
    }

    fn statement(&self, name: &[u8]) -> Result<&Statement, Report> {
        self.statements.get(name).ok_or_else(|| {
            let text = format!("prepared statement \"{}\" does not exist", String::from_utf8_lossy(name));
            Report::error(sqlstate::UNDEFINED_STATEMENT, text)
        })
    }
}

impl Fields<'_> {
    /// Of a Describe or a Close: statement or portal, and its name.
    fn target(&mut self) -> Result<(u8, Vec<u8>), Report> {
        match self.0.try_get_u8() {
            Ok(kind @ (b'S' | b'P')) => Ok((kind, self.name()?)),
            _ => Err(malformed()),
        }
    }
}

impl Portal {
    fn is_binary(&self, column: usize) -> bool {
        is_binary(&self.formats, column)
    }
}

fn is_binary(formats: &[u16], column: usize) -> bool {
    let of_all = if formats.len() == 1 { formats.first() } else { None };
    of_all.or_else(|| formats.get(column)) == Some(&1)
}

fn put_description(columns: &Columns, formats: &[u16], out: &mut BytesMut) -> Result<(), TooLong> {
    if columns.is_empty() {
        out.put_slice(&[b'n', 0, 0, 0, 4]);
        return Ok(());
    }
    put_row_description_as(out, columns, |column| is_binary(formats, column))
}

/// A row whose values were text.
fn put_row(portal: &Portal, body: &[u8], out: &mut BytesMut) -> Result<(), TooLong> {
    if !portal.formats.contains(&1) {
        return put_message(out, b'D', |out| out.put_slice(body));
    }
    put_message(out, b'D', |out| {
        let mut rest = body;
        out.put_u16(rest.try_get_u16().unwrap_or(0));
        for (column, (_, kind)) in portal.statement.columns.iter().enumerate() {
            let length = usize::try_from(rest.try_get_i32().unwrap_or(-1));
            match length.ok().and_then(|length| rest.split_at_checked(length)) {
                None => out.put_i32(-1),
                Some((value, behind)) => {
                    rest = behind;
                    put_value(portal.is_binary(column), *kind, value, out);
                }
            }
        }
    })
}

fn put_value(binary: bool, kind: crate::wire::backend::Type, value: &[u8], out: &mut BytesMut) {
    match std::str::from_utf8(value) {
        Ok(text) if binary => put_binary(out, kind, text),
        _ => put_binary(out, crate::wire::backend::Type::Text, &String::from_utf8_lossy(value)),
    }
}

fn is_blank(command: &str) -> bool {
    command.trim_matches(|c: char| c.is_whitespace() || c == ';').is_empty()
}

fn has_room(count: usize) -> Result<(), Report> {
    if count < MANY {
        return Ok(());
    }
    let text = format!("a connection to the console may hold {MANY} prepared statements and portals");
    Err(Report::error(sqlstate::PROGRAM_LIMIT_EXCEEDED, text))
}

fn no_portal(name: &[u8]) -> Report {
    let text = format!("portal \"{}\" does not exist", String::from_utf8_lossy(name));
    Report::error(sqlstate::UNDEFINED_PORTAL, text)
}

fn violation(text: impl Into<String>) -> Report {
    Report::error(sqlstate::PROTOCOL_VIOLATION, text)
}

fn malformed() -> Report {
    violation("invalid message format")
}

fn too_long(error: TooLong) -> Report {
    Report::error(sqlstate::INTERNAL_ERROR, error.to_string())
}
