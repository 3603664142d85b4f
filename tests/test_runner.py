"""The Runner: a request's coroutine between the loop and its thread. Affinity, cancellation, isolation."""

from __future__ import annotations

import asyncio
import contextvars
import sqlite3
import sys
import threading
import time
import traceback
import typing as t
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar

import pytest
from edge import Exchange, get, get_many, wait_until

from asyncflask import Flask, copy_current_request_context, g, nonblocking, request, session, stream_with_context
from asyncflask.bridge import run_in_thread, wait_for
from asyncflask.runner import Runner
from asyncflask.steps import LOOP, THREAD, TO_LOOP, TO_THREAD
from asyncflask.workers import Overloaded, WorkerPool

PATIENCE = 5
USER: ContextVar[str] = ContextVar("USER", default="nobody")
Coro = t.Coroutine[t.Any, t.Any, t.Any]


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    pool = WorkerPool(2, 10)
    yield pool
    pool.close()


async def run(coro: Coro, pool: WorkerPool, start: str = LOOP) -> t.Any:
    async with asyncio.timeout(PATIENCE):
        return await Runner(coro, pool, start)


# -- moves


@pytest.mark.parametrize("start", [LOOP, THREAD])
async def test_moves_between_loop_and_one_thread(pool: WorkerPool, start: str) -> None:
    async def travel() -> list[int]:
        places = [threading.get_ident()]
        for move in (TO_THREAD, TO_LOOP, TO_THREAD, TO_LOOP, TO_THREAD):
            await move
            if move is TO_LOOP:
                await asyncio.sleep(0)
            places.append(threading.get_ident())
        return places

    first, *places = await run(travel(), pool, start)
    loop, thread = threading.get_ident(), places[0]
    assert first == (loop if start is LOOP else thread)
    assert places == [thread, loop, thread, loop, thread] and thread != loop
    assert all(lane.bound == 0 for lane in pool.lanes)


@pytest.mark.parametrize("place", [TO_LOOP, TO_THREAD])
@pytest.mark.parametrize("start", [LOOP, THREAD])
@pytest.mark.parametrize("error", [KeyError("x"), asyncio.CancelledError(), SystemExit(1)])
async def test_errors_come_out_wherever_they_are_raised(
    pool: WorkerPool, place: t.Any, start: str, error: BaseException
) -> None:
    async def fail_there() -> None:
        if (place is TO_THREAD) is (start is LOOP):
            await place
        raise error

    try:
        await run(fail_there(), pool, start)
    except BaseException as caught:
        assert caught is error
        assert "fail_there" in {frame.name for frame in traceback.extract_tb(caught.__traceback__)}
    else:
        pytest.fail("no error")


