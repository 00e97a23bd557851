//! What clients are told at their login beside what PostgreSQL tells them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod common;

use common::{FakeServer, Message, Pgweir, PgweirBuilder, Postgres, Raw, frontend};

fn pooler() -> PgweirBuilder {
    Pgweir::builder(Postgres::shared()).setting("unix_socket_dir", "{dir}").setting("auth_type", "trust")
}

/// Everything from AuthenticationOk to ReadyForQuery.
async fn welcome(mut raw: Raw, parameters: &[(&str, &str)]) -> (Raw, Vec<Message>) {
    raw.write(&frontend::startup(frontend::VERSION_3_0, parameters)).await;
    let messages = raw.read_until_ready().await;
    assert_eq!(messages[0].body, [0, 0, 0, 0], "{messages:?}");
    (raw, messages)
}

fn told(messages: &[Message]) -> Vec<(String, String)> {
    messages.iter().filter(|message| message.tag == b'S').map(Message::parameter).collect()
}

const TRUSTED: [(&str, &str); 2] = [("user", "weir_trust"), ("database", "weir")];

/// Would break with: drivers that cannot tell what they talk to, or with a wrong mode where a user has its own.
#[tokio::test]
async fn drivers_can_tell_the_pooler() {
    let pooler = pooler()
        .setting("max_prepared_statements", 7)
        .user_setting("weir_trust", "pool_mode=session")
        .start();
    let (_, messages) = welcome(Raw::open(pooler.port()).await, &TRUSTED).await;
    let ours: Vec<_> =
        told(&messages).into_iter().filter(|(name, _)| name.starts_with("pgbouncer.")).collect();
    let expected = [("version", "1.26.1"), ("max_prepared_statements", "7"), ("pool_mode", "session")];
    let expected = expected.map(|(name, value)| (format!("pgbouncer.{name}"), value.to_owned()));
    assert_eq!(ours, expected);
    let (_, messages) =
        welcome(Raw::open(pooler.port()).await, &[("user", "weir"), ("database", "weir")]).await;
    assert!(told(&messages).contains(&("pgbouncer.pool_mode".to_owned(), "transaction".to_owned())));
    let (_, messages) =
        welcome(Raw::open(pooler.port()).await, &[("user", "admin"), ("database", "pgbouncer")]).await;
    assert_eq!(told(&messages)[0], ("pgbouncer.version".to_owned(), "1.26.1".to_owned()));
}

/// Would break with: anything that PostgreSQL would not say.
#[tokio::test]
async fn the_welcome_can_be_postgresqls_alone() {
    let pooler = pooler().setting("report_pooler", 0).start();
    let (_, messages) = welcome(Raw::open(pooler.port()).await, &TRUSTED).await;
    let (_, direct) = welcome(Raw::open(Postgres::shared().port()).await, &TRUSTED).await;
    let sorted = |messages: &[Message]| {
        let mut told = told(messages);
        told.sort();
        told
    };
    assert_eq!(sorted(&messages), sorted(&direct));
    assert_eq!(messages.len(), direct.len());
}

/// Would break with: an address that is not there, replaces the name, or comes back after the client has set another.
#[tokio::test]
async fn the_address_is_put_behind_the_name() {
    let pooler = pooler().setting("application_name_add_host", 1).pool_size(1).start();
    let name = |own: &str, raw_parameters: &[(&str, &str)]| {
        let (own, parameters) = (
            own.to_owned(),
            [&TRUSTED[..], raw_parameters]
                .concat()
                .iter()
                .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
                .collect::<Vec<_>>(),
        );
        let port = pooler.port();
        async move {
            let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let expected = format!("{own} - {}", stream.local_addr().unwrap());
            let parameters: Vec<_> = parameters.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
            let (mut raw, messages) = welcome(Raw::over(stream), &parameters).await;
            assert!(
                told(&messages).contains(&("application_name".to_owned(), expected.clone())),
                "{expected}"
            );
            assert_eq!(raw.value("SHOW application_name").await.unwrap(), expected);
            raw
        }
    };
    let mut raw = name("app", &[]).await;
    name("mine", &[("application_name", "mine")]).await;
    name("opted", &[("options", "-c application_name=opted")]).await;
    raw.query("SET application_name = 'changed'").await;
    assert_eq!(raw.value("SHOW application_name").await.unwrap(), "changed");
    let (mut raw, _) = welcome(Raw::open_unix(pooler.folder(), pooler.port()).await, &TRUSTED).await;
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let expected = format!("app - unix({}@{}):{}", std::process::id(), host.trim(), pooler.port());
    assert_eq!(raw.value("SHOW application_name").await.unwrap(), expected);
}

/// Would break with: a message that nobody gets, or that comes where a driver expects none.
#[tokio::test]
async fn a_message_is_given_before_the_first_ready() {
    let pooler = pooler().setting("login_notify_message", "maintenance at 'noon'").start();
    for parameters in [TRUSTED, [("user", "admin"), ("database", "pgbouncer")]] {
        let (_, messages) = welcome(Raw::open(pooler.port()).await, &parameters).await;
        let notice = &messages[messages.len() - 2];
        assert_eq!(notice.tag, b'N', "{messages:?}");
        assert_eq!((notice.field('S'), notice.field('C')), ("NOTICE".to_owned(), "00000".to_owned()));
        assert_eq!(notice.field('M'), "maintenance at 'noon'");
    }
    pooler.connect("weir", "weir").await.simple_query("SELECT 1").await.unwrap();
}

/// Would break with: a parameter of an extension that one client sets and the next one finds.
#[tokio::test]
async fn extra_parameters_stay_with_their_client_where_the_server_reports_them() {
    // A server that reports one more parameter, and runs `set_config` and `SET` of it by their looks.
    let server = FakeServer::start(|mut connection, _| async move {
        if !matches!(connection.opening().await, common::Opening::Startup(_)) {
            return;
        }
        let welcome = common::fake::welcome();
        let status = |value: &str| common::fake::parameter_status("App.Tenant", value);
        let (start, end) = welcome.split_at(welcome.len() - common::fake::ready('I').len());
        connection.write(&[start, &status("none"), end].concat()).await;
        let mut value = "none".to_owned();
        while let Some(message) = connection.read().await {
            let sql = message.text();
            let told = ["none", "one", "two"].into_iter().find(|tenant| sql.contains(&format!("'{tenant}'")));
            let mut answer = Vec::new();
            if sql.contains("App.Tenant") && told.is_some_and(|told| told != value) {
                value = told.unwrap().to_owned();
                answer.extend(status(&value));
            }
            answer.extend(common::fake::row_description(&["tenant"]));
            answer.extend(common::fake::data_row(&[Some(&value)]));
            answer.extend(common::fake::command_complete("SELECT 1"));
            answer.extend(common::fake::ready('I'));
            connection.write(&answer).await;
        }
    })
    .await;
    let builder = Pgweir::in_front_of(server.port()).setting("auth_type", "trust").pool_size(1);
    for (tracked, others) in [("app.tenant, other", "none"), ("other", "one")] {
        let pooler = builder.clone().setting("track_extra_parameters", tracked).start();
        let mut one = Raw::login(pooler.port(), "weir", "", "weir").await;
        let mut two = Raw::login(pooler.port(), "weir", "", "weir").await;
        one.query("SET App.Tenant = 'one'").await;
        for _ in 0..3 {
            assert_eq!(two.value("SELECT tenant").await.unwrap(), others, "{tracked}");
            assert_eq!(one.value("SELECT tenant").await.unwrap(), "one", "{tracked}");
        }
    }
}
