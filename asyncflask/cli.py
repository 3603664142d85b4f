"""The command line: `run`, `shell` and `routes`, and every name that Flask's module `cli` has."""

from __future__ import annotations

import os
import traceback
import typing as t
from collections.abc import Iterator
from operator import itemgetter

import click
from werkzeug.routing import Rule
from werkzeug.serving import is_running_from_reloader
from werkzeug.utils import import_string

from .commands import (
    AppGroup,
    FlaskGroup,
    ScriptInfo,
    debug_option,
    get_version,
    pass_script_info,
    version_option,
    with_appcontext,
)
from .discovery import NoAppException, find_app_by_string, find_best_app, locate_app, prepare_import
from .envfiles import load_dotenv
from .globals import current_app
from .paths import get_debug_flag, get_load_dotenv
from .serving import DEFAULT_HOST, DEFAULT_PORT, Certificate, run_app, show_server_banner
from .typing import ASGIApp, Receive, Scope, Send

__all__ = [
    "AppGroup",
    "CertParamType",
    "FlaskGroup",
    "NoAppException",
    "ScriptInfo",
    "SeparatedPathType",
    "cli",
    "current_app",
    "find_app_by_string",
    "find_best_app",
    "get_debug_flag",
    "get_load_dotenv",
    "get_version",
    "load_dotenv",
    "locate_app",
    "main",
    "pass_script_info",
    "prepare_import",
    "routes_command",
    "run_command",
    "shell_command",
    "show_server_banner",
    "version_option",
    "with_appcontext",
]


if t.TYPE_CHECKING:
    ParamType = click.ParamType[t.Any]  # generic only in newer releases of click
else:
    ParamType = click.ParamType


class CertParamType(ParamType):
    """A certificate: an existing file, ``adhoc``, or the import name of an SSLContext."""

    name = "path"

    def __init__(self) -> None:
        self.path_type: click.Path = click.Path(exists=True, dir_okay=False, resolve_path=True)

    def convert(self, value: t.Any, param: click.Parameter | None, ctx: click.Context | None) -> t.Any:
        try:
            import ssl
        except ImportError:
            raise click.BadParameter('"--cert" needs a Python that was built with ssl.', ctx, param) from None
        try:
            return self.path_type(value, param, ctx)
        except click.BadParameter:
            name = click.STRING(value, param, ctx)
            if name.lower() == "adhoc":
                return _require_cryptography(ctx, param)
            context = import_string(name, silent=True)
            if isinstance(context, ssl.SSLContext):
                return context
            raise


def _require_cryptography(ctx: click.Context | None, param: click.Parameter | None) -> str:
    try:
        import cryptography  # noqa: F401  # whether it is there
    except ImportError:
        raise click.BadParameter("An ad-hoc certificate needs cryptography.", ctx, param) from None
    return "adhoc"


