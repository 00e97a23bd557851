//! Users who are in no file: looked up by `auth_query`, for their login here and for the one to the server.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod common;

use common::{Message, Pgweir, PgweirBuilder, Postgres, Raw, free_port};
use std::sync::LazyLock;

/// A cluster whose passwords change, with one that asks all but `lookup` for SCRAM.
const HBA: &str = "local all all trust\nhost all postgres 127.0.0.1/32 trust\n\
                   host all dyn_md5 127.0.0.1/32 md5\nhost all all 127.0.0.1/32 scram-sha-256\n";

/// Roles of their own, so that nothing here meets another test's.
fn postgres() -> &'static Postgres {
    static CLUSTER: LazyLock<Postgres> = LazyLock::new(|| Postgres::builder().hba(HBA).start());
    &CLUSTER
}

async fn prepare() {
    static DONE: tokio::sync::OnceCell<()> = tokio::sync::OnceCell::const_new();
    DONE.get_or_init(|| async {
        let sql = "CREATE ROLE lookup LOGIN SUPERUSER PASSWORD 'lookup'; CREATE ROLE dyn LOGIN PASSWORD 'dyn'; \
                   CREATE ROLE late LOGIN PASSWORD 'late' VALID UNTIL '2020-01-01'; \
                   CREATE ROLE locked NOLOGIN PASSWORD 'locked'; CREATE ROLE bare LOGIN; \
                   SET password_encryption = 'md5'; CREATE ROLE dyn_md5 LOGIN PASSWORD 'dyn_md5'";
        postgres().execute(sql).await;
    })
    .await;
}

/// Nobody but the one who asks is in the file.
async fn pooler() -> PgweirBuilder {
    prepare().await;
    Pgweir::builder(postgres()).user("lookup", "lookup").setting("auth_user", "lookup")
}

async fn log_in(pooler: &Pgweir, user: &str, password: &str, database: &str) -> Result<Raw, Message> {
    let mut raw = Raw::open(pooler.port()).await;
    raw.try_start(&[("user", user), ("database", database)], password).await.map(|()| raw)
}

async fn refusal(pooler: &Pgweir, user: &str, password: &str, database: &str) -> String {
    match log_in(pooler, user, password, database).await {
        Ok(_) => panic!("{user} was let in to {database}"),
        Err(error) => format!("{} {}", error.field('C'), error.field('M')),
    }
}

fn wrong(user: &str) -> String {
    format!("28P01 password authentication failed for user \"{user}\"")
}

/// Would break with: a lookup that is not made, or a server that is logged in to with somebody else's secret.
#[tokio::test]
async fn who_is_in_no_file_is_looked_up_for_both_logins() {
    for method in ["scram-sha-256", "md5", "plain"] {
        let pooler = pooler().await.setting("auth_type", method).start();
        let mut raw = log_in(&pooler, "dyn", "dyn", "weir").await.unwrap();
        assert_eq!(raw.value("SELECT session_user").await.unwrap(), "dyn", "{method}");
        assert_eq!(refusal(&pooler, "dyn", "wrong", "weir").await, wrong("dyn"), "{method}");
        let mut raw = log_in(&pooler, "dyn", "dyn", "postgres").await.unwrap();
        assert_eq!(raw.value("SELECT session_user").await.unwrap(), "dyn", "the entry *, {method}");
    }
    let pooler = pooler().await.setting("auth_type", "md5").start();
    let mut raw = log_in(&pooler, "dyn_md5", "dyn_md5", "weir").await.unwrap();
    assert_eq!(raw.value("SELECT session_user").await.unwrap(), "dyn_md5");
}

