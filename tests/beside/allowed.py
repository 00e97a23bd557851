"""Where pgweir means to answer otherwise than PgBouncer, each with its reason."""

import dataclasses
import re


@dataclasses.dataclass(frozen=True)
class Allowed:
    """A line of PgBouncer's that a line of pgweir's may stand for. Either may be None: there is no such line then.

    Where both are given, groups of the first may be named in the second: \\1 is what stood there."""

    reason: str
    theirs: str | None
    ours: str | None
    scenario: str = ".*"
    before: str = ".*"

    def applies(self, name, before):
        return bool(re.fullmatch(self.scenario, name) and re.fullmatch(f"(> )?({self.before})", before, re.DOTALL))

    def takes(self, theirs, ours):
        """Takes one line, or one of each, out of the lists if they are there."""
        if self.theirs is None:
            return take(ours, self.ours)
        for line in theirs:
            found = re.fullmatch(self.theirs, line, re.DOTALL)
            if not found:
                continue
            if self.ours is None or take(ours, re.sub(r"\\(\d)", lambda group: re.escape(found[int(group[1])]), self.ours)):
                theirs.remove(line)
                return True
        return False


def take(lines, pattern):
    line = next((line for line in lines if re.fullmatch(pattern, line, re.DOTALL)), None)
    if line is not None:
        lines.remove(line)
    return line is not None


WELCOME = r"authentication \d+|parameter .*|key of \d+ bytes|ready I"
FATAL = r"error FATAL 08P01: "

