"""Something happens at each point of a request, one after the other, and then at several of several requests.

Always: one response start, or none for a reason; each teardown once; contexts popped; no task or thread left; nothing
crosses to another request. FAULTS_EXAMPLES makes Hypothesis look for longer.
"""

from __future__ import annotations

import asyncio
import os
import threading
import typing as t

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from injection import KINDS, Client, Plan, Shape, make_app, run_all

from asyncflask import Flask

EXAMPLES = int(os.environ.get("FAULTS_EXAMPLES", 0))
SHAPES = (
    *(Shape(steps) for steps in ("aaaa", "ssss", "nnnn", "asas", "sasa", "aans", "nsaa")),
    *(Shape(steps, streams=True) for steps in ("aaaa", "ssss", "aasa", "sasa", "saas", "nsan")),
    *(Shape(steps, streams=True, handles=True, cancels=True) for steps in ("aaaa", "ssss", "asas", "sasa")),
    *(Shape(steps, streams=True, in_context=True) for steps in ("aaaa", "ssss", "aasa", "saas", "nsan")),
    *(Shape("aaaa", streams=streams, cancels=True, streams_body=True) for streams in (False, True)),
    Shape("saas", streams=True, streams_body=True),
)


def run(app: Flask, *clients: tuple[Plan, str, bool]) -> list[Client]:
    async def run() -> list[Client]:
        return await run_all(app, [Client(plan, kind, refuses=refuses) for plan, kind, refuses in clients])

    return asyncio.run(run())


def count_points(app: Flask, kind: str) -> int:
    (client,) = run(app, ({}, kind, True))
    return len(client.points)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> t.Iterator[None]:
    before = set(threading.enumerate())
    yield
    ours = [thread for thread in set(threading.enumerate()) - before if "worker" in thread.name.lower()]
    assert len(ours) <= len(SHAPES) + 2, ours  # one of each application stays for the next request


CASES = [
    *(("http", shape) for shape in SHAPES),
    *(("websocket", shape) for shape in SHAPES if shape.handles or not (shape.streams or shape.streams_body)),
]


@pytest.mark.parametrize("happens", KINDS)
@pytest.mark.parametrize(
    ("kind", "shape"),
    CASES,
    ids=lambda part: part if isinstance(part, str) else "-".join(str(item)[:4] for item in part),
)
def test_each_point(kind: str, shape: Shape, happens: str) -> None:
    app = make_app(shape)
    for refuses in (True, False) if happens == "disconnect" else (True,):
        for point in range(count_points(app, kind)):
            run(app, ({point: happens}, kind, refuses))


plans = st.dictionaries(st.integers(0, 16), st.sampled_from(KINDS), max_size=3)
clients = st.tuples(plans, st.sampled_from(["http", "http", "websocket"]), st.booleans())


@settings(
    max_examples=EXAMPLES or 150,
    deadline=None,
    derandomize=not EXAMPLES,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(st.sampled_from(SHAPES), st.lists(clients, min_size=1, max_size=4))
def test_several_points_of_several_requests(shape: Shape, chosen: list[tuple[Plan, str, bool]]) -> None:
    run(make_app(shape), *chosen)