@pytest.mark.parametrize("start", [LOOP, THREAD])
@pytest.mark.parametrize("fails", [False, True])
async def test_move_to_where_it_is_does_no_harm(
    pool: WorkerPool, start: str, fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stay() -> int:
        await TO_THREAD
        await TO_THREAD
        if fails:
            raise KeyError("x")
        return threading.get_ident()

    put, legs = Runner._put_in_lane, []

    def put_some(runner: t.Any, leg: t.Any) -> None:
        legs.append(leg)
        if len(legs) > 5:
            raise AssertionError("it runs for ever")
        put(runner, leg)

    monkeypatch.setattr(Runner, "_put_in_lane", put_some)
    if fails:
        with pytest.raises(KeyError):
            await run(stay(), pool, start)
    else:
        assert await run(stay(), pool, start) == pool.lanes[0].thread_id


async def test_error_of_an_awaited_future_is_thrown_in(pool: WorkerPool) -> None:
    async def fail() -> None:
        await asyncio.sleep(0)
        raise KeyError("x")

    async def catch() -> str:
        await TO_THREAD
        await TO_LOOP
        try:
            await asyncio.create_task(fail())
        except KeyError:
            await TO_THREAD
            return "caught"
        return "missed"

    assert await run(catch(), pool) == "caught"


async def test_waiting_in_the_thread_is_a_loud_error_on_the_loop(pool: WorkerPool) -> None:
    class Yielding:
        def __await__(self) -> t.Iterator[t.Any]:
            yield "something"

    async def wait_there() -> int:
        with pytest.raises(RuntimeError, match="a step was planned wrongly"):
            await Yielding()
        await TO_LOOP  # as the teardown does, which takes itself to be in the thread still
        return threading.get_ident()

    assert await run(wait_there(), pool, THREAD) == threading.get_ident()


async def test_variables_are_one_context_in_both_places(pool: WorkerPool) -> None:
    async def travel() -> list[str]:
        seen, token = [USER.get()], USER.set("loop")
        await TO_THREAD
        seen.append(USER.get())
        USER.set("thread")
        await TO_LOOP
        seen.append(USER.get())
        await asyncio.sleep(0)
        USER.reset(token)  # made on the other side: still of this Context
        seen.append(USER.get())
        return seen

    USER.set("server")
    assert await run(travel(), pool) == ["server", "loop", "thread", "server"]
    assert USER.get() == "server"


def test_bursts_of_several_loops_on_one_pool_all_end() -> None:
    """No leg is left behind in a pool, and no loop misses the end of one."""
    pool, interval, end = WorkerPool(3, 10_000), sys.getswitchinterval(), time.monotonic() + 1

    async def travel() -> None:
        for move in (TO_LOOP, TO_THREAD, TO_LOOP):
            await move

    async def give_bursts() -> None:
        while time.monotonic() < end:
            async with asyncio.timeout(PATIENCE):
                for count in (1, 30, 3):
                    await asyncio.gather(*(Runner(travel(), pool, THREAD) for _ in range(count)))

    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(3) as executor:
            runs = [executor.submit(asyncio.run, give_bursts()) for _ in range(3)]
        for run_of_loop in runs:
            run_of_loop.result()
    finally:
        sys.setswitchinterval(interval)
        pool.close()
    assert not pool.backlog


async def test_overload_is_told_before_anything_ran(pool: WorkerPool) -> None:
    release = threading.Event()
    for _ in range(12):
        pool.submit(lambda lane: release.wait(PATIENCE) and None)
    ran = []

    async def note() -> None:
        ran.append(True)

    coro = note()
    try:
        with pytest.raises(Overloaded):
            await Runner(coro, pool, THREAD)
        runner = Runner(coro, pool, LOOP)
        with pytest.raises(Overloaded):
            runner.bind(refuse=True)
    finally:
        release.set()
        coro.close()
    assert ran == []


# -- cancellation


class Slow:
    """A leg in the thread that lasts until it is told."""

    def __init__(self) -> None:
        self.running = threading.Event()
        self.release = threading.Event()
        self.over = False

    def work(self) -> None:
        self.running.set()
        assert self.release.wait(PATIENCE)
        time.sleep(0.02)
        self.over = True


async def cancel_during(task: asyncio.Task[t.Any], slow: Slow, times: int = 1) -> None:
    await wait_until(slow.running.is_set)
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0.005)
        assert not task.done()
    slow.release.set()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("start", [LOOP, THREAD])
async def test_cancellation_during_a_leg_waits_and_is_then_delivered(pool: WorkerPool, start: str, times: int) -> None:
    slow, seen = Slow(), []

    async def travel() -> None:
        await TO_THREAD
        slow.work()
        try:
            await TO_LOOP
        except asyncio.CancelledError:
            seen.append((slow.over, threading.get_ident()))
            await TO_THREAD  # a teardown that is sync still finds its thread
            seen.append((True, threading.get_ident()))
            await TO_LOOP
            raise

    await cancel_during(asyncio.create_task(run(travel(), pool, start)), slow, times)
    assert seen == [(True, threading.get_ident()), (True, pool.lanes[0].thread_id)]


async def test_cancellation_on_the_loop_is_thrown_in_at_once(pool: WorkerPool) -> None:
    seen = []

    async def travel() -> None:
        await TO_THREAD
        await TO_LOOP
        try:
            await asyncio.sleep(PATIENCE)
        finally:
            seen.append("finally")

    task = asyncio.create_task(run(travel(), pool))
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["finally"]


async def test_timeout_inside_works_across_legs(pool: WorkerPool) -> None:
    async def travel() -> str:
        await TO_THREAD
        await TO_LOOP
        try:
            async with asyncio.timeout(0.01):
                await asyncio.sleep(PATIENCE)
        except TimeoutError:
            await TO_THREAD
            return "timed out"
        return "missed"

    assert await run(travel(), pool) == "timed out"


