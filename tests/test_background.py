"""Background tasks: where they run, what they see, how they end."""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
import time
from contextvars import ContextVar

import pytest
from edge import get, wait_until

from asyncflask import (
    Flask,
    current_app,
    g,
    got_background_exception,
    has_request_context,
    has_websocket_context,
    request,
    session,
    url_for,
    websocket,
)

number: ContextVar[int] = ContextVar("number", default=0)


@pytest.fixture
def app():
    app = Flask("background")
    app.secret_key = "key"
    return app


@pytest.fixture
def seen():
    return []


def wait_in_thread(condition, seconds=5):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


class TestWhereTasksBegin:
    async def test_async_view(self, app, seen):
        @app.get("/")
        async def view():
            app.add_background_task(work, 1, word="two")
            return "answered"

        async def work(one, word):
            seen.append((one, word, threading.current_thread() is threading.main_thread()))

        assert (await get(app)).text == "answered"
        await wait_until(lambda: seen)
        assert seen == [(1, "two", True)]

    async def test_sync_view_over_asgi(self, app, seen):
        loop = asyncio.get_running_loop()

        @app.get("/")
        def view():
            app.add_background_task(work)
            app.add_background_task(sync_work)
            return "answered"

        async def work():
            seen.append(asyncio.get_running_loop() is loop)

        def sync_work():
            seen.append(threading.current_thread().name.startswith("asyncflask-worker"))

        await get(app)
        await wait_until(lambda: len(seen) == 2)
        assert seen == [True, True]

    def test_wsgi_request(self, app, seen):
        gate = threading.Event()

        @app.get("/")
        def view():
            app.add_background_task(work)
            app.add_background_task(sync_work)
            return "answered"

        async def work():
            seen.append(threading.current_thread().name)

        def sync_work():
            gate.wait(5)
            seen.append(threading.current_thread().name)

        assert app.test_client().get("/").text == "answered"  # it does not wait
        gate.set()
        wait_in_thread(lambda: len(seen) == 2)
        assert sorted(seen) == ["asyncflask-loop", "asyncflask-worker-1"]

    def test_outside_of_requests(self, app, seen):
        async def work():
            seen.append((current_app.name, has_request_context()))

        with app.app_context():
            app.add_background_task(work)
        app.add_background_task(work)
        wait_in_thread(lambda: len(seen) == 2)
        assert seen == [("background", False)] * 2

    async def test_hooks_and_threads_of_the_users_own_while_it_serves(self, app, seen):
        loop = asyncio.get_running_loop()

        async def work(name):
            seen.append((name, asyncio.get_running_loop() is loop))

        @app.before_serving
        def before():
            app.add_background_task(work, "sync hook")

        @app.while_serving
        async def life():
            app.add_background_task(work, "async hook")
            yield

        await app.startup()
        await asyncio.to_thread(app.add_background_task, work, "thread")
        await app.shutdown()
        assert sorted(seen) == [("async hook", True), ("sync hook", True), ("thread", True)]

    async def test_sync_wrapper_of_a_coroutine_function(self, app, seen):
        async def work():
            seen.append("done")

        await app.startup()
        app.add_background_task(lambda: work())
        await app.shutdown()
        assert seen == ["done"]


class TestWhatTheySee:
    @pytest.mark.parametrize("face", ["asgi", "wsgi"])
    @pytest.mark.parametrize("style", ["sync", "async"])
    def test_request_after_the_response(self, app, seen, face, style):
        gate, torn_down = threading.Event(), []
        app.teardown_request(lambda error: torn_down.append("request"))
        app.teardown_appcontext(lambda error: torn_down.append(g.get("name")))

        def look():
            here = request.path, url_for("view")
            seen.append((request.args["q"], *here, session["user"], g.get("name"), number.get()))
            g.name = "task"

        async def work():
            await asyncio.to_thread(gate.wait, 5)
            look()

        def sync_work():
            gate.wait(5)
            look()

        @app.get("/here")
        def view():
            session["user"] = "ada"
            g.name = "request"
            number.set(7)
            app.add_background_task(work if style == "async" else sync_work)
            return "answered"

        answer = app.test_client(face=face).get("/here?q=x")
        assert answer.text == "answered"
        assert torn_down == ["request", "request"]
        gate.set()
        wait_in_thread(lambda: len(torn_down) == 3)
        assert seen == [("x", "/here", "/here", "ada", None, 7)]
        assert torn_down[2] == "task"  # its own g; and the request was torn down once

    async def test_websocket(self, app, seen):
        async def work():
            await asyncio.sleep(0.01)
            seen.append((websocket.args["q"], request.path, has_websocket_context()))

        @app.websocket("/ws")
        async def view():
            app.add_background_task(work)
            await websocket.send("sent")

        async with app.test_app() as test_app, test_app.test_client().websocket("/ws?q=x") as connection:
            assert await connection.receive() == "sent"
        assert seen == [("x", "/ws", True)]

    async def test_what_they_set_stays_theirs(self, app):
        async def work():
            number.set(9)

        await app.startup()
        app.add_background_task(work)
        await app.shutdown()
        assert number.get() != 9