/// Would break with: a secret that counts beyond its time, and with ghosts that are told from others.
#[tokio::test]
async fn who_may_not_log_in_is_refused_like_a_wrong_password() {
    for method in ["scram-sha-256", "md5", "plain"] {
        let pooler = pooler().await.setting("auth_type", method).start();
        for user in ["late", "locked", "bare", "ghost", "lookup'; DROP ROLE dyn; --"] {
            assert_eq!(refusal(&pooler, user, user, "weir").await, wrong(user), "{method}");
        }
        log_in(&pooler, "dyn", "dyn", "weir").await.unwrap();
        let code = |message: Message| message.body[3];
        let (mut known, mut ghost) = (Raw::open(pooler.port()).await, Raw::open(pooler.port()).await);
        for (raw, user) in [(&mut known, "dyn"), (&mut ghost, "ghost")] {
            let startup = [("user", user), ("database", "weir")];
            raw.write(&common::frontend::startup(common::frontend::VERSION_3_0, &startup)).await;
        }
        assert_eq!(code(known.read().await), code(ghost.read().await), "{method}");
    }
}

/// Would break with: `auth_user` that becomes the login of somebody, or answers that name another user.
#[tokio::test]
async fn nobody_becomes_anybody_else() {
    // Servers let in whoever is let in here.
    let pooler = pooler()
        .await
        .setting("auth_type", "plain")
        .database(
            "other",
            &entry("user=postgres auth_query='SELECT ''dyn''::text, ''x''::text WHERE $1 = $1'"),
        )
        .database("null", &entry("user=postgres auth_query='SELECT NULL::text, ''x''::text WHERE $1 = $1'"))
        .database("same", &entry("user=postgres auth_query='SELECT $1::text, ''x''::text'"))
        .start();
    log_in(&pooler, "ghost", "x", "same").await.unwrap();
    for (user, database) in [("ghost", "other"), ("ghost", "null"), ("ghost", "weir")] {
        assert_eq!(refusal(&pooler, user, "x", database).await, wrong(user), "{database}");
    }
    pooler.logged("auth_query answers for another user").await;
    let pooler =
        self::pooler().await.setting("auth_type", "trust").database("open", &entry("user=postgres")).start();
    assert_eq!(refusal(&pooler, "ghost", "", "open").await, wrong("ghost"));
    let mut raw = log_in(&pooler, "dyn", "", "open").await.unwrap();
    assert_eq!(raw.value("SELECT session_user").await.unwrap(), "postgres");
}

fn entry(more: &str) -> String {
    format!("host=127.0.0.1 port={} dbname=weir {more}", postgres().port())
}

/// Would break with: a general setting that wins over a database's own, or a lookup in the wrong database.
#[tokio::test]
async fn a_database_has_its_own_query_user_and_place() {
    let sql = "CREATE OR REPLACE FUNCTION public.of_user(n text, OUT u text, OUT p text) LANGUAGE sql \
               SECURITY DEFINER AS $$ SELECT n, 'from ' || current_database() || ' by ' || session_user $$";
    prepare().await;
    for database in ["weir", "postgres"] {
        postgres().connect("postgres", database).await.batch_execute(sql).await.unwrap();
    }
    let forced = entry("user=postgres auth_query='SELECT * FROM of_user($1)'");
    let pooler = pooler()
        .await
        .setting("auth_type", "plain")
        .database("here", &forced)
        .database("there", &format!("{forced} auth_dbname=postgres"))
        .database("by", &format!("{forced} auth_user=postgres"))
        .database("postgres", &format!("host=127.0.0.1 port={}", postgres().port()))
        .start();
    for (database, password) in [
        ("here", "from weir by lookup"),
        ("there", "from postgres by lookup"),
        ("by", "from weir by postgres"),
    ] {
        let mut raw = log_in(&pooler, "anybody", password, database).await.unwrap();
        assert_eq!(raw.value("SELECT session_user").await.unwrap(), "postgres", "{database}");
        assert_eq!(refusal(&pooler, "anybody", "anything", database).await, wrong("anybody"));
    }
    assert_eq!(refusal(&pooler, "anybody", "from weir by lookup", "weir").await, wrong("anybody"));
}

