"""Background tasks: functions that run beside the requests, and that the end of serving waits for.

A task runs on the loop from which it was begun; from a sync request on that request's loop; elsewhere on the serving
loop or, under WSGI, on the process's background loop. A sync function gets a thread of a pool that is the tasks' own,
so that long ones keep no request waiting.
"""

from __future__ import annotations

import asyncio
import typing as t
from collections.abc import Callable, Iterator
from contextvars import Context, copy_context
from functools import partial
from weakref import ref

from .bridge import Home, Mailbox, _background, _on_event_loop, cv_home, mailbox_of
from .globals import _cv_request
from .signals import got_background_exception
from .steps import LOOP, Host, emit, kind_of
from .workers import PoolLane, RequestLane, WorkerPool

if t.TYPE_CHECKING:
    from blinker import Signal

    from .app import Flask

NO_LIMIT = 1 << 62  # of those that wait for a thread
# Seconds that cancelled tasks get to clean up. A thread cannot be stopped: it is left behind, and ends with the process.
CLEAN_UP = 1
Failure = (Exception, SystemExit, KeyboardInterrupt)  # the latter two would end the loop, and not just the task


def tasks_of(app: t.Any) -> BackgroundTasks:
    tasks: BackgroundTasks | None = vars(app).get("_background_tasks")
    if tasks is None:
        tasks = vars(app)["_background_tasks"] = BackgroundTasks(app)
    return tasks


class ThreadHome(Home):
    """A loop and one thread of a pool, chosen when sync code first needs it, until `release`."""

    __slots__ = ("pool",)

    def __init__(self, mailbox: Mailbox, pool: WorkerPool) -> None:
        super().__init__(mailbox, None)
        self.pool = pool

    @property
    def lane(self) -> RequestLane:
        if self._lane is None:
            self._lane = RequestLane(self.pool.choose())
        return t.cast(RequestLane, self._lane)

    def release(self) -> None:
        if self._lane is not None:
            self.pool.release(self.lane.worker)


class LoopHost(Host):
    """A host on the loop: sync steps go to the thread of the home at hand."""

    place = LOOP


class BackgroundTasks:
    """The tasks that run: a set of asyncio's."""

    def __init__(self, app: Flask) -> None:
        self._app = ref(app)
        self._pool = WorkerPool(app.config["WORKER_THREADS"], NO_LIMIT)
        self._tasks: set[asyncio.Task[None]] = set()

    def __iter__(self) -> Iterator[asyncio.Task[None]]:
        return iter(tuple(self._tasks))

    def __len__(self) -> int:
        return len(self._tasks)

    def __contains__(self, task: object) -> bool:
        return task in self._tasks

    def add(self, func: Callable[..., t.Any], *args: t.Any, **kwargs: t.Any) -> None:
        """Run `func(*args, **kwargs)`, from any thread."""
        app = t.cast("Flask", self._app())
        mailbox = _find_mailbox(app)
        home = ThreadHome(mailbox, self._pool)
        context = _copy_context(home)
        start = partial(self._start, app, home, context, func, partial(func, *args, **kwargs))
        if _on_event_loop():
            start()
        else:
            mailbox.post(start)

    def _start(
        self, app: Flask, home: ThreadHome, context: Context, func: t.Any, call: Callable[[], t.Any]
    ) -> None:
        task = home.loop.create_task(_run(app, home, _name_of(func), call), name=_name_of(func), context=context)
        self._tasks.add(task)
        task.add_done_callback(partial(self._note_end, app, home))

    def _note_end(self, app: Flask, home: ThreadHome, task: asyncio.Task[None]) -> None:
        home.release()
        if task in self._tasks:
            self._tasks.remove(task)
            if task.cancelled():
                app.logger.warning("Background task %r is lost: it was cancelled.", task.get_name())

    async def shutdown(self, grace: float) -> None:
        """Wait `grace` seconds for the tasks of this loop; then each that still runs is logged and cancelled."""
        await asyncio.sleep(0)  # those that a thread has just begun
        loop = asyncio.get_running_loop()
        self._tasks -= {task for task in self._tasks if task.get_loop().is_closed()}
        tasks = {task for task in self._tasks if task.get_loop() is loop} - {asyncio.current_task()}
        lost = (await asyncio.wait(tasks, timeout=grace))[1] if tasks else set()
        self._tasks -= lost
        for task in lost:
            text = "Background task %r is lost: it did not end within %g s of the shutdown."
            t.cast("Flask", self._app()).logger.warning(text, task.get_name(), grace)
            task.cancel()
        if lost:
            await asyncio.wait(lost, timeout=CLEAN_UP)
        self._pool.close()


def _name_of(func: t.Any) -> str:
    while isinstance(func, partial):
        func = func.func
    return t.cast(str, getattr(func, "__qualname__", None) or repr(func))


def _find_mailbox(app: Flask) -> Mailbox:
    if _on_event_loop():
        return mailbox_of(asyncio.get_running_loop())
    home = cv_home.get(None)
    if home is not None and not home.loop.is_closed():
        return home.mailbox
    from .lifespan import lifespan_of

    lifespan = lifespan_of(app)
    if (loop := lifespan.loop) is not None:
        return mailbox_of(loop)
    lifespan.end_at_exit()
    return _background.get()


def _copy_context(home: ThreadHome) -> Context:
    """The caller's variables, with a copy of the request's context: its end, when the response is sent, is not ours."""
    context = copy_context()
    context.run(cv_home.set, home)
    request_ctx = _cv_request.get(None)
    if request_ctx is not None:
        context.run(_cv_request.set, request_ctx.copy())
    return context


async def _run(app: Flask, home: Home, name: str, call: Callable[[], t.Any]) -> None:
    """In an application context of its own: what `g` has of the request's is torn down with the request."""
    host = LoopHost()
    try:
        async with app.app_context():
            await host.call((kind_of(call), call))
    except Failure as error:
        await report_error(app, got_background_exception, error, f"Exception in background task {name!r}")


async def report_error(app: Flask, signal: Signal, error: BaseException, text: str) -> None:
    """Log it once, and send the signal."""
    app.logger.error(text, exc_info=error)
    try:
        await emit(LoopHost(), signal, app, exception=error)
    except Exception:
        app.logger.exception("Exception in a receiver of %r", signal.name)
