//! The commands that hold back, close and end: PAUSE, RESUME, KILL, DISABLE, ENABLE, RECONNECT, WAIT_CLOSE, SUSPEND.
//! Texts and order of the checks are PgBouncer's.

use super::{messages, refusal};
use crate::pool::OrderError;
use crate::session::{Answer, Order, Service};
use crate::wire::Report;
use crate::wire::backend::put_command_complete;
use std::sync::Arc;

/// One of these commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Control {
    verb: Verb,
    /// The database; `None` is all of them.
    database: Option<String>,
}

macro_rules! verbs {
    ($($variant:ident = $word:literal),* $(,)?) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        enum Verb { $($variant),* }

        impl Verb {
            const ALL: &'static [Self] = &[$(Self::$variant),*];

            fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }
        }
    };
}

verbs! {
    Disable = "DISABLE",
    Enable = "ENABLE",
    Kill = "KILL",
    Pause = "PAUSE",
    Reconnect = "RECONNECT",
    Resume = "RESUME",
    Suspend = "SUSPEND",
    WaitClose = "WAIT_CLOSE",
}

impl Control {
    /// The command of these words, if it is one.
    #[must_use]
    pub fn of(word: &str, argument: Option<&str>) -> Option<Self> {
        let verb = Verb::ALL.iter().copied().find(|verb| word.eq_ignore_ascii_case(verb.word()))?;
        if verb == Verb::Suspend && argument.is_some() {
            return None;
        }
        Some(Self { verb, database: argument.map(str::to_owned) })
    }

    /// Carries it out. PAUSE and WAIT_CLOSE answer when it is done; whoever gave the order may leave before that, and it
    /// is done all the same.
    pub(super) async fn run(&self, service: &Arc<Service>) -> Answer {
        let database = self.database.as_deref();
        self.check_database(service)?;
        match database {
            None => tracing::info!("{} command issued", self.verb.word()),
            Some(name) => tracing::info!("{} '{name}' command issued", self.verb.word()),
        }
        let pools = &service.pools;
        match (self.verb, database) {
            (Verb::Pause, _) => {
                pools.pause(database).map_err(refused)?;
                pools.until_paused(database).await.map_err(refused)?;
            }
            (Verb::Resume, _) => resume(service, database)?,
            (Verb::Kill, _) => kill(service, database)?,
            (Verb::Reconnect, _) => {
                pools.reconnect(database);
                if service.config.load().pool.care.fast_close {
                    service.clients.list().iter().for_each(|client| client.order(Order::Reconsider));
                }
            }
            (Verb::WaitClose, _) => pools.until_closed(database).await,
            (Verb::Disable, Some(name)) => pools.disable(name, true),
            (Verb::Enable, Some(name)) => pools.disable(name, false),
            (Verb::Disable | Verb::Enable, None) => return Err(refusal("a database is required")),
            (Verb::Suspend, _) => return suspend(),
        }
        messages(|out| put_command_complete(out, self.verb.word()))
    }

    fn check_database(&self, service: &Service) -> Result<(), Report> {
        let Some(name) = self.database.as_deref() else { return Ok(()) };
        let config = service.config.load();
        if config.is_console(name) {
            let what = match self.verb {
                // PgBouncer looks for it only to find that nobody has paused it.
                Verb::Resume => return Err(refused(OrderError::DatabaseNotPaused(name.to_owned()))),
                Verb::WaitClose => "wait in".to_owned(),
                verb => verb.word().to_ascii_lowercase(),
            };
            return Err(refusal(format!("cannot {what} admin db: {name}")));
        }
        if config.database(name).is_none() {
            return Err(refusal(format!("no such database: {name}")));
        }
        Ok(())
    }
}

fn refused(error: OrderError) -> Report {
    let report = refusal(error.to_string());
    match error {
        OrderError::Undone => report.detail("Servers were still in use, and go on."),
        _ => report,
    }
}

/// What was paused by itself, by KILL for example, is not resumed with all; who expects that is told.
fn resume(service: &Service, database: Option<&str>) -> Result<(), Report> {
    service.pools.resume(database).map_err(|error| {
        let paused = service.pools.paused_databases();
        let report = refused(error);
        if database.is_some() || paused.is_empty() {
            return report;
        }
        report.hint(format!("Paused by themselves: {}. RESUME each by its name.", paused.join(", ")))
    })
}

fn kill(service: &Service, database: Option<&str>) -> Result<(), Report> {
    let killed = service.pools.kill(database).map_err(refused)?;
    let clients = service.clients.list();
    let meant = clients.iter().filter(|client| killed.contains(&client.record.who.database));
    meant.for_each(|client| client.order(Order::Remove));
    Ok(())
}

/// PgBouncer has given it up with 1.26. Scripts that still type it get on, and are told.
fn suspend() -> Answer {
    messages(|out| {
        Report::notice("SUSPEND does nothing")
            .hint("PAUSE waits for transactions under way and closes all server connections.")
            .put(out)?;
        put_command_complete(out, "SUSPEND")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_in_any_case() {
        let pause =
            |database: Option<&str>| Control { verb: Verb::Pause, database: database.map(str::to_owned) };
        assert_eq!(Control::of("pause", None), Some(pause(None)));
        assert_eq!(Control::of("Pause", Some("a b")), Some(pause(Some("a b"))));
        assert_eq!(Control::of("PAUSED", None), None);
        assert_eq!(Control::of("SUSPEND", Some("x")), None);
        for verb in Verb::ALL {
            assert!(Control::of(verb.word(), None).is_some());
        }
    }
}
