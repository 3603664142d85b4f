"""Blueprints: routes and hooks recorded now and registered on an application later, once or several times."""

from __future__ import annotations

import os
import typing as t
from collections import defaultdict
from collections.abc import Callable
from functools import update_wrapper

from . import typing as ft
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
    HookKind,
)
from .scaffold import F, Scaffold, _endpoint_from_view_func, _sentinel, pass_on, registers, setupmethod

if t.TYPE_CHECKING:
    from .app import Flask

DeferredSetupFunction = Callable[["BlueprintSetupState"], None]


class BlueprintSetupState:
    """One registration of a blueprint: its options, resolved, and a way to add rules under them."""

    def __init__(self, blueprint: Blueprint, app: Flask, options: t.Any, first_registration: bool) -> None:
        self.app = app
        self.blueprint = blueprint
        self.options = options
        self.first_registration = first_registration
        self.subdomain: str | None = _given(options.get("subdomain"), blueprint.subdomain)
        self.url_prefix: str | None = _given(options.get("url_prefix"), blueprint.url_prefix)
        self.name: str = options.get("name", blueprint.name)
        self.name_prefix: str = options.get("name_prefix", "")
        self.url_defaults: dict[str, t.Any] = {**blueprint.url_values_defaults, **dict(options.get("url_defaults", ()))}

    def add_url_rule(
        self,
        rule: str,
        endpoint: str | None = None,
        view_func: ft.RouteCallable | None = None,
        **options: t.Any,
    ) -> None:
        """Add a rule under the blueprint's prefix, subdomain, name and defaults."""
        if self.url_prefix is not None:
            rule = _join_paths(self.url_prefix, rule) if rule else self.url_prefix
        options.setdefault("subdomain", self.subdomain)
        if endpoint is None:
            endpoint = _endpoint_from_view_func(view_func)
        defaults = {**self.url_defaults, **options.pop("defaults", {})}
        full_name = f"{self.name_prefix}.{self.name}.{endpoint}".lstrip(".")
        self.app.add_url_rule(rule, full_name, view_func, defaults=defaults, **options)


def refuse_foreign(value: t.Any) -> None:
    """Raise TypeError for a blueprint or an application of Flask's or Quart's own, told by its name, not imported."""
    for cls in type(value).__mro__:
        package = cls.__module__.partition(".")[0]
        if package in ("flask", "quart") and cls.__name__ in ("Blueprint", "Flask", "Quart"):
            from .hints import WAYS_OUT

            raise TypeError(
                f"{value!r}, of module {value.import_name!r}, was made with {package}'s own class {cls.__name__}."
                f" {WAYS_OUT[package]}"
            )


def _given(value: t.Any, default: t.Any) -> t.Any:
    return default if value is None else value


def _join_paths(prefix: str, path: str) -> str:
    return f"{prefix.rstrip('/')}/{path.lstrip('/')}"


def _to_app_hooks(kind: HookKind) -> Callable[[F], F]:
    def add(blueprint: Blueprint, f: Callable[..., t.Any]) -> None:
        blueprint.record_once(lambda state: getattr(state.app, kind.attribute).setdefault(None, []).append(f))

    return registers(add)


