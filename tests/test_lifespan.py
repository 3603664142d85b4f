"""The serving life: hooks in order, failures on both ways, state, the shutdown event; real servers too."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from contextvars import ContextVar

import pytest
from edge import Exchange, get, wait_until
from served import Served
from werkzeug.test import Client, EnvironBuilder
from werkzeug.wrappers import Response

from asyncflask import Blueprint, Flask, current_app, g, got_serving_exception, request
from asyncflask.lifespan import lifespan_of
from asyncflask.shutdown import Listener, ShutdownEvent

number: ContextVar[int] = ContextVar("number", default=0)


@pytest.fixture
def app():
    return Flask("serving")


@pytest.fixture
def log():
    return []


def add_hooks(app, log):
    """One of each kind and style; each notes its name and the thread."""

    def note(name):
        log.append(name)
        threads[name] = threading.current_thread()

    threads = {}

    @app.before_serving
    async def before():
        note("before")

    @app.before_serving
    def sync_before():
        note("sync before")

    @app.while_serving
    async def life():
        note("enter")
        yield
        note("leave")

    @app.while_serving
    def sync_life():
        note("sync enter")
        yield
        note("sync leave")

    @app.after_serving
    def sync_after():
        note("sync after")

    @app.after_serving
    async def after():
        note("after")

    return threads


IN = ["before", "sync before", "enter", "sync enter"]
OUT = ["sync leave", "leave", "sync after", "after"]


async def serve(app, state=None, asks=2):
    """The lifespan as a server holds it: what the application answers."""
    scope = {"type": "lifespan", "asgi": {"version": "3.0"}}
    if state is not None:
        scope["state"] = state
    events = iter(["startup", "shutdown"][:asks])
    answers = []

    async def receive():
        phase = next(events, None)
        if phase is None:
            await asyncio.Event().wait()
        return {"type": f"lifespan.{phase}"}

    async def send(message):
        answers.append(message)

    await app(scope, receive, send)
    return answers


class TestOrder:
    async def test_there_and_back(self, app, log):
        add_hooks(app, log)
        await app.startup()
        assert log == IN
        await app.shutdown()
        assert log == IN + OUT

    async def test_sync_hooks_have_one_thread(self, app, log):
        threads = add_hooks(app, log)
        await app.startup()
        await app.shutdown()
        main = threading.main_thread()
        assert {threads[name] is main for name in ("before", "enter", "leave", "after")} == {True}
        others = {threads[name] for name in ("sync before", "sync enter", "sync leave", "sync after")}
        assert len(others) == 1 and main not in others

    async def test_a_life_after_the_first(self, app, log):
        add_hooks(app, log)
        for _ in range(2):
            async with app.test_app():
                assert not app.shutdown_event.is_set()
            assert app.shutdown_event.is_set()
        assert log == (IN + OUT) * 2

    def test_each_life_may_have_its_loop(self, app, log):
        add_hooks(app, log)
        for _ in range(2):
            asyncio.run(serve(app))
        assert log == (IN + OUT) * 2

    async def test_two_lives_at_once_are_refused(self, app):
        await app.startup()
        with pytest.raises(RuntimeError, match="served already"):
            await app.startup()
        await app.shutdown()

    async def test_blueprints(self, app, log):
        bp = Blueprint("bp", __name__)

        @bp.while_app_serving
        async def life():
            log.append("enter")
            yield
            log.append("leave")

        bp.before_app_serving(lambda: log.append("before"))
        bp.after_app_serving(lambda: log.append("after"))
        app.register_blueprint(bp)
        async with app.test_app():
            assert log == ["before", "enter"]
        assert log == ["before", "enter", "leave", "after"]

    async def test_shutdown_without_a_startup(self, app, log):
        add_hooks(app, log)
        await app.shutdown()
        assert log == []


class TestContext:
    async def test_one_g_and_the_application(self, app, log):
        app.teardown_appcontext(lambda error: log.append("torn down"))

        @app.before_serving
        async def before():
            g.word = current_app.name

        @app.while_serving
        def life():
            log.append(g.word)
            yield
            log.append(g.word)

        await app.startup()
        assert log == ["serving", "torn down"]
        await app.shutdown()
        assert log == ["serving", "torn down"] * 2

    async def test_variables_are_seen_by_later_hooks(self, app, log):
        app.before_serving(lambda: number.set(1))

        @app.while_serving
        async def life():
            number.set(number.get() + 1)
            yield
            number.set(number.get() + 1)

        app.after_serving(lambda: log.append(number.get()))
        await app.startup()
        await asyncio.create_task(app.shutdown())
        assert log == [3] and number.get() == 0

    async def test_task_group_across_the_yield(self, app, log):
        async def work():
            await app.shutdown_event.wait()
            log.append("worked")

        @app.while_serving
        async def life():
            async with asyncio.TaskGroup() as group:
                group.create_task(work())
                yield

        await asyncio.create_task(app.startup())
        await asyncio.create_task(app.shutdown())
        assert log == ["worked"]

    async def test_state(self, app):
        @app.before_serving
        def before():
            app.serving_state["mine"] = app.serving_state["server's"] + 1

        @app.get("/")
        async def view():
            return {"state": request.environ["asgi.scope"]["state"], "own": current_app.serving_state["mine"]}

        state = {"server's": 1}
        async with asyncio.TaskGroup() as group:
            server = group.create_task(serve(app, state, asks=1))
            await wait_until(lambda: "mine" in state)
            assert (await get(app, state=state.copy())).json == {"state": {"server's": 1, "mine": 2}, "own": 2}
            server.cancel()


class TestFailingStartup:
    async def test_what_was_begun_is_wound_down(self, app, log, caplog):
        add_hooks(app, log)
        errors = []

        @app.while_serving
        async def fails():
            raise ValueError("no\ndatabase")
            yield

        @app.while_serving
        async def never():
            log.append("never")
            yield

        def receive(sender, exception):
            errors.append((sender, str(exception)))

        @app.while_serving
        def last():
            yield

        closed = app.while_serving_funcs

        def closes(name):
            async def life():
                try:
                    yield
                finally:
                    log.append(f"closed {name} of {current_app.name}")

            return life

        closed[2:2] = [closes("first"), closes("second")]
        with got_serving_exception.connected_to(receive, app):
            (answer,) = await serve(app)
        assert answer == {"type": "lifespan.startup.failed", "message": "ValueError: no database"}
        assert log == [*IN, "closed second of serving", "closed first of serving"]
        assert errors == [(app, "no\ndatabase")]
        (record,) = caplog.records
        assert record.exc_info[1].args == ("no\ndatabase",)

    @pytest.mark.parametrize("error", [SystemExit("no key"), KeyboardInterrupt()])
    async def test_errors_that_would_end_a_loop(self, app, error):
        def hook():
            raise error

        async def async_hook():
            raise error

        for function in (hook, async_hook):
            app.before_serving_funcs[:] = [function]
            assert [answer["type"] for answer in await serve(app)] == ["lifespan.startup.failed"]

    async def test_hook_that_is_cancelled_from_inside(self, app):
        @app.before_serving
        async def before():
            raise asyncio.CancelledError

        (answer,) = await serve(app)
        assert answer["message"] == "RuntimeError: A serving hook was cancelled from inside."

    async def test_generator_that_does_not_yield(self, app):
        @app.while_serving
        async def life():
            if app.debug:
                yield

        with pytest.raises(RuntimeError, match="without a yield"):
            await app.startup()

    @pytest.mark.parametrize("kind", ["sync", "async", "context manager"])
    async def test_function_without_a_yield(self, app, kind):
        def life():
            pass

        async def async_life():
            pass

        @asynccontextmanager
        async def manager():
            yield

        app.while_serving({"sync": life, "async": async_life, "context manager": manager}[kind])
        with pytest.raises(TypeError, match=r"(life|manager).*must have a yield.*without @asynccontextmanager") as info:
            await app.startup()
        assert ("_AsyncGeneratorContextManager" if kind == "context manager" else "NoneType") in str(info.value)

    async def test_the_next_may_succeed(self, app, log):
        @app.before_serving
        async def before():
            log.append("tried")
            if len(log) == 1:
                raise ValueError

        with pytest.raises(ValueError):
            await app.startup()
        await app.startup()
        await app.shutdown()

    async def test_hook_that_swallows_the_cancellation(self, app, log):
        @app.while_serving
        async def life():
            try:
                log.append("waits")
                await asyncio.sleep(20)
            except asyncio.CancelledError:
                log.append("swallowed")
            try:
                yield
            finally:
                log.append("closed")

        task = asyncio.create_task(app.startup())
        await wait_until(lambda: log)
        task.cancel()
        await asyncio.wait([task], timeout=5)
        assert task.cancelled()
        assert log == ["waits", "swallowed", "closed"]

    async def test_task_group_is_no_reason_to_leave_others_open(self, app, log, caplog):
        @app.while_serving
        async def outer():
            try:
                yield
            finally:
                log.append("closed")

        @app.while_serving
        async def inner():
            async with asyncio.TaskGroup():
                yield

        @app.while_serving
        async def fails():
            raise ValueError("no database")
            yield

        with pytest.raises(ValueError, match="no database"):
            await app.startup()
        assert log == ["closed"]
        assert len(caplog.records) == 1

    async def test_shutdown_that_comes_too_early(self, app):
        @app.before_serving
        async def before():
            await asyncio.sleep(0.01)

        task = asyncio.create_task(app.startup())
        await asyncio.sleep(0)
        await app.shutdown()
        with pytest.raises(RuntimeError, match="shut down during its startup"):
            await task

    async def test_server_that_leaves_after_a_shutdown_by_hand(self, app, log):
        add_hooks(app, log)
        exchange = asyncio.Queue()
        exchange.put_nowait({"type": "lifespan.startup"})

        async def send(message):
            sent.append(message["type"])

        sent = []
        server = asyncio.create_task(app({"type": "lifespan"}, exchange.get, send))
        await wait_until(lambda: sent)
        await app.shutdown()
        server.cancel()
        with pytest.raises(asyncio.CancelledError):
            await server
        assert sent == ["lifespan.startup.complete"] and log == [*IN, *OUT]

    async def test_shutdown_on_another_loop(self, app, log):
        add_hooks(app, log)
        await app.startup()
        with pytest.raises(RuntimeError, match="the loop of its startup"):
            await asyncio.to_thread(asyncio.run, app.shutdown())
        assert log == IN and not app.shutdown_event.is_set()
        await app.shutdown()
        assert log == [*IN, *OUT]

    @pytest.mark.leaves_tasks("the loop of the startup ends without a shutdown")
    def test_shutdown_after_the_loop_of_the_startup_has_ended(self, app, log):
        add_hooks(app, log)
        asyncio.run(app.startup())
        del log[:]
        asyncio.run(app.shutdown())
        assert app.shutdown_event.is_set() and "leave" not in log

    async def test_an_iterator_of_ones_own_that_has_nothing_to_close(self, app, log):
        class Life:
            def __iter__(self):
                return self

            def __next__(self):
                log.append("next")

        app.while_serving(Life)
        await app.startup()
        with pytest.raises(RuntimeError, match="more than one yield"):
            await app.shutdown()
        assert log == ["next", "next"]

    async def test_server_that_does_not_wait(self, app, log):
        @app.while_serving
        async def life():
            try:
                yield
            finally:
                log.append("closed")

        @app.before_serving
        def begin():
            log.append("begun")

        @app.while_serving
        async def hangs():
            await asyncio.sleep(60)
            yield

        task = asyncio.create_task(app.startup())
        await wait_until(lambda: log)
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert log == ["begun", "closed"]

    @pytest.mark.leaves_tasks("the loop ends in the midst of them")
    def test_loop_that_ends_meanwhile(self, app, log):
        @app.while_serving
        async def life():
            try:
                yield
            finally:
                await asyncio.sleep(0)
                log.append("closed")

        @app.while_serving
        async def hangs():
            log.append("begun")
            await asyncio.sleep(60)
            yield

        async def main():
            startup = asyncio.create_task(app.startup())
            await wait_until(lambda: log)
            assert not startup.done()

        asyncio.run(main())
        assert log == ["begun", "closed"]


class TestFailingShutdown:
    async def test_the_others_run(self, app, log, caplog):
        @app.while_serving
        async def outer():
            yield
            log.append("outer")

        @app.while_serving
        def inner():
            yield
            raise ValueError("inner")

        @app.while_serving
        async def twice():
            yield
            yield

        @app.after_serving
        async def fails():
            raise ValueError("after")

        app.after_serving(lambda: log.append("last"))
        started, ended = await serve(app)
        assert started == {"type": "lifespan.startup.complete"}
        assert ended["type"] == "lifespan.shutdown.failed"
        assert log == ["outer", "last"]
        assert len(caplog.records) == 3 and "more than one yield" in caplog.text

    async def test_task_of_a_group_that_fails_while_it_serves(self, app, log, caplog):
        async def fail():
            raise ValueError("no database")

        @app.while_serving
        async def outer():
            try:
                yield
            finally:
                log.append("closed")

        @app.while_serving
        async def life():
            async with asyncio.TaskGroup() as group:
                group.create_task(fail())
                yield

        await app.startup()
        await wait_until(lambda: log)
        assert "no database" in caplog.text
        with pytest.raises(ExceptionGroup):
            await app.shutdown()

    async def test_what_is_raised(self, app):
        async def fail():
            raise ValueError("one")

        app.after_serving(fail)
        await app.startup()
        with pytest.raises(ValueError, match="one"):
            await app.shutdown()
        app.after_serving(fail)
        await app.startup()
        with pytest.raises(ExceptionGroup):
            await app.shutdown()

    @pytest.mark.leaves_tasks("the loop ends in the midst of them")
    def test_server_that_ends_without_a_word(self, app, log):
        @app.while_serving
        async def life():
            log.append("begun")
            try:
                yield
            finally:
                await asyncio.sleep(0)
                log.append("closed")

        app.after_serving(lambda: log.append("after"))

        async def main():
            state = {}
            app.serving_state["begun"] = True
            server = asyncio.create_task(serve(app, state, asks=1))
            await wait_until(lambda: state)
            assert not server.done()

        asyncio.run(main())
        assert log == ["begun", "closed"] and app.shutdown_event.is_set()
        asyncio.run(serve(app))
        assert log == ["begun", "closed", "begun", "closed", "after"]


class TestShutdownEvent:
    async def test_set_from_a_thread(self):
        event = ShutdownEvent()
        waits = [asyncio.create_task(event.wait()) for _ in range(3)]
        await asyncio.sleep(0)
        waits.pop().cancel()
        threading.Timer(0.01, event.set).start()
        async with asyncio.timeout(5):
            assert await asyncio.gather(*waits) == [True, True]
            assert await event.wait() and event.is_set()

    async def test_waits_on_two_loops(self):
        event = ShutdownEvent()
        other = asyncio.create_task(asyncio.to_thread(asyncio.run, event.wait()))
        await wait_until(lambda: len(event._waiters) == 1)
        event.set()
        assert await asyncio.wait_for(other, 5)

    def test_signals_on_their_way(self, log):
        """Wrapped, called through to and given back; what Python does by itself is left alone."""
        before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
        listener = Listener(lambda: log.append("heard"))

        def handler(number, frame):
            log.append(number)

        signal.signal(signal.SIGTERM, handler)
        try:
            listener.start()
            listener.start()
            assert signal.getsignal(signal.SIGINT) == before[1]
            signal.raise_signal(signal.SIGTERM)
            assert log == ["heard", signal.SIGTERM]
            listener.stop()
            assert signal.getsignal(signal.SIGTERM) is handler
        finally:
            signal.signal(signal.SIGTERM, before[0])

    def test_two_applications_listen(self, log):
        """In any order of begin and end, each once, and nobody calls itself."""
        before = signal.getsignal(signal.SIGTERM)

        def handler(number, frame):
            log.append("server")

        signal.signal(signal.SIGTERM, handler)
        try:
            one, two = Listener(lambda: log.append("one")), Listener(lambda: log.append("two"))
            for listener in (one, two, one, two):
                listener.start()
            signal.raise_signal(signal.SIGTERM)
            assert log == ["two", "one", "server"]
            one.stop()
            signal.raise_signal(signal.SIGTERM)
            assert log[3:] == ["two", "one", "server"]
            two.stop()
            one.stop()
            assert signal.getsignal(signal.SIGTERM) is handler
        finally:
            signal.signal(signal.SIGTERM, before)

    def test_signals_of_a_loop(self, log):
        async def main():
            loop = asyncio.get_running_loop()
            ends = asyncio.Event()
            listener = Listener(lambda: log.append("heard"))
            loop.add_signal_handler(signal.SIGTERM, ends.set)
            try:
                listener.start(loop)
                os.kill(os.getpid(), signal.SIGTERM)
                await asyncio.wait_for(ends.wait(), 5)
                listener.stop()
            finally:
                loop.remove_signal_handler(signal.SIGTERM)

        before = signal.getsignal(signal.SIGTERM)
        try:
            asyncio.run(main())
        finally:
            signal.signal(signal.SIGTERM, before)  # a loop leaves the default
        assert log == ["heard"]

    async def test_ctrl_c_of_asyncio_run_is_left_alone(self, app):
        before = signal.getsignal(signal.SIGINT)
        await app.startup()
        assert signal.getsignal(signal.SIGINT) == before
        await app.shutdown()

    def test_other_threads_cannot_listen(self):
        with ThreadPoolExecutor(1) as pool:
            pool.submit(Listener(print).start).result()


class TestWsgi:
    """Without a server; `Client` of Werkzeug does not say that it is a test, as ours does."""

    def test_our_test_client_does_not_serve(self, app, log):
        add_hooks(app, log)
        app.add_url_rule("/", view_func=lambda: "answer")
        for face in ("wsgi", "asgi"):
            assert app.test_client(face=face).get("/").text == "answer"
        assert log == []

    def test_before_the_first_request_once(self, app, log):
        threads = add_hooks(app, log)
        app.before_serving(lambda: time.sleep(0.2))  # so the others come meanwhile
        app.add_url_rule("/", view_func=lambda: "answer")

        def ask(_):
            return Client(app).get("/").text

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(ask, range(16))) == ["answer"] * 16
        assert log == IN
        assert threads["before"].name == "asyncflask-loop"
        assert threads["sync before"].name.startswith("asyncflask-worker")
        app.ensure_sync(app.shutdown)()
        assert log == IN + OUT

    def test_mounted_applications_count(self, app, log):
        add_hooks(app, log)
        app.mount("/old", Response("mounted"))
        assert Client(app).get("/old").text == "mounted"
        assert log == IN
        app.ensure_sync(app.shutdown)()

    def test_failure_reaches_a_test(self, app):
        @app.before_serving
        def before():
            raise ValueError("no database")

        for _ in range(2):
            with pytest.raises(ValueError, match="no database"):
                Client(app).get("/")

    async def test_not_on_an_event_loop(self, app, log):
        add_hooks(app, log)
        assert Client(app).get("/").status_code == 404
        assert log == []

    def test_child_of_a_fork_begins_anew(self, app, log):
        @app.before_serving
        async def collect():
            gc.collect()  # which would end the parent's life in the child, had it been let go of

        add_hooks(app, log)
        Client(app).get("/")
        log.clear()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                Client(app).get("/")
                code = 0 if log == IN else 2
            finally:
                os._exit(code)
        deadline = time.monotonic() + 10
        while (done := os.waitpid(pid, os.WNOHANG)) == (0, 0) and time.monotonic() < deadline:
            time.sleep(0.01)
        if done == (0, 0):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        assert done[1] == 0 and done[0] == pid
        app.ensure_sync(app.shutdown)()
        assert log == OUT

    def test_life_that_its_loop_lets_go_of(self, app, log):
        """Where a collection of garbage ends it, nothing can be awaited, and any lock may be held."""
        add_hooks(app, log)
        loop = asyncio.new_event_loop()
        try:
            loop.run_until_complete(app.startup())
            life = lifespan_of(app)._life
            life.task.get_coro().close()
            assert log == IN and life.errors == []
            life.task._log_destroy_pending = False
        finally:
            loop.close()

    def test_child_of_a_fork_forgets_no_application_that_is_gone(self):
        code = """
            import gc, os
            from asyncflask import Flask
            from asyncflask.lifespan import lifespan_of

            app = Flask("gone")
            lifespan = lifespan_of(app)
            del app
            gc.collect()
            pid = os.fork()
            if not pid:
                raise SystemExit(lifespan.loop is not None)
            raise SystemExit(os.waitpid(pid, 0)[1])
        """
        done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=30)
        assert (done.returncode, done.stderr) == (0, "")

    def test_apps_without_hooks_have_no_lifespan(self, app):
        environ = EnvironBuilder("/").get_environ()
        app(environ, lambda *start: None)
        assert app._has_begun and "_lifespan" not in vars(app)


# On real servers

# uvicorn ends gracefully, and then by the very signal.
ASGI = {
    "uvicorn-h11": -signal.SIGTERM,
    "hypercorn": 0,
    "hypercorn-alone": 0,
    "hypercorn-trio": 0,
    "granian-asgi": 0,
    "gunicorn-asgi": 0,
    "asyncflask": -signal.SIGTERM,
}
WSGI = ("gunicorn-two", "gunicorn-preload")


def test_gevent_that_patches_after_the_import():
    with Served("gevent-preload") as site:
        pid = site.get("/")
        assert site.get("/ends") == "False"  # an async view
        assert site.end() == 0, site.text
        assert site.said_by(pid) == ["before", "enter", "leave", "after"]


TOLD = 2  # seconds: what it takes is a tenth of it, on a machine that has nothing else to do


def check_end(site, pid):
    *hooks, leave, after = (line for line in site.said_by(pid) if "lost" not in line)
    assert hooks == ["before", "enter", "quick is done"] and (leave, after) == ("leave", "after"), site.text
    for name in ("slow", "stuck"):
        assert site.text.count(f"begin_tasks.<locals>.{name}' is lost") == 1, site.text
    assert "Traceback" not in site.text


@pytest.mark.parametrize("name", ASGI)
def test_asgi_server(name):
    """SIGTERM with streams open and tasks at work: all is told in time, the hooks run, the process ends."""
    with Served(name) as site:
        pid = site.get("/")
        streams = [site.open(path) for path in ("/async", "/waiting", "/sync")]
        assert [stream.readline().decode().strip() for stream in streams] == [pid] * 3
        site.get("/tasks")
        site.process.terminate()
        told = time.monotonic()
        assert [stream.read() for stream in streams] == [b"end\n"] * 3
        assert time.monotonic() - told < TOLD
        assert site.wait() == ASGI[name], site.text
        check_end(site, pid)


@pytest.mark.parametrize("name", WSGI)
def test_wsgi_server_with_two_workers(name):
    """Each for itself, after the fork."""
    with Served(name) as site:
        site.get("/")
        stream = site.open("/sync")
        pids = [stream.readline().decode().strip()]
        pids.append(site.get("/"))  # by the other: the first is busy
        site.get("/tasks")
        site.process.terminate()
        told = time.monotonic()
        assert stream.read() == b"end\n"
        assert time.monotonic() - told < TOLD
        assert site.wait() == 0, site.text
        assert pids[0] != pids[1]
        assert site.said_by(pids[0]) == ["before", "enter", "leave", "after"]
        check_end(site, pids[1])


@pytest.mark.parametrize(("name", "number"), [("waitress", signal.SIGINT), ("gunicorn-gthread", signal.SIGTERM)])
def test_wsgi_server_with_threads(name, number):
    with Served(name) as site:
        pid = site.get("/")
        site.get("/tasks")
        assert site.end(number) == 0, site.text
        check_end(site, pid)


def test_signals_heard_from_the_import_on():
    """gunicorn's gthread worker calls the application in threads, which cannot listen, but imports it where one can."""
    with Served("gunicorn-gthread", EARLY="1") as site:
        pid = site.get("/")
        stream = site.open("/sync")
        stream.readline()
        site.process.terminate()
        told = time.monotonic()
        assert stream.read() == b"end\n"
        assert time.monotonic() - told < TOLD
        assert site.wait() == 0
        assert site.said_by(pid) == ["before", "enter", "leave", "after"]


