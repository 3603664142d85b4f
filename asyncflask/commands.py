"""Commands that know the application: how it is loaded, how its context is pushed, and their groups."""

from __future__ import annotations

import inspect
import os
import platform
import re
import traceback
import typing as t
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from functools import update_wrapper, wraps

import click
from click.core import ParameterSource

from .alias import FLASK_VERSION
from .bridge import adopt
from .discovery import NoAppException, locate_app, prepare_import
from .envfiles import load_dotenv
from .globals import current_app
from .paths import get_debug_flag, get_load_dotenv

if t.TYPE_CHECKING:
    from .app import Flask

F = t.TypeVar("F", bound=Callable[..., t.Any])
P = t.ParamSpec("P")
R = t.TypeVar("R")

DEFAULT_FILES = ("wsgi.py", "app.py")
# `asyncflask.commands` is for plug-ins written for us; Flask's own group is read too.
PLUGIN_GROUPS = ("flask.commands", "asyncflask.commands")


class ScriptInfo:
    """What click carries as `obj`: it loads the application once, from an import path or a factory."""

    def __init__(
        self,
        app_import_path: str | None = None,
        create_app: Callable[..., Flask] | None = None,
        set_debug_flag: bool = True,
        load_dotenv_defaults: bool = True,
    ) -> None:
        self.app_import_path = app_import_path
        self.create_app = create_app
        self.data: dict[t.Any, t.Any] = {}
        self.set_debug_flag = set_debug_flag
        self.load_dotenv_defaults: bool = get_load_dotenv(load_dotenv_defaults)
        self._loaded_app: Flask | None = None

    def load_app(self) -> Flask:
        """The application, found at the first call. Raises NoAppException."""
        if self._loaded_app is None:
            app = self._find_app()
            if self.set_debug_flag:
                app.debug = get_debug_flag()
            self._loaded_app = app
        return self._loaded_app

    def _find_app(self) -> Flask:
        if self.create_app is not None:
            app: Flask | None = self.create_app()
        elif self.app_import_path:
            app = _import_app(self.app_import_path)
        else:
            found = (locate_app(prepare_import(file), None, False) for file in DEFAULT_FILES)
            app = next((app for app in found if app is not None), None)
        if app is None:
            raise NoAppException(
                "No Flask application was found. Name one with 'asyncflask --app' or in the environment"
                " variable 'FLASK_APP', or keep it in a file 'wsgi.py' or 'app.py' in the current directory."
            )
        return app


def _import_app(import_path: str) -> Flask:
    # A colon before a slash belongs to a Windows drive.
    path, *name = re.split(r":(?![\\/])", import_path, maxsplit=1)
    return locate_app(prepare_import(path), name[0] if name else None)


def pass_script_info(f: Callable[t.Concatenate[ScriptInfo, P], R]) -> Callable[P, R]:
    """Decorate a command that takes the `ScriptInfo` first."""
    return click.make_pass_decorator(ScriptInfo, ensure=True)(f)


def finish(result: t.Any) -> t.Any:
    """The value of a callback: the coroutine of an `async def` one is run to its end on an event loop."""
    if not inspect.iscoroutine(result):
        return result
    import asyncio

    context = copy_context()
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        value = _run(result, context)
    else:
        # A command that is invoked from async code, as a test may do: that loop is busy with waiting for us.
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(1) as pool:
            value = pool.submit(_run, result, context).result()
    adopt(context)
    return value


def _run(coro: Coroutine[t.Any, t.Any, t.Any], context: Context) -> t.Any:
    import asyncio

    with asyncio.Runner() as runner:
        return runner.run(coro, context=context)


def with_appcontext(f: F) -> F:
    """Run a callback, sync or async, with the application's context pushed."""

    @click.pass_context
    def call(ctx: click.Context, /, *args: t.Any, **kwargs: t.Any) -> t.Any:
        if not current_app:
            app = ctx.ensure_object(ScriptInfo).load_app()
            ctx.with_resource(app.app_context())
        return finish(ctx.invoke(f, *args, **kwargs))

    return t.cast(F, update_wrapper(call, f))


def _without_appcontext(f: F) -> F:
    @wraps(f)
    def call(*args: t.Any, **kwargs: t.Any) -> t.Any:
        return finish(f(*args, **kwargs))

    return t.cast(F, call)


class AppGroup(click.Group):
    """A click group whose commands run with the application's context pushed, and may be `async def`."""

    def command(self, *args: t.Any, **kwargs: t.Any) -> t.Any:
        """As click's; `with_appcontext=False` leaves the context away."""
        if args and callable(args[0]):  # used without parentheses
            return self.command(*args[1:], **kwargs)(args[0])
        wrap = with_appcontext if kwargs.pop("with_appcontext", True) else _without_appcontext
        register = super().command(*args, **kwargs)
        return lambda f: register(wrap(f))

    def group(self, *args: t.Any, **kwargs: t.Any) -> t.Any:
        """As click's; the new group is an AppGroup."""
        kwargs.setdefault("cls", AppGroup)
        return super().group(*args, **kwargs)


def get_version(ctx: click.Context, param: click.Parameter, value: t.Any) -> None:
    """Print the versions that matter and leave; the callback of `--version`."""
    if not value or ctx.resilient_parsing:
        return
    from importlib.metadata import PackageNotFoundError, version

    try:
        own = version("asyncflask")
    except PackageNotFoundError:  # run from a checkout
        own = "(not installed)"
    lines = (
        f"Python {platform.python_version()}",
        f"asyncflask {own}, as Flask {FLASK_VERSION}",
        f"Werkzeug {version('werkzeug')}",
    )
    click.echo("\n".join(lines), color=ctx.color)
    ctx.exit()


