"""uvicorn as a development server: it ends when it is told to. Loaded only when something is served."""

from __future__ import annotations

import logging
import os
import socket
import threading
import typing as t
from asyncio import CancelledError, sleep
from types import FrameType

from uvicorn import Config, Server

# As uvicorn's own command: the status of a start-up that failed.
STARTUP_FAILURE = 3
# Seconds that requests in flight get once the server is told to stop, and after them threads that do not end.
GRACE = 1
# Seconds from a connection to its request, when both come while the server stops.
SETTLING = 0.1
# Ours over uvicorn's. As in Flask, an application behind a proxy says so itself, with ProxyFix.
UVICORN_DEFAULTS: dict[str, t.Any] = {
    "interface": "asgi3",
    "lifespan": "auto",
    "proxy_headers": False,
    "timeout_graceful_shutdown": GRACE,
}


class DevServer(Server):
    """A server that no stream, no sync view and, at the second Ctrl-C, no shutdown hook keeps from ending."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.signal: int | None = None
        self.stopped: threading.Event = threading.Event()
        self.deadline: threading.Timer | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            os._exit(128 + sig)
        self.signal = sig
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        # What was accepted a moment ago is still answered. The others go to the next process, if this is a reload.
        await sleep(SETTLING)
        await super().shutdown(sockets)
        self.stopped.set()
        if self.signal is not None:
            # What is left to wait for is sync code in threads, which nobody can stop.
            self.deadline = exit_later(128 + self.signal)

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        log = logging.getLogger("uvicorn.error")
        log.addFilter(self._is_worth_telling)
        try:
            super().run(sockets)
        except KeyboardInterrupt:
            pass  # all is shut down; uvicorn raises the signal again for its caller
        finally:
            log.removeFilter(self._is_worth_telling)
            self.stopped.set()
            if self.deadline is not None:
                self.deadline.cancel()
        if self.lifespan.should_exit and not self.started:
            # It is logged; under the reloader this ends but the server's thread.
            raise SystemExit(STARTUP_FAILURE)  # pragma: no cover  # later versions of uvicorn do so by themselves

    def _is_worth_telling(self, record: logging.LogRecord) -> bool:
        """What is cancelled at the end, such as a stream, is no error of the application."""
        error = record.exc_info[1] if record.exc_info else None
        return not (self.should_exit and isinstance(error, CancelledError))


def exit_later(status: int) -> threading.Timer:
    """End the process in GRACE seconds, come what may, unless the timer is cancelled."""
    timer = threading.Timer(GRACE, os._exit, (status,))
    timer.daemon = True
    timer.start()
    return timer
