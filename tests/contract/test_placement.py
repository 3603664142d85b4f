"""Where steps run, counted: threads started, event loops made, hops from the loop to a worker thread."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from asyncio import base_events
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar

import pytest
from contract_hosts import AsgiClient, WsgiClient

from asyncflask import Blueprint, Flask, g, nonblocking, request, session
from asyncflask.workers import PoolLane, WorkerPool

SEEN: ContextVar[str] = ContextVar("SEEN", default="nothing")


def make_hook(kind, passed):
    """A hook: "s" sync, "n" sync and marked non-blocking, "a" async. It returns its argument or nothing."""

    def hook(*values):
        g.ran = [*g.get("ran", ()), kind]
        return values[0] if passed else None

    async def async_hook(*values):
        await asyncio.sleep(0)
        return hook(*values)

    return {"s": hook, "n": nonblocking(make_plain(hook)), "a": async_hook}[kind]


def make_plain(hook):
    return lambda *values: hook(*values)


def make_app(hooks, **config):
    """An application with a hook of each kind named, before, after and at teardown; views /s, /n and /a."""
    app = Flask(__name__)
    app.config.update(SECRET_KEY="placement", **config)
    for kind in hooks:
        app.before_request(make_hook(kind, False))
        app.after_request(make_hook(kind, True))
        app.teardown_request(make_hook(kind, False))

    @app.route("/s", methods=["GET", "POST"])
    def sync_view():
        session["count"] = session.get("count", 0) + 1
        return {"ran": g.ran, "body": request.get_data(as_text=True)}

    @app.route("/a", methods=["GET", "POST"])
    async def async_view():
        await asyncio.sleep(0)
        return sync_view()

    app.add_url_rule("/n", "n", nonblocking(make_plain(sync_view)), methods=["GET", "POST"])
    return app


@pytest.fixture
def asgi():
    """Makes clients of applications over ASGI and stops them at the end."""
    clients = []

    def make(app):
        clients.append(AsgiClient(app))
        return clients[-1]

    yield make
    for client in clients:
        client.stop()


class Starts(list):
    """The names of threads started and loops made while it is watched."""


@pytest.fixture
def starts(monkeypatch):
    starts = Starts()
    start, make_loop = threading.Thread.start, base_events.BaseEventLoop.__init__

    def start_counted(thread):
        starts.append(f"thread {thread.name}")
        start(thread)

    def make_loop_counted(loop):
        starts.append("event loop")
        make_loop(loop)

    monkeypatch.setattr(threading.Thread, "start", start_counted)
    monkeypatch.setattr(base_events.BaseEventLoop, "__init__", make_loop_counted)
    return starts


@pytest.fixture
def hops(monkeypatch):
    """One entry for each time that work goes to a worker thread."""
    hops = []
    submit, put = WorkerPool.submit, PoolLane.put

    def submit_counted(pool, job):
        hops.append("submit")
        submit(pool, job)

    def put_counted(lane, job):
        hops.append("put")
        put(lane, job)

    monkeypatch.setattr(WorkerPool, "submit", submit_counted)
    monkeypatch.setattr(PoolLane, "put", put_counted)
    return hops


# -- WSGI


@pytest.mark.parametrize("view", ["s", "n"])
def test_sync_requests_over_wsgi_start_nothing(starts, view):
    client = WsgiClient(make_app("sns"))
    for number in range(1000):
        answer = client.post(f"/{view}", (), str(number).encode())
        assert answer.json == {"ran": ["s", "n", "s"], "body": str(number)}
    assert starts == []


def test_async_requests_over_wsgi_start_at_most_one_loop_and_thread(starts):
    client = WsgiClient(make_app("as"))
    for _ in range(50):
        assert client.get("/a").status == 200
    assert starts.count("event loop") <= 1
    assert len(starts) <= 2, starts


# -- ASGI


@pytest.mark.parametrize(("hooks", "view"), [("aaa", "a"), ("nnn", "a"), ("ana", "a"), ("nn", "n"), ("aa", "n")])
def test_request_without_blocking_steps_starts_no_thread(asgi, starts, hops, hooks, view):
    client = asgi(make_app(hooks))
    starts.clear()
    for number in range(100):
        assert client.post(f"/{view}", (), str(number).encode()).json == {
            "ran": list(hooks),
            "body": str(number),
        }
    assert (starts, hops) == ([], [])


@pytest.mark.parametrize("target", ["/missing", "/a/", "/a"])
def test_errors_without_blocking_steps_start_no_thread(asgi, starts, hops, target):
    client = asgi(make_app("a"))
    starts.clear()
    assert client.request("DELETE", target).status in {404, 405}
    assert (starts, hops) == ([], [])


@pytest.mark.parametrize("hooks", ["", "sss", "sns"])
def test_sync_request_over_asgi_is_one_hop(asgi, hops, hooks):
    client = asgi(make_app(f"{hooks}s"))
    for expected in range(1, 21):
        assert client.post("/s", (), b"body").json == {"ran": [*hooks, "s"], "body": "body"}
        assert hops == ["submit"] * expected


MIXED = [
    ("ss", "a", 2),  # before, before | after, after, teardown, teardown
    ("sn", "a", 2),  # a marked step never parts its neighbours
    ("as", "s", 2),  # before, view, after | teardown
    ("sas", "s", 4),  # before | before, view, after | after, teardown | teardown
    ("asa", "a", 3),  # before | after | teardown
]


@pytest.mark.parametrize(("hooks", "view", "expected"), MIXED)
def test_neighbouring_sync_steps_share_a_hop(asgi, hops, hooks, view, expected):
    client = asgi(make_app(hooks))
    for count in range(1, 6):
        assert client.get(f"/{view}").json["ran"] == list(hooks)
        assert len(hops) == expected * count, hops


def test_context_variables_cross_steps(asgi):
    app = Flask(__name__)
    seen = []

    @app.before_request
    def set_in_thread():
        SEEN.set("sync hook")

    @app.before_request
    async def set_on_loop():
        seen.append(SEEN.get())
        SEEN.set("async hook")

    @app.get("/")
    def view():
        seen.append(SEEN.get())
        SEEN.set("sync view")
        return "text"

    @app.after_request
    async def see_on_loop(response):
        seen.append(await asyncio.create_task(see()))
        SEEN.set("async after")
        return response

    @app.teardown_request
    def see_in_thread(error):
        seen.append(SEEN.get())

    async def see():
        return SEEN.get()

    client = asgi(app)
    for _ in range(3):
        assert client.get("/").text == "text"
        assert seen == ["sync hook", "async hook", "sync view", "async after"]
        seen.clear()


# -- a full pool


def make_busy_app(threads, limit):
    app = make_app("", WORKER_THREADS=threads, WORKER_QUEUE_LIMIT=limit)
    release = threading.Event()

    @app.get("/wait")
    def wait():
        release.wait(20)
        return "waited"

    @app.get("/async")
    async def answer():
        await asyncio.sleep(0)
        return "at once"

    return app, release


def wait_for_done(futures, count):
    deadline = time.monotonic() + 10
    while sum(future.done() for future in futures) < count:
        assert time.monotonic() < deadline, [future.done() for future in futures]
        time.sleep(0.005)
    return [future.result() for future in futures if future.done()]


def test_full_queue_is_503_while_async_views_answer(asgi):
    app, release = make_busy_app(threads=2, limit=3)
    client = asgi(app)
    with ThreadPoolExecutor(12) as pool:
        try:
            futures = [pool.submit(client.get, "/wait") for _ in range(12)]
            refused = wait_for_done(futures, 12 - 2 - 3)
            assert [answer.status for answer in refused] == [503] * 7
            assert all(int(answer.get("Retry-After")) > 0 for answer in refused)
            assert [client.get("/async").text for _ in range(5)] == ["at once"] * 5
            assert not any(future.done() and future.result().status == 200 for future in futures)
        finally:
            release.set()
        assert sorted(future.result().status for future in futures) == [200] * 5 + [503] * 7
    assert [client.get("/wait").text for _ in range(4)] == ["waited"] * 4


def test_full_queue_refuses_a_mixed_request_before_any_of_its_steps(asgi):
    app, release = make_busy_app(threads=1, limit=1)
    mixed = Blueprint("mixed", __name__)
    ran = []

    @mixed.before_request
    async def first():
        ran.append("async")

    @mixed.before_request
    def second():
        ran.append("sync")

    @mixed.get("/mixed")
    async def view():
        return "mixed"

    app.register_blueprint(mixed)
    client = asgi(app)
    with ThreadPoolExecutor(3) as pool:
        try:
            futures = [pool.submit(client.get, "/wait") for _ in range(3)]
            wait_for_done(futures, 1)
            refused = client.get("/mixed")
            assert (refused.status, ran) == (503, [])
            assert client.get("/async").text == "at once"
        finally:
            release.set()
        assert sorted(future.result().status for future in futures) == [200, 200, 503]
    assert (client.get("/mixed").text, ran) == ("mixed", ["async", "sync"])


def test_no_more_threads_than_configured(asgi, starts):
    app, release = make_busy_app(threads=3, limit=100)
    client = asgi(app)
    starts.clear()
    with ThreadPoolExecutor(10) as pool:
        futures = [pool.submit(client.get, "/wait") for _ in range(10)]
        deadline = time.monotonic() + 10
        while count_workers(starts) < 3 and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(0.05)
        release.set()
        assert [future.result().text for future in futures] == ["waited"] * 10
    assert count_workers(starts) == 3


def count_workers(starts):
    return len([name for name in starts if "ThreadPoolExecutor" not in name])


# -- fork

FORK = """
import asyncio, os, signal, sys
from contract_hosts import AsgiClient, WsgiClient
from test_placement import make_app

signal.alarm(20)
app = make_app("sa")

def serve():
    asgi = AsgiClient(app)
    wsgi = WsgiClient(app)
    answers = [client.get(target).status for client in (asgi, wsgi) for target in ("/s", "/a", "/s")]
    asgi.stop()
    return answers == [200] * 6

assert serve()
child = os.fork()
if not child:
    signal.alarm(10)
    ok = False
    try:
        ok = serve() and serve()
    finally:
        os._exit(0 if ok else 1)
served = serve()
status = os.waitpid(child, 0)[1]
print("parent", served, "child", os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(not hasattr(sys.modules["os"], "fork"), reason="needs os.fork")
def test_pool_and_loop_are_made_anew_after_a_fork():
    done = subprocess.run(
        [sys.executable, "-c", FORK],
        env={"PYTHONPATH": ":".join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=40,
    )
    assert done.stdout.strip() == "parent True child 0", done.stderr
