"""Serve an application while it is developed: what `asyncflask run` and `app.run()` do.

run_app puts the pieces together: the socket (listening), the debugger, uvicorn (devserver), the reloader (reloading).
"""

from __future__ import annotations

import inspect
import os
import typing as t
from collections.abc import Awaitable, Callable
from ipaddress import ip_address

import click
from werkzeug import serving as werkzeug_serving
from werkzeug.serving import is_running_from_reloader

from . import envfiles
from .listening import open_listener
from .paths import get_debug_flag, get_load_dotenv
from .reloading import is_reloaded_child, run_reloading
from .typing import ASGIApp

if t.TYPE_CHECKING:
    from ssl import SSLContext

    from .app import Flask
    from .devserver import DevServer

Certificate = t.Union["SSLContext", tuple[str, str | None], t.Literal["adhoc"], None]

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 5000
# uvicorn's command sees to these; given to its Config they would do nothing.
UVICORN_COMMAND_ONLY = {"app", "env_file", "factory", "reload", "workers"}
# Werkzeug's names for app.run(), and for its reloader.
WATCHING_OPTIONS = {
    "extra_files": "extra_files",
    "exclude_patterns": "exclude_patterns",
    "reloader_interval": "interval",
    "reloader_type": "reloader_type",
}


def show_server_banner(debug: bool | None, app_import_path: str | None) -> None:
    """Say what is served; silent in the reloader's child."""
    if is_running_from_reloader():
        return
    if app_import_path is not None:
        click.echo(f" * Serving Flask app '{app_import_path}'")
    if debug is not None:
        click.echo(f" * Debug mode: {'on' if debug else 'off'}")


def run_app(
    app: ASGIApp,
    host: str = DEFAULT_HOST,
    port: int = DEFAULT_PORT,
    *,
    debug: bool = False,
    use_reloader: bool | None = None,
    use_debugger: bool | None = None,
    use_evalex: bool = True,
    ssl_context: Certificate = None,
    **options: t.Any,
) -> None:
    """Serve until Ctrl-C. Reloader and debugger follow `debug` where they are None.

    `options` are those of the reloader (WATCHING_OPTIONS) and of uvicorn.Config; TypeError for others.
    Exits with status 1 where the address cannot be bound.
    """
    watching = {name: options.pop(option) for option, name in WATCHING_OPTIONS.items() if option in options}
    if not is_running_from_reloader():
        _check_options(options)
    elsewhere = options.keys() & {"fd", "uds"}
    sockets = None if elsewhere else [open_listener(host, port, "https" if ssl_context else "http")]

    wants_debugger = debug if use_debugger is None else use_debugger
    if wants_debugger and use_evalex and not elsewhere:
        _warn_of_public_debugger(host)

    def make_server() -> DevServer:
        served = _debug_app(app, host, use_evalex) if wants_debugger else app
        return _make_server(served, ssl_context, options)

    wants_reloader = debug if use_reloader is None else use_reloader
    if wants_reloader or is_reloaded_child():
        run_reloading(make_server, sockets, watching)
    else:
        make_server().run(sockets)


def _warn_of_public_debugger(host: str) -> None:
    if is_running_from_reloader() or _is_loopback(host):
        return
    text = f"The debugger runs code for whoever learns its PIN, and {host} can be reached from other machines."
    click.secho(f"WARNING: {text} Leave out --debug, or serve on {DEFAULT_HOST}.", fg="red", err=True)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check_options(options: dict[str, t.Any]) -> None:
    from uvicorn import Config

    known = inspect.signature(Config).parameters.keys() - UVICORN_COMMAND_ONLY
    for name in options.keys() - known:
        raise TypeError(f"run() has no option {name!r}. Besides its own it takes: {', '.join(sorted(known))}.")


def _debug_app(app: ASGIApp, host: str, use_evalex: bool) -> ASGIApp:
    from .debugger import Debugger

    return Debugger(app, host, use_evalex)


def _make_server(app: ASGIApp, ssl_context: Certificate, options: dict[str, t.Any]) -> DevServer:
    from uvicorn import Config

    from .devserver import UVICORN_DEFAULTS, DevServer

    options = {**UVICORN_DEFAULTS, **options}
    certificate = _load_certificate(ssl_context)
    if certificate is not None:
        options["ssl_context_factory"] = lambda config, make_default: certificate
    return DevServer(Config(t.cast(t.Any, app), **options))


def _load_certificate(ssl_context: Certificate) -> SSLContext | None:
    if ssl_context == "adhoc":
        return werkzeug_serving.generate_adhoc_ssl_context()
    if isinstance(ssl_context, tuple):
        return werkzeug_serving.load_ssl_context(*ssl_context)
    return ssl_context


def run_from_app(
    app: Flask,
    host: str | None = None,
    port: int | None = None,
    debug: bool | None = None,
    load_dotenv: bool = True,
    **options: t.Any,
) -> None:
    """What `app.run()` does: address and debug mode as in Flask, then `run_app`. Ignored under a command."""
    if os.environ.get("FLASK_RUN_FROM_CLI") == "true":
        _tell_ignored()
        return
    if get_load_dotenv(load_dotenv):
        envfiles.load_dotenv()
        if "FLASK_DEBUG" in os.environ:
            app.debug = get_debug_flag()
    if debug is not None:
        app.debug = bool(debug)
    host, port = _choose_address(host, port, app.config.get("SERVER_NAME"))
    for name in ("use_reloader", "use_debugger"):
        options.setdefault(name, app.debug)
    options.pop("threaded", None)  # accepted as in Flask: sync views always have worker threads
    show_server_banner(app.debug, app.name)
    try:
        run_app(app, host, port, **options)
    finally:
        # So that an interactive session can go on with set-up and serve again.
        app._got_first_request = False


async def run_on_loop(
    app: Flask,
    host: str,
    port: int,
    debug: bool | None,
    certificate: Certificate,
    shutdown_trigger: Callable[[], Awaitable[object]] | None,
    options: dict[str, t.Any],
) -> None:
    """What `app.run_task()` awaits: serve on the running loop, until a signal or until `shutdown_trigger()` returns."""
    from asyncio import create_task

    from uvicorn import Server

    if debug is not None:
        app.debug = bool(debug)
    _check_options(options)
    listener = open_listener(host, port, "https" if certificate else "http")
    server = Server(_make_server(app, certificate, options).config)

    async def end() -> None:
        if shutdown_trigger is not None:
            await shutdown_trigger()
            server.should_exit = True

    ending = create_task(end())
    try:
        await server.serve(sockets=[listener])
    finally:
        ending.cancel()
        listener.close()


def _tell_ignored() -> None:
    if not is_running_from_reloader():
        click.secho(
            " * Ignoring a call to 'app.run()' that would block the current command.\n"
            "   Only call 'app.run()' in an 'if __name__ == \"__main__\"' guard.",
            fg="red",
        )


def _choose_address(host: str | None, port: int | None, server_name: str | None) -> tuple[str, int]:
    """What was given, else what SERVER_NAME says, else the defaults. Port 0 is given: any free one."""
    named_host, _, named_port = (server_name or "").partition(":")
    if not port and port != 0:
        port = int(named_port) if named_port else DEFAULT_PORT
    return host or named_host or DEFAULT_HOST, int(port)
