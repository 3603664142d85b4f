"""Other applications below a path: ASGI or WSGI, on either face.

The mounted application sees its path as an ASGI or WSGI mount point (`root_path`, SCRIPT_NAME). Hooks of ours do not
run for it. An ASGI application's lifespan is part of ours. Where the two worlds differ

    a WSGI application over ASGI is what wraps `wsgi_app` of an application of ours: it stands behind our own edge
    an ASGI application under WSGI is held a conversation with, from the server's thread (transport.py)
"""

from __future__ import annotations

import inspect
import typing as t
from collections.abc import AsyncIterator, Iterable
from functools import cached_property, partial
from weakref import ref

from .environ import build_scope, decode, path_info

if t.TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from .app import Flask
    from .native import Native
    from .transport import Conversation
    from .typing import ASGIApp, Receive, Scope, Send

CLEAN_UP = 1  # second, for an application that goes on after it has said that its shutdown is complete


class Mount:
    """An application below `path`."""

    def __init__(self, path: str, app: t.Any, owner: Native) -> None:
        self.path = path
        self.app = app
        self._owner = ref(owner)
        self.speaks_asgi: bool = _speaks_asgi(app)
        self.state: dict[str, t.Any] = {}

    @property
    def owner(self) -> Flask:
        return t.cast("Flask", self._owner())

    @cached_property
    def asgi(self) -> ASGIApp:
        if self.speaks_asgi:
            return t.cast("ASGIApp", self.app)
        from .app import Flask

        host: t.Any = Flask(__name__, static_folder=None)
        host.wsgi_app = self.app
        host.config["BODY_TIMEOUT"] = self.owner.config["BODY_TIMEOUT"]
        host._workers = self.owner._workers
        return t.cast("ASGIApp", host)

    async def call_asgi(self, scope: Scope, receive: Receive, send: Send) -> None:
        root = scope.get("root_path", "").rstrip("/")
        # Not every server writes its `root_path` before the path, as ASGI wants it.
        scope = {**scope, "path": root + path_info(scope), "root_path": root + self.path}
        if self.state:
            scope["state"] = self.state.copy()
        await self.asgi(scope, receive, send)

    def call_wsgi(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        raw = self.path.encode().decode("latin-1")
        environ["SCRIPT_NAME"] = environ.get("SCRIPT_NAME", "").rstrip("/") + raw
        environ["PATH_INFO"] = environ.get("PATH_INFO", "")[len(raw) :]
        if not self.speaks_asgi:
            return t.cast("WSGIApplication", self.app)(environ, start_response)
        from .mounted_call import call_from_wsgi

        scope = {**build_scope(environ), "state": self.state.copy()}
        return call_from_wsgi(self.app, scope, environ, start_response, self.owner.logger)

    async def live(self) -> AsyncIterator[None]:
        """The application's lifespan, as a `while_serving` function. One that has none is left alone."""
        from anyio import move_on_after

        from .transport import begin_lifespan

        conversation = begin_lifespan(self.app, self.state)
        try:
            knows_lifespan = await self._ask(conversation, "startup")
            yield
            if knows_lifespan:
                await self._ask(conversation, "shutdown")
                with move_on_after(CLEAN_UP):
                    await conversation.close()
                    conversation.raise_error()
        finally:
            await conversation.abort()

    async def _ask(self, conversation: Conversation, phase: str) -> bool:
        """Whether it answered. Raises what it says that went wrong."""
        conversation.tell({"type": f"lifespan.{phase}"})
        answer = await conversation.take()
        if answer is None:
            # ASGI: an exception instead of the first answer means that it does not know the protocol.
            if phase == "shutdown" or not isinstance(conversation.error, Exception):
                conversation.raise_error()
            return False
        if answer["type"] == f"lifespan.{phase}.failed":
            raise RuntimeError(f"The application mounted at {self.path!r}: {phase} failed: {answer.get('message')}")
        return True


def _speaks_asgi(app: t.Any) -> bool:
    """As servers tell: its call gives a coroutine, or its object can be awaited.

    A decorator's sync function may give the coroutine of the async one that it wraps, if both take an ASGI call.
    """
    call = app
    while isinstance(call, partial):
        call = call.func
    if inspect.isclass(call):
        return hasattr(call, "__await__")
    calls = (call, call.__call__)
    if any(map(inspect.iscoroutinefunction, calls)):
        return True
    wraps_async = any(inspect.iscoroutinefunction(inspect.unwrap(f)) for f in calls)
    return wraps_async and _takes(app, 3) and _takes(app, 3, of_wrapped=True)


def _is_application(app: t.Any) -> bool:
    return callable(app) and _takes(app, 3 if _speaks_asgi(app) else 2)


def _takes(app: t.Any, count: int, of_wrapped: bool = False) -> bool:
    """Whether it can be called with `count` arguments. A decorator's function may take others than what it wraps."""
    try:
        inspect.signature(app, follow_wrapped=of_wrapped).bind(*range(count))
    except TypeError:
        return False
    except ValueError:  # it has no signature, as what is written in C
        pass
    return True


def mount(owner: Native, path: str, app: t.Any) -> None:
    """Raises ValueError for a path that is taken, or is no slash and a name; TypeError for what is no application."""
    if not path.startswith("/") or path != "/" + path.strip("/") or path == "/" or "//" in path:
        raise ValueError(f"A mount's path begins with a slash, has a name and no slash at its end, not {path!r}.")
    if path in owner.mounts:
        raise ValueError(f"Something is mounted at {path!r} already.")
    if not _is_application(app):
        raise TypeError(
            f"What is to be mounted at {path!r} is neither an ASGI nor a WSGI application, but {app!r}. An ASGI one is"
            " async and called with (scope, receive, send), a WSGI one with (environ, start_response)."
        )
    mounted = Mount(path, app, owner)
    # The longest path first.
    owner.mounts = dict(sorted([*owner.mounts.items(), (path, mounted)], key=lambda item: -len(item[0])))
    if mounted.speaks_asgi:
        owner.while_serving_funcs.append(mounted.live)


def find_mount(owner: Flask, head: t.Any) -> Mount | None:
    """What is mounted where the scope or environ `head` points; the longest path wins."""
    if head.get("type") == "http" and owner._plans[None].is_wrapped:
        return None  # what wraps `wsgi_app` comes first, for who is mounted too
    path = path_info(head) if "path" in head else decode(head.get("PATH_INFO", ""))
    return next((mount for mount in owner.mounts.values() if _is_below(mount.path, path)), None)


def _is_below(mount: str, path: str) -> bool:
    return path.startswith(mount) and path[len(mount) : len(mount) + 1] in ("", "/")
