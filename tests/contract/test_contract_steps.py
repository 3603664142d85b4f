"""Steps run in order and see one another's context: sync ones in one thread, async ones on one loop."""

from __future__ import annotations

import time

import pytest
from contract_differences import differs
from contract_servers import ServerClient

KINDS = pytest.mark.parametrize("kinds", ["sss", "aaa", "sas", "asa", "ssa", "aas"])
BEFORE = ["before0", "before1", "before2"]
AFTER = ["after2", "after1", "after0"]
TEARDOWN = ["teardown2", "teardown1", "teardown0"]
CHUNKS = ["chunk0", "chunk1", "chunk2"]
STEPS = [*BEFORE, "view", *AFTER, *TEARDOWN]
VIEWS = {
    "s": STEPS,
    "a": STEPS,
    "s-error": [*BEFORE, "view", "error", *AFTER, *TEARDOWN],
    "a-error": [*BEFORE, "view", "error", *AFTER, *TEARDOWN],
}
EVERY_VIEW = pytest.mark.parametrize("view", VIEWS)


def trace_request(client, kinds, view, steps):
    token = f"{client.name}-{kinds}-{view}-{time.monotonic_ns()}"
    answer = client.get(f"/traced/{kinds}/{view}", [("X-Token", token)])
    assert answer.status == 200
    deadline = time.monotonic() + 2
    while len(trace := client.get(f"/trace/{token}").json) < len(steps) and time.monotonic() < deadline:
        time.sleep(0.01)
    return trace


def is_sync(step, kinds, view):
    name, number = step["step"][:-1], step["step"][-1]
    return kinds[int(number)] == "s" if name in {"before", "after", "teardown"} else not view.startswith("a")


def seen_loops(client, steps):
    return set() if differs(client.name, "loop-unseen") else {step["loop"] for step in steps}


@KINDS
@EVERY_VIEW
def test_order(client, kinds, view):
    trace = trace_request(client, kinds, view, VIEWS[view])
    assert [step["step"] for step in trace] == VIEWS[view]


@KINDS
@EVERY_VIEW
def test_context_variables_cross_steps(client, kinds, view):
    steps = VIEWS[view]
    trace = trace_request(client, kinds, view, steps)
    assert [step["seen"] for step in trace[1:]] == steps[:-1]


@KINDS
@EVERY_VIEW
def test_g_and_request_in_every_step(client, kinds, view):
    steps = VIEWS[view]
    trace = trace_request(client, kinds, view, steps)
    assert [step["g"] for step in trace] == [steps[: end + 1] for end in range(len(steps))]
    assert {step["path"] for step in trace} == {f"/traced/{kinds}/{view}"}


@KINDS
@EVERY_VIEW
def test_sync_steps_share_a_thread_and_have_no_loop(client, kinds, view):
    trace = trace_request(client, kinds, view, VIEWS[view])
    steps = [step for step in trace if step["step"] != "error" and is_sync(step, kinds, view)]
    assert seen_loops(client, steps) <= {None}
    assert len({step["thread"] for step in steps}) <= 1


@KINDS
@EVERY_VIEW
def test_async_steps_share_the_loop(client, kinds, view):
    loop = client.get("/loop").json
    trace = trace_request(client, kinds, view, VIEWS[view])
    steps = [step for step in trace if step["step"] != "error" and not is_sync(step, kinds, view)]
    assert {(step["loop"], step["thread"]) for step in steps} <= {(loop["loop"], loop["thread"])}


@KINDS
@pytest.mark.parametrize("view", ["s-error", "a-error"])
def test_sync_error_handler_runs_with_the_sync_steps(client, kinds, view):
    trace = trace_request(client, kinds, view, VIEWS[view])
    steps = [step for step in trace if step["step"] == "error" or is_sync(step, kinds, view)]
    assert seen_loops(client, steps) <= {None}
    assert len({step["thread"] for step in steps}) == 1


@KINDS
def test_stream_with_context_stays_in_the_thread(client, kinds):
    """A generator that goes on reading what a sync hook opened, as a database cursor is read."""
    trace = trace_request(client, kinds, "s-stream", [*STEPS, *CHUNKS])
    assert {step["step"] for step in trace} == {*STEPS, *CHUNKS}
    steps = [step for step in trace if step["step"] in CHUNKS or is_sync(step, kinds, "s-stream")]
    assert seen_loops(client, steps) <= {None}
    assert len({step["thread"] for step in steps}) == 1


def test_one_loop_for_all_requests(client):
    assert len({tuple(client.get("/loop").json.items()) for _ in range(5)}) == 1


def test_lock_made_in_one_request_serves_the_next(client):
    for _ in range(3):
        assert client.post("/loop/lock").text == "held"
        assert client.get("/loop/lock").text == "taken"


def test_queue_made_in_one_request_serves_the_next(client):
    assert client.post("/loop/queue").text == "made"
    assert client.request("PUT", "/loop/queue", (), b"kept").text == "put"
    assert client.get("/loop/queue").text == "kept"


def test_server_log_raises_no_alarm(client):
    """Last of all cases on each host: what they left behind."""
    if not isinstance(client, ServerClient):
        pytest.skip("warnings are errors here anyway")
    assert client.take_alarms() == []
