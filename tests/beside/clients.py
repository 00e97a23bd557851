"""Every refusal, and every end that a client meets: its SQLSTATE and its text."""

import struct
import time

from protocol import CANCEL, GSS, SSL, cancel
from scenario import Transcript, scenario
from stage import Files

SERVER = "host=127.0.0.1 port=@POSTGRES@ dbname=bench"
TRUST = {"auth_type": "trust"}


def held(at, user="alice", database="app"):
    """A client inside a transaction, which keeps its server."""
    client = at.client(user, database)
    client.query("BEGIN")
    return client


# Logins.


@scenario()
def logins(at):
    """Who is let in, and with what words who is not."""
    told = Transcript(at)
    for what, user, database, password, parameters in (
        ("a right one", "alice", "app", "alice", []),
        ("a wrong password", "alice", "app", "wrong", []),
        ("an empty password", "alice", "app", "", []),
        ("an unknown user", "stranger", "app", "stranger", []),
        ("an unknown database", "alice", "nowhere", "alice", []),
        ("an unknown user of an unknown database", "stranger", "nowhere", "x", []),
        ("a wrong password to an unknown database", "alice", "nowhere", "wrong", []),
        ("a long name", "x" * 200, "app", "x", []),
        ("a quoted name", 'al"ice', "app", "x", []),
        ("an unknown parameter", "alice", "app", "alice", [("nothing_of_ours", "1")]),
        ("extra_float_digits", "alice", "app", "alice", [("extra_float_digits", "2")]),
        ("search_path", "alice", "app", "alice", [("search_path", "public")]),
        ("statement_timeout", "alice", "app", "alice", [("statement_timeout", "1000")]),
        ("work_mem in options", "alice", "app", "alice", [("options", "-c work_mem=1MB")]),
        ("an unknown one in options", "alice", "app", "alice", [("options", "-c nothing_of_ours=1")]),
        ("datestyle in options", "alice", "app", "alice", [("options", "-c datestyle=German")]),
        ("a long form in options", "alice", "app", "alice", [("options", "--datestyle=German")]),
        ("a switch in options", "alice", "app", "alice", [("options", "-x")]),
        ("an empty name in options", "alice", "app", "alice", [("options", "-c=")]),
        ("options that end early", "alice", "app", "alice", [("options", "-c")]),
        ("empty options", "alice", "app", "alice", [("options", "")]),
        ("tracked ones", "alice", "app", "alice", [("client_encoding", "LATIN1"), ("datestyle", "German"), ("timezone", "UTC"),
                                                   ("standard_conforming_strings", "on"), ("application_name", "app é")]),
        ("a wrong value of a tracked one", "alice", "app", "alice", [("client_encoding", "nothing")]),
        ("a protocol option", "alice", "app", "alice", [("_pq_.nothing", "1")]),
        ("replication", "alice", "app", "alice", [("replication", "true")]),
        ("replication=database", "alice", "app", "alice", [("replication", "database")]),
        ("replication=off", "alice", "app", "alice", [("replication", "off")]),
        ("replication=maybe", "alice", "app", "alice", [("replication", "maybe")]),
    ):
        wire, lines = at.login(user, database, password, parameters)
        told.typed(f"{what}: {user} to {database} by {password!r} with {parameters}", lines)
        wire.close()
    return told


def login_by(kind):
    def play(at):
        told = Transcript(at)
        for user, password in (("alice", "alice"), ("alice", "wrong"), ("alice", ""), ("stranger", "stranger")):
            wire, lines = at.login(user, "app", password)
            told.typed(f"{user} by {password!r}", lines)
            wire.close()
        told.typed("a password message without a question", unasked(at))
        return told

    play.__name__ = f"logins_by_{kind.replace('-', '_')}"
    return play


def unasked(at):
    wire = at.wire()
    wire.startup([("user", "alice"), ("database", "app")])
    wire.send(b"Q", b"SELECT 1\0")
    return wire.until(b"E", b"Z")


for kind in ("any", "trust", "plain", "md5", "scram-sha-256"):
    scenario(Files(databases={"app": SERVER + " user=forced"} if kind == "any" else {}), auth_type=kind)(login_by(kind))


