//! A client as small as one can be: it logs in and asks simple queries.

use super::DEMO;
use super::error::DemoError;
use crate::auth::{ClientLogin, Credential, KeyCache, LeastMethod, LoginStep, Password};
use crate::net::{Address, Dialogue, SocketOptions, connect};
use crate::wire::{Fields, ProtocolVersion, Startup, frontend, split_cstr};
use bytes::{Buf, BytesMut};
use std::sync::{Arc, LazyLock};

/// The longest message that is read.
const LIMIT: u32 = 1 << 20;

/// Who logs in, and where.
#[derive(Debug, Clone)]
pub(super) struct Login<'a> {
    user: &'a str,
    database: &'a str,
    application: &'a str,
}

impl<'a> Login<'a> {
    pub(super) fn of(user: &'a str, database: &'a str) -> Self {
        Self { user, database, application: "pgweir demo" }
    }

    /// With a name of its own for the client.
    pub(super) fn named(mut self, application: &'a str) -> Self {
        self.application = application;
        self
    }
}

/// A connection to PostgreSQL or to pgweir.
#[derive(Debug)]
pub(super) struct Client {
    dialogue: Dialogue,
}

impl Client {
    /// Connects and logs in; the password of whoever is asked for one is the demo's.
    pub(super) async fn connect(address: &Address, login: &Login<'_>) -> Result<Self, DemoError> {
        let stream = connect(address, &SocketOptions::default())
            .await
            .map_err(DemoError::system(format!("connect to {address}")))?;
        let mut client = Self { dialogue: Dialogue::new(stream) };
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let startup = Startup {
            version: ProtocolVersion::V3_0,
            parameters: vec![
                pair("user", login.user),
                pair("database", login.database),
                pair("application_name", login.application),
            ],
            protocol_options: Vec::new(),
        };
        let mut out = BytesMut::new();
        startup.put(&mut out)?;
        client.send(&out).await?;
        client.prove(login.user).await?;
        client.answer().await?;
        Ok(client)
    }

    /// Asks, and reads the whole answer.
    pub(super) async fn query(&mut self, sql: &str) -> Result<Answer, DemoError> {
        let mut out = BytesMut::new();
        frontend::put_query(&mut out, sql)?;
        self.send(&out).await?;
        self.answer().await
    }

    /// Says goodbye.
    pub(super) async fn leave(mut self) {
        let _heard_or_not = self.send(&frontend::TERMINATE).await;
    }

    async fn prove(&mut self, user: &str) -> Result<(), DemoError> {
        /// The salt is the same for all clients, and so are the keys: they are made once.
        static KEYS: LazyLock<Arc<KeyCache>> = LazyLock::new(|| Arc::new(KeyCache::new(4)));
        let credential = Credential::Plain(Password::new(DEMO)?);
        let mut login = ClientLogin::new(user, credential, LeastMethod::Any);
        loop {
            let (tag, body) = self.message().await?;
            let Some((code, data)) = body.split_first_chunk::<4>().filter(|_| tag == b'R') else {
                return Err(unexpected(tag));
            };
            match login.on_authentication(i32::from_be_bytes(*code), data, &KEYS)? {
                LoginStep::Accepted(_) => return Ok(()),
                LoginStep::Wait(next) => login = next,
                LoginStep::Send(next, answer) => {
                    let mut out = BytesMut::new();
                    frontend::put_authentication(&mut out, &answer)?;
                    self.send(&out).await?;
                    login = next;
                }
            }
        }
    }

    /// Reads up to ReadyForQuery.
    async fn answer(&mut self) -> Result<Answer, DemoError> {
        let (mut answer, mut refusal) = (Answer::default(), None);
        loop {
            let (tag, body) = match self.message().await {
                Err(DemoError::Refused(text)) => {
                    refusal = Some(text);
                    continue;
                }
                Err(error) => return Err(refusal.map_or(error, DemoError::Refused)),
                Ok(message) => message,
            };
            match tag {
                b'T' => answer.columns = columns(&body).ok_or_else(|| unexpected(tag))?,
                b'D' => answer.rows.push(values(&body).ok_or_else(|| unexpected(tag))?),
                b'Z' => return refusal.map_or(Ok(answer), |text| Err(DemoError::Refused(text))),
                _ => {}
            }
        }
    }

    /// Reads one message; an ErrorResponse is an error.
    async fn message(&mut self) -> Result<(u8, BytesMut), DemoError> {
        match self.dialogue.message(LIMIT).await? {
            (b'E', body) => Err(DemoError::Refused(Fields(&body).message().into_owned())),
            message => Ok(message),
        }
    }

    async fn send(&mut self, messages: &[u8]) -> Result<(), DemoError> {
        self.dialogue.send(messages).await.map_err(DemoError::system("write to the connection"))
    }
}

/// What a query gave.
#[derive(Debug, Default)]
pub(super) struct Answer {
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Answer {
    /// The only value.
    pub(super) fn value(&self) -> Result<String, DemoError> {
        let value = self.rows.first().and_then(|row| row.first());
        value.cloned().ok_or_else(|| DemoError::Unexpected("no row".to_owned()))
    }

    /// The only value, a number.
    pub(super) fn number(&self) -> Result<u64, DemoError> {
        let value = self.value()?;
        value.parse().map_err(|_| DemoError::Unexpected(value))
    }

    /// The sum of a column over the rows of the demo's database; `None` where there is no such row or column.
    pub(super) fn sum(&self, column: &str) -> Option<u64> {
        let place = |name: &str| self.columns.iter().position(|column| column == name);
        let (database, wanted) = (place("database")?, place(column)?);
        let rows = self.rows.iter().filter(|row| row[database] == DEMO);
        let numbers: Vec<u64> = rows.map(|row| row[wanted].parse().unwrap_or_default()).collect();
        (!numbers.is_empty()).then(|| numbers.iter().sum())
    }
}

fn unexpected(tag: u8) -> DemoError {
    DemoError::Unexpected(format!("message of type {:?}", char::from(tag)))
}

/// The names in a RowDescription.
fn columns(mut body: &[u8]) -> Option<Vec<String>> {
    let count = body.try_get_u16().ok()?;
    (0..count)
        .map(|_| {
            let (name, rest) = split_cstr(body)?;
            body = rest.get(18..)?;
            Some(String::from_utf8_lossy(name).into_owned())
        })
        .collect()
}

/// The values in a DataRow; NULL is the empty text.
fn values(mut body: &[u8]) -> Option<Vec<String>> {
    let count = body.try_get_u16().ok()?;
    (0..count)
        .map(|_| {
            let length = usize::try_from(body.try_get_i32().ok()?).unwrap_or_default();
            let (value, rest) = body.split_at_checked(length)?;
            body = rest;
            Some(String::from_utf8_lossy(value).into_owned())
        })
        .collect()
}
