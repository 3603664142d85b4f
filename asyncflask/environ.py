"""One request's head in two forms: an ASGI scope, and the WSGI environ (PEP 3333) made of it where one is asked for."""

from __future__ import annotations

import re
import sys
import typing as t
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property

from werkzeug.datastructures import Headers
from werkzeug.datastructures.mixins import ImmutableHeadersMixin
from werkzeug.exceptions import BadRequestKeyError
from werkzeug.urls import uri_to_iri
from werkzeug.wsgi import FileWrapper

if t.TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

    from .typing import Scope

# WSGI knows a websocket's handshake as a request that asks for an upgrade.
_HTTP_SCHEMES = {"ws": "http", "wss": "https"}
BODILESS_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})  # a body has to be announced by its headers
_UNSAFE = re.compile("[\r\n\0]")
FILE_CHUNK = 256 * 1024
# Where Werkzeug's debugger and the test client leave a function that takes the contexts of a request.
PRESERVE = "werkzeug.debug.preserve_context"
# In the scope of a test client's request, which shares the application context of the test as it does over WSGI.
IN_PROCESS = "asyncflask.in_process"
READER = "asyncflask.reader"  # the ASGI body's, for the request that WSGI middleware passes on


class ScopeHeaders(ImmutableHeadersMixin, Headers):  # type: ignore[misc]  # as Werkzeug's EnvironHeaders
    """An ASGI scope's headers as a WSGI server would give them: equal names joined, in linear time.

    Most requests look at one or two: these are found without decoding the others.
    """

    def __init__(self, raw: Sequence[tuple[bytes, bytes]]) -> None:
        self._raw = raw
        self._single = dict(raw)
        self._is_single = len(self._single) == len(raw)

    @cached_property
    def _values(self) -> dict[str, str]:
        return merge_headers(self._raw)

    if not t.TYPE_CHECKING:  # declared by Werkzeug

        @cached_property
        def _list(self) -> list[tuple[str, str]]:
            return [(name.title(), value) for name, value in self._values.items()]

    def _find(self, key: str) -> str | None:
        name = key.lower()
        if self._is_single and "_" not in name and name.isascii():
            value = self._single.get(name.encode())
            return None if value is None else value.decode("latin-1")
        return self._values.get(name)

    def _get_key(self, key: str) -> str:
        value = self._find(key)
        if value is None:
            raise BadRequestKeyError(key)
        return value

    def get(  # type: ignore[override]  # Werkzeug's overloads come to this
        self, key: str, default: t.Any = None, type: Callable[[str], t.Any] | None = None
    ) -> t.Any:
        if type is not None:
            return super().get(key, default, type)
        value = self._find(key)
        return default if value is None else value

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._find(key) is not None


def merge_headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Lower-case names to values. RFC 9110 5.3: equal names joined by ","; RFC 9113 8.2.3: cookies by "; ".

    Names with "_" are left out, as WSGI servers do: in an environ they would pose as others.
    """
    merged: dict[str, str] = {}
    repeated: dict[str, list[str]] = {}
    for raw_name, raw_value in raw:
        name = raw_name.decode("latin-1").lower()
        if "_" in name:
            continue
        value = raw_value.decode("latin-1")
        if name in merged:
            repeated.setdefault(name, [merged[name]]).append(value)
        else:
            merged[name] = value
    for name, values in repeated.items():
        merged[name] = ("; " if name == "cookie" else ",").join(values)
    return merged


def check_headers(headers: Iterable[tuple[str, str]]) -> None:
    """Raise ValueError for CR, LF or NUL, by which a value could begin a header of its own.

    Werkzeug looks for the first two, in values alone.
    """
    if "".join(map("".join, headers)).isprintable():
        return  # nearly always
    for name, value in headers:
        if _UNSAFE.search(name) or _UNSAFE.search(value):
            raise ValueError(f"The header {name!r} must not contain CR, LF or NUL: {value!r}")


def path_info(scope: Scope) -> str:
    """The path below the mount point. `root_path` counts only where a path segment ends."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    if not root:
        return path
    root = root.rstrip("/")
    if root and path.startswith(root) and path[len(root) : len(root) + 1] in ("", "/"):
        return path[len(root) :]
    return path