/// Would break with: a query that the client has a say in.
#[tokio::test]
async fn nothing_of_the_client_reaches_the_question() {
    let client = {
        prepare().await;
        postgres().connect("postgres", "weir").await
    };
    let sql = "CREATE SCHEMA IF NOT EXISTS evil; CREATE OR REPLACE VIEW evil.pg_authid AS SELECT 'dyn'::name AS rolname, \
               NULL::timestamptz AS rolvaliduntil, 'evil'::text AS rolpassword, true AS rolcanlogin; \
               CREATE OR REPLACE FUNCTION public.who(n text, OUT u text, OUT p text) LANGUAGE sql AS \
               $$ SELECT n, current_setting('search_path') || current_setting('application_name') $$";
    client.batch_execute(sql).await.unwrap();
    let pooler = pooler()
        .await
        .setting("auth_type", "plain")
        .database("who", &entry("user=postgres auth_query='SELECT * FROM who($1)'"))
        .start();
    let evil = [("search_path", "evil"), ("application_name", "evil"), ("options", "-c search_path=evil")];
    for (user, database, password) in
        [("dyn", "weir", "dyn"), ("any", "who", "pg_catalog, \"$user\", public")]
    {
        for setting in evil {
            let mut raw = Raw::open(pooler.port()).await;
            let startup = [("user", user), ("database", database), setting];
            raw.try_start(&startup, "evil").await.unwrap_err();
            let mut raw = Raw::open(pooler.port()).await;
            raw.start(&startup, password).await;
        }
    }
}

/// Would break with: names in the question that whoever owns the database may give another meaning, with the rights of
/// `auth_user`.
#[tokio::test]
async fn who_owns_the_database_gets_no_rights_of_who_asks() {
    prepare().await;
    postgres().execute("CREATE ROLE tenant LOGIN PASSWORD 'tenant'").await;
    let database = postgres().fresh_database().await;
    postgres().execute(&format!("ALTER DATABASE {database} OWNER TO tenant")).await;
    // All that follows the tenant may do alone.
    let sql = "SET SESSION AUTHORIZATION tenant; CREATE SCHEMA evil; CREATE FUNCTION evil.now() RETURNS timestamptz \
               LANGUAGE plpgsql AS $$BEGIN EXECUTE 'ALTER ROLE tenant SUPERUSER'; RETURN NULL; END$$";
    let tenant = postgres().connect("postgres", &database).await;
    tenant.batch_execute(sql).await.unwrap();
    let own = "CREATE FUNCTION public.own_lookup(n text, OUT u text, OUT p text) LANGUAGE sql AS \
               $$ SELECT rolname, rolpassword FROM pg_authid WHERE rolname = n $$";
    postgres().connect("postgres", &database).await.batch_execute(own).await.unwrap();
    let usual = "SELECT rolname, CASE WHEN rolvaliduntil < now() THEN NULL ELSE rolpassword END FROM pg_authid \
                 WHERE rolname = $1";
    let unqualified = "SELECT u, p FROM own_lookup($1) WHERE now() IS NOT NULL";
    for path in ["evil, pg_catalog, public", "evil, public"] {
        tenant.batch_execute(&format!("ALTER DATABASE {database} SET search_path = {path}")).await.unwrap();
        for query in ["", usual, unqualified] {
            let more = if query.is_empty() { String::new() } else { format!("auth_query='{query}'") };
            let greedy = "connect_query='ALTER ROLE bare CONNECTION LIMIT 7'";
            let entry = entry(&format!("{more} {greedy}"));
            let entry = entry.replace("dbname=weir", &format!("dbname={database}"));
            let pooler = pooler().await.database("own", &entry).start();
            log_in(&pooler, "tenant", "tenant", "own").await.unwrap();
            let told =
                "SELECT count(*) FROM pg_roles WHERE rolname = 'tenant' AND rolsuper OR rolconnlimit = 7";
            let client = postgres().connect("postgres", "postgres").await;
            let count: i64 = client.query_one(told, &[]).await.unwrap().get(0);
            assert_eq!(count, 0, "{path}: {query}");
        }
    }
}

/// Would break with: an empty `search_path` that the built-in names cannot be put in front of.
#[tokio::test]
async fn a_database_may_have_no_search_path() {
    prepare().await;
    let database = postgres().fresh_database().await;
    postgres().execute(&format!("ALTER DATABASE {database} SET search_path = ''")).await;
    let entry = entry("auth_query='SELECT rolname, rolpassword FROM pg_authid WHERE rolname = $1'");
    let entry = entry.replace("dbname=weir", &format!("dbname={database}"));
    let pooler = pooler().await.database("bare", &entry).start();
    log_in(&pooler, "dyn", "dyn", "bare").await.unwrap();
}

