"""Start this very command again as a child that serves, and that is replaced when a file changes."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
import typing as t
from collections.abc import Callable
from types import FrameType

from werkzeug._reloader import run_with_reloader
from werkzeug.serving import is_running_from_reloader

from .listening import hand_down

if t.TYPE_CHECKING:
    from .devserver import DevServer

# Seconds for which a reload waits for the shutdown hooks, and Ctrl-C for the child.
HOOKS_LIMIT = 10
CHILD_LIMIT = 3


def run_reloading(
    make_server: Callable[[], DevServer], sockets: list[socket.socket] | None, watching: dict[str, t.Any]
) -> None:
    """`watching` is run_with_reloader's. The child leaves by SystemExit, after the server's shutdown hooks.

    In the child the server is made in its thread: Werkzeug first notes the state of the files, and so a change that
    is made while uvicorn is imported is seen.
    """
    servers: list[DevServer] = []

    def serve() -> None:
        servers.append(make_server())
        servers[0].run(sockets)

    if not is_running_from_reloader():
        for listener in sockets or ():
            hand_down(listener)
        _be_patient_with_child()
    try:
        run_with_reloader(serve, **watching)
    except SystemExit as stop:
        _stop(servers)
        if servers:
            from .devserver import exit_later

            exit_later(t.cast(int, stop.code))  # sync code in a thread must not hold a reload up
        raise
    _stop(servers)


def _stop(servers: list[DevServer]) -> None:
    """Shut down the child's server; the parent has none."""
    for server in servers:
        server.should_exit = True
        server.stopped.wait(HOOKS_LIMIT)


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
