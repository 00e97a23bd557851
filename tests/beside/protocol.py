"""A client that shows what it is sent: types, names and OIDs of columns, tags, notices, SQLSTATEs and texts.

<https://www.postgresql.org/docs/current/protocol-message-formats.html>
"""

import base64
import contextlib
import hashlib
import hmac
import os
import socket
import struct

PATIENCE = 20
PROTOCOL_3_0 = 196608
CANCEL = 80877102
GSS, SSL = 80877104, 80877103


class Ended(Exception):
    """The other side hung up."""


def text(data):
    return data.decode("utf-8", "replace")


def fields(body):
    """Of an ErrorResponse or a NoticeResponse, by their letter."""
    return {chr(part[0]): text(part[1:]) for part in body.split(b"\0") if part}


class Row(tuple):
    """A DataRow, which knows its columns."""

    columns = ()

    def __str__(self):
        return "row " + " | ".join("NULL" if value is None else value for value in self)


class Table:
    """A RowDescription."""

    def __init__(self, body):
        self.columns, rest = [], body[2:]
        for _ in range(struct.unpack_from("!h", body)[0]):
            name, rest = rest.split(b"\0", 1)
            self.columns.append((text(name), struct.unpack_from("!i", rest, 6)[0]))
            rest = rest[18:]

    def __str__(self):
        return "columns " + ", ".join(f"{name}:{oid}" for name, oid in self.columns)


def row(body, columns):
    values, at = [], 2
    for _ in range(struct.unpack_from("!h", body)[0]):
        size = struct.unpack_from("!i", body, at)[0]
        at += 4
        values.append(None if size < 0 else text(body[at:at + size]))
        at += max(size, 0)
    made = Row(values)
    made.columns = columns
    return made


