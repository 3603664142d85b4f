"""What an application and a blueprint have in common: registration, static folder, templates folder, resources."""

from __future__ import annotations

import os
import typing as t
from collections import defaultdict
from collections.abc import Callable
from datetime import timedelta
from functools import update_wrapper

from jinja2 import BaseLoader, FileSystemLoader
from werkzeug.exceptions import HTTPException, default_exceptions
from werkzeug.utils import cached_property

from . import typing as ft
from .files import send_from_directory
from .globals import current_app
from .hooks import (
    AFTER,
    AFTER_WEBSOCKET,
    BEFORE,
    BEFORE_WEBSOCKET,
    CONTEXT,
    HOOK_KINDS,
    PREPROCESS,
    TEARDOWN,
    TEARDOWN_WEBSOCKET,
    URL_DEFAULTS,
    HookDict,
    HookKind,
    hook_dict,
    unheard,
)
from .paths import find_package as find_package, get_root_path
from .templating import _default_template_ctx_processor

if t.TYPE_CHECKING:
    from click import Group

    from .wrappers import Response

F = t.TypeVar("F", bound=Callable[..., t.Any])

_sentinel = object()
HOOK_ATTRIBUTES = frozenset(kind.attribute for kind in HOOK_KINDS)


def setupmethod(f: F) -> F:
    """A method that may not be called any more once its result could not be seen everywhere."""
    name = f.__name__

    def checked(self: Scaffold, *args: t.Any, **kwargs: t.Any) -> t.Any:
        self._check_setup_finished(name)
        return f(self, *args, **kwargs)

    return t.cast(F, update_wrapper(checked, f))


def _with_method(method: str, options: dict[str, t.Any]) -> dict[str, t.Any]:
    if "methods" in options:
        raise TypeError("Use the 'route' decorator to use the 'methods' argument.")
    return {**options, "methods": [method]}


def registers(add: Callable[[t.Any, Callable[..., t.Any]], object]) -> Callable[[F], F]:
    """For a method whose body only gives its function back, so that type checkers see that: before, `add(self, f)`."""

    def complete(method: F) -> F:
        def register(self: Scaffold, f: t.Any) -> t.Any:
            add(self, f)
            return method(self, f)

        return setupmethod(t.cast(F, update_wrapper(register, method)))

    return complete


def _to_hooks(kind: HookKind) -> Callable[[F], F]:
    return registers(lambda scaffold, f: getattr(scaffold, kind.attribute).setdefault(None, []).append(f))


def pass_on(add: Callable[[t.Any, str | None], object], name: str | None) -> Callable[[F], F]:
    """The decorator that hands a function and `name` to `add`."""

    def decorator(f: F) -> F:
        add(f, name)
        return f

    return decorator