/// Would break with: a wrong query that lets somebody in, or says nothing of what is wrong.
#[tokio::test]
async fn a_wrong_query_is_an_error_of_the_configuration() {
    let cases = [
        ("one", "SELECT $1::text", "gives 1 columns"),
        ("three", "SELECT $1::text, 1, 2", "gives 3 columns"),
        ("all", "SELECT rolname, rolpassword FROM pg_authid WHERE $1 = $1", "gives several rows"),
        ("none", "SELECT 1, 2", "bind message supplies 1 parameters"),
        ("broken", "SELECT FROM WHERE", "syntax error"),
        ("set", "SET work_mem = 1", "bind message supplies 1 parameters"),
    ];
    let mut builder = pooler().await;
    for (name, query, _) in cases {
        builder = builder.database(name, &entry(&format!("auth_query='{query}'")));
    }
    let pooler = builder.start();
    for (name, _, told) in cases {
        assert_eq!(refusal(&pooler, "dyn", "dyn", name).await, "08P01 bouncer config error", "{name}");
        pooler.logged(told).await;
    }
    log_in(&pooler, "dyn", "dyn", "weir").await.unwrap();
    let server = format!("host=127.0.0.1 port={} dbname=weir", postgres().port());
    let pooler = Pgweir::start_text("pgbouncer.ini", |port, _| {
        format!(
            "[databases]\nweir = {server}\nlost = {server} auth_dbname=none\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = md5\nauth_user = postgres\n"
        )
    });
    assert_eq!(refusal(&pooler, "dyn", "dyn", "lost").await, "08P01 bouncer config error");
    pooler.logged("there is no database none (auth_dbname) to ask in").await;
    assert_eq!(refusal(&pooler, "dyn", "dyn", "nosuch").await, wrong("dyn"));
    // Without an auth file at all, by an auth_user who is asked for nothing.
    log_in(&pooler, "dyn", "dyn", "weir").await.unwrap();
}

/// Would break with: questions that wait for a place among the clients.
#[tokio::test]
async fn clients_cannot_starve_the_lookup() {
    let pooler = pooler()
        .await
        .pool_size(1)
        .setting("max_db_connections", 2)
        .setting("max_user_connections", 2)
        .start();
    let mut first = log_in(&pooler, "dyn", "dyn", "weir").await.unwrap();
    let mut second = log_in(&pooler, "lookup", "lookup", "weir").await.unwrap();
    for raw in [&mut first, &mut second] {
        raw.query("BEGIN").await;
    }
    for number in 0..20 {
        let error = refusal(&pooler, &format!("ghost{number}"), "x", "weir").await;
        assert_eq!(error, wrong(&format!("ghost{number}")));
        log_in(&pooler, "dyn", "dyn", "weir").await.unwrap();
    }
}

/// Would break with: a question for each login, or more connections than a few.
#[tokio::test]
async fn many_logins_at_once_share_questions_and_connections() {
    prepare().await;
    let database = postgres().fresh_database().await;
    let counter = postgres().connect("postgres", &database).await;
    counter.batch_execute("CREATE SEQUENCE asked").await.unwrap();
    let query = "SELECT $1::text, $1::text FROM pg_sleep(0.2), nextval(''asked'')";
    let crowd = entry(&format!("user=postgres auth_dbname={database} auth_query='{query}'"));
    let pooler = pooler().await.setting("auth_type", "plain").database("crowd", &crowd).start();
    let logins: Vec<_> = (0..60)
        .map(|number| {
            let (port, user) = (pooler.port(), format!("user{}", number % 3));
            tokio::spawn(async move {
                let mut raw = Raw::open(port).await;
                raw.try_start(&[("user", &user), ("database", "crowd")], &user).await.unwrap();
            })
        })
        .collect();
    for login in logins {
        login.await.unwrap();
    }
    let asked: i64 = counter.query_one("SELECT last_value FROM asked", &[]).await.unwrap().get(0);
    assert!(asked < 30, "{asked} questions for 60 logins of three users");
    // This one, and theirs.
    assert!(postgres().connections(&database).await <= 3);
    let pools = pooler.console("SHOW POOLS").await;
    let row = pools.iter().find(|row| row[0].as_deref() == Some(database.as_str())).unwrap();
    assert_eq!(row[1].as_deref(), Some("lookup"), "{pools:?}");
}