class TestThreads:
    async def test_requests_keep_their_threads(self, app):
        app.config["WORKER_THREADS"] = 1
        release = threading.Event()
        app.add_url_rule("/", view_func=lambda: "answered")
        app.add_background_task(release.wait, 10)
        assert (await get(app)).text == "answered"
        release.set()
        await app.shutdown()

    async def test_sync_function_waits_for_async_code(self, app, seen):
        async def fetch():
            await asyncio.sleep(0)
            return await app.sync_to_async(threading.get_ident)()

        def work():
            seen.append(app.ensure_sync(fetch)() == threading.get_ident())

        app.add_background_task(work)
        await app.shutdown()
        assert seen == [True]


class TestErrors:
    @pytest.mark.parametrize("error", [ValueError("lost"), SystemExit(2), KeyboardInterrupt()])
    @pytest.mark.parametrize("style", ["sync", "async"])
    async def test_signal_and_log(self, app, seen, caplog, style, error):
        def work():
            raise error

        async def async_work():
            raise error

        async def receiver(sender, exception):
            seen.append((sender, exception))

        with got_background_exception.connected_to(receiver, app):
            app.add_background_task(functools.partial(async_work if style == "async" else work))
            await app.shutdown()
        assert seen == [(app, error)]
        (record,) = caplog.records
        assert "TestErrors.test_signal_and_log.<locals>." in record.getMessage() and record.exc_info[1] is error

    async def test_receiver_that_fails(self, app, caplog):
        def fail(sender, exception):
            raise RuntimeError("the receiver")

        with got_background_exception.connected_to(fail, app):
            app.add_background_task(lambda: 1 / 0)
            await app.shutdown()
        assert [type(record.exc_info[1]).__name__ for record in caplog.records] == ["ZeroDivisionError", "RuntimeError"]


class TestEnd:
    async def test_set_of_those_that_run(self, app):
        stop = asyncio.Event()
        app.add_background_task(stop.wait)
        (task,) = app.background_tasks
        assert len(app.background_tasks) == 1 and task in app.background_tasks
        assert "wait" in task.get_name()
        stop.set()
        await wait_until(lambda: not app.background_tasks)

    async def test_grace_then_each_is_lost(self, app, seen, caplog):
        app.config["BACKGROUND_TASK_SHUTDOWN_TIMEOUT"] = 0.2
        release = threading.Event()

        async def quick():
            await asyncio.sleep(0.02)
            seen.append("quick")

        async def slow():
            try:
                await asyncio.sleep(60)
            finally:
                seen.append("slow cleaned up")

        def stuck():
            release.wait(20)

        @app.after_serving
        def after():
            seen.append("after")

        await app.startup()
        for task in (quick, slow, stuck, slow):
            app.add_background_task(task)
        await app.shutdown()
        release.set()
        assert seen == ["quick", "slow cleaned up", "slow cleaned up", "after"]
        lost = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        assert [sum(name in text for text in lost) for name in (".slow'", ".stuck'", "'")] == [2, 1, 3]
        assert not app.background_tasks

    async def test_what_is_lost_is_not_begun_later(self, app, seen, caplog):
        app.config.update(BACKGROUND_TASK_SHUTDOWN_TIMEOUT=0, WORKER_THREADS=1)
        release = threading.Event()

        def stuck():
            threads.append(threading.current_thread())
            release.wait(20)

        threads = []
        await app.startup()
        app.add_background_task(stuck)
        for name in ("one", "two"):
            app.add_background_task(seen.append, name)
        await wait_until(lambda: threads)
        await app.shutdown()
        assert caplog.text.count("is lost") == 3
        release.set()
        await asyncio.to_thread(threads[0].join, 5)
        assert seen == []

    async def test_those_of_hooks_on_the_way_out(self, app, seen):
        async def last():
            await asyncio.sleep(0.01)
            seen.append("last")

        @app.after_serving
        def after():
            app.add_background_task(last)

        await app.startup()
        await app.shutdown()
        assert seen == ["last"]

    async def test_one_that_will_not_be_cancelled(self, app, monkeypatch):
        monkeypatch.setattr("asyncflask.background.CLEAN_UP", 0.05)
        app.config["BACKGROUND_TASK_SHUTDOWN_TIMEOUT"] = 0
        stop = asyncio.Event()

        async def stubborn():
            while not stop.is_set():
                try:
                    await stop.wait()
                except asyncio.CancelledError:
                    pass

        app.add_background_task(stubborn)
        (task,) = app.background_tasks
        await asyncio.sleep(0)
        await app.shutdown()
        stop.set()
        await task

    @pytest.mark.leaves_tasks("the loop ends in the midst of them")
    def test_loop_that_ends_without_a_shutdown(self, app, caplog):
        async def main():
            app.add_background_task(asyncio.sleep, 60)
            await asyncio.sleep(0)

        asyncio.run(main())
        assert "'sleep' is lost: it was cancelled" in caplog.text
        assert not app.background_tasks


async def test_a_coroutine_in_place_of_a_function():
    async def work():
        pass

    app = Flask(__name__)
    with pytest.raises(TypeError, match="takes a function and its arguments"):
        app.add_background_task(work())
    with pytest.raises(TypeError, match="takes a function and its arguments"):
        app.add_background_task(5)
