"""psql, as people use it: what it prints must be what it prints without a pooler."""

import os
import pathlib
import signal
import subprocess
import tempfile

from cases import DIRECT_PORT, PATIENCE, case, main, until_active


def psql(*arguments, direct=False, stdin=None):
    """Runs psql; gives its exit code, output and errors."""
    environment = {**os.environ, "PGPORT": str(DIRECT_PORT)} if direct else os.environ
    done = subprocess.run(
        ["psql", "--no-psqlrc", *arguments], env=environment, input=stdin, capture_output=True, text=True, timeout=PATIENCE
    )
    return done.returncode, done.stdout, done.stderr


def same(*arguments, stdin=None):
    """Runs psql with and without the pooler; gives the result, which must be the same."""
    pooled, direct = psql(*arguments, stdin=stdin), psql(*arguments, direct=True, stdin=stdin)
    assert pooled == direct, f"{pooled} instead of {direct}"
    return pooled


@case
def a_query():
    assert same("-Atc", "SELECT 1, 'two', NULL") == (0, "1|two|\n", "")


@case
def several_statements_in_one_query():
    code, output, _ = same("-c", "SELECT 1; SELECT 'two'; SELECT 1/0; SELECT 3")
    assert code == 1 and "two" in output and "3" not in output


@case
def errors_are_those_of_the_server():
    sqls = ["SELECT 1/0", "SELECT * FROM nowhere", "SELEC 1", "SELECT 'é'::int", "ALTER SYSTEM SET fsync = on", "BEGIN; SELECT x"]
    for sql in sqls:
        code, _, text = same("-v", "VERBOSITY=verbose", "-c", sql)
        assert code == 1 and "ERROR" in text, sql


@case
def a_script():
    script = """
        \\set ON_ERROR_STOP 0
        BEGIN;
        CREATE TABLE psql_script (a int PRIMARY KEY, b text);
        INSERT INTO psql_script VALUES (1, 'one'), (2, 'two');
        SAVEPOINT s;
        INSERT INTO psql_script VALUES (1, 'again');
        ROLLBACK TO s;
        DECLARE c CURSOR FOR SELECT * FROM psql_script ORDER BY a;
        FETCH 1 FROM c;
        FETCH ALL FROM c;
        \\d psql_script
        ROLLBACK;
        DO $$ BEGIN RAISE NOTICE 'noted'; END $$;
        SELECT count(*) FROM pg_class WHERE relname = 'psql_script' \\gx
        \\conninfo_is_not_a_command
        \\echo :SERVER_VERSION_NUM :ENCODING
    """
    _, output, text = same("--echo-all", stdin=script)
    assert "one" in output and "duplicate key" in text and "noted" in text


@case
def copy_in_and_out():
    with tempfile.TemporaryDirectory() as folder:
        table = "psql_copy"
        lines = "".join(f"{number}\trow {number}\n" for number in range(20_000))
        source, target = pathlib.Path(folder, "in"), pathlib.Path(folder, "out")
        source.write_text(lines)
        steps = [
            f"DROP TABLE IF EXISTS {table}",
            f"CREATE TABLE {table} (a int, b text)",
            f"\\copy {table} FROM '{source}'",
            f"\\copy (SELECT * FROM {table} ORDER BY a) TO '{target}'",
            f"SELECT count(*) FROM {table}",
        ]
        code, output, text = psql("-At", *(part for step in steps for part in ("-c", step)))
        assert code == 0 and output.endswith("COPY 20000\nCOPY 20000\n20000\n"), (code, output, text)
        assert target.read_text() == lines


@case
def a_copy_with_bad_data():
    psql("-c", "CREATE TABLE psql_bad_data (a int)")
    code, _, text = same("-c", "\\copy psql_bad_data FROM STDIN", stdin="1\nx\n\\.\n")
    assert code == 1 and "invalid input syntax" in text


@case
def a_wide_result():
    code, output, _ = same("-Atc", "SELECT repeat('weir', 500000), n FROM generate_series(1, 5) n")
    assert code == 0 and len(output) > 10_000_000


@case
def control_c_cancels():
    sql = "SELECT pg_sleep(600)"
    command = ["psql", "--no-psqlrc", "-c", sql]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        until_active(sql)
        program.send_signal(signal.SIGINT)
        _, text = program.communicate(timeout=PATIENCE)
    assert "canceling statement due to user request" in text, text


@case
def a_wrong_password():
    environment = {**os.environ, "PGPASSWORD": "wrong"}
    done = subprocess.run(["psql", "-c", "SELECT 1"], env=environment, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 2 and "FATAL" in done.stderr and "authentication failed" in done.stderr, done


main()
