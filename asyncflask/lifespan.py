"""The serving life: what runs before the first request of a process and after its last.

Rule 1. On the way in: `before_serving` in order of registration, then `while_serving` up to the yields, in order. On
        the way out: the background tasks' grace, the rest of `while_serving` in reverse, then `after_serving` in order.
Rule 2. All of it is one task, so a hook's context variables are seen by the later hooks, and a task group may span a
        yield. Sync hooks run in a thread, always the same one.
Rule 3. Both ways have an application context each, with one `g`: what a hook leaves open is torn down when all are in.
Rule 4. A failure on the way in closes the generators that were begun, in reverse. One on the way out stops no other
        hook. Each is logged once.
Rule 5. Over ASGI the server's lifespan decides. Under WSGI the way in is taken before a server's first request, on the
        background loop, in each process for itself; the way out when the process exits.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import threading
import typing as t
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import copy_context
from weakref import WeakSet, ref

from anyio import CancelScope, Event

from .background import Failure, LoopHost, ThreadHome, report_error, tasks_of
from .bridge import current_loop, cv_home, mailbox_of, run_in_thread, wait_for
from .config import check_kinds
from .ctx import AppContext, _AppCtxGlobals
from .shutdown import Listener, ShutdownEvent
from .signals import got_serving_exception
from .stats import Pulse
from .steps import kind_of
from .watchdog import Watchdog, watch
from .wrapped import NOTICE, find_chain

if t.TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from _typeshed.wsgi import WSGIEnvironment

    from .app import Flask
    from .typing import Receive, Scope, Send

_END: t.Any = object()
# With this status gunicorn's workers say that another try is of no use; uvicorn has it for a start-up that failed.
START_UP_FAILED = 3
MESSAGE_LENGTH = 200  # characters


def lifespan_of(app: t.Any) -> Lifespan:
    lifespan: Lifespan | None = vars(app).get("_lifespan")
    if lifespan is None:  # threads that ask for the first time at once get the same one
        lifespan = t.cast(Lifespan, vars(app).setdefault("_lifespan", Lifespan(app)))
    return lifespan


class Lifespan:
    """An application's serving lives, one after the other."""

    def __init__(self, app: Flask) -> None:
        self._app = ref(app)
        self._event = ShutdownEvent()
        self._listener = Listener(self._event.set)
        self._life: _Life | None = None
        self._lock = threading.Lock()
        self._ends_at_exit = False
        self._watchdog: Watchdog | None = None
        self._pulse: Pulse | None = None
        self.state: dict[str, t.Any] = {}
        _all.add(self)

    @property
    def app(self) -> Flask:
        return t.cast("Flask", self._app())

    @property
    def loop(self) -> AbstractEventLoop | None:
        """The loop that serves, if one does."""
        return None if self._life is None or self._life.loop.is_closed() else self._life.loop

    @property
    def loop_lag(self) -> float | None:
        return None if self._pulse is None else self._pulse.lag

    @property
    def shutdown_event(self) -> ShutdownEvent:
        if self._life is None and not self._event.is_set():  # WSGI without hooks, or the server's lifespan is off
            self._listener.start()
        return self._event

    async def startup(self, state: t.MutableMapping[str, t.Any] | None = None) -> None:
        """`state` is the server's, for `scope["state"]`. Raises what a hook does; RuntimeError if it serves already."""
        if self.loop is not None:
            raise RuntimeError("This application is being served already; it is to be shut down before.")
        check_kinds(self.app.config)
        self._event.clear()
        self.state.update(state or {})
        self._listener.start(current_loop())
        life = self._life = _Life(self.app)
        try:
            await life.begin()
            if self._life is not life:
                raise RuntimeError("The application was shut down during its startup.")
        except BaseException:
            self._life = None
            self._listener.stop()
            raise
        if state is not None:
            state.update(self.state)
        self._watchdog = watch(self.app, life.loop)
        self._pulse = Pulse(life.loop)

    async def shutdown(self) -> None:
        """Raises what a hook raised, an ExceptionGroup of several, after all have run."""
        if self.loop not in (None, current_loop()):
            raise RuntimeError("The application's shutdown must run on the loop of its startup.")
        self._tell_end()
        app = self.app
        tasks, grace = tasks_of(app), app.config["BACKGROUND_TASK_SHUTDOWN_TIMEOUT"]
        await tasks.shutdown(grace)
        life, self._life = self._life, None
        errors = [] if life is None else await life.end()
        await tasks.shutdown(grace)  # those that hooks have begun
        app._workers.close()
        self.state.clear()
        if errors:
            raise errors[0] if len(errors) == 1 else BaseExceptionGroup("Several hooks failed at the shutdown.", errors)

    def abandon(self) -> None:
        """The server ends without a word."""
        self._tell_end()
        life, self._life = self._life, None
        if life is not None:
            life.is_abandoned = True
            life.stop.set()  # no `cancel`: with the loop's end near it has one already

    def _tell_end(self) -> None:
        self._event.set()
        self._listener.stop()
        watchdog, self._watchdog = self._watchdog, None
        if watchdog is not None:
            watchdog.stop()
        pulse, self._pulse = self._pulse, None
        if pulse is not None:
            pulse.stop()

    # WSGI

    def begin_at_request(self, environ: WSGIEnvironment) -> None:
        """In the server's thread. Threads that bring the next requests wait here. A failure ends a server's process."""
        with self._lock:
            if self.loop is None:
                self.end_at_exit()
                try:
                    wait_for(self.startup())
                except (Exception, SystemExit):
                    # A test of some other client, in the main thread, sees the error itself.
                    if "SERVER_SOFTWARE" in environ or threading.current_thread() is not threading.main_thread():
                        _end_process()
                    raise
        self._listener.start()  # now in the thread where signals arrive, if that is this one

    def end_at_exit(self) -> None:
        if not self._ends_at_exit:
            self._ends_at_exit = True
            # Python's own threads, which look up names for the loop, end before `atexit` calls anyone. To come before
            # them, one registers after their module.
            import concurrent.futures.thread  # noqa: F401

            register = getattr(threading, "_register_atexit", atexit.register)
            with suppress(RuntimeError):  # this is the exit already
                register(_end_at_exit, ref(self), os.getpid())

    def forget(self) -> None:
        """In the child of a fork: no thread, no loop and no life came along."""
        _inherited.append(self._life)
        self.__init__(self.app)  # type: ignore[misc]  # to begin anew is what is meant
        for name in ("_has_begun", "_background_tasks"):
            vars(self.app).pop(name, None)


