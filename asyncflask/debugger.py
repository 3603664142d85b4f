"""Werkzeug's interactive debugger for an application that is served over ASGI.

Werkzeug decides what is shown and who may run code (host, PIN, secret). It is a WSGI middleware, so each of
its answers is one call of it in a thread, with an environ made from the scope; code it evaluates may block.
Under PRESERVE the application finds in the scope where to leave the contexts for that code.
"""

from __future__ import annotations

import io
import typing as t
from collections.abc import Iterable

from werkzeug.debug import DebuggedApplication
from werkzeug.test import run_wsgi_app

from .environ import PRESERVE, build_environ
from .typing import ASGIApp, Message, Receive, Scope, Send

if t.TYPE_CHECKING:
    from .typing import StartResponse

VISIT_KEY = "asyncflask.debugger.visit"  # in the environ: what the call is for


class _Visit:
    """One call of Werkzeug's debugger: with an error to show, or with a request that may be for the debugger."""

    __slots__ = ("contexts", "error", "is_for_debugger")

    def __init__(self, error: Exception | None = None, contexts: Iterable[t.Any] = ()) -> None:
        self.error = error
        self.contexts = contexts
        self.is_for_debugger = True


class Debugger:
    """ASGI middleware: an error that leaves the application before its response started becomes a page."""

    def __init__(self, app: ASGIApp, host: str, evalex: bool = True) -> None:
        self.app = app
        names = {"app": app}
        self.pages: DebuggedApplication = DebuggedApplication(_stand_in, evalex, console_init_func=lambda: names)
        self.pages.trusted_hosts.append(host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
        elif not (self._may_want_page(scope) and await self._answer(scope, send, _Visit())):
            await self._watch(scope, receive, send)

    def _may_want_page(self, scope: Scope) -> bool:
        return b"__debugger__=" in scope["query_string"] or scope["path"] == self.pages.console_path

    async def _watch(self, scope: Scope, receive: Receive, send: Send) -> None:
        __traceback_hide__ = True  # noqa: F841  # Werkzeug reads it: the page begins with the app's frames
        started = False
        contexts: list[t.Any] = []

        async def note_start(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app({**scope, PRESERVE: contexts.append}, receive, note_start)
        except Exception as error:
            if started:
                raise
            await self._answer(scope, send, _Visit(error, contexts))

    async def _answer(self, scope: Scope, send: Send, visit: _Visit) -> bool:
        """Send what the debugger answers; False if the request was not for it."""
        import asyncio

        environ = {**build_environ(scope, io.BytesIO()), VISIT_KEY: visit}
        body, status, headers = await asyncio.to_thread(run_wsgi_app, self.pages, environ, buffered=True)
        if not visit.is_for_debugger:
            return False
        encoded = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        await send({"type": "http.response.start", "status": int(status.split()[0]), "headers": encoded})
        await send({"type": "http.response.body", "body": b"".join(body)})
        return True


def _stand_in(environ: dict[str, t.Any], start_response: StartResponse) -> Iterable[bytes]:
    """The application, to Werkzeug: raises the error, or notes that the request isn't the debugger's."""
    __traceback_hide__ = True  # noqa: F841  # as above
    visit: _Visit = environ[VISIT_KEY]
    if visit.error is not None:
        if PRESERVE in environ:  # code may be run
            for context in visit.contexts:
                environ[PRESERVE](context)
        raise visit.error
    visit.is_for_debugger = False
    start_response("404 Not Found", [])
    return []
