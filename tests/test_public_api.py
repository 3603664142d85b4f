"""Every public name of Flask's exists, with Flask's signature. `DIFFERENCES` is the whole list of exceptions."""

from __future__ import annotations

import inspect
import subprocess
import sys
from importlib import import_module
from typing import TypeVar

import flask
import pytest
from werkzeug.local import LocalProxy

import asyncflask

# Name -> why it is not as in Flask. A row that is no longer needed fails.
DIFFERENCES = {
    "View.dispatch_request": "abstract; it says that a subclass gets what the rule captured",
    "FlaskClient()": "'face' says whether it speaks to the WSGI or the ASGI face",
    "FlaskGroup.get_command": "its second parameter is called as in click, which declares the method",
}

TOP_LEVEL = """
    Flask Blueprint Config Request Response abort after_this_request copy_current_request_context current_app flash g
    get_flashed_messages get_template_attribute has_app_context has_request_context json jsonify make_response redirect
    render_template render_template_string request send_file send_from_directory session stream_template
    stream_template_string stream_with_context url_for template_rendered before_render_template request_started
    request_finished request_tearing_down got_request_exception appcontext_pushed appcontext_popped
    appcontext_tearing_down message_flashed
""".split()

MODULES = """
    app blueprints cli config ctx debughelpers globals helpers json json.provider json.tag logging sessions signals
    templating testing typing views wrappers
""".split()

PRIVATE_BUT_USED = {
    "globals": "_cv_app _cv_request app_ctx request_ctx",
    "ctx": "_AppCtxGlobals",
    "debughelpers": "DebugFilesKeyError FormDataRoutingRedirect attach_enctype_error_multidict"
    " explain_template_loading_attempts",
    "cli": "find_best_app locate_app prepare_import get_version run_command NoAppException AppGroup ScriptInfo"
    " with_appcontext load_dotenv FlaskGroup pass_script_info CertParamType SeparatedPathType main"
    " shell_command routes_command",
    "logging": "default_handler has_level_handler wsgi_errors_stream create_logger",
    "helpers": "get_debug_flag get_load_dotenv get_root_path _prepare_send_file_kwargs werkzeug",
    "templating": "Environment DispatchingJinjaLoader _default_template_ctx_processor",
    "sessions": "SecureCookieSession NullSession SessionMixin SessionInterface SecureCookieSessionInterface"
    " session_json_serializer",
    "json.tag": "JSONTag TagDict PassDict TagTuple PassList TagBytes TagMarkup TagUUID TagDateTime"
    " TaggedJSONSerializer",
    "testing": "EnvironBuilder FlaskClient FlaskCliRunner",
    "app": "Flask",
    "blueprints": "Blueprint BlueprintSetupState",
    "views": "View MethodView http_method_funcs",
    "wrappers": "Request Response",
}

FLASK_NAMES = """
    aborter_class jinja_environment app_ctx_globals_class config_class json_provider_class jinja_options url_rule_class
    url_map_class test_client_class test_cli_runner_class request_class response_class session_interface default_config
    testing secret_key permanent_session_lifetime debug name logger jinja_env json aborter config extensions blueprints
    url_map cli import_name root_path instance_path subdomain_matching shell_context_processors
    teardown_appcontext_funcs url_build_error_handlers create_jinja_environment make_config make_aborter
    auto_find_instance_path create_global_jinja_loader select_jinja_autoescape register_blueprint iter_blueprints
    template_filter template_test template_global add_template_filter add_template_test add_template_global
    teardown_appcontext shell_context_processor wsgi_app app_context request_context test_request_context
    full_dispatch_request dispatch_request preprocess_request finalize_request process_response make_response
    make_default_options_response do_teardown_request do_teardown_appcontext handle_http_exception
    handle_user_exception handle_exception log_exception raise_routing_exception trap_http_exception
    should_ignore_error ensure_sync async_to_sync create_url_adapter url_for redirect inject_url_defaults
    handle_url_build_error update_template_context make_shell_context open_instance_resource run test_client
    test_cli_runner
""".split()

SCAFFOLD_NAMES = """
    static_folder has_static_folder static_url_path jinja_loader get post put delete patch route add_url_rule endpoint
    before_request after_request teardown_request context_processor url_value_preprocessor url_defaults errorhandler
    register_error_handler send_static_file get_send_file_max_age open_resource view_functions error_handler_spec
    before_request_funcs after_request_funcs teardown_request_funcs template_context_processors
    url_value_preprocessors url_default_functions
""".split()

