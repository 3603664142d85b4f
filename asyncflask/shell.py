"""The interactive shell: that of the standard library's `code`, and `await` may stand outside of functions.

A statement that awaits runs on the process's background loop, so that it shares the loop with the async views that
the test client calls. All other statements run in this thread, where no loop runs: what is sync stays callable.
"""

from __future__ import annotations

import ast
import code
import inspect
import os
import signal
import sys
import threading
import typing as t
from asyncio import CancelledError, current_task, get_running_loop
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import Context, copy_context
from functools import partial
from types import CodeType, FrameType, TracebackType

from .bridge import wait_for

if t.TYPE_CHECKING:
    from .app import Flask


def run_shell(app: Flask) -> None:
    """Read statements until the input ends. The names are PYTHONSTARTUP's and the shell context processors'."""
    names: dict[str, t.Any] = {}
    _run_startup_file(names)
    names.update(app.make_shell_context())
    _prepare_completion(names)
    place = f"App: {app.import_name}\nInstance: {app.instance_path}"
    InteractiveConsole(names).interact(f"Python {sys.version} on {sys.platform}\n{place}")


def _run_startup_file(names: dict[str, t.Any]) -> None:
    startup = os.environ.get("PYTHONSTARTUP")
    if startup and os.path.isfile(startup):
        with open(startup) as file:
            exec(compile(file.read(), startup, "exec"), names)


def _prepare_completion(names: dict[str, t.Any]) -> None:
    """What the interpreter does when it turns interactive, with our names in place of __main__'s."""
    hook = getattr(sys, "__interactivehook__", None)
    if hook is None:
        return
    try:
        import readline
        from rlcompleter import Completer
    except ImportError:
        pass
    else:
        readline.set_completer(Completer(names).complete)
    hook()


class InteractiveConsole(code.InteractiveConsole):
    """Runs every statement in one and the same `contextvars.Context`, be it here or on the loop.

    The class's name is what the farewell names.
    """

    def __init__(self, names: dict[str, t.Any]) -> None:
        super().__init__(names)
        self.compile.compiler.flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        self.context: Context = copy_context()

    def runcode(self, code: CodeType) -> None:
        if not code.co_flags & inspect.CO_COROUTINE:
            self.context.run(super().runcode, code)
            return
        try:
            _Wait(self.context).run(eval(code, self.locals))
        except (KeyboardInterrupt, SystemExit):
            self.context = self.context.copy()  # what did not end may still use the old one
            raise
        except BaseException as error:
            error.__traceback__ = _begin_before(code, error.__traceback__)
            self.showtraceback()


def _begin_before(code: CodeType, place: TracebackType | None) -> TracebackType | None:
    """The traceback from the entry before the statement's own, which `showtraceback` leaves out."""
    rest = place
    while rest is not None and rest.tb_next is not None:
        if rest.tb_next.tb_frame.f_code is code:
            return rest
        rest = rest.tb_next
    return place


class _Wait:
    """One wait for a coroutine on the loop. Ctrl-C cancels it and waits for its end; the second does not wait."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.cancel: Callable[[], object] | None = None
        self.interrupted = False

    def run(self, coro: Coroutine[t.Any, t.Any, t.Any]) -> None:
        with self._handling_interrupt():
            try:
                wait_for(self._begin(coro), self.context)
            except CancelledError:
                if self.interrupted:
                    raise KeyboardInterrupt from None
                raise
            finally:
                if self.cancel is None:  # it has not begun
                    coro.close()

    async def _begin(self, coro: Coroutine[t.Any, t.Any, t.Any]) -> None:
        task = t.cast("t.Any", current_task())
        self.cancel = partial(get_running_loop().call_soon_threadsafe, task.cancel)
        await coro

    @contextmanager
    def _handling_interrupt(self) -> Iterator[None]:
        in_main_thread = threading.current_thread() is threading.main_thread()
        # Where others handle Ctrl-C, or ignore it, it stays so.
        if not in_main_thread or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            yield
            return
        signal.signal(signal.SIGINT, self._interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _interrupt(self, sig: int, frame: FrameType | None) -> None:
        if self.cancel is None or self.interrupted:
            raise KeyboardInterrupt
        self.interrupted = True
        self.cancel()