/// Would break with: a secret that is kept for longer than it is true, for the client's login or for the server's.
#[tokio::test]
async fn a_changed_password_counts_at_once() {
    prepare().await;
    postgres().execute("CREATE ROLE rotated LOGIN PASSWORD 'one'").await;
    let pooler = pooler().await.pool_size(2).start();
    let mut old = log_in(&pooler, "rotated", "one", "weir").await.unwrap();
    assert_eq!(old.value("SELECT 1").await.unwrap(), "1");
    for (last, next) in [("one", "two"), ("two", "three")] {
        postgres().execute(&format!("ALTER ROLE rotated PASSWORD '{next}'")).await;
        assert_eq!(refusal(&pooler, "rotated", last, "weir").await, wrong("rotated"));
        let mut new = log_in(&pooler, "rotated", next, "weir").await.unwrap();
        // Both at once, so that a new server has to be logged in to, whose password is the new one.
        pooler.console("RELOAD").await;
        for raw in [&mut old, &mut new] {
            assert_eq!(raw.query("BEGIN").await.last().unwrap().status(), 'T');
        }
        for raw in [&mut old, &mut new] {
            raw.query("COMMIT").await;
        }
        postgres()
            .execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'rotated'")
            .await;
        let look = "SELECT (count(*) = 0)::int::int8 FROM pg_stat_activity WHERE usename = 'rotated'";
        common::look::seen(postgres(), look, &[]).await;
    }
    postgres().execute("ALTER ROLE rotated NOLOGIN").await;
    assert_eq!(refusal(&pooler, "rotated", "three", "weir").await, wrong("rotated"));
}

/// Would break with: a lookup that waits for a server that does not come, or one that a slow server holds for ever.
#[tokio::test]
async fn a_server_that_is_down_is_told_and_one_that_is_slow_is_not_waited_for() {
    prepare().await;
    let dead = free_port();
    let pooler = pooler()
        .await
        .setting("client_login_timeout", 2)
        .database("down", &format!("host=127.0.0.1 port={dead}"))
        .database("weir", &entry("auth_dbname=down"))
        .database("slow", &entry("auth_query='SELECT $1::text, $1::text FROM pg_sleep(600)'"))
        .start();
    let told = refusal(&pooler, "dyn", "dyn", "weir").await;
    let cached = "server login has been failing, cached error: connect failed";
    assert!(told.contains(cached) || told.contains("client_login_timeout"), "{told}");
    until_refused(&pooler, cached).await;
    assert_eq!(refusal(&pooler, "dyn", "dyn", "slow").await, "08P01 client_login_timeout");
    assert_eq!(refusal(&pooler, "dyn", "dyn", "slow").await, "08P01 client_login_timeout");
    // Who is in the file needs nobody to ask.
    log_in(&pooler, "lookup", "lookup", "slow").await.unwrap();
}

async fn until_refused(pooler: &Pgweir, text: &str) {
    for _ in 0..50 {
        let told = refusal(pooler, "dyn", "dyn", "weir").await;
        if told.contains(text) && told.contains("(server_login_retry)") {
            return;
        }
    }
    panic!("never {text}");
}