def _set_app(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value is not None:
        ctx.ensure_object(ScriptInfo).app_import_path = value
    return value


def _set_debug(ctx: click.Context, param: click.Parameter, value: bool) -> bool | None:
    source = ctx.get_parameter_source(param.name or "")
    # A flag that was not given says nothing: FLASK_DEBUG decides.
    if source in (ParameterSource.DEFAULT, ParameterSource.DEFAULT_MAP):
        return None
    # In the environment, so that a factory can read it while it makes the application.
    os.environ["FLASK_DEBUG"] = "1" if value else "0"
    return value


def _load_env_file(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    defaults = ctx.obj.load_dotenv_defaults
    if value is not None:
        try:
            import dotenv  # noqa: F401  # whether it is there
        except ImportError:
            raise click.BadParameter("An env file needs python-dotenv to be installed.", ctx, param) from None
    if value is not None or defaults:
        load_dotenv(value, load_defaults=defaults)
    return value


# The first two are eager, and in this order: what a file sets is there for --app, and the application is
# there for --help, which lists its commands.
env_file_option: click.Option = click.Option(
    ["-e", "--env-file"],
    type=click.Path(exists=True, dir_okay=False),
    help="Read environment variables from this file, which wins over '.env' and '.flaskenv'. Those which are"
    " set already win over all. Needs python-dotenv.",
    is_eager=True,
    expose_value=False,
    callback=_load_env_file,
)
app_option: click.Option = click.Option(
    ["-A", "--app"],
    metavar="IMPORT",
    help="The Flask application, as 'module:name' or 'module:factory(args)'. The module is a dotted name or a"
    " path. The name may be left out if it is 'app', 'application', 'create_app' or 'make_app'.",
    is_eager=True,
    expose_value=False,
    callback=_set_app,
)
debug_option: click.Option = click.Option(
    ["--debug/--no-debug"], help="Switch debug mode on or off.", expose_value=False, callback=_set_debug
)
version_option: click.Option = click.Option(
    ["--version"],
    help="Show the versions in use.",
    expose_value=False,
    callback=get_version,
    is_flag=True,
    is_eager=True,
)


class FlaskGroup(AppGroup):
    """An AppGroup with the commands of the application and of plug-ins, and `run`, `shell` and `routes`."""

    def __init__(
        self,
        add_default_commands: bool = True,
        create_app: Callable[..., Flask] | None = None,
        add_version_option: bool = True,
        load_dotenv: bool = True,
        set_debug_flag: bool = True,
        **extra: t.Any,
    ) -> None:
        own = [env_file_option, app_option, debug_option, *([version_option] if add_version_option else ())]
        settings = extra.setdefault("context_settings", {})
        settings.setdefault("auto_envvar_prefix", "FLASK")
        super().__init__(params=[*(extra.pop("params", None) or ()), *own], **extra)
        self.create_app = create_app
        self.load_dotenv = load_dotenv
        self.set_debug_flag = set_debug_flag
        self._loaded_plugin_commands = False
        if add_default_commands:
            from .cli import routes_command, run_command, shell_command

            for command in (run_command, shell_command, routes_command):
                self.add_command(command)

    def _load_plugin_commands(self) -> None:
        if self._loaded_plugin_commands:
            return
        self._loaded_plugin_commands = True
        from importlib.metadata import entry_points

        for group in PLUGIN_GROUPS:
            for entry in entry_points(group=group):
                try:
                    self.add_command(entry.load(), entry.name)
                except ModuleNotFoundError as error:
                    if error.name != "flask":
                        raise  # a plug-in that speaks to Flask itself is left out where there is none

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        self._load_plugin_commands()
        # What needs no application is there even if the application is broken.
        command = super().get_command(ctx, cmd_name)
        if command is not None:
            return command
        try:
            app = ctx.ensure_object(ScriptInfo).load_app()
        except NoAppException as error:
            _show_error(f"Error: {error.format_message()}")
            return None
        # For the callbacks of the command's parameters, which run before the command does.
        if not current_app or current_app._get_current_object() is not app:  # type: ignore[attr-defined]  # a proxy
            ctx.with_resource(app.app_context())
        return app.cli.get_command(ctx, cmd_name)

    def list_commands(self, ctx: click.Context) -> list[str]:
        self._load_plugin_commands()
        names = set(super().list_commands(ctx))
        try:
            names.update(ctx.ensure_object(ScriptInfo).load_app().cli.list_commands(ctx))
        except NoAppException as error:
            _show_error(f"Error: {error.format_message()}")
        except Exception:
            _show_error(traceback.format_exc())
        return sorted(names)

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: t.Any
    ) -> click.Context:
        # An app.run() without a guard must not serve while a command imports its module.
        os.environ["FLASK_RUN_FROM_CLI"] = "true"
        if "obj" not in (*extra, *self.context_settings):
            extra["obj"] = self._make_script_info()
        return super().make_context(info_name, args, parent=parent, **extra)

    def _make_script_info(self) -> ScriptInfo:
        return ScriptInfo(
            create_app=self.create_app, set_debug_flag=self.set_debug_flag, load_dotenv_defaults=self.load_dotenv
        )

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        wants_help = len(args) == 1 and args[0] in self.get_help_option_names(ctx)
        if wants_help or (not args and self.no_args_is_help):
            # Help ends the parsing before these options are read, yet it lists the application's commands.
            env_file_option.handle_parse_result(ctx, {}, [])
            app_option.handle_parse_result(ctx, {}, [])
        return super().parse_args(ctx, args)


def _show_error(text: str) -> None:
    click.secho(f"{text}\n", err=True, fg="red")
