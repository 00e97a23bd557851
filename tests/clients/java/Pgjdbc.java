import java.io.StringReader;
import java.io.StringWriter;
import java.math.BigDecimal;
import java.sql.Array;
import java.sql.BatchUpdateException;
import java.sql.Connection;
import java.sql.Date;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.SQLWarning;
import java.sql.Savepoint;
import java.sql.Statement;
import java.sql.Types;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.postgresql.PGConnection;
import org.postgresql.copy.CopyManager;

/** pgjdbc with its default settings: it prepares a statement under a name at its fifth use. */
public class Pgjdbc {
    static final int RIVALS = 8;
    static final int TURNS = 30;
    static final int PATIENCE = 60;
    static final String SERVER = "SELECT pg_backend_pid()";
    static final String DOUBLED = "SELECT ?::int * 2, pg_backend_pid()";

    interface Case {
        void run(Connection connection) throws Exception;
    }

    interface Step {
        void run() throws Exception;
    }

    public static void main(String[] arguments) throws Exception {
        System.out.println("driver pgjdbc " + org.postgresql.util.DriverInfo.DRIVER_VERSION);
        Map<String, Case> cases = new LinkedHashMap<>();
        cases.put("connect", Pgjdbc::connect);
        cases.put("types", Pgjdbc::types);
        cases.put("errors", Pgjdbc::errors);
        cases.put("transactions", Pgjdbc::transactions);
        cases.put("prepared", Pgjdbc::prepared);
        cases.put("pipeline", Pgjdbc::batch);
        cases.put("cursor", Pgjdbc::cursor);
        cases.put("cancel", Pgjdbc::cancel);
        cases.put("copy", Pgjdbc::copy);
        cases.put("large", Pgjdbc::large);
        cases.put("notices", Pgjdbc::notices);
        cases.put("rivals", Pgjdbc::rivals);
        cases.forEach((name, run) -> System.out.println(outcome(name, run)));
        System.out.println("1.." + cases.size());
        // Threads that hang must not keep the program.
        System.exit(0);
    }

    static String outcome(String name, Case run) {
        ExecutorService thread = Executors.newSingleThreadExecutor();
        try {
            Callable<Void> whole = () -> {
                try (Connection connection = open()) {
                    run.run(connection);
                }
                return null;
            };
            thread.submit(whole).get(PATIENCE, TimeUnit.SECONDS);
            return "ok " + name;
        } catch (Exception error) {
            error.printStackTrace();
            return "not ok " + name + ": " + String.valueOf(error).replace('\n', ' ');
        }
    }

    static Connection open() throws SQLException {
        return open("PGPORT", System.getenv("PGUSER"));
    }

    static Connection open(String port, String user) throws SQLException {
        String address = System.getenv("PGHOST") + ":" + System.getenv(port) + "/" + System.getenv("PGDATABASE");
        return DriverManager.getConnection("jdbc:postgresql://" + address, user, System.getenv("PGPASSWORD"));
    }

    static void check(boolean holds, Object found) {
        if (!holds) throw new AssertionError(String.valueOf(found));
    }

    static void expectState(String state, Step step) throws Exception {
        try {
            step.run();
        } catch (SQLException error) {
            check(state.equals(error.getSQLState()), error);
            return;
        }
        throw new AssertionError("no " + state);
    }

