"""The class Flask: configuration and set-up, and a table of contents of everything else."""

from __future__ import annotations

import functools
import logging
import os
import sys
import typing as t
import weakref
from _thread import start_new_thread
from collections.abc import Callable, Coroutine, Iterable, MutableMapping
from datetime import timedelta
from importlib import import_module

from werkzeug.datastructures import ImmutableDict
from werkzeug.exceptions import Aborter, BadRequest, BadRequestKeyError, HTTPException
from werkzeug.routing import BuildError, MapAdapter, RequestRedirect, Rule
from werkzeug.utils import cached_property, redirect as _werkzeug_redirect
from werkzeug.wsgi import get_host

from . import bridge, steps, typing as ft
from .blueprints import refuse_foreign
from .config import DEFAULT_CONFIG, Config, ConfigAttribute
from .ctx import AppContext, RequestContext, _AppCtxGlobals
from .dispatch import make_plan, run_stage
from .environ import check_host
from .errors import find_error_handler
from .flashing import get_flashed_messages
from .globals import g, request, request_ctx, session
from .hooks import URL_DEFAULTS, HookList, ordered
from .json.provider import DefaultJSONProvider, JSONProvider
from .logging import create_logger
from .native import Native
from .overrides import AppType, facade
from .paths import find_package, get_debug_flag
from .plan import PlanBook
from .responding import make_response
from .routing import Map, allowed_methods, make_rule
from .scaffold import _endpoint_from_view_func, _sentinel, pass_on, setupmethod
from .sessions import SecureCookieSessionInterface, SessionInterface
from .templating import DispatchingJinjaLoader, Environment, update_template_context
from .urls import build_url
from .workers import WorkerPool
from .wrappers import Request, Response, _split_blueprint_path

if t.TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment
    from werkzeug.wrappers import Response as BaseResponse

    from .blueprints import Blueprint
    from .testing import FlaskClient, FlaskCliRunner


def _make_timedelta(value: timedelta | int | None) -> timedelta | None:
    return value if value is None or isinstance(value, timedelta) else timedelta(seconds=value)


def _name_in(names: MutableMapping[str, t.Any], f: t.Any, name: str | None) -> None:
    names[name or f.__name__] = f


