//! A log line as PgBouncer writes it: `TIME ZONE [PID] LEVEL C-0x…: database/user@address:port text`.

use jiff::Zoned;
use std::fmt::{self, Write};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{Format, FormatEvent, FormatFields, Writer};
use tracing_subscriber::registry::LookupSpan;

/// Writes lines of this shape.
#[derive(Debug)]
pub(super) struct PgBouncerShape {
    process: u32,
}

impl Default for PgBouncerShape {
    fn default() -> Self {
        Self { process: std::process::id() }
    }
}

impl<S, N> FormatEvent<S, N> for PgBouncerShape
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut parts = Parts::default();
        event.record(&mut parts);
        write_line(writer, self.process, level_word(*event.metadata().level()), &parts)
    }
}

/// The shape for people.
pub(super) fn human() -> Format {
    tracing_subscriber::fmt::format().with_ansi(false).with_target(false)
}

/// Makes one line of what another shape writes, whatever names and texts hold.
#[derive(Debug)]
pub(super) struct OneLine<F>(pub(super) F);

impl<S, N, F> FormatEvent<S, N> for OneLine<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        Escaped(&mut writer).write_str(line.strip_suffix('\n').unwrap_or(&line))?;
        writer.write_char('\n')
    }
}

/// The line that says why the process ends.
pub(super) fn fatal(text: &str) -> String {
    let mut line = String::new();
    let parts = Parts { message: text.to_owned(), ..Parts::default() };
    // Writing into a String cannot fail.
    let _ = write_line(&mut line, std::process::id(), "FATAL", &parts);
    line
}

/// The text of a line without its time, process and level, which syslog has of its own.
pub(super) fn without_stamp(line: &str) -> &str {
    let behind_process = line.split_once("] ").map_or(line, |(_, rest)| rest);
    behind_process.split_once(' ').map_or(behind_process, |(_, text)| text)
}

fn level_word(level: Level) -> &'static str {
    match level {
        Level::ERROR => "ERROR",
        Level::WARN => "WARNING",
        Level::INFO => "LOG",
        Level::DEBUG => "DEBUG",
        Level::TRACE => "NOISE",
    }
}

fn write_line(mut out: impl Write, process: u32, level: &str, parts: &Parts) -> fmt::Result {
    write!(out, "{} [{process}] {level} ", Zoned::now().strftime("%Y-%m-%d %H:%M:%S%.3f %Z"))?;
    let mut escaped = Escaped(out);
    parts.write(&mut escaped)?;
    escaped.0.write_char('\n')
}

/// The fields of an event, by what they mean.
#[derive(Debug, Default)]
struct Parts {
    message: String,
    /// `C-0x…` or `S-0x…`.
    socket: Option<String>,
    database: Option<String>,
    user: Option<String>,
    address: Option<String>,
    port: Option<u64>,
    others: String,
}

impl Parts {
    fn write(&self, out: &mut impl Write) -> fmt::Result {
        match &self.socket {
            Some(socket) => {
                let database = self.database.as_deref().unwrap_or("(nodb)");
                let user = self.user.as_deref().unwrap_or("(nouser)");
                let address = self.address.as_deref().unwrap_or("unix");
                write!(out, "{socket}: {database}/{user}@{address}:{} ", self.port.unwrap_or(0))?;
                write!(out, "{}{}", self.message, self.others)
            }
            None => {
                write!(out, "{}{}", self.message, self.others)?;
                for (name, value) in [("database", &self.database), ("user", &self.user)] {
                    if let Some(value) = value {
                        write!(out, " {name}={value}")?;
                    }
                }
                Ok(())
            }
        }
    }

    fn take(&mut self, field: &Field, text: String) {
        match field.name() {
            "message" => self.message = text,
            "database" => self.database = Some(text),
            "user" => self.user = Some(text),
            "address" => self.address = Some(text),
            // They stand in the text already, or are there for the other formats.
            "tls" | "replication" | "age" | "application" | "sqlstate" | "role" => {}
            name => {
                // Writing into a String cannot fail.
                let _ = write!(self.others, " {name}={text}");
            }
        }
    }
}

impl Visit for Parts {
    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "client" => self.socket = Some(format!("C-0xc{value:011x}")),
            "server" => self.socket = Some(format!("S-0x5{value:011x}")),
            "port" => self.port = Some(value),
            _ => self.take(field, value.to_string()),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.take(field, format!("{value:?}"));
    }
}

/// Writes control characters so that they cannot be taken for the end of a line: names and texts come from outside.
struct Escaped<W>(W);

impl<W: Write> Write for Escaped<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for part in text.split_inclusive(|c: char| c.is_control()) {
            match part.chars().next_back().filter(|c| c.is_control()) {
                None => self.0.write_str(part)?,
                Some(control) => {
                    self.0.write_str(&part[..part.len() - control.len_utf8()])?;
                    write!(self.0, "{}", control.escape_default())?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line() {
        let line = fatal("no such file\nFATAL: forged\r");
        assert!(line.ends_with(" FATAL no such file\\nFATAL: forged\\r\n"), "{line}");
        assert_eq!(line.lines().count(), 1);
        assert_eq!(without_stamp(line.trim_end()), "no such file\\nFATAL: forged\\r");
    }

    #[test]
    fn who_it_is_about_stands_in_front() {
        let mut parts = Parts { message: "login attempt".to_owned(), ..Parts::default() };
        parts.socket = Some("C-0xc00000000001".to_owned());
        parts.port = Some(5432);
        let mut line = String::new();
        parts.write(&mut line).unwrap();
        assert_eq!(line, "C-0xc00000000001: (nodb)/(nouser)@unix:5432 login attempt");
    }
}