BLUEPRINT_NAMES = """
    record record_once make_setup_state register register_blueprint before_app_request after_app_request
    teardown_app_request app_context_processor app_errorhandler app_url_value_preprocessor app_url_defaults
    app_template_filter app_template_test app_template_global add_app_template_filter add_app_template_test
    add_app_template_global cli
""".split()

CLASSES = {
    "Flask": lambda m: m.Flask,
    "Blueprint": lambda m: m.Blueprint,
    "BlueprintSetupState": lambda m: m.blueprints.BlueprintSetupState,
    "Config": lambda m: m.Config,
    "Request": lambda m: m.Request,
    "Response": lambda m: m.Response,
    "AppContext": lambda m: m.ctx.AppContext,
    "RequestContext": lambda m: m.ctx.RequestContext,
    "_AppCtxGlobals": lambda m: m.ctx._AppCtxGlobals,
    "View": lambda m: m.views.View,
    "MethodView": lambda m: m.views.MethodView,
    "SessionInterface": lambda m: m.sessions.SessionInterface,
    "SecureCookieSessionInterface": lambda m: m.sessions.SecureCookieSessionInterface,
    "SessionMixin": lambda m: m.sessions.SessionMixin,
    "JSONProvider": lambda m: m.json.provider.JSONProvider,
    "DefaultJSONProvider": lambda m: m.json.provider.DefaultJSONProvider,
    "TaggedJSONSerializer": lambda m: m.json.tag.TaggedJSONSerializer,
    "JSONTag": lambda m: m.json.tag.JSONTag,
    "FlaskClient": lambda m: m.testing.FlaskClient,
    "FlaskCliRunner": lambda m: m.testing.FlaskCliRunner,
    "EnvironBuilder": lambda m: m.testing.EnvironBuilder,
    "DispatchingJinjaLoader": lambda m: m.templating.DispatchingJinjaLoader,
    "Environment": lambda m: m.templating.Environment,
    "AppGroup": lambda m: m.cli.AppGroup,
    "FlaskGroup": lambda m: m.cli.FlaskGroup,
    "ScriptInfo": lambda m: m.cli.ScriptInfo,
}


def module_of(name: str, package: str):
    return import_module(f"{package}.{name}")


def parameters_of(f) -> list[tuple[str, str, object]] | None:
    """Names, kinds and defaults, without annotations."""
    try:
        signature = inspect.signature(f)
    except (TypeError, ValueError, RuntimeError):  # RuntimeError: a proxy with nothing behind it
        return None
    return [(p.name, p.kind.name, describe_default(p.default)) for p in signature.parameters.values()]


def describe_default(value: object) -> object:
    if value is inspect.Parameter.empty:
        return "no default"
    return value if isinstance(value, (str, int, float, bool, bytes, tuple, type(None))) else "an object"


def members_of(cls: type) -> dict[str, object]:
    """What Flask itself defines on a class, its bases within Flask included."""
    members: dict[str, object] = {}
    for base in reversed(cls.__mro__):
        if base.__module__.startswith("flask"):
            members.update({name: value for name, value in vars(base).items() if not name.startswith("_")})
    return members


def compare(name: str, flasks: object, ours: object, method: bool = False) -> list[str]:
    """The differences between two objects of the same name; a method's first parameter may be called as it likes."""
    if isinstance(flasks, (property, LocalProxy)) or not callable(flasks):
        return []
    method = method and not isinstance(flasks, staticmethod)
    flasks, ours = (f.__func__ if isinstance(f, (staticmethod, classmethod)) else f for f in (flasks, ours))
    if not callable(ours):
        return [f"{name} is not callable"]
    if isinstance(flasks, type):
        return [] if isinstance(ours, type) else [f"{name} is not a class"]
    expected, seen = (parameters and parameters[method:] for parameters in (parameters_of(flasks), parameters_of(ours)))
    return [] if expected == seen else [f"{name}: {seen} instead of {expected}"]


def differences() -> dict[str, str]:
    found: dict[str, str] = {}

    def note(name, flasks, owner):
        attribute = name.rpartition(".")[2]
        if not hasattr(owner, attribute):
            found[name] = "missing"
        else:
            ours = inspect.getattr_static(owner, attribute)
            for difference in compare(name, flasks, ours, isinstance(owner, type)):
                found[name] = difference

    for name in TOP_LEVEL:
        note(name, getattr(flask, name), asyncflask)
    for module_name in MODULES:
        flasks, ours = module_of(module_name, "flask"), module_of(module_name, "asyncflask")
        for name, value in vars(flasks).items():
            if (
                not name.startswith("_")
                and getattr(value, "__module__", "") == flasks.__name__
                and type(value) is not TypeVar
            ):
                note(f"{module_name}.{name}", value, ours)
        for name in PRIVATE_BUT_USED.get(module_name, "").split():
            note(f"{module_name}.{name}", getattr(flasks, name), ours)
    for class_name, get in CLASSES.items():
        for name, value in members_of(get(flask)).items():
            note(f"{class_name}.{name}", value, get(asyncflask))
        for difference in compare(class_name, get(flask).__init__, get(asyncflask).__init__, method=True):
            found[f"{class_name}()"] = difference
    return found


