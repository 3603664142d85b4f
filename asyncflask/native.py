"""What Quart adds to Flask's application: websockets, the serving life, background tasks, mounts, an async client.

A table of contents: each method names the module that does the work, which is imported when it is first needed.
"""

from __future__ import annotations

import typing as t
from collections.abc import Awaitable, Callable, Coroutine

from . import bridge, steps, typing as ft
from .ctx import RequestContext, WebsocketContext
from .environ import IN_PROCESS
from .plan import ROUTE_OPTIONS
from .scaffold import Scaffold, setupmethod
from .websockets import Websocket

if t.TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

    from .asgi_connection import Connection
    from .async_testing import AsyncClient, TestApp
    from .background import BackgroundTasks
    from .mounting import Mount
    from .shutdown import ShutdownEvent
    from .wrappers import Request


class Native(Scaffold):
    """The async side of the class Flask."""

    websocket_class: type[Websocket] = Websocket
    async_test_client_class: type[AsyncClient] | None = None
    _has_begun: bool = False

    def __init__(self, *args: t.Any) -> None:
        super().__init__(*args)
        self.before_serving_funcs: list[ft.ServingCallable] = []
        self.while_serving_funcs: list[ft.WhileServingCallable] = []
        self.after_serving_funcs: list[ft.ServingCallable] = []
        self.mounts: dict[str, Mount] = {}
        self.route_options: dict[str, dict[str, t.Any]] = {}
        # Sets, since an addition to one is atomic and to a number is not.
        self._open_requests: set[RequestContext] = set()
        self._open_websockets: set[Connection] = set()

    def websocket_context(self, websocket: Websocket) -> WebsocketContext:
        return WebsocketContext(t.cast(t.Any, self), {}, websocket)

    # Routes

    def _take_options(self, endpoint: str, options: dict[str, t.Any]) -> None:
        """Take our own options out of those of a rule. Raises ValueError if another rule says otherwise."""
        taken = {name: options.pop(name) for name in ROUTE_OPTIONS if name in options}
        if not taken:
            return
        if options.get("websocket"):
            raise TypeError(f"A websocket's route has no option {next(iter(taken))!r}.")
        known = self.route_options.setdefault(endpoint, {})
        for name, value in taken.items():
            if known.setdefault(name, value) != value:
                raise ValueError(f"The rules of endpoint {endpoint!r} differ in {name!r}; it is one for all of them.")
        self._plan_changer()()

    def _options_of(self, endpoint: str | None) -> dict[str, t.Any]:
        """Without a rule it is not known yet, where a request may still be matched, what its route says."""
        if endpoint is None:
            return {"undecided": True} if self.route_options else {}
        return self.route_options.get(endpoint, {})

    # Sync and async

    def ensure_async(self, func: Callable[..., t.Any]) -> Callable[..., Awaitable[t.Any]]:
        """`func` itself if it is async, else a function to await that runs it in the request's thread."""
        return func if steps.is_async(func) else self.sync_to_async(func)

    def sync_to_async(self, func: Callable[..., t.Any]) -> Callable[..., Awaitable[t.Any]]:
        return bridge.to_async(func)

    # Serving

    @setupmethod
    def before_serving(self, f: ft.T_serving) -> ft.T_serving:
        """Runs once in each process, before the first request; sync or async. An error stops the server."""
        self.before_serving_funcs.append(f)
        return f

    @setupmethod
    def while_serving(self, f: ft.T_while_serving) -> ft.T_while_serving:
        """A generator function, sync or async: up to its `yield` before the first request, the rest at the end."""
        self.while_serving_funcs.append(f)
        return f

    @setupmethod
    def after_serving(self, f: ft.T_serving) -> ft.T_serving:
        """Runs once in each process, after the last request; sync or async."""
        self.after_serving_funcs.append(f)
        return f

    async def startup(self) -> None:
        """Begin to serve: what a server's lifespan does, for those who serve in a way of their own."""
        from .lifespan import lifespan_of

        await lifespan_of(self).startup()

    async def shutdown(self) -> None:
        from .lifespan import lifespan_of

        await lifespan_of(self).shutdown()

    def _check_served(self, request: Request) -> None:
        """At the first request: say so where a server does not tell of its lifespan, and hooks wait for it."""
        scope = request._scope
        if scope is None or IN_PROCESS in scope or not (self.before_serving_funcs or self.while_serving_funcs):
            return
        from .lifespan import lifespan_of

        if lifespan_of(self).loop is None:
            t.cast(t.Any, self).logger.warning(
                "This application has serving hooks that have not run: the server sent no lifespan.startup. Is its"
                " lifespan switched off?"
            )

    @property
    def shutdown_event(self) -> ShutdownEvent:
        """Set when the server begins to end; for streams and loops that would otherwise go on."""
        from .lifespan import lifespan_of

        return lifespan_of(self).shutdown_event

    @property
    def serving_state(self) -> dict[str, t.Any]:
        """What serving hooks leave for requests; over ASGI it is in each `scope["state"]` too."""
        from .lifespan import lifespan_of

        return lifespan_of(self).state

    def _begin_serving(self, environ: WSGIEnvironment) -> None:
        """Under WSGI, at a request while `_has_begun` is not set. Test clients mark theirs: they do not serve."""
        if IN_PROCESS in environ or "asgi.scope" in environ:
            return
        if self.before_serving_funcs or self.while_serving_funcs or self.after_serving_funcs:
            if bridge._on_event_loop():  # no server's thread, and it could not wait
                return
            from .lifespan import lifespan_of

            lifespan_of(self).begin_at_request(environ)
        vars(self)["_has_begun"] = True

    def stats(self) -> dict[str, t.Any]:
        """What this process is doing now: requests, websockets, threads and their queue, tasks, the loop's lag in s."""
        from .stats import collect_stats

        return collect_stats(t.cast(t.Any, self))

    def run_task(
        self,
        host: str = "127.0.0.1",
        port: int = 5000,
        debug: bool | None = None,
        certfile: str | None = None,
        keyfile: str | None = None,
        shutdown_trigger: Callable[[], Awaitable[object]] | None = None,
        **options: t.Any,
    ) -> Coroutine[t.Any, t.Any, None]:
        """To be awaited: serves on the running loop until a signal, or until `shutdown_trigger()` returns.

        `options` are uvicorn.Config's.
        """
        from .serving import run_on_loop

        certificate = None if certfile is None else (certfile, keyfile)
        app = t.cast(t.Any, self)
        return run_on_loop(app, host, port, debug, certificate, shutdown_trigger, options)

    # Background tasks

    def add_background_task(self, func: Callable[..., t.Any], *args: t.Any, **kwargs: t.Any) -> None:
        """Run `func`, sync or async, beside the requests, in a copy of the current context; waited for at the end."""
        self.background_tasks.add(func, *args, **kwargs)

    @property
    def background_tasks(self) -> BackgroundTasks:
        from .background import tasks_of

        return tasks_of(self)

    # Other applications

    @setupmethod
    def mount(self, path: str, app: t.Any) -> None:
        """Serve an ASGI or WSGI application below `path`."""
        from .mounting import mount

        mount(self, path, app)

    def _find_mount(self, head: t.Any) -> Mount | None:
        """What is mounted where the request's scope or environ points."""
        from .mounting import find_mount

        return find_mount(t.cast(t.Any, self), head)

    # Tests

    def async_test_client(self, use_cookies: bool = True, **kwargs: t.Any) -> AsyncClient:
        """A client to be awaited, on the caller's loop."""
        cls = self.async_test_client_class
        if cls is None:
            from .async_testing import AsyncClient

            cls = AsyncClient
        return cls(t.cast(t.Any, self), use_cookies, **kwargs)

    def test_app(self) -> TestApp:
        """`async with app.test_app() as test_app:` serves, start-up and shutdown included, without a server."""
        from .async_testing import TestApp

        return TestApp(t.cast(t.Any, self))
