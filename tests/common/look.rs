//! What several test programs look at: rows of the server's views, errors, settings of a session.

use std::time::Duration;

use tokio_postgres::types::ToSql;

use super::pooler::Pgweir;
use super::postgres::{Postgres, password_of};
use super::raw::{Message, Raw};

/// Waits until a query of the server's own views counts something.
pub async fn seen(postgres: &Postgres, look: &str, parameters: &[&(dyn ToSql + Sync)]) {
    let looker = postgres.connect("postgres", "postgres").await;
    let deadline = tokio::time::Instant::now() + super::PATIENCE;
    while looker.query_one(look, parameters).await.unwrap().get::<_, i64>(0) == 0 {
        assert!(tokio::time::Instant::now() < deadline, "never so: {look}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until the server has this many connections to `database`.
pub async fn connections_become(postgres: &Postgres, database: &str, count: i64) {
    let look = "SELECT ((SELECT count(*) FROM pg_stat_activity \
                WHERE datname = $1 AND backend_type = 'client backend') = $2)::int::int8";
    seen(postgres, look, &[&database, &count]).await;
}

/// The ErrorResponse of an answer.
pub fn error_of(answer: &[Message]) -> &Message {
    let error = answer.iter().find(|message| message.tag == b'E');
    error.unwrap_or_else(|| panic!("no error in {answer:?}"))
}

/// A client with further startup parameters, or why it was refused. Its password is the one of the cluster.
pub async fn try_login(port: u16, user: &str, database: &str, more: &[(&str, &str)]) -> Result<Raw, Message> {
    let mut raw = Raw::open(port).await;
    let parameters = [&[("user", user), ("database", database)], more].concat();
    raw.try_start(&parameters, password_of(user)).await.map(|()| raw)
}

impl Pgweir {
    /// A client of the user `weir` whose StartupMessage asks for settings.
    pub async fn raw_with(&self, database: &str, settings: &[(&str, &str)]) -> Raw {
        try_login(self.port(), "weir", database, settings).await.unwrap()
    }

    /// Why a client of the user `weir` is refused.
    pub async fn refusal(&self, database: &str, settings: &[(&str, &str)]) -> Message {
        match try_login(self.port(), "weir", database, settings).await {
            Ok(_) => panic!("let in: {settings:?}"),
            Err(error) => error,
        }
    }

    /// A client as any user of the cluster.
    pub async fn raw_as(&self, user: &str, database: &str) -> Raw {
        Raw::login(self.port(), user, password_of(user), database).await
    }
}

impl Raw {
    /// The values of several settings, each by a query of its own.
    pub async fn show(&mut self, names: &[&str]) -> Vec<String> {
        let mut values = Vec::new();
        for name in names {
            values.push(self.value(&format!("SHOW {name}")).await.unwrap());
        }
        values
    }

    /// The process of the server that serves this client now.
    pub async fn server(&mut self) -> String {
        self.value("SELECT pg_backend_pid()").await.unwrap()
    }

    /// Reads the FATAL error that ends this connection, and its end.
    pub async fn last_words(&mut self) -> Message {
        let messages = self.read_until(b'E').await;
        self.expect_eof().await;
        let error = messages.last().unwrap().clone();
        assert_eq!(error.field('S'), "FATAL", "{error:?}");
        error
    }
}

/// Tries to log in until `enough` says so of what came of it; gives that.
pub async fn try_until(
    pooler: &Pgweir,
    database: &str,
    mut enough: impl FnMut(&Result<Raw, Message>) -> bool,
) -> Result<Raw, Message> {
    let deadline = tokio::time::Instant::now() + super::PATIENCE;
    loop {
        let result = try_login(pooler.port(), "weir", database, &[]).await;
        if enough(&result) {
            return result;
        }
        assert!(tokio::time::Instant::now() < deadline, "the last login came to {result:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

impl Pgweir {
    /// Writes a new configuration, sends SIGHUP and waits for what comes of it; says whether it was taken over.
    pub async fn hang_up(&self, builder: super::PgweirBuilder) -> bool {
        let folder = self.folder();
        std::fs::write(folder.join("userlist.txt"), builder.userlist()).unwrap();
        let text = builder.render(self.port(), &folder.display().to_string());
        std::fs::write(folder.join("pgbouncer.ini"), text).unwrap();
        super::give_to_unprivileged(folder);
        let ends = || {
            let log = self.log();
            (log.matches("configuration reloaded").count(), log.matches("reload failed").count())
        };
        let before = ends();
        self.signal("HUP");
        super::until("end of the reload", || ends() != before).await;
        ends().1 == before.1
    }
}
