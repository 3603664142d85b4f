"""Serve an application while it is developed: what `asyncflask run` and `app.run()` do.

The process that was started binds the socket, so that a port in use is told at once, in one line. Under the
reloader the child inherits the socket: a reload refuses no connection, and port 0 stays the same port.
"""

from __future__ import annotations

import errno
import inspect
import os
import socket
import stat
import sys
import typing as t
from collections.abc import Callable

import click
from werkzeug import serving as werkzeug_serving
from werkzeug._reloader import run_with_reloader
from werkzeug.serving import get_sockaddr, is_running_from_reloader, select_address_family

from . import commands
from .paths import get_debug_flag, get_load_dotenv
from .typing import ASGIApp

if t.TYPE_CHECKING:
    from ssl import SSLContext

    from .app import Flask
    from .devserver import DevServer

Certificate = t.Union["SSLContext", tuple[str, str | None], t.Literal["adhoc"], None]

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 5000
BACKLOG = 128
# Seconds for which a reload waits for the shutdown hooks.
HOOKS_LIMIT = 10
# The environment variable that tells the reloader's child the descriptor of the socket.
FD_VARIABLE = "ASYNCFLASK_SERVER_FD"

BIND_ERRORS = {
    errno.EADDRINUSE: "another program uses it. Stop that program, or choose another port with --port",
    errno.EACCES: "this user may not use it. Choose a port above 1023 with --port",
    errno.EADDRNOTAVAIL: "this machine has no such address. Choose another one with --host",
}
# Addresses that mean every interface, and one of them that a browser can open.
ALL_INTERFACES = {"0.0.0.0": "127.0.0.1", "::": "::1"}

# Ours over uvicorn's. As in Flask, an application behind a proxy says so itself, with ProxyFix.
UVICORN_DEFAULTS: dict[str, t.Any] = {
    "interface": "asgi3",
    "lifespan": "auto",
    "proxy_headers": False,
    "timeout_graceful_shutdown": 1,
}
# uvicorn's command sees to these; given to its Config they would do nothing.
UVICORN_COMMAND_ONLY = {"app", "env_file", "factory", "reload", "workers"}


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
    sockets = None if elsewhere else [_open_listener(host, port, "https" if ssl_context else "http")]

    def make_server() -> DevServer:
        wants_debugger = debug if use_debugger is None else use_debugger
        served = _debug_app(app, host, use_evalex) if wants_debugger else app
        return _make_server(served, ssl_context, options)

    if debug if use_reloader is None else use_reloader:
        _run_reloading(make_server, sockets, watching)
    else:
        make_server().run(sockets)


# Werkzeug's names for app.run(), and for its reloader.
WATCHING_OPTIONS = {
    "extra_files": "extra_files",
    "exclude_patterns": "exclude_patterns",
    "reloader_interval": "interval",
    "reloader_type": "reloader_type",
}


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

    from .devserver import DevServer

    options = {**UVICORN_DEFAULTS, **options}
    certificate = _load_certificate(ssl_context)
    if certificate is not None:
        options["ssl_context_factory"] = lambda config, make_default: certificate
    return DevServer(Config(t.cast(t.Any, app), **options))


def _run_reloading(
    make_server: Callable[[], DevServer], sockets: list[socket.socket] | None, watching: dict[str, t.Any]
) -> None:
    """Start this very command again as a child that serves, and that is replaced when a file changes.

    In the child the server is made in its thread: Werkzeug first notes the state of the files, and a change that is
    made while uvicorn is imported is seen. The child leaves by SystemExit, after the server's shutdown hooks.
    """
    servers: list[DevServer] = []

    def serve() -> None:
        servers.append(make_server())
        servers[0].run(sockets)

    try:
        run_with_reloader(serve, **watching)
    except SystemExit as stop:
        _stop(servers, t.cast(int, stop.code))
        raise
    _stop(servers, 0)


def _stop(servers: list[DevServer], status: int) -> None:
    """Shut the reloader's child down; its parent has no server."""
    for server in servers:
        from .devserver import exit_later

        server.should_exit = True
        server.stopped.wait(HOOKS_LIMIT)
        exit_later(status)


def _load_certificate(ssl_context: Certificate) -> SSLContext | None:
    if ssl_context == "adhoc":
        return werkzeug_serving.generate_adhoc_ssl_context()
    if isinstance(ssl_context, tuple):
        return werkzeug_serving.load_ssl_context(*ssl_context)
    return ssl_context


def _open_listener(host: str, port: int, scheme: str) -> socket.socket:
    """A listening socket: the one inherited from the reloader, or a new one, which is announced."""
    inherited = os.environ.get(FD_VARIABLE)
    if is_running_from_reloader() and inherited:
        return socket.socket(fileno=int(inherited))
    try:
        listener = _bind(host, port)
    except OSError as error:
        reason = BIND_ERRORS.get(error.errno or 0, f"{error.strerror or error}")
        place = host if host.startswith("unix://") else f"Port {port} on {host}"
        click.secho(f"{place} cannot be served: {reason}.", fg="red", err=True)
        sys.exit(1)
    listener.set_inheritable(True)
    os.environ[FD_VARIABLE] = str(listener.fileno())
    _announce(listener, host, scheme)
    return listener


def _bind(host: str, port: int) -> socket.socket:
    family = select_address_family(host, port)
    local = host.startswith("unix://")
    address = get_sockaddr(host, port, family)
    if local:
        _remove_stale_socket(str(address))
    # With the protocol named, asyncio recognises TCP and switches Nagle's delay off.
    listener = socket.socket(family, socket.SOCK_STREAM, 0 if local else socket.IPPROTO_TCP)
    try:
        if not local:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _remove_stale_socket(path: str) -> None:
    """A socket's file outlives its server. Whatever else has this name stays, and the bind fails."""
    if os.path.exists(path) and stat.S_ISSOCK(os.stat(path).st_mode):
        os.unlink(path)


def _announce(listener: socket.socket, host: str, scheme: str) -> None:
    if host.startswith("unix://"):
        click.echo(f" * Running on {host} (Press CTRL+C to quit)")
        return
    if host in ALL_INTERFACES:
        click.echo(f" * Running on all addresses ({host})")
    shown = ALL_INTERFACES.get(host, host)
    shown = f"[{shown}]" if ":" in shown else shown
    click.echo(f" * Running on {scheme}://{shown}:{listener.getsockname()[1]} (Press CTRL+C to quit)")
    click.echo(" * This server is for development. In production, run the app on a server of its own.")


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
        commands.load_dotenv()
        if "FLASK_DEBUG" in os.environ:
            app.debug = get_debug_flag()
    if debug is not None:
        app.debug = bool(debug)
    host, port = _choose_address(host, port, app.config.get("SERVER_NAME"))
    for name in ("use_reloader", "use_debugger"):
        options.setdefault(name, app.debug)
    show_server_banner(app.debug, app.name)
    try:
        _choose_runner()(host, port, app, **options)
    finally:
        # So that an interactive session can go on with set-up and serve again.
        app._got_first_request = False


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


def _choose_runner() -> Callable[..., None]:
    """Flask calls Werkzeug's run_simple here; where a test or plug-in has replaced that, so do we."""
    run_simple = werkzeug_serving.run_simple
    if getattr(run_simple, "__module__", None) != werkzeug_serving.__name__:
        return run_simple
    return _run_served


def _run_served(host: str, port: int, app: t.Any, threaded: bool = True, **options: t.Any) -> None:
    """`threaded` is accepted as in Flask: sync views always have worker threads."""
    run_app(app, host, port, **options)
