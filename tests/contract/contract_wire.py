"""A raw HTTP/1.1 client: bytes are sent as the case wrote them, answers are parsed by h11."""

from __future__ import annotations

import select
import socket
import time
from contextlib import suppress

import h11
from contract_message import Answer, Question

TIMEOUT = 30
READ_SIZE = 256 * 1024
NOTHING = memoryview(b"")


class Closed(Exception):
    """The server closed the connection before the first byte of an answer."""


def ask_over_socket(port: int, question: Question) -> Answer:
    wire = Wire.connect(port)
    with wire.sock:
        return wire.ask(question)


class Wire:
    """One connection that may be asked again while the server keeps it open."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.rest = b""
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)

    @classmethod
    def connect(cls, port: int) -> Wire:
        return cls(socket.create_connection(("127.0.0.1", port), TIMEOUT))

    def ask_pipelined(self, questions: list[Question]) -> list[Answer]:
        """All at once; the answers until the server hangs up, which it may do after the first."""
        answers = [self.read(questions[0], memoryview(b"".join(map(encode, questions))))]
        with suppress(Closed):
            answers.extend(self.read(question) for question in questions[1:])
        return answers

    def ask(self, question: Question) -> Answer:
        return self.read(question, memoryview(encode(question)))

    def read(self, question: Question, unsent: memoryview = NOTHING) -> Answer:
        """The next answer, while what is still to be sent is sent."""
        reader = AnswerReader(question.method, self.rest)
        deadline = time.monotonic() + TIMEOUT
        # Both ways at once: a server may answer, and even hang up, before it has read the whole body.
        while not reader.done:
            assert time.monotonic() < deadline, f"no whole answer to {question.method} {question.target}"
            readable, writable, _ = select.select([self.sock], [self.sock] if unsent else [], [], 1)
            if writable:
                unsent = unsent[self.push(unsent) :]
            if readable:
                self.take(reader)
        self.rest = reader.rest
        return reader.answer()

    def take(self, reader: AnswerReader) -> None:
        data = self.pull()
        if not data and reader.head is None:
            raise Closed
        reader.feed(data)

    def push(self, data: memoryview) -> int:
        """Bytes sent; a server that no longer reads counts as having taken all."""
        try:
            return self.sock.send(data)
        except (BrokenPipeError, ConnectionResetError):
            return len(data)

    def pull(self) -> bytes:
        try:
            return self.sock.recv(READ_SIZE)
        except ConnectionResetError:
            return b""


class AnswerReader:
    """Collects one answer; h11 is told of the method, since HEAD changes how an answer ends."""

    def __init__(self, method: str, rest: bytes) -> None:
        self.connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
        self.connection.send(h11.Request(method=method, target="/", headers=[("Host", "unused")]))
        self.connection.send(h11.EndOfMessage())
        self.head: h11.Response | None = None
        self.body = bytearray()
        self.done = False
        if rest:
            self.feed(rest)

    def feed(self, data: bytes) -> None:
        self.connection.receive_data(data)
        while not self.done:
            event = self.connection.next_event()
            if event is h11.NEED_DATA:
                return
            self.take(event)

    def take(self, event: object) -> None:
        if isinstance(event, h11.Response):
            self.head = event
        elif isinstance(event, h11.Data):
            self.body += event.data
        else:
            assert isinstance(event, h11.InformationalResponse | h11.EndOfMessage), event
            self.done = isinstance(event, h11.EndOfMessage)

    @property
    def rest(self) -> bytes:
        return self.connection.trailing_data[0]

    def answer(self) -> Answer:
        assert self.head is not None
        headers = [(name.decode(), value.decode("latin-1")) for name, value in self.head.headers]
        return Answer(self.head.status_code, headers, bytes(self.body))


def encode(question: Question) -> bytes:
    lines = [f"{question.method} {question.target} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in question.headers]
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")
    return head + (encode_chunks(question) if question.chunked else question.body)


def encode_chunks(question: Question) -> bytes:
    chunks = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in question.pieces()]
    return b"".join([*chunks, b"0\r\n\r\n"])
