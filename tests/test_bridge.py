"""How sync and async code wait for each other: drive, wait_for, run_in_thread, on loops and in threads of all kinds."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import sys
import threading
import time
import traceback
import typing as t
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from functools import partial

import pytest
from edge import get, wait_until

from asyncflask import Flask, bridge, copy_current_request_context, current_app, g, nonblocking, request
from asyncflask.bridge import Mailbox, mailbox_of, run_in_thread, wait_for
from asyncflask.steps import ANYWHERE, LOOP, THREAD, drive, kind_of
from asyncflask.wrappers import iterate_sync

PATIENCE = 5
USER: ContextVar[str] = ContextVar("USER", default="nobody")


class Stopped(BaseException):
    """What is no Exception crosses all the same."""


def in_thread(f: Callable[[], t.Any], seconds: float = PATIENCE) -> t.Any:
    """The result of `f` in a thread of its own; AssertionError if it hangs. A daemon: a hang ends with the tests."""
    outcome: list[tuple[bool, t.Any]] = []

    def run() -> None:
        try:
            outcome.append((True, f()))
        except BaseException as error:
            outcome.append((False, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert outcome, "it hangs"
    good, value = outcome[0]
    if not good:
        raise value
    return value


async def double(value: t.Any) -> t.Any:
    await asyncio.sleep(0)
    return value * 2


async def fail(error: BaseException) -> t.NoReturn:
    await asyncio.sleep(0)
    raise error


# -- kinds


def plain() -> None: ...


async def coroutine_function() -> None: ...


async def async_generator() -> AsyncIterator[int]:
    yield 1


class AsyncCallable:
    async def __call__(self) -> None: ...

    async def method(self) -> None: ...


class Callable_:
    def __call__(self) -> None: ...


KINDS = [
    (plain, THREAD),
    (coroutine_function, LOOP),
    (async_generator, LOOP),
    (partial(partial(coroutine_function)), LOOP),
    (partial(plain), THREAD),
    (AsyncCallable(), LOOP),
    (AsyncCallable().method, LOOP),
    (AsyncCallable, THREAD),
    (Callable_(), THREAD),
    (nonblocking(lambda: None), ANYWHERE),
    (lambda: None, THREAD),
    (print, THREAD),
    (len, THREAD),
]


@pytest.mark.parametrize(("f", "kind"), KINDS)
def test_kinds(f: t.Any, kind: str) -> None:
    assert kind_of(f) == kind


# -- drive


def test_drive_gives_the_result_without_a_loop() -> None:
    async def inner() -> int:
        return 7

    async def outer() -> int:
        with pytest.raises(RuntimeError, match="no running event loop"):
            asyncio.get_running_loop()
        return await inner() + 1

    assert drive(outer()) == 8


def test_drive_lets_errors_through() -> None:
    async def raise_it() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        drive(raise_it())


def test_what_suspends_cannot_be_driven_and_is_closed() -> None:
    closed = []

    async def suspend() -> None:
        try:
            await asyncio.sleep(0)
        finally:
            closed.append(True)

    with pytest.raises(RuntimeError, match="suspended"):
        drive(suspend())
    assert closed == [True]


# -- wait_for, without a request: the background loop


def test_wait_for_runs_on_one_background_loop() -> None:
    async def where() -> tuple[int, t.Any]:
        return threading.get_ident(), asyncio.get_running_loop()

    first, second = wait_for(where()), in_thread(lambda: wait_for(where()))
    assert first == second
    assert first[0] != threading.get_ident()


def test_wait_for_takes_any_awaitable() -> None:
    class Own:
        def __await__(self) -> t.Iterator[t.Any]:
            yield from asyncio.sleep(0).__await__()
            return 5

    assert wait_for(Own()) == 5


@pytest.mark.parametrize("error", [KeyError("x"), Stopped("y"), asyncio.CancelledError(), TimeoutError(), OSError(5)])
def test_errors_cross_to_the_waiting_thread(error: BaseException) -> None:
    with pytest.raises(type(error)):
        in_thread(lambda: wait_for(fail(error)))
    assert in_thread(lambda: wait_for(double(2))) == 4


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_exit_in_async_code_reaches_its_caller_and_not_the_loop(
    error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    """asyncio lets these two through `run_forever`: the background loop would end, and every later wait hang."""
    monkeypatch.setattr(bridge, "_background", bridge._Background())
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    with pytest.raises(type(error)):
        in_thread(lambda: wait_for(fail(error)), 1)
    assert in_thread(lambda: wait_for(double(2)), 1) == 4


def test_traceback_names_the_async_frames() -> None:
    async def innermost() -> None:
        raise ValueError("deep")

    async def outer() -> None:
        await innermost()

    with pytest.raises(ValueError, match="deep") as caught:
        wait_for(outer())
    assert {"outer", "innermost"} <= {frame.name for frame in traceback.extract_tb(caught.value.__traceback__)}


def test_stop_iteration_in_async_code_is_a_runtime_error() -> None:
    with pytest.raises(RuntimeError, match="StopIteration"):
        in_thread(lambda: wait_for(fail(StopIteration(1))))


def test_context_variables_go_in_and_come_back() -> None:
    async def take_over() -> str:
        seen = USER.get()
        USER.set("async")
        return seen

    def run() -> tuple[str, str]:
        USER.set("sync")
        return wait_for(take_over()), USER.get()

    assert contextvars.Context().run(run) == ("sync", "async")


def test_variables_of_a_task_that_goes_on_do_not_come_back() -> None:
    async def start() -> None:
        async def later() -> None:
            USER.set("task")

        await asyncio.create_task(later())

    def run() -> str:
        wait_for(start())
        return USER.get()

    assert contextvars.Context().run(run) == "nobody"


async def test_wait_on_the_loops_own_thread_is_a_clear_error() -> None:
    coro = double(1)
    with pytest.raises(RuntimeError, match=r"event loop's own thread.*ensure_async"):
        wait_for(coro)
    assert coro.cr_frame is None  # closed: no warning that it was never awaited


async def test_wait_for_a_future_on_the_loops_own_thread_leaves_it_alone() -> None:
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    with pytest.raises(RuntimeError, match="event loop's own thread"):
        wait_for(future)
    assert not future.done()


def test_wait_on_the_background_loops_thread_is_a_clear_error() -> None:
    async def wait_inside() -> None:
        wait_for(double(1))

    with pytest.raises(RuntimeError, match="event loop's own thread"):
        in_thread(lambda: wait_for(wait_inside()))


def test_many_threads_wait_at_once() -> None:
    results: list[int] = []

    def run(number: int) -> None:
        results.extend(wait_for(double(number)) for _ in range(20))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert sorted(results) == sorted(number * 2 for number in range(16) for _ in range(20))


def test_interrupted_wait_cancels_what_it_waits_for() -> None:
    """Ctrl-C in the waiting thread."""
    cancelled = threading.Event()

    async def wait_long() -> None:
        try:
            await asyncio.sleep(PATIENCE)
        finally:
            cancelled.set()

    wait = bridge._Wait(wait_long(), bridge._background.get(), bridge.Lane(), None)

    def interrupt() -> None:
        raise KeyboardInterrupt

    wait.lane.put(lambda: time.sleep(0.02))
    wait.lane.put(interrupt)
    with pytest.raises(KeyboardInterrupt):
        wait.result()
    assert cancelled.wait(PATIENCE)


# -- run_in_thread, outside of any application


async def test_thread_of_no_request() -> None:
    assert await run_in_thread(threading.get_ident) != threading.get_ident()


async def test_variables_cross_from_a_thread_of_no_request() -> None:
    USER.set("loop")

    def take_over() -> str:
        seen = USER.get()
        USER.set("thread")
        return seen

    assert (await run_in_thread(take_over), USER.get()) == ("loop", "thread")


# -- inside of an application's context: one thread, errors, exits


@pytest.fixture
def app() -> Flask:
    app = Flask(__name__)
    app.config["WORKER_THREADS"] = 2
    return app


async def test_all_sync_calls_of_a_context_share_a_thread(app: Flask) -> None:
    async with app.app_context():
        threads = {await run_in_thread(threading.get_ident) for _ in range(20)}
        threads |= set(await asyncio.gather(*(run_in_thread(threading.get_ident) for _ in range(20))))
        assert len(threads) == 1 and threading.get_ident() not in threads
    assert [lane.bound for lane in app._workers.lanes] == [0]


async def test_context_that_is_entered_again_keeps_its_thread(app: Flask) -> None:
    async with app.app_context() as ctx:
        first = await run_in_thread(threading.get_ident)
        async with ctx:
            assert await run_in_thread(threading.get_ident) == first
        assert [lane.bound for lane in app._workers.lanes] == [1]
        app._workers.idle.clear()  # no other request may be given this thread for its own meanwhile
        assert await run_in_thread(threading.get_ident) == first
    assert [lane.bound for lane in app._workers.lanes] == [0]


@pytest.mark.parametrize("error", [KeyError("x"), Stopped("y"), SystemExit(3), TimeoutError()])
async def test_errors_cross_to_the_loop(app: Flask, error: BaseException) -> None:
    def raise_it() -> None:
        raise error

    async with app.app_context():
        try:
            await run_in_thread(raise_it)
        except BaseException as caught:
            assert caught is error
            assert "raise_it" in {frame.name for frame in traceback.extract_tb(caught.__traceback__)}
        else:
            pytest.fail("no error")


async def test_stop_iteration_from_a_thread_does_not_hang(app: Flask) -> None:
    """A Future refuses a StopIteration: the waiter, and whoever shares the wake-up of the loop, would wait for ever."""
    async with app.app_context():
        async with asyncio.timeout(1):
            with pytest.raises(RuntimeError, match="StopIteration"):
                await run_in_thread(next, iter(()))
            assert await run_in_thread(len, "abc") == 3


async def test_failing_delivery_does_not_stop_the_others() -> None:
    mailbox = mailbox_of(asyncio.get_running_loop())
    delivered: list[int] = []
    problems: list[t.Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: problems.append(context["exception"]))
    mailbox.post(lambda: delivered.append(1))
    mailbox.post(lambda: 1 // 0)
    mailbox.post(lambda: delivered.append(2))
    await wait_until(lambda: problems, 1)
    await wait_until(lambda: delivered == [1, 2], 1)


async def test_cancelled_caller_leaves_the_thread_working(app: Flask) -> None:
    release, done = threading.Event(), threading.Event()

    def work() -> None:
        release.wait(PATIENCE)
        done.set()

    async with app.app_context():
        task = asyncio.create_task(run_in_thread(work))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        release.set()
        assert await run_in_thread(done.is_set)  # what comes later comes after it, in the same thread


async def test_sync_calls_async_calls_sync_on_one_thread(app: Flask) -> None:
    app.config["WORKER_THREADS"] = 1

    def deepest(depth: int) -> list[int]:
        here = threading.get_ident()
        return [here] if depth == 0 else [here, *app.ensure_sync(deeper)(depth - 1)]

    async def deeper(depth: int) -> list[int]:
        return await app.ensure_async(deepest)(depth)

    async with app.app_context(), asyncio.timeout(PATIENCE):
        threads = await deeper(8)
    assert len(threads) == 9 and len(set(threads)) == 1
    assert threads[0] != threading.get_ident()


async def test_variables_cross_nested_calls_in_both_directions(app: Flask) -> None:
    trail = []

    def sync_step() -> None:
        trail.append(USER.get())
        USER.set("sync")
        app.ensure_sync(async_step)()
        trail.append(USER.get())

    async def async_step() -> None:
        trail.append(USER.get())
        USER.set("async")
        await app.ensure_async(innermost)()
        trail.append(USER.get())

    def innermost() -> None:
        trail.append(USER.get())
        USER.set("innermost")

    async with app.app_context():
        USER.set("loop")
        await app.ensure_async(sync_step)()
    assert [*trail, USER.get()] == ["loop", "sync", "async", "innermost", "innermost", "innermost"]


async def test_wrappers_keep_name_and_arguments(app: Flask) -> None:
    async def add(a: int, *, b: int) -> int:
        """Adds."""
        return a + b

    def subtract(a: int, *, b: int) -> int:
        """Subtracts."""
        return a - b

    sync_add, async_subtract = app.ensure_sync(add), app.ensure_async(subtract)
    assert (sync_add.__name__, sync_add.__doc__) == ("add", "Adds.")
    assert (async_subtract.__name__, async_subtract.__doc__) == ("subtract", "Subtracts.")  # type: ignore[attr-defined]
    assert app.ensure_sync(subtract) is subtract and app.ensure_async(add) is add
    async with app.app_context():
        assert await async_subtract(3, b=1) == 2
        assert await app.ensure_async(sync_add)(3, b=1) == 4
    assert in_thread(lambda: sync_add(3, b=1)) == 4


# -- threads and loops of the user's own


async def test_user_thread_of_a_request_waits_on_the_serving_loop(app: Flask) -> None:
    serving = asyncio.get_running_loop()

    async def where() -> tuple[bool, str, int]:
        sync_side = await app.ensure_async(threading.get_ident)()
        return asyncio.get_running_loop() is serving, request.path, sync_side

    @app.get("/here")
    def view() -> dict[str, t.Any]:
        run = copy_current_request_context(lambda: (*app.ensure_sync(where)(), threading.get_ident()))
        return {"seen": in_thread_with_context(run)}

    on_serving_loop, path, sync_side, own = (await get(app, "/here")).json["seen"]
    assert on_serving_loop and path == "/here"
    assert sync_side == own  # sync code that its async code calls comes back to the thread that waits


def in_thread_with_context(f: Callable[[], t.Any]) -> t.Any:
    context = contextvars.copy_context()
    return in_thread(lambda: context.run(f))


async def test_loop_of_the_users_own_inside_of_a_sync_view(app: Flask) -> None:
    """`asyncio.run` in a sync view is ordinary Flask code; its async code may call ours."""

    async def main() -> tuple[str, str]:
        async with asyncio.timeout(1):
            return await app.ensure_async(lambda: request.path)(), request.path

    @app.get("/here")
    def view() -> dict[str, t.Any]:
        return {"seen": asyncio.run(main())}

    app.testing = True
    assert (await get(app, "/here")).json["seen"] == ["/here", "/here"]


def test_wait_outlives_the_loop_that_served_the_request(app: Flask) -> None:
    """A thread that a view started still holds its request's home when the server's loop is closed: no hang."""
    kept: list[contextvars.Context] = []

    @app.get("/")
    def view() -> str:
        kept.append(contextvars.copy_context())
        return "text"

    async def serve() -> None:
        await get(app)

    asyncio.run(serve())
    try:
        assert in_thread(lambda: kept[0].run(wait_for, double(2)), 1) == 4
    except RuntimeError as error:
        assert "loop" in str(error)


async def test_two_loops_share_an_application(app: Flask) -> None:
    app.config["WORKER_THREADS"] = 3

    @app.before_request
    async def note_loop() -> None:
        g.loop = id(asyncio.get_running_loop())

    @app.get("/")
    def view() -> dict[str, bool]:
        async def where() -> int:
            await asyncio.sleep(0)
            return id(asyncio.get_running_loop())

        return {"same": app.ensure_sync(where)() == g.loop}

    async def serve() -> list[bool]:
        answers = await asyncio.gather(*(get(app) for _ in range(40)))
        return [answer.json["same"] for answer in answers]

    others = [asyncio.to_thread(asyncio.run, serve()) for _ in range(3)]
    for answers in await asyncio.gather(serve(), *others):
        assert answers == [True] * 40


def test_mailbox_is_that_of_the_loop_asked_for() -> None:
    """Two loops in two threads: neither may be handed the other's box."""
    wrong: list[object] = []
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def ask(loop: asyncio.AbstractEventLoop) -> None:
        wrong.extend(loop for _ in range(20_000) if mailbox_of(loop).loop is not loop)

    loops = [asyncio.new_event_loop() for _ in range(3)]
    threads = [threading.Thread(target=ask, args=(loop,)) for loop in loops]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
    finally:
        sys.setswitchinterval(interval)
        for loop in loops:
            loop.close()
    assert wrong == []


