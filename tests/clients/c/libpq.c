/* libpq, as C programs use it, with its pipeline mode; the address and the password come from the environment. */

#include <libpq-fe.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { RIVALS = 8, TURNS = 30, PATIENCE = 60, LONG = 4000000 };

/* Ends the case: what went wrong is printed by `main`. */
static __thread char why[400];

static bool fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(why, sizeof why, format, arguments);
    va_end(arguments);
    for (char *each = why; *each; each++)
        if (*each == '\n') *each = ' ';
    return false;
}

#define CHECK(condition) \
    do { \
        if (!(condition)) return fail("line %d: %s", __LINE__, #condition); \
    } while (0)

static PGconn *connect_as(const char *settings) {
    PGconn *connection = PQconnectdb(settings);
    if (PQstatus(connection) != CONNECTION_OK) {
        fprintf(stderr, "%s", PQerrorMessage(connection));
        exit(1);
    }
    return connection;
}

static PGconn *connect_here(void) { return connect_as(""); }

/* Whether the result is of that kind; it is freed. */
static bool is(PGresult *result, ExecStatusType status) {
    bool same = PQresultStatus(result) == status;
    if (!same) fprintf(stderr, "%s: %s", PQresStatus(PQresultStatus(result)), PQresultErrorMessage(result));
    PQclear(result);
    return same;
}

static bool does(PGconn *connection, const char *sql) { return is(PQexec(connection, sql), PGRES_COMMAND_OK); }

/* Whether the result is an error with that SQLSTATE; it is freed. */
static bool has_state(PGresult *result, const char *state) {
    const char *found = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    bool same = found && strcmp(found, state) == 0;
    PQclear(result);
    return same;
}

/* The one number of a result; it is freed. */
static int number_of(PGresult *result) {
    int number = PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1 ? atoi(PQgetvalue(result, 0, 0)) : -1;
    PQclear(result);
    return number;
}

static int number(PGconn *connection, const char *sql) { return number_of(PQexec(connection, sql)); }

static bool test_connect(PGconn *connection) {
    CHECK(PQserverVersion(connection) >= 140000);
    CHECK(strcmp(PQparameterStatus(connection, "client_encoding"), "UTF8") == 0);
    PGresult *result = PQexec(connection, "SELECT current_user");
    CHECK(PQntuples(result) == 1 && strcmp(PQgetvalue(result, 0, 0), "weir") == 0);
    PQclear(result);
    return true;
}

static bool test_types(PGconn *connection) {
    const char *sql = "SELECT $1::int, $2::bigint, $3::text, $4::float8, $5::bool, $6::text, $7::numeric, $8::int[], $9::date";
    const char *values[] = {"42", "1099511627776", "h\u00e9'\\", "1.5", "t", NULL, "12345.678901", "{1,2,3}", "2024-02-29"};
    PGresult *result = PQexecParams(connection, sql, 9, NULL, values, NULL, NULL, 0);
    CHECK(PQresultStatus(result) == PGRES_TUPLES_OK);
    for (int column = 0; column < 9; column++) {
        CHECK(PQgetisnull(result, 0, column) == !values[column]);
        CHECK(!values[column] || strcmp(PQgetvalue(result, 0, column), values[column]) == 0);
    }
    PQclear(result);
    const char *bytes[] = {"\x00\x01\xff"};
    result = PQexecParams(connection, "SELECT $1::bytea", 1, NULL, bytes, (int[]){3}, (int[]){1}, 1);
    CHECK(PQgetlength(result, 0, 0) == 3 && memcmp(PQgetvalue(result, 0, 0), bytes[0], 3) == 0);
    PQclear(result);
    return true;
}

static bool test_errors(PGconn *connection) {
    const char *zero[] = {"0"};
    CHECK(has_state(PQexecParams(connection, "SELECT 1/$1::int", 1, NULL, zero, NULL, NULL, 0), "22012"));
    CHECK(has_state(PQexec(connection, "SELECT * FROM nowhere"), "42P01"));
    CHECK(has_state(PQprepare(connection, "bad", "SELEC 1", 0, NULL), "42601"));
    CHECK(has_state(PQexecPrepared(connection, "bad", 0, NULL, NULL, NULL, 0), "26000"));
    CHECK(number(connection, "SELECT 1") == 1);
    return true;
}

static bool test_transactions(PGconn *connection) {
    CHECK(does(connection, "DROP TABLE IF EXISTS libpq_savepoints"));
    CHECK(does(connection, "CREATE TABLE libpq_savepoints (a int)"));
    CHECK(does(connection, "BEGIN"));
    CHECK(PQtransactionStatus(connection) == PQTRANS_INTRANS);
    CHECK(does(connection, "INSERT INTO libpq_savepoints VALUES (1)"));
    CHECK(does(connection, "SAVEPOINT s"));
    CHECK(does(connection, "INSERT INTO libpq_savepoints VALUES (2)"));
    CHECK(has_state(PQexec(connection, "SELECT 1/0"), "22012"));
    CHECK(PQtransactionStatus(connection) == PQTRANS_INERROR);
    CHECK(has_state(PQexec(connection, "SELECT 1"), "25P02"));
    CHECK(does(connection, "ROLLBACK TO s"));
    CHECK(does(connection, "COMMIT"));
    CHECK(PQtransactionStatus(connection) == PQTRANS_IDLE);
    CHECK(does(connection, "BEGIN"));
    CHECK(does(connection, "INSERT INTO libpq_savepoints VALUES (3)"));
    CHECK(does(connection, "ROLLBACK"));
    CHECK(number(connection, "SELECT sum(a) FROM libpq_savepoints") == 1);
    return true;
}

/* Runs the prepared statement `doubled`; gives its server, or -1. */
static int doubled(PGconn *connection, int turn) {
    char text[12];
    snprintf(text, sizeof text, "%d", turn);
    PGresult *result = PQexecPrepared(connection, "doubled", 1, (const char *[]){text}, NULL, NULL, 0);
    bool right = PQresultStatus(result) == PGRES_TUPLES_OK && atoi(PQgetvalue(result, 0, 0)) == 2 * turn;
    if (!right) fail("doubled: %s", PQresultErrorMessage(result));
    int server = right ? atoi(PQgetvalue(result, 0, 1)) : -1;
    PQclear(result);
    return server;
}

#define DOUBLED "SELECT $1::int * 2, pg_backend_pid()"

/* One statement over many transactions. Two holders take both servers, and one leaves: that server is left. */
static bool test_prepared(PGconn *own) {
    PGconn *holders[] = {connect_here(), connect_here()};
    CHECK(is(PQprepare(own, "doubled", DOUBLED, 0, NULL), PGRES_COMMAND_OK));
    for (int turn = 0; turn < 20; turn++) {
        int servers[2];
        for (int place = 0; place < 2; place++) {
            CHECK(does(holders[place], "BEGIN"));
            servers[place] = number(holders[place], "SELECT pg_backend_pid()");
        }
        int leaver = (servers[0] < servers[1]) == turn % 2;
        CHECK(does(holders[leaver], "COMMIT"));
        CHECK(does(own, "BEGIN"));
        int server = doubled(own, turn);
        if (server == -1) return false;
        CHECK(server == servers[leaver]);
        CHECK(does(own, "COMMIT"));
        CHECK(does(holders[!leaver], "COMMIT"));
    }
    PGresult *described = PQdescribePrepared(own, "doubled");
    CHECK(PQnparams(described) == 1 && PQparamtype(described, 0) == 23);
    PQclear(described);
    PQfinish(holders[0]);
    PQfinish(holders[1]);
    return true;
}

static bool send_quotient(PGconn *connection, const char *divisor) {
    return PQsendQueryParams(connection, "SELECT 10/$1::int", 1, NULL, &divisor, NULL, NULL, 0);
}

/* The next result of a pipeline, with the NULL behind it. */
static PGresult *next(PGconn *connection) {
    PGresult *result = PQgetResult(connection);
    if (PQresultStatus(result) != PGRES_PIPELINE_SYNC) PQclear(PQgetResult(connection));
    return result;
}

static bool test_pipeline(PGconn *connection) {
    CHECK(PQenterPipelineMode(connection));
    for (int round = 0; round < 3; round++) {
        CHECK(send_quotient(connection, "5") && send_quotient(connection, "0") && send_quotient(connection, "2"));
        CHECK(PQpipelineSync(connection));
        CHECK(send_quotient(connection, "1"));
        CHECK(PQpipelineSync(connection));
    }
    for (int round = 0; round < 3; round++) {
        CHECK(number_of(next(connection)) == 2);
        CHECK(has_state(next(connection), "22012"));
        CHECK(is(next(connection), PGRES_PIPELINE_ABORTED));
        CHECK(is(next(connection), PGRES_PIPELINE_SYNC));
        CHECK(number_of(next(connection)) == 10);
        CHECK(is(next(connection), PGRES_PIPELINE_SYNC));
    }
    /* A statement that is prepared, used and spoilt in one go. */
    const char *three[] = {"3"};
    CHECK(PQsendPrepare(connection, "tripled", "SELECT $1::int * 3", 0, NULL));
    CHECK(PQsendQueryPrepared(connection, "tripled", 1, three, NULL, NULL, 0));
    CHECK(PQsendPrepare(connection, "tripled", "SELECT 1", 0, NULL));
    CHECK(PQsendQueryPrepared(connection, "tripled", 1, three, NULL, NULL, 0));
    CHECK(PQpipelineSync(connection));
    CHECK(PQsendQueryPrepared(connection, "tripled", 1, three, NULL, NULL, 0));
    CHECK(PQsendFlushRequest(connection) && PQflush(connection) == 0);
    CHECK(is(next(connection), PGRES_COMMAND_OK));
    CHECK(number_of(next(connection)) == 9);
    CHECK(has_state(next(connection), "42P05"));
    CHECK(is(next(connection), PGRES_PIPELINE_ABORTED));
    CHECK(is(next(connection), PGRES_PIPELINE_SYNC));
    CHECK(number_of(next(connection)) == 9);
    CHECK(PQpipelineSync(connection));
    CHECK(is(next(connection), PGRES_PIPELINE_SYNC));
    CHECK(PQexitPipelineMode(connection));
    CHECK(number(connection, "SELECT 1") == 1);
    return true;
}

static bool test_cursor(PGconn *connection) {
    CHECK(does(connection, "BEGIN"));
    CHECK(does(connection, "DECLARE numbers CURSOR FOR SELECT generate_series(1, 1000)"));
    int sum = 0, rows;
    do {
        PGresult *result = PQexec(connection, "FETCH 100 FROM numbers");
        rows = PQntuples(result);
        for (int row = 0; row < rows; row++) sum += atoi(PQgetvalue(result, row, 0));
        PQclear(result);
    } while (rows > 0);
    CHECK(does(connection, "COMMIT"));
    CHECK(sum == 500500);
    return true;
}

/* Waits until the server itself says that the query runs. */
static void until_active(const char *sql) {
    char settings[100];
    snprintf(settings, sizeof settings, "port=%s user=postgres", getenv("DIRECT_PORT"));
    PGconn *looker = connect_as(settings);
    const char *look = "SELECT count(*) FROM pg_stat_activity WHERE query = $1 AND state = 'active'";
    while (number_of(PQexecParams(looker, look, 1, NULL, &sql, NULL, NULL, 0)) == 0)
        ;
    PQfinish(looker);
}

static bool test_cancel(PGconn *connection) {
    char text[256];
    CHECK(PQsendQuery(connection, "SELECT pg_sleep(600)"));
    until_active("SELECT pg_sleep(600)");
    PGcancel *cancel = PQgetCancel(connection);
    CHECK(PQcancel(cancel, text, sizeof text));
    PQfreeCancel(cancel);
    CHECK(has_state(PQgetResult(connection), "57014"));
    CHECK(PQgetResult(connection) == NULL);
    CHECK(number(connection, "SELECT 1") == 1);
    return true;
}

static bool test_copy(PGconn *connection) {
    char line[40];
    CHECK(does(connection, "DROP TABLE IF EXISTS libpq_copy"));
    CHECK(does(connection, "CREATE TABLE libpq_copy (a int, b text)"));
    CHECK(is(PQexec(connection, "COPY libpq_copy FROM STDIN"), PGRES_COPY_IN));
    for (int row = 0; row < 5000; row++)
        CHECK(PQputCopyData(connection, line, snprintf(line, sizeof line, "%d\trow %d\n", row, row)) == 1);
    CHECK(PQputCopyEnd(connection, NULL) == 1);
    CHECK(is(PQgetResult(connection), PGRES_COMMAND_OK) && PQgetResult(connection) == NULL);
    CHECK(is(PQexec(connection, "COPY (SELECT * FROM libpq_copy ORDER BY a) TO STDOUT"), PGRES_COPY_OUT));
    char *found;
    int rows = 0;
    while (PQgetCopyData(connection, &found, 0) > 0) {
        snprintf(line, sizeof line, "%d\trow %d\n", rows, rows);
        CHECK(strcmp(found, line) == 0);
        PQfreemem(found);
        rows++;
    }
    CHECK(rows == 5000);
    CHECK(is(PQgetResult(connection), PGRES_COMMAND_OK) && PQgetResult(connection) == NULL);
    /* The client gives up, and then the data is bad. */
    CHECK(is(PQexec(connection, "COPY libpq_copy FROM STDIN"), PGRES_COPY_IN));
    CHECK(PQputCopyEnd(connection, "never mind") == 1);
    CHECK(has_state(PQgetResult(connection), "57014") && PQgetResult(connection) == NULL);
    CHECK(is(PQexec(connection, "COPY libpq_copy FROM STDIN"), PGRES_COPY_IN));
    CHECK(PQputCopyData(connection, "x\ty\n", 4) == 1 && PQputCopyEnd(connection, NULL) == 1);
    CHECK(has_state(PQgetResult(connection), "22P02") && PQgetResult(connection) == NULL);
    CHECK(number(connection, "SELECT count(*) FROM libpq_copy") == 5000);
    return true;
}

static bool test_large(PGconn *connection) {
    char *text = malloc(LONG + 1);
    memset(text, 'w', LONG);
    text[LONG] = 0;
    const char *values[] = {text};
    PGresult *result = PQexecParams(connection, "SELECT $1::text", 1, NULL, values, NULL, NULL, 0);
    CHECK(PQresultStatus(result) == PGRES_TUPLES_OK && strcmp(PQgetvalue(result, 0, 0), text) == 0);
    PQclear(result);
    free(text);
    return true;
}

static void take_notice(void *seen, const PGresult *notice) {
    strncat(seen, PQresultErrorField(notice, PG_DIAG_MESSAGE_PRIMARY), 20);
}

static bool test_notices(PGconn *connection) {
    char seen[100] = "";
    PQsetNoticeReceiver(connection, take_notice, seen);
    CHECK(does(connection, "DO $$ BEGIN RAISE NOTICE 'one '; RAISE WARNING 'two'; END $$"));
    CHECK(strcmp(seen, "one two") == 0);
    return true;
}

/* A client among more clients than servers: all have the same statement names, and different SQL. */
struct rival {
    PGconn *connection;
    int number;
    int servers[TURNS];
    char why[sizeof why];
};

static bool play(struct rival *self) {
    PGconn *connection = self->connection;
    char sql[100], text[12], whose[20];
    snprintf(sql, sizeof sql, "SELECT 'client %d', $1::int + %d, pg_backend_pid()", self->number, self->number);
    snprintf(whose, sizeof whose, "client %d", self->number);
    CHECK(is(PQprepare(connection, "tagged", sql, 0, NULL), PGRES_COMMAND_OK));
    CHECK(is(PQprepare(connection, "doubled", DOUBLED, 0, NULL), PGRES_COMMAND_OK));
    for (int turn = 0; turn < TURNS; turn++) {
        snprintf(text, sizeof text, "%d", turn);
        CHECK(does(connection, "BEGIN"));
        PGresult *result = PQexecPrepared(connection, "tagged", 1, (const char *[]){text}, NULL, NULL, 0);
        CHECK(PQresultStatus(result) == PGRES_TUPLES_OK);
        CHECK(strcmp(PQgetvalue(result, 0, 0), whose) == 0);
        CHECK(atoi(PQgetvalue(result, 0, 1)) == turn + self->number);
        self->servers[turn] = atoi(PQgetvalue(result, 0, 2));
        PQclear(result);
        CHECK(doubled(connection, turn) == self->servers[turn]);
        CHECK(does(connection, "COMMIT"));
    }
    return true;
}

static void *play_in_thread(void *argument) {
    struct rival *self = argument;
    bool good = play(self);
    memcpy(self->why, why, sizeof why);
    /* Who failed must not hold a server that others wait for. */
    PQfinish(self->connection);
    return good ? self : NULL;
}

static bool test_rivals(PGconn *unused) {
    (void)unused;
    static struct rival rivals[RIVALS];
    pthread_t threads[RIVALS];
    for (int number = 0; number < RIVALS; number++) {
        rivals[number].number = number;
        rivals[number].connection = connect_here();
    }
    for (int number = 0; number < RIVALS; number++) pthread_create(&threads[number], NULL, play_in_thread, &rivals[number]);
    bool good = true;
    for (int number = 0; number < RIVALS; number++) {
        void *done;
        pthread_join(threads[number], &done);
        if (!done) good = fail("client %d: %s", number, rivals[number].why);
    }
    if (!good) return false;
    int servers[2] = {rivals[0].servers[0], 0};
    for (int each = 0; each < RIVALS * TURNS; each++) {
        int server = rivals[each / TURNS].servers[each % TURNS];
        if (server != servers[0] && !servers[1]) servers[1] = server;
        CHECK(server == servers[0] || server == servers[1]);
    }
    return true;
}

static const struct {
    const char *name;
    bool (*run)(PGconn *);
} cases[] = {
    {"connect", test_connect},   {"types", test_types},   {"errors", test_errors}, {"transactions", test_transactions},
    {"prepared", test_prepared}, {"pipeline", test_pipeline}, {"cursor", test_cursor}, {"cancel", test_cancel},
    {"copy", test_copy},         {"large", test_large},   {"notices", test_notices}, {"rivals", test_rivals},
};

int main(void) {
    int count = sizeof cases / sizeof *cases, version = PQlibVersion();
    printf("driver libpq %d.%d\n", version / 10000, version % 10000);
    for (int place = 0; place < count; place++) {
        PGconn *connection = connect_here();
        alarm(PATIENCE);
        if (cases[place].run(connection))
            printf("ok %s\n", cases[place].name);
        else
            printf("not ok %s: %s\n", cases[place].name, why);
        fflush(stdout);
        PQfinish(connection);
    }
    printf("1..%d\n", count);
}
