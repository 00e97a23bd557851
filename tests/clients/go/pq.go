package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/lib/pq"
)

// The driver insists on TLS unless it is told not to.
const pqSettings = "sslmode=disable"

// lib/pq sends a query with values as an unnamed statement, and waits between its Parse and its Bind.
func pqCases() []driverCase {
	with := func(run func(context.Context, *pqClient) error) func(context.Context) error {
		return func(ctx context.Context) error {
			own, err := openPq(ctx)
			if err != nil {
				return err
			}
			defer own.close(ctx)
			return run(ctx, own.(*pqClient))
		}
	}
	return []driverCase{
		{"connect", with(pqConnects)},
		{"types", with(pqTypes)},
		{"errors", with(pqErrors)},
		{"transactions", with(pqTransactions)},
		{"prepared", func(ctx context.Context) error { return prepared(ctx, openPq) }},
		skip("pipeline", "it waits for each answer"),
		{"cursor", with(pqCursor)},
		{"cancel", with(pqCancel)},
		{"copy", with(pqCopy)},
		{"large", with(pqLarge)},
		{"notices", pqNotices},
		{"rivals", func(ctx context.Context) error { return rivals(ctx, openPq) }},
		{"the pool of database/sql", pqPool},
	}
}

// One connection of the pool of database/sql, with its prepared statements.
type pqClient struct {
	pool       *sql.DB
	connection *sql.Conn
	statements map[string]*sql.Stmt
}

func openPq(ctx context.Context) (client, error) {
	pool, err := sql.Open("postgres", pqSettings)
	if err != nil {
		return nil, err
	}
	connection, err := pool.Conn(ctx)
	return &pqClient{pool, connection, map[string]*sql.Stmt{}}, err
}

func (c *pqClient) do(ctx context.Context, sql string) error {
	_, err := c.connection.ExecContext(ctx, sql)
	return err
}

func (c *pqClient) row(ctx context.Context, sql string, values []any, into ...any) error {
	if c.statements[sql] == nil {
		statement, err := c.connection.PrepareContext(ctx, sql)
		if err != nil {
			return err
		}
		c.statements[sql] = statement
	}
	return c.statements[sql].QueryRowContext(ctx, values...).Scan(into...)
}

// By an unnamed statement.
func (c *pqClient) once(ctx context.Context, sql string, values []any, into ...any) error {
	return c.connection.QueryRowContext(ctx, sql, values...).Scan(into...)
}

func (c *pqClient) close(context.Context) {
	c.connection.Close()
	c.pool.Close()
}

func pqState(state string, err error) error {
	var said *pq.Error
	return expect(errors.As(err, &said) && string(said.Code) == state, "no", state, err)
}

// The number that the SQL gives must be this one.
func (c *pqClient) number(ctx context.Context, wanted int, sql string) error {
	var found int
	return firstError(c.once(ctx, sql, nil, &found), expect(found == wanted, found))
}

func pqConnects(ctx context.Context, own *pqClient) error {
	var user string
	return firstError(own.once(ctx, "SELECT current_user::text", nil, &user), expect(user == "weir", user))
}

func pqTypes(ctx context.Context, own *pqClient) error {
	var (
		number int
		long   int64
		text   string
		half   float64
		yes    bool
		null   sql.NullString
		blob   []byte
		array  pq.Int64Array
		at     time.Time
	)
	moment := time.Unix(1709209800, 0)
	sql := "SELECT $1::int, $2::bigint, $3::text, $4::float8, $5::bool, $6::text, $7::bytea, $8::int[], $9::timestamptz"
	values := []any{42, int64(1) << 40, "hé'\\", 1.5, true, nil, []byte{0, 1, 255}, pq.Array([]int{1, 2, 3}), moment}
	for _, row := range []func(context.Context, string, []any, ...any) error{own.once, own.row} {
		err := firstError(
			row(ctx, sql, values, &number, &long, &text, &half, &yes, &null, &blob, &array, &at),
			expect(number == 42 && long == 1<<40 && text == "hé'\\" && half == 1.5 && yes && !null.Valid, number, text),
			expect(bytes.Equal(blob, []byte{0, 1, 255}) && fmt.Sprint(array) == "[1 2 3]" && at.Equal(moment), blob, at),
		)
		if err != nil {
			return err
		}
	}
	return nil
}

func pqErrors(ctx context.Context, own *pqClient) error {
	var number int
	return firstError(
		pqState("22012", own.once(ctx, "SELECT 1/$1::int", []any{0}, &number)),
		pqState("22012", own.row(ctx, "SELECT 1/$1::int", []any{0}, &number)),
		pqState("42P01", own.once(ctx, "SELECT a FROM nowhere", nil, &number)),
		own.number(ctx, 1, "SELECT 1"),
	)
}

