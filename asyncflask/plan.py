"""The plan of an endpoint: what runs for it and where, decided once.

Plans are dropped when a hook, a view or the application's own set-up changes (hooks.py, Flask.__setattr__), and made
again at the next request.
"""

from __future__ import annotations

import typing as t
from collections.abc import Callable, Iterable, Mapping
from threading import Lock

from . import hooks
from .config import check_kinds
from .overrides import AppType, find_override
from .routing import TRUSTED_CONVERTERS
from .sessions import opens_lazily
from .steps import ANYWHERE, LOOP, THREAD, Step, kind_of
from .wrappers import _split_blueprint_path

if t.TYPE_CHECKING:
    from werkzeug.routing import Rule

    from .app import Flask

AsyncStage = Callable[..., t.Any]
# An endpoint, None for requests that no rule matches; for websockets the pair of their hooks and that.
PlanKey: t.TypeAlias = "str | tuple[hooks.CycleKinds, str | None] | None"
Steps = tuple[Step, ...]
# What a route may say beside Werkzeug's options; it holds for all rules of its endpoint.
ROUTE_OPTIONS: tuple[str, ...] = ("stream_body", "cancel_on_disconnect", "response_timeout")


class Stages:
    """The request cycle's stages, as async functions: our own, or a call of what overrides them."""

    def __init__(self, app: Flask, native: dict[str, AsyncStage]) -> None:
        self.overrides: dict[str, str] = {}  # name to kind
        for name, stage in native.items():
            override = find_override(app, stage.__name__)
            if override is not None:
                self.overrides[name] = kind_of(override)
                stage = _call_override(stage.__name__, kind_of(override))
            setattr(self, name, stage)

    if t.TYPE_CHECKING:

        def __getattr__(self, name: str) -> AsyncStage: ...


def _call_override(name: str, kind: str) -> AsyncStage:
    # By its name: a plan that held the method would hold the application.
    async def stage(host: t.Any, *args: t.Any, **kwargs: t.Any) -> t.Any:
        return await host.call((kind, getattr(host.app, name)), *args, **kwargs)

    return stage


class PlanBook(dict[PlanKey, "Plan"]):
    """The plans of an application, each made when first asked for. It is told when what they are made of changes."""

    __hash__ = object.__hash__  # type: ignore[assignment]  # kept weakly by AppType

    def __init__(self, make: Callable[[PlanKey], Plan]) -> None:
        super().__init__()
        self.make = make
        self.lock: Lock = Lock()
        self.version: int = 0
        AppType.plan_books.add(self)

    def drop(self) -> None:
        with self.lock:
            self.version += 1
            for plan in self.values():
                plan.is_current = False
            self.clear()

    def __missing__(self, key: PlanKey) -> Plan:
        """A plan made of one state of the application: again, if that changed in another thread meanwhile."""
        while True:
            version = self.version
            plan = self.make(key)
            with self.lock:
                if version == self.version:
                    self[key] = plan
                    return plan