class Blueprint(Scaffold):
    """A part of an application. `name` prefixes its endpoints and may not contain a dot."""

    _got_registered_once = False

    def __init__(
        self,
        name: str,
        import_name: str,
        static_folder: str | os.PathLike[str] | None = None,
        static_url_path: str | None = None,
        template_folder: str | os.PathLike[str] | None = None,
        url_prefix: str | None = None,
        subdomain: str | None = None,
        url_defaults: dict[str, t.Any] | None = None,
        root_path: str | None = None,
        cli_group: str | None = _sentinel,  # type: ignore[assignment]  # None has a meaning of its own
    ) -> None:
        super().__init__(import_name, static_folder, static_url_path, template_folder, root_path)
        if not name:
            raise ValueError("'name' may not be empty.")
        if "." in name:
            raise ValueError("'name' may not contain a dot '.' character.")
        self.name = name
        self.url_prefix = url_prefix
        self.subdomain = subdomain
        self.deferred_functions: list[DeferredSetupFunction] = []
        self.url_values_defaults: dict[str, t.Any] = {} if url_defaults is None else url_defaults
        self.cli_group = cli_group
        self._blueprints: list[tuple[Blueprint, dict[str, t.Any]]] = []

    def _check_setup_finished(self, f_name: str) -> None:
        if self._got_registered_once:
            raise AssertionError(
                f"The setup method '{f_name}' can no longer be called on the blueprint '{self.name}'. It has already"
                " been registered at least once, any changes will not be applied consistently.\n"
                "Make sure all imports, decorators, functions, etc. needed to set up the blueprint are done before"
                " registering it."
            )

    if not t.TYPE_CHECKING:  # for type checkers a missing name stays an error

        def __getattr__(self, name: str) -> t.NoReturn:
            from .gone import FROM_BLUEPRINT, explain

            raise explain(f"{type(self).__name__!r} object", name, FROM_BLUEPRINT)

    def open_resource(self, resource: str, mode: str = "rb", encoding: str | None = "utf-8") -> t.IO[t.Any]:
        """As Flask.open_resource, but text is UTF-8 by default."""
        return super().open_resource(resource, mode, encoding)

    # Recording

    @setupmethod
    def record(self, func: DeferredSetupFunction) -> None:
        """Call `func(state)` at each registration."""
        self.deferred_functions.append(func)

    @setupmethod
    def record_once(self, func: DeferredSetupFunction) -> None:
        """Call `func(state)` at the first registration on an application."""

        def wrapper(state: BlueprintSetupState) -> None:
            if state.first_registration:
                func(state)

        self.record(update_wrapper(wrapper, func))

    @setupmethod
    def register_blueprint(self, blueprint: Blueprint, **options: t.Any) -> None:
        """Nest `blueprint`: it is registered with this one, below its prefix, subdomain and name."""
        refuse_foreign(blueprint)
        if blueprint is self:
            raise ValueError("Cannot register a blueprint on itself")
        self._blueprints.append((blueprint, options))

    @setupmethod
    def add_url_rule(
        self,
        rule: str,
        endpoint: str | None = None,
        view_func: ft.RouteCallable | None = None,
        provide_automatic_options: bool | None = None,
        **options: t.Any,
    ) -> None:
        """Record a URL rule; as Flask.add_url_rule, relative to the blueprint."""
        if endpoint and "." in endpoint:
            raise ValueError("'endpoint' may not contain a dot '.' character.")
        if view_func and "." in getattr(view_func, "__name__", ""):
            raise ValueError("'view_func' name may not contain a dot '.' character.")
        self.record(
            lambda state: state.add_url_rule(
                rule, endpoint, view_func, provide_automatic_options=provide_automatic_options, **options
            )
        )

    # Hooks of the whole application

    @_to_app_hooks(BEFORE)
    def before_app_request(self, f: ft.T_before_request) -> ft.T_before_request:
        """before_request for every request."""
        return f

    @_to_app_hooks(AFTER)
    def after_app_request(self, f: ft.T_after_request) -> ft.T_after_request:
        """after_request for every request."""
        return f

    @_to_app_hooks(TEARDOWN)
    def teardown_app_request(self, f: ft.T_teardown) -> ft.T_teardown:
        """teardown_request for every request."""
        return f

    @_to_app_hooks(BEFORE_WEBSOCKET)
    def before_app_websocket(self, f: ft.T_before_websocket) -> ft.T_before_websocket:
        """before_websocket for every websocket."""
        return f

    @_to_app_hooks(AFTER_WEBSOCKET)
    def after_app_websocket(self, f: ft.T_after_websocket) -> ft.T_after_websocket:
        """after_websocket for every websocket."""
        return f

    @_to_app_hooks(TEARDOWN_WEBSOCKET)
    def teardown_app_websocket(self, f: ft.T_teardown) -> ft.T_teardown:
        """teardown_websocket for every websocket."""
        return f

    @_to_app_hooks(CONTEXT)
    def app_context_processor(self, f: ft.T_template_context_processor) -> ft.T_template_context_processor:
        """context_processor for all templates."""
        return f

    @_to_app_hooks(PREPROCESS)
    def app_url_value_preprocessor(self, f: ft.T_url_value_preprocessor) -> ft.T_url_value_preprocessor:
        """url_value_preprocessor for every request."""
        return f

    @_to_app_hooks(URL_DEFAULTS)
    def app_url_defaults(self, f: ft.T_url_defaults) -> ft.T_url_defaults:
        """url_defaults for every endpoint."""
        return f

    @setupmethod
    def before_app_serving(self, f: ft.T_serving) -> ft.T_serving:
        """Flask.before_serving."""
        self.record_once(lambda state: state.app.before_serving_funcs.append(f))
        return f

    @setupmethod
    def while_app_serving(self, f: ft.T_while_serving) -> ft.T_while_serving:
        """Flask.while_serving."""
        self.record_once(lambda state: state.app.while_serving_funcs.append(f))
        return f

    @setupmethod
    def after_app_serving(self, f: ft.T_serving) -> ft.T_serving:
        """Flask.after_serving."""
        self.record_once(lambda state: state.app.after_serving_funcs.append(f))
        return f

    @setupmethod
    def app_errorhandler(self, code: type[Exception] | int) -> Callable[[ft.T_error_handler], ft.T_error_handler]:
        """errorhandler for every request."""

        def decorator(f: ft.T_error_handler) -> ft.T_error_handler:
            self.record_once(lambda state: state.app.register_error_handler(code, f))
            return f

        return decorator

    @setupmethod
    def app_template_filter(self, name: str | None = None) -> Callable[[ft.T_template_filter], ft.T_template_filter]:
        """Decorate a template filter for all templates of the application."""
        return pass_on(self.add_app_template_filter, name)

    @setupmethod
    def add_app_template_filter(self, f: ft.TemplateFilterCallable, name: str | None = None) -> None:
        """Register a template filter of the application; `name` is the function's by default."""
        self.record_once(lambda state: state.app.add_template_filter(f, name))

    @setupmethod
    def app_template_test(self, name: str | None = None) -> Callable[[ft.T_template_test], ft.T_template_test]:
        """Decorate a template test for all templates of the application."""
        return pass_on(self.add_app_template_test, name)

    @setupmethod
    def add_app_template_test(self, f: ft.TemplateTestCallable, name: str | None = None) -> None:
        """Register a template test of the application; `name` is the function's by default."""
        self.record_once(lambda state: state.app.add_template_test(f, name))

    @setupmethod
    def app_template_global(self, name: str | None = None) -> Callable[[ft.T_template_global], ft.T_template_global]:
        """Decorate a template global for all templates of the application."""
        return pass_on(self.add_app_template_global, name)

    @setupmethod
    def add_app_template_global(self, f: ft.TemplateGlobalCallable, name: str | None = None) -> None:
        """Register a template global of the application; `name` is the function's by default."""
        self.record_once(lambda state: state.app.add_template_global(f, name))

    # Registering

    def make_setup_state(
        self, app: Flask, options: dict[str, t.Any], first_registration: bool = False
    ) -> BlueprintSetupState:
        return BlueprintSetupState(self, app, options, first_registration)

    def register(self, app: Flask, options: dict[str, t.Any]) -> None:
        """Called by Flask.register_blueprint. Raises ValueError for a name that is taken."""
        refuse_foreign(app)
        name = f"{options.get('name_prefix', '')}.{options.get('name', self.name)}".lstrip(".")
        self._check_name_free(app, name, options.get("name", self.name))
        first_registration = not any(blueprint is self for blueprint in app.blueprints.values())
        app.blueprints[name] = self
        self._got_registered_once = True
        state = self.make_setup_state(app, options, first_registration)
        if self.has_static_folder:
            rule = f"{self.static_url_path}/<path:filename>"
            state.add_url_rule(rule, view_func=self.send_static_file, endpoint="static")
        self._merge_functions(app, name)
        for deferred in self.deferred_functions:
            deferred(state)
        self._register_commands(app, name, options)
        for child, child_options in self._blueprints:
            child.register(app, _nested_options(state, name, child, child_options))

    def _check_name_free(self, app: Flask, name: str, own_name: str) -> None:
        if name in app.blueprints:
            which = "this" if app.blueprints[name] is self else "a different"
            where = "" if own_name == name else f" '{name}'"
            raise ValueError(
                f"The name '{own_name}' is already registered for {which} blueprint{where}."
                " Use 'name=' to provide a unique name."
            )

    def _merge_functions(self, app: Flask, name: str) -> None:
        """Hand this blueprint's hooks, handlers and views to the application, under its registered name."""

        def full(key: str | None) -> str:
            return name if key is None else f"{name}.{key}"

        for key, by_code in self.error_handler_spec.items():
            copies = {code: dict(handlers) for code, handlers in by_code.items()}
            app.error_handler_spec[full(key)] = defaultdict(dict, copies)
        app.view_functions.update(self.view_functions)
        for kind in HOOK_KINDS:
            target = getattr(app, kind.attribute)
            for key, functions in getattr(self, kind.attribute).items():
                target[full(key)].extend(functions)

    def _register_commands(self, app: Flask, name: str, options: dict[str, t.Any]) -> None:
        if "cli" not in self.__dict__ or not self.cli.commands:
            return
        group = options.get("cli_group", self.cli_group)
        if group is None:
            app.cli.commands.update(self.cli.commands)
        else:
            self.cli.name = name if group is _sentinel else group
            app.cli.add_command(self.cli)


def _nested_options(
    state: BlueprintSetupState, name: str, child: Blueprint, options: dict[str, t.Any]
) -> dict[str, t.Any]:
    """The child's options below its parent's prefix, subdomain and name."""
    options = options.copy()
    subdomain = _given(options.get("subdomain"), child.subdomain)
    if state.subdomain is not None:
        subdomain = state.subdomain if subdomain is None else f"{subdomain}.{state.subdomain}"
    if subdomain is not None:
        options["subdomain"] = subdomain
    prefix = _given(options.get("url_prefix"), child.url_prefix)
    if state.url_prefix is not None:
        prefix = state.url_prefix if prefix is None else _join_paths(state.url_prefix, prefix)
    if prefix is not None:
        options["url_prefix"] = prefix
    options["name_prefix"] = name
    return options