@scenario(
    Files(hba="local all all trust\nhost app alice 127.0.0.1/32 scram-sha-256\nhost app bob 127.0.0.1/32 md5\n"
              "host app limited 127.0.0.1/32 trust\nhost app single 127.0.0.1/32 reject\nhost all admin all password\n"),
    auth_type="hba", auth_hba_file="@FOLDER@/hba.conf",
)
def logins_by_hba(at):
    told = Transcript(at)
    for user, password in (("alice", "alice"), ("alice", "wrong"), ("bob", "bob"), ("limited", ""), ("single", "single"),
                           ("admin", "admin"), ("nobody", "nobody"), ("stranger", "stranger")):
        wire, lines = at.login(user, "app", password)
        told.typed(f"{user} by {password!r}", lines)
        wire.close()
    told.typed("over the socket", at.login("nobody", address=at.socket_file())[1])
    return told


AUTH_QUERY = {"auth_user": "postgres", "auth_query": "SELECT usename, passwd FROM pg_shadow WHERE usename=$1"}


def with_auth_query(at):
    told = Transcript(at)
    for user, database, password in (("alice", "app", "alice"), ("stranger", "app", "stranger"), ("stranger", "app", "wrong"),
                                     ("nosuch", "app", "x"), ("stranger", "nowhere", "stranger"), ("stranger", "pgbouncer", "stranger")):
        wire, lines = at.login(user, database, password)
        told.typed(f"{user} to {database} by {password!r}", lines)
        wire.close()
    told.typed("SHOW USERS", at.console().query("SHOW USERS"), False)
    told.typed("SHOW POOLS", at.console().query("SHOW POOLS"), False)
    return told


scenario(**AUTH_QUERY)(with_auth_query)


@scenario(**{**AUTH_QUERY, "auth_query": "SELECT nothing"})
def with_a_bad_auth_query(at):
    told = Transcript(at)
    told.typed("a user for whom it is asked", at.login("stranger")[1])
    return told


@scenario(auth_user="postgres", auth_dbname="nowhere")
def with_a_bad_auth_dbname(at):
    told = Transcript(at)
    told.typed("a user for whom it is asked", at.login("stranger")[1])
    return told


@scenario(client_login_timeout="1")
def client_login_timeout(at):
    told, wire = Transcript(at), at.wire()
    told.typed("a client that says nothing", wire.to_the_end())
    wire = at.wire()
    wire.startup([("user", "alice"), ("database", "app")])
    told.typed("one that does not prove itself", wire.to_the_end())
    return told


@scenario(max_client_conn="2")
def max_client_conn(at):
    told, clients = Transcript(at), [at.client(), at.client("bob")]
    told.typed("one more", at.login()[1])
    told.typed("one more that nobody knows", at.login("stranger")[1])
    wire, lines = at.login("admin", "pgbouncer")
    told.typed("an admin", lines)
    told.typed("an admin over the socket", at.login("admin", "pgbouncer", address=at.socket_file())[1])
    clients[0].close()
    at.until(lambda: len(at.login()[1]) > 4)
    return told


@scenario(Files(databases={"app": SERVER + " max_db_client_connections=2", "other": SERVER}, users={"limited": "max_user_client_connections=1"}))
def limits_of_clients(at):
    told, clients = Transcript(at), [at.client(), at.client("bob")]
    told.typed("over max_db_client_connections", at.login("nobody")[1])
    clients.append(at.client("limited", "other"))
    told.typed("over max_user_client_connections", at.login("limited", "other")[1])
    told.typed("SHOW USERS", at.console().query("SHOW USERS"), False)
    told.typed("SHOW DATABASES", at.console().query("SHOW DATABASES"), False)
    return told


