"""A client that speaks the protocol itself: thousands of connections in one process, and no library in between."""

import base64
import contextlib
import functools
import hashlib
import hmac
import itertools
import multiprocessing
import os
import signal
import socket
import struct

from .base import PATIENCE, fail

READY = b"Z\x00\x00\x00\x05"  # and the state of the transaction
IP_BIND_ADDRESS_NO_PORT = 24
FORK = multiprocessing.get_context("fork")
# Connections that have ended block their pair of ports for a minute; several addresses have more pairs.
SOURCES = itertools.cycle(f"127.0.0.{number}" for number in range(2, 30))


class Refused(Exception):
    """The pooler or the server sent an error, or hung up."""


class Client:
    """Logged in once it is made."""

    def __init__(self, port, user="postgres", database="bench", password=None, receive_buffer=None):
        self.socket = socket.socket()
        self.socket.settimeout(PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.bind((next(SOURCES), 0))
        self.socket.connect(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        body = struct.pack("!i", 196608) + f"user\0{user}\0database\0{database}\0\0".encode()
        self.socket.sendall(struct.pack("!i", len(body) + 4) + body)
        if password is not None:
            self.prove(password)
        self.wait()

    def send(self, tag, body=b""):
        self.socket.sendall(tag + struct.pack("!i", len(body) + 4) + body)

    def query(self, sql):
        self.send(b"Q", sql.encode() + b"\0")
        self.wait()

    def wait(self):
        """Reads up to ReadyForQuery. What is asked for here has nothing like it in its rows."""
        last = b""
        while not is_ready(last):
            chunk = self.socket.recv(262144)
            if not chunk or b"SERROR\0" in chunk[:40] or b"SFATAL\0" in chunk[:40]:
                raise Refused(chunk)
            last = (last + chunk[-8:])[-8:]

    def close(self):
        self.send(b"X")
        self.socket.close()

    def prove(self, password):
        """SCRAM-SHA-256. <https://www.postgresql.org/docs/current/sasl-authentication.html>"""
        self.authentication(10)
        nonce = base64.b64encode(os.urandom(18)).decode()
        bare = f"n=,r={nonce}"
        first = f"n,,{bare}".encode()
        self.send(b"p", b"SCRAM-SHA-256\0" + struct.pack("!i", len(first)) + first)
        server_first = self.authentication(11).decode()
        fields = dict(field.split("=", 1) for field in server_first.split(","))
        client, stored = scram_keys(password, base64.b64decode(fields["s"]), int(fields["i"]))
        without_proof = f"c=biws,r={fields['r']}"
        signature = digest(stored, f"{bare},{server_first},{without_proof}".encode())
        proof = bytes(one ^ other for one, other in zip(client, signature))
        self.send(b"p", f"{without_proof},p={base64.b64encode(proof).decode()}".encode())

    def authentication(self, code):
        """The data of the next message, which must be this request. The pooler sends no more before it is answered."""
        message = b""
        while len(message) < 5 or len(message) < 1 + struct.unpack_from("!i", message, 1)[0]:
            chunk = self.socket.recv(4096)
            if not chunk:
                raise Refused(message)
            message += chunk
        if message[:1] != b"R" or struct.unpack_from("!i", message, 5)[0] != code:
            raise Refused(message)
        return message[9:]


def is_ready(last):
    """Whether these last bytes of what was read so far are a ReadyForQuery."""
    return last[-6:-1] == READY


def digest(key, text):
    return hmac.digest(key, text, "sha256")


@functools.cache
def scram_keys(password, salt, iterations):
    """The client's key and the stored one. Remembered, since only the pooler's processor time counts here."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    client = digest(salted, b"Client Key")
    return client, hashlib.sha256(client).digest()


def scram_verifier(password, salt=b"salt of sixteen!", iterations=4096):
    """As `auth_file` and PostgreSQL store it."""
    _, stored = scram_keys(password, salt, iterations)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    parts = [base64.b64encode(part).decode() for part in (salt, stored, digest(salted, b"Server Key"))]
    return f"SCRAM-SHA-256${iterations}:{parts[0]}${parts[1]}:{parts[2]}"


@contextlib.contextmanager
def idle_clients(port, count):
    """So many clients that have sent one query and then do nothing, in a process of their own."""
    if not count:
        yield
        return
    ours, theirs = FORK.Pipe()

    def hold():
        clients = [Client(port) for _ in range(count)]
        for client in clients:
            client.query("SELECT 1")
        theirs.send("ready")
        signal.pause()

    process = FORK.Process(target=hold, daemon=True)
    process.start()
    theirs.close()
    try:
        ours.recv()
        yield
    except EOFError:
        fail("idle clients failed")
    finally:
        ours.close()
        process.kill()
        process.join()


def in_processes(count, work):
    """Calls `work` with 0, 1, … in processes of their own, and waits for them."""
    children = [FORK.Process(target=work, args=(number,)) for number in range(count)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    if any(child.exitcode for child in children):
        fail("a client failed")