class Scaffold:
    """The base of Flask and Blueprint."""

    name: str
    _static_folder: str | None = None
    _static_url_path: str | None = None

    view_functions: dict[str, ft.RouteCallable]
    error_handler_spec: dict[str | None, dict[int | None, dict[type[Exception], ft.ErrorHandlerCallable]]]
    before_request_funcs: dict[str | None, list[ft.BeforeRequestCallable]]
    after_request_funcs: dict[str | None, list[ft.AfterRequestCallable[t.Any]]]
    teardown_request_funcs: dict[str | None, list[ft.TeardownCallable]]
    before_websocket_funcs: dict[str | None, list[ft.BeforeWebsocketCallable]]
    after_websocket_funcs: dict[str | None, list[ft.AfterWebsocketCallable]]
    teardown_websocket_funcs: dict[str | None, list[ft.TeardownCallable]]
    template_context_processors: dict[str | None, list[ft.TemplateContextProcessorCallable]]
    url_value_preprocessors: dict[str | None, list[ft.URLValuePreprocessorCallable]]
    url_default_functions: dict[str | None, list[ft.URLDefaultCallable]]

    def __init__(
        self,
        import_name: str,
        static_folder: str | os.PathLike[str] | None = None,
        static_url_path: str | None = None,
        template_folder: str | os.PathLike[str] | None = None,
        root_path: str | None = None,
    ) -> None:
        self.import_name = import_name
        self.static_folder = static_folder
        self.static_url_path = static_url_path
        self.template_folder = template_folder
        self.root_path: str = get_root_path(import_name) if root_path is None else root_path
        self.view_functions = {}
        self.error_handler_spec = defaultdict(lambda: defaultdict(dict))
        for kind in HOOK_KINDS:
            setattr(self, kind.attribute, {})
        self.template_context_processors[None] = [_default_template_ctx_processor]

    def __setattr__(self, name: str, value: t.Any) -> None:
        # Hooks and views live in containers that tell of changes, also where a user puts in a plain dict.
        if name in HOOK_ATTRIBUTES:
            value = hook_dict(self._plan_changer(), value)
        elif name == "view_functions":
            value = HookDict(None, value, self._plan_changer())
        super().__setattr__(name, value)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    def _check_setup_finished(self, f_name: str) -> None:
        raise NotImplementedError

    def _plan_changer(self) -> Callable[[], object]:
        """What the containers call when they change."""
        return unheard

    @cached_property
    def cli(self) -> Group:
        """The click group of this object's commands."""
        from .commands import AppGroup  # click is imported by those who have commands

        return AppGroup(name=self.name)

    # Static files, templates, resources

    @property
    def static_folder(self) -> str | None:
        """The absolute path of the static folder, or None."""
        return None if self._static_folder is None else os.path.join(self.root_path, self._static_folder)

    @static_folder.setter
    def static_folder(self, value: str | os.PathLike[str] | None) -> None:
        self._static_folder = None if value is None else os.fspath(value).rstrip(r"\/")

    @property
    def has_static_folder(self) -> bool:
        return self.static_folder is not None

    @property
    def static_url_path(self) -> str | None:
        """The URL prefix of static files; by default the folder's name."""
        if self._static_url_path is not None:
            return self._static_url_path
        if self.static_folder is not None:
            return f"/{os.path.basename(self.static_folder)}".rstrip("/")
        return None

    @static_url_path.setter
    def static_url_path(self, value: str | None) -> None:
        self._static_url_path = None if value is None else value.rstrip("/")

    def get_send_file_max_age(self, filename: str | None) -> int | None:
        """Seconds that a browser may keep a file; None: it asks each time. Config: SEND_FILE_MAX_AGE_DEFAULT."""
        value = current_app.config["SEND_FILE_MAX_AGE_DEFAULT"]
        if isinstance(value, timedelta):
            return int(value.total_seconds())
        return t.cast("int | None", value)

    def send_static_file(self, filename: str) -> Response:
        """The view of static files. Raises NotFound, or RuntimeError without a static folder."""
        if self.static_folder is None:
            raise RuntimeError("'static_folder' must be set to serve static_files.")
        max_age = self.get_send_file_max_age(filename)
        return send_from_directory(self.static_folder, filename, max_age=max_age)

    @cached_property
    def jinja_loader(self) -> BaseLoader | None:
        if self.template_folder is None:
            return None
        return FileSystemLoader(os.path.join(self.root_path, self.template_folder))

    def open_resource(self, resource: str, mode: str = "rb", encoding: str | None = None) -> t.IO[t.Any]:
        """A file below `root_path`, for reading only."""
        if mode not in {"r", "rt", "rb"}:
            raise ValueError("Resources can only be opened for reading.")
        path = os.path.join(self.root_path, resource)
        return open(path, mode) if mode == "rb" else open(path, mode, encoding=encoding)

    # Routes

    @setupmethod
    def get(self, rule: str, **options: t.Any) -> Callable[[ft.T_route], ft.T_route]:
        """`route` for GET alone."""
        return self.route(rule, **_with_method("GET", options))

    @setupmethod
    def post(self, rule: str, **options: t.Any) -> Callable[[ft.T_route], ft.T_route]:
        """`route` for POST alone."""
        return self.route(rule, **_with_method("POST", options))

    @setupmethod
    def put(self, rule: str, **options: t.Any) -> Callable[[ft.T_route], ft.T_route]:
        """`route` for PUT alone."""
        return self.route(rule, **_with_method("PUT", options))

    @setupmethod
    def delete(self, rule: str, **options: t.Any) -> Callable[[ft.T_route], ft.T_route]:
        """`route` for DELETE alone."""
        return self.route(rule, **_with_method("DELETE", options))

    @setupmethod
    def patch(self, rule: str, **options: t.Any) -> Callable[[ft.T_route], ft.T_route]:
        """`route` for PATCH alone."""
        return self.route(rule, **_with_method("PATCH", options))

    @setupmethod
    def route(self, rule: str, **options: t.Any) -> Callable[[ft.T_route], ft.T_route]:
        """Decorate a view with its URL rule; options as for `add_url_rule`."""

        def decorator(f: ft.T_route) -> ft.T_route:
            endpoint = options.pop("endpoint", None)
            self.add_url_rule(rule, endpoint, f, **options)
            return f

        return decorator

    @setupmethod
    def add_url_rule(
        self,
        rule: str,
        endpoint: str | None = None,
        view_func: ft.RouteCallable | None = None,
        provide_automatic_options: bool | None = None,
        **options: t.Any,
    ) -> None:
        raise NotImplementedError

    @setupmethod
    def websocket(self, rule: str, **options: t.Any) -> Callable[[ft.T_websocket], ft.T_websocket]:
        """Decorate the view of a websocket with its URL rule; options as for `add_url_rule`."""

        def decorator(f: ft.T_websocket) -> ft.T_websocket:
            endpoint = options.pop("endpoint", None)
            self.add_websocket(rule, endpoint, f, **options)
            return f

        return decorator

    @setupmethod
    def add_websocket(
        self,
        rule: str,
        endpoint: str | None = None,
        view_func: ft.WebsocketCallable | None = None,
        **options: t.Any,
    ) -> None:
        """Add a websocket's URL rule and its view."""
        if "methods" in options:
            raise TypeError("A websocket is opened with GET; it has no 'methods'.")
        options = {**options, "methods": ["GET"], "websocket": True, "asgi_websocket": True}
        self.add_url_rule(rule, endpoint, t.cast(t.Any, view_func), False, **options)

    @setupmethod
    def endpoint(self, endpoint: str) -> Callable[[F], F]:
        """Decorate the view of an endpoint whose rule was added without one."""

        def decorator(f: F) -> F:
            self.view_functions[endpoint] = f
            return f

        return decorator

    # Hooks

    @_to_hooks(BEFORE)
    def before_request(self, f: ft.T_before_request) -> ft.T_before_request:
        """Runs before the view; a return value skips the view."""
        return f

    @_to_hooks(AFTER)
    def after_request(self, f: ft.T_after_request) -> ft.T_after_request:
        """Gets the response and returns it or another."""
        return f

    @_to_hooks(TEARDOWN)
    def teardown_request(self, f: ft.T_teardown) -> ft.T_teardown:
        """Runs when the context ends, with the error or None."""
        return f

    @_to_hooks(CONTEXT)
    def context_processor(self, f: ft.T_template_context_processor) -> ft.T_template_context_processor:
        """Returns a dict of names for templates."""
        return f

    @_to_hooks(PREPROCESS)
    def url_value_preprocessor(self, f: ft.T_url_value_preprocessor) -> ft.T_url_value_preprocessor:
        """Gets endpoint and view arguments before all other hooks; may change them."""
        return f

    @_to_hooks(URL_DEFAULTS)
    def url_defaults(self, f: ft.T_url_defaults) -> ft.T_url_defaults:
        """Gets endpoint and values of url_for; may add to them."""
        return f

    @_to_hooks(BEFORE_WEBSOCKET)
    def before_websocket(self, f: ft.T_before_websocket) -> ft.T_before_websocket:
        """before_request for websockets: a return value refuses the connection."""
        return f

    @_to_hooks(AFTER_WEBSOCKET)
    def after_websocket(self, f: ft.T_after_websocket) -> ft.T_after_websocket:
        """Runs after a websocket's view; gets and returns the response of a refusal, usually None."""
        return f

    @_to_hooks(TEARDOWN_WEBSOCKET)
    def teardown_websocket(self, f: ft.T_teardown) -> ft.T_teardown:
        """teardown_request for websockets."""
        return f

    # Errors

    @setupmethod
    def errorhandler(
        self, code_or_exception: type[Exception] | int
    ) -> Callable[[ft.T_error_handler], ft.T_error_handler]:
        """Decorate the handler of an HTTP code or of a class of exceptions."""

        def decorator(f: ft.T_error_handler) -> ft.T_error_handler:
            self.register_error_handler(code_or_exception, f)
            return f

        return decorator

    @setupmethod
    def register_error_handler(self, code_or_exception: type[Exception] | int, f: ft.ErrorHandlerCallable) -> None:
        exc_class, code = self._get_exc_class_and_code(code_or_exception)
        self.error_handler_spec[None][code][exc_class] = f

    @staticmethod
    def _get_exc_class_and_code(
        exc_class_or_code: type[Exception] | int,
    ) -> tuple[type[Exception], int | None]:
        """The class to catch and its HTTP code, if it has one."""
        exc_class: t.Any = exc_class_or_code
        if isinstance(exc_class_or_code, int):
            exc_class = default_exceptions.get(exc_class_or_code)
            if exc_class is None:
                raise ValueError(
                    f"{exc_class_or_code!r} is not a recognized HTTP error code."
                    " Use a subclass of HTTPException with that code instead."
                )
        only = "Handlers can only be registered for Exception classes or HTTP error codes."
        if isinstance(exc_class, Exception):
            raise TypeError(f"{exc_class!r} is an instance, not a class. {only}")
        if not issubclass(exc_class, Exception):
            raise ValueError(f"'{exc_class.__name__}' is not a subclass of Exception. {only}")
        return exc_class, exc_class.code if issubclass(exc_class, HTTPException) else None


def _endpoint_from_view_func(view_func: ft.RouteCallable | None) -> str:
    assert view_func is not None, "expected view func if endpoint is not provided."
    return view_func.__name__