ALLOWED = [
    Allowed("versions: what runs is said", r"row PgBouncer [\d.]+", r"row PgBouncer [\d.]+.*"),
    Allowed("better: an SQLSTATE that fits, where PgBouncer says 08P01 for everything; the text is the same",
            r"error (\w+) 08P01: (.*)", r"error \1 \w{5}: \2"),
    Allowed("better: a failed login is told as PostgreSQL tells it, by SQLSTATE and text, and the same for each cause",
            FATAL + r"(SASL authentication failed|password authentication failed|empty password returned by client|"
            r'"trust" authentication failed)', r'error FATAL 28P01: password authentication failed for user ".*"'),
    Allowed("free_clients, free_servers: entries of PgBouncer's own memory, which means nothing here",
            r"row (free_clients|free_servers) \| \d+", r"row \1 \| 0"),
    Allowed("better: startup parameters that are settings are taken and stay with their client",
            FATAL + r"unsupported startup parameter.*|end of the connection", None, "logins", "(extra_float|statement_t|work_mem).*"),
    Allowed("better: startup parameters that are settings are taken and stay with their client",
            None, WELCOME, "logins", "(extra_float|statement_t|work_mem).*"),
    Allowed("better: PostgreSQL is asked whether a startup parameter is a setting, and its answer passed on",
            FATAL + r"unsupported startup parameter(.*)", r"error FATAL (42704|42601): .*"),
    Allowed("better: PostgreSQL is asked whether a startup parameter is a setting, and its answer passed on",
            FATAL + "unsupported options startup parameter: .*", "error FATAL 42601: .*"),
    Allowed("better: PostgreSQL is asked whether a startup parameter is a setting, and its answer passed on",
            None, r"authentication 1[012]", "logins", "(an unknown parameter|an unknown one|a switch|an empty name|options that).*"),
    Allowed("better: a startup parameter with a wrong value is refused, as by PostgreSQL", WELCOME, None, "logins", "a wrong value.*"),
    Allowed("better: a startup parameter with a wrong value is refused, as by PostgreSQL", None,
            "error FATAL 22023: invalid value for parameter.*|end of the connection", "logins", "a wrong value.*"),
    Allowed("better: parameters are told as PostgreSQL has them, not as the client spelled them",
            "parameter (DateStyle|application_name) = .*", r"parameter \1 = .*", "logins"),
    Allowed("better: protocol 3.2, with its long cancel key", "message b'v' of 8 bytes|key of 8 bytes", None, before="protocol 3.2"),
    Allowed("better: protocol 3.2, with its long cancel key", None, "key of 36 bytes", before="protocol 3.2"),
    Allowed("as PostgreSQL: a protocol that is not known is named", FATAL + "(old V2 protocol not supported|bad packet header: '.*')",
            "error FATAL 0A000: unsupported frontend protocol .*", "first_packets"),
    Allowed("as PostgreSQL: a login without a user", FATAL + "no username supplied",
            "error FATAL 28000: no PostgreSQL user name specified in startup packet"),
    Allowed("as PostgreSQL: a first packet of impossible length is a stranger's, who gets no answer", FATAL + "bad packet header: '.*'", None,
            "first_packets", "a length.*"),
    Allowed("better: what is no PostgreSQL client is sent away at once", "NOTHING MORE COMES", "end of the connection", before="HTTP"),
    Allowed("better: a message that cannot be is described", FATAL + r"(bad packet header: '.*'|unknown pkt)",
            "error FATAL 08P01: (invalid length|invalid frontend message type|message of type) .*"),
    Allowed("better: who waits and cancels leaves the line and keeps the session", "NOTHING MORE COMES", None, before="what it is told"),
    Allowed("better: who waits and cancels leaves the line and keeps the session", None,
            "error ERROR 57014: canceling statement due to user request|ready I", before="what it is told"),
    Allowed("better: who does not exist is not told from who does", FATAL + "(no such user|bouncer config error)",
            r'error FATAL 28P01: password authentication failed for user ".*"', "with_auth_query"),
    Allowed("better: who does not exist is not told from who does", None, r"authentication 1[01]", "with_auth_query",
            "(nosuch|stranger) to .*"),
    Allowed("search_path is told as PostgreSQL tells it: only 18 and later do", "parameter search_path = public", None, "logins"),
    Allowed("better: who answers a challenge with something else is told so", None,
            r"error FATAL 08P01: expected password response, got message type \d+", "logins_by_.*", "a password message .*"),
    Allowed("better: whether a user exists does not show before a proof", FATAL + "(no such user|bouncer config error|username too long)",
            None, "logins|with_.*"),
    Allowed("better: whether a user exists does not show before a proof", None,
            "authentication 1[01]|error FATAL 28P01: password authentication failed for user .*", "logins|with_.*",
            "(nosuch|stranger|a user for whom|a long name).*"),
    Allowed("the connection that looks users up is kept", r"row (app \| )?postgres \|.*", r"row (app \| )?postgres \|.*", "with_auth_query"),
    Allowed("better: replication clients hear PostgreSQL's own refusal, at their login", FATAL + "login failed",
            "error FATAL 42501: must be superuser or replication role to start walsender", "replication"),
    Allowed("better: replication clients hear PostgreSQL's own refusal, at their login", WELCOME, None, "logins", "replication=?(database|maybe)?:.*"),
    Allowed("better: replication clients hear PostgreSQL's own refusal, at their login", None,
            "error FATAL (42501|22023): .*|end of the connection", "logins", "replication=?(database|maybe)?:.*"),
    Allowed("better: a PAUSE that is undone is answered", "NOTHING MORE COMES", None, "pause_is_given_up_by_resume"),
    Allowed("better: a PAUSE that is undone is answered", None, "error ERROR 08P01: PAUSE was undone by RESUME|ready I", "pause_is_given_up_by_resume"),
    Allowed("better: what a client is told at its login needs no server, once one was there", "NOTHING MORE COMES", None, "kill_and_kill_client"),
    Allowed("better: what a client is told at its login needs no server, once one was there", None, WELCOME, "kill_and_kill_client", "a login.*"),
    Allowed("better: what a client is told at its login needs no server, once one was there", WELCOME, None, "kill_and_kill_client", "its query"),
    Allowed("better: what a client is told at its login needs no server, once one was there", None, r"columns .*|row 1|complete SELECT 1|ready I",
            "kill_and_kill_client", "its query"),
    Allowed("as PostgreSQL: a message that cannot be read is an error of its batch, not the end", FATAL + "failed to parse packet|end of the connection",
            None, "wrong_messages", "a Bind.*"),
    Allowed("as PostgreSQL: a message that cannot be read is an error of its batch, not the end", None,
            "error ERROR 08P01: invalid string in message|ready I", "wrong_messages", "a Bind.*"),
    Allowed("the server's own last words are the last", FATAL + r"server conn crashed\?", None, "servers_that_die"),
    Allowed("better: while a server is down, who comes after the first hears so at once (server_login_retry)", "NOTHING MORE COMES|authentication 12",
            None, "servers_that_are_not_there"),
    Allowed("better: while a server is down, who comes after the first hears so at once (server_login_retry)", None,
            r"error FATAL 08001: server login has been failing, .*\(server_login_retry\)|end of the connection", "servers_that_are_not_there",
            "the second.*"),
    Allowed("better: who was refused because of an earlier login hears that it was one", r"error FATAL (\w+): (.*)",
            r"error FATAL \1: server login has been failing, cached error: \2 \(server_login_retry\)", "servers_that_(refuse|are_not_there)"),
    Allowed("better: who waits and cancels leaves the line, before a notice is due", "notice NOTICE 00000: No server connection available.*", None, "cancels"),
    Allowed("better: a statement's name that is taken, or not there, is an error as PostgreSQL's, and not the end of the session",
            FATAL + "prepared statement (name is already in use|did not exist)|end of the connection", None, "prepared_statements", "(Parse,|Bind of|Describe).*"),
    Allowed("better: a statement's name that is taken, or not there, is an error as PostgreSQL's, and not the end of the session",
            None, 'error ERROR (42P05|26000): prepared statement ".*|ready I', "prepared_statements", "(Parse,|Bind of|Describe).*"),
    Allowed("better: statements of the protocol are there for SQL's EXECUTE and DEALLOCATE",
            'error ERROR 26000: prepared statement "one" does not exist', r"columns .*|row 1|complete (SELECT 1|DEALLOCATE)", "prepared_statements", "(EXECUTE|DEALLOCATE).*"),
    Allowed("better: statements of the protocol are there for SQL's EXECUTE and DEALLOCATE",
            None, r"columns .*|row 1|complete SELECT 1", "prepared_statements", "EXECUTE.*"),
    Allowed("pools stay when their database is killed", None, r"row app \| \w+ \| 0 \| 0 \| .*", "kill_and_kill_client", "SHOW POOLS"),
    Allowed("better: who answers a challenge with something else is told so", "end of the connection", None, "logins_by_.*", "a password message .*"),
    Allowed("better: who may use the console does not show before a proof", None, "authentication 1[012]", "show_as_others|logins_to_the_console",
            "login of (pgbouncer|alice|nobody).*"),
    Allowed("better: what drivers send around their queries is answered on the console too",
            r"error ERROR 08P01: invalid command '(BEGIN|COMMIT|ROLLBACK|DISCARD ALL|-- SHOW VERSION)', use SHOW HELP;",
            "complete (BEGIN|COMMIT|ROLLBACK|DISCARD ALL)|empty", "spellings"),
    Allowed("better: what drivers send around their queries is answered on the console too", "ready I", "ready T", "spellings", "BEGIN"),
    Allowed("better: the console speaks the extended protocol, which drivers need",
            "error ERROR 08P01: extended query protocol not supported by admin console", None, "console_over.*"),
    Allowed("better: the console speaks the extended protocol, which drivers need", None,
            "parsed|bound|columns version:25|row PgBouncer .*|complete SHOW", "console_over.*"),
    Allowed("better: a driver's startup parameters do not keep it out of the console",
            FATAL + "unsupported startup parameter.*|end of the connection", None, "logins_to_the_console"),
    Allowed("better: a driver's startup parameters do not keep it out of the console", None, WELCOME, "logins_to_the_console",
            ".*(extra_float|nothing_of|statement_timeout).*"),
    Allowed("the console's settings are its own, whatever a client asks for", "parameter (TimeZone|application_name|client_encoding) = .*", None,
            "logins_to_the_console"),
    Allowed("SUSPEND is accepted, as up to 1.25, and does nothing", "error ERROR 08P01: invalid command 'SUSPEND', use SHOW HELP;",
            "notice NOTICE 00000: SUSPEND does nothing|error ERROR 08P01: admin access needed"),
    Allowed("SUSPEND is accepted, as up to 1.25, and does nothing", None, "complete SUSPEND"),
    Allowed("suspend_timeout is accepted, as up to 1.25", "error ERROR 08P01: SET failed", "complete SET suspend_timeout=5"),
    Allowed("commands of the console are counted as its queries", r"row pgbouncer \| .*", r"row pgbouncer \| .*", before="SHOW STATS.*"),
    Allowed("transactions are counted when they end; the checkout for a pool's first login is one; shared statements are prepared",
            r"row app \| \d+ \| \d+ \| (\d+) \| (\d+) \| .*", r"row app \| \d+ \| \d+ \| \1 \| \2 \| .*", before="SHOW STATS(_TOTALS)?"),
    Allowed("transactions are counted when they end; the checkout for a pool's first login is one; shared statements are prepared",
            r"row (total_(?:server_assignment_count|xact_count|query_count|server_bytes|ps_server_parse_count|ps_bind_count)) \| \d+",
            r"row \1 \| \d+", before="SHOW TOTALS"),
    Allowed("RELOAD sets back what the file does not name; PgBouncer keeps what has no default", r"row (auth_dbname|auth_user) \| \w+ \| NULL \| yes",
            r"row \1 \| NULL \| NULL \| yes", "set_at_run_time", "SHOW CONFIG"),
    Allowed("better: who is over a limit of a database or a user hears so after the proof, not before", None, "authentication 1[012]", "limits_of_(clients|zero)"),
    Allowed("better: disable_pqexec is not for the console, which nobody could use then", FATAL + "PQexec disallowed|end of the connection", None,
            "disable_pqexec", "the console"),
    Allowed("better: disable_pqexec is not for the console, which nobody could use then", None, "columns version:25|row PgBouncer .*|complete SHOW|ready I",
            "disable_pqexec", "the console"),
    Allowed("files of older versions, and those of which PgBouncer's manual says that they are right", "it ends", "it starts", "odd_lines_of_.*",
            r"\[\w+\] (suspend_timeout = 10|service_name = x|\[pgbouncer\]|\[users\]\n\[pgbouncer\].*|\"x\" = host=a)"),
    Allowed("a setting of authentication or TLS that would be ignored stops the start", "it starts", "it ends", "odd_lines_of_.*",
            r"\[\w+\] (auth_type = (pam|ldap|hba)|auth_ldap_options = x|auth_file = /nowhere/users|server_tls_sslmode = require)"),
    Allowed("a port that there is not is no other one", "it starts", "it ends", "odd_lines_of_.*", r"\[\w+\] (listen_port = |x = port=)70000"),
    Allowed("better: a number below zero for an option of sockets is the system's default", "it ends", "it starts", "odd_lines_of_pgbouncer",
            r"\[pgbouncer\] tcp_keepidle = -1"),
    Allowed("a setting of authentication or TLS that would be ignored is refused by SET, too", "complete SET client_tls_sslmode=require|"
            "notice NOTICE 00000: TLS settings could not be applied.*", None, "wrong_arguments"),
    Allowed("a setting of authentication or TLS that would be ignored is refused by SET, too", None, "error ERROR 08P01: SET failed",
            "wrong_arguments", "SET client_tls_sslmode = require"),
    Allowed("a statement that comes again is prepared once for all", r"(row S .*) \| \d+ \| #(.*)", r"\1 \| \d+ \| #\2", before="SHOW (SERVERS|SOCKETS)"),
    Allowed("auth_dbname is looked at when somebody is looked up", "it ends", "it starts", "odd_lines_of_pgbouncer", r"\[\w+\] auth_dbname = pgbouncer"),
    Allowed("how soon a console that has left is gone from the count", r"row pgbouncer \| pgbouncer \| \d \| (.*)",
            r"row pgbouncer \| pgbouncer \| \d \| \1", before="SHOW POOLS"),
    Allowed("better: while the process ends nobody is asked for a password in vain", "authentication 1[012]", None, "shutdown_.*", "a new client.*"),
    Allowed("better: who is sent away when the process ends hears why", None, "error FATAL 57P01: server shutting down", "shutdown_.*", "and then"),
    Allowed("better: a console does not hold up the end", "it still runs", "it ended with 0", "shutdown_.*"),
    Allowed("better: a RELOAD that would leave nobody listed, since auth_file is gone, keeps the users and says so", "complete RELOAD",
            "error ERROR F0000: RELOAD failed.*", "reload_of_a_bad_file"),
]


# Differences that are not meant, and known: each is to go. One that is not seen any longer is told, so that its line goes too.
OPEN = [
    Allowed("statement mode lets BEGIN be answered before it ends", FATAL + "transaction blocks not allowed.*|end of the connection", None, "statement_mode", "BEGIN"),
    Allowed("statement mode lets BEGIN be answered before it ends", None, "complete BEGIN|ready T", "statement_mode", "BEGIN"),
]