@scenario()
def first_packets(at):
    """What is not a startup packet."""
    told = Transcript(at)
    for what, data in (
        ("an SSLRequest, then a login", struct.pack("!ii", 8, SSL)),
        ("a GSSENCRequest, then a login", struct.pack("!ii", 8, GSS)),
    ):
        wire = at.wire()
        wire.write(data)
        told.note(f"> {what}", wire.exactly(1).decode())
        told.typed("login", wire.login("alice", "app", "alice"))
    for what, data in (
        ("protocol 2", struct.pack("!ii", 8, 131072)),
        ("protocol 4", struct.pack("!ii", 9, 262144) + b"\0"),
        ("a length of 3", struct.pack("!ii", 3, 196608)),
        ("a length of a gigabyte", struct.pack("!ii", 1 << 30, 196608)),
        ("a length below zero", struct.pack("!ii", -1, 196608)),
        ("no user", struct.pack("!ii", 9, 196608) + b"\0"),
        ("an empty user", struct.pack("!ii", 9 + 6, 196608) + b"user\0\0\0"),
        ("no end of the parameters", struct.pack("!ii", 8 + 5, 196608) + b"user\0"),
        ("HTTP", b"GET / HTTP/1.1\r\n\r\n"),
        ("a cancel of nobody", struct.pack("!iiii", 16, CANCEL, 1, 2)),
    ):
        wire = at.wire(patience=3)
        wire.write(data)
        told.typed(what, wire.to_the_end())
    wire = at.wire()
    told.typed("protocol 3.2", wire.login("alice", "app", "alice", version=196610))
    return told


# Waiting and working.


@scenario(query_wait_timeout="1", default_pool_size="1")
def query_wait_timeout(at):
    told, holder, waiter = Transcript(at), held(at), at.client()
    told.typed("SELECT", waiter.query("SELECT 1"))
    told.typed("the one who has the server", holder.query("COMMIT"))
    return told


@scenario(query_wait_notify="1", default_pool_size="1")
def query_wait_notify(at):
    told, holder, waiter = Transcript(at), held(at), at.client()
    waiter.send(b"Q", b"SELECT 1\0")
    told.typed("after a while", waiter.until(b"N"))
    holder.query("COMMIT")
    told.typed("the answer", waiter.until(b"Z"))
    return told


@scenario(query_timeout="1")
def query_timeout(at):
    told = Transcript(at)
    told.typed("SELECT", at.client().query("SELECT pg_sleep(10)"))
    return told


@scenario(idle_transaction_timeout="1")
def idle_transaction_timeout(at):
    told = Transcript(at)
    told.typed("after BEGIN", held(at).to_the_end())
    return told


@scenario(transaction_timeout="1")
def transaction_timeout(at):
    told = Transcript(at)
    told.typed("after BEGIN", held(at).to_the_end())
    told.typed("in a query", at.client().query("SELECT pg_sleep(10)"))
    return told


@scenario(client_idle_timeout="1")
def client_idle_timeout(at):
    told = Transcript(at)
    told.typed("after the login", at.client().to_the_end())
    return told


@scenario(Files(users={"impatient": "query_timeout=1 idle_transaction_timeout=1 client_idle_timeout=2"}))
def timeouts_of_a_user(at):
    told = Transcript(at)
    told.typed("SELECT", at.client("impatient").query("SELECT pg_sleep(10)"))
    told.typed("after BEGIN", held(at, "impatient").to_the_end())
    told.typed("after the login", at.client("impatient").to_the_end())
    return told


@scenario(pool_mode="statement")
def statement_mode(at):
    told, wire = Transcript(at), at.client()
    told.typed("SELECT", wire.query("SELECT 1"))
    told.typed("two statements", wire.query("SELECT 1; SELECT 2"))
    told.typed("BEGIN", wire.query("BEGIN"))
    return told


@scenario(disable_pqexec="1")
def disable_pqexec(at):
    told, wire = Transcript(at), at.client()
    told.typed("extended", wire.extended("SELECT 1"))
    told.typed("simple", wire.query("SELECT 1"))
    told.typed("the console", at.console().query("SHOW VERSION"))
    return told


@scenario()
def replication(at):
    told = Transcript(at)
    for mode in ("database", "true"):
        wire, lines = at.login("postgres_admin" if mode == "x" else "alice", "app", None, [("replication", mode)])
        told.typed(f"login with replication={mode}", lines)
    return told


@scenario(Files(databases={"nowhere": "host=127.0.0.1 port=1", "missing": "host=127.0.0.1 port=@POSTGRES@",
                           "unheard": "host=no.such.host.invalid", "nosocket": "host=/nowhere"}), server_login_retry="5")
def servers_that_are_not_there(at):
    told = Transcript(at)
    for database in ("nowhere", "missing", "nosocket", "unheard"):
        wire = at.wire()
        told.typed(f"the first login to {database}", wire.login("alice", database, "alice"))
        told.typed(f"the second login to {database}", at.login("alice", database)[1])
    return told


