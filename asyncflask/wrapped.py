"""WSGI middleware keeps its word over ASGI: where `app.wsgi_app` was wrapped, HTTP requests go through that chain.

a2wsgi runs the chain in threads of its own. Async steps inside of it still run on the serving loop.
"""

from __future__ import annotations

import typing as t
from asyncio import get_running_loop
from collections.abc import Iterable
from functools import cached_property

from a2wsgi import WSGIMiddleware

from .bridge import Home, cv_home, mailbox_of

if t.TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from .app import Flask
    from .typing import Receive, Scope, Send

NOTICE = (
    "app.wsgi_app is wrapped: HTTP requests go through that WSGI middleware, each in a worker thread."
    " ASGI middleware around app.asgi_app keeps async views on the event loop."
)


class WrappedApp:
    """The ASGI form of one chain of WSGI middleware."""

    def __init__(self, chain: WSGIApplication, workers: int) -> None:
        self.chain = chain
        self.workers = workers

    @cached_property
    def asgi(self) -> t.Any:
        return WSGIMiddleware(t.cast(t.Any, self._call), workers=self.workers)

    def _call(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ["wsgi.input_terminated"] = True  # a body without a length ends where ASGI says
        return self.chain(environ, start_response)

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        cv_home.set(Home(mailbox_of(get_running_loop()), None))
        await self.asgi(scope, receive, send)


def wrapped_app(app: Flask) -> WrappedApp | None:
    """The chain around `app.wsgi_app` as it is now; None if nothing wraps it."""
    chain = app.__dict__.get("wsgi_app")
    if chain is None:
        return None
    kept: WrappedApp | None = app.__dict__.get("_wrapped")
    if kept is None or kept.chain is not chain:
        kept = app.__dict__["_wrapped"] = WrappedApp(chain, app.config["WORKER_THREADS"])
    return kept