FAILING = {
    **{"uvicorn-h11": 3, "hypercorn-alone": 1, "hypercorn-trio-alone": 1, "granian-asgi": 1, "gunicorn-asgi": 3},
    **{"asyncflask": 3, "gunicorn-two": 3, "gunicorn-gthread": 3, "waitress": 3},
}


@pytest.mark.parametrize("name", FAILING)
def test_failing_startup(name):
    with Served(name, FAIL="startup") as site:
        deadline = time.monotonic() + 15
        while site.process.poll() is None and time.monotonic() < deadline:
            try:
                site.open("/")  # the first request is WSGI's start
            except ConnectionRefusedError:
                time.sleep(0.03)
            except OSError:
                break
        assert site.wait() == FAILING[name], site.text
        assert len(re.findall(r"^\d+ before$", site.text, re.M)) == 1, site.text
        # Once by us, with the traceback; hypercorn has one of its own, of the failure that we told it.
        assert site.text.count("\nValueError: no database") == 1, site.text


def test_failing_shutdown():
    """The other hooks run; the server is told."""
    with Served("uvicorn-h11", FAIL="shutdown") as site:
        pid = site.get("/")
        site.end()
        assert site.said_by(pid) == ["before", "enter", "leave", "after"]
        assert site.text.count("\nValueError: no database") == 1
        assert "shutdown failed" in site.text