@scenario(Files(databases={"app": SERVER, "bad": SERVER + " user=alice password=alice client_encoding=nothing"}))
def servers_that_refuse(at):
    told = Transcript(at)
    told.typed("a parameter that the server refuses", at.login("bob", "bad")[1])
    told.typed("again", at.login("bob", "bad")[1])
    return told


@scenario()
def servers_that_die(at):
    told, wire = Transcript(at), at.client()
    told.typed("a query that kills its server", wire.query("SELECT pg_terminate_backend(pg_backend_pid())"))
    two = at.client("bob")
    told.typed("BEGIN", two.query("BEGIN"))
    told.typed("in a transaction", two.query("SELECT pg_terminate_backend(pg_backend_pid())"))
    return told


@scenario(Files(databases={"app": SERVER + " pool_size=1"}), query_wait_timeout="1")
def a_paused_database(at):
    told, console = Transcript(at), at.console()
    one = at.client()
    told.typed("PAUSE app", console.query("PAUSE app"))
    told.typed("a query", one.query("SELECT 1"))
    told.typed("RESUME app", console.query("RESUME app"))
    return told


@scenario(Files(databases={"gone": SERVER}))
def a_removed_database(at):
    told, wire, console = Transcript(at), at.client("alice", "gone"), at.console()
    busy = held(at, "bob", "gone")
    wire.query("SELECT 1")
    at.write(Files())
    told.typed("RELOAD", console.query("RELOAD"))
    told.typed("an idle client", wire.query("SELECT 1"))
    told.typed("one in a transaction", busy.query("SELECT 1"))
    told.typed("a new one", at.login("alice", "gone")[1])
    return told


@scenario(Files(databases={"*": "host=127.0.0.1 port=@POSTGRES@"}))
def databases_by_the_star(at):
    told = Transcript(at)
    told.typed("one that there is", at.login("alice", "second")[1])
    told.typed("one that there is not", at.login("alice", "missing")[1])
    told.typed("SHOW DATABASES", at.console().query("SHOW DATABASES"), False)
    return told


@scenario(max_packet_size="100000")
def max_packet_size(at):
    told = Transcript(at)
    told.typed("a longer one", at.client().query("SELECT '" + "x" * 200_000 + "'"))
    return told


@scenario(Files(databases={"app": SERVER + " connect_query='SELECT nothing'", "other": SERVER + " connect_query='SET work_mem TO ''7MB'''"}))
def connect_query(at):
    told = Transcript(at)
    told.typed("a query after one that fails", at.client().query("SELECT 1"))
    told.typed("what it set", at.client("alice", "other").query("SHOW work_mem"))
    return told


@scenario(application_name_add_host="1")
def application_name_add_host(at):
    told, wire = Transcript(at), at.client(parameters=[("application_name", "mine")])
    shown = [str(line).replace(str(wire.socket.getsockname()[1]), "#") for line in wire.query("SHOW application_name")]
    told.typed("SHOW application_name", shown)
    return told


@scenario(login_notify_message="be welcome")
def login_notify_message(at):
    told = Transcript(at)
    told.typed("login", at.login()[1])
    told.typed("login to the console", at.login("admin", "pgbouncer")[1])
    return told


@scenario(max_prepared_statements="10")
def prepared_statements(at):
    told = Transcript(at)

    def holder():
        wire = at.client()
        wire.parse("SELECT 1", "one"), wire.send(b"S")
        return wire, wire.until(b"Z")

    told.typed("Parse", holder()[1])
    told.typed("Parse, Bind, Execute of a name that is taken", holder()[0].extended("SELECT 2", "one"))
    for what, tag, body in (("Describe", b"D", b"Snone\0"), ("Close", b"C", b"Snone\0")):
        wire = holder()[0]
        wire.send(tag, body), wire.send(b"S")
        told.typed(f"{what} of one that is not there", wire.until(b"Z"))
    wire = holder()[0]
    wire.bind("none"), wire.send(b"S")
    told.typed("Bind of one that is not there", wire.until(b"Z"))
    for sql in ("DISCARD ALL", "DEALLOCATE one", "EXECUTE one"):
        told.typed(sql, holder()[0].query(sql))
    wire = holder()[0]
    wire.bind("one"), wire.send(b"E", b"\0" + struct.pack("!i", 0)), wire.send(b"S")
    told.typed("Bind and Execute", wire.until(b"Z"))
    return told


