"""Names that older Flask had, and what takes their place. They are missing here as in Flask 3.1, but say so."""

from __future__ import annotations

import typing as t
from collections.abc import Callable

_JSON_CLASS = "subclass asyncflask.json.provider.DefaultJSONProvider and set app.json_provider_class"
_REQUEST_STACK = "use asyncflask.globals.request_ctx in place of its 'top', and has_request_context()"
_APP_STACK = "use asyncflask.globals.app_ctx in place of its 'top', or asyncflask.g to keep something"
_SET_UP = "run the code while the application is set up, in 'with app.app_context():' where it needs one"
_DEBUG = "use asyncflask.helpers.get_debug_flag() or app.debug"
_SAFE_JOIN = "import it from werkzeug.utils"
_CACHED = "use functools.cached_property or werkzeug.utils.cached_property"
_SIGNALS = "signals are always available"
_JSON = "JSON is always available"

_STACKS = {"_request_ctx_stack": _REQUEST_STACK, "_app_ctx_stack": _APP_STACK}
FROM_MODULE: dict[str, dict[str, str]] = {
    "asyncflask": {
        **_STACKS,
        "Markup": "import it from markupsafe",
        "escape": "import it from markupsafe",
        "safe_join": _SAFE_JOIN,
        "signals_available": _SIGNALS,
        "json_available": _JSON,
        "ext": "import the extension by its own name, such as flask_login",
        "Module": "use asyncflask.Blueprint",
    },
    "asyncflask.ctx": _STACKS,
    "asyncflask.globals": {
        **_STACKS,
        "_lookup_req_object": "read the attribute from asyncflask.globals.request_ctx",
        "_lookup_app_object": "read the attribute from asyncflask.globals.app_ctx",
        "_find_app": "use asyncflask.current_app",
        "_request_ctx_err_msg": "check with asyncflask.has_request_context()",
        "_app_ctx_err_msg": "check with asyncflask.has_app_context()",
    },
    "asyncflask.helpers": {
        **_STACKS,
        "safe_join": _SAFE_JOIN,
        "total_seconds": "call timedelta.total_seconds()",
        "locked_cached_property": _CACHED,
        "get_env": _DEBUG,
        "is_ip": "use the standard library's ipaddress.ip_address()",
        "json_available": _JSON,
        "_PackageBoundObject": "use asyncflask.scaffold.Scaffold",
        "_endpoint_from_view_func": "use the view function's __name__",
    },
    "asyncflask.json": {
        "JSONEncoder": _JSON_CLASS,
        "JSONDecoder": _JSON_CLASS,
        "htmlsafe_dumps": "use jinja2.utils.htmlsafe_json_dumps, or the filter 'tojson' in a template",
        "htmlsafe_dump": "use jinja2.utils.htmlsafe_json_dumps and write what it gives",
        "tojson_filter": "use jinja2.utils.htmlsafe_json_dumps, or the filter 'tojson' in a template",
        "detect_encoding": "json.loads takes bytes and finds their encoding",
    },
    "asyncflask.signals": {"signals_available": _SIGNALS},
    "asyncflask.testing": {
        "make_test_environ_builder": "use asyncflask.testing.EnvironBuilder",
        "json_dumps": "use asyncflask.json.dumps",
    },
    "asyncflask.views": {"MethodViewType": "subclass asyncflask.views.MethodView; it needs no metaclass"},
    "asyncflask.wrappers": {"JSONMixin": "Request and Response have JSON of their own"},
}
_ENCODER = "subclass JSONProvider and set app.json_provider_class"
FROM_APP = {
    "before_first_request": _SET_UP,
    "before_first_request_funcs": _SET_UP,
    "try_trigger_before_first_request_functions": _SET_UP,
    "got_first_request": "keep a flag of your own in a before_request function",
    "env": "use app.debug, or a setting of your own",
    "json_encoder": _ENCODER,
    "json_decoder": _ENCODER,
    "session_cookie_name": "use app.config['SESSION_COOKIE_NAME']",
    "send_file_max_age_default": "use app.config['SEND_FILE_MAX_AGE_DEFAULT']",
    "use_x_sendfile": "use app.config['USE_X_SENDFILE']",
    "propagate_exceptions": "use app.config['PROPAGATE_EXCEPTIONS']",
    "templates_auto_reload": "use app.config['TEMPLATES_AUTO_RELOAD']",
    "preserve_context_on_exception": "the debugger and the test client keep the context by themselves",
    "open_session": "use app.session_interface.open_session(app, request)",
    "save_session": "use app.session_interface.save_session(app, session, response)",
    "make_null_session": "use app.session_interface.make_null_session(app)",
    "request_globals_class": "set app.app_ctx_globals_class",
    "init_jinja_globals": "override app.create_jinja_environment",
    "logger_name": "the logger has the application's name",
    "static_path": "use app.static_url_path",
    "error_handlers": "use app.register_error_handler",
}
FROM_BLUEPRINT = {
    "before_app_first_request": _SET_UP,
    "json_encoder": _ENCODER,
    "json_decoder": _ENCODER,
    "warn_on_modifications": "a change after the registration is an error",
}
FROM_CONFIG = {"from_json": "use from_file(name, load=json.load)"}


def explain(owner: str, name: str, gone: dict[str, str]) -> AttributeError:
    return AttributeError(f"{owner} has no attribute {name!r}{_hint(name, gone)}", name=name)


def _hint(name: str, gone: dict[str, str]) -> str:
    return f". It is gone from Flask: {gone[name]}." if name in gone else ""


def missing_from(module: str) -> Callable[[str], t.NoReturn]:
    """The `__getattr__` of a module: AttributeError, or ImportError in `from module import name`."""
    gone = FROM_MODULE[module]

    def __getattr__(name: str) -> t.NoReturn:
        # Python would replace an AttributeError by an ImportError without the hint.
        if name in gone and _is_from_import():
            raise ImportError(f"cannot import name {name!r} from {module!r}{_hint(name, gone)}", name=module)
        raise explain(f"module {module!r}", name, gone)

    return __getattr__


def _is_from_import() -> bool:
    """Whether the code that asks is at a `from … import …`, and not at an attribute or a `hasattr`."""
    import sys
    from opcode import opmap

    frame = sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__package__") == __package__:
        frame = frame.f_back
    return frame.f_code.co_code[frame.f_lasti] == opmap["IMPORT_FROM"]
