"""Start this very command again as a child that serves, and that is replaced when a file changes.

The parent lives on: it holds the socket, and it renews the environment for each child. So a child does not end with
Werkzeug's status for a reload, which would start the next one at once, but with one of ours.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import typing as t
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

import click
from werkzeug._internal import _log
from werkzeug._reloader import ReloaderLoop, _get_args_for_reloading, reloader_loops, run_with_reloader
from werkzeug.serving import is_running_from_reloader

from .envfiles import STAMPS_VARIABLE, find_changed, hand_down_stamps, renew_environment, take_stamps
from .listening import hand_down

if t.TYPE_CHECKING:
    from .devserver import DevServer

# Seconds for which a reload waits for the shutdown hooks, and Ctrl-C for the child.
HOOKS_LIMIT = 10
CHILD_LIMIT = 3
# The status with which Werkzeug ends a process after a change, and the one with which the child tells our parent.
CHANGED = 3
RELOAD = 75
# Our entry in Werkzeug's table.
LOOP_NAME = "asyncflask"


def is_reloaded_child() -> bool:
    """Whether a reloader of ours started this process, which is to be watched then, whatever its options say now."""
    return is_running_from_reloader() and STAMPS_VARIABLE in os.environ


def run_reloading(
    make_server: Callable[[], DevServer], sockets: list[socket.socket] | None, watching: dict[str, t.Any]
) -> None:
    """`watching` is run_with_reloader's. The child leaves by SystemExit, after the server's shutdown hooks."""
    base = reloader_loops[watching.pop("reloader_type", "auto")]
    if is_running_from_reloader():
        _serve_until_change(make_server, sockets, _make_loop(base, take_stamps()), watching)
        return
    for listener in sockets or ():
        hand_down(listener)
    _be_patient_with_child()
    _keep_child(_make_loop(base, take_stamps()), watching)


def _make_loop(base: type[ReloaderLoop], stamps: dict[str, str]) -> type[ReloaderLoop]:
    """Werkzeug's loop, which also watches the dotenv files: for any change, be they made or removed.

    Its own way with SIGTERM is to kill the child.
    """

    class Loop(base):  # type: ignore[misc, valid-type]  # which one is decided at run time
        def __enter__(self) -> t.Any:
            signal.signal(signal.SIGTERM, _exit_once)
            return super().__enter__()

        def restart_with_reloader(self) -> int:
            _log("info", f" * Restarting with {self.name}")
            return _run_to_end(_get_args_for_reloading())

        def run_step(self) -> None:
            super().run_step()
            changed = find_changed(stamps, self.exclude_patterns)
            if changed is not None:
                self.trigger_reload(changed)

    return Loop


def _run_with_reloader(serve: Callable[[], None], loop: type[ReloaderLoop], watching: dict[str, t.Any]) -> None:
    reloader_loops[LOOP_NAME] = loop
    run_with_reloader(serve, reloader_type=LOOP_NAME, **watching)


def _exit_once(sig: int, frame: FrameType | None) -> t.NoReturn:
    """Service managers send SIGTERM to all processes, and the parent passes its own on: the hooks go on meanwhile."""
    signal.signal(signal.SIGTERM, _do_nothing)  # not SIG_IGN, which programs that a hook starts would inherit
    sys.exit(0)


def _do_nothing(sig: int, frame: FrameType | None) -> None: ...


# The child


def _serve_until_change(
    make_server: Callable[[], DevServer],
    sockets: list[socket.socket] | None,
    loop: type[ReloaderLoop],
    watching: dict[str, t.Any],
) -> None:
    """The server is made in its thread: Werkzeug first notes the state of the files, and so a change that is made
    while uvicorn is imported is seen.
    """
    servers: list[DevServer] = []

    def serve() -> None:
        servers.append(make_server())
        servers[0].run(sockets)

    try:
        _run_with_reloader(serve, loop, watching)
    except SystemExit as stop:
        status = RELOAD if stop.code == CHANGED else t.cast(int, stop.code)
        _stop(servers)
        if servers:
            from .devserver import exit_later

            exit_later(status)  # sync code in a thread must not hold a reload up
        raise SystemExit(status) from None
    _stop(servers)


def _stop(servers: list[DevServer]) -> None:
    for server in servers:
        server.should_exit = True
        server.stopped.wait(HOOKS_LIMIT)


# The parent


def _keep_child(loop: type[ReloaderLoop], watching: dict[str, t.Any]) -> None:
    """Until the child ends by itself. After a reload it may be a change that ended it: then the next one mends it."""
    has_reloaded = False
    with suppress(KeyboardInterrupt):
        while (status := _run_child(loop, watching)) is not None:
            if status == RELOAD:
                has_reloaded = True
            elif has_reloaded and _is_failure(status):
                _wait_for_change(loop, watching)
            else:
                raise SystemExit(status)
            renew_environment()


def _run_child(loop: type[ReloaderLoop], watching: dict[str, t.Any]) -> object:
    """The status with which it ended; None after Ctrl-C."""
    hand_down_stamps()
    try:
        _run_with_reloader(_serve_nothing, loop, watching)
    except SystemExit as stop:
        return stop.code
    return None


def _run_to_end(command: list[str]) -> int:
    """The status of the child; 0 if it was SIGTERM that ended it, which is passed on to it."""
    child: subprocess.Popen[bytes] | None = None
    asked = []

    def pass_on(sig: int, frame: FrameType | None) -> None:
        asked.append(sig)
        if child is not None:
            child.terminate()

    before = signal.signal(signal.SIGTERM, pass_on)
    try:
        child = subprocess.Popen(command, env={**os.environ, "WERKZEUG_RUN_MAIN": "true"}, close_fds=False)
        if asked:  # while it started
            child.terminate()
        status = child.wait()
    except BaseException:  # Ctrl-C, after the time that the child has had
        if child is not None:
            child.kill()
            child.wait()
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0 if asked else status


def _serve_nothing() -> None:
    """Werkzeug wants a function for the child, which this process is not."""


def _is_failure(status: object) -> bool:
    """Whether an error ended the child. Below zero it was a signal."""
    return isinstance(status, int) and status > 0


def _wait_for_change(loop: type[ReloaderLoop], watching: dict[str, t.Any]) -> None:
    try:
        with loop(**watching) as reloader:  # from now on it sees changes: not before may one be asked for
            click.secho(" * The application did not start. The next change starts it again.", fg="yellow", err=True)
            reloader.run()
    except SystemExit as stop:
        if stop.code != CHANGED:
            raise


def _be_patient_with_child() -> None:
    """Ctrl-C reaches the child too, but Werkzeug kills that after 0.25 seconds: too early for shutdown hooks."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    # Where Ctrl-C is ignored or handled by others, or nobody can look for a child, it stays as it is.
    if in_main_thread and signal.getsignal(signal.SIGINT) is signal.default_int_handler and hasattr(os, "waitid"):
        signal.signal(signal.SIGINT, _wait_for_child)


def _wait_for_child(sig: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the second Ctrl-C does not wait
    deadline = time.monotonic() + CHILD_LIMIT
    while time.monotonic() < deadline and not _has_ended_child():
        time.sleep(0.05)
    raise KeyboardInterrupt


def _has_ended_child() -> bool:
    try:
        return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:  # none at all
        return True