async def test_timeout_outside_ends_after_the_leg(pool: WorkerPool) -> None:
    slow = Slow()

    async def travel() -> None:
        await TO_THREAD
        slow.work()
        await TO_LOOP

    asyncio.get_running_loop().call_later(0.05, slow.release.set)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await Runner(travel(), pool, LOOP)
    assert slow.over


@pytest.mark.parametrize("hook", ["before", "view", "after", "teardown"])
@pytest.mark.parametrize("mixed", [False, True])
async def test_cancelled_request_waits_for_its_thread_and_tears_down_once(hook: str, mixed: bool) -> None:
    app, slow, torn_down = Flask(__name__), Slow(), []
    step: dict[str, Callable[[], None]] = {hook: slow.work}

    @app.before_request
    def before() -> None:
        step.get("before", time.time)()

    @app.get("/")
    def view() -> str:
        step.get("view", time.time)()
        return "text"

    @app.after_request
    def after(response: t.Any) -> t.Any:
        step.get("after", time.time)()
        return response

    @app.teardown_request
    def teardown(error: BaseException | None) -> None:
        step.get("teardown", time.time)()
        torn_down.append((slow.over, threading.get_ident()))

    if mixed:

        @app.teardown_request
        async def async_teardown(error: BaseException | None) -> None:
            await asyncio.sleep(0)
            torn_down.append((True, threading.get_ident()))

    exchange = Exchange()
    task = asyncio.create_task(app(exchange.scope, exchange.receive, exchange.send))
    await cancel_during(task, slow)
    loop, thread = threading.get_ident(), app._workers.lanes[0].thread_id
    assert sorted(torn_down) == sorted([(True, thread), (True, loop)] if mixed else [(True, thread)])
    assert exchange.messages == []


async def test_request_cancelled_in_an_async_view_tears_down_in_its_thread() -> None:
    app, torn_down, waiting = Flask(__name__), [], asyncio.Event()

    @app.before_request
    def before() -> None:
        g.thread = threading.get_ident()

    @app.get("/")
    async def view() -> str:
        waiting.set()
        await asyncio.sleep(PATIENCE)
        return "text"

    @app.teardown_request
    def teardown(error: BaseException | None) -> None:
        torn_down.append((type(error), g.thread == threading.get_ident()))

    exchange = Exchange()
    task = asyncio.create_task(app(exchange.scope, exchange.receive, exchange.send))
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert torn_down == [(asyncio.CancelledError, True)]
    assert all(lane.bound == 0 for lane in app._workers.lanes)


# -- affinity


def make_mixed_app(threads: int) -> Flask:
    """Sync and async hooks by turns; all sync ones note their thread, and share a connection that belongs to it."""
    app = Flask(__name__)
    app.config.update(WORKER_THREADS=threads, SECRET_KEY="key")
    app.testing = True

    @app.before_request
    async def begin() -> None:
        g.threads = set()
        await asyncio.sleep(0)

    @app.before_request
    def open_connection() -> None:
        g.connection = sqlite3.connect(":memory:")
        g.threads.add(threading.get_ident())

    @app.before_request
    async def wait() -> None:
        await asyncio.sleep(0.001)

    @app.get("/sync/<int:number>")
    def sync_view(number: int) -> dict[str, t.Any]:
        g.threads.add(threading.get_ident())
        (value,) = g.connection.execute("select ?", (number,)).fetchone()
        return {"value": value, "threads": len(g.threads)}

    @app.get("/async/<int:number>")
    async def async_view(number: int) -> dict[str, t.Any]:
        return await app.ensure_async(sync_view)(number)

    @app.get("/nested/<int:number>")
    def nested_view(number: int) -> dict[str, t.Any]:
        return app.ensure_sync(async_view)(number)

    @app.after_request
    async def wait_again(response: t.Any) -> t.Any:
        await asyncio.sleep(0)
        return response

    @app.teardown_request
    def close_connection(error: BaseException | None) -> None:
        g.connection.close()  # ProgrammingError in any other thread

    return app


