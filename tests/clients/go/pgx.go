package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"time"

	"github.com/jackc/pgconn"
	"github.com/jackc/pgx/v4"
)

// pgx prepares every query under a name.
func pgxCases() []driverCase {
	with := func(run func(context.Context, *pgx.Conn) error) func(context.Context) error {
		return func(ctx context.Context) error {
			connection, err := pgx.Connect(ctx, "")
			if err != nil {
				return err
			}
			defer connection.Close(ctx)
			return run(ctx, connection)
		}
	}
	return []driverCase{
		{"connect", with(pgxConnects)},
		{"types", with(pgxTypes)},
		{"errors", with(pgxErrors)},
		{"transactions", with(pgxTransactions)},
		{"prepared", func(ctx context.Context) error { return prepared(ctx, openPgx) }},
		{"pipeline", with(pgxBatch)},
		{"cursor", with(pgxCursor)},
		{"cancel", with(pgxCancel)},
		{"copy", with(pgxCopy)},
		{"large", with(pgxLarge)},
		{"notices", pgxNotices},
		{"rivals", func(ctx context.Context) error { return rivals(ctx, openPgx) }},
	}
}

type pgxClient struct{ connection *pgx.Conn }

func openPgx(ctx context.Context) (client, error) {
	connection, err := pgx.Connect(ctx, "")
	return pgxClient{connection}, err
}

func (c pgxClient) do(ctx context.Context, sql string) error {
	_, err := c.connection.Exec(ctx, sql)
	return err
}

func (c pgxClient) row(ctx context.Context, sql string, values []any, into ...any) error {
	return c.connection.QueryRow(ctx, sql, values...).Scan(into...)
}

func (c pgxClient) close(ctx context.Context) { c.connection.Close(ctx) }

func pgxState(state string, err error) error {
	var said *pgconn.PgError
	return expect(errors.As(err, &said) && said.Code == state, "no", state, err)
}

// The number that the SQL gives must be this one.
func pgxNumber(ctx context.Context, connection *pgx.Conn, wanted int, sql string) error {
	var found int
	err := connection.QueryRow(ctx, sql).Scan(&found)
	return firstError(err, expect(found == wanted, found))
}

func pgxConnects(ctx context.Context, connection *pgx.Conn) error {
	var user string
	err := connection.QueryRow(ctx, "SELECT current_user::text").Scan(&user)
	return firstError(err, expect(user == "weir", user))
}

func pgxTypes(ctx context.Context, connection *pgx.Conn) error {
	null, at := (*string)(nil), time.Unix(1709209800, 0)
	sql := "SELECT $1::int, $2::bigint, $3::text, $4::float8, $5::bool, $6::text, $7::bytea, $8::int[], $9::timestamptz"
	values := []any{42, int64(1) << 40, "hé'\\", 1.5, true, null, []byte{0, 1, 255}, []int32{1, 2, 3}, at}
	var found [9]reflect.Value
	var into [9]any
	for place, value := range values {
		found[place] = reflect.New(reflect.TypeOf(value))
		into[place] = found[place].Interface()
	}
	if err := connection.QueryRow(ctx, sql, values...).Scan(into[:]...); err != nil {
		return err
	}
	for place, value := range values[:8] {
		if err := expect(reflect.DeepEqual(found[place].Elem().Interface(), value), place, found[place]); err != nil {
			return err
		}
	}
	return expect(found[8].Elem().Interface().(time.Time).Equal(at), found[8])
}

func pgxErrors(ctx context.Context, connection *pgx.Conn) error {
	var number int
	return firstError(
		pgxState("22012", connection.QueryRow(ctx, "SELECT 1/$1::int", 0).Scan(&number)),
		pgxState("42P01", connection.QueryRow(ctx, "SELECT a FROM nowhere").Scan(&number)),
		pgxNumber(ctx, connection, 1, "SELECT 1"),
	)
}

func pgxTransactions(ctx context.Context, connection *pgx.Conn) error {
	do := pgxClient{connection}.do
	if err := do(ctx, "CREATE TABLE pgx_savepoints (a int)"); err != nil {
		return err
	}
	insert := "INSERT INTO pgx_savepoints VALUES ($1)"
	err := connection.BeginFunc(ctx, func(outer pgx.Tx) error {
		_, first := outer.Exec(ctx, insert, 1)
		inner := outer.BeginFunc(ctx, func(inner pgx.Tx) error {
			_, err := inner.Exec(ctx, insert, 2)
			_, zero := inner.Exec(ctx, "SELECT 1/0")
			_, failed := inner.Exec(ctx, "SELECT 1")
			return firstError(err, pgxState("22012", zero), pgxState("25P02", failed), zero)
		})
		_, last := outer.Exec(ctx, insert, 3)
		return firstError(first, pgxState("22012", inner), last)
	})
	rolledBack := connection.BeginFunc(ctx, func(outer pgx.Tx) error {
		_, err := outer.Exec(ctx, insert, 4)
		return firstError(err, context.DeadlineExceeded)
	})
	return firstError(
		err,
		expect(errors.Is(rolledBack, context.DeadlineExceeded), rolledBack),
		pgxNumber(ctx, connection, 4, "SELECT sum(a)::int FROM pgx_savepoints"),
	)
}

