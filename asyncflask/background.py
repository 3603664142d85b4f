"""Background tasks: functions that run beside the requests, and that the end of serving waits for.

A task runs on the loop from which it was begun; from a sync request on that request's loop; elsewhere on the serving
loop or, under WSGI, on the process's background loop. A sync function gets a thread of a pool that is the tasks' own,
so that long ones keep no request waiting.
"""

from __future__ import annotations

import inspect
import typing as t
from collections.abc import Callable, Iterator
from contextvars import Context, copy_context
from functools import partial
from weakref import ref

from anyio import Event, move_on_after
from anyio.lowlevel import checkpoint

from .bridge import Home, Mailbox, _background, _on_event_loop, current_loop, cv_home, mailbox_of
from .config import check_kinds
from .globals import _cv_request
from .signals import got_background_exception
from .steps import LOOP, Host, emit, kind_of
from .workers import RequestLane, WorkerPool

if t.TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future

    from blinker import Signal

    from .app import Flask

NO_LIMIT = 1 << 62  # of those that wait for a thread
# Seconds that cancelled tasks get to clean up. A thread cannot be stopped: it is left behind, until the process ends.
CLEAN_UP = 1
# The latter two would end the loop, and not just the task.
Failure: tuple[type[Exception], type[SystemExit], type[KeyboardInterrupt]] = (Exception, SystemExit, KeyboardInterrupt)


def tasks_of(app: t.Any) -> BackgroundTasks:
    tasks: BackgroundTasks | None = vars(app).get("_background_tasks")
    if tasks is None:
        tasks = t.cast(BackgroundTasks, vars(app).setdefault("_background_tasks", BackgroundTasks(app)))
    return tasks


class ThreadHome(Home):
    """A loop and one thread of a pool, chosen when sync code first needs it, until `release`."""

    __slots__ = ("pool",)

    def __init__(self, mailbox: Mailbox, pool: WorkerPool) -> None:
        super().__init__(mailbox, None)
        self.pool: WorkerPool = pool

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
    """The tasks that run, as a set: asyncio's, or those of trio_loop."""

    def __init__(self, app: Flask) -> None:
        self._app = ref(app)
        check_kinds(app.config)
        self._pool = WorkerPool(app.config["WORKER_THREADS"], NO_LIMIT)
        self._runs: dict[Future[None], _Run] = {}
        self._changes: dict[AbstractEventLoop, Event] = {}  # what a shutdown waits for

    def __iter__(self) -> Iterator[Future[None]]:
        return iter(tuple(self._runs))

    def __len__(self) -> int:
        return len(self._runs)

    def __contains__(self, task: object) -> bool:
        return task in self._runs

    def add(self, func: Callable[..., t.Any], *args: t.Any, **kwargs: t.Any) -> None:
        """Run `func(*args, **kwargs)`, from any thread."""
        if not callable(func):
            if inspect.iscoroutine(func):
                func.close()
            raise TypeError(
                "add_background_task takes a function and its arguments: add_background_task(work, 1), not work(1)."
            )
        app = t.cast("Flask", self._app())
        home = ThreadHome(_find_mailbox(app), self._pool)
        start = partial(self._start, _Run(app, home, func, partial(func, *args, **kwargs)), _copy_context(home))
        if _on_event_loop():
            start()
        else:
            home.mailbox.post(start)

    def _start(self, run: _Run, context: Context) -> None:
        task = run.home.loop.create_task(run.complete(), name=run.name, context=context)
        self._runs[task] = run
        task.add_done_callback(self._note_end)

    def _note_end(self, task: Future[None]) -> None:
        run = self._runs.pop(task)
        run.home.release()
        if not (run.is_complete or run.is_lost):
            run.app.logger.warning("Background task %r is lost: it was cancelled.", run.name)
        change = self._changes.pop(run.home.loop, None)
        if change is not None:
            change.set()

    async def shutdown(self, grace: float) -> None:
        """Wait `grace` seconds for the tasks of this loop; then each that still runs is logged and cancelled."""
        await checkpoint()  # those that a thread has just begun
        await self._wait(grace, lost=False)
        for task, run in self._of_this_loop(lost=False).items():
            run.is_lost = True
            text = "Background task %r is lost: it did not end within %g s of the shutdown."
            run.app.logger.warning(text, run.name, grace)
            task.cancel()
        await self._wait(CLEAN_UP, lost=True)
        self._pool.close()

    def _of_this_loop(self, lost: bool) -> dict[Future[None], _Run]:
        loop = current_loop()
        return {task: run for task, run in tuple(self._runs.items()) if run.home.loop is loop and run.is_lost is lost}

    async def _wait(self, seconds: float, lost: bool) -> None:
        with move_on_after(seconds):
            while self._of_this_loop(lost):
                change = self._changes[current_loop()] = Event()
                await change.wait()


class _Run:
    """A task's work."""

    def __init__(self, app: Flask, home: ThreadHome, func: t.Any, call: Callable[[], t.Any]) -> None:
        self.app = app
        self.home = home
        self.name = _name_of(func)
        self.call = call
        self.is_complete = False
        self.is_lost = False

    def begin(self) -> t.Any:
        """Where the work belongs. What is lost and still waits for a thread is never begun."""
        return None if self.is_lost else self.call()

    async def complete(self) -> None:
        """In an application context of its own: what `g` has of the request's is torn down with the request."""
        try:
            async with self.app.app_context():
                await LoopHost().call((kind_of(self.call), self.begin))
        except Failure as error:
            text = f"Exception in background task {self.name!r}"
            await report_error(self.app, got_background_exception, error, text)
        self.is_complete = True


def _name_of(func: t.Any) -> str:
    while isinstance(func, partial):
        func = func.func
    return t.cast(str, getattr(func, "__qualname__", None) or repr(func))


def _find_mailbox(app: Flask) -> Mailbox:
    if _on_event_loop():
        return mailbox_of(current_loop())
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


async def report_error(app: Flask, signal: Signal, error: BaseException, text: str) -> None:
    """Log it once, and send the signal."""
    app.logger.error(text, exc_info=error, stacklevel=2)
    try:
        await emit(LoopHost(), signal, app, exception=error)
    except Exception:
        app.logger.exception("Exception in a receiver of %r", signal)