def _end_at_exit(find: Callable[[], Lifespan | None], pid: int) -> None:
    lifespan = find()
    if lifespan is not None and os.getpid() == pid:  # and not in a child that inherited the registration
        with suppress(BaseException):  # it is logged
            wait_for(lifespan.shutdown())


def _end_process() -> t.NoReturn:
    """Whatever is raised, servers answer it with a 500 and go on."""
    logging.shutdown()
    os._exit(START_UP_FAILED)


_all: WeakSet[Lifespan] = WeakSet()
_inherited: list[_Life | None] = []  # by a fork. Freed, their generators would close there what is the parent's


def _forget_all() -> None:
    for lifespan in tuple(_all):
        if lifespan._app() is not None:
            lifespan.forget()


if hasattr(os, "register_at_fork"):  # pragma: no branch  # Windows has none
    os.register_at_fork(after_in_child=_forget_all)


class _Life(LoopHost):
    """One serving life, from start-up to shutdown."""

    def __init__(self, app: Flask) -> None:
        self.app = app
        self.loop = current_loop()
        self.home = ThreadHome(mailbox_of(self.loop), app._workers)
        self.serves = self.is_abandoned = False
        self.begun, self.stop, self.ended = Event(), Event(), Event()
        self.generators: list[t.Any] = []
        self.errors: list[BaseException] = []
        self.g: _AppCtxGlobals | None = None

    async def begin(self) -> None:
        self.task = self.loop.create_task(self._live(), context=copy_context())
        self.task.add_done_callback(self._note_end)
        try:
            await self.begun.wait()
        except BaseException:
            self.is_abandoned = True
            self.stop.set()  # for a hook that swallows the cancellation
            if not getattr(self.task, "cancelling", bool)():  # a second one would disturb the winding down
                self.task.cancel()
            with CancelScope(shield=True):
                await self.ended.wait()
            raise
        if not self.serves:
            raise self.errors[0] if self.errors else RuntimeError("The startup was cancelled.")

    async def end(self) -> list[BaseException]:
        if self.loop.is_closed():
            return []
        self.stop.set()
        await self.ended.wait()
        return self.errors

    def _note_end(self, task: object) -> None:
        self.begun.set()
        self.ended.set()

    async def _live(self) -> None:
        cv_home.set(self.home)
        try:
            self.serves = await self._attempt(self._enter)
            if self.serves:
                self.begun.set()
                await self.stop.wait()
                if not self.is_abandoned:
                    await self._attempt(self._leave)
        except GeneratorExit:
            raise  # the loop let go of it: nothing can be awaited, and a collection of garbage may hold any lock
        except BaseException:
            await self._wind_down()
            raise
        else:
            await self._wind_down()

    async def _wind_down(self) -> None:
        with CancelScope(shield=True):
            if self.generators:  # the way in failed, or the server ends without a word
                await self._attempt(self._close)
        self.home.release()

    async def _enter(self) -> None:
        async with self._context():
            for func in self.app.before_serving_funcs:
                await self.call((kind_of(func), func))
            for make in self.app.while_serving_funcs:
                generator = await self.call((kind_of(make), make))
                _check_generator(make, generator)
                if await _advance(generator) is _END:
                    raise RuntimeError(f"The while_serving function {make!r} ended without a yield.")
                self.generators.append(generator)

    async def _leave(self) -> None:
        async with self._context():
            while self.generators:
                await self._attempt(_finish, self.generators.pop())
            for func in self.app.after_serving_funcs:
                await self._attempt(self.call, (kind_of(func), func))

    async def _close(self) -> None:
        async with self._context():
            while self.generators:
                await self._attempt(_close, self.generators.pop())

    def _context(self) -> AppContext:
        ctx = self.app.app_context()
        self.g = ctx.g = ctx.g if self.g is None else self.g
        return ctx

    async def _attempt(self, step: Callable[..., Awaitable[object]], *args: t.Any) -> bool:
        """Whether it succeeded; if not, the error is logged and kept."""
        try:
            await step(*args)
        except Failure as error:
            await self._note(error)
        except asyncio.CancelledError as error:
            if t.cast("asyncio.Task[None]", asyncio.current_task()).cancelling():
                raise
            await self._note(_give_cause(RuntimeError("A serving hook was cancelled from inside."), error))
        else:
            return True
        return False

    async def _note(self, error: BaseException) -> None:
        phase = "shutdown" if self.serves else "startup"
        await report_error(self.app, got_serving_exception, error, f"Exception at the {phase} of the application")
        self.errors.append(error)