/// Would break with: a lookup for the console without a place for it, or rights that a lookup gives.
#[tokio::test]
async fn the_console_looks_its_users_up_in_auth_dbname() {
    let pooler = pooler().await.setting("auth_dbname", "weir").setting("admin_users", "admin,dyn").start();
    let mut raw = log_in(&pooler, "dyn", "dyn", "pgbouncer").await.unwrap();
    assert!(raw.query("SHOW VERSION").await.iter().any(|message| message.tag == b'D'));
    assert_eq!(refusal(&pooler, "dyn", "wrong", "pgbouncer").await, wrong("dyn"));
    assert_eq!(refusal(&pooler, "lookup", "lookup", "pgbouncer").await, "28000 not allowed");
    let nowhere = self::pooler().await.setting("admin_users", "admin,dyn").start();
    assert_eq!(refusal(&nowhere, "dyn", "dyn", "pgbouncer").await, wrong("dyn"));
}

/// Would break with: a lookup that a connection which has died meanwhile fails.
#[tokio::test]
async fn a_connection_that_has_died_is_replaced() {
    let pooler = pooler().await.start();
    log_in(&pooler, "dyn", "dyn", "weir").await.unwrap();
    for _ in 0..3 {
        postgres()
            .execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'lookup'")
            .await;
        log_in(&pooler, "dyn", "dyn", "weir").await.unwrap();
    }
}

/// Would break with: a PAUSE that never ends because of who asks for secrets, or that lets the question through.
#[tokio::test]
async fn a_pause_holds_the_question_back_too() {
    prepare().await;
    let database = postgres().fresh_database().await;
    let pooler = pooler()
        .await
        .database("paused", &entry("").replace("dbname=weir", &format!("dbname={database}")))
        .start();
    let mut raw = log_in(&pooler, "dyn", "dyn", "paused").await.unwrap();
    pooler.console("PAUSE paused").await;
    assert_eq!(postgres().connections(&database).await, 0);
    let port = pooler.port();
    let login = tokio::spawn(async move { Raw::login(port, "dyn", "dyn", "paused").await });
    log_in(&pooler, "dyn", "dyn", "weir").await.unwrap();
    assert!(!login.is_finished());
    assert_eq!(postgres().connections(&database).await, 0);
    pooler.console("RESUME paused").await;
    let mut late = login.await.unwrap();
    assert_eq!(late.value("SELECT session_user").await.unwrap(), "dyn");
    assert_eq!(raw.value("SELECT session_user").await.unwrap(), "dyn");
}

/// Would break with: names that anybody makes up in what is shown, connections to them that stay, or an answer that
/// tells before any proof which databases there are.
#[tokio::test]
async fn names_that_anybody_makes_up_leave_nothing_behind() {
    prepare().await;
    let database = postgres().fresh_database().await;
    let pooler = pooler().await.setting("autodb_idle_timeout", 1).start();
    log_in(&pooler, "dyn", "dyn", "weir").await.unwrap();
    for number in 0..3 {
        let mut raw = Raw::open(pooler.port()).await;
        let name = format!("madeup{number}");
        raw.write(&common::frontend::startup(
            common::frontend::VERSION_3_0,
            &[("user", "dyn"), ("database", &name)],
        ))
        .await;
        assert_eq!(raw.read().await.tag, b'R', "a question, as for any other");
        assert_eq!(refusal(&pooler, "dyn", "dyn", &name).await, wrong("dyn"));
    }
    assert_eq!(refusal(&pooler, "dyn", "wrong", &database).await, wrong("dyn"));
    let pools = pooler.console("SHOW POOLS").await;
    let shown = |name: &str| pools.iter().any(|row| row[0].as_deref() == Some(name));
    assert!(!shown("madeup0") && !shown(&database) && shown("weir"), "{pools:?}");
    let look = format!("SELECT (count(*) = 0)::int::int8 FROM pg_stat_activity WHERE datname = '{database}'");
    common::look::seen(postgres(), &look, &[]).await;
}

/// Would break with: an entry `*` that has a say in the console's users.
#[tokio::test]
async fn the_place_that_the_entry_star_names_is_not_the_consoles() {
    let star = format!("host=127.0.0.1 port={}", postgres().port());
    let pooler = pooler()
        .await
        .setting("admin_users", "admin,dyn")
        .setting("auth_dbname", "weir")
        .database("*", &format!("{star} auth_dbname=pgbouncer"))
        .start();
    log_in(&pooler, "dyn", "dyn", "pgbouncer").await.unwrap();
}
