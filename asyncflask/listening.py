"""The development server's socket.

The process that was started binds it, so that a port in use is told at once, in one line. Under the reloader the child
inherits it: a reload refuses no connection, and port 0 stays the same port.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import sys

import click
from werkzeug.serving import get_sockaddr, is_running_from_reloader, select_address_family

BACKLOG = 128
# Tells the reloader's child the socket's descriptor.
FD_VARIABLE = "ASYNCFLASK_SERVER_FD"

BIND_ERRORS = {
    errno.EADDRINUSE: "another program uses it. Stop that program, or choose another port (--port, or port=)",
    errno.EACCES: "this user may not use it. Choose a port above 1023 (--port, or port=)",
    errno.EADDRNOTAVAIL: "this machine has no such address. Choose another one (--host, or host=)",
}
# Addresses that mean every interface, and one of them that a browser can open.
ALL_INTERFACES = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def open_listener(host: str, port: int, scheme: str) -> socket.socket:
    """A listening socket: the one inherited from the reloader, or a new one, which is announced.

    Exits with status 1 where the address cannot be bound.
    """
    if is_running_from_reloader() and FD_VARIABLE in os.environ:
        # Taken away, since the application's own child processes do not inherit the socket.
        return socket.socket(fileno=int(os.environ.pop(FD_VARIABLE)))
    listener = _bind_or_exit(host, port, listens=True)
    _announce(listener, host, scheme)
    return listener


def check_address(host: str, port: int) -> None:
    """Exits with status 1 where the address cannot be bound now."""
    # Who connected to a socket that listens would be cut off by the close.
    _bind_or_exit(host, port, listens=False).close()


def _bind_or_exit(host: str, port: int, listens: bool) -> socket.socket:
    try:
        return _bind(host, port, listens)
    except OSError as error:
        reason = BIND_ERRORS.get(error.errno or 0, f"{error.strerror or error}")
        place = host if host.startswith("unix://") else f"Port {port} on {host}"
        click.secho(f"{place} cannot be served: {reason}.", fg="red", err=True)
        sys.exit(1)


def hand_down(listener: socket.socket) -> None:
    """Let child processes that are started from now on have the socket."""
    listener.set_inheritable(True)
    os.environ[FD_VARIABLE] = str(listener.fileno())


def _bind(host: str, port: int, listens: bool) -> socket.socket:
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
        if listens:
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
