"""Real servers only: which face each one chose, and several requests on one connection."""

from __future__ import annotations

import pytest
from contract_message import make_question
from contract_servers import ServerClient
from contract_wire import Closed, Wire

BODY = b"x" * 200_000
QUESTIONS = [
    make_question("GET", "/s/returns/str"),
    make_question("POST", "/a/body-unread", body=BODY),
    make_question("GET", "/a/returns/dict"),
    make_question("POST", "/s/body-unread", body=BODY, chunked=True),
    make_question("HEAD", "/s/stream/20"),
    make_question("GET", "/s/stream/20"),
    make_question("GET", "/s/raise/plain"),
    make_question("POST", "/a/body", body=BODY),
    make_question("GET", "/missing"),
]
STATUSES = [200, 200, 200, 200, 200, 200, 500, 200, 404]


@pytest.fixture
def server(client):
    if not isinstance(client, ServerClient):
        pytest.skip("has no connections")
    return client


def test_face_was_chosen_without_a_hint(client):
    assert [client.get(f"/{side}/face").text for side in "sa"] == [client.face] * 2


def test_requests_on_one_connection(server):
    """A server may close after any answer; if it goes on, the next request must find its own answer."""
    wire = Wire.connect(server.port)
    statuses = []
    for question in QUESTIONS:
        try:
            answer = wire.ask(question)
        except Closed:
            wire = reconnect(wire, server)
            answer = wire.ask(question)
        statuses.append(answer.status)
        if "close" in answer.all("Connection"):
            wire = reconnect(wire, server)
    wire.sock.close()
    assert statuses == STATUSES


def reconnect(wire, server):
    wire.sock.close()
    return Wire.connect(server.port)


def test_pipelined_requests(server):
    targets = [f"/{side}/convert/int/{number}" for number in range(5) for side in "sa"]
    questions = [make_question("GET", target) for target in targets]
    wire = Wire.connect(server.port)
    with wire.sock:
        answers = wire.ask_pipelined(questions)
    values = [int(answer.json["value"]) for answer in answers]
    assert values == [number // 2 for number in range(len(answers))]