def test_differences_from_flask_are_the_known_ones():
    found = differences()
    unknown = {name: text for name, text in found.items() if name not in DIFFERENCES}
    assert not unknown, "\n".join(f"{name}: {text}" for name, text in unknown.items())
    assert set(DIFFERENCES) <= set(found), "rows that are no longer needed"
    assert all(DIFFERENCES.values())


@pytest.mark.parametrize(
    ("owner", "names"),
    [("Flask", FLASK_NAMES), ("Flask", SCAFFOLD_NAMES), ("Blueprint", SCAFFOLD_NAMES), ("Blueprint", BLUEPRINT_NAMES)],
)
def test_documented_names_are_on_instances(owner, names):
    app = asyncflask.Flask("app") if owner == "Flask" else asyncflask.Blueprint("bp", "bp")
    reference = flask.Flask("app") if owner == "Flask" else flask.Blueprint("bp", "bp")
    assert [name for name in names if hasattr(reference, name) != hasattr(app, name)] == []


@pytest.mark.parametrize(
    "name", ["_request_ctx_stack", "_app_ctx_stack", "Markup", "escape", "ext", "globals._app_ctx_stack"]
)
def test_names_that_must_not_exist(name):
    *modules, attribute = name.split(".")
    owner = import_module(".".join(["asyncflask", *modules]))
    assert not hasattr(owner, attribute)


@pytest.mark.parametrize("name", ["_request_ctx_stack", "_app_ctx_stack", "Markup", "escape"])
def test_names_that_are_gone_name_their_replacement(name):
    with pytest.raises((AttributeError, ImportError)) as caught:
        getattr(asyncflask, name)
    assert len(str(caught.value)) > len(f"module 'asyncflask' has no attribute '{name}'")


@pytest.mark.parametrize("name", ["before_first_request", "env", "json_encoder", "json_decoder", "session_cookie_name"])
def test_attributes_that_are_gone_name_their_replacement(name):
    app = asyncflask.Flask("app")
    assert not hasattr(app, name)
    with pytest.raises(AttributeError) as caught:
        getattr(app, name)
    assert len(str(caught.value)) > len(f"'Flask' object has no attribute '{name}'")


def test_no_module_scaffold():
    with pytest.raises(ImportError):
        import_module("asyncflask.no_such_module")


def test_instances_of_werkzeugs_classes():
    import werkzeug

    assert issubclass(asyncflask.Request, werkzeug.wrappers.Request)
    assert issubclass(asyncflask.Response, werkzeug.wrappers.Response)
    assert asyncflask.Flask.url_rule_class is werkzeug.routing.Rule
    assert issubclass(asyncflask.Flask.url_map_class, werkzeug.routing.Map)
    assert issubclass(asyncflask.Flask, asyncflask.app.Flask)


@pytest.mark.parametrize(
    "name", ["asyncio", "click", "anyio", "uvicorn", "dotenv", "ssl", "importlib.metadata", "flask", "quart"]
)
def test_the_import_is_light(name):
    ground = "werkzeug, jinja2, itsdangerous, blinker, markupsafe"  # Werkzeug itself brings ssl
    before = f"import sys, {ground}; before = set(sys.modules)"
    code = f"{before}; import asyncflask; sys.exit({name!r} in set(sys.modules) - before)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=20).returncode == 0


def test_default_config_begins_with_flasks():
    ours, flasks = dict(asyncflask.Flask.default_config), dict(flask.Flask.default_config)
    added = {key: ours.pop(key) for key in set(ours) - set(flasks)}
    assert ours == flasks
    assert added == {
        "WORKER_THREADS": 40,
        "WORKER_QUEUE_LIMIT": 1000,
        "BODY_TIMEOUT": 60,
        "BODY_SPOOL_SIZE": 1024 * 1024,
        "RESPONSE_TIMEOUT": None,
        "CANCEL_ON_DISCONNECT": False,
        "WEBSOCKET_ORIGINS": "any",
        "WEBSOCKET_MAX_MESSAGE_SIZE": 16777216,
        "FOLLOW_SYMLINKS": False,
        "MAX_JSON_SIZE": 2097152,
        "BACKGROUND_TASK_SHUTDOWN_TIMEOUT": 5,
        "SLOW_CALLBACK_MS": None,
    }