    static void execute(Connection connection, String sql) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            statement.execute(sql);
        }
    }

    /** The first row of the SQL, with the values in place of its question marks. */
    static List<Object> row(Connection connection, String sql, Object... values) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement(sql)) {
            for (int place = 0; place < values.length; place++) statement.setObject(place + 1, values[place]);
            try (ResultSet result = statement.executeQuery()) {
                check(result.next(), "no row");
                List<Object> row = new ArrayList<>();
                for (int column = 1; column <= result.getMetaData().getColumnCount(); column++) {
                    row.add(result.getObject(column));
                }
                return row;
            }
        }
    }

    static void connect(Connection connection) throws SQLException {
        check(connection.getMetaData().getDatabaseMajorVersion() >= 14, connection.getMetaData());
        check(row(connection, "SELECT current_user::text").equals(List.of("weir")), "another user");
    }

    static void types(Connection connection) throws SQLException {
        Object[] values = {42, 1L << 40, "hé'\\", 1.5, true, new BigDecimal("12345.678901"), Date.valueOf("2024-02-29")};
        String sql = "SELECT ?::int, ?::bigint, ?::text, ?::float8, ?::bool, ?::numeric, ?::date";
        // As text at first, in binary from the fifth time on.
        for (int turn = 0; turn < 8; turn++) {
            List<Object> found = row(connection, sql, values);
            check(found.equals(Arrays.asList(values)), found);
        }
        try (PreparedStatement statement = connection.prepareStatement("SELECT ?::bytea, ?::int[], ?::text")) {
            statement.setBytes(1, new byte[] {0, 1, -1});
            statement.setArray(2, connection.createArrayOf("int4", new Integer[] {1, 2, 3}));
            statement.setNull(3, Types.VARCHAR);
            ResultSet result = statement.executeQuery();
            check(result.next() && Arrays.equals(result.getBytes(1), new byte[] {0, 1, -1}), "bytes");
            Array array = result.getArray(2);
            check(Arrays.equals((Object[]) array.getArray(), new Integer[] {1, 2, 3}), array);
            check(result.getString(3) == null, "null");
        }
    }

    static void errors(Connection connection) throws Exception {
        // Also where the statement has a name on the server.
        for (int turn = 0; turn < 8; turn++) {
            expectState("22012", () -> row(connection, "SELECT 1/?::int", 0));
            check(row(connection, "SELECT 1/?::int", 1).equals(List.of(1)), "one");
        }
        expectState("42P01", () -> row(connection, "SELECT * FROM nowhere"));
        check(row(connection, "SELECT 1").equals(List.of(1)), "one");
    }

    static void transactions(Connection connection) throws Exception {
        execute(connection, "CREATE TABLE jdbc_savepoints (a int)");
        connection.setAutoCommit(false);
        execute(connection, "INSERT INTO jdbc_savepoints VALUES (1)");
        Savepoint savepoint = connection.setSavepoint();
        execute(connection, "INSERT INTO jdbc_savepoints VALUES (2)");
        expectState("22012", () -> row(connection, "SELECT 1/0"));
        expectState("25P02", () -> row(connection, "SELECT 1"));
        connection.rollback(savepoint);
        connection.commit();
        execute(connection, "INSERT INTO jdbc_savepoints VALUES (3)");
        connection.rollback();
        connection.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
        check(row(connection, "SHOW transaction_isolation").equals(List.of("serializable")), "isolation");
        check(row(connection, "SELECT sum(a)::int FROM jdbc_savepoints").equals(List.of(1)), "sum");
        connection.commit();
        connection.setReadOnly(true);
        expectState("25006", () -> execute(connection, "INSERT INTO jdbc_savepoints VALUES (4)"));
        connection.rollback();
    }

    /** One statement over many transactions. Two holders take both servers, and one leaves: that server is left. */
    static void prepared(Connection own) throws Exception {
        try (Connection holder = open(); Connection another = open()) {
            for (Connection each : List.of(own, holder, another)) each.setAutoCommit(false);
            for (int turn = 0; turn < 20; turn++) {
                Map<Integer, Connection> held = new LinkedHashMap<>();
                for (Connection each : List.of(holder, another)) held.put((Integer) row(each, SERVER).get(0), each);
                int leaving = turn % 2 == 0 ? Collections.min(held.keySet()) : Collections.max(held.keySet());
                held.get(leaving).commit();
                List<Object> found = row(own, DOUBLED, turn);
                check(found.equals(List.of(turn * 2, leaving)), found + " in turn " + turn + ", not from " + leaving);
                own.commit();
                for (Connection each : held.values()) each.commit();
            }
        }
    }

    /** A batch is sent in one go, with the mistake in its midst. */
    static void batch(Connection connection) throws Exception {
        execute(connection, "CREATE TABLE jdbc_batch (a int)");
        try (PreparedStatement statement = connection.prepareStatement("INSERT INTO jdbc_batch VALUES (10 / ?::int)")) {
            for (int turn = 0; turn < 8; turn++) {
                for (int divisor : new int[] {1, 2, 0, 5}) {
                    statement.setInt(1, divisor);
                    statement.addBatch();
                }
                try {
                    statement.executeBatch();
                    throw new AssertionError("no error");
                } catch (BatchUpdateException error) {
                    check("22012".equals(error.getSQLState()), error);
                }
                for (int number = 0; number < 300; number++) {
                    statement.setInt(1, 1 + number % 10);
                    statement.addBatch();
                }
                check(statement.executeBatch().length == 300, "the length of the batch");
            }
        }
        check(row(connection, "SELECT count(*)::int FROM jdbc_batch").equals(List.of(2400)), "count");
    }

    static void cursor(Connection connection) throws SQLException {
        connection.setAutoCommit(false);
        int sum = 0;
        try (Statement statement = connection.createStatement()) {
            statement.setFetchSize(100);
            ResultSet result = statement.executeQuery("SELECT generate_series(1, 1000)");
            while (result.next()) sum += result.getInt(1);
        }
        connection.commit();
        check(sum == 500500, sum);
    }

    static void cancel(Connection connection) throws Exception {
        String sql = "SELECT pg_sleep(600)";
        try (Statement statement = connection.createStatement()) {
            ExecutorService thread = Executors.newSingleThreadExecutor();
            Callable<Void> canceller = () -> {
                untilActive(sql);
                statement.cancel();
                return null;
            };
            Future<Void> done = thread.submit(canceller);
            expectState("57014", () -> statement.execute(sql));
            done.get();
            thread.shutdown();
            statement.setQueryTimeout(1);
            expectState("57014", () -> statement.execute("SELECT pg_sleep(601)"));
        }
        check(row(connection, "SELECT 1").equals(List.of(1)), "one");
    }

    /** Waits until the server itself says that the query runs. */
    static void untilActive(String sql) throws SQLException {
        String look = "SELECT count(*)::int FROM pg_stat_activity WHERE query = ? AND state = 'active'";
        try (Connection looker = open("DIRECT_PORT", "postgres")) {
            while (row(looker, look, sql).equals(List.of(0))) Thread.onSpinWait();
        }
    }

    static void copy(Connection connection) throws Exception {
        execute(connection, "CREATE TABLE jdbc_copy (a int, b text)");
        StringBuilder lines = new StringBuilder();
        for (int number = 0; number < 5000; number++) lines.append(number).append("\trow ").append(number).append('\n');
        CopyManager manager = connection.unwrap(PGConnection.class).getCopyAPI();
        check(manager.copyIn("COPY jdbc_copy FROM STDIN", new StringReader(lines.toString())) == 5000, "rows");
        StringWriter out = new StringWriter();
        manager.copyOut("COPY (SELECT * FROM jdbc_copy ORDER BY a) TO STDOUT", out);
        check(out.toString().contentEquals(lines), "the lines");
        expectState("22P02", () -> manager.copyIn("COPY jdbc_copy FROM STDIN", new StringReader("x\ty\n")));
        check(row(connection, "SELECT count(*)::int FROM jdbc_copy").equals(List.of(5000)), "count");
    }

    static void large(Connection connection) throws SQLException {
        String text = "weir".repeat(1_000_000);
        byte[] blob = new byte[1 << 21];
        Arrays.fill(blob, (byte) 7);
        List<Object> found = row(connection, "SELECT ?::text, ?::bytea", text, blob);
        check(found.get(0).equals(text) && Arrays.equals((byte[]) found.get(1), blob), "something else");
    }

    static void notices(Connection connection) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            statement.execute("DO $$ BEGIN RAISE NOTICE 'one'; RAISE WARNING 'two'; END $$");
            SQLWarning first = statement.getWarnings();
            check(first.getMessage().equals("one") && first.getNextWarning().getMessage().equals("two"), first);
        }
    }

    /** More clients than servers at the same time: the same statement names, different SQL, each answer with a tag. */
    static void rivals(Connection unused) throws Exception {
        Set<Object> servers = Collections.synchronizedSet(new HashSet<>());
        ExecutorService threads = Executors.newFixedThreadPool(RIVALS);
        List<Connection> connections = new ArrayList<>();
        for (int number = 0; number < RIVALS; number++) connections.add(open());
        List<Future<Void>> players = new ArrayList<>();
        for (int number = 0; number < RIVALS; number++) {
            int own = number;
            players.add(threads.submit(() -> play(own, connections.get(own), servers)));
        }
        for (Future<Void> player : players) player.get();
        threads.shutdown();
        check(servers.size() <= Integer.parseInt(System.getenv("POOL_SIZE")), servers);
    }

    static Void play(int number, Connection connection, Set<Object> servers) throws SQLException {
        // Who fails must not hold a server that others wait for.
        try (connection) {
            connection.setAutoCommit(false);
            String tagged = "SELECT 'client " + number + "', ?::int + " + number + ", pg_backend_pid()";
            for (int turn = 0; turn < TURNS; turn++) {
                List<Object> first = row(connection, tagged, turn);
                List<Object> second = row(connection, DOUBLED, turn);
                connection.commit();
                check(first.subList(0, 2).equals(List.of("client " + number, turn + number)), first);
                check(second.equals(List.of(turn * 2, first.get(2))), second);
                servers.add(first.get(2));
            }
        }
        return null;
    }
}
