// Go drivers with their default settings. The argument says which; the address and the password come from the
// environment.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sort"
	"strconv"
	"strings"
	"time"
)

const (
	rivalCount = 8
	turns      = 30
	// Only a broken pooler ever makes a case wait for so long.
	patience = 60 * time.Second
	server   = "SELECT pg_backend_pid()"
	doubled  = "SELECT $1::int * 2, pg_backend_pid()"
	sleep    = "SELECT pg_sleep(600)"
)

type driverCase struct {
	name string
	run  func(context.Context) error
}

// A client of the cases that are about more than one.
type client interface {
	do(ctx context.Context, sql string) error
	// The first row of the SQL, by a statement that stays prepared.
	row(ctx context.Context, sql string, values []any, into ...any) error
	close(ctx context.Context)
}

type opener func(context.Context) (client, error)

func main() {
	switch os.Args[1] {
	case "pgx":
		runAll("pgx", "golang-github-jackc-pgx-v4-dev", pgxCases())
	case "pq":
		runAll("lib/pq", "golang-github-lib-pq-dev", pqCases())
	}
}

func runAll(driver, debianPackage string, cases []driverCase) {
	fmt.Println("driver", driver, versionOf(debianPackage))
	for _, each := range cases {
		fmt.Println(outcome(each))
	}
	fmt.Printf("1..%d\n", len(cases))
}

// What Debian packaged: without modules a program does not know.
func versionOf(debianPackage string) string {
	version, err := exec.Command("dpkg-query", "--show", "--showformat=${Version}", debianPackage).Output()
	if err != nil {
		return "?"
	}
	return strings.Split(string(version), "-")[0]
}

// The reason why a driver has no such thing.
type noSuchThing string

func (why noSuchThing) Error() string { return string(why) }

func skip(name, why string) driverCase {
	return driverCase{name, func(context.Context) error { return noSuchThing(why) }}
}

func outcome(each driverCase) string {
	ctx, done := context.WithTimeout(context.Background(), patience)
	defer done()
	err := each.run(ctx)
	var why noSuchThing
	switch {
	case errors.As(err, &why):
		return fmt.Sprintf("skip %s: %s", each.name, why)
	case err != nil:
		return fmt.Sprintf("not ok %s: %s", each.name, strings.ReplaceAll(err.Error(), "\n", " "))
	default:
		return "ok " + each.name
	}
}

// The first of these that is an error.
func firstError(all ...error) error {
	for _, err := range all {
		if err != nil {
			return err
		}
	}
	return nil
}

func expect(holds bool, found ...any) error {
	if holds {
		return nil
	}
	return fmt.Errorf("found %v", found)
}

// One statement over many transactions. Two holders take both servers, and one leaves: that server is left.
func prepared(ctx context.Context, open opener) error {
	clients := make([]client, 3)
	for place := range clients {
		var err error
		if clients[place], err = open(ctx); err != nil {
			return err
		}
		defer clients[place].close(ctx)
	}
	own := clients[0]
	for turn := 0; turn < 20; turn++ {
		held := map[int]client{}
		for _, holder := range clients[1:] {
			var pid int
			if err := firstError(holder.do(ctx, "BEGIN"), holder.row(ctx, server, nil, &pid)); err != nil {
				return err
			}
			held[pid] = holder
		}
		left, stays := choose(held, turn)
		var twice, pid int
		err := firstError(
			held[left].do(ctx, "COMMIT"),
			own.do(ctx, "BEGIN"),
			own.row(ctx, doubled, []any{turn}, &twice, &pid),
			own.do(ctx, "COMMIT"),
			held[stays].do(ctx, "COMMIT"),
		)
		if err = firstError(err, expect(twice == turn*2 && pid == left, twice, turn, pid, left)); err != nil {
			return err
		}
	}
	return nil
}

// The one and the other in turn.
func choose(held map[int]client, turn int) (left, stays int) {
	var pids []int
	for pid := range held {
		pids = append(pids, pid)
	}
	sort.Ints(pids)
	return pids[turn%2], pids[(turn+1)%2]
}

// More clients than servers at the same time: the same statement names, different SQL, each answer with a tag.
func rivals(ctx context.Context, open opener) error {
	type result struct {
		servers []int
		err     error
	}
	results := make(chan result)
	var clients []client
	for number := 0; number < rivalCount; number++ {
		own, err := open(ctx)
		if err != nil {
			return err
		}
		clients = append(clients, own)
	}
	for number, own := range clients {
		go func(number int, own client) {
			// Who fails must not hold a server that others wait for.
			defer own.close(ctx)
			servers, err := play(ctx, number, own)
			results <- result{servers, err}
		}(number, own)
	}
	all := map[int]bool{}
	var err error
	for range clients {
		one := <-results
		err = firstError(err, one.err)
		for _, pid := range one.servers {
			all[pid] = true
		}
	}
	limit, wrong := strconv.Atoi(os.Getenv("POOL_SIZE"))
	return firstError(err, wrong, expect(len(all) <= limit, all))
}

func play(ctx context.Context, number int, own client) (servers []int, err error) {
	sql := fmt.Sprintf("SELECT 'client %d', $1::int + %d, pg_backend_pid()", number, number)
	for turn := 0; turn < turns; turn++ {
		var whose string
		var sum, pid, twice, again int
		err := firstError(
			own.do(ctx, "BEGIN"),
			own.row(ctx, sql, []any{turn}, &whose, &sum, &pid),
			own.row(ctx, doubled, []any{turn}, &twice, &again),
			own.do(ctx, "COMMIT"),
			expect(whose == fmt.Sprintf("client %d", number) && sum == turn+number, number, turn, whose, sum),
			expect(twice == turn*2 && again == pid, turn, twice, pid, again),
		)
		if err != nil {
			return nil, err
		}
		servers = append(servers, pid)
	}
	return servers, nil
}
