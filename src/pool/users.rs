//! The users of the auth file, and the file's changes: it is read again when it is another one, without a reload.

use crate::auth::{Iterations, Method, StoredSecret, Terms, UserList};
use crate::config::{Auth, AuthMethod};
use arc_swap::ArcSwap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Why an auth file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("auth_file {}: {reason}", path.display())]
pub struct AuthFileError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

/// The users, as of the file's last good state.
#[derive(Debug)]
pub struct Users {
    now: ArcSwap<Listed>,
    /// How the file looked when it was last read, whatever came of it.
    seen: Mutex<Option<Stamp>>,
    /// Held while the file is read: of many logins one reads it, and the others wait for it.
    reading: tokio::sync::Mutex<()>,
}

/// One state of the file.
#[derive(Debug)]
pub struct Listed {
    /// Users and their secrets.
    pub list: UserList,
    /// How clients are asked who they are.
    pub terms: Terms,
    source: Arc<Source>,
    stamp: Option<Stamp>,
}

/// What a list is made of.
#[derive(Debug)]
struct Source {
    path: Option<PathBuf>,
    method: Method,
    iterations: Iterations,
}

/// What tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Listed {
    /// Reads the file of a configuration. Without one nobody is listed.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or a line of it.
    pub fn load(auth: &Auth) -> Result<Self, AuthFileError> {
        Self::read(Arc::new(Source::of(auth)))
    }

    /// The same at the start, where a file that is not there yet lists nobody, as for PgBouncer: logins find it as soon as
    /// it is there.
    ///
    /// # Errors
    ///
    /// When it is there and cannot be read, or a line of it.
    pub fn begin(auth: &Auth) -> Result<Self, AuthFileError> {
        match &auth.file {
            Some(path) if !path.exists() => {
                tracing::error!("auth_file {} is not there: nobody is listed until it is", path.display());
                Ok(Self::new(Arc::new(Source::of(auth)), None, UserList::default(), Vec::new()))
            }
            _ => Self::load(auth),
        }
    }

    /// What users who do not exist look like depends on nothing but the file, so it survives a restart and is the same on
    /// all instances with it.
    fn read(source: Arc<Source>) -> Result<Self, AuthFileError> {
        let path = source.path.clone().unwrap_or_default();
        let wrong =
            |reason: &dyn std::fmt::Display| AuthFileError { path: path.clone(), reason: reason.to_string() };
        // Before the bytes: a change in between is found the next time.
        let stamp = source.path.as_deref().and_then(Stamp::of);
        let text = match &source.path {
            None => Vec::new(),
            Some(path) => std::fs::read(path).map_err(|error| wrong(&error))?,
        };
        let list = UserList::parse(&text).map_err(|error| wrong(&error))?;
        Ok(Self::new(source, stamp, list, text))
    }

    fn new(source: Arc<Source>, stamp: Option<Stamp>, list: UserList, text: Vec<u8>) -> Self {
        let (method, iterations) = (source.method, source.iterations);
        let terms = Terms { method, iterations, mock: list.mock(&seed(text), iterations) };
        Self { list, terms, source, stamp }
    }
}

impl Source {
    fn of(auth: &Auth) -> Self {
        let iterations = Iterations::new(auth.scram_iterations).unwrap_or(Iterations::DEFAULT);
        Self { path: auth.file.clone(), method: method(auth.method), iterations }
    }
}

/// Where there is nothing that is secret and stays, ghosts are told by a salt that changes with the next start; better
/// than by one that anybody can compute.
fn seed(text: Vec<u8>) -> Vec<u8> {
    if !text.is_empty() {
        return text;
    }
    let mut random = vec![0; 32];
    // Without randomness no login succeeds at all.
    let _or_zero = crate::auth::random::fill(&mut random);
    random
}

/// With rules, the method is that of the rule that fits; one for nobody stands in its place.
fn method(method: AuthMethod) -> Method {
    match method {
        AuthMethod::Any => Method::Any,
        AuthMethod::Trust => Method::Trust,
        AuthMethod::Plain => Method::Plain,
        AuthMethod::Md5 => Method::Md5,
        AuthMethod::ScramSha256 | AuthMethod::Hba => Method::ScramSha256,
    }
}

impl Users {
    /// Begins with a list.
    #[must_use]
    pub fn new(listed: Listed) -> Self {
        let seen = Mutex::new(listed.stamp);
        Self { now: ArcSwap::from_pointee(listed), seen, reading: tokio::sync::Mutex::default() }
    }

    /// The list of now.
    #[must_use]
    pub fn listed(&self) -> Arc<Listed> {
        self.now.load_full()
    }

    /// The secret of a user of the list.
    #[must_use]
    pub fn secret(&self, user: &str) -> Option<StoredSecret> {
        self.now.load().list.get(user).cloned()
    }

    /// Takes another list.
    pub fn replace(&self, listed: Listed) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = listed.stamp;
        self.now.store(Arc::new(listed));
    }

    /// Reads the file again when it is not what it was. One that cannot be used changes nothing, and is told once. As
    /// long as nothing has changed this costs one call of the system, of a microsecond where the file is a local one.
    pub async fn refresh(&self) {
        let now = self.listed();
        let Some(path) = now.source.path.as_deref() else { return };
        if self.is_seen(Stamp::of(path)) {
            return;
        }
        let _turn = self.reading.lock().await;
        let stamp = Stamp::of(path);
        if self.is_seen(stamp) {
            return;
        }
        let source = Arc::clone(&now.source);
        let read = tokio::task::spawn_blocking(move || Listed::read(source)).await;
        let was_replaced = !Arc::ptr_eq(&self.now.load().source, &now.source);
        match read {
            Ok(Ok(listed)) if !was_replaced => {
                tracing::info!("auth_file {} has changed and was read again", path.display());
                self.replace(listed);
            }
            Ok(Err(error)) => {
                *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = stamp;
                tracing::error!("{error}; the users of before stay in force");
            }
            _ => {}
        }
    }

    fn is_seen(&self, stamp: Option<Stamp>) -> bool {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) == stamp
    }
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let data = std::fs::metadata(path).ok()?;
        Some(Self {
            file: (data.dev(), data.ino()),
            size: data.size(),
            modified: (data.mtime(), data.mtime_nsec()),
            changed: (data.ctime(), data.ctime_nsec()),
        })
    }
}