class BigFileWrapper(FileWrapper):
    """`wsgi.file_wrapper` over ASGI: each piece is read off the loop, so pieces are large."""

    def __init__(self, file: t.IO[bytes], buffer_size: int = FILE_CHUNK) -> None:
        super().__init__(file, max(buffer_size, FILE_CHUNK))


def build_environ(scope: Scope, stream: t.IO[bytes]) -> WSGIEnvironment:
    """A WSGI environ (PEP 3333) of an ASGI scope."""
    scheme = scope.get("scheme", "http")
    server = scope.get("server") or ("localhost", None)
    client = scope.get("client") or ("", 0)
    environ: WSGIEnvironment = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": scope.get("root_path", "").encode().decode("latin-1").rstrip("/"),
        "PATH_INFO": path_info(scope).encode().decode("latin-1"),
        "QUERY_STRING": scope.get("query_string", b"").decode("latin-1"),
        "REQUEST_URI": _request_uri(scope),
        "SERVER_NAME": server[0],
        "SERVER_PORT": "" if server[1] is None else str(server[1]),
        "SERVER_PROTOCOL": f"HTTP/{scope.get('http_version', '1.1')}",
        "REMOTE_ADDR": client[0],
        "REMOTE_PORT": str(client[1]),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": _HTTP_SCHEMES.get(scheme, scheme),
        "wsgi.input": stream,
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "wsgi.file_wrapper": BigFileWrapper,
        "asgi.scope": scope,
    }
    for name, value in merge_headers(scope["headers"]).items():
        if name in ("content-type", "content-length"):
            environ[name.upper().replace("-", "_")] = value
        else:
            environ[f"HTTP_{name.upper().replace('-', '_')}"] = value
    return environ


def build_scope(environ: WSGIEnvironment) -> Scope:
    """An ASGI http scope of a WSGI environ; what only an environ can say, such as REMOTE_USER, is left behind."""
    root = decode(environ.get("SCRIPT_NAME") or "")
    headers = [
        (name.removeprefix("HTTP_").replace("_", "-").lower().encode("latin-1"), value.encode("latin-1"))
        for name, value in environ.items()
        if name.startswith("HTTP_") or (name in ("CONTENT_TYPE", "CONTENT_LENGTH") and value)
    ]
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": environ.get("SERVER_PROTOCOL", "HTTP/1.1").removeprefix("HTTP/"),
        "method": environ["REQUEST_METHOD"].upper(),
        "scheme": environ.get("wsgi.url_scheme", "http"),
        "path": root + decode(environ.get("PATH_INFO") or ""),
        "raw_path": environ.get("REQUEST_URI", "").partition("?")[0].encode("latin-1"),
        "query_string": environ.get("QUERY_STRING", "").encode("latin-1"),
        "root_path": root,
        "headers": headers,
        "client": (environ.get("REMOTE_ADDR", ""), int(environ.get("REMOTE_PORT", 0))),
        "server": server_of(environ),
    }


def check_host(host: str) -> str:
    """`host`, or "" where no URL can be made of it: "xn--" and "[:5:1]" would raise in `request.url`."""
    if "[" in host or "xn--" in host.lower():
        try:
            uri_to_iri(f"http://{host}/")
        except ValueError:
            return ""
    return host


def _request_uri(scope: Scope) -> str:
    path = scope.get("raw_path") or scope["path"].encode()
    query = scope.get("query_string", b"")
    return t.cast(bytes, path + b"?" + query if query else path).decode("latin-1")


def decode(text: str) -> str:
    """WSGI's bytes-as-latin-1 to UTF-8 (PEP 3333, "Unicode Issues")."""
    return text.encode("latin-1").decode(errors="replace")


def server_of(environ: WSGIEnvironment) -> tuple[str, int | None] | None:
    name = environ.get("SERVER_NAME")
    if name is None:
        return None
    try:
        return name, int(environ["SERVER_PORT"])
    except (KeyError, ValueError):
        return name, None