class Plan:
    """Flat tuples of steps, in the order in which they run."""

    __slots__ = (
        "after", "app_teardown", "before", "has_async", "is_current", "is_guarded", "is_wrapped", "kinds",
        "matches_fast", "matches_on_loop", "native_context", "needs_thread", "open_session", "options",
        "preprocess", "preprocesses", "processes", "save_session", "session_is_lazy", "session_needs_cookie",
        "stages", "start", "streams_body", "teardown", "tears_down", "tears_down_app", "view",
    )  # fmt: skip

    def __init__(
        self,
        app: Flask,
        endpoint: str | None,
        native: dict[str, AsyncStage],
        kinds: hooks.CycleKinds = hooks.HTTP,
    ) -> None:
        blueprints = _blueprints_of(endpoint)
        self.is_current: bool = True
        self.options: Mapping[str, t.Any] = app._options_of(endpoint)  # of the route, beside Werkzeug's
        self.streams_body: bool = self.options.get("stream_body", False)
        config = app.config
        check_kinds(config)
        limits = config["CANCEL_ON_DISCONNECT"] or config["RESPONSE_TIMEOUT"] is not None
        self.is_guarded: bool = bool(limits or self.options.keys() - {"stream_body"})  # see guarding.py
        self.stages: Stages = Stages(app, native)
        self.preprocess: Steps = _hook_steps(app, hooks.PREPROCESS, blueprints)
        self.before: Steps = _hook_steps(app, kinds.before, blueprints)
        self.view: Step | None = _view_step(app, endpoint)
        self.after: Steps = _hook_steps(app, kinds.after, blueprints)
        self.teardown: Steps = _hook_steps(app, kinds.teardown, blueprints)
        self.app_teardown: Steps = _steps(app, reversed(app.teardown_appcontext_funcs))
        interface = app.session_interface
        self.open_session: Step = make_session_step(interface.open_session)
        self.save_session: Step = make_session_step(interface.save_session)
        self.session_is_lazy: bool = opens_lazily(interface)
        self.session_needs_cookie: bool = getattr(interface.open_session, "_needs_cookie", False)
        # Stages with nothing to do are not even called.
        overrides = self.stages.overrides
        self.preprocesses: bool = bool(self.preprocess or self.before or "preprocess_request" in overrides)
        self.processes: bool = bool(self.after or "process_response" in overrides)
        self.tears_down: bool = bool(self.teardown or "do_teardown_request" in overrides)
        self.tears_down_app: bool = bool(self.app_teardown or "do_teardown_appcontext" in overrides)
        self.is_wrapped: bool = find_override(app, "wsgi_app") is not None
        self.native_context: bool = find_override(app, "request_context") is None
        native_adapter = find_override(app, "create_url_adapter") is None
        self.matches_fast: bool = native_adapter and self.native_context and not app.subdomain_matching
        # Else it may call code that is not ours or Werkzeug's, and so may block.
        native_converters = TRUSTED_CONVERTERS.issuperset(app.url_map.converters.values())
        finds_natively = native_adapter and self.native_context and native_converters
        self.matches_on_loop: bool = finds_natively and (self.session_is_lazy or self.session_needs_cookie)
        self.kinds: list[str] = [kind for kind in self._all_kinds(app, endpoint) if kind is not ANYWHERE]
        self.start: str = self.kinds[0] if self.kinds else LOOP
        self.needs_thread: bool = THREAD in self.kinds
        self.has_async: bool = LOOP in self.kinds

    def _all_kinds(self, app: Flask, endpoint: str | None) -> Iterable[str]:
        yield self.open_session[0]
        if endpoint is None and not self.matches_on_loop:
            yield THREAD
        yield from self.stages.overrides.values()
        view = () if self.view is None else (self.view,)
        for step in (*self.preprocess, *self.before, *view, *self.after):
            yield step[0]
        yield self.save_session[0]
        for step in (*self.teardown, *self.app_teardown):
            yield step[0]


def _blueprints_of(endpoint: str | None) -> list[str]:
    name = endpoint.rpartition(".")[0] if endpoint is not None else ""
    return _split_blueprint_path(name) if name else []


def _steps(app: Flask, functions: Iterable[t.Any]) -> Steps:
    return tuple(make_step(app, f) for f in functions)


def _hook_steps(app: Flask, kind: hooks.HookKind, blueprints: Iterable[str]) -> tuple[Step, ...]:
    return _steps(app, hooks.ordered(getattr(app, kind.attribute), kind, blueprints))


def _view_step(app: Flask, endpoint: str | None) -> Step | None:
    view = None if endpoint is None else app.view_functions.get(endpoint)
    return None if view is None else make_step(app, view)


def make_step(app: Flask, f: t.Any) -> Step:
    """A user's function with its kind, through `app.ensure_sync` where a subclass has its own."""
    if find_override(app, "ensure_sync") or find_override(app, "async_to_sync"):
        f = app.ensure_sync(f)
    return kind_of(f), f


def make_session_step(f: t.Any, planned: Step | None = None) -> Step:
    """A method of the session interface with its kind; as planned, unless it was patched since."""
    return planned if planned is not None and planned[1] == f else (kind_of(f), f)


def describe_place(app: Flask, rule: Rule) -> str:
    """Where the user's steps for a rule run over ASGI: "loop", "thread" or "mixed"."""
    plan = app._plans[(hooks.WEBSOCKET, rule.endpoint) if rule.websocket else rule.endpoint]
    if plan.is_wrapped and not rule.websocket:  # WSGI middleware goes first, in a thread
        return THREAD
    kinds = set(plan.kinds)
    return "mixed" if len(kinds) > 1 else next(iter(kinds), LOOP)
