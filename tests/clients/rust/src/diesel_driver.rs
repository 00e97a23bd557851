//! diesel: over libpq, with a cache of prepared statements. It blocks.

use crate::cases::{self, Report, lines};
use anyhow::{Context, Result, ensure};
use diesel::connection::SimpleConnection;
use diesel::dsl::{select, sql};
use diesel::pg::PgRowByRowLoadingMode;
use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error};
use diesel::sql_types::{Array, BigInt, Binary, Bool, Double, Integer, Nullable, Text};
use std::future::Future;
use std::io::{Read, Write};

diesel::table! {
    diesel_things (a) {
        a -> Integer,
        b -> Nullable<Text>,
        c -> Nullable<Binary>,
    }
}
use diesel_things::table as things;

diesel::define_sql_function! { fn pg_backend_pid() -> Integer }
diesel::define_sql_function! { fn generate_series(first: Integer, last: Integer) -> Integer }

fn connect() -> Result<PgConnection> {
    // The address and the password come from the environment.
    Ok(PgConnection::establish("")?)
}

pub async fn run() {
    let mut report = Report::of("diesel");
    report.case("connect", ready(connects)).await;
    report.case("types", ready(types)).await;
    report.case("errors", ready(errors)).await;
    report.case("transactions", ready(transactions)).await;
    report.case("prepared", cases::prepared::<PgConnection>()).await;
    report.skip("pipeline", "it waits for each answer");
    report.case("cursor", ready(cursor)).await;
    report.skip("cancel", "it has no call for it");
    report.case("copy", ready(copy)).await;
    report.case("large", ready(large)).await;
    report.skip("notices", "it prints them");
    report.case("rivals", cases::rivals::<PgConnection>()).await;
    report.close();
}

async fn ready(case: fn() -> Result<()>) -> Result<()> {
    case()
}

/// Runs the case with an empty table.
fn with_things() -> Result<PgConnection> {
    let mut client = connect()?;
    client.batch_execute("DROP TABLE IF EXISTS diesel_things")?;
    client.batch_execute("CREATE TABLE diesel_things (a int PRIMARY KEY, b text, c bytea)")?;
    Ok(client)
}

fn expect_message<T>(part: &str, outcome: QueryResult<T>) -> Result<()> {
    let error = outcome.err().with_context(|| format!("no error with {part}"))?;
    ensure!(error.to_string().contains(part), "{error}");
    Ok(())
}

fn connects() -> Result<()> {
    let user: String = select(sql::<Text>("current_user::text")).get_result(&mut connect()?)?;
    ensure!(user == "weir", "{user}");
    Ok(())
}

fn types() -> Result<()> {
    type Row = (i32, i64, String, f64, bool, Option<String>, Vec<u8>, Vec<i32>);
    let values: Row = (42, 1 << 40, "hé'\\".to_owned(), 1.5, true, None, vec![0, 1, 255], vec![1, 2, 3]);
    let found: Row = select((
        values.0.into_sql::<Integer>(),
        values.1.into_sql::<BigInt>(),
        values.2.as_str().into_sql::<Text>(),
        values.3.into_sql::<Double>(),
        values.4.into_sql::<Bool>(),
        values.5.as_deref().into_sql::<Nullable<Text>>(),
        values.6.as_slice().into_sql::<Binary>(),
        values.7.as_slice().into_sql::<Array<Integer>>(),
    ))
    .get_result(&mut connect()?)?;
    ensure!(found == values, "{found:?}");
    Ok(())
}

fn errors() -> Result<()> {
    let mut client = with_things()?;
    let insert = diesel::insert_into(things).values(diesel_things::a.eq(1));
    insert.execute(&mut client)?;
    let again = insert.execute(&mut client);
    ensure!(matches!(again, Err(Error::DatabaseError(DatabaseErrorKind::UniqueViolation, _))), "{again:?}");
    expect_message("division by zero", select(1.into_sql::<Integer>() / 0).get_result::<i32>(&mut client))?;
    expect_message("nowhere", client.batch_execute("SELECT * FROM nowhere"))?;
    ensure!(things.count().get_result::<i64>(&mut client)? == 1);
    Ok(())
}

