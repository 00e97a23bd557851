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
OWN_SETTINGS = (
    "log_format|max_client_prepared_bytes|max_client_prepared_statements|max_prepared_bytes|metrics_listen|"
    "report_pooler|share_unnamed_statements|workers"
)
FATAL = r"error FATAL 08P01: "

ALLOWED = [
    Allowed("versions: what runs is said", r"row PgBouncer [\d.]+", r"row PgBouncer [\d.]+.*"),
    Allowed("versions: what runs is said", r"parameter (server_version|pgbouncer\.version) = .*", r"parameter \1 = .*"),
    Allowed("better: an SQLSTATE that fits, where PgBouncer says 08P01 for everything; the text is the same",
            r"error (\w+) 08P01: (.*)", r"error \1 \w{5}: \2"),
    Allowed("better: a failed login is told as PostgreSQL tells it, by SQLSTATE and text, and the same for each cause",
            FATAL + r"(SASL authentication failed|password authentication failed|empty password returned by client|"
            r'"trust" authentication failed)', r'error FATAL 28P01: password authentication failed for user ".*"'),
    Allowed("better: RELOAD says what is wrong with the file", r"error ERROR F0000: RELOAD failed, see logs.*",
            r"error ERROR F0000: RELOAD failed: .*"),
    Allowed("own settings are shown too", None, rf"row ({OWN_SETTINGS}) \|.*", before="SHOW CONFIG.*"),
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
]
