//! What a client asks for at startup, and what a server of its pool makes of it.

use super::departure::{self, Departure};
use super::link;
use crate::config::Config;
use crate::pool::{PoolId, ServerPool};
use crate::server::{Parameters, QueryError, Settings, is_setting_name};
use crate::wire::{Report, Startup, parse_options, sqlstate};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Requests whose meaning is remembered; a server is asked again for what does not fit.
const REMEMBERED: usize = 4096;

/// Which settings a server made of what clients asked for at startup: `TimeZone=utc` is reported as `UTC`.
#[derive(Debug, Default)]
pub struct Adopted(Mutex<HashMap<Request, Settings>>);

/// What was asked for, and of whom.
type Request = (PoolId, Vec<(String, String)>);

impl Adopted {
    /// Forgets everything, since the servers may have changed.
    pub fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn get(&self, key: &Request) -> Option<Settings> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    fn put(&self, key: Request, settings: Settings) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(key, settings);
    }
}

/// The settings that a StartupMessage asks for: `options` first, then plain parameters, which win.
pub(super) fn asked_for(startup: Startup, config: &Config) -> Result<Vec<(String, String)>, Departure> {
    let is_ignored = &config.ignore_startup_parameters;
    let ignored = |name: &str| !is_ignored.is_empty() && is_ignored.contains(&name.to_ascii_lowercase());
    let mut settings = match startup.parameter("options").map(parse_options) {
        Some(Err(error)) if !ignored("options") => {
            return Err(Report::fatal(sqlstate::SYNTAX_ERROR, error.to_string()).into());
        }
        Some(Ok(settings)) => settings,
        _ => Vec::new(),
    };
    // In `options` they are settings, and there are none of these names.
    if let Some((name, _)) = settings.iter().find(|(name, _)| is_identity(&name.to_ascii_lowercase())) {
        return Err(unrecognized(name));
    }
    settings.extend(startup.parameters.into_iter().filter(|(name, _)| !is_identity(name)));
    settings.retain(|(name, _)| !ignored(name));
    match settings.iter().find(|(name, _)| !is_setting_name(name)) {
        Some((name, _)) => Err(unrecognized(name)),
        None => Ok(settings),
    }
}

/// Parameters that say who and where, and are no settings.
fn is_identity(name: &str) -> bool {
    matches!(name, "user" | "database" | "options" | "replication")
}

fn unrecognized(name: &str) -> Departure {
    let text = format!("unrecognized configuration parameter \"{name}\"");
    Report::fatal(sqlstate::UNDEFINED_OBJECT, text)
        .hint("ignore_startup_parameters drops startup parameters by name.")
        .into()
}

/// What a server of the pool reported at its login. The first client of a pool waits for one.
pub(super) async fn greeting(pool: &Arc<ServerPool>) -> Result<Arc<Parameters>, Departure> {
    if let Some(parameters) = pool.greeting() {
        return Ok(parameters);
    }
    // Boxed, as only the first client has to wait for it.
    let server = Box::pin(pool.checkout())
        .await
        .map_err(|refusal| departure::refused(&refusal, &link::describe(pool)))?;
    let parameters = Arc::clone(&server.state.baseline);
    link::give_back(server);
    Ok(parameters)
}

/// Turns what a client asks for into settings as a server reports them. What speaks for itself or was asked before costs
/// nothing; else a server is asked, and what it refuses is refused with its own words.
pub(super) async fn adopt(
    adopted: &Adopted,
    pool: &Arc<ServerPool>,
    baseline: &Parameters,
    asked: Vec<(String, String)>,
) -> Result<Settings, Departure> {
    let (plain, unclear): (Vec<_>, Vec<_>) =
        asked.into_iter().partition(|(name, value)| speaks_for_itself(name, value, baseline));
    let mut settings = Settings::default();
    if !unclear.is_empty() {
        let key = (pool.id.clone(), unclear);
        settings = match adopted.get(&key) {
            Some(settings) => settings,
            None => {
                // Boxed, as it is rare, and all who log in at once would carry the room for it.
                let settings = Box::pin(ask(pool, key.1.iter().cloned().collect())).await?;
                adopted.put(key, settings.clone());
                settings
            }
        };
    }
    // A name that is all there is to it is known by its report, as if the server had sent it.
    for (name, value) in plain.into_iter().filter(|(name, _)| name == "application_name") {
        settings = settings.after_report(&name, &value, baseline);
    }
    Ok(settings)
}

/// Whether a value will be reported as it stands, or changes nothing.
fn speaks_for_itself(name: &str, value: &str, baseline: &Parameters) -> bool {
    match name {
        "application_name" => value.len() < 64 && value.bytes().all(|byte| matches!(byte, b' '..=b'~')),
        "client_encoding" => {
            let folded = |text: &str| -> String {
                text.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
            };
            baseline.get(name).is_some_and(|fresh| folded(fresh) == folded(value))
        }
        _ => false,
    }
}

/// Applies settings to a server and takes what it reports.
async fn ask(pool: &Arc<ServerPool>, wanted: Settings) -> Result<Settings, Departure> {
    let mut server =
        pool.checkout().await.map_err(|refusal| departure::refused(&refusal, &link::describe(pool)))?;
    let Some(sql) = server.state.transition(&wanted) else {
        link::give_back(server);
        return Ok(wanted);
    };
    let before = server.state.applied.clone();
    server.state.applied = wanted.unless_reported(&before, &server.state.baseline);
    match server.query(&sql).await {
        Ok(()) => {
            server.state.was_reset = false;
            let settings = server.state.applied.clone();
            link::give_back(server);
            Ok(settings)
        }
        Err(QueryError::Refused(report)) => {
            // It happened as a whole or not at all: the server is as it was.
            server.state.applied = before;
            link::give_back(server);
            Err(report.into())
        }
        Err(QueryError::Unclean(unclean)) => {
            Err(Report::fatal(sqlstate::CONNECTION_FAILURE, unclean.to_string()).into())
        }
    }
}
