"""Views as classes. `as_view` gives a coroutine function where the class has async code, else a plain one."""

from __future__ import annotations

import typing as t
from collections.abc import Awaitable, Callable

from . import typing as ft
from .globals import current_app, request
from .gone import missing_from
from .steps import ANYWHERE, LOOP, THREAD, kind_of, nonblocking, settle

Result = ft.ResponseReturnValue | Awaitable[ft.ResponseReturnValue]

http_method_funcs: frozenset[str] = frozenset({"get", "post", "head", "options", "delete", "put", "trace", "patch"})


class View:
    """A view whose `dispatch_request`, sync or async, takes the URL's values as keywords."""

    # None: the defaults of `route`.
    methods: t.ClassVar[t.Collection[str] | None] = None
    provide_automatic_options: t.ClassVar[bool | None] = None
    # Applied to the view function, the first one innermost.
    decorators: t.ClassVar[list[Callable[..., t.Any]]] = []
    # False: one instance serves every request, so nothing of a request may be kept on it.
    init_every_request: t.ClassVar[bool] = True

    def dispatch_request(self, *args: t.Any, **kwargs: t.Any) -> Result:
        raise NotImplementedError

    @classmethod
    def as_view(cls, name: str, *class_args: t.Any, **class_kwargs: t.Any) -> ft.RouteCallable:
        """A view function with this endpoint name; the other arguments go to the class."""
        view: t.Any = _VIEW_MAKERS[cls._get_kind()](
            cls._make_instance_getter(lambda: view.view_class, class_args, class_kwargs)
        )
        labels = {"__name__": name, "__module__": cls.__module__}
        _label(view, labels)  # a decorator may look at them, and need not keep them
        for decorator in cls.decorators or ():
            view = decorator(view)
        options = {key: getattr(cls, key) for key in ("__doc__", "methods", "provide_automatic_options")}
        _label(view, {**labels, **options, "view_class": cls})
        return t.cast(ft.RouteCallable, view)

    @classmethod
    def _make_instance_getter(
        cls, get_class: Callable[[], type[View]], args: tuple[t.Any, ...], kwargs: dict[str, t.Any]
    ) -> Callable[[], View]:
        if cls.init_every_request:
            # The class is asked for at each request: `view.view_class` may have been replaced.
            return lambda: get_class()(*args, **kwargs)
        instance = cls(*args, **kwargs)
        return lambda: instance

    @classmethod
    def _get_kind(cls) -> str:
        """Where the view function belongs, as for any function (bridge)."""
        return kind_of(cls.dispatch_request)

    def _get_target(self) -> Callable[..., t.Any]:
        """The method which an async view function calls."""
        return self.dispatch_request


class MethodView(View):
    """A view with a method for each HTTP method: ``get``, ``post``, ...; `methods` follows from them."""

    methods: t.ClassVar[t.Collection[str] | None]

    def __init_subclass__(cls, **kwargs: t.Any) -> None:
        super().__init_subclass__(**kwargs)
        if "methods" in cls.__dict__:
            return
        inherited = (method for base in cls.__bases__ for method in getattr(base, "methods", None) or ())
        methods = {*inherited, *(name.upper() for name in http_method_funcs if hasattr(cls, name))}
        if methods:
            cls.methods = methods

    def dispatch_request(self, **kwargs: t.Any) -> Result:
        result: ft.ResponseReturnValue = current_app.ensure_sync(self._find_handler())(**kwargs)
        return result

    def _find_handler(self) -> Callable[..., t.Any]:
        handler = getattr(self, request.method.lower(), None)
        if handler is None and request.method == "HEAD":
            handler = getattr(self, "get", None)
        assert handler is not None, f"Unimplemented method {request.method!r}"
        return t.cast(Callable[..., t.Any], handler)

    @classmethod
    def _get_kind(cls) -> str:
        if cls._dispatches_itself():
            return super()._get_kind()
        kinds = {kind_of(getattr(cls, name)) for name in http_method_funcs if hasattr(cls, name)}
        return LOOP if LOOP in kinds else ANYWHERE if kinds == {ANYWHERE} else THREAD

    @classmethod
    def _dispatches_itself(cls) -> bool:
        return cls.dispatch_request is not MethodView.dispatch_request

    def _get_target(self) -> Callable[..., t.Any]:
        return super()._get_target() if self._dispatches_itself() else self._find_handler()


def _label(view: t.Any, attributes: dict[str, t.Any]) -> None:
    for name, value in attributes.items():
        setattr(view, name, value)


def _make_sync_view(get_instance: Callable[[], View]) -> Callable[..., t.Any]:
    def view(**kwargs: t.Any) -> t.Any:
        return current_app.ensure_sync(get_instance().dispatch_request)(**kwargs)

    return view


def _make_async_view(get_instance: Callable[[], View]) -> Callable[..., t.Any]:
    async def view(**kwargs: t.Any) -> t.Any:
        target = get_instance()._get_target()
        if kind_of(target) is not THREAD:
            return await settle(target(**kwargs))
        # A class may mix async and sync methods: the latter must not block the loop.
        return await settle(await current_app.ensure_async(target)(**kwargs))

    return view


_VIEW_MAKERS: dict[str, Callable[[Callable[[], View]], Callable[..., t.Any]]] = {
    LOOP: _make_async_view,
    THREAD: _make_sync_view,
    ANYWHERE: lambda get_instance: nonblocking(_make_sync_view(get_instance)),
}

if not t.TYPE_CHECKING:  # for type checkers a missing name stays an error
    __getattr__ = missing_from(__name__)
