"""Other applications below a path: ASGI or WSGI, on either face, by a2wsgi where the two differ.

The mounted application sees its path as an ASGI or WSGI mount point (`root_path`, SCRIPT_NAME). Hooks of ours do not
run for it. An ASGI application's lifespan is part of ours.
"""

from __future__ import annotations

import inspect
import typing as t
from collections.abc import AsyncIterator, Iterable
from functools import cached_property

from .environ import decode, merge_headers, path_info

if t.TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from .native import Native
    from .typing import ASGIApp, Message, Receive, Scope, Send


class Mount:
    """An application below `path`."""

    def __init__(self, path: str, app: t.Any, threads: int) -> None:
        self.path = path
        self.app = app
        self.threads = threads
        self.speaks_asgi: bool = _speaks_asgi(app)
        self.state: dict[str, t.Any] = {}

    @cached_property
    def asgi(self) -> ASGIApp:
        if self.speaks_asgi:
            return t.cast("ASGIApp", self.app)
        from a2wsgi import WSGIMiddleware

        return t.cast("ASGIApp", WSGIMiddleware(self.app, workers=self.threads))

    @cached_property
    def wsgi(self) -> WSGIApplication:
        if not self.speaks_asgi:
            return t.cast("WSGIApplication", self.app)
        from a2wsgi import ASGIMiddleware

        from .bridge import background_loop

        return t.cast("WSGIApplication", ASGIMiddleware(self.app, loop=background_loop()))

    async def call_asgi(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope = {**scope, "root_path": scope.get("root_path", "").rstrip("/") + self.path}
        if self.state:
            scope["state"] = self.state.copy()
        if not self.speaks_asgi:  # as our own environ: each header once, and none that poses as another
            merged = merge_headers(scope["headers"])
            scope["headers"] = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in merged.items()]
        await self.asgi(scope, receive, send)

    def call_wsgi(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        raw = self.path.encode().decode("latin-1")
        environ["SCRIPT_NAME"] = environ.get("SCRIPT_NAME", "").rstrip("/") + raw
        environ["PATH_INFO"] = environ.get("PATH_INFO", "")[len(raw) :]
        return self.wsgi(environ, start_response)

    async def live(self) -> AsyncIterator[None]:
        """The application's lifespan, as a `while_serving` function. One that has none is left alone."""
        import asyncio

        to_app: asyncio.Queue[Message] = asyncio.Queue()
        from_app: asyncio.Queue[Message] = asyncio.Queue()
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}

        async def run() -> None:
            try:
                await self.app(scope, to_app.get, from_app.put)
            except Exception:  # ASGI: such an application does not know the protocol
                from_app.put_nowait({"type": "unsupported"})
            else:
                from_app.put_nowait({"type": "ended"})

        async def ask(phase: str) -> None:
            to_app.put_nowait({"type": f"lifespan.{phase}"})
            answer = await from_app.get()
            if answer["type"] == f"lifespan.{phase}.failed":
                raise RuntimeError(f"The application mounted at {self.path!r}: {phase} failed: {answer.get('message')}")

        task = asyncio.create_task(run())
        try:
            await ask("startup")
            yield
            if not task.done():
                await ask("shutdown")
        finally:
            task.cancel()


def _speaks_asgi(app: t.Any) -> bool:
    """As servers tell: its call gives a coroutine."""
    return inspect.iscoroutinefunction(app) or inspect.iscoroutinefunction(getattr(app, "__call__", None))  # noqa: B004


def mount(owner: Native, path: str, app: t.Any) -> None:
    """Raises ValueError for a path that is taken, or does not begin with one slash and a name."""
    if not path.startswith("/") or path != "/" + path.strip("/") or path == "/" or "//" in path:
        raise ValueError(f"A mount's path begins with a slash, has a name and no slash at its end, not {path!r}.")
    if path in owner.mounts:
        raise ValueError(f"Something is mounted at {path!r} already.")
    mounted = Mount(path, app, t.cast(t.Any, owner).config["WORKER_THREADS"])
    # The longest path first.
    owner.mounts = dict(sorted([*owner.mounts.items(), (path, mounted)], key=lambda item: -len(item[0])))
    if mounted.speaks_asgi:
        owner.while_serving_funcs.append(mounted.live)


def find_mount(mounts: dict[str, Mount], head: t.Any) -> Mount | None:
    """What is mounted where the scope or environ `head` points; the longest path wins."""
    path = path_info(head) if "path" in head else decode(head.get("PATH_INFO", ""))
    return next((mount for mount in mounts.values() if _is_below(mount.path, path)), None)


def _is_below(mount: str, path: str) -> bool:
    return path.startswith(mount) and path[len(mount) : len(mount) + 1] in ("", "/")