// A batch is sent in one go, and is one implicit transaction.
func pgxBatch(ctx context.Context, connection *pgx.Conn) error {
	sql := "SELECT 10 / $1::int"
	for round := 0; round < 3; round++ {
		batch := &pgx.Batch{}
		for _, divisor := range []int{5, 0, 2} {
			batch.Queue(sql, divisor)
		}
		results := connection.SendBatch(ctx, batch)
		var two, none int
		err := firstError(
			results.QueryRow().Scan(&two),
			expect(two == 2, two),
			pgxState("22012", results.QueryRow().Scan(&none)),
			pgxState("22012", results.QueryRow().Scan(&none)),
			pgxState("22012", results.Close()),
			pgxNumber(ctx, connection, 1, "SELECT 1"),
		)
		if err != nil {
			return err
		}
	}
	return nil
}

func pgxCursor(ctx context.Context, connection *pgx.Conn) error {
	do := pgxClient{connection}.do
	err := firstError(do(ctx, "BEGIN"), do(ctx, "DECLARE numbers CURSOR FOR SELECT generate_series(1, 1000)"))
	sum := 0
	for more := true; more && err == nil; {
		rows, failure := connection.Query(ctx, "FETCH 100 FROM numbers")
		err = failure
		for more = false; err == nil && rows.Next(); more = true {
			var number int
			err = rows.Scan(&number)
			sum += number
		}
	}
	return firstError(err, do(ctx, "COMMIT"), expect(sum == 500500, sum))
}

func pgxCancel(ctx context.Context, connection *pgx.Conn) error {
	refused := make(chan error)
	go func() {
		_, err := connection.Exec(ctx, sleep)
		refused <- err
	}()
	err := firstError(untilActive(ctx, sleep), connection.PgConn().CancelRequest(ctx))
	return firstError(err, pgxState("57014", <-refused), pgxNumber(ctx, connection, 1, "SELECT 1"))
}

// Waits until the server itself says that the query runs.
func untilActive(ctx context.Context, sql string) error {
	looker, err := pgx.Connect(ctx, fmt.Sprintf("port=%s user=postgres", os.Getenv("DIRECT_PORT")))
	if err != nil {
		return err
	}
	defer looker.Close(ctx)
	active := 0
	for active == 0 && err == nil {
		look := "SELECT count(*) FROM pg_stat_activity WHERE query = $1 AND state = 'active'"
		err = looker.QueryRow(ctx, look, sql).Scan(&active)
	}
	return err
}

func pgxCopy(ctx context.Context, connection *pgx.Conn) error {
	if err := (pgxClient{connection}).do(ctx, "CREATE TABLE pgx_copy (a int, b text)"); err != nil {
		return err
	}
	var rows [][]any
	var lines strings.Builder
	for number := 0; number < 5000; number++ {
		rows = append(rows, []any{number, fmt.Sprintf("row %d", number)})
		fmt.Fprintf(&lines, "%d\trow %d\n", number, number)
	}
	copied, err := connection.CopyFrom(ctx, pgx.Identifier{"pgx_copy"}, []string{"a", "b"}, pgx.CopyFromRows(rows))
	if err = firstError(err, expect(copied == 5000, copied)); err != nil {
		return err
	}
	var out bytes.Buffer
	low := connection.PgConn()
	_, err = low.CopyTo(ctx, &out, "COPY (SELECT * FROM pgx_copy ORDER BY a) TO STDOUT")
	_, bad := low.CopyFrom(ctx, strings.NewReader("x\ty\n"), "COPY pgx_copy FROM STDIN")
	return firstError(
		err,
		expect(out.String() == lines.String(), out.Len()),
		pgxState("22P02", bad),
		pgxNumber(ctx, connection, 5000, "SELECT count(*)::int FROM pgx_copy"),
	)
}

func pgxLarge(ctx context.Context, connection *pgx.Conn) error {
	text, blob := strings.Repeat("weir", 1_000_000), bytes.Repeat([]byte{7}, 1<<21)
	var foundText string
	var foundBlob []byte
	err := connection.QueryRow(ctx, "SELECT $1::text, $2::bytea", text, blob).Scan(&foundText, &foundBlob)
	return firstError(err, expect(foundText == text && bytes.Equal(foundBlob, blob), len(foundText), len(foundBlob)))
}

func pgxNotices(ctx context.Context) error {
	config, err := pgx.ParseConfig("")
	if err != nil {
		return err
	}
	var seen []string
	config.OnNotice = func(_ *pgconn.PgConn, notice *pgconn.Notice) { seen = append(seen, notice.Message) }
	connection, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	defer connection.Close(ctx)
	err = pgxClient{connection}.do(ctx, "DO $$ BEGIN RAISE NOTICE 'one'; RAISE WARNING 'two'; END $$")
	return firstError(err, expect(strings.Join(seen, " ") == "one two", seen))
}