class Wire:
    """A connection, message by message."""

    def __init__(self, address, patience=PATIENCE):
        """`address` is a port on 127.0.0.1, or the path of a Unix socket."""
        self.socket = socket.socket(socket.AF_INET if isinstance(address, int) else socket.AF_UNIX)
        self.socket.settimeout(patience)
        self.socket.connect(("127.0.0.1", address) if isinstance(address, int) else str(address))
        self.columns, self.key, self.pending = (), b"", b""
        self.parameters = {}

    def write(self, data):
        self.socket.sendall(data)

    def send(self, tag, body=b""):
        """Whether anybody still listens is told by what comes back."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.write(tag + struct.pack("!i", len(body) + 4) + body)

    def exactly(self, count):
        while len(self.pending) < count:
            try:
                chunk = self.socket.recv(65536)
            except ConnectionResetError:
                chunk = b""
            if not chunk:
                raise Ended
            self.pending += chunk
        data, self.pending = self.pending[:count], self.pending[count:]
        return data

    def read(self):
        """Tag and body."""
        head = self.exactly(5)
        return head[:1], self.exactly(struct.unpack("!i", head[1:])[0] - 4)

    def close(self):
        self.socket.close()

    def startup(self, parameters, version=PROTOCOL_3_0):
        body = struct.pack("!i", version)
        body += b"".join(f"{name}\0{value}\0".encode() for name, value in parameters) + b"\0"
        self.write(struct.pack("!i", len(body) + 4) + body)

    def shown(self, tag, body):
        """A line or an object that shows a message, or None for what says nothing."""
        if tag == b"T":
            table = Table(body)
            self.columns = table.columns
            return table
        if tag == b"D":
            return row(body, self.columns)
        if tag in (b"E", b"N"):
            found = fields(body)
            kind = "error" if tag == b"E" else "notice"
            return f"{kind} {found.get('S')} {found.get('C')}: {found.get('M')}"
        if tag == b"S":
            name, value, _ = body.split(b"\0")
            self.parameters[text(name)] = text(value)
            return f"parameter {text(name)} = {text(value)}"
        if tag == b"K":
            self.key = body
            return f"key of {len(body)} bytes"
        if tag == b"R":
            return f"authentication {struct.unpack_from('!i', body)[0]}"
        if tag == b"C":
            return f"complete {text(body[:-1])}"
        if tag == b"Z":
            return f"ready {text(body)}"
        if tag in (b"G", b"H", b"W"):
            return f"copy {text(tag)}"
        if tag == b"A":
            return "notification"
        return {b"1": "parsed", b"2": "bound", b"3": "closed", b"I": "empty", b"n": "no data", b"s": "suspended"}.get(
            tag, f"message {tag!r} of {len(body)} bytes")

    def until(self, *last):
        """What comes, up to and with a message of these types, or the end."""
        lines = []
        while True:
            try:
                tag, body = self.read()
            except Ended:
                return [*lines, "end of the connection"]
            except TimeoutError:
                return [*lines, "NOTHING MORE COMES"]
            lines.append(self.shown(tag, body))
            if tag in last:
                return lines

    def to_the_end(self):
        return self.until()

    def login(self, user, database, password=None, parameters=(), version=PROTOCOL_3_0):
        """What comes of it, up to the first ReadyForQuery or the end."""
        self.startup([("user", user), ("database", database), *parameters], version)
        lines, prover = [], None
        while True:
            try:
                tag, body = self.read()
            except Ended:
                return [*lines, "end of the connection"]
            except TimeoutError:
                return [*lines, "NOTHING MORE COMES"]
            lines.append(self.shown(tag, body))
            if tag == b"Z":
                return lines
            if tag == b"R" and password is not None:
                prover = self.prove(body, user, password, prover)

    def prove(self, body, user, password, prover):
        code, data = struct.unpack_from("!i", body)[0], body[4:]
        if code == 3:
            self.send(b"p", password.encode() + b"\0")
        elif code == 5:
            inner = hashlib.md5((password + user).encode()).hexdigest().encode()
            self.send(b"p", b"md5" + hashlib.md5(inner + data).hexdigest().encode() + b"\0")
        elif code == 10:
            prover = Scram(password)
            first = prover.first()
            self.send(b"p", b"SCRAM-SHA-256\0" + struct.pack("!i", len(first)) + first)
        elif code == 11:
            self.send(b"p", prover.final(text(data)))
        return prover

    def query(self, sql):
        """What comes of a simple query."""
        self.send(b"Q", sql.encode() + b"\0")
        return self.until(b"Z")

    def extended(self, sql, name="", parameters=()):
        self.parse(sql, name)
        self.bind(name, parameters)
        self.send(b"D", b"P\0")
        self.send(b"E", b"\0" + struct.pack("!i", 0))
        self.send(b"S")
        return self.until(b"Z")

    def parse(self, sql, name=""):
        self.send(b"P", f"{name}\0{sql}\0".encode() + struct.pack("!h", 0))

    def bind(self, name="", parameters=()):
        body = f"\0{name}\0".encode() + struct.pack("!hh", 0, len(parameters))
        body += b"".join(struct.pack("!i", len(value)) + value.encode() for value in parameters)
        self.send(b"B", body + struct.pack("!h", 0))


class Scram:
    """SCRAM-SHA-256. <https://www.postgresql.org/docs/current/sasl-authentication.html>"""

    def __init__(self, password):
        self.password = password
        self.bare = "n=,r=" + base64.b64encode(os.urandom(18)).decode()

    def first(self):
        return f"n,,{self.bare}".encode()

    def final(self, server_first):
        given = dict(part.split("=", 1) for part in server_first.split(","))
        salt, rounds = base64.b64decode(given["s"]), int(given["i"])
        salted = hashlib.pbkdf2_hmac("sha256", self.password.encode(), salt, rounds)
        client = hmac.digest(salted, b"Client Key", "sha256")
        bare = f"c=biws,r={given['r']}"
        signed = f"{self.bare},{server_first},{bare}".encode()
        signature = hmac.digest(hashlib.sha256(client).digest(), signed, "sha256")
        proof = bytes(one ^ other for one, other in zip(client, signature))
        return f"{bare},p={base64.b64encode(proof).decode()}".encode()


def cancel(address, key):
    """Sends a CancelRequest and waits until the other side has hung up."""
    wire = Wire(address)
    wire.write(struct.pack("!ii", 8 + len(key), CANCEL) + key)
    lines = wire.to_the_end()
    wire.close()
    return lines