# -- how a loop is woken

try:
    from uvloop import new_event_loop as new_uvloop
except ImportError:
    new_uvloop = None
loop_kinds = pytest.mark.parametrize("make_loop", [asyncio.new_event_loop, new_uvloop], ids=["asyncio", "uvloop"])


def post_in_turn(mailbox: Mailbox, count: int) -> list[int]:
    """What another thread posts to the running loop, each after the one before was delivered."""
    delivered: list[int] = []
    threads: list[threading.Thread] = []

    async def wait() -> None:
        done = asyncio.Event()

        def post(number: int) -> None:
            delivered.append(number)
            if number == count:
                done.set()
            else:
                threads.append(threading.Thread(target=mailbox.post, args=(partial(post, number + 1),)))
                threads[-1].start()

        post(0)
        async with asyncio.timeout(PATIENCE):
            await done.wait()
            for thread in threads:
                thread.join()
            while mailbox.awake:  # noqa: ASYNC110  # the last one may wake the loop after its call was delivered
                await asyncio.sleep(0)

    mailbox.loop.run_until_complete(wait())
    return delivered


@loop_kinds
@pytest.mark.parametrize("has_bell", [True, False])
def test_loop_is_woken_each_time(make_loop: t.Any, has_bell: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if make_loop is None:
        pytest.skip("uvloop is not installed")
    if not has_bell:  # another system than Linux
        monkeypatch.delattr("os.eventfd", raising=False)
    loop = make_loop()
    try:
        mailbox = mailbox_of(loop)
        assert post_in_turn(mailbox, 20) == list(range(21))
        assert post_in_turn(mailbox, 3) == [0, 1, 2, 3]  # the loop was stopped in between
        assert (mailbox.bell is not None) is (has_bell and sys.platform == "linux")
    finally:
        loop.close()
    mailbox.post(lambda: None)  # the loop is closed: nobody waits any more
    assert not mailbox.items


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
@loop_kinds
def test_closed_loops_leave_no_files_open(make_loop: t.Any) -> None:
    if make_loop is None:
        pytest.skip("uvloop is not installed")

    def serve_once() -> None:
        loop = make_loop()
        try:
            post_in_turn(mailbox_of(loop), 1)
        finally:
            loop.close()

    serve_once()
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        serve_once()
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before


def test_loops_at_once_keep_one_mailbox_each() -> None:
    loops = [asyncio.new_event_loop() for _ in range(2)]
    try:
        boxes = [mailbox_of(loop) for loop in loops * 3]
        assert boxes[:2] * 3 == boxes
    finally:
        for loop in loops:
            loop.close()


# -- async iterables for sync readers


def read_all(make: Callable[[], AsyncIterator[t.Any]]) -> list[t.Any]:
    return t.cast("list[t.Any]", in_thread(lambda: list(iterate_sync(make()))))


def test_async_generator_is_read_from_a_thread() -> None:
    async def numbers() -> AsyncIterator[int]:
        for number in range(5):
            await asyncio.sleep(0)
            yield number

    assert read_all(numbers) == [0, 1, 2, 3, 4]


def test_pieces_of_an_async_generator_share_a_context() -> None:
    async def names() -> AsyncIterator[str]:
        token = USER.set("generator")
        yield USER.get()
        yield USER.get()
        USER.reset(token)

    assert read_all(names) == ["generator", "generator"]
    assert USER.get() == "nobody"


def test_async_generator_left_early_is_closed() -> None:
    closed = []

    async def numbers() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            await asyncio.sleep(0)
            closed.append(asyncio.current_task() is not None)

    def read() -> None:
        pieces = iterate_sync(numbers())
        assert next(pieces) == 1
        t.cast(t.Any, pieces).close()

    in_thread(read)
    assert closed == [True]


def test_error_of_an_async_generator_crosses_after_its_pieces() -> None:
    async def numbers() -> AsyncIterator[int]:
        yield 1
        raise KeyError("x")

    seen: list[int] = []
    with pytest.raises(KeyError):
        in_thread(lambda: seen.extend(iterate_sync(numbers())))
    assert seen == [1]


async def test_async_view_of_a_sync_function_that_returns_an_awaitable(app: Flask) -> None:
    """A sync wrapper, as many decorators are, around an async view: it runs in a thread, its awaitable on the loop."""
    where: list[tuple[str, int]] = []

    def wrapper() -> Awaitable[str]:
        where.append(("wrapper", threading.get_ident()))

        async def view() -> str:
            where.append(("view", threading.get_ident()))
            await asyncio.sleep(0)
            return t.cast(str, current_app.name)

        return view()

    app.add_url_rule("/", "view", wrapper)
    app.before_request(lambda: noop())
    assert (await get(app)).text == app.name
    assert dict(where)["wrapper"] != threading.get_ident() == dict(where)["view"]
    assert in_thread(lambda: app.test_client().get("/").text) == app.name


async def noop() -> None:
    await asyncio.sleep(0)