func pqTransactions(ctx context.Context, own *pqClient) error {
	if err := own.do(ctx, "CREATE TABLE pq_savepoints (a int)"); err != nil {
		return err
	}
	insert := "INSERT INTO pq_savepoints VALUES ($1)"
	outer, err := own.connection.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	do := func(sql string, values ...any) error {
		_, err := outer.ExecContext(ctx, sql, values...)
		return err
	}
	err = firstError(
		do(insert, 1),
		do("SAVEPOINT s"),
		do(insert, 2),
		pqState("22012", do("SELECT 1/0")),
		pqState("25P02", do("SELECT 1")),
		do("ROLLBACK TO s"),
		do(insert, 3),
		outer.Commit(),
	)
	if err != nil {
		return err
	}
	outer, err = own.connection.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelSerializable})
	if err != nil {
		return err
	}
	sum := "SELECT sum(a)::int FROM pq_savepoints"
	return firstError(do(insert, 4), outer.Rollback(), own.number(ctx, 4, sum))
}

func pqCursor(ctx context.Context, own *pqClient) error {
	err := firstError(own.do(ctx, "BEGIN"), own.do(ctx, "DECLARE numbers CURSOR FOR SELECT generate_series(1, 1000)"))
	sum := 0
	for more := true; more && err == nil; {
		rows, failure := own.connection.QueryContext(ctx, "FETCH 100 FROM numbers")
		err = failure
		for more = false; err == nil && rows.Next(); more = true {
			var number int
			err = rows.Scan(&number)
			sum += number
		}
	}
	return firstError(err, own.do(ctx, "COMMIT"), expect(sum == 500500, sum))
}

// A context that ends makes the driver cancel, and give up the connection.
func pqCancel(ctx context.Context, own *pqClient) error {
	patient, cancel := context.WithCancel(ctx)
	defer cancel()
	refused := make(chan error)
	go func() { refused <- own.do(patient, sleep) }()
	err := untilActive(ctx, sleep)
	cancel()
	var one int
	after := own.pool.QueryRowContext(ctx, "SELECT 1").Scan
	return firstError(err, pqState("57014", <-refused), after(&one), expect(one == 1, one))
}

func pqCopy(ctx context.Context, own *pqClient) error {
	if err := own.do(ctx, "CREATE TABLE pq_copy (a int, b text)"); err != nil {
		return err
	}
	copyRows := func(rows int, value func(int) any) error {
		transaction, err := own.connection.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer transaction.Rollback()
		statement, err := transaction.PrepareContext(ctx, pq.CopyIn("pq_copy", "a", "b"))
		for number := 0; number < rows && err == nil; number++ {
			_, err = statement.ExecContext(ctx, value(number), fmt.Sprintf("row\t%d", number))
		}
		if err == nil {
			_, err = statement.ExecContext(ctx)
		}
		return firstError(err, transaction.Commit())
	}
	return firstError(
		copyRows(5000, func(number int) any { return number }),
		pqState("22P02", copyRows(1, func(int) any { return "x" })),
		own.number(ctx, 5000, "SELECT count(*)::int FROM pq_copy WHERE b = E'row\\t' || a"),
	)
}

func pqLarge(ctx context.Context, own *pqClient) error {
	text, blob := strings.Repeat("weir", 1_000_000), bytes.Repeat([]byte{7}, 1<<21)
	var foundText string
	var foundBlob []byte
	err := own.once(ctx, "SELECT $1::text, $2::bytea", []any{text, blob}, &foundText, &foundBlob)
	return firstError(err, expect(foundText == text && bytes.Equal(foundBlob, blob), len(foundText), len(foundBlob)))
}

func pqNotices(ctx context.Context) error {
	connector, err := pq.NewConnector(pqSettings)
	if err != nil {
		return err
	}
	var seen []string
	note := func(notice *pq.Error) { seen = append(seen, notice.Message) }
	pool := sql.OpenDB(pq.ConnectorWithNoticeHandler(connector, note))
	defer pool.Close()
	_, err = pool.ExecContext(ctx, "DO $$ BEGIN RAISE NOTICE 'one'; RAISE WARNING 'two'; END $$")
	return firstError(err, expect(strings.Join(seen, " ") == "one two", seen))
}

func pqPool(ctx context.Context) error {
	pool, err := sql.Open("postgres", pqSettings)
	if err != nil {
		return err
	}
	defer pool.Close()
	failures := make(chan error)
	for number := 0; number < 40; number++ {
		go func(number int) {
			var twice, pid int
			err := pool.QueryRowContext(ctx, doubled, number).Scan(&twice, &pid)
			failures <- firstError(err, expect(twice == number*2, number, twice))
		}(number)
	}
	for number := 0; number < 40; number++ {
		err = firstError(err, <-failures)
	}
	return err
}