def _give_cause(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


def _check_generator(make: t.Any, made: t.Any) -> None:
    if not (hasattr(made, "__anext__") or hasattr(made, "__next__")):
        raise TypeError(
            f"The while_serving function {make!r} must have a yield, and stand there without @asynccontextmanager:"
            f" it gave a {type(made).__name__}, no generator."
        )


async def _advance(generator: t.Any) -> t.Any:
    """On to the next yield of a generator, sync or async; _END at its end."""
    if hasattr(generator, "__anext__"):
        return await anext(generator, _END)
    return await run_in_thread(next, generator, _END)


async def _finish(generator: t.Any) -> None:
    if await _advance(generator) is not _END:
        await _close(generator)
        raise RuntimeError(f"The while_serving generator {generator!r} has more than one yield.")


async def _close(generator: t.Any) -> None:
    if hasattr(generator, "aclose"):
        try:
            await generator.aclose()
        except BaseExceptionGroup as group:  # asyncio's TaskGroup takes its GeneratorExit for an error
            errors = group.split(GeneratorExit)[1]
            if errors is not None:
                raise errors from None
    elif hasattr(generator, "close"):
        await run_in_thread(generator.close)


# ASGI


async def serve_lifespan(app: Flask, scope: Scope, receive: Receive, send: Send) -> None:
    """The scope `lifespan` (ASGI specification, lifespan 2.0)."""
    lifespan = lifespan_of(app)
    await receive()
    if find_chain(app) is not None:
        app.logger.warning(NOTICE)
    if not await _tell(send, "lifespan.startup", lifespan.startup(scope.get("state"))):
        return
    try:
        await receive()
    except BaseException:
        lifespan.abandon()
        raise
    await _tell(send, "lifespan.shutdown", lifespan.shutdown())


async def _tell(send: Send, phase: str, work: Awaitable[None]) -> bool:
    """Whether it succeeded. The traceback is logged by us, the message by the server."""
    failure = None
    try:
        await work
    except (*Failure, BaseExceptionGroup) as error:
        failure = " ".join(f"{type(error).__name__}: {error}".split())[:MESSAGE_LENGTH]
    if failure is None:
        await send({"type": f"{phase}.complete"})
        return True
    # Not inside of the `except`: hypercorn raises here, and would show our error as the cause a second time.
    await send({"type": f"{phase}.failed", "message": failure})
    return False