fn transactions() -> Result<()> {
    let mut client = with_things()?;
    let insert = |number: i32, client: &mut PgConnection| {
        diesel::insert_into(things).values(diesel_things::a.eq(number)).execute(client)
    };
    client.transaction(|outer| {
        insert(1, outer)?;
        let inner = outer.transaction(|inner| {
            insert(2, inner)?;
            expect_message("duplicate", insert(2, inner)).map_err(|_| Error::NotFound)?;
            expect_message("aborted", insert(3, inner)).map_err(|_| Error::NotFound)?;
            QueryResult::<()>::Err(Error::RollbackTransaction)
        });
        assert_eq!(inner, Err(Error::RollbackTransaction));
        insert(4, outer)
    })?;
    client.build_transaction().serializable().run(|serial| insert(5, serial))?;
    let read_only = client.build_transaction().read_only().run(|reader| insert(6, reader));
    ensure!(
        matches!(read_only, Err(Error::DatabaseError(DatabaseErrorKind::ReadOnlyTransaction, _))),
        "{read_only:?}"
    );
    let kept: Vec<i32> = things.select(diesel_things::a).order(diesel_things::a).load(&mut client)?;
    ensure!(kept == [1, 4, 5], "{kept:?}");
    Ok(())
}

/// Row by row, as libpq calls it: the answer is read while it comes.
fn cursor() -> Result<()> {
    let mut client = connect()?;
    let rows = select(generate_series(1, 1000)).load_iter::<i32, PgRowByRowLoadingMode>(&mut client)?;
    let sum: i32 = rows.sum::<QueryResult<i32>>()?;
    ensure!(sum == 500_500, "{sum}");
    Ok(())
}

fn copy() -> Result<()> {
    let mut client = with_things()?;
    let columns = (diesel_things::a, diesel_things::b);
    let whole = lines();
    let write = |out: &mut dyn Write| QueryResult::Ok(out.write_all(whole.as_bytes()).unwrap_or(()));
    let copied = diesel::copy_from(things).from_raw_data(columns, write).execute(&mut client)?;
    ensure!(copied == 5000, "{copied}");
    let mut out = String::new();
    diesel::copy_to(columns).load_raw(&mut client)?.read_to_string(&mut out)?;
    ensure!(out == whole);
    // A COPY with bad data is not tried: the driver leaves its connection in the midst of it.
    ensure!(things.count().get_result::<i64>(&mut client)? == 5000);
    Ok(())
}

fn large() -> Result<()> {
    let (text, blob) = ("weir".repeat(1_000_000), vec![7_u8; 1 << 21]);
    let both = (text.as_str().into_sql::<Text>(), blob.as_slice().into_sql::<Binary>());
    let found: (String, Vec<u8>) = select(both).get_result(&mut connect()?)?;
    ensure!(found == (text, blob));
    Ok(())
}

impl cases::Client for PgConnection {
    async fn open() -> Result<Self> {
        connect()
    }

    fn begin(&mut self) -> impl Future<Output = Result<()>> + Send {
        let done = self.batch_execute("BEGIN").map_err(Into::into);
        async { done }
    }

    fn commit(&mut self) -> impl Future<Output = Result<()>> + Send {
        let done = self.batch_execute("COMMIT").map_err(Into::into);
        async { done }
    }

    fn server(&mut self) -> impl Future<Output = Result<i32>> + Send {
        let row = select(pg_backend_pid()).get_result(self).map_err(Into::into);
        async { row }
    }

    fn doubled(&mut self, number: i32) -> impl Future<Output = Result<(i32, i32)>> + Send {
        let row =
            select((number.into_sql::<Integer>() * 2, pg_backend_pid())).get_result(self).map_err(Into::into);
        async { row }
    }

    /// The tag is a value: SQL with text of one's own is not kept prepared.
    fn tagged(&mut self, own: i32, number: i32) -> impl Future<Output = Result<(String, i32, i32)>> + Send {
        let whose = format!("client {own}").into_sql::<Text>();
        let row = select((whose, own.into_sql::<Integer>() + number, pg_backend_pid()))
            .get_result(self)
            .map_err(Into::into);
        async { row }
    }
}
