"""Where pgweir means to answer otherwise than PgBouncer, each with its reason."""

import dataclasses
import re


@dataclasses.dataclass(frozen=True)
class Allowed:
    """A line of PgBouncer's that a line of pgweir's may stand for. Either may be None: there is no such line then."""

    reason: str
    theirs: str | None
    ours: str | None
    scenario: str = ".*"
    before: str = ".*"

    def applies(self, name, before):
        return bool(re.fullmatch(self.scenario, name) and re.fullmatch(self.before, before, re.DOTALL))

    def takes(self, theirs, ours):
        """Takes the lines out of both, if they are there."""
        if self.theirs is None and self.ours is None:
            return False
        found = [next((line for line in lines if pattern and re.fullmatch(pattern, line, re.DOTALL)), None)
                 for pattern, lines in ((self.theirs, theirs), (self.ours, ours))]
        if (self.theirs and found[0] is None) or (self.ours and found[1] is None):
            return False
        for line, lines in zip(found, (theirs, ours)):
            if line is not None:
                lines.remove(line)
        return True


ALLOWED = [
    Allowed("versions differ", r"row PgBouncer [\d.]+", r"row PgBouncer [\d.]+.*"),
    Allowed("versions differ", r"parameter (server_version|pgbouncer\.version) = .*", r"parameter (server_version|pgbouncer\.version) = .*"),
]