class Flask(Native, metaclass=AppType):
    """An application: an ASGI and a WSGI callable at once. `import_name` is usually `__name__`."""

    aborter_class: type[Aborter] = Aborter
    jinja_environment: type[Environment] = Environment
    app_ctx_globals_class: type[_AppCtxGlobals] = _AppCtxGlobals
    config_class: type[Config] = Config
    json_provider_class: type[JSONProvider] = DefaultJSONProvider
    jinja_options: dict[str, t.Any] = {}  # noqa: RUF012  # replaced or copied, as in Flask
    url_rule_class: type[Rule] = Rule
    url_map_class: type[Map] = Map
    test_client_class: type[FlaskClient] | None = None
    test_cli_runner_class: type[FlaskCliRunner] | None = None
    request_class: type[Request] = Request
    response_class: type[Response] = Response
    session_interface: SessionInterface = SecureCookieSessionInterface()

    testing: ConfigAttribute[bool] = ConfigAttribute("TESTING")
    secret_key: ConfigAttribute[str | bytes | None] = ConfigAttribute("SECRET_KEY")
    permanent_session_lifetime: ConfigAttribute[timedelta] = ConfigAttribute(
        "PERMANENT_SESSION_LIFETIME",
        get_converter=_make_timedelta,  # type: ignore[arg-type]  # None only where a user sets it
    )

    default_config: dict[str, t.Any] = ImmutableDict(DEFAULT_CONFIG)

    def __init__(
        self,
        import_name: str,
        static_url_path: str | None = None,
        static_folder: str | os.PathLike[str] | None = "static",
        static_host: str | None = None,
        host_matching: bool = False,
        subdomain_matching: bool = False,
        template_folder: str | os.PathLike[str] | None = "templates",
        instance_path: str | None = None,
        instance_relative_config: bool = False,
        root_path: str | None = None,
    ) -> None:
        super().__init__(import_name, static_folder, static_url_path, template_folder, root_path)
        if instance_path is None:
            instance_path = self.auto_find_instance_path()
        elif not os.path.isabs(instance_path):
            raise ValueError("If an instance path is provided it must be absolute. A relative path was given instead.")
        self.instance_path = instance_path
        self.config: Config = self.make_config(instance_relative_config)
        self.aborter: Aborter = self.make_aborter()
        self.json: JSONProvider = self.json_provider_class(self)
        self.url_build_error_handlers: list[Callable[[Exception, str, dict[str, t.Any]], str]] = []
        self.teardown_appcontext_funcs: list[ft.TeardownCallable] = []
        self.shell_context_processors: list[ft.ShellContextProcessorCallable] = []
        self.blueprints: dict[str, Blueprint] = {}
        self.extensions: dict[str, t.Any] = {}
        self.url_map: Map = self.url_map_class(host_matching=host_matching)
        self.subdomain_matching = subdomain_matching
        self._got_first_request = False
        self._show_both_faces()
        if self.has_static_folder:
            assert bool(static_host) == host_matching, "Invalid static_host/host_matching combination"
            self._add_static_rule(static_host)

    def _show_both_faces(self) -> None:
        """A server that looks at the instance's `__call__` sees an async function; calls go to the class's.

        Without a binding, and with a weak reference, so that the application is free when its last user lets go.
        """
        app = weakref.ref(self)

        async def __call__(scope: ft.Scope, receive: ft.Receive, send: ft.Send) -> None:
            await t.cast(Flask, app()).asgi_app(scope, receive, send)

        vars(self)["__call__"] = __call__

    def _add_static_rule(self, static_host: str | None) -> None:
        app = weakref.ref(self)
        self.add_url_rule(
            f"{self.static_url_path}/<path:filename>",
            endpoint="static",
            host=static_host,
            view_func=lambda **kwargs: t.cast(Flask, app()).send_static_file(**kwargs),
        )

    # Plans

    def __setattr__(self, name: str, value: t.Any) -> None:
        if name == "teardown_appcontext_funcs":
            value = HookList(value, self._plan_changer())
        super().__setattr__(name, value)
        # Plans depend on much of the set-up. After it, attributes are set rarely, and plans are quickly made.
        self._plan_changer()()

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        self._plan_changer()()

    @functools.cached_property  # at each request: Werkzeug's would be a call
    def _plans(self) -> PlanBook:
        """What runs for an endpoint; for None: where no rule matched. Websockets have theirs by kind and endpoint."""
        app = weakref.ref(self)
        return PlanBook(lambda key: make_plan(t.cast(Flask, app()), key))

    def _plan_changer(self) -> Callable[[], object]:
        return self._plans.drop

    @cached_property
    def _workers(self) -> WorkerPool:
        pool = WorkerPool(self.config["WORKER_THREADS"], self.config["WORKER_QUEUE_LIMIT"])
        # Not here: to wake its threads lets the GIL go, and what runs this may be the garbage collector.
        weakref.finalize(self, start_new_thread, pool.close, ()).atexit = False
        return pool

    def _check_setup_finished(self, f_name: str) -> None:
        if self._got_first_request:
            raise AssertionError(
                f"The setup method '{f_name}' can no longer be called on the application. It has already handled its"
                " first request, any changes will not be applied consistently.\n"
                "Make sure all imports, decorators, functions, etc. needed to set up the application are done before"
                " running it."
            )

    if not t.TYPE_CHECKING:  # for type checkers a missing name stays an error

        def __getattr__(self, name: str) -> t.NoReturn:
            from .gone import FROM_APP, explain

            raise explain(f"{type(self).__name__!r} object", name, FROM_APP)

    # Set-up

    @cached_property
    def name(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]  # a blueprint's is given
        """The import name, or the file's name where the module was run as a script."""
        if self.import_name != "__main__":
            return self.import_name
        filename = getattr(sys.modules["__main__"], "__file__", None)
        return "__main__" if filename is None else os.path.splitext(os.path.basename(filename))[0]

    @cached_property
    def logger(self) -> logging.Logger:
        return create_logger(self)

    @cached_property
    def jinja_env(self) -> Environment:
        return self.create_jinja_environment()

    @property
    def debug(self) -> bool:
        debug: bool = self.config["DEBUG"]
        return debug

    @debug.setter
    def debug(self, value: bool) -> None:
        self.config["DEBUG"] = value
        if self.config["TEMPLATES_AUTO_RELOAD"] is None:
            self.jinja_env.auto_reload = value

    def make_config(self, instance_relative: bool = False) -> Config:
        root = self.instance_path if instance_relative else self.root_path
        return self.config_class(root, {**self.default_config, "DEBUG": get_debug_flag()})

    def make_aborter(self) -> Aborter:
        return self.aborter_class()

    def auto_find_instance_path(self) -> str:
        """`instance` beside the package, or `var/NAME-instance` below the prefix of an installed one."""
        prefix, package_path = find_package(self.import_name)
        if prefix is None:
            return os.path.join(package_path, "instance")
        return os.path.join(prefix, "var", f"{self.name}-instance")

    def create_jinja_environment(self) -> Environment:
        options = dict(self.jinja_options)
        options.setdefault("autoescape", self.select_jinja_autoescape)
        if "auto_reload" not in options:
            auto_reload = self.config["TEMPLATES_AUTO_RELOAD"]
            options["auto_reload"] = self.debug if auto_reload is None else auto_reload
        environment = self.jinja_environment(self, **options)
        environment.globals.update(
            url_for=self.url_for,
            get_flashed_messages=get_flashed_messages,
            config=self.config,
            # As globals too, for templates that are imported without context.
            request=request,
            session=session,
            g=g,
        )
        environment.policies["json.dumps_function"] = self.json.dumps
        return environment

    def create_global_jinja_loader(self) -> DispatchingJinjaLoader:
        return DispatchingJinjaLoader(self)

    def select_jinja_autoescape(self, filename: str | None) -> bool:
        return filename is None or filename.endswith((".html", ".htm", ".xml", ".xhtml", ".svg"))

    @setupmethod
    def template_filter(self, name: str | None = None) -> Callable[[ft.T_template_filter], ft.T_template_filter]:
        """Decorate a template filter; `name` is the function's by default."""
        return pass_on(self.add_template_filter, name)

    @setupmethod
    def add_template_filter(self, f: ft.TemplateFilterCallable, name: str | None = None) -> None:
        _name_in(self.jinja_env.filters, f, name)

    @setupmethod
    def template_test(self, name: str | None = None) -> Callable[[ft.T_template_test], ft.T_template_test]:
        """Decorate a template test; `name` is the function's by default."""
        return pass_on(self.add_template_test, name)

    @setupmethod
    def add_template_test(self, f: ft.TemplateTestCallable, name: str | None = None) -> None:
        _name_in(self.jinja_env.tests, f, name)

    @setupmethod
    def template_global(self, name: str | None = None) -> Callable[[ft.T_template_global], ft.T_template_global]:
        """Decorate a template global; `name` is the function's by default."""
        return pass_on(self.add_template_global, name)

    @setupmethod
    def add_template_global(self, f: ft.TemplateGlobalCallable, name: str | None = None) -> None:
        _name_in(self.jinja_env.globals, f, name)

    @setupmethod
    def register_blueprint(self, blueprint: Blueprint, **options: t.Any) -> None:
        """Register a blueprint; options override its own (url_prefix, subdomain, name, url_defaults, cli_group)."""
        refuse_foreign(blueprint)
        blueprint.register(self, options)

    def iter_blueprints(self) -> t.ValuesView[Blueprint]:
        return self.blueprints.values()

    @setupmethod
    def teardown_appcontext(self, f: ft.T_teardown) -> ft.T_teardown:
        """Runs when an application context ends, with the error or None."""
        self.teardown_appcontext_funcs.append(f)
        return f

    @setupmethod
    def shell_context_processor(self, f: ft.T_shell_context_processor) -> ft.T_shell_context_processor:
        self.shell_context_processors.append(f)
        return f

    @setupmethod
    def add_url_rule(
        self,
        rule: str,
        endpoint: str | None = None,
        view_func: ft.RouteCallable | None = None,
        provide_automatic_options: bool | None = None,
        **options: t.Any,
    ) -> None:
        """Add a URL rule and its view. `methods` is GET by default; further options go to Werkzeug's Rule."""
        if endpoint is None:
            endpoint = _endpoint_from_view_func(view_func)
        self._take_options(endpoint, options)
        url_rule = make_rule(self, rule, endpoint, view_func, provide_automatic_options, options)
        self.url_map.add(url_rule)
        if view_func is not None:
            self._set_view(endpoint, view_func)

    def _set_view(self, endpoint: str, view_func: ft.RouteCallable) -> None:
        existing = self.view_functions.get(endpoint)
        if existing is not None and existing != view_func:
            raise AssertionError(f"View function mapping is overwriting an existing endpoint function: {endpoint}")
        self.view_functions[endpoint] = view_func

    # Contexts

    def app_context(self) -> AppContext:
        return AppContext(self)

    @facade
    def request_context(self, environ: WSGIEnvironment) -> RequestContext:
        return RequestContext(self, environ)

    def test_request_context(self, *args: t.Any, **kwargs: t.Any) -> RequestContext:
        """A request context for a test; arguments as for werkzeug.test.EnvironBuilder, without `app`."""
        from .testing import EnvironBuilder

        builder = EnvironBuilder(self, *args, **kwargs)
        try:
            return self.request_context(builder.get_environ())
        finally:
            builder.close()

    # The request cycle: sync forms of the stages in dispatch.py. A subclass may override any of them.

    @facade
    def full_dispatch_request(self) -> Response:
        return t.cast(Response, run_stage(self, "full_dispatch_request"))

    @facade
    def preprocess_request(self) -> ft.ResponseReturnValue | None:
        return t.cast("ft.ResponseReturnValue | None", run_stage(self, "preprocess_request"))

    @facade
    def dispatch_request(self) -> ft.ResponseReturnValue:
        return t.cast(ft.ResponseReturnValue, run_stage(self, "dispatch_request"))

    @facade
    def finalize_request(
        self, rv: ft.ResponseReturnValue | HTTPException, from_error_handler: bool = False
    ) -> Response:
        return t.cast(Response, run_stage(self, "finalize_request", rv, from_error_handler))

    @facade
    def process_response(self, response: Response) -> Response:
        return t.cast(Response, run_stage(self, "process_response", response))

    @facade
    def handle_user_exception(self, e: Exception) -> HTTPException | ft.ResponseReturnValue:
        return t.cast(ft.ResponseReturnValue, run_stage(self, "handle_user_exception", e))

    @facade
    def handle_http_exception(self, e: HTTPException) -> HTTPException | ft.ResponseReturnValue:
        return t.cast(ft.ResponseReturnValue, run_stage(self, "handle_http_exception", e))

    @facade
    def handle_exception(self, e: Exception) -> Response:
        return t.cast(Response, run_stage(self, "handle_exception", e))

    @facade
    def do_teardown_request(self, exc: BaseException | None = _sentinel) -> None:  # type: ignore[assignment]  # sentinel
        run_stage(self, "do_teardown_request", sys.exc_info()[1] if exc is _sentinel else exc)

    @facade
    def do_teardown_appcontext(self, exc: BaseException | None = _sentinel) -> None:  # type: ignore[assignment]
        run_stage(self, "do_teardown_appcontext", sys.exc_info()[1] if exc is _sentinel else exc)

    make_response = make_response

    def make_default_options_response(self) -> Response:
        response = self.response_class()
        response.allow = allowed_methods(request_ctx)
        return response

    def raise_routing_exception(self, request: Request) -> t.NoReturn:
        error = t.cast(HTTPException, request.routing_exception)
        keeps_body = error.code in {307, 308} or request.method in {"GET", "HEAD", "OPTIONS"}
        if not self.debug or not isinstance(error, RequestRedirect) or keeps_body:
            raise error
        from .debughelpers import FormDataRoutingRedirect

        raise FormDataRoutingRedirect(request)

    def trap_http_exception(self, e: Exception) -> bool:
        """Whether an HTTP error shall not be answered but raised to the caller. Config: TRAP_*."""
        if self.config["TRAP_HTTP_EXCEPTIONS"]:
            return True
        trap_bad_request = self.config["TRAP_BAD_REQUEST_ERRORS"]
        if trap_bad_request is None:
            return bool(self.debug) and isinstance(e, BadRequestKeyError)
        return bool(trap_bad_request) and isinstance(e, BadRequest)

    def should_ignore_error(self, error: BaseException | None) -> bool:
        """Whether teardowns shall not be told of this error."""
        return False

    def log_exception(self, exc_info: ft.ExcInfo) -> None:
        path = request.path if request.path.isprintable() else ascii(request.path)  # a line break would forge a line
        self.logger.error(f"Exception on {path} [{request.method}]", exc_info=exc_info)

    def _find_error_handler(self, e: Exception, blueprints: list[str]) -> ft.ErrorHandlerCallable | None:
        return find_error_handler(self, e, blueprints)

    # Between sync and async

    @facade
    def ensure_sync(self, func: Callable[..., t.Any]) -> Callable[..., t.Any]:
        """`func` itself if it is sync, else a function that runs it on the loop while its thread waits."""
        return self.async_to_sync(func) if steps.is_async(func) else func

    @facade
    def async_to_sync(self, func: Callable[..., Coroutine[t.Any, t.Any, t.Any]]) -> Callable[..., t.Any]:
        return bridge.to_sync(func)

    # URLs

    @facade
    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """The adapter of a request, or of an application context (None without SERVER_NAME)."""
        if request is None:
            if self.config["SERVER_NAME"] is None:
                return None
            return self.url_map.bind(
                self.config["SERVER_NAME"],
                script_name=self.config["APPLICATION_ROOT"],
                url_scheme=self.config["PREFERRED_URL_SCHEME"],
            )
        if self.config["TRUSTED_HOSTS"] is not None:
            request.trusted_hosts = self.config["TRUSTED_HOSTS"]
        # Checked here for its error; kept where a test or middleware changed the environ since.
        host = check_host(get_host(request.environ, request.trusted_hosts))
        request.host = host  # pyright: ignore[reportAttributeAccessIssue]  # such a property can be set
        subdomain = server_name = None
        if not self.url_map.host_matching:
            server_name = self.config["SERVER_NAME"]
            if not self.subdomain_matching:
                subdomain = self.url_map.default_subdomain or ""
        environ = request.environ if host else {**request.environ, "HTTP_HOST": ""}
        return self.url_map.bind_to_environ(environ, server_name=server_name, subdomain=subdomain)

    def url_for(
        self,
        /,
        endpoint: str,
        *,
        _anchor: str | None = None,
        _method: str | None = None,
        _scheme: str | None = None,
        _external: bool | None = None,
        **values: t.Any,
    ) -> str:
        """The URL of an endpoint; a leading dot means the current blueprint. Unknown values become the query."""
        return build_url(self, endpoint, values, _anchor, _method, _scheme, _external)

    def inject_url_defaults(self, endpoint: str, values: dict[str, t.Any]) -> None:
        blueprints = _split_blueprint_path(endpoint.rpartition(".")[0]) if "." in endpoint else ()
        for f in ordered(t.cast(t.Any, self.url_default_functions), URL_DEFAULTS, blueprints):
            self.ensure_sync(f)(endpoint, values)

    def handle_url_build_error(self, error: BuildError, endpoint: str, values: dict[str, t.Any]) -> str:
        """The first answer of `url_build_error_handlers`; without one the error goes on."""
        for handler in self.url_build_error_handlers:
            try:
                url: str = self.ensure_sync(handler)(error, endpoint, values)
            except BuildError as newer:
                error = newer
            else:
                if url is not None:
                    return url
        if error is sys.exc_info()[1]:
            raise
        raise error

    def redirect(self, location: str, code: int = 302) -> BaseResponse:
        return _werkzeug_redirect(location, code=code, Response=self.response_class)

    # Templates and resources

    @facade
    def update_template_context(self, context: dict[str, t.Any]) -> None:
        """Add what context processors give; what is there already wins."""
        update_template_context(self, context)

    def make_shell_context(self) -> dict[str, t.Any]:
        context: dict[str, t.Any] = {"app": self, "g": g}
        for processor in self.shell_context_processors:
            context.update(self.ensure_sync(processor)())
        return context

    def open_instance_resource(self, resource: str, mode: str = "rb", encoding: str | None = "utf-8") -> t.IO[t.Any]:
        """A file below `instance_path`."""
        path = os.path.join(self.instance_path, resource)
        return open(path, mode) if "b" in mode else open(path, mode, encoding=encoding)

    # Tools

    def run(
        self,
        host: str | None = None,
        port: int | None = None,
        debug: bool | None = None,
        load_dotenv: bool = True,
        **options: t.Any,
    ) -> None:
        """Serve for development, on uvicorn. Options: use_reloader, ssl_context, extra_files, uvicorn's own."""
        from .serving import run_from_app

        run_from_app(self, host, port, debug, load_dotenv, **options)

    def test_client(self, use_cookies: bool = True, **kwargs: t.Any) -> FlaskClient:
        cls = self.test_client_class
        if cls is None:
            from .testing import FlaskClient

            cls = FlaskClient
        return cls(self, self.response_class, use_cookies=use_cookies, **kwargs)

    def test_cli_runner(self, **kwargs: t.Any) -> FlaskCliRunner:
        cls = self.test_cli_runner_class
        if cls is None:
            from .testing import FlaskCliRunner

            cls = FlaskCliRunner
        return cls(self, **kwargs)

    # The two faces. Middleware wraps `asgi_app` or `wsgi_app`; the object itself stays the application.

    async def asgi_app(self, scope: ft.Scope, receive: ft.Receive, send: ft.Send) -> None:
        """The application as ASGI 3 knows it."""
        if self.mounts and (mount := self._find_mount(scope)) is not None:
            await mount.call_asgi(scope, receive, send)
        else:
            await _edge("asgi")[scope["type"]](self, scope, receive, send)

    @facade
    def wsgi_app(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """The application as WSGI knows it (PEP 3333)."""
        if not self._has_begun:
            self._begin_serving(environ)
        if self.mounts and (mount := self._find_mount(environ)) is not None:
            return mount.call_wsgi(environ, start_response)
        answer: Iterable[bytes] = _edge("wsgi")(self, environ, start_response)
        return answer

    @t.overload
    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse, /) -> Iterable[bytes]: ...
    @t.overload
    def __call__(self, scope: ft.Scope, receive: ft.Receive, send: ft.Send, /) -> Coroutine[t.Any, t.Any, None]: ...
    def __call__(self, *args: t.Any) -> t.Any:
        """`(scope, receive, send)` is ASGI, `(environ, start_response)` is WSGI."""
        return self.asgi_app(*args) if len(args) == 3 else self.wsgi_app(*args)


@functools.cache
def _edge(name: str) -> t.Any:
    """What serves a face, imported when first needed: asyncio costs those nothing who do not need it."""
    return import_module(f".{name}", __package__).SERVE
