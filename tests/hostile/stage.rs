//! What these tests share: a pooler with one server, a client to attack from, and a look at what is left.

use tokio_postgres::Client;

use crate::common::{PATIENCE, Pgweir, PgweirBuilder, Postgres, Raw, frontend};

/// One server in front of a database of its own, and nobody asks for passwords.
pub struct Stage {
    pub pooler: Pgweir,
    pub database: String,
    looker: Client,
}

/// The configuration of a [`Stage`].
pub fn builder() -> PgweirBuilder {
    Pgweir::builder(Postgres::shared()).pool_size(1).setting("auth_type", "trust")
}

impl Stage {
    pub async fn open() -> Self {
        Self::with(builder()).await
    }

    pub async fn with(builder: PgweirBuilder) -> Self {
        let database = Postgres::shared().fresh_database().await;
        let looker = Postgres::shared().connect("postgres", &database).await;
        looker.batch_execute("CREATE TABLE t (a int); GRANT ALL ON t TO weir_trust").await.unwrap();
        Self { pooler: builder.start(), database, looker }
    }

    /// A client that is logged in.
    pub async fn client(&self) -> Raw {
        Raw::login(self.pooler.port(), "weir_trust", "", &self.database).await
    }

    /// A connection to do with as one likes: reset it, cut it, write half a message.
    pub async fn socket(&self) -> tokio::net::TcpStream {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut socket = tokio::net::TcpStream::connect(("127.0.0.1", self.pooler.port())).await.unwrap();
        socket.set_nodelay(true).unwrap();
        let startup = [("user", "weir_trust"), ("database", &self.database)];
        socket.write_all(&frontend::startup(frontend::VERSION_3_0, &startup)).await.unwrap();
        let mut heard = Vec::new();
        while !heard.ends_with(b"Z\0\0\0\x05I") {
            let mut block = [0; 4096];
            let count = socket.read(&mut block).await.unwrap();
            assert!(count > 0, "login refused: {}", heard.escape_ascii());
            heard.extend_from_slice(&block[..count]);
        }
        socket
    }

    /// How many rows of the table are there for all to see.
    pub async fn rows(&self) -> i64 {
        self.looker.query_one("SELECT count(*) FROM t", &[]).await.unwrap().get(0)
    }

    /// Waits until a look at the server's backends in this database finds what is wanted.
    pub async fn sees(&self, what: &str, wanted: i64) {
        let sql = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND usename = 'weir_trust' AND {what}",
            self.database
        );
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let found: i64 = self.looker.query_one(&sql, &[]).await.unwrap().get(0);
            if found == wanted {
                return;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "{found} instead of {wanted} backends with {what}"
            );
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    /// Runs SQL beside the pooler.
    pub async fn execute(&self, sql: &str) {
        self.looker.batch_execute(sql).await.unwrap();
    }

    /// The next client finds a server that nobody has left anything on.
    pub async fn is_clean(&self, after: &str) {
        let mut next = self.client().await;
        let answer = next.query("SELECT txid_current_if_assigned(), 'mine'").await;
        assert_eq!(answer[1].tag, b'D', "{answer:?} after {after}");
        assert_eq!(answer[1].columns(), [None, Some("mine".to_owned())], "after {after}");
        assert_eq!(answer.last().unwrap().status(), 'I', "after {after}");
        self.sees("state LIKE 'idle in transaction%'", 0).await;
        next.terminate().await;
    }
}