def test_lifespan_switched_off():
    """No hook runs. The signal is heard once somebody has asked."""
    with Served("uvicorn-off") as site:
        assert site.get("/ends") == "False"
        stream = site.open("/async")
        pid = stream.readline().decode().strip()
        site.process.terminate()
        assert stream.read() == b"end\n"
        site.wait()
        assert site.said_by(pid) == []


class TestExit:
    """The way out under WSGI, in a process of its own."""

    def run(self, code, tmp_path):
        script = tmp_path / "script.py"
        script.write_text(textwrap.dedent(code))
        command = [sys.executable, "-W", "error", script]
        return subprocess.run(command, capture_output=True, text=True, timeout=30)

    def test_tasks_and_hooks_with_name_look_ups(self, tmp_path):
        """What the loop leaves to Python's own threads still works then."""
        done = self.run(
            """
            import asyncio
            from werkzeug.test import Client
            from asyncflask import Flask
            app = Flask("app")

            async def task():
                await asyncio.sleep(0.1)
                print("task")

            @app.get("/")
            def view():
                app.add_background_task(task)
                return "answer"

            @app.after_serving
            async def after():
                await asyncio.get_running_loop().getaddrinfo("localhost", 80)
                print("after")

            print(Client(app).get("/").text)
            """,
            tmp_path,
        )
        assert done.stdout.split() == ["answer", "task", "after"], done.stderr
        assert done.stderr == ""

    def test_applications_that_are_gone_are_not_kept(self, tmp_path):
        done = self.run(
            """
            import gc, weakref
            from asyncflask import Flask

            def use():
                app = Flask("app")
                app.add_background_task(print, "task")
                app.ensure_sync(app.shutdown)()
                return weakref.ref(app)

            app = use()
            gc.collect()
            print(app() is None)
            """,
            tmp_path,
        )
        assert done.stdout.split() == ["task", "True"], done.stderr


@pytest.mark.parametrize("with_hook", [True, False])
async def test_a_server_without_a_lifespan_is_told_of(with_hook, caplog):
    app = Flask(__name__)
    app.add_url_rule("/", "index", lambda: "hello")
    if with_hook:
        app.before_serving(lambda: None)
    for _ in range(2):
        exchange = Exchange("GET", "/", headers=[("Host", "localhost")])
        assert (await exchange.run(app)).text == "hello"
    assert caplog.text.count("the server sent no lifespan.startup") == with_hook
