"""uvicorn as a development server: it ends when it is told to, and a reloader can start it anew.

Loaded only when something is served, since uvicorn is.
"""

from __future__ import annotations

import os
import socket
import threading
import typing as t
from types import FrameType

from uvicorn import Config, Server
from werkzeug._reloader import run_with_reloader
from werkzeug.serving import is_running_from_reloader

Sockets = list[socket.socket] | None

# Seconds that requests in flight get once the server is told to stop, and after them threads that do not end.
GRACE = 1
# Seconds for which a reload waits for the shutdown hooks.
HOOKS_LIMIT = 10


class DevServer(Server):
    """A server that no stream, no sync view and, at the second Ctrl-C, no shutdown hook keeps from ending."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.signal: int | None = None
        self.stopped = threading.Event()
        self.deadline: threading.Timer | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            os._exit(128 + sig)
        self.signal = sig
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: Sockets = None) -> None:
        await super().shutdown(sockets)
        self.stopped.set()
        if self.signal is not None:
            # What is left to wait for is sync code in threads, which nobody can stop.
            self.deadline = _exit_later(128 + self.signal)

    def run(self, sockets: Sockets = None) -> None:
        try:
            super().run(sockets)
        except KeyboardInterrupt:
            pass  # all is shut down; uvicorn raises the signal again for its caller
        finally:
            self.stopped.set()
            if self.deadline is not None:
                self.deadline.cancel()


def _exit_later(status: int) -> threading.Timer:
    """End the process in GRACE seconds, come what may, unless the timer is cancelled."""
    timer = threading.Timer(GRACE, os._exit, (status,))
    timer.daemon = True
    timer.start()
    return timer


def run_reloading(server: DevServer, sockets: Sockets, **watching: t.Any) -> None:
    """Start this very command again as a child that serves and that is replaced at each change of a file.

    Returns or raises SystemExit, in the child too, where the server is first shut down with its hooks.
    """
    try:
        run_with_reloader(lambda: server.run(sockets), **watching)
    except SystemExit as stop:
        if is_running_from_reloader():
            _stop(server)
            _exit_later(t.cast(int, stop.code))
        raise
    if is_running_from_reloader():
        _stop(server)


def _stop(server: DevServer) -> None:
    server.should_exit = True
    server.stopped.wait(HOOKS_LIMIT)