@scenario()
def wrong_messages(at):
    told = Transcript(at)
    for what, data in (
        ("a length of 3", b"Q" + struct.pack("!i", 3)), ("a length below zero", b"Q" + struct.pack("!i", -5)),
        ("an unknown type", b"%" + struct.pack("!i", 4)), ("a Query without its end", b"Q" + struct.pack("!i", 12) + b"SELECT 1"),
        ("a lone CopyData", b"d" + struct.pack("!i", 5) + b"x" + b"S" + struct.pack("!i", 4)),
        ("a password now", b"p" + struct.pack("!i", 5) + b"\0"), ("a FunctionCall", b"F" + struct.pack("!i", 4)),
        ("a Bind that ends early", b"B" + struct.pack("!i", 5) + b"x" + b"S" + struct.pack("!i", 4)),
    ):
        wire = at.client()
        wire.socket.settimeout(3)
        wire.write(data)
        told.typed(what, wire.until(b"Z"))
        wire.close()
    return told


@scenario(default_pool_size="1", cancel_wait_timeout="1")
def cancels(at):
    told, wire = Transcript(at), at.client()
    wire.send(b"Q", b"SELECT pg_sleep(10)\0")
    at.until(lambda: any(row[4] == "active" and row[2] == "app" for row in at.ask("SHOW SERVERS")))
    time.sleep(0.2)
    told.typed("a cancel", cancel(at.port, wire.key))
    told.typed("what the query says", wire.until(b"Z"))
    holder = held(at)
    waiter = at.client()
    waiter.send(b"Q", b"SELECT 1\0")
    at.waiting(1)
    told.typed("a cancel of one in line", cancel(at.port, waiter.key))
    told.typed("what it is told", waiter.until(b"Z"))
    holder.close()
    return told


@scenario(pool_mode="session", server_fast_close="1")
def server_fast_close(at):
    told, idle, busy = Transcript(at), at.client(), held(at, "bob")
    idle.query("SELECT 1")
    told.typed("RECONNECT", at.console().query("RECONNECT"))
    told.typed("an idle one", idle.to_the_end())
    told.typed("COMMIT", busy.query("COMMIT"))
    told.typed("then", busy.to_the_end())
    return told


@scenario(pool_mode="session")
def settings_stay_with_their_client(at):
    told, wire = Transcript(at), at.client()
    wire.query("SET DateStyle TO German")
    told.typed("SHOW", wire.query("SHOW DateStyle"))
    told.typed("RECONNECT", at.console().query("RECONNECT"))
    told.typed("after RECONNECT", wire.query("SELECT 1"))
    return told


@scenario()
def signals(at):
    """USR1 and USR2 pause and resume; TERM waits for clients."""
    told = Transcript(at)

    def is_paused():
        return dict(tuple(row) for row in at.ask("SHOW STATE")).get("paused")

    at.signal("USR1")
    told.note(f"paused: {at.until(lambda: is_paused() == 'yes')}")
    at.signal("USR2")
    told.note(f"resumed: {at.until(lambda: is_paused() == 'no')}")
    wire = at.client()
    at.signal("TERM")
    told.note(f"no new ones: {at.until(lambda: not at.takes_connections())}")
    told.typed("an old one", wire.query("SELECT 1"))
    wire.close()
    told.note(at.ended(5))
    told.note(f"socket file left: {at.socket_file().exists()}", f"pid file left: {(at.folder / 'pid').exists()}")
    return told


@scenario()
def a_second_sigterm(at):
    told, wire = Transcript(at), at.client()
    at.signal("TERM")
    at.until(lambda: not at.takes_connections())
    at.signal("TERM")
    told.typed("a client", wire.to_the_end())
    told.note(at.ended(5))
    return told


@scenario()
def sigint(at):
    told, idle, busy = Transcript(at), at.client(), held(at, "bob")
    idle.query("SELECT 1")
    at.signal("INT")
    at.until(lambda: not at.takes_connections())
    told.typed("an idle one", idle.to_the_end() if at.name == "x" else idle.query("SELECT 1"))
    told.typed("COMMIT", busy.query("COMMIT"))
    told.note(at.ended(5))
    return told


@scenario()
def sigquit(at):
    told, wire = Transcript(at), at.client()
    at.signal("QUIT")
    told.typed("a client", wire.to_the_end())
    told.note(at.ended(5))
    return told