def _join_key(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Make `cert` the pair of files; a certificate in a file needs a key, another kind must not have one."""
    cert = ctx.params.get("cert")
    if value is None:
        if isinstance(cert, str) and cert != "adhoc":
            raise click.BadParameter('A certificate in a file needs "--key".', ctx, param)
    elif not cert:
        raise click.BadParameter('"--key" belongs to a certificate: give "--cert" too.', ctx, param)
    elif isinstance(cert, str) and cert != "adhoc":
        ctx.params["cert"] = cert, value
    else:
        raise click.BadParameter('"--key" is used only with a "--cert" that is a file.', ctx, param)
    return value


class SeparatedPathType(click.Path):
    """Paths in one value, separated as in the variable PATH."""

    def convert(self, value: t.Any, param: click.Parameter | None, ctx: click.Context | None) -> t.Any:
        convert = super().convert
        return [convert(item, param, ctx) for item in self.split_envvar_value(value)]


@click.command("run", short_help="Run a development server.")
@click.option("--host", "-h", default=DEFAULT_HOST, help="The interface to bind to.")
@click.option("--port", "-p", type=click.IntRange(0, 65535), default=DEFAULT_PORT, help="The port to bind to.")
@click.option("--cert", type=CertParamType(), is_eager=True, help="A certificate file or 'adhoc', for HTTPS.")
@click.option(
    "--key",
    type=click.Path(exists=True, dir_okay=False, resolve_path=True),
    callback=_join_key,
    expose_value=False,
    help="The file with the certificate's key.",
)
@click.option("--reload/--no-reload", default=None, help="Restart when a file changes. Default: in debug mode.")
@click.option("--debugger/--no-debugger", default=None, help="Show errors in a debugger. Default: in debug mode.")
@click.option(
    "--with-threads/--without-threads",
    default=True,
    expose_value=False,
    help="Accepted as in Flask: sync views always run in worker threads.",
)
@click.option(
    "--extra-files",
    default=None,
    type=SeparatedPathType(),
    help=f"More files that restart the server when they change, separated by {os.pathsep!r}.",
)
@click.option(
    "--exclude-patterns",
    default=None,
    type=SeparatedPathType(),
    help=f"Files that match these fnmatch patterns restart nothing. Separated by {os.pathsep!r}.",
)
@click.option(
    "--workers",
    type=click.IntRange(1),
    default=1,
    help="How many processes serve, without reloader and debugger. Default: 1.",
)
@pass_script_info
def run_command(
    info: ScriptInfo,
    host: str,
    port: int,
    reload: bool | None,
    debugger: bool | None,
    cert: Certificate,
    extra_files: list[str] | None,
    exclude_patterns: list[str] | None,
    workers: int,
) -> None:
    """Run a development server, on uvicorn.

    Debug mode ('--debug') switches reloader and debugger on. In production, give the application to a server
    of its own: 'uvicorn module:app', or any other that speaks ASGI or WSGI.
    """
    app = _load_or_explain(info)
    debug = get_debug_flag()
    show_server_banner(debug, info.app_import_path)
    if workers > 1:
        if reload or debugger:
            raise click.UsageError('"--reload" and "--debugger" are for one process, not for "--workers".')
        from .processes import run_workers

        return run_workers(info, workers, host, port, cert)
    run_app(
        app,
        host,
        port,
        debug=debug,
        use_reloader=reload,
        use_debugger=debugger,
        ssl_context=cert,
        extra_files=extra_files,
        exclude_patterns=exclude_patterns,
    )


run_command.params.insert(0, debug_option)


def _load_or_explain(info: ScriptInfo) -> ASGIApp:
    """The application. If it broke before a reload: one that raises the error until the file is mended."""
    try:
        return t.cast(ASGIApp, info.load_app())
    except Exception as error:
        if not is_running_from_reloader():
            raise
        traceback.print_exc()
        reason, place = error, error.__traceback__

    async def raise_reason(scope: Scope, receive: Receive, send: Send) -> None:
        raise reason.with_traceback(place)  # which otherwise would grow with each request

    return raise_reason


@click.command("shell", short_help="Run a shell in the app context.")
@with_appcontext
def shell_command() -> None:
    """Run a Python shell in which the application's context is pushed.

    Its names are those of the application's shell context processors. 'await' may stand outside of functions.
    """
    from .shell import run_shell

    run_shell(current_app._get_current_object())  # type: ignore[attr-defined]  # a proxy


@click.command("routes", short_help="Show the routes for the app.")
@click.option(
    "--sort",
    "-s",
    type=click.Choice(("endpoint", "methods", "domain", "rule", "match")),
    default="endpoint",
    help="What the routes are sorted by; 'match' is the order in which they are tried.",
)
@click.option("--all-methods", is_flag=True, help="Show HEAD and OPTIONS too.")
@with_appcontext
def routes_command(sort: str, all_methods: bool) -> None:
    """Show the routes with their endpoints and methods, and where their views run.

    'loop': all on the event loop; 'thread': all in a worker thread; 'mixed': some steps here, some there.
    """
    rules = list(current_app.url_map.iter_rules())
    if not rules:
        click.echo("No routes were registered.")
        return
    hidden = set() if all_methods else {"HEAD", "OPTIONS"}
    columns = dict(_make_columns(rules, hidden))
    rows = list(zip(*columns.values(), strict=True))
    titles = [title for title, _ in columns]
    keys = [key for _, key in columns]
    if sort in keys:
        rows.sort(key=itemgetter(keys.index(sort)))
    _print_table(titles, rows)


def _make_columns(rules: list[Rule], hidden: set[str]) -> Iterator[tuple[tuple[str, str], list[str]]]:
    """``((title, what --sort calls it), values)`` of each column."""
    from .plan import describe_place

    by_host = current_app.url_map.host_matching
    domains = [(rule.host if by_host else rule.subdomain) or "" for rule in rules]
    yield ("Endpoint", "endpoint"), [rule.endpoint for rule in rules]
    yield ("Methods", "methods"), [_name_methods(rule, hidden) for rule in rules]
    if any(domains):
        yield ("Host" if by_host else "Subdomain", "domain"), domains
    yield ("Rule", "rule"), [rule.rule for rule in rules]
    app = current_app._get_current_object()  # type: ignore[attr-defined]  # a proxy
    yield ("Runs", ""), [describe_place(app, rule) for rule in rules]


def _name_methods(rule: Rule, hidden: set[str]) -> str:
    return "WS" if rule.websocket else ", ".join(sorted((rule.methods or set()) - hidden))


def _print_table(titles: list[str], rows: list[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    lines = "-" * max(widths)
    for row in (titles, [lines[:width] for width in widths], *rows):
        click.echo("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)))


def _install_alias(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if not value:
        return
    from .alias import install

    try:
        install()
    except RuntimeError as error:
        raise click.ClickException(str(error)) from None


as_flask_option: click.Option = click.Option(
    ["--as-flask"],
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_install_alias,
    help="Let 'import flask' mean asyncflask, so that an application written for Flask is served as it is.",
)

cli: FlaskGroup = FlaskGroup(
    name="asyncflask",
    params=[as_flask_option],
    help="""\
Commands for Flask applications, served by asyncflask.

The application is given with the '--app' option, with the 'FLASK_APP' environment variable,
or by a file 'wsgi.py' or 'app.py' in the current directory.
""",
)


def main() -> None:
    cli.main()


if __name__ == "__main__":
    main()