@pytest.mark.parametrize("threads", [1, 3, 40])
async def test_sync_steps_share_a_thread_however_few_there_are(threads: int) -> None:
    app = make_mixed_app(threads)
    paths = [f"/{kind}/{number}" for number in range(40) for kind in ("sync", "async", "nested")]
    answers = await get_many(app, paths)
    assert [answer.json for answer in answers] == [{"value": number // 3, "threads": 1} for number in range(120)]
    assert len(app._workers.lanes) <= threads
    assert all(lane.bound == 0 for lane in app._workers.lanes)


async def test_requests_that_began_on_the_loop_use_all_threads() -> None:
    """Eight that are past their async hook meet in their sync views: each needs a thread of its own."""
    app, meeting, arrived = Flask(__name__), threading.Barrier(8), asyncio.Event()
    app.testing = True
    here = 0

    @app.before_request
    async def before() -> None:
        nonlocal here
        here += 1
        if here == 8:
            arrived.set()
        await arrived.wait()

    @app.get("/")
    def view() -> str:
        meeting.wait(1)
        return "met"

    assert [answer.text for answer in await get_many(app, ["/"] * 8)] == ["met"] * 8


async def test_many_waits_in_one_thread_do_not_pile_up() -> None:
    """300 requests, one thread, and each sync view waits for async code: no wait runs the next request inside of it."""
    app = Flask(__name__)
    app.config["WORKER_THREADS"] = 1
    app.testing = True

    @app.before_request
    async def before() -> None:
        await asyncio.sleep(0)

    async def work() -> str:
        await asyncio.sleep(0.001)
        return "done"

    @app.get("/")
    def view() -> str:
        return app.ensure_sync(work)()

    assert {answer.text for answer in await get_many(app, ["/"] * 300)} == {"done"}


async def test_lock_held_across_a_wait_keeps_others_out() -> None:
    """A thread that waits must not run another request's step meanwhile: to an RLock that would be the same owner."""
    app, lock, inside, overlaps = Flask(__name__), threading.RLock(), [], []
    app.config["WORKER_THREADS"] = 1
    app.testing = True

    @app.before_request
    async def before() -> None:
        await asyncio.sleep(0)

    @app.get("/<name>")
    def view(name: str) -> str:
        with lock:
            overlaps.extend(inside)
            inside.append(name)
            app.ensure_sync(asyncio.sleep)(0.005)
            inside.remove(name)
        return name

    await get_many(app, ["/a", "/b", "/c"])
    assert overlaps == []


async def test_quick_wait_is_not_held_up_by_another_requests_step() -> None:
    """A's wait takes a millisecond; B's sync view, bound to the same thread, must not run inside of it to its end."""
    app, release, waiting = Flask(__name__), threading.Event(), asyncio.Event()
    app.config["WORKER_THREADS"] = 1
    app.testing = True

    @app.before_request
    async def before() -> None:
        await asyncio.sleep(0)

    async def wait_for_b() -> None:
        waiting.set()
        await asyncio.sleep(0.05)  # B's leg comes into the lane meanwhile

    @app.get("/a")
    def a() -> str:
        app.ensure_sync(wait_for_b)()
        release.set()
        return "a"

    @app.get("/b")
    def b() -> str:
        return "b" if release.wait(0.5) else "b ran inside of a"

    first = asyncio.create_task(get(app, "/a"))
    await waiting.wait()
    second = asyncio.create_task(get(app, "/b"))
    assert ((await first).text, (await second).text) == ("a", "b")


async def test_parallel_task_of_the_same_request_reaches_its_thread_while_that_waits() -> None:
    """A task that an async hook began calls sync code; a sync view waits for that task. One thread, no deadlock."""
    app = Flask(__name__)
    app.config["WORKER_THREADS"] = 1
    app.testing = True

    @app.before_request
    async def begin() -> None:
        async def work() -> int:
            await asyncio.sleep(0.02)
            return await run_in_thread(threading.get_ident)

        g.task = asyncio.create_task(work())

    @app.get("/")
    def view() -> dict[str, bool]:
        async def finish() -> int:
            async with asyncio.timeout(1):
                return t.cast(int, await g.task)

        return {"same": wait_for(finish()) == threading.get_ident()}

    assert (await get(app)).json == {"same": True}


# -- isolation


async def test_a_thousand_mixed_requests_at_once_share_nothing() -> None:
    """g, session, request and a ContextVar of the user's, in hooks, views, nested tasks, threads and streams."""
    app = Flask(__name__)
    app.config.update(WORKER_THREADS=4, WORKER_QUEUE_LIMIT=1000, SECRET_KEY="key")
    app.testing = True
    wrong: list[t.Any] = []

    def check(where: str) -> None:
        name = request.args["name"]
        seen = (USER.get(), g.get("name"), session.get("name"), request.headers["X-Name"])
        if seen != (name,) * 4:
            wrong.append((where, name, seen))

    async def check_async(where: str) -> None:
        await asyncio.sleep(0)
        check(where)

    @app.before_request
    def set_name() -> None:
        if USER.get() != "nobody" or "name" in g:
            wrong.append(("dirty", USER.get(), g.get("name")))
        g.name = request.args["name"]
        session["name"] = g.name
        USER.set(g.name)

    @app.before_request
    async def see_name() -> None:
        await check_async("async before")
        await asyncio.gather(*(asyncio.create_task(check_async("task")) for _ in range(2)))
        await app.ensure_async(check)("thread of async before")

    @app.get("/sync")
    def sync_view() -> str:
        check("sync view")
        app.ensure_sync(check_async)("async of sync view")
        return g.name

    @app.get("/async")
    async def async_view() -> str:
        await app.ensure_async(check)("thread of async view")
        await asyncio.create_task(copy_current_request_context(check_async)("copied"))
        return g.name

    @app.get("/stream")
    def stream_view() -> t.Any:
        def pieces() -> Iterator[str]:
            check("sync stream")
            yield g.name

        return stream_with_context(pieces())

    @app.get("/async-stream")
    async def async_stream_view() -> t.Any:
        @stream_with_context
        async def pieces() -> AsyncIterator[str]:
            await check_async("async stream")
            yield g.name

        return pieces()

    @app.after_request
    async def see_after(response: t.Any) -> t.Any:
        await check_async("after")
        return response

    @app.teardown_request
    def see_at_the_end(error: BaseException | None) -> None:
        check("teardown")

    paths = ("/sync", "/async", "/stream", "/async-stream")
    names = [str(number) for number in range(1000)]
    answers = await asyncio.gather(
        *(get(app, f"{paths[int(name) % 4]}?name={name}", headers=[("X-Name", name)]) for name in names)
    )
    assert wrong == []
    assert [answer.text for answer in answers] == names
    assert USER.get() == "nobody"
    assert all(lane.bound == 0 for lane in app._workers.lanes)


async def test_dirty_context_of_the_server_is_not_inherited_back() -> None:
    app = Flask(__name__)
    app.testing = True

    @app.get("/<name>")
    def view(name: str) -> str:
        before = USER.get()
        USER.set(name)
        g.setdefault("names", []).append(name)
        return f"{before} {g.names}"

    USER.set("server")
    with app.app_context():
        g.names = ["of the server"]
        for name in ("a", "b"):
            assert (await get(app, f"/{name}")).text == f"server ['{name}']"
        assert g.names == ["of the server"]
    assert USER.get() == "server"


async def test_nonblocking_steps_stay_where_the_request_is() -> None:
    app, places = Flask(__name__), []
    app.testing = True
    note = nonblocking(lambda *_: places.append(threading.get_ident()))
    app.before_request(note)
    app.add_url_rule("/async", "a", noop)
    app.add_url_rule("/sync", "s", lambda: "text")
    await get(app, "/async")
    assert places.pop() == threading.get_ident()
    await get(app, "/sync")
    assert places.pop() in {threading.get_ident(), *(lane.thread_id for lane in app._workers.lanes)}


async def noop() -> str:
    return "text"


async def test_exit_in_a_sync_view_reaches_the_server_and_spares_the_thread() -> None:
    app, torn_down = Flask(__name__), []
    app.config["WORKER_THREADS"] = 1
    app.teardown_request(torn_down.append)

    @app.get("/exit")
    def leave() -> t.NoReturn:
        raise SystemExit(3)

    app.add_url_rule("/", "view", lambda: "text")
    with pytest.raises(SystemExit):
        await get(app, "/exit")
    assert [type(error) for error in torn_down] == [SystemExit]
    assert (await get(app)).text == "text"


async def test_context_of_the_request_is_left_in_the_thread() -> None:
    """A worker thread's own Context stays as it was."""
    app, seen = Flask(__name__), []

    @app.get("/")
    def view() -> str:
        USER.set("request")
        return "text"

    app.config["WORKER_THREADS"] = 1
    await get(app)

    def look(lane: object) -> None:
        seen.append(dict(contextvars.copy_context().items()))

    app._workers.submit(look)
    await wait_until(lambda: seen)
    assert seen == [{}]
